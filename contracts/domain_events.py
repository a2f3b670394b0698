"""What has happened, that others want to know?

One message per batch and kind, never one per hold: a message each would cost more than the sale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter

from contracts.ids import EventId, HoldId, OrderId, RefundId, SeatId, TicketId, UserId
from contracts.value import PLAIN, Amount, Value


@dataclass(frozen=True, slots=True)
class DueHold:
    """A hold and when it ends."""

    __pydantic_config__ = PLAIN

    hold_id: HoldId
    held_until: AwareDatetime


class HoldsArmed(Value):
    """Holds whose expiry must be looked at when the wait queue lets this message go (the seed's CleanupMessage)."""

    type: Literal["cleanup_expired_holds"] = "cleanup_expired_holds"
    event_id: EventId
    holds: tuple[DueHold, ...]


class OfRequest(Value):
    """Something that goes back to what somebody has asked for."""

    # The request's X-Correlation-Id; None: nobody's request, or a message older than this field.
    correlation_id: UUID | None = None
    # Where in the request's trace this belongs (W3C traceparent); None: it is not traced.
    traceparent: str | None = None


class PaymentRequested(OfRequest):
    """An order waits for its money. Everything the payment stage needs, so that it reads nothing first."""

    order_id: OrderId
    amount: Amount
    currency: str
    payment_method: str
    provider_key: str


class PaymentsRequested(Value):
    """Orders to authorise."""

    type: Literal["payments_requested"] = "payments_requested"
    event_id: EventId
    payments: tuple[PaymentRequested, ...]


class PaymentDue(OfRequest):
    """One payment to end, in the way the message's type says."""

    order_id: OrderId
    intent_id: str
    provider_key: str
    amount: Amount
    currency: str


class CapturesDue(Value):
    """Sold orders whose money is to be collected."""

    type: Literal["captures_due"] = "captures_due"
    event_id: EventId
    payments: tuple[PaymentDue, ...]


class VoidsDue(Value):
    """Payments that must come to nothing: cancel at the provider, and only then free the seats."""

    type: Literal["voids_due"] = "voids_due"
    event_id: EventId
    payments: tuple[PaymentDue, ...]


class RefundDue(PaymentDue):
    """An amount of a payment to give back; `provider_key` is the refund's own, `amount` what goes back."""

    refund_id: RefundId


class RefundsDue(Value):
    """Money to give back, of payments that were captured or are about to be."""

    type: Literal["refunds_due"] = "refunds_due"
    event_id: EventId
    payments: tuple[RefundDue, ...]


class ConfirmedSeat(Value):
    """A seat as the seed's confirmation names it."""

    section: str
    row: str
    seat: str


class OrderConfirmation(OfRequest):
    """The seed's OrderConfirmationMessage without the address: the mailer looks that up, so no queue holds it."""

    type: Literal["order_confirmation"] = "order_confirmation"
    order_id: OrderId
    user_id: UserId
    total: Amount
    currency: str
    seats: tuple[ConfirmedSeat, ...]
    ticket_ids: tuple[TicketId, ...] = ()
    timestamp: AwareDatetime


class OrdersConfirmed(Value):
    """Completed orders whose buyers are to be told."""

    type: Literal["orders_confirmed"] = "orders_confirmed"
    event_id: EventId
    orders: tuple[OrderConfirmation, ...]


class OrderNotice(OfRequest):
    """An order that ended without tickets."""

    order_id: OrderId
    user_id: UserId
    reason: str


class OrdersCancelled(Value):
    """Orders whose payment came to nothing after all; their buyers are to be told."""

    type: Literal["orders_cancelled"] = "orders_cancelled"
    event_id: EventId
    orders: tuple[OrderNotice, ...]


NoticeKind = Literal[
    "refund_started",
    "event_cancelled",
    "transfer_offered",
    "transfer_accepted",
    "transfer_declined",
    "transfer_withdrawn",
    "transfer_expired",
    "ticket_resold",
    "waiting_list_offer",
    "tickets_given",
]


class Notice(OfRequest):
    """Something one person is to be told, once. Whoever writes the mail looks everything else up by these ids, so that no
    queue holds a name or an address."""

    kind: NoticeKind
    # What it is about: the refund, transfer, resale, place on the waiting list or order. With the kind it is told once.
    subject_id: UUID
    # Whom to tell; None: the e-mail address of the transfer, whose owner may have no account.
    user_id: UserId | None = None
    order_id: OrderId | None = None
    ticket_ids: tuple[TicketId, ...] = ()
    amount: Amount | None = None
    until: AwareDatetime | None = None
    reason: str = ""


class NoticesDue(Value):
    """What people are to be told of one transaction."""

    type: Literal["notices_due"] = "notices_due"
    event_id: EventId
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class SeatChange:
    """What a seat has become; `held_until` of a held one, so that whoever listens knows by itself when that is over, and
    `price` of one that costs something else than before."""

    __pydantic_config__ = PLAIN

    seat_id: SeatId
    seat_index: int
    status: str
    held_until: AwareDatetime | None = None
    price: Amount | None = None


class SeatsChanged(Value):
    """The changes of one transaction; `first_seq`..`last_seq` are ledger numbers, so a gap shows.

    A change that is no ledger entry (a hold that was extended, a price) comes with `first_seq == last_seq + 1`.
    """

    type: Literal["seats_changed"] = "seats_changed"
    event_id: EventId
    first_seq: int
    last_seq: int
    changes: tuple[SeatChange, ...]


class SalesCounted(Value):
    """What one batch sold; lost with no harm done."""

    type: Literal["sales_counted"] = "sales_counted"
    event_id: EventId
    minute_at: AwareDatetime
    seats_reserved: int = 0
    seats_sold: int = 0
    orders_completed: int = 0
    revenue: Amount
    currency: str


def parts_of(domain_event: Value) -> Sequence[OfRequest]:
    """What a message is made of that goes back to requests, each part to its own."""
    match domain_event:
        case PaymentsRequested() | CapturesDue() | VoidsDue() | RefundsDue():
            return domain_event.payments
        case OrdersConfirmed() | OrdersCancelled():
            return domain_event.orders
        case NoticesDue():
            return domain_event.notices
        case _:
            return ()


def only_request_of(domain_event: Value) -> OfRequest | None:
    """The part of a message that goes back to one request; None of one that goes back to several, or to none."""
    parts = parts_of(domain_event)
    return parts[0] if len(parts) == 1 else None


AnyDomainEvent = Annotated[
    HoldsArmed
    | PaymentsRequested
    | CapturesDue
    | VoidsDue
    | RefundsDue
    | OrdersConfirmed
    | OrdersCancelled
    | NoticesDue
    | SeatsChanged
    | SalesCounted,
    Field(discriminator="type"),
]
DOMAIN_EVENT_TYPES: tuple[type[Value], ...] = get_args(get_args(AnyDomainEvent)[0])
ANY_DOMAIN_EVENT: TypeAdapter[AnyDomainEvent] = TypeAdapter(AnyDomainEvent)
