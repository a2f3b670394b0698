"""Is every sale counted, never twice, and never at the cost of the sale?"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from consumers.analytics import DROPPED, FLUSH_MAX, HANDLERS, SalesCounter
from consumers.runtime import Stage
from contracts import wire
from contracts.domain_events import SalesCounted
from contracts.ids import EventId
from contracts.settings import Settings
from db.postgres import Pool, open_pool
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually

MINUTE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)


def some_sales(event_id: EventId, *, minute_at: datetime = MINUTE) -> SalesCounted:
    return SalesCounted(
        event_id=event_id,
        minute_at=minute_at,
        seats_reserved=3,
        seats_sold=2,
        orders_completed=1,
        revenue=Decimal("90.50"),
        currency="EUR",
    )


async def counted(pool: Pool, event_id: EventId) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await pool.fetch(
        "SELECT * FROM sales_per_minute WHERE event_id = $1 ORDER BY minute_at", event_id
    )
    return found


@pytest.fixture
def event_id() -> EventId:
    return EventId(uuid4())


@pytest.fixture
def counter(settings: Settings, pool: Pool) -> SalesCounter:
    return SalesCounter(settings, pool)


async def test_sales_add_up_per_minute(pool: Pool, counter: SalesCounter, event_id: EventId) -> None:
    for _ in range(3):
        counter.count(some_sales(event_id))
    counter.count(some_sales(event_id, minute_at=MINUTE + timedelta(minutes=1)))
    assert await counter.run_once() == 4
    counter.count(some_sales(event_id))
    assert await counter.run_once() == 1
    first, second = await counted(pool, event_id)
    assert (first["seats_reserved"], first["seats_sold"], first["orders_completed"]) == (12, 8, 4)
    assert first["revenue"] == Decimal("362.00")
    assert second["seats_sold"] == 2


async def test_what_does_not_fit_is_dropped_and_noted(settings: Settings, pool: Pool, event_id: EventId) -> None:
    counter = SalesCounter(settings, pool, waiting_max=2)
    before = DROPPED.labels("queue full")._value.get()
    for _ in range(5):
        counter.count(some_sales(event_id))
    assert DROPPED.labels("queue full")._value.get() - before == 3
    assert await counter.run_once() == 2


async def test_what_may_have_been_counted_is_not_counted_again(settings: Settings, event_id: EventId) -> None:
    gone = await open_pool(settings, application_name="test", size=1)
    counter = SalesCounter(settings, gone)
    counter.count(some_sales(event_id))
    await gone.close()
    assert await counter.run_once() == 1
    assert await counter.run_once() == 0


async def test_many_are_flushed_before_the_second_is_over_and_the_rest_at_the_end(
    pool: Pool, counter: SalesCounter, event_id: EventId
) -> None:
    done = asyncio.Event()
    flushing = asyncio.create_task(counter.flush_until(done))
    for _ in range(FLUSH_MAX + 5):
        counter.count(some_sales(event_id))
    await eventually(lambda: counted(pool, event_id), within_seconds=0.9)
    done.set()
    await flushing
    (minute,) = await counted(pool, event_id)
    assert minute["orders_completed"] == FLUSH_MAX + 5


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        yield probe


async def test_messages_from_the_queue_are_counted_once(
    settings: Settings, pool: Pool, broker: BrokerProbe, counter: SalesCounter, event_id: EventId
) -> None:
    queue = await broker.make_work_queue()
    for _ in range(20):
        await broker.put(queue, wire.encode_domain_event(some_sales(event_id)))
    stage = Stage(name="analytics", queue=queue, user="worker", prefetch=5, handlers=HANDLERS, delivery="at_most_once")
    work = asyncio.create_task(stage.run(counter))

    async def all_counted() -> bool:
        await counter.run_once()
        return any(minute["orders_completed"] == 20 for minute in await counted(pool, event_id))

    await eventually(all_counted)
    stage.stop()
    await work
    assert await broker.ready_count(queue) == 0
