"""How does what became of sold orders become true? Refunds, transfers, resales, the books and the audit log, each in one
statement, in the transaction that holds the fence."""

from uuid import UUID

from consumers.rules.after_sale import Cancellation
from consumers.rules.sale import Sale
from db import after_sale as records
from db.postgres import Transaction, array_literal


async def save_after_sale(tx: Transaction, sale: Sale) -> None:
    """Write it; raises StaleWrite."""
    event_id = sale.terms.event_id
    await _save_refunds(tx, event_id, sale)
    await _save_transfers(tx, event_id, sale)
    await _save_resales(tx, event_id, sale)
    await records.insert_money(tx, event_id, at=sale.now, rows=[tuple(entry) for entry in sale.money])
    await records.insert_audits(tx, event_id, at=sale.now, rows=[tuple(entry) for entry in sale.audits])
    await _save_cancellation(tx, event_id, sale.changed_cancellation)


async def _save_refunds(tx: Transaction, event_id: UUID, sale: Sale) -> None:
    changed = sale.changed_refunds.values()
    await records.insert_refunds(
        tx,
        event_id,
        at=sale.now,
        rows=[
            (
                refund.id,
                refund.order_id,
                refund.kind,
                array_literal(refund.ticket_ids),
                refund.amount,
                refund.fee_kept,
                refund.currency,
                refund.status,
                refund.provider_key,
                refund.requested_by,
                refund.reason,
                refund.refunded_at,
            )
            for refund in changed
            if refund.is_new
        ],
    )
    await records.update_refunds(
        tx, event_id, [(refund.id, refund.status, refund.refunded_at) for refund in changed if not refund.is_new]
    )


async def _save_transfers(tx: Transaction, event_id: UUID, sale: Sale) -> None:
    changed = sale.changed_transfers.values()
    # What ends comes first: of each ticket one offer is open at a time.
    await records.update_transfers(
        tx, event_id, [(one.id, one.status, one.to_user_id, one.ended_at) for one in changed if not one.is_new]
    )
    await records.insert_transfers(
        tx,
        event_id,
        at=sale.now,
        rows=[
            (
                one.id,
                one.ticket_id,
                one.ticket_version,
                one.from_user_id,
                one.to_email,
                one.expires_at,
                one.status,
                one.to_user_id,
                one.ended_at,
            )
            for one in changed
            if one.is_new
        ],
    )


async def _save_resales(tx: Transaction, event_id: UUID, sale: Sale) -> None:
    changed = sale.changed_resales.values()
    await records.update_resales(
        tx,
        event_id,
        [(one.id, one.status, one.refund_id, one.ended_at, one.usual_price) for one in changed if not one.is_new],
    )
    await records.insert_resales(
        tx,
        event_id,
        at=sale.now,
        rows=[
            (
                one.id,
                one.ticket_id,
                one.order_id,
                one.seat_id,
                one.seller_id,
                one.price,
                one.usual_price,
                one.hold_id,
                one.status,
                one.refund_id,
                one.ended_at,
            )
            for one in changed
            if one.is_new
        ],
    )


async def _save_cancellation(tx: Transaction, event_id: UUID, cancellation: Cancellation | None) -> None:
    if cancellation is None:
        return
    if cancellation.is_new:
        await records.cancel_event(
            tx,
            event_id,
            at=cancellation.cancelled_at,
            cancelled_by=cancellation.cancelled_by,
            reason=cancellation.reason,
        )
    if cancellation.finished_at is not None:
        await records.finish_cancellation(tx, event_id, at=cancellation.finished_at)
