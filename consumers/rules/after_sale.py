"""What is there of an order once it is sold: its tickets, the money that goes back, and what is on offer to others?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from contracts.ids import CommandId, HoldId, OrderId, RefundId, ResaleId, SeatId, TicketId, TransferId, UserId

_NOTHING = Decimal(0)


@dataclass(slots=True)
class Ticket:
    """A ticket with the order item it stands for: what was paid for it, and whether the seat still counts as sold by it."""

    id: TicketId
    order_id: OrderId
    seat_id: SeatId
    user_id: UserId
    bought_by: UserId
    # What was paid, of which fee and tax; `reduction` is what a code had taken off before.
    price: Decimal
    fee: Decimal = _NOTHING
    tax: Decimal = _NOTHING
    reduction: Decimal = _NOTHING
    tier: str = ""
    version: int = 0
    status: str = "valid"
    ended_because: str = ""
    checked_in_at: datetime | None = None
    # False once its seat may be sold again, or has been.
    live: bool = True
    # The refund that gives its money back.
    refund_id: RefundId | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it lets its owner in, or has."""
        return self.status == "valid"


@dataclass(slots=True)
class Refund:
    """Money of an order that goes back. Its tickets are void from the start; their seats are free when the provider has
    confirmed it."""

    id: RefundId
    order_id: OrderId
    kind: str
    ticket_ids: Sequence[TicketId]
    amount: Decimal
    fee_kept: Decimal
    currency: str
    status: str
    provider_key: str
    requested_by: UserId
    reason: str
    created_at: datetime
    refunded_at: datetime | None = None
    is_new: bool = False


@dataclass(slots=True)
class Transfer:
    """A ticket offered to an e-mail address."""

    id: TransferId
    ticket_id: TicketId
    ticket_version: int
    from_user_id: UserId
    to_email: str
    status: str
    created_at: datetime
    expires_at: datetime
    to_user_id: UserId | None = None
    ended_at: datetime | None = None
    is_new: bool = False

    def is_open(self, now: datetime) -> bool:
        """Offered means offered only until its time."""
        return self.status == "offered" and self.expires_at > now


@dataclass(slots=True)
class Resale:
    """A seat that its owner offers to others."""

    id: ResaleId
    ticket_id: TicketId
    order_id: OrderId
    seat_id: SeatId
    seller_id: UserId
    price: Decimal
    usual_price: Decimal
    hold_id: HoldId
    status: str
    created_at: datetime
    refund_id: RefundId | None = None
    ended_at: datetime | None = None
    is_new: bool = False


@dataclass(slots=True)
class Cancellation:
    """The end of an event that will not take place."""

    cancelled_by: UserId
    reason: str
    cancelled_at: datetime
    # No order is left that has not been refunded or come to nothing.
    finished_at: datetime | None = None
    is_new: bool = False


class MoneyEntry(NamedTuple):
    """An amount that went from one account to another (0004_after_the_purchase.sql names them)."""

    order_id: OrderId
    refund_id: RefundId | None
    debit: str
    credit: str
    amount: Decimal
    currency: str
    command_id: CommandId


class AuditEntry(NamedTuple):
    """What an organiser did, as JSON of before and after."""

    user_id: UserId
    action: str
    subject: str
    before: str | None
    after: str | None
