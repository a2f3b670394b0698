"""What do fifty gates at once hear, and how long does it take; and how large is the list of a hundred thousand tickets?

Times are printed (`pytest -s`) and not asserted, because machines are noisy; what is asserted is that nobody came in twice.
"""

import asyncio
import time
from collections import Counter
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.door_list import read_door_list
from contracts.ids import TicketId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from db.sessions import create_session
from ingress.door_lists import DoorLists
from tests.builders import OnSale
from tests.conftest import AnEvent
from tests.doors import DoorOf
from tests.ingress_process import an_ingress

GATES = 50
EACH = 20


async def sell_out(sale: OnSale) -> list[TicketId]:
    """A ticket for every seat, all in one order; no rule is asked, only the door looks at them."""
    order_id = uuid4()
    async with sale.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '60s'")
        await connection.execute(
            "INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, created_at, completed_at)"
            " VALUES ($1, $2, $2, $2, 'completed', 0, 'EUR', now(), now())",
            *(sale.event_id, order_id),
        )
        await connection.execute(
            "INSERT INTO order_items (event_id, order_id, seat_id, price) SELECT event_id, $2, id, 45 FROM seats"
            " WHERE event_id = $1",
            *(sale.event_id, order_id),
            timeout=60,
        )
        made = await connection.fetch(
            "INSERT INTO tickets (event_id, id, order_id, seat_id, user_id, bought_by, created_at)"
            " SELECT event_id, gen_random_uuid(), $2, id, $2, $2, now() FROM seats WHERE event_id = $1 RETURNING id",
            *(sale.event_id, order_id),
            timeout=60,
        )
        await connection.execute("ANALYZE tickets, order_items")
    return [TicketId(record["id"]) for record in made]


async def test_fifty_gates_at_once(an_event: AnEvent, settings: Settings, redis: Redis) -> None:
    sale = await an_event(seats=GATES * EACH // 2)
    door = await DoorOf.open(sale)
    # Every ticket at two gates, far apart.
    codes = [door.code(ticket) for ticket in await sell_out(sale)] * 2
    cookie = await create_session(redis, user_id=door.scanner, role="scanner", seconds=60)
    headers = {"cookie": f"session={cookie}"}
    milliseconds: list[float] = []
    said: Counter[str] = Counter()

    async with (
        an_ingress(settings, rate_limit_multiplier=1000.0) as url,
        aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(limit=GATES)) as http,
    ):

        async def gate(number: int) -> None:
            for code in codes[number * EACH : (number + 1) * EACH]:
                body = {"eventId": str(sale.event_id), "code": code, "nonce": str(uuid4()), "gate": f"Gate {number}"}
                begun_at = time.perf_counter()
                async with http.post("/api/checkin", json=body) as response:
                    answer: dict[str, Any] = await response.json()
                milliseconds.append((time.perf_counter() - begun_at) * 1000)
                said[answer["result"]] += 1

        await gate(0)  # warm
        codes[:EACH] = [door.code(TicketId(uuid4()))] * EACH
        milliseconds.clear()
        begun_at = time.perf_counter()
        await asyncio.gather(*(gate(number) for number in range(GATES)))
        seconds = time.perf_counter() - begun_at

    ordered = sorted(milliseconds)
    print(
        f"\n{GATES} gates without a pause: {len(ordered) / seconds:.0f} scans/s,"
        f" p50 {ordered[len(ordered) // 2]:.0f} ms, p95 {ordered[len(ordered) * 95 // 100]:.0f} ms"
    )
    used = await sale.pool.fetchval("SELECT count(checked_in_at) FROM tickets WHERE event_id = $1", sale.event_id)
    assert used == len(codes) // 2
    assert said == {"valid": used, "already_used": used, "forged": EACH}, "each ticket once"


@pytest.mark.slow
async def test_the_list_of_a_hundred_thousand_tickets(an_event: AnEvent) -> None:
    sale = await an_event(
        seats=100_000,
        seats_per_row=500,
    )
    tickets = await sell_out(sale)
    lists = DoorLists(sale.pool, SigningKeys.of(sale.settings))
    longest, stop = 0.0, asyncio.Event()

    async def others() -> None:
        """How long does somebody else have to wait for a turn meanwhile?"""
        nonlocal longest
        while not stop.is_set():
            begun_at = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - begun_at)

    watching = asyncio.create_task(others())
    begun_at = time.perf_counter()
    version = await lists.find_version(sale.event_id)
    looked_at = time.perf_counter()
    assert version is not None
    found = await lists.find(sale.event_id, version)
    made_at = time.perf_counter()
    assert found is not None
    assert await lists.find(sale.event_id, version) == found
    again_at = time.perf_counter()
    stop.set()
    await watching
    read = read_door_list(found[1], SigningKeys.of(sale.settings).public_keys)
    read_at = time.perf_counter()
    assert read.tickets.keys() == set(tickets)
    print(
        f"\n{len(tickets)} tickets: version {(looked_at - begun_at) * 1000:.0f} ms, made in {made_at - looked_at:.1f} s,"
        f" {len(found[1]) / 2**20:.1f} MiB, again {(again_at - made_at) * 1000:.1f} ms; others waited at most"
        f" {longest * 1000:.0f} ms; read and verified in {read_at - again_at:.1f} s"
    )
