"""Who is turned away by the ingress itself, before the sale's queue hears of them?

Nobody drains any queue here: whoever gets past the look at the pass is told to ask again later.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.settings import Settings
from contracts.waiting_room import Phase
from db.sessions import create_session
from db.waiting_room import RoomSettings, WaitingRooms
from tests.builders import OnSale, a_user
from tests.conftest import AnEvent
from tests.eventually import eventually

PASSED_ON = (202, None)


@dataclass
class Visitor:
    """Somebody with a session, who asks for an event's first two seats."""

    http: aiohttp.ClientSession
    sale: OnSale

    async def reserve(self, **headers: str) -> tuple[int, str | None]:
        """Status and code; whatever is passed on is not waited for."""
        body = {"eventId": str(self.sale.event_id), "seatIds": list(map(str, self.sale.seats[:2]))}
        named = {"prefer": "respond-async"} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post("/api/seats/reserve", json=body, headers=named) as response:
            self.retry_after = response.headers.get("retry-after")
            return response.status, (await response.json(content_type=None)).get("code")

    async def queue(self, what: str) -> Any:
        """Something that one does in the waiting room."""
        async with self.http.post(f"/api/queue/{self.sale.event_id}/{what}", json={}) as response:
            return await response.json(content_type=None)


AVisitor = Callable[[OnSale], Awaitable[Visitor]]


@pytest.fixture
async def a_visitor(ingress_url: str, redis: Redis) -> AsyncIterator[AVisitor]:
    """A factory of visitors; the ingress follows the seats they look at."""
    opened: list[aiohttp.ClientSession] = []

    async def make(sale: OnSale) -> Visitor:
        session = await create_session(redis, user_id=a_user(), role="user", seconds=600)
        http = aiohttp.ClientSession(
            ingress_url, cookies={"session": session}, cookie_jar=aiohttp.CookieJar(unsafe=True)
        )
        opened.append(http)
        async with http.get(f"/api/events/{sale.event_id}/seats") as response:
            assert response.status == 200, await response.text()
        return Visitor(http, sale)

    yield make
    for http in opened:
        await http.close()


@pytest.fixture
async def rooms(settings: Settings) -> AsyncIterator[WaitingRooms]:
    """The waiting rooms."""
    opened = WaitingRooms(settings)
    yield opened
    await opened.close()


async def open_room(rooms: WaitingRooms, sale: OnSale) -> None:
    """A room for ten people at a time."""
    await rooms.configure(sale.event_id, RoomSettings(capacity=10, rate_per_second=1000))
    assert await rooms.set_phase(sale.event_id, Phase.OPEN, "the test says so") == "changed"


async def is_answered(visitor: Visitor, answer: tuple[int, str | None]) -> None:
    """Sooner or later: the seats may have been read before the broker was there to tell of changes."""

    async def answered() -> bool:
        return await visitor.reserve() == answer

    await eventually(answered, within_seconds=15)


async def test_a_crowd_without_a_pass_costs_the_sale_nothing(
    a_visitor: AVisitor, an_event: AnEvent, rooms: WaitingRooms
) -> None:
    sale = await an_event(high_demand=True)
    await open_room(rooms, sale)
    visitor = await a_visitor(sale)
    await is_answered(visitor, (403, "not_admitted"))
    assert await visitor.reserve(idempotency_key="a retry of nothing") == (403, "not_admitted")
    assert await visitor.reserve(waiting_room_pass="forged.0000") == (403, "not_admitted")


async def test_whoever_has_claimed_their_turn_is_passed_on(
    a_visitor: AVisitor, an_event: AnEvent, rooms: WaitingRooms
) -> None:
    sale = await an_event(high_demand=True)
    await open_room(rooms, sale)
    visitor, other = await a_visitor(sale), await a_visitor(sale)
    await visitor.queue("join")
    fence = await rooms.elect(sale.event_id, "the test")
    assert fence is not None
    await rooms.tick(sale.event_id, fence)
    given = await visitor.queue("claim")
    await is_answered(other, (403, "not_admitted"))
    assert await visitor.reserve() == PASSED_ON
    assert await other.reserve(waiting_room_pass=given["passToken"]) == (403, "not_admitted"), "it is not theirs"


async def test_without_its_room_nobody_is_passed_on_by_guess(a_visitor: AVisitor, an_event: AnEvent) -> None:
    visitor = await a_visitor(await an_event(high_demand=True))
    await is_answered(visitor, (503, "admission_unknown"))
    assert visitor.retry_after == "2"


async def test_an_event_without_a_room_asks_for_no_pass(a_visitor: AVisitor, an_event: AnEvent) -> None:
    visitor = await a_visitor(await an_event())
    assert await visitor.reserve() == PASSED_ON


async def test_before_the_sale_everybody_hears_from_the_sale_itself(a_visitor: AVisitor, an_event: AnEvent) -> None:
    visitor = await a_visitor(await an_event(high_demand=True, opens_in=timedelta(hours=1)))
    assert await visitor.reserve() == PASSED_ON
