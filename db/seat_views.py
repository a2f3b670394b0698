"""What must be known of an event to show its seats, and to follow what becomes of them?"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from contracts.house import SeatKind, SectionConfig
from contracts.ids import EventId, SeatId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("seat_views")

SaleStatus = Literal["upcoming", "on_sale", "sold_out", "completed", "cancelled"]


@dataclass(frozen=True, slots=True)
class SaleState:
    """How a sale stood at `now`, by the database's clock; `event_version` goes up when an organiser changes the event. One in
    high demand is sold through its waiting room."""

    event_id: EventId
    status: SaleStatus
    on_sale_at: datetime
    off_sale_at: datetime
    event_version: int
    ledger_seq: int
    high_demand: bool
    now: datetime

    def is_open(self, now: datetime) -> bool:
        """Whether seats can be had. The dates decide; a status may be a second late."""
        return self.status != "cancelled" and self.on_sale_at <= now < self.off_sale_at


@dataclass(frozen=True, slots=True)
class SeatRecord:
    """A seat as it stood."""

    id: SeatId
    section: str
    row: str
    number: str
    kind: SeatKind
    price: Decimal
    status: str
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class EventSeats:
    """An event and all its seats in the order of the map, as of one moment."""

    sale: SaleState
    currency: str
    house: SectionConfig | None
    seats: Sequence[SeatRecord]


async def read_sales(pool: Pool, event_ids: Collection[EventId]) -> list[SaleState]:
    """How these sales stand; the missing are simply not there."""
    return [_sale(record) for record in await pool.fetch(_sql.read_sales, list(event_ids))]


async def read_event_seats(pool: Pool, event_id: EventId) -> EventSeats | None:
    """Everything about one event's seats, at the ledger number it is true for; None when there is no such event."""
    async with (
        pool.acquire(timeout=5.0) as connection,
        # One snapshot: the ledger number and the seats belong together.
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        sale = await connection.fetchrow(_sql.read_sales, [event_id])
        if sale is None:
            return None
        house = await connection.fetchrow(_sql.read_house, event_id)
        seats = await connection.fetch(_sql.read_seats, event_id)
    return EventSeats(
        sale=_sale(sale),
        currency=house["currency"],
        house=_drawn(house["section_config"]),
        seats=[_seat(record) for record in seats],
    )


def _sale(record: dict[str, object]) -> SaleState:
    id_, status, on_sale_at, off_sale_at, version, ledger_seq, high_demand, now = record.values()
    return SaleState(id_, status, on_sale_at, off_sale_at, version, ledger_seq, high_demand, now)  # type: ignore[arg-type]


def _seat(record: dict[str, object]) -> SeatRecord:
    id_, _, section, row, number, kind, price, status, held_until = record.values()
    return SeatRecord(id_, section, row, number, kind, price, status, held_until)  # type: ignore[arg-type]


def _drawn(section_config: str | None) -> SectionConfig | None:
    """The drawing; None of an event that was written without one, whose seats are shown all the same."""
    if section_config is None:
        return None
    return SectionConfig.model_validate_json(section_config)
