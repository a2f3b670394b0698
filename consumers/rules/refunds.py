"""May this order's money go back, and when do its seats?"""

from consumers.rules.sale import Sale
from contracts.commands import PaymentRefunded, RefundOrder
from contracts.replies import AnyReply


def decide_refund_order(sale: Sale, command: RefundOrder) -> AnyReply:
    """Start giving money back, once; the seats stay sold until the provider says it is done."""
    raise NotImplementedError


def decide_payment_refunded(sale: Sale, command: PaymentRefunded) -> AnyReply:
    """The money is back: the seats go on sale again."""
    raise NotImplementedError
