"""Which shows are there, and how does one come into being with all its seats?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from asyncpg import UniqueViolationError
from pydantic import AwareDatetime

from contracts.ids import EventId, SeatId, VenueId
from contracts.money import UnusableAmount, to_minor_units
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

_SQL = queries("events")

TICKET_LIMIT_DEFAULT = 6

EventStatus: TypeAlias = Literal["upcoming", "on_sale", "sold_out", "completed", "cancelled"]

# Its seats were made from the one and their prices are in the other.
NEVER_CHANGEABLE = frozenset({"venue_id", "currency"})


class Event(Value):
    """A show and the terms of its sale."""

    id: EventId
    venue_id: VenueId
    name: str
    artist: str
    category: str
    event_date: AwareDatetime
    on_sale_date: AwareDatetime
    off_sale_date: AwareDatetime
    status: EventStatus
    high_demand: bool
    currency: str
    ticket_limit: int
    capacity: int


@dataclass(frozen=True)
class EventTerms:
    """What an organiser says of an event."""

    venue_id: VenueId
    name: str
    artist: str
    category: str
    description: str
    event_date: datetime
    on_sale_date: datetime
    off_sale_date: datetime
    ticket_limit: int
    currency: str
    high_demand: bool


class EventRecorded(NamedTuple):
    """The event is there, with so many places."""

    capacity: int


# No such venue; its prices are no whole amounts of that currency; another request has been sent with this key.
EventNotRecorded: TypeAlias = Literal["venue_unknown", "prices_not_payable", "key_reused"]


class EventNotUpdated(NamedTuple):
    """Why nothing was changed, and which fields stand in the way."""

    reason: Literal["unknown", "changed_meanwhile", "not_changeable"]
    fields: tuple[str, ...] = ()


class Seat(Value):
    """A seat as it is on the map, whoever has it."""

    id: SeatId
    seat_index: int
    section: str
    row: str
    seat_number: str
    price: Amount


async def create_event(
    tx: Transaction,
    *,
    event_id: EventId,
    venue_id: VenueId,
    name: str,
    event_date: datetime,
    on_sale_date: datetime,
    off_sale_date: datetime | None = None,
    ticket_limit: int = TICKET_LIMIT_DEFAULT,
    currency: str = "EUR",
    artist: str = "",
    category: str = "",
    high_demand: bool = False,
    description: str = "",
    request_hash: str = "",
) -> EventId:
    """Write the event down with a seat for every place of its venue; without `off_sale_date` it sells until the show.

    The caller owes an `analyze_seats` once the transaction is committed. Raises asyncpg's ForeignKeyViolationError when
    there is no such venue, UniqueViolationError when the id is taken.
    """
    await tx.execute(
        _SQL.insert_event,
        *(event_id, venue_id, name, artist, category),
        *(event_date, on_sale_date, off_sale_date or event_date),
        *(ticket_limit, currency, high_demand, description, request_hash),
    )
    await tx.execute(_SQL.insert_event_inventory, event_id)
    await tx.execute(_SQL.insert_seats, event_id)
    # Last, because others who add the same words wait for our commit.
    await tx.execute(_SQL.insert_search_words, event_id)
    return event_id


async def record_event(
    pool: Pool, event_id: EventId, terms: EventTerms, *, request_hash: str = ""
) -> EventRecorded | EventNotRecorded:
    """Make the event with all its seats, or find that this request has made it before (the same id, the same hash)."""
    try:
        async with transaction(pool) as tx:
            prices = await tx.fetchval(_SQL.lock_prices, terms.venue_id)
            if prices is None:
                return "venue_unknown"
            if not _are_payable(prices, terms.currency):
                return "prices_not_payable"
            await create_event(tx, event_id=event_id, request_hash=request_hash, **vars(terms))
    except UniqueViolationError:
        return await _find_creation(pool, event_id, request_hash)
    async with pool.acquire(timeout=5.0) as connection:
        await analyze_seats(connection)
    return await _find_creation(pool, event_id, request_hash)


async def update_event(
    pool: Pool, event_id: EventId, terms: EventTerms, *, if_version: int | None = None
) -> EventNotUpdated | None:
    """Give the event these terms, if its version is still that one; None when that is done."""
    async with transaction(pool) as tx:
        known = await tx.fetchrow(_SQL.lock_event, event_id)
        if known is None:
            return EventNotUpdated("unknown")
        if if_version is not None and known["version"] != if_version:
            return EventNotUpdated("changed_meanwhile")
        changed = frozenset(name for name, value in vars(terms).items() if known[name] != value)
        fixed = changed & _fixed_fields(status=known["status"], has_begun=known["has_begun"])
        if fixed:
            return EventNotUpdated("not_changeable", tuple(sorted(fixed)))
        await tx.execute(
            _SQL.update_event,
            *(event_id, terms.name, terms.artist, terms.category, terms.description),
            *(terms.event_date, terms.on_sale_date, terms.off_sale_date, terms.ticket_limit, terms.high_demand),
        )
        await tx.execute(_SQL.insert_search_words, event_id)
    return None


def _are_payable(prices: Sequence[Decimal], currency: str) -> bool:
    # 12.50 yen cannot be paid, and whoever has chosen the seats must not be the first to hear of it.
    try:
        return bool([to_minor_units(price, currency) for price in prices])
    except UnusableAmount:
        return False


def _fixed_fields(*, status: EventStatus, has_begun: bool) -> frozenset[str]:
    """What can no longer be changed."""
    if status in ("completed", "cancelled"):
        return frozenset(EventTerms.__dataclass_fields__)
    return NEVER_CHANGEABLE | {"on_sale_date"} if has_begun else NEVER_CHANGEABLE


async def _find_creation(pool: Pool, event_id: EventId, request_hash: str) -> EventRecorded | EventNotRecorded:
    record = await pool.fetchrow(_SQL.find_creation, event_id)
    return EventRecorded(record["capacity"]) if record["request_hash"] == request_hash else "key_reused"


async def analyze_seats(connection: Transaction) -> None:
    """Let the planner know how big the sale's tables are; outside the transaction that filled them."""
    await connection.execute(_SQL.analyze_seats)


async def find_event(connection: Transaction, event_id: EventId) -> Event | None:
    """The event, or None."""
    record = await connection.fetchrow(_SQL.find_event, event_id)
    return None if record is None else Event.model_validate(dict(record))


async def list_events(connection: Transaction) -> list[Event]:
    """All events, the next one first."""
    return [Event.model_validate(dict(record)) for record in await connection.fetch(_SQL.list_events)]


async def list_seats(connection: Transaction, event_id: EventId) -> list[Seat]:
    """Every seat of the event, in the order of the map."""
    return [Seat.model_validate(dict(record)) for record in await connection.fetch(_SQL.list_seats, event_id)]
