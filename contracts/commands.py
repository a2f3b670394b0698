"""What can be asked of a sale?

Everything that changes a seat is one of these, on its event's queue. A buyer's commands carry a deadline (nobody waits
for ever, and what nobody waits for is not done); what other roles send has none and is never dropped.
"""

from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, PositiveInt, TypeAdapter

from contracts.ids import (
    CommandId,
    EventId,
    HoldId,
    OrderId,
    RefundId,
    ResaleId,
    SeatId,
    TicketId,
    TransferId,
    UserId,
)
from contracts.value import Amount, Value

SEATS_PER_COMMAND_MAX = 6
CODE_LENGTH_MAX = 40
# What an organiser may withhold, give back or reprice at once; a larger block takes several commands.
ORGANISERS_SEATS_MAX = 5000
# How many orders of a cancelled event one command refunds: a transaction of some 100 ms, between which others have their turn.
REFUNDED_AT_ONCE_MAX = 200


class Command(Value):
    """What every ask has. `command_id` names the intent (a retry repeats it), `correlation_id` the one who waits."""

    command_id: CommandId
    event_id: EventId
    correlation_id: CommandId | None = None
    deadline_at: AwareDatetime | None = None
    request_hash: str = Field(
        "", max_length=64, description="hex digest of the request body, to tell a retry from a reuse"
    )
    # Where in a trace this was asked (W3C traceparent); None, which takes no room on the wire: it is not traced.
    traceparent: str | None = None


class BestAvailable(Value):
    """Any seats, together in a row where that can be had; in a general-admission section, so many places.

    With `accessible`, places for wheelchairs and the seats beside them; without it, none of those.
    """

    count: PositiveInt = Field(le=SEATS_PER_COMMAND_MAX)
    section: str | None = Field(None, max_length=50)
    accessible: bool = False


class ReserveSeats(Command):
    """Set seats aside for a user while they check out; the command id becomes the hold id.

    `tiers` names the price of each seat, in the order of `seat_ids` or, of the best available, in the order of the map; ""
    is the usual one, and so is none at all. `code` opens a presale or makes the seats cheaper.
    """

    type: Literal["reserve_seats"] = "reserve_seats"
    user_id: UserId
    seat_ids: tuple[SeatId, ...] = Field((), max_length=SEATS_PER_COMMAND_MAX)
    best_available: BestAvailable | None = None
    tiers: tuple[str, ...] = Field((), max_length=SEATS_PER_COMMAND_MAX)
    code: str = Field("", max_length=CODE_LENGTH_MAX)


class ApplyCode(Command):
    """Make the seats of a hold cheaper by a code."""

    type: Literal["apply_code"] = "apply_code"
    user_id: UserId
    hold_id: HoldId
    code: str = Field(min_length=1, max_length=CODE_LENGTH_MAX)


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
    """The provider has given the money of this refund back: its tickets' seats go back on sale."""

    type: Literal["payment_refunded"] = "payment_refunded"
    order_id: OrderId
    refund_id: RefundId


class VoidPayment(Command):
    """The payment must not go on (it was never confirmed, or nobody can finish it): end it at the provider."""

    type: Literal["void_payment"] = "void_payment"
    order_id: OrderId
    reason: str = ""


class ExpireHolds(Command):
    """A hint that these holds may be over; the database's clock decides."""

    type: Literal["expire_holds"] = "expire_holds"
    hold_ids: tuple[HoldId, ...] = Field(max_length=5000)


class RefundOrder(Command):
    """Give the money of an order back, then its seats; the command id becomes the refund id. `ticket_ids` empty means all that
    are left of it. `as_organiser` passes over the event's policy for buyers: its deadline, its fee, and whose order it is."""

    type: Literal["refund_order"] = "refund_order"
    user_id: UserId
    order_id: OrderId
    ticket_ids: tuple[TicketId, ...] = Field((), max_length=100)
    as_organiser: bool = False
    reason: str = Field("", max_length=500)


class OfferTransfer(Command):
    """Offer a ticket to whoever has that e-mail address; the command id becomes the transfer id."""

    type: Literal["offer_transfer"] = "offer_transfer"
    user_id: UserId
    ticket_id: TicketId
    to_email: str = Field(min_length=3, max_length=255)


class AcceptTransfer(Command):
    """Take a ticket that was offered; the old code dies in the same transaction. That the asker has the e-mail address it was
    offered to is checked where he asks."""

    type: Literal["accept_transfer"] = "accept_transfer"
    user_id: UserId
    transfer_id: TransferId


class DeclineTransfer(Command):
    """Not take it."""

    type: Literal["decline_transfer"] = "decline_transfer"
    user_id: UserId
    transfer_id: TransferId


class WithdrawTransfer(Command):
    """Keep the ticket after all."""

    type: Literal["withdraw_transfer"] = "withdraw_transfer"
    user_id: UserId
    transfer_id: TransferId


class ExpireTransfers(Command):
    """A hint that these offers may be over; the database's clock decides."""

    type: Literal["expire_transfers"] = "expire_transfers"
    transfer_ids: tuple[TransferId, ...] = Field(max_length=5000)


class OfferResale(Command):
    """Put a ticket's seat back on sale, for what it cost or less; the command id becomes the resale id."""

    type: Literal["offer_resale"] = "offer_resale"
    user_id: UserId
    ticket_id: TicketId
    price: Amount = Field(ge=Decimal(0))


class WithdrawResale(Command):
    """Keep the seat after all, if nobody has it in his hands."""

    type: Literal["withdraw_resale"] = "withdraw_resale"
    user_id: UserId
    resale_id: ResaleId


class ExpireResales(Command):
    """A hint that nobody can buy these seats any more, because the sale is over; the database's clock decides."""

    type: Literal["expire_resales"] = "expire_resales"
    resale_ids: tuple[ResaleId, ...] = Field(max_length=5000)


class JoinWaitingList(Command):
    """Be offered seats of a sold-out event when some are freed; the command id becomes the id of the place."""

    type: Literal["join_waiting_list"] = "join_waiting_list"
    user_id: UserId
    seat_count: PositiveInt = Field(le=SEATS_PER_COMMAND_MAX)
    section: str = Field("", max_length=50)
    accessible: bool = False


class LeaveWaitingList(Command):
    """Wait no longer."""

    type: Literal["leave_waiting_list"] = "leave_waiting_list"
    user_id: UserId


class CancelEvent(Command):
    """Stop selling for good, from this commit on, and give everybody their money back."""

    type: Literal["cancel_event"] = "cancel_event"
    user_id: UserId
    reason: str = Field("", max_length=500)


class RefundCancelled(Command):
    """Give the money of some more orders of a cancelled event back, until none is left; asked for again and again."""

    type: Literal["refund_cancelled"] = "refund_cancelled"


class WithholdSeats(Command):
    """Keep these seats back from sale, all or none."""

    type: Literal["withhold_seats"] = "withhold_seats"
    user_id: UserId
    seat_ids: tuple[SeatId, ...] = Field(min_length=1, max_length=ORGANISERS_SEATS_MAX)
    reason: str = Field("", max_length=500)


class ReturnSeats(Command):
    """Put withheld seats on sale again, all or none."""

    type: Literal["return_seats"] = "return_seats"
    user_id: UserId
    seat_ids: tuple[SeatId, ...] = Field(min_length=1, max_length=ORGANISERS_SEATS_MAX)


class ChangePrices(Command):
    """Another price for these seats, as far as they are not sold; who holds one pays what he was told."""

    type: Literal["change_prices"] = "change_prices"
    user_id: UserId
    seat_ids: tuple[SeatId, ...] = Field(min_length=1, max_length=ORGANISERS_SEATS_MAX)
    price: Amount = Field(ge=Decimal(0))


class GiveSeats(Command):
    """Complimentary tickets: these seats, available or withheld, for somebody, for nothing; the command id becomes the order
    id."""

    type: Literal["give_seats"] = "give_seats"
    user_id: UserId
    to_user_id: UserId
    seat_ids: tuple[SeatId, ...] = Field(min_length=1, max_length=100)
    reason: str = Field("", max_length=500)


AnyCommand = Annotated[
    ReserveSeats
    | ReleaseSeats
    | ExtendHold
    | ApplyCode
    | Checkout
    | SettlePayment
    | PaymentDeclined
    | PaymentCanceled
    | PaymentRefunded
    | VoidPayment
    | ExpireHolds
    | RefundOrder
    | OfferTransfer
    | AcceptTransfer
    | DeclineTransfer
    | WithdrawTransfer
    | ExpireTransfers
    | OfferResale
    | WithdrawResale
    | ExpireResales
    | JoinWaitingList
    | LeaveWaitingList
    | CancelEvent
    | RefundCancelled
    | WithholdSeats
    | ReturnSeats
    | ChangePrices
    | GiveSeats,
    Field(discriminator="type"),
]

COMMAND_TYPES: tuple[type[Command], ...] = get_args(get_args(AnyCommand)[0])
# What people ask for, through the ingress; all others come from our own couriers.
PEOPLES_COMMANDS: tuple[type[Command], ...] = tuple(kind for kind in COMMAND_TYPES if "user_id" in kind.model_fields)
ANY_COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)
