"""Which house is it that everybody wants to get into?"""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contracts.house import Section, SectionConfig
from contracts.ids import EventId, VenueId
from db.demo import find_event_status
from db.events import analyze_seats, create_event
from db.postgres import Pool, transaction
from db.venues import create_venue
from ops.rush.plan import SEATS_WANTED_MAX

SEATS_PER_ROW = 50
ROWS_PER_SECTION = 40
PRICES = ("95.00", "75.00", "55.00", "45.50", "35.00")

ON_SALE_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1


class NotOnSale(Exception):
    """The sale did not open: is lifecycle running?"""


class HasWaitingRoom(Exception):
    """Whoever rushes to this event is stopped at its waiting room; choose an event that is not in high demand."""


async def open_house(pool: Pool, seat_count: int) -> EventId:
    """A fresh event of exactly that many seats, whose sale opens now."""
    now = datetime.now(UTC)
    async with transaction(pool) as tx:
        venue_id = await create_venue(
            tx, venue_id=VenueId(uuid4()), name="Rush Hall", city="Rehearsal", section_config=house_of(seat_count)
        )
        event_id = await create_event(
            tx,
            event_id=EventId(uuid4()),
            venue_id=venue_id,
            name=f"Rush of {now:%Y-%m-%d %H:%M:%S}",
            event_date=now + timedelta(days=30),
            on_sale_date=now,
            ticket_limit=SEATS_WANTED_MAX,
        )
    async with pool.acquire(timeout=5.0) as connection:
        await analyze_seats(connection)
    return event_id


def house_of(seat_count: int) -> SectionConfig:
    """Sections of at most forty rows of fifty, and one short row for what is left over."""
    row_count, rest = divmod(seat_count, SEATS_PER_ROW)
    rows = [min(ROWS_PER_SECTION, row_count - first) for first in range(0, row_count, ROWS_PER_SECTION)]
    sections = [_section(number, rows=count, seats=SEATS_PER_ROW) for number, count in enumerate(rows)]
    if rest:
        sections.append(_section(len(rows), rows=1, seats=rest))
    return SectionConfig(sections=tuple(sections))


async def wait_until_on_sale(pool: Pool, event_id: EventId) -> None:
    """Returns when lifecycle has opened the sale; raises NotOnSale."""
    try:
        async with asyncio.timeout(ON_SALE_SECONDS_MAX):
            while await find_event_status(pool, event_id) != "on_sale":  # noqa: ASYNC110 -- another process changes it
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise NotOnSale(f"event {event_id} is not on sale after {ON_SALE_SECONDS_MAX:.0f} s") from None


def _section(number: int, *, rows: int, seats: int) -> Section:
    return Section.model_validate(
        {"name": f"Block {number + 1}", "rows": rows, "seats_per_row": seats, "price": PRICES[number % len(PRICES)]}
    )
