"""How many seats were sold in which minute?

At most once: a message is acknowledged before it is counted, counts are gathered in bounded memory and added to the
database once a second. A crash loses a second of figures and never counts a sale twice; the books are the ledger, not this.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from prometheus_client import Counter

from consumers.runtime import Handler, Stage, run_stage
from contracts import topology
from contracts.domain_events import AnyDomainEvent, SalesCounted
from contracts.ids import EventId
from contracts.settings import Settings
from db.analytics import MinuteOfSales, add_sales
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
FLUSH_MAX = 200
WAITING_MAX = 10_000  # some minutes of a busy sale, and a few megabytes

DROPPED = Counter("boxoffice_analytics_dropped_total", "Messages that were not counted", ["because"])


class SalesCounter:
    """Counts that wait to be added to the database."""

    def __init__(self, settings: Settings, pool: Pool, *, waiting_max: int = WAITING_MAX) -> None:
        self.settings = settings
        self._pool = pool
        self._waiting: asyncio.Queue[SalesCounted] = asyncio.Queue(maxsize=waiting_max)
        self._enough = asyncio.Event()

    def count(self, sales: SalesCounted) -> None:
        """Remember it until the next flush, or drop it when too much waits."""
        try:
            self._waiting.put_nowait(sales)
        except asyncio.QueueFull:
            DROPPED.labels("queue full").inc()
            return
        if self._waiting.qsize() >= FLUSH_MAX:
            self._enough.set()

    async def run_once(self) -> int:
        """Add what waits (up to FLUSH_MAX messages) to the database; returns how many messages that were."""
        batch = [self._waiting.get_nowait() for _ in range(min(self._waiting.qsize(), FLUSH_MAX))]
        if not batch:
            return 0
        try:
            await add_sales(self._pool, _by_minute(batch))
        except TRANSIENT_ERRORS as problem:
            # Whether it was committed is not known: to try again might count it twice.
            DROPPED.labels("database").inc(len(batch))
            log.warning("sales_not_counted", extra={"message_count": len(batch), "reason": repr(problem)})
        return len(batch)

    async def flush_until(self, done: asyncio.Event) -> None:
        """Flush once a second, or sooner when enough waits, until `done`; then everything that is left."""
        while not done.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), FLUSH_SECONDS)
            self._enough.clear()
            while await self.run_once() == FLUSH_MAX:
                pass
        while await self.run_once():
            pass


def _by_minute(batch: Iterable[SalesCounted]) -> list[MinuteOfSales]:
    minutes: dict[tuple[EventId, datetime], MinuteOfSales] = {}
    for sales in batch:
        minute = minutes.setdefault(
            (sales.event_id, sales.minute_at),
            MinuteOfSales(event_id=sales.event_id, minute_at=sales.minute_at, currency=sales.currency),
        )
        minute.seats_reserved += sales.seats_reserved
        minute.seats_sold += sales.seats_sold
        minute.orders_completed += sales.orders_completed
        minute.revenue += sales.revenue
    return list(minutes.values())


async def _count(sales: SalesCounted, counter: SalesCounter) -> None:
    counter.count(sales)


HANDLERS: dict[type[AnyDomainEvent], Handler[SalesCounter]] = {SalesCounted: _count}


def stage(settings: Settings) -> Stage[SalesCounter]:
    """The analytics queue and what is done with its messages."""
    return Stage(
        name="analytics",
        queue=topology.ANALYTICS_QUEUE,
        user="worker",
        prefetch=settings.stage_prefetch,
        handlers=HANDLERS,
        delivery="at_most_once",
    )


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Count until told to stop, then write down what was counted."""
    pool = await open_pool(settings, application_name="boxoffice analytics", size=2)
    counter = SalesCounter(settings, pool)
    drained = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(counter.flush_until(drained))
            try:
                await run_stage(stage(settings), counter, stopping)
            finally:
                drained.set()
    finally:
        await pool.close()
