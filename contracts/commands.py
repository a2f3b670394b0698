"""What can be asked of a sale?

Everything that changes a seat is one of these, on its event's queue. A buyer's commands carry a deadline (nobody waits
for ever, and what nobody waits for is not done); what other roles send has none and is never dropped.
"""

from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, NonNegativeInt, PositiveInt, TypeAdapter

from contracts.ids import CommandId, EventId, HoldId, OrderId, SeatId, TicketId, UserId
from contracts.value import Amount, Value

SEATS_PER_COMMAND_MAX = 6


class Command(Value):
    """What every ask has. `command_id` names the intent (a retry repeats it), `correlation_id` the one who waits."""

    command_id: CommandId
    event_id: EventId
    correlation_id: CommandId | None = None
    deadline_at: AwareDatetime | None = None
    request_hash: str = Field(
        "", max_length=64, description="hex digest of the request body, to tell a retry from a reuse"
    )


class BestAvailable(Value):
    """Any seats, together in a row where that can be had; in a general-admission section, so many places.

    With `accessible`, places for wheelchairs and the seats beside them; without it, none of those.
    """

    count: PositiveInt = Field(le=SEATS_PER_COMMAND_MAX)
    section: str | None = Field(None, max_length=50)
    accessible: bool = False


class ReserveSeats(Command):
    """Set seats aside for a user while they check out; the command id becomes the hold id."""

    type: Literal["reserve_seats"] = "reserve_seats"
    user_id: UserId
    seat_ids: tuple[SeatId, ...] = Field((), max_length=SEATS_PER_COMMAND_MAX)
    best_available: BestAvailable | None = None


class ReleaseSeats(Command):
    """Give a hold back before it expires."""

    type: Literal["release_seats"] = "release_seats"
    user_id: UserId
    hold_id: HoldId


class ExtendHold(Command):
    """Ask for more time, up to the ceiling."""

    type: Literal["extend_hold"] = "extend_hold"
    user_id: UserId
    hold_id: HoldId


class Checkout(Command):
    """Turn a hold into an order and start its payment; the command id becomes the order id."""

    type: Literal["checkout"] = "checkout"
    user_id: UserId
    hold_id: HoldId
    payment_method: str = Field(min_length=1, max_length=200, description="the provider's token; never card data")


class SettlePayment(Command):
    """The provider has authorised the money: sell the seats."""

    type: Literal["settle_payment"] = "settle_payment"
    order_id: OrderId
    intent_id: str


class PaymentDeclined(Command):
    """The provider has said a definite no: give the buyer a moment for another card."""

    type: Literal["payment_declined"] = "payment_declined"
    order_id: OrderId
    decline_code: str
    message: str = ""


class PaymentCanceled(Command):
    """The provider has confirmed that this intent is dead: only now may the seats be freed."""

    type: Literal["payment_canceled"] = "payment_canceled"
    order_id: OrderId


class PaymentRefunded(Command):
    """The provider has given the money back: the order is closed and its seats go back on sale."""

    type: Literal["payment_refunded"] = "payment_refunded"
    order_id: OrderId
    refund_id: str = ""


class VoidPayment(Command):
    """The payment must not go on (it was never confirmed, or nobody can finish it): end it at the provider."""

    type: Literal["void_payment"] = "void_payment"
    order_id: OrderId
    reason: str = ""


class ExpireHolds(Command):
    """A hint that these holds may be over; the database's clock decides."""

    type: Literal["expire_holds"] = "expire_holds"
    hold_ids: tuple[HoldId, ...] = Field(max_length=5000)


class CancelEvent(Command):
    """Stop selling for good and give everybody their money back."""

    type: Literal["cancel_event"] = "cancel_event"
    admin_id: UserId
    reason: str = ""


class RefundOrder(Command):
    """Give an order's money back, then its seats; `ticket_ids` empty means the whole order."""

    type: Literal["refund_order"] = "refund_order"
    order_id: OrderId
    requested_by: UserId
    ticket_ids: tuple[TicketId, ...] = ()
    amount: Amount | None = None


class TransferTicket(Command):
    """Pass a ticket from one account to another; the old code dies in the same transaction."""

    type: Literal["transfer_ticket"] = "transfer_ticket"
    ticket_id: TicketId
    from_user_id: UserId
    to_user_id: UserId
    ticket_version: NonNegativeInt = 0


AnyCommand = Annotated[
    ReserveSeats
    | ReleaseSeats
    | ExtendHold
    | Checkout
    | SettlePayment
    | PaymentDeclined
    | PaymentCanceled
    | PaymentRefunded
    | VoidPayment
    | ExpireHolds
    | CancelEvent
    | RefundOrder
    | TransferTicket,
    Field(discriminator="type"),
]

COMMAND_TYPES: tuple[type[Command], ...] = get_args(get_args(AnyCommand)[0])
ANY_COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)
