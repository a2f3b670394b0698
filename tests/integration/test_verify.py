"""Does `boxoffice verify` see every kind of difference, and none where there is none?

Each check has at least one planted difference here: a check that could not fail would prove nothing.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import typer
from typer.testing import CliRunner

from contracts.ids import EventId, VenueId
from contracts.settings import Settings
from db.events import create_event, list_seats
from db.postgres import Pool, open_pool, transaction
from db.proof import Books, ResaleRecord, UnknownEvent, read_books
from db.venues import create_venue
from ops.payment_simulator.log_reader import MoneyLog, read_money_log
from ops.verify import CHECK_NAMES, CLEAN, COULD_NOT_CHECK, DIFFERENT, examine, verify, verify_all, verify_event

PRICE = Decimal("40.00")
PRICE_MINOR = 4000
FEE, TAX = Decimal("2.00"), Decimal("3.00")
KEPT, KEPT_MINOR = Decimal("4.00"), 400
NOTHING = Decimal("0.00")
LONG_AGO = timedelta(hours=1)


@dataclass(frozen=True)
class WrittenSale:
    """A small sale written with plain SQL, one order in each state; what happened is in the order of the ledger."""

    event_id: EventId
    seats: list[UUID]
    completed_hold: UUID = field(default_factory=uuid4)
    completed_order: UUID = field(default_factory=uuid4)
    active_hold: UUID = field(default_factory=uuid4)
    paying_hold: UUID = field(default_factory=uuid4)
    pending_order: UUID = field(default_factory=uuid4)
    refunded_hold: UUID = field(default_factory=uuid4)
    refunded_order: UUID = field(default_factory=uuid4)
    declined_hold: UUID = field(default_factory=uuid4)
    declined_order: UUID = field(default_factory=uuid4)
    overdue_hold: UUID = field(default_factory=uuid4)
    given_hold: UUID = field(default_factory=uuid4)
    given_order: UUID = field(default_factory=uuid4)
    partial_hold: UUID = field(default_factory=uuid4)
    partial_order: UUID = field(default_factory=uuid4)
    refunding_hold: UUID = field(default_factory=uuid4)
    refunding_order: UUID = field(default_factory=uuid4)
    reselling_hold: UUID = field(default_factory=uuid4)
    reselling_order: UUID = field(default_factory=uuid4)
    resale: UUID = field(default_factory=uuid4)

    @property
    def sold(self) -> list["WrittenOrder"]:
        """The orders that were ever sold, with the seats of each."""
        seats = self.seats
        return [
            WrittenOrder(self.completed_order, self.completed_hold, "completed", "captured", seats[0:2]),
            WrittenOrder(self.refunded_order, self.refunded_hold, "refunded", "refunded", seats[5:6], seats[5:6]),
            WrittenOrder(self.given_order, self.given_hold, "completed", "captured", seats[9:10], price=NOTHING),
            WrittenOrder(
                self.partial_order, self.partial_hold, "completed", "captured", seats[12:14], seats[12:13], kept=KEPT
            ),
            WrittenOrder(
                self.refunding_order, self.refunding_hold, "refunding", "captured", seats[14:15], seats[14:15]
            ),
            WrittenOrder(self.reselling_order, self.reselling_hold, "completed", "captured", seats[15:16]),
        ]

    def intents(self) -> list[dict[str, Any]]:
        """The provider's log of this sale."""
        completed, refunded = str(self.completed_order), str(self.refunded_order)
        return [
            an_intent(completed, amount=2 * PRICE_MINOR, status="requires_capture", authorized=2 * PRICE_MINOR),
            an_intent(
                completed,
                amount=2 * PRICE_MINOR,
                status="succeeded",
                authorized=2 * PRICE_MINOR,
                captured=2 * PRICE_MINOR,
            ),
            an_intent(str(self.pending_order), status="requires_capture", authorized=PRICE_MINOR),
            an_intent(refunded, status="succeeded", authorized=PRICE_MINOR, captured=PRICE_MINOR),
            an_intent(refunded, status="succeeded", authorized=PRICE_MINOR, captured=PRICE_MINOR, refunded=PRICE_MINOR),
            an_intent(str(self.declined_order), status="requires_payment_method"),
            *self._of_refunds(),
        ]

    def _of_refunds(self) -> list[dict[str, Any]]:
        double = 2 * PRICE_MINOR
        partial = {"status": "succeeded", "amount": double, "authorized": double, "captured": double}
        taken = {"status": "succeeded", "authorized": PRICE_MINOR, "captured": PRICE_MINOR}
        return [
            an_intent(str(self.partial_order), **partial),
            an_intent(str(self.partial_order), **partial, refunded=PRICE_MINOR - KEPT_MINOR),
            an_intent(str(self.refunding_order), **taken),
            an_intent(str(self.reselling_order), **taken),
        ]


@dataclass(frozen=True)
class WrittenOrder:
    """An order that was sold, and those of its seats that were given back."""

    id: UUID
    hold_id: UUID
    status: str
    payment: str
    seats: list[UUID]
    given_back: list[UUID] = field(default_factory=list)
    price: Decimal = Decimal("40.00")
    kept: Decimal = Decimal("0.00")

    @property
    def refund_status(self) -> str:
        return "requested" if self.status == "refunding" else "refunded"


def an_intent(
    order_id: str,
    *,
    amount: int = PRICE_MINOR,
    status: str,
    authorized: int = 0,
    captured: int = 0,
    refunded: int = 0,
    currency: str = "eur",
    intent_id: str = "",
) -> dict[str, Any]:
    return {
        "id": intent_id or f"pi_{order_id}",
        "metadata": {"order_id": order_id},
        "amount": amount,
        "currency": currency,
        "status": status,
        "amount_authorized": authorized,
        "amount_received": captured,
        "amount_refunded": refunded,
    }


async def write_sale(pool: Pool) -> WrittenSale:
    now = datetime.now(UTC)
    config = {"sections": [{"name": "Stalls", "rows": 3, "seatsPerRow": 6, "price": str(PRICE)}]}
    async with transaction(pool) as tx:
        venue_id = await create_venue(tx, venue_id=VenueId(uuid4()), name="The Old Mill", section_config=config)
        event_id = await create_event(
            tx,
            event_id=EventId(uuid4()),
            venue_id=venue_id,
            name="A written sale",
            event_date=now + timedelta(days=9),
            on_sale_date=now - LONG_AGO,
        )
        sale = WrittenSale(event_id=event_id, seats=[seat.id for seat in await list_seats(tx, event_id)])
        await _write_holds(tx, sale, now)
        await _write_orders(tx, sale, now)
        for order in sale.sold:
            await _write_sold_order(tx, sale, order, now)
            await _write_refund(tx, sale, order, now)
            await _write_money(tx, sale, order, now)
        await _write_resale(tx, sale, now)
        await _write_seats_and_ledger(tx, sale, now)
    return sale


async def _write_holds(tx: Any, sale: WrittenSale, now: datetime) -> None:
    soon, past = now + timedelta(minutes=8), now - timedelta(minutes=8)
    seats = sale.seats
    for hold_id, seat_ids, status, held_until in (
        *((order.hold_id, order.seats, "converted", past) for order in sale.sold),
        (sale.active_hold, seats[2:4], "active", soon),
        (sale.paying_hold, seats[4:5], "paying", past),
        (sale.declined_hold, seats[6:7], "active", soon),
        (sale.overdue_hold, seats[7:8], "active", past),
    ):
        await tx.execute(
            "INSERT INTO holds (event_id, id, user_id, seat_ids, fences, total, status, held_until, reserved_until, created_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
            *(sale.event_id, hold_id, uuid4(), seat_ids, [1] * len(seat_ids), PRICE * len(seat_ids)),
            *(status, held_until, now - LONG_AGO),
        )


async def _write_orders(tx: Any, sale: WrittenSale, now: datetime) -> None:
    """Those that came to nothing, or not yet to anything."""
    for order_id, hold_id, status, paid in (
        (sale.pending_order, sale.paying_hold, "pending", "created"),
        (sale.declined_order, sale.declined_hold, "declined", "declined"),
    ):
        await _write_order(tx, sale, order_id, hold_id, status, paid, total=PRICE, now=now)


async def _write_order(
    tx: Any, sale: WrittenSale, order_id: UUID, hold_id: UUID, status: str, paid: str, *, total: Decimal, now: datetime
) -> None:
    completed_at = now if status in ("completed", "refunding", "refunded") else None
    await tx.execute(
        "INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, created_at, completed_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, 'EUR', $7, $8)",
        *(sale.event_id, order_id, uuid4(), hold_id, status, total, now, completed_at),
    )
    await tx.execute(
        "INSERT INTO payments (event_id, order_id, provider_key, intent_id, status, amount, currency, payment_method,"
        " touched_at) VALUES ($1, $2, $3, $4, $5, $6, 'EUR', 'pm_card_visa', $7)",
        *(sale.event_id, order_id, str(order_id), f"pi_{order_id}" if total else None, paid, total, now - LONG_AGO),
    )


async def _write_sold_order(tx: Any, sale: WrittenSale, order: WrittenOrder, now: datetime) -> None:
    total = order.price * len(order.seats)
    await _write_order(tx, sale, order.id, order.hold_id, order.status, order.payment, total=total, now=now)
    for seat_id in order.seats:
        is_back = seat_id in order.given_back
        await tx.execute(
            "INSERT INTO order_items (event_id, order_id, seat_id, price, fee, tax, live, refund_id)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *(sale.event_id, order.id, seat_id, order.price),
            *(min(FEE, order.price), min(TAX, order.price)),
            *(not is_back or order.refund_status == "requested", order.id if is_back else None),
        )
        await tx.execute(
            "INSERT INTO tickets (event_id, id, order_id, seat_id, user_id, bought_by, status, ended_because, created_at)"
            " VALUES ($1, $2, $3, $2, $4, $4, $5, $6, $7)",
            *(sale.event_id, seat_id, order.id, uuid4()),
            *("void" if is_back else "valid", "refunded" if is_back else "", now),
        )


async def _write_refund(tx: Any, sale: WrittenSale, order: WrittenOrder, now: datetime) -> None:
    """Of the order's id, and a ticket has its seat's."""
    if not order.given_back:
        return
    amount = order.price * len(order.given_back) - order.kept
    await tx.execute(
        "INSERT INTO refunds (event_id, id, order_id, kind, ticket_ids, amount, fee_kept, currency, status, provider_key,"
        " requested_by, created_at, refunded_at) VALUES ($1, $2, $2, 'buyer', $3, $4, $5, 'EUR', $6, $7, $8, $9, $10)",
        *(sale.event_id, order.id, order.given_back, amount, order.kept, order.refund_status, f"refund:{order.id}"),
        *(uuid4(), now, now if order.refund_status == "refunded" else None),
    )


async def _write_money(tx: Any, sale: WrittenSale, order: WrittenOrder, now: datetime) -> None:
    if not order.price:
        return
    parts = (("tickets", order.price - FEE - TAX), ("fees", FEE), ("tax", TAX))
    entries = [("provider", account, amount) for _ in order.seats for account, amount in parts]
    if order.refund_status == "refunded":
        entries += [(account, "provider", amount) for _ in order.given_back for account, amount in parts]
        entries += [("provider", "refund_fees", order.kept)] if order.kept else []
    for debit, credit, amount in entries:
        await tx.execute(
            "INSERT INTO money_ledger (event_id, order_id, debit, credit, amount, currency, command_id, at)"
            " VALUES ($1, $2, $3, $4, $5, 'EUR', $6, $7)",
            *(sale.event_id, order.id, debit, credit, amount, uuid4(), now),
        )


async def _write_resale(tx: Any, sale: WrittenSale, now: datetime) -> None:
    seat_id = sale.seats[15]
    await tx.execute(
        "INSERT INTO resales (event_id, id, ticket_id, order_id, seat_id, seller_id, price, usual_price, hold_id, created_at)"
        " VALUES ($1, $2, $3, $4, $3, $5, $6, $6, $7, $8)",
        *(sale.event_id, sale.resale, seat_id, sale.reselling_order, uuid4(), PRICE, sale.reselling_hold, now),
    )


async def _write_seats_and_ledger(tx: Any, sale: WrittenSale, now: datetime) -> None:
    seats = sale.seats
    held = [
        *((seat_id, sale.completed_hold) for seat_id in seats[0:2]),
        *((seat_id, sale.active_hold) for seat_id in seats[2:4]),
        *((seats[4], sale.paying_hold), (seats[5], sale.refunded_hold)),
        *((seats[6], sale.declined_hold), (seats[7], sale.overdue_hold)),
    ]
    entries = [
        *((seat_id, "available", "held", hold_id, None) for seat_id, hold_id in held),
        *((seat_id, "held", "sold", sale.completed_hold, sale.completed_order) for seat_id in seats[0:2]),
        (seats[5], "held", "sold", sale.refunded_hold, sale.refunded_order),
        (seats[5], "sold", "available", None, None),
        (seats[8], "available", "withheld", None, None),
        (seats[9], "available", "sold", sale.given_hold, sale.given_order),
        *_sold(sale.partial_hold, sale.partial_order, seats[12:14]),
        (seats[12], "sold", "available", None, None),
        *_sold(sale.refunding_hold, sale.refunding_order, seats[14:15]),
        *_sold(sale.reselling_hold, sale.reselling_order, seats[15:16]),
        (seats[15], "sold", "available", None, None),
    ]
    for seq, (seat_id, from_status, to_status, hold_id, order_id) in enumerate(entries, start=1):
        await tx.execute(
            "INSERT INTO seat_ledger (event_id, seq, seat_id, from_status, to_status, hold_id, order_id, command_id, at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *(sale.event_id, seq, seat_id, from_status, to_status, hold_id, order_id, uuid4(), now),
        )
        held_until = now + timedelta(minutes=8) if to_status == "held" else None
        await tx.execute(
            "UPDATE seats SET status = $3, hold_id = $4, order_id = $5, held_until = $6, fence = fence + $7"
            " WHERE event_id = $1 AND id = $2",
            *(
                sale.event_id,
                seat_id,
                to_status,
                hold_id,
                order_id,
                held_until,
                int(to_status in ("held", "available")),
            ),
        )
    await tx.execute("UPDATE seats SET resale_id = $2 WHERE id = $1", seats[15], sale.resale)
    await tx.execute("UPDATE event_inventory SET ledger_seq = $2 WHERE event_id = $1", sale.event_id, len(entries))


def _sold(hold_id: UUID, order_id: UUID, seats: list[UUID]) -> list[tuple[UUID, str, str, UUID, UUID | None]]:
    """The entries of seats that were held and sold."""
    steps = (("available", "held", None), ("held", "sold", order_id))
    return [(seat_id, before, after, hold_id, order) for before, after, order in steps for seat_id in seats]


def write_log(folder: Path, intents: list[dict[str, Any]]) -> Path:
    path = folder / f"{uuid4()}.log"
    path.write_text(
        "".join(json.dumps({"at": 1.0, "operation": "test", "intent": intent}) + "\n" for intent in intents)
    )
    return path


@pytest.fixture
async def sale(pool: Pool) -> WrittenSale:
    return await write_sale(pool)


@dataclass(frozen=True)
class Plant:
    """A difference, and the check that has to find it: as SQL ($1 is the event), in the books as read, or in the log."""

    check: str
    what: str
    sql: str = ""
    in_books: Callable[[Books, WrittenSale], Books] | None = None
    in_log: Callable[[WrittenSale], list[dict[str, Any]]] | None = None

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


def a_resale(sale: WrittenSale, status: str) -> ResaleRecord:
    """One of a seat that the completed order has."""
    return ResaleRecord(uuid4(), sale.completed_order, sale.seats[0], status, Decimal(30), None, None)


def _pending_captured(sale: WrittenSale) -> list[dict[str, Any]]:
    captured = an_intent(str(sale.pending_order), status="succeeded", authorized=PRICE_MINOR, captured=PRICE_MINOR)
    return [*sale.intents(), captured]


def _second_intent(sale: WrittenSale) -> list[dict[str, Any]]:
    double = 2 * PRICE_MINOR
    again = an_intent(
        str(sale.completed_order),
        amount=double,
        status="succeeded",
        authorized=double,
        captured=double,
        intent_id=f"pi_again_{sale.completed_order}",
    )
    return [*sale.intents(), again]


def _stranger(**terms: Any) -> Callable[[WrittenSale], list[dict[str, Any]]]:
    return lambda sale: [*sale.intents(), an_intent(str(uuid4()), **terms)]


def _of_order(name: str, **terms: Any) -> Callable[[WrittenSale], list[dict[str, Any]]]:
    return lambda sale: [*sale.intents(), an_intent(str(getattr(sale, name)), **terms)]


# As an organiser's command would write it.
_CANCELLED = (
    "WITH cancelled AS (UPDATE events SET status = 'cancelled' WHERE id = $1 RETURNING id),"
    " fenced AS (UPDATE event_inventory SET cancelled_at = now() WHERE event_id = $1 RETURNING event_id)"
    " INSERT INTO cancellations (event_id, cancelled_by, cancelled_at, finished_at)"
    " SELECT id, gen_random_uuid(), now(), {finished_at} FROM cancelled, fenced"
)

PLANTS = (
    Plant("ledger without gaps", "an entry is gone", sql="DELETE FROM seat_ledger WHERE event_id = $1 AND seq = 3"),
    Plant("ledger without gaps", "the first is gone", sql="DELETE FROM seat_ledger WHERE event_id = $1 AND seq = 1"),
    Plant("ledger without gaps", "the last is gone", sql="DELETE FROM seat_ledger WHERE event_id = $1 AND seq = 24"),
    Plant(
        "ledger without gaps",
        "more entries than numbers given out",
        sql="UPDATE event_inventory SET ledger_seq = 5 WHERE event_id = $1",
    ),
    Plant(
        "ledger in one piece",
        "an entry begins elsewhere",
        sql="UPDATE seat_ledger SET from_status = 'withheld' WHERE event_id = $1 AND seq = 9",
    ),
    Plant(
        "ledger equals seats",
        "a seat was freed by hand",
        sql="UPDATE seats SET status = 'available', hold_id = NULL, held_until = NULL WHERE event_id = $1 AND seat_index = 2",
    ),
    Plant(
        "ledger equals seats",
        "a seat went to another hold",
        sql="UPDATE seats SET hold_id = gen_random_uuid() WHERE event_id = $1 AND seat_index = 2",
    ),
    Plant(
        "ledger equals seats",
        "a seat was sold to another order",
        sql="UPDATE seats SET order_id = gen_random_uuid() WHERE event_id = $1 AND seat_index = 0",
    ),
    Plant(
        "ledger equals seats",
        "an entry for a seat that is not there",
        sql="UPDATE seat_ledger SET seat_id = gen_random_uuid() WHERE event_id = $1 AND seq = 13",
    ),
    Plant(
        "every seat accounted for",
        "a seat is gone",
        sql="DELETE FROM seats WHERE event_id = $1 AND seat_index = 11",
    ),
    Plant(
        "every seat accounted for",
        "the capacity grew",
        sql="UPDATE event_inventory SET capacity = capacity + 1 WHERE event_id = $1",
    ),
    Plant(
        "every seat accounted for",
        "a place on the map is empty",
        sql="UPDATE seats SET seat_index = 99 WHERE event_id = $1 AND seat_index = 10",
    ),
    Plant(
        "every seat accounted for",
        "a seat changed its status",
        sql="UPDATE seats SET status = 'withheld' WHERE event_id = $1 AND seat_index = 10",
    ),
    Plant(
        "no seat sold twice",
        "the ledger sells a sold seat",
        sql="UPDATE seat_ledger SET seat_id = (SELECT id FROM seats WHERE event_id = $1 AND seat_index = 0)"
        " WHERE event_id = $1 AND seq = 11",
    ),
    Plant(
        "no seat sold twice",
        "a seat is in two live orders",
        # The schema refuses this one (a_seat_is_sold_once), so it can only be planted in what was read.
        in_books=lambda books, sale: replace(
            books, items=[item._replace(live=True, seat_id=sale.seats[0]) for item in books.items]
        ),
    ),
    Plant(
        "sold seats have their order",
        "a sold seat without a live item",
        sql="UPDATE order_items SET live = false"
        " WHERE event_id = $1 AND seat_id = (SELECT id FROM seats WHERE event_id = $1 AND seat_index = 0)",
    ),
    Plant(
        "sold seats have their order",
        "a live item of a seat that is for sale",
        sql="UPDATE order_items SET live = true WHERE event_id = $1",
    ),
    Plant(
        "sold seats have their order",
        "a live item of an order that is not completed",
        sql="UPDATE orders SET status = 'cancelled' WHERE event_id = $1 AND status = 'completed'",
    ),
    Plant(
        "resales agree with seats",
        "a seat is sold on by nobody",
        sql="UPDATE seats SET resale_id = gen_random_uuid() WHERE event_id = $1 AND seat_index = 10",
    ),
    Plant(
        "resales agree with seats",
        "a resale is open, and its seat is not on sale",
        in_books=lambda books, sale: replace(books, resales=[a_resale(sale, "open")]),
    ),
    Plant(
        "resales agree with seats",
        "a seller whose seat was sold is not paid",
        in_books=lambda books, sale: replace(books, resales=[a_resale(sale, "sold")]),
    ),
    Plant(
        "prices add up",
        "a seat got cheaper",
        sql="UPDATE order_items SET price = price - 1 WHERE event_id = $1 AND live AND price > 0",
    ),
    Plant(
        "tickets match seats",
        "a ticket is gone",
        sql="DELETE FROM tickets WHERE event_id = $1 AND seat_id = (SELECT id FROM seats WHERE event_id = $1 AND seat_index = 0)",
    ),
    Plant(
        "tickets match seats",
        "a second ticket for a seat",
        sql="INSERT INTO tickets (event_id, id, order_id, seat_id, user_id, bought_by, created_at)"
        " SELECT event_id, gen_random_uuid(), order_id, seat_id, user_id, user_id, created_at FROM tickets"
        " WHERE event_id = $1",
    ),
    Plant(
        "tickets match seats",
        "a ticket of a refunded order still opens the door",
        sql="UPDATE tickets SET status = 'valid', ended_because = '' WHERE event_id = $1",
    ),
    Plant(
        "holds agree with seats",
        "a held seat's hold is released",
        sql="UPDATE holds SET status = 'released' WHERE event_id = $1 AND status = 'active'",
    ),
    Plant(
        "holds agree with seats",
        "a hold does not know its seat",
        sql="UPDATE holds SET seat_ids = ARRAY[gen_random_uuid()], fences = ARRAY[1] WHERE event_id = $1 AND status = 'paying'",
    ),
    Plant(
        "holds agree with seats",
        "a seat has another fence than its hold",
        sql="UPDATE seats SET fence = fence + 1 WHERE event_id = $1 AND seat_index = 2",
    ),
    Plant(
        "holds agree with seats",
        "a hold that is alive lost a seat",
        sql="UPDATE seats SET status = 'available', hold_id = NULL, held_until = NULL WHERE event_id = $1 AND seat_index = 4",
    ),
    Plant(
        "holds agree with orders",
        "a converted hold without an order",
        sql="UPDATE holds SET status = 'converted' WHERE event_id = $1 AND status = 'active'",
    ),
    Plant(
        "holds agree with orders",
        "a completed order whose hold is still active",
        sql="UPDATE holds SET status = 'active' WHERE event_id = $1 AND status = 'converted'",
    ),
    Plant(
        "holds agree with orders",
        "a hold is paying for nothing",
        sql="UPDATE orders SET status = 'declined' WHERE event_id = $1 AND status = 'pending'",
    ),
    Plant(
        "one live order per hold",
        "two orders stand on one hold",
        # The schema refuses this one too (one_live_order_per_hold).
        in_books=lambda books, sale: replace(
            books, orders=[order._replace(hold_id=sale.completed_hold) for order in books.orders]
        ),
    ),
    Plant(
        "orders paid once",
        "a completed order was declined",
        sql="UPDATE payments SET status = 'declined' WHERE event_id = $1 AND status = 'captured'",
    ),
    Plant(
        "orders paid once", "no payment at all", sql="DELETE FROM payments WHERE event_id = $1 AND status = 'captured'"
    ),
    Plant(
        "orders paid once",
        "a payment over another amount",
        sql="UPDATE payments SET amount = amount + 1 WHERE event_id = $1 AND status = 'captured'",
    ),
    Plant(
        "orders paid once",
        "a declined order was paid",
        sql="UPDATE payments SET status = 'captured' WHERE event_id = $1 AND status = 'declined'",
    ),
    Plant(
        "messages leave in time",
        "the relay is not running",
        in_books=lambda books, _sale: replace(books, late_message_count=3),
    ),
    Plant(
        "tickets match seats",
        "a ticket that is being refunded still opens the door",
        sql="UPDATE tickets SET status = 'valid', ended_because = '' FROM orders"
        " WHERE tickets.event_id = $1 AND orders.id = order_id AND orders.status = 'refunding'",
    ),
    Plant(
        "nothing refunded twice",
        "a ticket is in two refunds",
        in_books=lambda books, _sale: replace(books, refunds=[*books.refunds, books.refunds[0]]),
    ),
    Plant(
        "nothing refunded twice",
        "more goes back than was paid",
        sql="UPDATE refunds SET amount = amount + 1 WHERE event_id = $1 AND fee_kept = 0",
    ),
    Plant(
        "refunds agree with items",
        "a refund without its item's word",
        sql="UPDATE order_items SET refund_id = NULL WHERE event_id = $1 AND refund_id IS NOT NULL",
    ),
    Plant(
        "refunds agree with items",
        "an item without its refund",
        sql="DELETE FROM refunds WHERE event_id = $1 AND status = 'requested'",
    ),
    Plant(
        "refunds agree with items",
        "a cent is missing",
        sql="UPDATE refunds SET amount = amount - 0.01 WHERE event_id = $1",
    ),
    Plant(
        "refunds agree with items",
        "a ticket of another order",
        in_books=lambda books, sale: replace(
            books, refunds=[refund._replace(order_id=sale.completed_order) for refund in books.refunds]
        ),
    ),
    Plant(
        "refunds agree with items",
        "the seat of what is back is still sold",
        sql="UPDATE refunds SET status = 'refunded', refunded_at = now() WHERE event_id = $1 AND status = 'requested'",
    ),
    Plant(
        "orders agree with refunds",
        "an order is refunded, and a ticket of it is not",
        sql="UPDATE orders SET status = 'refunded' WHERE event_id = $1 AND status = 'completed'",
    ),
    Plant(
        "orders agree with refunds",
        "an order is done while its money is on its way",
        sql="UPDATE orders SET status = 'refunded' WHERE event_id = $1 AND status = 'refunding'",
    ),
    Plant(
        "money ledger balances",
        "a cent too little is posted",
        sql="UPDATE money_ledger SET amount = amount - 0.01 WHERE event_id = $1 AND credit = 'tax'",
    ),
    Plant(
        "money ledger balances",
        "the fee is posted as the ticket's price",
        sql="UPDATE money_ledger SET credit = 'tickets' WHERE event_id = $1 AND credit = 'fees'",
    ),
    Plant(
        "money ledger balances",
        "what is back was not posted",
        sql="DELETE FROM money_ledger WHERE event_id = $1 AND credit = 'provider'",
    ),
    Plant(
        "money ledger balances",
        "what is not back yet was",
        sql="UPDATE refunds SET status = 'requested', refunded_at = NULL WHERE event_id = $1",
    ),
    Plant(
        "money ledger balances",
        "something is posted for an order that came to nothing",
        sql="UPDATE money_ledger SET order_id = (SELECT id FROM orders WHERE event_id = $1 AND status = 'declined')"
        " WHERE event_id = $1",
    ),
    Plant(
        "cancelled means refunded",
        "it is finished, and orders are left",
        sql=_CANCELLED.format(finished_at="now()"),
    ),
    Plant(
        "cancelled means refunded",
        "it is cancelled, and the event goes on",
        sql="INSERT INTO cancellations (event_id, cancelled_by, cancelled_at) VALUES ($1, gen_random_uuid(), now())",
    ),
    Plant(
        "cancelled means refunded",
        "something was sold after it",
        sql=_CANCELLED.format(finished_at="NULL").replace("now(), NULL", "now() - interval '1 hour', NULL"),
    ),
    Plant(
        "orders paid at the provider",
        "what costs nothing was charged",
        in_log=_of_order("given_order", status="requires_payment_method"),
    ),
    Plant(
        "refunds agree",
        "a part was given back twice",
        in_log=_of_order(
            "partial_order",
            amount=2 * PRICE_MINOR,
            status="succeeded",
            authorized=2 * PRICE_MINOR,
            captured=2 * PRICE_MINOR,
            refunded=2 * (PRICE_MINOR - KEPT_MINOR),
        ),
    ),
    Plant("captured money has its order", "captured before the order was completed", in_log=_pending_captured),
    Plant(
        "captured money has its order",
        "captured for an order we do not know",
        in_log=_stranger(status="succeeded", authorized=PRICE_MINOR, captured=PRICE_MINOR),
    ),
    Plant(
        "captured money has its order",
        "captured for a declined order",
        in_log=_of_order("declined_order", status="succeeded", authorized=PRICE_MINOR, captured=PRICE_MINOR),
    ),
    Plant(
        "captured money has its order",
        "captured in two goes",
        in_log=_of_order(
            "completed_order", amount=2 * PRICE_MINOR, status="succeeded", authorized=0, captured=2 * PRICE_MINOR + 1
        ),
    ),
    Plant("orders paid at the provider", "paid twice, by two intents", in_log=_second_intent),
    Plant("orders paid at the provider", "never heard of", in_log=lambda sale: sale.intents()[2:]),
    Plant(
        "orders paid at the provider",
        "the authorisation was let go of long ago",
        in_log=lambda sale: [
            *sale.intents()[2:],
            an_intent(str(sale.completed_order), amount=2 * PRICE_MINOR, status="canceled", authorized=2 * PRICE_MINOR),
        ],
    ),
    Plant(
        "orders paid at the provider",
        "captured too little",
        in_log=lambda sale: [
            *sale.intents()[2:],
            an_intent(
                str(sale.completed_order),
                amount=2 * PRICE_MINOR,
                status="succeeded",
                authorized=2 * PRICE_MINOR,
                captured=PRICE_MINOR,
            ),
        ],
    ),
    Plant(
        "amounts agree",
        "an intent over another amount",
        in_log=_of_order("pending_order", amount=1, status="requires_capture", authorized=1, intent_id="pi_other"),
    ),
    Plant(
        "amounts agree",
        "an intent in another currency",
        in_log=_of_order("pending_order", status="requires_confirmation", currency="usd", intent_id="pi_dollars"),
    ),
    Plant(
        "no money left aside",
        "set aside for a declined order",
        in_log=_of_order("declined_order", status="requires_capture", authorized=PRICE_MINOR),
    ),
    Plant(
        "no money left aside",
        "set aside for an order we do not know",
        in_log=_stranger(status="requires_capture", authorized=PRICE_MINOR),
    ),
    Plant("refunds agree", "refunded by us, kept by the provider", in_log=lambda sale: sale.intents()[:4]),
    Plant(
        "refunds agree",
        "given back although the order stands",
        in_log=_of_order(
            "completed_order",
            amount=2 * PRICE_MINOR,
            status="succeeded",
            authorized=2 * PRICE_MINOR,
            captured=2 * PRICE_MINOR,
            refunded=PRICE_MINOR,
        ),
    ),
    Plant(
        "payments equal the provider's",
        "an intent the provider does not know",
        sql="UPDATE payments SET intent_id = 'pi_' || gen_random_uuid() WHERE event_id = $1 AND status = 'declined'",
    ),
    Plant(
        "payments equal the provider's",
        "captured, we say; not so, says the provider",
        sql="UPDATE payments SET status = 'captured' WHERE event_id = $1 AND status = 'created'",
    ),
)


def test_no_check_is_without_a_planted_difference() -> None:
    assert {plant.check for plant in PLANTS} == set(CHECK_NAMES)


@pytest.mark.parametrize("plant", PLANTS, ids=str)
async def test_a_planted_difference_is_found(plant: Plant, pool: Pool, sale: WrittenSale, tmp_path: Path) -> None:
    if plant.sql:
        assert not (await pool.execute(plant.sql, sale.event_id)).endswith(" 0"), "the plant changed nothing"
    books = await read_books(pool, sale.event_id)
    planted = plant.in_books(books, sale) if plant.in_books else books
    log = read_money_log(write_log(tmp_path, plant.in_log(sale) if plant.in_log else sale.intents()))

    report = examine(planted, log, log)

    assert report.result(plant.check).differences
    assert report.is_clean == report.result(plant.check).is_warning


async def test_a_sale_with_nothing_wrong_has_no_differences(pool: Pool, sale: WrittenSale, tmp_path: Path) -> None:
    report = await verify_event(pool, sale.event_id, write_log(tmp_path, sale.intents()))

    assert [difference for result in report.results for difference in result.differences] == []
    assert report.is_clean
    assert report.is_money_compared
    assert report.pending_count == 1
    assert {result.name for result in report.results} == set(CHECK_NAMES)
    assert report.result("ledger equals seats").looked_at == 18


async def test_without_a_log_the_money_is_said_not_to_be_compared(pool: Pool, sale: WrittenSale) -> None:
    report = await verify_event(pool, sale.event_id, None)

    assert report.is_clean
    assert not report.is_money_compared
    assert "amounts agree" not in {result.name for result in report.results}


async def test_an_unknown_event_cannot_be_checked(pool: Pool) -> None:
    with pytest.raises(UnknownEvent):
        await verify_event(pool, EventId(uuid4()), None)


async def test_all_events_are_told_apart_by_the_providers_log(pool: Pool, tmp_path: Path) -> None:
    one, other = await write_sale(pool), await write_sale(pool)
    log = write_log(tmp_path, [*one.intents(), *other.intents()])

    assert (await verify_event(pool, one.event_id, log)).is_clean
    assert (await verify_event(pool, other.event_id, log)).is_clean


async def test_the_report_of_all_events_contains_each(pool: Pool, sale: WrittenSale) -> None:
    await pool.execute(
        "UPDATE order_items SET price = price - 1 WHERE event_id = $1 AND live AND price > 0", sale.event_id
    )

    report = await verify_all(pool, None)

    assert any(str(sale.completed_order) in difference for difference in report.result("prices add up").differences)


class TestTheSaleGoesOnWhileItIsVerified:
    """The log is read before and after the snapshot, and what happens in between is no difference."""

    async def test_a_capture_after_the_snapshot(self, pool: Pool, sale: WrittenSale, tmp_path: Path) -> None:
        before = read_money_log(write_log(tmp_path, sale.intents()))
        after = read_money_log(write_log(tmp_path, _pending_captured(sale)))

        assert examine(await read_books(pool, sale.event_id), before, after).is_clean

    async def test_an_order_made_and_paid_after_the_snapshot(
        self, pool: Pool, sale: WrittenSale, tmp_path: Path
    ) -> None:
        before = read_money_log(write_log(tmp_path, sale.intents()))
        bought = _stranger(status="succeeded", authorized=PRICE_MINOR, captured=PRICE_MINOR)(sale)
        after = read_money_log(write_log(tmp_path, bought))

        assert examine(await read_books(pool, sale.event_id), before, after).is_clean

    async def test_an_order_authorised_and_completed_before_the_snapshot_but_after_the_first_reading(
        self, pool: Pool, sale: WrittenSale, tmp_path: Path
    ) -> None:
        after = read_money_log(write_log(tmp_path, sale.intents()))

        assert examine(await read_books(pool, sale.event_id), MoneyLog({}), after).is_clean

    async def test_an_authorisation_being_let_go_of(self, pool: Pool, sale: WrittenSale, tmp_path: Path) -> None:
        await pool.execute("UPDATE payments SET touched_at = now() WHERE event_id = $1", sale.event_id)
        await pool.execute(
            "UPDATE payments SET status = 'authorized' WHERE event_id = $1 AND status = 'captured'", sale.event_id
        )
        gone = an_intent(
            str(sale.completed_order), amount=2 * PRICE_MINOR, status="canceled", authorized=2 * PRICE_MINOR
        )
        log = read_money_log(write_log(tmp_path, [*sale.intents()[2:], gone]))

        assert examine(await read_books(pool, sale.event_id), log, log).is_clean


class TestTheCommand:
    """What `boxoffice verify` prints, and its exit code."""

    def test_it_is_clean(self, settings: Settings, tmp_path: Path) -> None:
        sale = asyncio.run(_sale_of_its_own(settings, ""))
        shown = _run(settings, "--event", str(sale.event_id), "--money-log", str(write_log(tmp_path, sale.intents())))

        assert shown.exit_code == CLEAN
        assert "no differences" in shown.output

    def test_it_shows_the_differences(self, settings: Settings, tmp_path: Path) -> None:
        sale = asyncio.run(_sale_of_its_own(settings, "DELETE FROM seat_ledger WHERE event_id = $1 AND seq = 3"))
        shown = _run(settings, "--event", str(sale.event_id), "--money-log", str(write_log(tmp_path, sale.intents())))

        assert shown.exit_code == DIFFERENT
        assert "ledger without gaps: entry 3 is missing" in shown.output

    def test_it_says_when_it_cannot_check(self, settings: Settings, tmp_path: Path) -> None:
        assert _run(settings, "--event", str(uuid4())).exit_code == COULD_NOT_CHECK
        assert _run(settings, "--money-log", str(tmp_path / "none")).exit_code == COULD_NOT_CHECK
        nowhere = settings.model_copy(update={"postgres_url": "postgresql://nobody@127.0.0.1:1/none"})
        assert _run(nowhere).exit_code == COULD_NOT_CHECK


async def _sale_of_its_own(settings: Settings, damage: str) -> WrittenSale:
    async with await open_pool(settings, application_name="test", size=1) as pool:
        sale = await write_sale(pool)
        if damage:
            await pool.execute(damage, sale.event_id)
        return sale


def _run(settings: Settings, *words: str) -> Any:
    app = typer.Typer()
    app.command()(verify)
    return CliRunner().invoke(app, list(words), env={"BOXOFFICE_POSTGRES_URL": settings.postgres_url, "COLUMNS": "200"})
