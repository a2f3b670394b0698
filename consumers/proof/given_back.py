"""What was given back: is every refund one of tickets that were paid for, once, and do the money ledger and a cancellation tell
the same?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from consumers.proof.report import Check
from consumers.proof.sales import SOLD_ONCE, UNDECIDED
from db.proof import Books, ItemRecord, OrderRecord, RefundRecord, TicketRecord

# A transaction's time is its beginning, and the one that had the fence first may have begun a moment after the other.
SIMULTANEOUS = timedelta(minutes=1)


def find_double_refunds(books: Books) -> Iterator[str]:
    """No ticket is in two refunds, and no order gives back more than it cost."""
    named = Counter(ticket_id for refund in books.refunds for ticket_id in refund.ticket_ids)
    yield from (f"ticket {ticket_id} is in {count} refunds" for ticket_id, count in named.items() if count > 1)
    sums: dict[UUID, Decimal] = defaultdict(Decimal)
    for refund in books.refunds:
        sums[refund.order_id] += refund.amount
    for order in books.orders:
        if sums[order.id] > order.total_amount:
            yield f"order {order.id} cost {order.total_amount}, and {sums[order.id]} of it goes back"


def find_refunds_unlike_items(books: Books) -> Iterator[str]:
    """A refund and its tickets name each other, the amounts are what was paid, and what is back is sold no longer."""
    tickets = {ticket.id: ticket for ticket in books.tickets}
    items = {(item.order_id, item.seat_id): item for item in books.items}
    refunds = {refund.id: refund for refund in books.refunds}
    for refund in books.refunds:
        yield from _contradictions_of(refund, tickets, items)
    for item in books.items:
        if item.refund_id is not None and item.refund_id not in refunds:
            yield f"seat {item.seat_id} of order {item.order_id} is given back by {item.refund_id}, which is not there"


def _contradictions_of(
    refund: RefundRecord, tickets: Mapping[UUID, TicketRecord], items: Mapping[tuple[UUID, UUID], ItemRecord]
) -> Iterator[str]:
    paid = Decimal(0)
    for ticket_id in refund.ticket_ids:
        ticket = tickets.get(ticket_id)
        item = items.get((ticket.order_id, ticket.seat_id)) if ticket is not None else None
        if ticket is None or item is None or item.order_id != refund.order_id:
            yield f"refund {refund.id} names ticket {ticket_id}, which is not one of order {refund.order_id}"
            continue
        paid += item.price
        if item.refund_id != refund.id:
            yield f"refund {refund.id} names ticket {ticket_id}, whose item names {item.refund_id}"
        if ticket.status == "valid":
            yield f"ticket {ticket_id} is valid, although refund {refund.id} gives it back"
        if refund.status == "refunded" and item.live:
            yield f"seat {item.seat_id} is still sold to order {item.order_id}, although refund {refund.id} is done"
    given = refund.amount + refund.fee_kept
    if given > paid or (given != paid and refund.kind != "resale"):
        yield f"refund {refund.id} gives back {refund.amount} and keeps {refund.fee_kept}, of {paid} that was paid"


def find_wrong_order_states(books: Books) -> Iterator[str]:
    """An order is completed while a ticket of it is not refunded, refunding while money of it is on its way, and then
    refunded."""
    status = {refund.id: refund.status for refund in books.refunds}
    of_order: dict[UUID, set[str]] = defaultdict(set)
    for item in books.items:
        of_order[item.order_id].add(status.get(item.refund_id, "unknown") if item.refund_id else "kept")
    for order in books.orders:
        if order.status not in SOLD_ONCE:
            continue
        states = of_order[order.id]
        expected = "completed" if "kept" in states else "refunding" if states != {"refunded"} else "refunded"
        if order.status != expected:
            yield f"order {order.id} is {order.status}, by its refunds it must be {expected}"


def find_money_ledger_differences(books: Books) -> Iterator[str]:
    """To the cent and per account, each order's entries are what its items cost, less what is back, plus what was kept."""
    posted: dict[UUID, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    currencies = {order.id: order.currency for order in books.orders}
    for entry in books.money:
        posted[entry.order_id][entry.debit] += entry.amount
        posted[entry.order_id][entry.credit] -= entry.amount
        if currencies.get(entry.order_id) != entry.currency:
            yield f"{entry.amount} {entry.currency} is posted for order {entry.order_id}, which is not in that currency"
    expected = _expected_balances(books)
    for order_id in {*posted, *expected}:
        if sum(posted[order_id].values()) != 0:
            yield f"the entries of order {order_id} do not sum to zero"
        for account in ACCOUNTS:
            is_posted, must_be = posted[order_id][account], expected[order_id][account]
            if is_posted != must_be:
                yield f"account {account} has {is_posted} of order {order_id}, by its items and refunds it must be {must_be}"


ACCOUNTS = ("provider", "tickets", "fees", "tax", "refund_fees")


def _expected_balances(books: Books) -> dict[UUID, dict[str, Decimal]]:
    sold = {order.id for order in books.orders if order.status in SOLD_ONCE}
    done = {refund.id: refund for refund in books.refunds if refund.status == "refunded"}
    balances: dict[UUID, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for item in books.items:
        if item.order_id not in sold:
            continue
        account = balances[item.order_id]
        account["provider"] += item.price
        if item.refund_id in done:
            # What is back is taken off below; until then all of it was kept.
            account["refund_fees"] -= item.price
        else:
            account["tickets"] -= item.price - item.fee - item.tax
            account["fees"] -= item.fee
            account["tax"] -= item.tax
    for refund in done.values():
        if refund.order_id in sold:
            balances[refund.order_id]["provider"] -= refund.amount
            balances[refund.order_id]["refund_fees"] += refund.amount
    return balances


def find_unfinished_business(books: Books) -> Iterator[str]:
    """Of a cancelled event nothing is sold any more, and when its cancellation is finished no order is left."""
    cancellation = books.cancellation
    if cancellation is None:
        return
    if books.event_status != "cancelled" or not books.is_fenced_off:
        yield f"the event was cancelled at {cancellation.cancelled_at}, but is {books.event_status}"
    for order in books.orders:
        if order.completed_at is not None and order.completed_at > cancellation.cancelled_at + SIMULTANEOUS:
            yield f"order {order.id} was completed at {order.completed_at}, after the event was cancelled"
        if cancellation.finished_at is not None and _is_left(order):
            yield f"order {order.id} is {order.status}, although the cancellation is finished"


def _is_left(order: OrderRecord) -> bool:
    return order.status in UNDECIDED or order.status in ("completed", "refunding")


GIVEN_BACK_CHECKS: tuple[Check[Books], ...] = (
    Check(
        "nothing refunded twice",
        "No ticket is in two refunds, and no order gives back more than it cost.",
        "refunds",
        lambda books: len(books.refunds),
        find_double_refunds,
    ),
    Check(
        "refunds agree with items",
        "A refund gives back what its tickets cost, less what is kept, and they are void.",
        "refunds",
        lambda books: len(books.refunds),
        find_refunds_unlike_items,
    ),
    Check(
        "orders agree with refunds",
        "An order is refunded when every ticket of it is, and not before.",
        "orders",
        lambda books: sum(order.status in SOLD_ONCE for order in books.orders),
        find_wrong_order_states,
    ),
    Check(
        "money ledger balances",
        "The double-entry ledger sums to zero, and to the cent has what orders and refunds say.",
        "entries",
        lambda books: len(books.money),
        find_money_ledger_differences,
    ),
    Check(
        "cancelled means refunded",
        "Nothing is sold after a cancellation, and no order is left when it is finished.",
        "orders",
        lambda books: len(books.orders) if books.cancellation is not None else 0,
        find_unfinished_business,
    ),
)
