"""How does what was decided become true?

One statement per kind of record, however many the batch changed, in the transaction that holds the fence; and the
messages others are owed, in that same transaction.
"""

from collections.abc import Iterable

from consumers.event_commands.save_after_sale import save_after_sale
from consumers.event_commands.waiting_list import save_waiting_list
from consumers.rules.after_sale import Ticket
from consumers.rules.sale import Hold, Order, Outgoing, Sale
from contracts.domain_events import (
    AnyDomainEvent,
    CapturesDue,
    HoldsArmed,
    NoticesDue,
    OrdersCancelled,
    OrdersConfirmed,
    PaymentsRequested,
    RefundsDue,
    VoidsDue,
)
from contracts.ids import EventId
from contracts.settings import Settings
from db import outbox, prices
from db import sale as records
from db.postgres import Transaction, array_literal


async def save_sale(tx: Transaction, sale: Sale, *, settings: Settings) -> None:
    """Write everything the batch changed. Raises StaleWrite, and PostgreSQL's own refusals (a seat sold twice violates an
    index) before anything is committed."""
    event_id = sale.terms.event_id
    await _save_holds(tx, event_id, sale)
    await _save_orders(tx, event_id, sale)
    await _end_tickets(tx, event_id, sale)
    await _save_seats(tx, event_id, sale)
    await _save_new_tickets(tx, event_id, sale)
    await save_after_sale(tx, sale)
    await save_waiting_list(tx, sale)
    if sale.prices_changed:
        await records.follow_prices(tx, event_id)
    await records.insert_answers(
        tx,
        event_id,
        at=sale.now,
        rows=[(a.command_id, a.request_hash, a.reply.model_dump_json(by_alias=True)) for a in sale.new_answers],
    )
    await _append_ledger(tx, event_id, sale)
    await outbox.record_messages(
        tx,
        [
            outbox.outbox_message(domain_event, hold_seconds=settings.hold_seconds)
            for domain_event in domain_events_of(event_id, sale.outgoing)
        ],
    )


def domain_events_of(event_id: EventId, outgoing: Outgoing) -> Iterable[AnyDomainEvent]:
    """One message per batch and kind."""
    if outgoing.armed:
        yield HoldsArmed.model_construct(event_id=event_id, holds=tuple(outgoing.armed))
    if outgoing.payments_requested:
        yield PaymentsRequested(event_id=event_id, payments=tuple(outgoing.payments_requested))
    if outgoing.captures_due:
        yield CapturesDue(event_id=event_id, payments=tuple(outgoing.captures_due))
    if outgoing.voids_due:
        yield VoidsDue(event_id=event_id, payments=tuple(outgoing.voids_due))
    if outgoing.refunds_due:
        yield RefundsDue(event_id=event_id, payments=tuple(outgoing.refunds_due))
    if outgoing.confirmed:
        yield OrdersConfirmed(event_id=event_id, orders=tuple(outgoing.confirmed))
    if outgoing.cancelled:
        yield OrdersCancelled(event_id=event_id, orders=tuple(outgoing.cancelled))
    if outgoing.notices:
        yield NoticesDue(event_id=event_id, notices=tuple(outgoing.notices))


async def _save_seats(tx: Transaction, event_id: EventId, sale: Sale) -> None:
    await records.save_seats(
        tx,
        event_id,
        [
            (s.id, s.status, s.hold_id, s.held_until, s.order_id, s.fence, s.fence_read, s.resale_id)
            for s in sale.changed_seats.values()
        ],
    )
    if sale.prices_changed:
        await records.keep_prices_of_holds(tx, event_id)
    await records.save_prices(tx, event_id, [(seat.id, seat.price) for seat in sale.repriced_seats.values()])


async def _save_holds(tx: Transaction, event_id: EventId, sale: Sale) -> None:
    new = [hold for hold in sale.changed_holds.values() if hold.is_new]
    changed = [hold for hold in sale.changed_holds.values() if not hold.is_new]
    await records.insert_holds(tx, event_id, at=sale.now, rows=[_hold_row(hold) for hold in new])
    await records.update_holds(tx, event_id, [(hold.id, hold.status, hold.held_until, hold.total) for hold in changed])
    repriced = [hold for hold in sale.repriced_holds.values() if not hold.is_new]
    await prices.reprice_holds(tx, event_id, [_repriced_hold_row(hold) for hold in repriced])


async def _save_orders(tx: Transaction, event_id: EventId, sale: Sale) -> None:
    new = [order for order in sale.changed_orders.values() if order.is_new]
    changed = [order for order in sale.changed_orders.values() if not order.is_new]
    await records.insert_orders(tx, event_id, at=sale.now, rows=[_new_order_row(order) for order in new])
    await records.update_orders(
        tx,
        event_id,
        [_changed_order_row(order) for order in changed],
    )


async def _end_tickets(tx: Transaction, event_id: EventId, sale: Sale) -> None:
    """Before anything is sold: a seat that changes hands in one batch is in one live item at a time."""
    new = {ticket.id for ticket in sale.new_tickets}
    changed = [ticket for ticket in sale.changed_tickets.values() if ticket.id not in new]
    await records.update_tickets(tx, event_id, [_changed_ticket_row(ticket) for ticket in changed])


async def _save_new_tickets(tx: Transaction, event_id: EventId, sale: Sale) -> None:
    await records.insert_tickets(
        tx, event_id, at=sale.now, rows=[_new_ticket_row(ticket) for ticket in sale.new_tickets]
    )
    changed = [ticket for ticket in sale.new_tickets if ticket.id in sale.changed_tickets]
    await records.update_tickets(tx, event_id, [_changed_ticket_row(ticket) for ticket in changed])


def _new_ticket_row(ticket: Ticket) -> tuple[object, ...]:
    return (
        ticket.id,
        ticket.order_id,
        ticket.seat_id,
        ticket.bought_by,
        ticket.price,
        ticket.fee,
        ticket.tax,
        ticket.reduction,
        ticket.tier,
    )


def _changed_ticket_row(ticket: Ticket) -> tuple[object, ...]:
    return (
        ticket.id,
        ticket.order_id,
        ticket.seat_id,
        ticket.user_id,
        ticket.version,
        ticket.status,
        ticket.ended_because,
        ticket.live,
        ticket.refund_id,
    )


async def _append_ledger(tx: Transaction, event_id: EventId, sale: Sale) -> None:
    await records.append_ledger(
        tx,
        event_id,
        last_seq=sale.ledger_seq,
        at=sale.now,
        rows=[
            (entry.seat_id, entry.from_status, entry.to_status, entry.hold_id, entry.order_id, entry.command_id)
            for entry in sale.ledger
        ],
    )


def _hold_row(hold: Hold) -> tuple[object, ...]:
    return (
        hold.id,
        hold.user_id,
        array_literal(hold.seat_ids),
        array_literal(hold.fences),
        hold.total,
        hold.status,
        hold.held_until,
        hold.reserved_until,
        hold.request_hash,
        None if hold.prices is None else array_literal(hold.prices),
        None if hold.tiers is None else _text_array_literal(hold.tiers),
        None if hold.reductions is None else array_literal(hold.reductions),
        hold.code_id,
        hold.waiting_id,
    )


def _repriced_hold_row(hold: Hold) -> tuple[object, ...]:
    return hold.id, array_literal(hold.prices or ()), array_literal(hold.reductions or ()), hold.code_id


def _new_order_row(order: Order) -> tuple[object, ...]:
    return (
        order.id,
        order.user_id,
        order.hold_id,
        order.status,
        order.total,
        order.currency,
        order.request_hash,
        order.reply_to,
        order.correlation_id,
        order.provider_key,
        order.payment_status,
        order.payment_method,
        order.kind,
        order.code_id,
        order.answer,
        order.completed_at,
    )


def _changed_order_row(order: Order) -> tuple[object, ...]:
    return (
        order.id,
        order.status,
        order.ended_because,
        order.answer,
        order.completed_at,
        order.reply_to,
        order.correlation_id,
        order.payment_status,
        order.intent_id,
    )


def _text_array_literal(values: Iterable[str]) -> str:
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"
