"""Does the sale go on when the ingress loses Redis?"""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest

from contracts.settings import Settings
from tests.acceptance.conftest import Buyer
from tests.builders import OnSale
from tests.eventually import eventually
from tests.faults.tcp_proxy import TcpProxy
from tests.ingress_process import an_ingress

PASSWORD = "correct horse battery"


@pytest.fixture
async def redis_line(system_settings: Settings) -> AsyncIterator[TcpProxy]:
    """What stands between an ingress and the system's Redis."""
    server = urlsplit(system_settings.redis_url)
    async with TcpProxy(server.hostname or "127.0.0.1", server.port or 6379) as proxy:
        yield proxy


@pytest.fixture
async def shop(system_settings: Settings, redis_line: TcpProxy) -> AsyncIterator[str]:
    """An ingress of the running system that reaches Redis over that line only."""
    path = urlsplit(system_settings.redis_url).path
    redis_url = f"redis://127.0.0.1:{redis_line.port}{path}"
    async with an_ingress(system_settings, redis_url=redis_url, rate_limit_multiplier=1000.0) as url:
        yield url


async def a_buyer(http: aiohttp.ClientSession) -> Buyer:
    buyer = Buyer(http, f"{uuid4().hex}@example.org")
    account = {"email": buyer.email, "password": PASSWORD, "name": "Ann"}
    assert (await buyer.send("POST", "/api/auth/register", account)).status == 201
    return buyer


def a_browser(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True))


async def test_who_was_there_buys_and_who_comes_later_waits(shop: str, redis_line: TcpProxy, event: OnSale) -> None:
    async with a_browser(shop) as ones, a_browser(shop) as others:
        known, late = await a_buyer(ones), await a_buyer(others)
        assert (await known.send("GET", "/api/auth/me")).status == 200

        redis_line.refuse()
        redis_line.cut()
        hold = await known.reserve(event, 0, 1)
        assert hold.status == 201, hold.body
        bought = await known.check_out(event, hold)
        assert (bought.status, bought.body["type"]) == (201, "order_completed"), bought.body
        assert (await late.reserve(event, 2)).status == 503
        login = await late.send("POST", "/api/auth/login", {"email": late.email, "password": PASSWORD})
        assert (login.status, login.body["code"]) == (503, "unavailable")
        seats = await late.send("GET", f"/api/events/{event.event_id}/seats")
        assert seats.status == 200

        redis_line.forward()

        async def passes() -> bool:
            return (await late.send("GET", "/api/auth/me")).status == 200

        assert await eventually(passes)
        assert (await late.reserve(event, 2)).status == 201
    await event.ledger_agrees_with_seats()


async def test_what_anybody_sees_of_seats_names_nobody(buyer: Buyer, event: OnSale) -> None:
    hold = await buyer.reserve(event, 5)
    me = (await buyer.send("GET", "/api/auth/me")).body
    session = next(cookie.value for cookie in buyer.http.cookie_jar if cookie.key == "session")
    secrets = {hold.body["holdId"], me["id"], me["id"].replace("-", ""), session, session.partition(".")[2]}
    for path in ("seats", "map", "availability"):
        seen: Any = await buyer.send("GET", f"/api/events/{event.event_id}/{path}")
        assert seen.status == 200
        text = str(seen.body)
        assert not [secret for secret in secrets if secret in text], path
        assert not [name for name in ("hold_id", "holdId", "heldBy", "userId", "session", "fence") if name in text], (
            path
        )
