"""What does a sale answer?"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, TypeAdapter

from contracts.ids import CommandId, EventId, HoldId, OrderId, SeatId, TicketId
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


class PaymentActionNeeded(Value):
    """The buyer's bank wants a word: finish it with the client secret, then repeat the checkout."""

    type: Literal["payment_action_needed"] = "payment_action_needed"
    order_id: OrderId
    client_secret: str


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
    SeatsReserved | SeatsReleased | HoldExtended | OrderCompleted | PaymentActionNeeded | Done | ReplyLater | Rejected,
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
