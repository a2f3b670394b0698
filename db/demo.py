"""Which made-up people and shows are there already, and how does a trial sale stand?

For demo data and rehearsals only: nothing here is used by a sale.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from contracts.ids import EventId, UserId, VenueId
from db.named_queries import queries
from db.postgres import Pool, Transaction
from db.sessions import Role

_SQL = queries("demo")


class Person(NamedTuple):
    """Somebody we made up."""

    id: UserId
    email: str
    name: str
    role: Role = "user"


class MadeUpVenue(NamedTuple):
    """A house we made up; `section_config` in JSON."""

    id: VenueId
    name: str
    address: str
    city: str
    country: str
    time_zone: str
    latitude: float
    longitude: float
    capacity: int
    section_config: str


class MadeUpEvent(NamedTuple):
    """A show we made up, whose seats nobody will ask for: it has none."""

    id: EventId
    venue_id: VenueId
    name: str
    artist: str
    category: str
    event_date: datetime
    on_sale_date: datetime
    status: str
    price_min: Decimal
    price_max: Decimal


class Known(NamedTuple):
    """Which of the ids asked about are taken."""

    users: frozenset[UUID]
    venues: frozenset[UUID]
    events: frozenset[UUID]


async def lock_seeding(tx: Transaction) -> None:
    """Wait until nobody else is seeding; released with the transaction."""
    await tx.execute(_SQL.lock_seeding)


async def find_known(
    tx: Transaction, *, user_ids: Collection[UUID], venue_ids: Collection[UUID], event_ids: Collection[UUID]
) -> Known:
    """What is there already."""
    return Known(
        users=frozenset(record["id"] for record in await tx.fetch(_SQL.known_users, list(user_ids))),
        venues=frozenset(record["id"] for record in await tx.fetch(_SQL.known_venues, list(venue_ids))),
        events=frozenset(record["id"] for record in await tx.fetch(_SQL.known_events, list(event_ids))),
    )


async def insert_people(tx: Transaction, people: Sequence[Person], *, password_hash: str) -> None:
    """Accounts that share one password; whoever is there already stays as they are."""
    if people:
        ids, emails, names, roles = (list(column) for column in zip(*people, strict=True))
        await tx.execute(_SQL.insert_people, ids, emails, names, roles, password_hash)


async def insert_catalogue(tx: Transaction, venues: Sequence[MadeUpVenue], events: Sequence[MadeUpEvent]) -> None:
    """Many venues and events at once, to be found but not to be bought; the caller owes a `vacuum_catalogue`."""
    await tx.execute(_SQL.insert_venues, *(list(column) for column in zip(*venues, strict=True)))
    await tx.execute(_SQL.insert_events, *(list(column) for column in zip(*events, strict=True)))
    await tx.execute(_SQL.insert_inventories, [event.id for event in events])
    await tx.execute(_SQL.insert_search_words)


async def vacuum_catalogue(connection: Transaction) -> None:
    """Bring the catalogue's indexes and what the planner knows up to date, as autovacuum would in time."""
    await connection.execute(_SQL.vacuum_catalogue)


async def list_sold_seats(pool: Pool, event_id: EventId) -> dict[UUID, UUID]:
    """Whose order each sold seat is in."""
    return {record["seat_id"]: record["order_id"] for record in await pool.fetch(_SQL.list_sold_seats, event_id)}


async def list_free_seats(pool: Pool, event_id: EventId) -> frozenset[UUID]:
    """The places that can be had, those to stand included."""
    return frozenset(record["id"] for record in await pool.fetch(_SQL.list_free_seats, event_id))


async def count_seats_by_status(pool: Pool, event_id: EventId) -> dict[str, int]:
    """How many seats are available, held, sold and withheld; a status that no seat has is missing."""
    return {record["status"]: record["seat_count"] for record in await pool.fetch(_SQL.count_seats_by_status, event_id)}


async def count_undecided(pool: Pool, event_id: EventId) -> int:
    """Orders whose money has not come to rest."""
    count: int = await pool.fetchval(_SQL.count_undecided, event_id)
    return count


async def read_ledger_times(pool: Pool, event_id: EventId) -> dict[int, datetime]:
    """When the transaction of each change of a seat began, by the change's sequence number."""
    return {record["seq"]: record["at"] for record in await pool.fetch(_SQL.read_ledger_times, event_id)}


async def find_event_status(pool: Pool, event_id: EventId) -> str | None:
    """What the catalogue says of the event, or None."""
    status: str | None = await pool.fetchval(_SQL.find_event_status, event_id)
    return status
