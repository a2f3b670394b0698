"""What does a rule see of a sale, and what may it change?

`Sale` is one event as it was loaded under its fence: only what the commands of this batch speak of. Rules read it and
change it in memory; `save_sale` writes what changed. Nothing here knows a clock, a database or a queue.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid5

from consumers.rules.after_sale import AuditEntry, Cancellation, MoneyEntry, Refund, Resale, Ticket, Transfer
from consumers.rules.codes import Code
from consumers.rules.list_places import WaitingList
from contracts.commands import Checkout, Command, ReserveSeats
from contracts.domain_events import (
    ConfirmedSeat,
    DueHold,
    Notice,
    OrderConfirmation,
    OrderNotice,
    PaymentDue,
    PaymentRequested,
    RefundDue,
    SeatChange,
    SeatsChanged,
)
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
    WaitingId,
)
from contracts.price_parts import fee_and_tax
from contracts.replies import ANY_REPLY, AnyReply, IssuedTicket, SoldSeat

_NOTHING = Decimal(0)

# What stands where a payment's token would, when there is nothing to pay and no provider is asked.
NO_PAYMENT_METHOD = "none"

# A sweep may end thousands of holds in one transaction; so many changes stay well below what a message may weigh.
CHANGES_PER_MESSAGE_MAX = 5000


@dataclass(slots=True)
class Seat:
    """One seat; `fence_read` is the fence under which it was loaded, and the save insists on it."""

    id: SeatId
    seat_index: int
    section: str
    row: str
    seat_number: str
    price: Decimal
    status: str
    hold_id: HoldId | None
    held_until: datetime | None
    order_id: OrderId | None
    fence: int
    fence_read: int
    # Of a seat that its owner offers to others: it is sold on, and still his until then.
    resale_id: ResaleId | None = None

    def is_available(self, now: datetime) -> bool:
        """Held means held only until its time: nobody has to clean up before the next buyer may have it."""
        return self.status == "available" or (
            self.status == "held" and self.held_until is not None and self.held_until <= now
        )

    def as_sold_seat(self, price: Decimal | None = None) -> SoldSeat:
        """The seat as a buyer is told of it, at what it costs him."""
        return SoldSeat(self.id, self.section, self.row, self.seat_number, self.price if price is None else price)


class Charge(NamedTuple):
    """What a seat costs whoever holds it: its tier and his code are in it."""

    price: Decimal
    tier: str = ""
    reduction: Decimal = _NOTHING


@dataclass(slots=True)
class Hold:
    """Seats set aside for a user."""

    id: HoldId
    user_id: UserId
    seat_ids: Sequence[SeatId]
    fences: Sequence[int]
    total: Decimal
    status: str
    held_until: datetime
    reserved_until: datetime
    created_at: datetime
    request_hash: str = ""
    # What each seat costs, in the order of seat_ids; None in holds older than that: what the seats cost.
    prices: Sequence[Decimal] | None = None
    # None: the usual price for all, and nothing off.
    tiers: Sequence[str] | None = None
    reductions: Sequence[Decimal] | None = None
    code_id: UUID | None = None
    # Of seats that the waiting list offered: whose turn it was.
    waiting_id: WaitingId | None = None
    is_new: bool = False

    def charge_of(self, position: int, seat: "Seat") -> Charge:
        """What the seat at that place of seat_ids costs this hold's owner."""
        return Charge(
            seat.price if self.prices is None else self.prices[position],
            "" if self.tiers is None else self.tiers[position],
            _NOTHING if self.reductions is None else self.reductions[position],
        )

    def is_active(self, now: datetime) -> bool:
        """Whether its owner may still do something with it."""
        return self.status == "active" and self.held_until > now

    def is_use_of_code(self, now: datetime) -> bool:
        """Whether it counts as a use of its code, as `count_uses` counts: it is alive, or was paid."""
        return self.status in ("paying", "converted") or self.is_active(now)


@dataclass(slots=True)
class Order:
    """A checkout and how far it has come, with the one payment it has."""

    id: OrderId
    user_id: UserId
    hold_id: HoldId
    status: str
    total: Decimal
    currency: str
    created_at: datetime
    request_hash: str = ""
    reply_to: str | None = None
    correlation_id: CommandId | None = None
    ended_because: str = ""
    answer: str | None = None
    completed_at: datetime | None = None
    payment_status: str = "requested"
    payment_method: str = ""
    provider_key: str = ""
    intent_id: str | None = None
    client_secret: str | None = None
    kind: str = "sale"
    code_id: UUID | None = None
    is_new: bool = False

    @property
    def is_live(self) -> bool:
        """Whether it still stands between its hold and another order."""
        return self.status not in ("declined", "cancelled")

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to pay: no provider ever hears of it."""
        return self.total == _NOTHING


class Origin(NamedTuple):
    """Whose request something goes back to, and where in its trace it belongs; the fields of `OfRequest`."""

    correlation_id: UUID | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class SaleTerms:
    """What was agreed for this event."""

    event_id: EventId
    on_sale_at: datetime
    off_sale_at: datetime
    cancelled: bool
    # Only whom its waiting room has let in may have seats.
    high_demand: bool
    ticket_limit: int
    live_holds_max: int
    currency: str
    hold_duration: timedelta
    hold_ceiling: timedelta
    decline_grace: timedelta
    event_at: datetime
    # From here to on_sale_at only who has an access code may have seats.
    presale_at: datetime | None = None
    # Shares of a price: the tax that is in it, and the fee that is in what remains.
    fee_rate: Decimal = _NOTHING
    tax_rate: Decimal = _NOTHING
    refund_until: datetime | None = None
    refund_fee_rate: Decimal = _NOTHING
    transfers: bool = True
    resales: bool = True
    # How long an offer of a ticket to somebody stands, if the show does not begin before.
    transfer_duration: timedelta = timedelta(days=7)
    # People on the waiting list whom nothing has been offered; while there are any, what is freed is theirs first.
    waiting_count: int = 0
    waiting_serial: int = 0


class LedgerEntry(NamedTuple):
    """One seat going from one status to another."""

    seat_id: SeatId
    from_status: str
    to_status: str
    hold_id: HoldId | None
    order_id: OrderId | None
    command_id: CommandId


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a command that leaves no hold or order was answered."""

    command_id: CommandId
    request_hash: str
    reply: AnyReply


@dataclass(frozen=True, slots=True)
class LateReply:
    """An answer for somebody who asked in an earlier batch and still waits."""

    reply_to: str
    correlation_id: CommandId
    command_id: CommandId
    reply: AnyReply


@dataclass(slots=True)
class Outgoing:
    """What others will be told once this is committed, gathered by kind."""

    armed: list[DueHold] = field(default_factory=list)
    payments_requested: list[PaymentRequested] = field(default_factory=list)
    captures_due: list[PaymentDue] = field(default_factory=list)
    voids_due: list[PaymentDue] = field(default_factory=list)
    refunds_due: list[RefundDue] = field(default_factory=list)
    confirmed: list[OrderConfirmation] = field(default_factory=list)
    cancelled: list[OrderNotice] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


@dataclass(slots=True)
class Sale:
    """One event under its fence, and what this batch makes of it."""

    terms: SaleTerms
    now: datetime
    ledger_seq: int
    seats: dict[SeatId, Seat]
    holds: dict[HoldId, Hold] = field(default_factory=dict)
    orders: dict[OrderId, Order] = field(default_factory=dict)
    seat_counts: dict[UserId, int] = field(default_factory=dict)
    hold_counts: dict[UserId, int] = field(default_factory=dict)
    answered: dict[CommandId, StoredAnswer] = field(default_factory=dict)
    # Of orders that are sold, all they have; of others, nothing.
    tickets: dict[TicketId, Ticket] = field(default_factory=dict)
    refunds: dict[RefundId, Refund] = field(default_factory=dict)
    transfers: dict[TransferId, Transfer] = field(default_factory=dict)
    resales: dict[ResaleId, Resale] = field(default_factory=dict)
    # Of an event that was cancelled, if the commands are about that: who did it and why, some of the orders whose money is still
    # to go back, how many of them there are, and how many orders have not come to their end.
    cancellation: Cancellation | None = None
    orders_to_refund: Sequence[OrderId] = ()
    orders_to_refund_count: int = 0
    orders_under_way_count: int = 0
    # The codes that commands name, as they are compared; the tier prices of the seats' sections, where commands name tiers; and
    # how often each code with a limit is used, this batch's uses included.
    codes: dict[str, Code] = field(default_factory=dict)
    tiers: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    code_uses: dict[UUID, int] = field(default_factory=dict)
    code_uses_of_users: dict[tuple[UUID, UserId], int] = field(default_factory=dict)
    # What the engine chose for those who asked for the best available seats.
    chosen_seat_ids: Mapping[CommandId, Sequence[SeatId]] = field(default_factory=dict)
    waiting: WaitingList = field(default_factory=WaitingList)
    # What the waiting room says of those who want seats; where it does not answer, of nobody.
    admitted: Mapping[UserId, bool] = field(default_factory=dict)
    # Who asks, so that the answer to a checkout finds them in a later batch.
    askers: Mapping[CommandId, str | None] = field(default_factory=dict)
    # The command that is being decided; None: what happens is nobody's doing.
    deciding: Command | None = None

    changed_seats: dict[SeatId, Seat] = field(default_factory=dict)
    changed_holds: dict[HoldId, Hold] = field(default_factory=dict)
    # Holds whose seats cost another price than when they were taken.
    repriced_holds: dict[HoldId, Hold] = field(default_factory=dict)
    changed_orders: dict[OrderId, Order] = field(default_factory=dict)
    new_tickets: list[Ticket] = field(default_factory=list)
    changed_tickets: dict[TicketId, Ticket] = field(default_factory=dict)
    changed_refunds: dict[RefundId, Refund] = field(default_factory=dict)
    changed_transfers: dict[TransferId, Transfer] = field(default_factory=dict)
    changed_resales: dict[ResaleId, Resale] = field(default_factory=dict)
    changed_cancellation: Cancellation | None = None
    # Seats whose price is another than it was.
    repriced_seats: dict[SeatId, Seat] = field(default_factory=dict)
    # Whether an organiser has changed prices: then the event's lowest and highest follow.
    prices_changed: bool = False
    money: list[MoneyEntry] = field(default_factory=list)
    audits: list[AuditEntry] = field(default_factory=list)
    sold_orders: list[tuple[Order, list[Seat]]] = field(default_factory=list)
    unsold_orders: list[Order] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    new_answers: list[StoredAnswer] = field(default_factory=list)
    late_replies: list[LateReply] = field(default_factory=list)
    outgoing: Outgoing = field(default_factory=Outgoing)
    seats_reserved_count: int = 0

    def is_before(self) -> bool:
        """Whether the sale has yet to open."""
        return self.now < self.terms.on_sale_at

    def is_presale(self) -> bool:
        """Whether only who has a code that opens it may have seats."""
        return self.is_before() and self.terms.presale_at is not None and self.terms.presale_at <= self.now

    def is_over(self) -> bool:
        """Whether the sale has closed."""
        return self.now >= self.terms.off_sale_at

    def may_be_reserved(self, seat: Seat) -> bool:
        """Whether anybody may have it now. While people are on the waiting list a seat is theirs first: nobody passes them by
        by asking in the moment in which it is freed, or in which a hold runs out."""
        if self.waiting.count:
            return seat.status == "available" and seat.id not in self.waiting.freed_ids
        return seat.is_available(self.now)

    def seat_count_of(self, user_id: UserId) -> int:
        """Seats this user holds or owns, this batch's included."""
        return self.seat_counts.get(user_id, 0)

    def hold_count_of(self, user_id: UserId) -> int:
        """Live holds of this user, active or being paid, this batch's included."""
        return self.hold_counts.get(user_id, 0)

    @property
    def last_seq(self) -> int:
        """The ledger's last number once this is committed."""
        return self.ledger_seq + len(self.ledger)

    def seats_of(self, hold: Hold) -> list[Seat] | None:
        """The hold's seats in its order, or None when any of them is no longer the hold's."""
        mine: list[Seat] = []
        for seat_id, fence in zip(hold.seat_ids, hold.fences, strict=True):
            seat = self.seats.get(seat_id)
            if seat is None or seat.hold_id != hold.id or seat.fence != fence:
                return None
            mine.append(seat)
        return mine

    def live_order_of(self, hold_id: HoldId) -> Order | None:
        """The one order that stands on this hold, if any."""
        return next((order for order in self.orders.values() if order.hold_id == hold_id and order.is_live), None)

    def take(
        self,
        command: ReserveSeats,
        seats: Sequence[Seat],
        *,
        charges: Sequence[Charge] | None = None,
        code_id: UUID | None = None,
    ) -> Hold:
        """Set the seats aside for the asker, at these charges or the usual price."""
        return self.set_aside(
            HoldId(command.command_id),
            command.user_id,
            seats,
            held_until=self.now + self.terms.hold_duration,
            command_id=command.command_id,
            request_hash=command.request_hash,
            charges=charges,
            code_id=code_id,
        )

    def set_aside(
        self,
        hold_id: HoldId,
        user_id: UserId,
        seats: Sequence[Seat],
        *,
        held_until: datetime,
        command_id: CommandId,
        request_hash: str = "",
        charges: Sequence[Charge] | None = None,
        code_id: UUID | None = None,
        waiting_id: WaitingId | None = None,
    ) -> Hold:
        """Hold these seats for somebody. An expired holder loses them here, and the ledger says so."""
        prices = [seat.price for seat in seats] if charges is None else [charge.price for charge in charges]
        for seat in seats:
            self._take_from_expired_hold(seat, command_id)
            seat.hold_id, seat.held_until = hold_id, held_until
            seat.fence += 1
            self._record(seat, "held", command_id)
        hold = Hold(
            id=hold_id,
            user_id=user_id,
            seat_ids=[seat.id for seat in seats],
            fences=[seat.fence for seat in seats],
            total=sum(prices, _NOTHING),
            status="active",
            held_until=held_until,
            reserved_until=held_until,
            created_at=self.now,
            request_hash=request_hash,
            prices=prices,
            tiers=None if charges is None else [charge.tier for charge in charges],
            reductions=None if charges is None else [charge.reduction for charge in charges],
            code_id=code_id,
            waiting_id=waiting_id,
            is_new=True,
        )
        self.holds[hold_id] = self.changed_holds[hold_id] = hold
        self._count_use(hold, 1)
        self.seat_counts[user_id] = self.seat_count_of(user_id) + len(seats)
        self.hold_counts[user_id] = self.hold_count_of(user_id) + 1
        self.outgoing.armed.append(DueHold(hold_id, held_until))
        self.seats_reserved_count += len(seats)
        return hold

    def set_held_until(self, hold: Hold, seats: Sequence[Seat], held_until: datetime, *, seats_until: datetime) -> None:
        """Move the end of a hold; its seats may be kept longer than its owner is told (while a payment runs)."""
        hold.held_until = held_until
        self.changed_holds[hold.id] = hold
        for seat in seats:
            seat.held_until = seats_until
            self.changed_seats[seat.id] = seat

    def arm(self, hold: Hold) -> None:
        """Have somebody look at this hold when its time is over."""
        self.outgoing.armed.append(DueHold(hold.id, hold.held_until))

    def mark_hold(self, hold: Hold, status: str) -> None:
        """The hold's next state. One that ends without tickets gives the use of its code back."""
        if status in ("released", "expired") and hold.is_use_of_code(self.now):
            self._count_use(hold, -1)
        if hold.waiting_id is not None and status in ("released", "expired", "converted"):
            self.waiting.hold_ended(hold.waiting_id, is_bought=status == "converted")
        hold.status = status
        self.changed_holds[hold.id] = hold

    def reprice(self, hold: Hold, charges: Sequence[Charge], *, code_id: UUID) -> None:
        """By this code, the hold's seats cost this."""
        hold.prices = [charge.price for charge in charges]
        hold.reductions = [charge.reduction for charge in charges]
        hold.total = sum(hold.prices, _NOTHING)
        hold.code_id = code_id
        self._count_use(hold, 1)
        self.changed_holds[hold.id] = self.repriced_holds[hold.id] = hold

    def _count_use(self, hold: Hold, change: int) -> None:
        if hold.code_id is None:
            return
        of_user = (hold.code_id, hold.user_id)
        self.code_uses[hold.code_id] = self.code_uses.get(hold.code_id, 0) + change
        self.code_uses_of_users[of_user] = self.code_uses_of_users.get(of_user, 0) + change

    def free(self, seats: Iterable[Seat], command_id: CommandId) -> None:
        """Put seats back on sale. The fence goes up, so whoever had them can do nothing to them any more."""
        for seat in seats:
            seat.hold_id = seat.held_until = seat.order_id = None
            seat.fence += 1
            self._record(seat, "available", command_id)

    def withhold(self, seats: Iterable[Seat], command_id: CommandId) -> None:
        """Take seats that are available off sale. An expired holder loses them here, and the ledger says so."""
        for seat in seats:
            self._take_from_expired_hold(seat, command_id)
            seat.hold_id = seat.held_until = None
            seat.fence += 1
            self._record(seat, "withheld", command_id)

    def change_price(self, seat: Seat, price: Decimal) -> None:
        """What the seat costs whoever reserves it from now on; a hold has its own prices."""
        seat.price = price
        self.repriced_seats[seat.id] = seat

    def give_back(self, hold: Hold, status: str, command_id: CommandId) -> None:
        """End a hold and free whichever of its seats are still its own."""
        still_held = [
            seat
            for seat_id in hold.seat_ids
            if (seat := self.seats.get(seat_id)) is not None and seat.hold_id == hold.id
        ]
        # An expired hold has not counted against its owner's limits since it expired.
        if hold.user_id in self.seat_counts and (hold.status == "paying" or hold.is_active(self.now)):
            self.seat_counts[hold.user_id] -= len(hold.seat_ids)
            self.hold_counts[hold.user_id] -= 1
        self.free(still_held, command_id)
        self.mark_hold(hold, status)

    def open_order(self, command: Checkout, hold: Hold) -> Order:
        """A pending order for this hold; its payment key is chosen here, before anybody calls the provider. Of a hold that
        costs nothing, nobody is to call it."""
        order = Order(
            id=OrderId(command.command_id),
            user_id=command.user_id,
            hold_id=hold.id,
            status="pending",
            total=hold.total,
            currency=self.terms.currency,
            created_at=self.now,
            request_hash=command.request_hash,
            reply_to=self.askers.get(command.command_id),
            correlation_id=command.correlation_id,
            payment_method=command.payment_method if hold.total else NO_PAYMENT_METHOD,
            provider_key=str(command.command_id),
            code_id=hold.code_id,
            is_new=True,
        )
        self.orders[order.id] = self.changed_orders[order.id] = order
        if not order.is_free:
            self.request_payment(order)
        return order

    def request_payment(self, order: Order) -> None:
        """Have the payment stage authorise this order, or look again how far it has come."""
        self.outgoing.payments_requested.append(
            PaymentRequested(
                order_id=order.id,
                amount=order.total,
                currency=order.currency,
                payment_method=order.payment_method,
                provider_key=order.provider_key,
                **self.origin(order)._asdict(),
            )
        )

    def payment_due(self, order: Order) -> PaymentDue:
        """The order's payment, as the payment stage is told of it."""
        return PaymentDue(
            order_id=order.id,
            intent_id=order.intent_id or "",
            provider_key=order.provider_key,
            amount=order.total,
            currency=order.currency,
            **self.origin(order)._asdict(),
        )

    def tell(self, notice: Notice) -> None:
        """Have this person told, in the name of whoever asked for what has happened."""
        self.outgoing.notices.append(notice.model_copy(update=self.origin()._asdict()))

    def origin(self, order: Order | None = None) -> Origin:
        """To whom goes back what happens now: to who asked, or, where a courier did, to who checked the order out."""
        command = self.deciding
        if command is None:
            return Origin(order.correlation_id if order else None, None)
        return Origin(command.correlation_id or (order.correlation_id if order else None), command.traceparent)

    def mark_order(self, order: Order, status: str, *, payment_status: str | None = None, because: str = "") -> None:
        """The order's next state, and its payment's."""
        order.status = status
        order.payment_status = payment_status or order.payment_status
        order.ended_because = because or order.ended_because
        self.changed_orders[order.id] = order

    def sell(self, order: Order, hold: Hold, seats: list[Seat], command_id: CommandId) -> list[IssuedTicket]:
        """The hold's seats are the buyer's, with a ticket each: they count on, their hold does not."""
        if order.user_id in self.hold_counts:
            self.hold_counts[order.user_id] -= 1
        issued = self._hand_over(order, hold, seats, command_id)
        self.sold_orders.append((order, seats))
        if not order.is_free:
            self.outgoing.captures_due.append(self.payment_due(order))
        self.outgoing.confirmed.append(
            OrderConfirmation(
                order_id=order.id,
                user_id=order.user_id,
                total=order.total,
                currency=order.currency,
                seats=tuple(ConfirmedSeat(section=s.section, row=s.row, seat=s.seat_number) for s in seats),
                ticket_ids=tuple(ticket.ticket_id for ticket in issued),
                timestamp=self.now,
                **self.origin(order)._asdict(),
            )
        )
        return issued

    def give(self, order: Order, hold: Hold, seats: Sequence[Seat], command_id: CommandId) -> list[IssuedTicket]:
        """Seats that are available or withheld are somebody's who has not asked for them: as if sold, for nothing, to the
        order of this hold, neither of which was there before."""
        self.holds[hold.id] = self.changed_holds[hold.id] = hold
        self.orders[order.id] = self.changed_orders[order.id] = order
        for seat in seats:
            self._take_from_expired_hold(seat, command_id)
            seat.hold_id = hold.id
            seat.fence += 1
        hold.fences = [seat.fence for seat in seats]
        if order.user_id in self.seat_counts:
            self.seat_counts[order.user_id] += len(seats)
        return self._hand_over(order, hold, seats, command_id)

    def _hand_over(self, order: Order, hold: Hold, seats: Sequence[Seat], command_id: CommandId) -> list[IssuedTicket]:
        order.completed_at = self.now
        issued = []
        for position, seat in enumerate(seats):
            seat.held_until, seat.order_id = None, order.id
            self._record(seat, "sold", command_id)
            ticket = self._issue(order, seat, hold.charge_of(position, seat))
            issued.append(IssuedTicket(ticket_id=ticket.id, seat=seat.as_sold_seat(ticket.price)))
        return issued

    def _issue(self, order: Order, seat: Seat, charge: Charge) -> Ticket:
        terms = self.terms
        fee, tax = fee_and_tax(charge.price, fee_rate=terms.fee_rate, tax_rate=terms.tax_rate, currency=terms.currency)
        ticket = Ticket(
            id=ticket_id_of(order.id, seat.id),
            order_id=order.id,
            seat_id=seat.id,
            user_id=order.user_id,
            bought_by=order.user_id,
            price=charge.price,
            fee=fee,
            tax=tax,
            reduction=charge.reduction,
            tier=charge.tier,
        )
        self.tickets[ticket.id] = ticket
        self.new_tickets.append(ticket)
        return ticket

    def tickets_of(self, order_id: OrderId) -> list[Ticket]:
        """The tickets of a sold order, the dead ones too."""
        return [ticket for ticket in self.tickets.values() if ticket.order_id == order_id]

    def end_ticket(self, ticket: Ticket, because: str) -> None:
        """Its code lets nobody in any more, and it counts against nobody's limit; its seat is another matter
        (`free_ticket_seats`)."""
        for user_id in {ticket.bought_by, ticket.user_id} & self.seat_counts.keys():
            self.seat_counts[user_id] -= 1
        ticket.status, ticket.ended_because = "void", because
        self.changed_tickets[ticket.id] = ticket

    def free_ticket_seats(self, tickets: Iterable[Ticket], command_id: CommandId) -> None:
        """The tickets' seats go back on sale. One that has been sold on meanwhile, or is not this order's, stays as it is."""
        for ticket in tickets:
            if not ticket.live:
                continue
            ticket.live = False
            self.changed_tickets[ticket.id] = ticket
            seat = self.seats.get(ticket.seat_id)
            if seat is not None and seat.order_id == ticket.order_id:
                self.free([seat], command_id)

    def unsell(self, order: Order, command_id: CommandId) -> None:
        """Take a sold order back: its tickets are dead, and the seats are on sale again."""
        self.unsold_orders.append(order)
        tickets = self.tickets_of(order.id)
        for ticket in tickets:
            if ticket.is_valid:
                self.end_ticket(ticket, "cancelled")
        self.free_ticket_seats(tickets, command_id)

    def sell_again(self, seat: Seat, *, hold_id: HoldId, order_id: OrderId, command_id: CommandId) -> None:
        """A free seat is once more the one of an order that has a ticket for it: it was offered to others, and nobody came."""
        seat.hold_id, seat.held_until, seat.order_id = hold_id, None, order_id
        seat.fence += 1
        self._record(seat, "sold", command_id)

    def stored_answer(self, order: Order) -> AnyReply:
        """The answer that was stored when the order was settled."""
        return ANY_REPLY.validate_json(order.answer or "")

    def answer_later(self, order: Order, reply: AnyReply) -> None:
        """Store the answer with the order, and tell whoever still waits for it."""
        self.store_answer(order, reply)
        self._reply_late(order, reply)

    def store_answer(self, order: Order, reply: AnyReply) -> None:
        """Keep the answer with the order, for whoever asks again."""
        order.answer = reply.model_dump_json(by_alias=True, exclude_none=True)
        self.changed_orders[order.id] = order

    def answer_again(self, order: Order | None) -> None:
        """The command was carried out before; whether its asker heard of it nobody knows, so tell them again."""
        if order is not None and order.answer is not None:
            self._reply_late(order, self.stored_answer(order))

    def _reply_late(self, order: Order, reply: AnyReply) -> None:
        if order.reply_to and order.correlation_id:
            late = LateReply(order.reply_to, order.correlation_id, CommandId(order.id), reply)
            self.late_replies.append(late)

    def remember(self, command: Command, reply: AnyReply) -> AnyReply:
        """Keep the answer of a command that leaves no hold or order, for when it is delivered again (in this batch, even)."""
        answer = StoredAnswer(command.command_id, command.request_hash, reply)
        self.answered[command.command_id] = answer
        self.new_answers.append(answer)
        return reply

    def seats_changed(self) -> Iterator[SeatsChanged]:
        """What each seat that was touched has become, once per seat, and the ledger's numbers for it.

        One message; of more changes than fit into one, the others follow as changes without numbers of their own.
        """
        repriced = self.repriced_seats
        touched = self.changed_seats | repriced if repriced else self.changed_seats
        changes = [
            SeatChange(s.id, s.seat_index, s.status, s.held_until, s.price if repriced and s.id in repriced else None)
            for s in touched.values()
        ]
        first_seq = self.ledger_seq + 1
        for start in range(0, len(changes), CHANGES_PER_MESSAGE_MAX):
            yield SeatsChanged.model_construct(
                event_id=self.terms.event_id,
                first_seq=first_seq,
                last_seq=self.last_seq,
                changes=tuple(changes[start : start + CHANGES_PER_MESSAGE_MAX]),
            )
            first_seq = self.last_seq + 1

    def _take_from_expired_hold(self, seat: Seat, command_id: CommandId) -> None:
        if seat.status == "held":
            self._record(seat, "available", command_id)

    def _record(self, seat: Seat, to_status: str, command_id: CommandId) -> None:
        self.ledger.append(LedgerEntry(seat.id, seat.status, to_status, seat.hold_id, seat.order_id, command_id))
        seat.status = to_status
        self.changed_seats[seat.id] = seat
        if to_status == "available":
            self.waiting.freed_ids.add(seat.id)
        else:
            self.waiting.freed_ids.discard(seat.id)


def ticket_id_of(order_id: OrderId, seat_id: SeatId) -> TicketId:
    """A seat's ticket in an order: always the same one, however often the sale is replayed."""
    return TicketId(uuid5(order_id, str(seat_id)))
