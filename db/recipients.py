"""Who gets a mail, and what does it have to say about the show?

Looked up when the mail is written, so that no queue holds an address or a name.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from contracts.domain_events import ConfirmedSeat, Notice
from contracts.ids import EventId, HoldId, OrderId, TicketId, UserId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("recipients")


@dataclass(frozen=True, kw_only=True)
class Show:
    """What a mail says of the show; `time_zone` is the house's IANA name."""

    event_id: EventId
    event_name: str
    artist: str
    event_date: datetime
    rotating_codes: bool
    venue_name: str
    venue_address: str
    venue_city: str
    venue_country: str
    time_zone: str


@dataclass(frozen=True, kw_only=True)
class Recipient(Show):
    """The buyer of one order and what he paid; fee and tax are in the total, the reduction was taken off before."""

    order_id: OrderId
    email: str
    buyer_name: str
    total_amount: Decimal
    currency: str
    fee: Decimal
    tax: Decimal
    reduction: Decimal


@dataclass(frozen=True, kw_only=True)
class NoticeRecipient(Show):
    """Whom a notice is for, and what is known of what it is about; what it is not about is None."""

    subject_id: UUID
    # None: whoever has that address.
    user_id: UserId | None
    email: str
    # Empty: somebody who need not have an account.
    recipient_name: str
    currency: str
    giver_name: str
    offered_to: str | None
    transfer_status: str | None
    fee_kept: Decimal | None
    refund_kind: str | None
    refund_at: datetime | None
    hold_id: HoldId | None
    seat_count: int | None
    waiting_status: str | None


async def find_recipients(pool: Pool, *, event_id: EventId, order_ids: Collection[OrderId]) -> dict[OrderId, Recipient]:
    """The recipients of these orders; an order that is unknown is not in it."""
    records = await pool.fetch(_sql.find_recipients, event_id, list(order_ids))
    return {record["order_id"]: Recipient(**record) for record in records}


async def find_notice_recipients(
    pool: Pool, *, event_id: EventId, notices: Sequence[Notice]
) -> dict[tuple[UUID, UserId | None], NoticeRecipient]:
    """The recipients of these notices, by subject and user: of one subject several people may be told, each something else.
    Whom nobody can write to is not in it."""
    subjects, users = [notice.subject_id for notice in notices], [notice.user_id for notice in notices]
    records = await pool.fetch(_sql.find_notice_recipients, event_id, subjects, users)
    found = [NoticeRecipient(**record) for record in records if record["email"]]
    return {(recipient.subject_id, recipient.user_id): recipient for recipient in found}


async def find_places(
    pool: Pool, *, event_id: EventId, ticket_ids: Collection[TicketId]
) -> dict[TicketId, ConfirmedSeat]:
    """Where the seats of these tickets are."""
    records = await pool.fetch(_sql.list_places, event_id, list(ticket_ids))
    return {
        record["id"]: ConfirmedSeat(section=record["section"], row=record["row"], seat=record["seat"])
        for record in records
    }
