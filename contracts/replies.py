"""What does a sale answer?"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, TypeAdapter

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
    WaitingId,
)
from contracts.price_parts import PriceParts
from contracts.rejections import RejectionCode
from contracts.value import PLAIN, Amount, Value


@dataclass(frozen=True, slots=True)
class SoldSeat:
    """A seat as the buyer is told of it: where it is and what it costs, everything included."""

    __pydantic_config__ = PLAIN

    seat_id: SeatId
    section: str
    row: str
    seat_number: str
    price: Amount


class SeatsReserved(Value):
    """The seats are yours until `held_until`."""

    type: Literal["seats_reserved"] = "seats_reserved"
    hold_id: HoldId
    event_id: EventId
    seats: tuple[SoldSeat, ...]
    total: Amount
    currency: str
    held_until: AwareDatetime
    # Of the total; none in answers older than this field.
    parts: PriceParts | None = None


class SeatsReleased(Value):
    """The hold is given back."""

    type: Literal["seats_released"] = "seats_released"
    hold_id: HoldId


class HoldExtended(Value):
    """The hold lasts longer; after `extendable_until` there is no more."""

    type: Literal["hold_extended"] = "hold_extended"
    hold_id: HoldId
    held_until: AwareDatetime
    extendable_until: AwareDatetime


class IssuedTicket(Value):
    """One ticket of a completed order."""

    ticket_id: TicketId
    seat: SoldSeat


class OrderCompleted(Value):
    """Paid and sold: the tickets are yours."""

    type: Literal["order_completed"] = "order_completed"
    order_id: OrderId
    event_id: EventId
    hold_id: HoldId
    total: Amount
    currency: str
    tickets: tuple[IssuedTicket, ...]
    completed_at: AwareDatetime
    # Of the total; none in answers older than this field.
    parts: PriceParts | None = None


class PaymentActionNeeded(Value):
    """The buyer's bank wants a word: finish it with the client secret, then repeat the checkout."""

    type: Literal["payment_action_needed"] = "payment_action_needed"
    order_id: OrderId
    client_secret: str


class HoldRepriced(Value):
    """The code counts: what the seats cost now."""

    type: Literal["hold_repriced"] = "hold_repriced"
    hold_id: HoldId
    seats: tuple[SoldSeat, ...]
    total: Amount
    reduction: Amount
    currency: str
    held_until: AwareDatetime
    parts: PriceParts | None = None


class RefundStarted(Value):
    """These tickets are void and the money is on its way back; their seats are free once the provider has confirmed it."""

    type: Literal["refund_started"] = "refund_started"
    refund_id: RefundId
    order_id: OrderId
    ticket_ids: tuple[TicketId, ...]
    amount: Amount
    fee_kept: Amount
    currency: str


class TransferOffered(Value):
    """Whoever has that e-mail address may take the ticket until then."""

    type: Literal["transfer_offered"] = "transfer_offered"
    transfer_id: TransferId
    ticket_id: TicketId
    to_email: str
    expires_at: AwareDatetime


class TransferAccepted(Value):
    """The ticket is yours; its code is a new one."""

    type: Literal["transfer_accepted"] = "transfer_accepted"
    transfer_id: TransferId
    event_id: EventId
    ticket: IssuedTicket


class TransferEnded(Value):
    """The ticket stays with whoever offered it."""

    type: Literal["transfer_ended"] = "transfer_ended"
    transfer_id: TransferId
    status: Literal["declined", "withdrawn", "expired"]


class ResaleOffered(Value):
    """The seat is on sale at that price, and yours until somebody has bought it."""

    type: Literal["resale_offered"] = "resale_offered"
    resale_id: ResaleId
    ticket_id: TicketId
    price: Amount
    currency: str


class ResaleWithdrawn(Value):
    """The seat is no longer on sale, and yours as before."""

    type: Literal["resale_withdrawn"] = "resale_withdrawn"
    resale_id: ResaleId
    ticket_id: TicketId


class WaitingListJoined(Value):
    """Seats that are freed are offered in the order of `position`."""

    type: Literal["waiting_list_joined"] = "waiting_list_joined"
    waiting_id: WaitingId
    event_id: EventId
    position: int
    seat_count: int
    section: str


class WaitingListLeft(Value):
    """No longer on the list."""

    type: Literal["waiting_list_left"] = "waiting_list_left"
    waiting_id: WaitingId


class EventCancelled(Value):
    """Nothing is sold any more, and so many orders are being refunded."""

    type: Literal["event_cancelled"] = "event_cancelled"
    event_id: EventId
    cancelled_at: AwareDatetime
    orders_to_refund: int


class SeatsWithheld(Value):
    """These seats are not on sale."""

    type: Literal["seats_withheld"] = "seats_withheld"
    seat_count: int


class SeatsReturned(Value):
    """These seats are on sale again."""

    type: Literal["seats_returned"] = "seats_returned"
    seat_count: int


class PricesChanged(Value):
    """So many seats have the new price; the others are sold."""

    type: Literal["prices_changed"] = "prices_changed"
    seat_count: int
    unchanged_count: int


class Done(Value):
    """A role's command was carried out, or had been before; nobody reads this but logs and tests."""

    type: Literal["done"] = "done"
    changed: bool = True


class ReplyLater(Value):
    """Accepted, and the answer comes when the payment is settled; never sent."""

    type: Literal["reply_later"] = "reply_later"


class Rejected(Value):
    """No, and why. `seat_ids` are the seats the reason speaks of."""

    type: Literal["rejected"] = "rejected"
    code: RejectionCode
    seat_ids: tuple[SeatId, ...] = ()
    detail: str = ""
    order_id: OrderId | None = None
    held_until: AwareDatetime | None = None


AnyReply = Annotated[
    SeatsReserved
    | SeatsReleased
    | HoldExtended
    | HoldRepriced
    | OrderCompleted
    | PaymentActionNeeded
    | RefundStarted
    | TransferOffered
    | TransferAccepted
    | TransferEnded
    | ResaleOffered
    | ResaleWithdrawn
    | WaitingListJoined
    | WaitingListLeft
    | EventCancelled
    | SeatsWithheld
    | SeatsReturned
    | PricesChanged
    | Done
    | ReplyLater
    | Rejected,
    Field(discriminator="type"),
]
ANY_REPLY: TypeAdapter[AnyReply] = TypeAdapter(AnyReply)
REPLY_TYPES: tuple[type[Value], ...] = get_args(get_args(AnyReply)[0])


@dataclass(frozen=True, slots=True)
class AddressedReply:
    """A reply and the one ask it answers."""

    __pydantic_config__ = PLAIN

    correlation_id: CommandId
    command_id: CommandId
    reply: AnyReply
