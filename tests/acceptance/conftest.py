"""The whole system, as its users meet it: ingress, consumers and servers, on a stack that acceptance tests share."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from contracts.settings import Settings
from db.postgres import open_pool
from ops.stack import APPLICATIONS, SERVERS, Stack
from tests.builders import OnSale, an_event_on_sale, fresh_database, settings_of
from tests.conftest import StackInUse
from tests.eventually import eventually

# One address asks for many buyers here, and passwords are not what these tests are about.
OVERRIDES = {"BOXOFFICE_RATE_LIMIT_MULTIPLIER": "1000", "BOXOFFICE_BCRYPT_COST": "4"}


@pytest.fixture(scope="session")
def running_system(stack: Stack) -> Iterator[Stack]:
    """Everything, started."""
    import asyncio

    system = Stack(stack.name.replace("test", "acceptance"), stack.ports["api"] + 100)
    # Tests that run in several processes share it: the first starts it, the last stops it.
    use = StackInUse(system)
    try:
        if use.is_first():
            system.down()
            system.empty("payments")  # the provider's books begin with ours, or its old payments would belong to nobody
            system.up(SERVERS)
            asyncio.run(fresh_database(system))
            for name in APPLICATIONS:
                system.start(name, environment={**OVERRIDES, **traced(system)})
        use.share()
        yield system
    finally:
        use.end()


def otlp_port_of(system: Stack) -> int:
    """Where the running system sends its traces; mostly nobody is there, and it does not mind."""
    return system.ports["api"] + 90


def traced(system: Stack) -> dict[str, str]:
    """Nothing is traced but what a client asks to be."""
    return {"BOXOFFICE_OTLP_URL": f"http://127.0.0.1:{otlp_port_of(system)}", "BOXOFFICE_TRACE_RATIO": "0"}


@pytest.fixture
def system_settings(running_system: Stack) -> Settings:
    """Settings of the running system."""
    return settings_of(running_system)


@pytest.fixture
async def system_pool(system_settings: Settings) -> AsyncIterator[Any]:
    """A pool on its database."""
    pool = await open_pool(system_settings, application_name="acceptance")
    yield pool
    pool.terminate()


@pytest.fixture
async def event(system_settings: Settings, system_pool: Any) -> AsyncIterator[OnSale]:
    """An event of 60 seats that is on sale, with its queue open."""
    on_sale = await an_event_on_sale(system_settings, system_pool)
    await eventually(lambda: _has_opened(system_pool, on_sale), within_seconds=15)
    yield on_sale
    await on_sale.close()


async def _has_opened(pool: Any, on_sale: OnSale) -> bool:
    return await pool.fetchval("SELECT status = 'on_sale' FROM events WHERE id = $1", on_sale.event_id)


@dataclass
class Answer:
    """What came back over HTTP."""

    status: int
    body: Any
    headers: Any


@dataclass
class Buyer:
    """Somebody with an account and a browser."""

    http: aiohttp.ClientSession
    email: str

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, path, json=body, headers=named) as response:
            raw = await response.read()
            is_json = response.content_type.endswith("json")
            return Answer(response.status, await response.json(content_type=None) if is_json else raw, response.headers)

    async def reserve(self, event: OnSale, *seats: int, **headers: str) -> Answer:
        """These seats of the event, by their place in the map."""
        body = {"eventId": str(event.event_id), "seatIds": [str(event.seats[seat]) for seat in seats]}
        return await self.send("POST", "/api/seats/reserve", body, **headers)

    async def check_out(self, event: OnSale, hold: Answer, card: str = "pm_card_visa", **headers: str) -> Answer:
        """Pay for a hold."""
        body = {"eventId": str(event.event_id), "holdId": hold.body["holdId"], "paymentMethod": card}
        return await self.send("POST", "/api/checkout", body, **headers)


@pytest.fixture
async def buyers(running_system: Stack) -> AsyncIterator[Any]:
    """A factory of registered buyers."""
    url = running_system.environment()["BOXOFFICE_PUBLIC_URL"]
    opened: list[aiohttp.ClientSession] = []

    async def a_buyer() -> Buyer:
        http = aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True))
        opened.append(http)
        email = f"{uuid4().hex}@example.org"
        async with http.post(
            "/api/auth/register", json={"email": email, "password": "correct horse battery", "name": "Ann"}
        ) as response:
            assert response.status == 201, await response.text()
        return Buyer(http, email)

    yield a_buyer
    for http in opened:
        await http.close()


@pytest.fixture
async def buyer(buyers: Any) -> Buyer:
    """Somebody with an account."""
    return await buyers()
