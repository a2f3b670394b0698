"""Do holds, orders, tickets and our own payment records tell the same story as the seats?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from uuid import UUID

from consumers.proof.report import Check
from db.proof import Books, HoldRecord, OrderRecord, SeatRecord

# Orders whose seats are sold to them; and those that were once.
SELLING = frozenset({"completed", "refunding"})
SOLD_ONCE = SELLING | {"refunded"}
UNDECIDED = frozenset({"pending", "voiding"})
DEAD = frozenset({"declined", "cancelled"})

HOLDING = frozenset({"active", "paying"})
PAID = frozenset({"authorized", "captured"})


def find_sales_without_order(books: Books) -> Iterator[str]:
    """A sold seat is one live item of the one order it names, and the order is paid for; a live item is a sold seat, or one
    that its owner offers to others."""
    seats = {seat.id: seat for seat in books.seats}
    orders = {order.id: order for order in books.orders}
    offered = {(resale.order_id, resale.seat_id): resale.id for resale in books.resales if resale.status == "open"}
    items = Counter(item.seat_id for item in books.items if item.live)
    for seat in books.seats:
        if seat.status == "sold" and items[seat.id] != 1:
            yield f"seat {seat.seat_index} ({seat.id}) is sold and in {items[seat.id]} live items"
    for item in books.items:
        if item.live:
            seat_of_item, order = seats.get(item.seat_id), orders.get(item.order_id)
            yield from _contradictions_of(item.order_id, seat_of_item, order, offered)


def _contradictions_of(
    order_id: UUID, seat: SeatRecord | None, order: OrderRecord | None, offered: Mapping[tuple[UUID, UUID], UUID]
) -> Iterator[str]:
    if seat is None or order is None:
        yield f"order {order_id} has an item whose seat or order is not there"
        return
    is_its_own = seat.status == "sold" and seat.order_id == order_id
    is_offered = seat.resale_id is not None and offered.get((order_id, seat.id)) == seat.resale_id
    if not is_its_own and not is_offered:
        yield f"seat {seat.seat_index} ({seat.id}) belongs to order {order_id}, but is {seat.status} ({seat.order_id})"
    if order.status not in SELLING:
        yield f"order {order_id} has seat {seat.seat_index} ({seat.id}), but is {order.status}"


def find_wrong_totals(books: Books) -> Iterator[str]:
    """An order that was ever completed costs what its seats cost."""
    sums: dict[UUID, Decimal] = defaultdict(Decimal)
    for item in books.items:
        sums[item.order_id] += item.price
    for order in books.orders:
        if order.status in SOLD_ONCE and sums[order.id] != order.total_amount:
            yield f"order {order.id} is {order.total_amount} {order.currency}, its seats are {sums[order.id]}"


def find_ticket_differences(books: Books) -> Iterator[str]:
    """Every live item has one valid ticket, but for what is being refunded: that has none, though its seat is not free yet. No
    valid ticket is without its item."""
    live = {(item.order_id, item.seat_id): item for item in books.items if item.live}
    valid = Counter((ticket.order_id, ticket.seat_id) for ticket in books.tickets if ticket.status == "valid")
    for (order_id, seat_id), item in live.items():
        count = valid[(order_id, seat_id)]
        if count != (1 if item.refund_id is None else 0):
            yield f"seat {seat_id} of order {order_id} has {count} valid tickets"
    for order_id, seat_id in valid.keys() - live.keys():
        yield f"a valid ticket names seat {seat_id} of order {order_id}, which that order does not have"


def find_hold_differences(books: Books) -> Iterator[str]:
    """A held seat is in its hold, at the hold's fence; a hold that is alive has all its seats."""
    holds = {hold.id: hold for hold in books.holds}
    seats = {seat.id: seat for seat in books.seats}
    for seat in books.seats:
        if seat.status == "held" and not _holds_it(holds.get(seat.hold_id) if seat.hold_id else None, seat):
            yield f"seat {seat.seat_index} ({seat.id}) is held by {seat.hold_id}, which does not hold it"
    for hold in books.holds:
        if not _is_alive(hold, books):
            continue
        for seat_id in hold.seat_ids:
            if seat_id not in seats or seats[seat_id].hold_id != hold.id:
                yield f"hold {hold.id} is {hold.status}, but does not have its seat {seat_id}"


def _holds_it(hold: HoldRecord | None, seat: SeatRecord) -> bool:
    if hold is None or hold.status not in HOLDING or seat.id not in hold.seat_ids:
        return False
    return hold.fences[hold.seat_ids.index(seat.id)] == seat.fence


def _is_alive(hold: HoldRecord, books: Books) -> bool:
    # An active hold that is over may have lost its seats to somebody else before anybody marked it expired.
    return hold.status == "paying" or (hold.status == "active" and hold.held_until > books.read_at)


def find_resale_differences(books: Books) -> Iterator[str]:
    """A resale is open exactly while its seat is on sale, or in somebody's hands, in its name; sold, it has paid its seller."""
    seats = {seat.id: seat for seat in books.seats}
    live = {(item.order_id, item.seat_id) for item in books.items if item.live}
    resales = {resale.id: resale for resale in books.resales}
    for seat in books.seats:
        named = resales.get(seat.resale_id) if seat.resale_id is not None else None
        if seat.resale_id is not None and (named is None or named.status != "open" or named.seat_id != seat.id):
            yield f"seat {seat.seat_index} ({seat.id}) is sold on by resale {seat.resale_id}, which is not open for it"
    for resale in books.resales:
        seat_record = seats.get(resale.seat_id)
        if resale.status == "open" and (seat_record is None or seat_record.resale_id != resale.id):
            yield f"resale {resale.id} is open, but its seat {resale.seat_id} is not on sale by it"
        if resale.status == "open" and (resale.order_id, resale.seat_id) not in live:
            yield f"resale {resale.id} is open, but its seat {resale.seat_id} is not its seller's"
        if resale.status == "sold" and (resale.refund_kind, resale.refund_amount) != ("resale", resale.price):
            paid = f"{resale.refund_amount} by a refund of kind {resale.refund_kind}"
            yield f"resale {resale.id} was sold for {resale.price}, its seller is paid {paid}"


def find_holds_unlike_orders(books: Books) -> Iterator[str]:
    """A hold is converted when its order has sold its seats, paying while the order is undecided, and neither otherwise."""
    status = {hold.id: hold.status for hold in books.holds}
    completed = {order.hold_id for order in books.orders if order.status in SOLD_ONCE}
    undecided = {order.hold_id for order in books.orders if order.status in UNDECIDED}
    for hold in books.holds:
        if hold.status == "converted" and hold.id not in completed:
            yield f"hold {hold.id} is converted, but no order came of it"
        if hold.status == "paying" and hold.id not in undecided:
            yield f"hold {hold.id} is paying, but no order of it is undecided"
    for order in books.orders:
        expected = "converted" if order.status in SOLD_ONCE else "paying" if order.status in UNDECIDED else None
        if expected is not None and status.get(order.hold_id) != expected:
            yield f"order {order.id} is {order.status}, its hold {order.hold_id} is {status.get(order.hold_id)}"


def find_rival_orders(books: Books) -> Iterator[str]:
    """No hold has two orders that are alive."""
    alive = Counter(order.hold_id for order in books.orders if order.status not in DEAD)
    yield from (f"hold {hold_id} has {count} live orders" for hold_id, count in alive.items() if count > 1)


def find_unpaid_orders(books: Books) -> Iterator[str]:
    """A completed order is authorised or captured, over its own price; one that came to nothing is neither."""
    payments = {payment.order_id: payment for payment in books.payments}
    for order in books.orders:
        payment = payments.get(order.id)
        if payment is None:
            yield f"order {order.id} is {order.status} and has no payment"
            continue
        if order.status in SELLING and payment.status not in PAID:
            yield f"order {order.id} is {order.status}, its payment is {payment.status}"
        if order.status in DEAD and payment.status in PAID:
            yield f"order {order.id} is {order.status}, but its payment is {payment.status}"
        if (payment.amount, payment.currency) != (order.total_amount, order.currency):
            ours = f"{order.total_amount} {order.currency}"
            yield f"order {order.id} is {ours}, its payment is over {payment.amount} {payment.currency}"


def find_late_messages(books: Books) -> Iterator[str]:
    """Nothing waits for the relay for more than a minute."""
    if books.late_message_count:
        yield f"{books.late_message_count} messages wait in the outbox for more than a minute: is the relay running?"


SALES_CHECKS: tuple[Check[Books], ...] = (
    Check(
        "sold seats have their order",
        "A seat is sold exactly when it is one live item of one completed order, and not on offer to others.",
        "live items",
        lambda books: sum(item.live for item in books.items),
        find_sales_without_order,
    ),
    Check(
        "prices add up",
        "The seats of an order cost together what the order costs.",
        "orders",
        lambda books: sum(order.status in SOLD_ONCE for order in books.orders),
        find_wrong_totals,
    ),
    Check(
        "tickets match seats",
        "Every sold seat has one valid ticket unless it is being refunded, and every valid ticket its seat.",
        "tickets",
        lambda books: len(books.tickets),
        find_ticket_differences,
    ),
    Check(
        "resales agree with seats",
        "A seat is sold on by one open resale, and a seller whose seat was sold is paid what he asked.",
        "resales",
        lambda books: len(books.resales),
        find_resale_differences,
    ),
    Check(
        "holds agree with seats",
        "A held seat belongs to a live hold, and a live hold has all its seats.",
        "holds",
        lambda books: len(books.holds),
        find_hold_differences,
    ),
    Check(
        "holds agree with orders",
        "A hold is converted by a completed order, and paying for an undecided one.",
        "orders",
        lambda books: len(books.orders),
        find_holds_unlike_orders,
    ),
    Check(
        "one live order per hold",
        "No hold is being paid for twice.",
        "orders",
        lambda books: len(books.orders),
        find_rival_orders,
    ),
    Check(
        "orders paid once",
        "A completed order has its one payment, authorised or captured, over its price.",
        "payments",
        lambda books: len(books.payments),
        find_unpaid_orders,
    ),
    Check(
        "messages leave in time",
        "Nothing waits in the outbox for more than a minute (a warning).",
        "late messages",
        lambda books: books.late_message_count,
        find_late_messages,
        is_warning=True,
    ),
)
