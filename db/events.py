"""Which shows are there, and how does one come into being with all its seats?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from asyncpg import UniqueViolationError
from pydantic import AwareDatetime

from contracts.ids import EventId, SeatId, UserId, VenueId
from contracts.money import UnusableAmount, to_minor_units
from contracts.value import Amount, Value
from db.audit_log import changes, record_deed
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

_SQL = queries("events")

TICKET_LIMIT_DEFAULT = 6

EventStatus: TypeAlias = Literal["upcoming", "on_sale", "sold_out", "completed", "cancelled"]

# Its seats were made from the one and their prices are in the other.
NEVER_CHANGEABLE = frozenset({"venue_id", "currency"})
# What is sold is in the books with its fee and its tax; and a presale that has begun has begun.
FIXED_ONCE_SOLD = frozenset({"presale_date", "fee_rate", "tax_rate"})

_NOTHING = Decimal(0)


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
    # From then on, and before on_sale_date, whoever has a code may have seats; None: there is no presale.
    presale_date: datetime | None = None
    # Shares of a price: the tax that is in it, and the fee that is in what remains.
    fee_rate: Decimal = _NOTHING
    tax_rate: Decimal = _NOTHING
    # Until when buyers may give tickets back by themselves (None: never), and which share of the price is then kept.
    refund_until: datetime | None = None
    refund_fee_rate: Decimal = _NOTHING
    # Whether tickets may pass from one account to another, be offered to others, and have a code that changes.
    transfers: bool = True
    resales: bool = True
    rotating_codes: bool = False


class EventRecorded(NamedTuple):
    """The event is there, with so many places."""

    capacity: int


# No such venue; its prices are no whole amounts of that currency; another request has been sent with this key.
EventNotRecorded: TypeAlias = Literal["venue_unknown", "prices_not_payable", "key_reused"]


class EventNotUpdated(NamedTuple):
    """Why nothing was changed, and which fields stand in the way: those that can no longer be changed at all, and those
    that can no longer be changed to the worse for whoever has bought."""

    reason: Literal["unknown", "changed_meanwhile", "not_changeable"]
    fields: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()


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
    presale_date: datetime | None = None,
    fee_rate: Decimal = _NOTHING,
    tax_rate: Decimal = _NOTHING,
    refund_until: datetime | None = None,
    refund_fee_rate: Decimal = _NOTHING,
    transfers: bool = True,
    resales: bool = True,
    rotating_codes: bool = False,
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
        *(presale_date, fee_rate, tax_rate, refund_until, refund_fee_rate, transfers, resales, rotating_codes),
    )
    await tx.execute(_SQL.insert_event_inventory, event_id)
    await tx.execute(_SQL.insert_seats, event_id)
    await tx.execute(_SQL.insert_price_tiers, event_id)
    # Last, because others who add the same words wait for our commit.
    await tx.execute(_SQL.insert_search_words, event_id)
    return event_id


async def record_event(
    pool: Pool, event_id: EventId, terms: EventTerms, *, by: UserId, request_hash: str = ""
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
            await _record_deed(tx, "create_event", event_id, by, before=None, after=vars(terms))
    except UniqueViolationError:
        return await _find_creation(pool, event_id, request_hash)
    async with pool.acquire(timeout=5.0) as connection:
        await analyze_seats(connection)
    return await _find_creation(pool, event_id, request_hash)


async def update_event(
    pool: Pool, event_id: EventId, terms: EventTerms, *, by: UserId, if_version: int | None = None
) -> EventNotUpdated | None:
    """Give the event these terms, if its version is still that one; None when that is done."""
    async with transaction(pool) as tx:
        known = await tx.fetchrow(_SQL.lock_event, event_id)
        if known is None:
            return EventNotUpdated("unknown")
        if if_version is not None and known["version"] != if_version:
            return EventNotUpdated("changed_meanwhile")
        changed = frozenset(name for name, value in vars(terms).items() if known[name] != value)
        fixed = changed & _fixed_fields(
            status=known["status"], has_begun=known["has_begun"], has_sold=known["has_sold"]
        )
        worse = _made_worse(known, terms) - fixed if known["has_sold"] else frozenset()
        if fixed or worse:
            return EventNotUpdated("not_changeable", tuple(sorted(fixed)), tuple(sorted(worse)))
        await tx.execute(
            _SQL.update_event,
            *(event_id, terms.name, terms.artist, terms.category, terms.description),
            *(terms.event_date, terms.on_sale_date, terms.off_sale_date, terms.ticket_limit, terms.high_demand),
            *(terms.presale_date, terms.fee_rate, terms.tax_rate, terms.refund_until, terms.refund_fee_rate),
            *(terms.transfers, terms.resales, terms.rotating_codes),
        )
        await tx.execute(_SQL.insert_search_words, event_id)
        before, after = changes(known, vars(terms))
        await _record_deed(tx, "update_event", event_id, by, before=before, after=after)
    return None


async def _record_deed(
    tx: Transaction,
    action: str,
    event_id: EventId,
    by: UserId,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    subject = f"event {event_id}"
    await record_deed(tx, user_id=by, action=action, event_id=event_id, subject=subject, before=before, after=after)


def _are_payable(prices: Sequence[Decimal], currency: str) -> bool:
    # 12.50 yen cannot be paid, and whoever has chosen the seats must not be the first to hear of it.
    try:
        return bool([to_minor_units(price, currency) for price in prices])
    except UnusableAmount:
        return False


def _fixed_fields(*, status: EventStatus, has_begun: bool, has_sold: bool) -> frozenset[str]:
    """What can no longer be changed, once the sale to everybody, or to whoever has a code, has begun."""
    if status in ("completed", "cancelled"):
        return frozenset(EventTerms.__dataclass_fields__)
    fixed = NEVER_CHANGEABLE
    if has_begun:
        fixed |= {"on_sale_date"}
    return fixed | FIXED_ONCE_SOLD if has_sold else fixed


def _made_worse(known: Mapping[str, Any], terms: EventTerms) -> frozenset[str]:
    """Of what buyers may rely on, what would be worse for them than it was when they bought."""
    worse = set()
    if known["refund_until"] is not None and (terms.refund_until is None or terms.refund_until < known["refund_until"]):
        worse.add("refund_until")
    if terms.refund_fee_rate > known["refund_fee_rate"]:
        worse.add("refund_fee_rate")
    return frozenset(worse)


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
