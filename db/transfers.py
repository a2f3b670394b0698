"""Which tickets are on offer to others, and to whom?

Only read here. Offering, accepting and ending is the engine's work, on the event's queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from pydantic import AwareDatetime

from contracts.ids import EventId, ResaleId, TicketId, TransferId, UserId
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("transfers")


class OwnTicket(NamedTuple):
    """Where a ticket belongs, and in which currency it was paid."""

    event_id: EventId
    currency: str


class TransferSummary(Value):
    """A ticket that was offered to an e-mail address, and what came of it."""

    id: TransferId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    ticket_id: TicketId
    section: str
    row: str
    seat_number: str
    to_email: str
    status: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    ended_at: AwareDatetime | None


class ResaleSummary(Value):
    """A seat that its owner offers to everybody, and what came of it."""

    id: ResaleId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    ticket_id: TicketId
    section: str
    row: str
    seat_number: str
    price: Amount
    currency: str
    status: str
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


@dataclass(frozen=True, kw_only=True)
class TransfersOver:
    """Offers of one event whose time has passed, the oldest first."""

    event_id: EventId
    transfer_ids: tuple[TransferId, ...]


@dataclass(frozen=True, kw_only=True)
class ResalesUnsold:
    """Seats of one event, on sale once more, that nobody can buy."""

    event_id: EventId
    resale_ids: tuple[ResaleId, ...]


async def find_own_ticket(pool: Pool, user_id: UserId, ticket_id: TicketId) -> OwnTicket | None:
    """Where this ticket belongs, if it is this user's, or he has offered it to others before."""
    record = await pool.fetchrow(_sql.find_ticket_of, ticket_id, user_id)
    return None if record is None else OwnTicket(**record)


async def find_transfer_from(pool: Pool, user_id: UserId, transfer_id: TransferId) -> EventId | None:
    """The event of this transfer, if this user has offered it."""
    return _event_id(await pool.fetchval(_sql.find_transfer_from, transfer_id, user_id))


async def find_transfer_to(pool: Pool, user_id: UserId, transfer_id: TransferId) -> EventId | None:
    """The event of this transfer, if it was offered to the address of this user's account."""
    return _event_id(await pool.fetchval(_sql.find_transfer_to, transfer_id, user_id))


async def find_resale_of(pool: Pool, user_id: UserId, resale_id: ResaleId) -> EventId | None:
    """The event of this resale, if it is this user's."""
    return _event_id(await pool.fetchval(_sql.find_resale_of, resale_id, user_id))


async def list_transfers_from(pool: Pool, user_id: UserId, *, limit: int) -> list[TransferSummary]:
    """What this user has offered, newest first."""
    return [TransferSummary(**record) for record in await pool.fetch(_sql.list_transfers_from, user_id, limit)]


async def list_transfers_to(pool: Pool, user_id: UserId, *, limit: int) -> list[TransferSummary]:
    """What was offered to the address of this user's account, newest first. Whether he can read its mail nobody knows."""
    return [TransferSummary(**record) for record in await pool.fetch(_sql.list_transfers_to, user_id, limit)]


async def list_resales_of(pool: Pool, user_id: UserId, *, limit: int) -> list[ResaleSummary]:
    """What this user has offered to everybody, newest first."""
    return [ResaleSummary(**record) for record in await pool.fetch(_sql.list_resales_of, user_id, limit)]


async def find_transfers_over(pool: Pool, *, limit: int) -> Sequence[TransfersOver]:
    """Open offers whose time has passed, at most `limit`, by event."""
    records = await pool.fetch(_sql.find_transfers_over, limit)
    return [
        TransfersOver(event_id=record["event_id"], transfer_ids=tuple(record["transfer_ids"])) for record in records
    ]


async def find_resales_unsold(pool: Pool, *, limit: int) -> Sequence[ResalesUnsold]:
    """Open resales that have come to nothing, at most `limit`, by event."""
    records = await pool.fetch(_sql.find_resales_unsold, limit)
    return [ResalesUnsold(event_id=record["event_id"], resale_ids=tuple(record["resale_ids"])) for record in records]


def _event_id(found: UUID | None) -> EventId | None:
    return None if found is None else EventId(found)
