"""How does a test put a sale before a rule, without a database?"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4, uuid5

from consumers.event_commands.handlers import decide
from consumers.rules.sale import Hold, LedgerEntry, Order, Sale, SaleTerms, Seat
from contracts.commands import PaymentRefunded, RefundOrder, VoidPayment
from contracts.ids import EventId, HoldId, OrderId, RefundId, SeatId, UserId
from contracts.replies import Rejected
from tests.builders import a_command_id, a_user, check_out, reserve, settle

NOW = datetime(2031, 5, 1, 20, 0, tzinfo=UTC)
HOLD = timedelta(minutes=10)
CEILING = timedelta(minutes=20)
GRACE = timedelta(minutes=1)
PRICE = Decimal("45.00")


def a_sale(
    *,
    seats: int = 6,
    ticket_limit: int = 4,
    live_holds_max: int = 4,
    cancelled: bool = False,
    high_demand: bool = False,
    now: datetime = NOW,
) -> Sale:
    """A sale that opened an hour before NOW and closes a day after, with so many free seats at PRICE in one row."""
    event_id = EventId(uuid4())
    terms = SaleTerms(
        event_id=event_id,
        on_sale_at=NOW - timedelta(hours=1),
        off_sale_at=NOW + timedelta(days=1),
        cancelled=cancelled,
        high_demand=high_demand,
        ticket_limit=ticket_limit,
        live_holds_max=live_holds_max,
        currency="EUR",
        hold_duration=HOLD,
        hold_ceiling=CEILING,
        decline_grace=GRACE,
        event_at=NOW + timedelta(days=2),
    )
    row = [_free_seat(SeatId(uuid5(event_id, str(index))), index) for index in range(seats)]
    return Sale(terms=terms, now=now, ledger_seq=0, seats={seat.id: seat for seat in row})


def _free_seat(seat_id: SeatId, index: int) -> Seat:
    return Seat(
        id=seat_id,
        seat_index=index,
        section="Stalls",
        row="A",
        seat_number=str(index + 1),
        price=PRICE,
        status="available",
        hold_id=None,
        held_until=None,
        order_id=None,
        fence=0,
        fence_read=0,
    )


def seat_ids_of(sale: Sale, *indexes: int) -> list[SeatId]:
    """The seats at these places of the row."""
    in_order = list(sale.seats)
    return [in_order[index] for index in indexes]


def statuses_of(sale: Sale) -> list[str]:
    """What each seat is, in the order of the row."""
    return [seat.status for seat in sale.seats.values()]


def a_hold(sale: Sale, user_id: UserId | None = None, *indexes: int) -> Hold:
    """Seats held for somebody, the first two unless it is said otherwise."""
    command = reserve(sale.terms.event_id, user_id or a_user(), seat_ids_of(sale, *(indexes or (0, 1))))
    reply = decide(sale, command)
    assert not isinstance(reply, Rejected), reply
    return sale.holds[HoldId(command.command_id)]


def a_pending_order(sale: Sale, user_id: UserId | None = None, *indexes: int, **fields: Any) -> Order:
    """A hold that is being paid, and whose asker waits at `tk.reply.test`."""
    hold = a_hold(sale, user_id, *indexes)
    command = check_out(sale.terms.event_id, hold.user_id, hold.id, **fields)
    sale.askers = {**sale.askers, command.command_id: "tk.reply.test"}
    decide(sale, command)
    return sale.orders[OrderId(command.command_id)]


def a_completed_order(sale: Sale, user_id: UserId | None = None, *indexes: int) -> Order:
    """An order whose seats are sold."""
    order = a_pending_order(sale, user_id, *indexes)
    decide(sale, settle(sale.terms.event_id, order.id))
    assert order.status == "completed"
    return order


def the_time_is(sale: Sale, now: datetime) -> None:
    """As if the sale had been loaded at this time."""
    sale.now = now


def is_saved_and_loaded(sale: Sale) -> None:
    """As between two batches: what was to be written is written, the counts are taken afresh."""
    for changes in (
        sale.changed_seats,
        sale.changed_holds,
        sale.changed_orders,
        sale.changed_tickets,
        sale.changed_refunds,
        sale.changed_transfers,
        sale.changed_resales,
        sale.repriced_seats,
        sale.repriced_holds,
    ):
        changes.clear()
    for written in (
        sale.sold_orders,
        sale.unsold_orders,
        sale.new_answers,
        sale.late_replies,
        sale.new_tickets,
        sale.money,
        sale.audits,
    ):
        written.clear()
    sale.changed_cancellation = None
    sale.outgoing = type(sale.outgoing)()
    sale.prices_changed = False
    sale.ledger_seq += len(sale.ledger)
    sale.ledger.clear()
    for seat in sale.seats.values():
        seat.fence_read = seat.fence
    users = {hold.user_id for hold in sale.holds.values()}
    sale.seat_counts = {user_id: seat_count(sale, user_id) for user_id in users}
    sale.hold_counts = {user_id: len(live_holds(sale, user_id)) for user_id in users}


def live_holds(sale: Sale, user_id: UserId) -> list[Hold]:
    """The holds of this user that may still become tickets, as `count_seats_of_users` counts them."""
    of_user = (hold for hold in sale.holds.values() if hold.user_id == user_id)
    return [hold for hold in of_user if hold.status == "paying" or hold.is_active(sale.now)]


def seat_count(sale: Sale, user_id: UserId) -> int:
    """Seats this user holds, has bought or was given, as `count_seats_of_users` counts them."""
    held = sum(len(hold.seat_ids) for hold in live_holds(sale, user_id))
    valid = [ticket for ticket in sale.tickets.values() if ticket.is_valid]
    return held + sum(user_id in (ticket.bought_by, ticket.user_id) for ticket in valid)


def replayed(ledger: Sequence[LedgerEntry], seat_ids: Sequence[SeatId]) -> dict[SeatId, str]:
    """What the ledger makes of an empty house; AssertionError where an entry does not begin where the last one ended."""
    statuses = dict.fromkeys(seat_ids, "available")
    for entry in ledger:
        assert statuses[entry.seat_id] == entry.from_status, entry
        statuses[entry.seat_id] = entry.to_status
    return statuses


def void_payment(event_id: EventId, order_id: UUID, reason: str = "nobody can finish it") -> VoidPayment:
    """The payment must come to nothing."""
    return VoidPayment(command_id=a_command_id(), event_id=event_id, order_id=OrderId(order_id), reason=reason)


def refund(event_id: EventId, order_id: UUID, **fields: Any) -> RefundOrder:
    """An organiser gives the money of the whole order back, unless it is said otherwise."""
    defaults = {"command_id": a_command_id(), "user_id": a_user(), "as_organiser": True}
    return RefundOrder(event_id=event_id, order_id=OrderId(order_id), **{**defaults, **fields})


def payment_refunded(event_id: EventId, order_id: UUID, refund_id: UUID) -> PaymentRefunded:
    """The provider has given it back."""
    return PaymentRefunded(
        command_id=a_command_id(), event_id=event_id, order_id=OrderId(order_id), refund_id=RefundId(refund_id)
    )
