"""May this order's money go back, and when do its seats?"""

from consumers.rules.sale import Sale
from contracts.commands import PaymentRefunded, RefundOrder
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, Rejected


def decide_refund_order(sale: Sale, command: RefundOrder) -> AnyReply:
    """Start giving the whole order's money back, once; the seats stay sold until the provider says it is done."""
    order = sale.orders.get(command.order_id)
    if order is None:
        return Rejected(code=RejectionCode.ORDER_UNKNOWN)
    if order.status in ("refunding", "refunded"):
        return Done(changed=False)
    if order.status != "completed":
        return Rejected(code=RejectionCode.ORDER_NOT_REFUNDABLE, order_id=order.id)
    if command.ticket_ids:
        return Rejected(code=RejectionCode.NOT_OFFERED, detail="single tickets cannot be refunded yet")
    sale.mark_order(order, "refunding")
    sale.outgoing.refunds_due.append(order.payment_due())
    return sale.remember(command, Done())


def decide_payment_refunded(sale: Sale, command: PaymentRefunded) -> AnyReply:
    """The money is back: the tickets die and the seats go on sale again, in this one transaction."""
    order = sale.orders.get(command.order_id)
    if order is None or order.status != "refunding":
        return Done(changed=False)
    sale.unsell(order, sale.holds[order.hold_id], command.command_id)
    sale.mark_order(order, "refunded", payment_status="refunded")
    return Done()
