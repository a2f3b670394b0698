"""What must be known to cancel an event, and to give everybody their money back?

Nothing of any other batch: who asks about this is an organiser, once, and the courier of a cancellation, once a second.
"""

from collections.abc import Sequence
from uuid import UUID

from consumers.rules.after_sale import Cancellation
from consumers.rules.sale import Sale
from contracts.commands import REFUNDED_AT_ONCE_MAX, AnyCommand, CancelEvent, RefundCancelled
from contracts.ids import OrderId
from db import after_sale as records
from db.postgres import Transaction

# A provider that is well gives money back within seconds. What takes longer is waited for by the reconciler, not by the others.
PATIENCE_SECONDS = 120.0


async def find_orders_to_refund(tx: Transaction, event_id: UUID, commands: Sequence[AnyCommand]) -> set[UUID]:
    """As many orders as one command refunds; to be loaded like those that commands name."""
    if not any(isinstance(command, RefundCancelled) for command in commands):
        return set()
    return await records.find_orders_to_refund(
        tx, event_id, at_once_max=REFUNDED_AT_ONCE_MAX, patience_seconds=PATIENCE_SECONDS
    )


async def load_cancellation(
    tx: Transaction, sale: Sale, commands: Sequence[AnyCommand], orders_to_refund: set[UUID]
) -> None:
    """Add it to the sale."""
    if not any(isinstance(command, CancelEvent | RefundCancelled) for command in commands):
        return
    event_id = sale.terms.event_id
    record = await records.find_cancellation(tx, event_id)
    sale.cancellation = Cancellation(**dict(record)) if record is not None else None
    sale.orders_to_refund = [OrderId(order_id) for order_id in sorted(orders_to_refund)]
    sale.orders_to_refund_count, sale.orders_under_way_count = await records.count_orders_to_end(tx, event_id)
