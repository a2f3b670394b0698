"""Which rule decides which command? The table of contents of what a sale can do."""

from collections.abc import Callable
from typing import Any

from consumers.rules.checkouts import (
    decide_checkout,
    decide_payment_canceled,
    decide_payment_declined,
    decide_settle_payment,
    decide_void_payment,
)
from consumers.rules.refunds import decide_payment_refunded, decide_refund_order
from consumers.rules.reservations import (
    decide_expire_holds,
    decide_extend_hold,
    decide_release_seats,
    decide_reserve_seats,
)
from consumers.rules.sale import Sale
from contracts.commands import (
    AcceptTransfer,
    AnyCommand,
    ApplyCode,
    CancelEvent,
    ChangePrices,
    Checkout,
    Command,
    DeclineTransfer,
    ExpireHolds,
    ExpireTransfers,
    ExtendHold,
    GiveSeats,
    JoinWaitingList,
    LeaveWaitingList,
    OfferResale,
    OfferTransfer,
    PaymentCanceled,
    PaymentDeclined,
    PaymentRefunded,
    RefundCancelled,
    RefundOrder,
    ReleaseSeats,
    ReserveSeats,
    ReturnSeats,
    SettlePayment,
    VoidPayment,
    WithdrawResale,
    WithdrawTransfer,
    WithholdSeats,
)
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Rejected


def decide_not_offered(_sale: Sale, _command: Command) -> AnyReply:
    """The message is understood and refused: there is no rule for it yet."""
    return Rejected(code=RejectionCode.NOT_OFFERED)


Rule = Callable[[Sale, Any], AnyReply]

HANDLERS: dict[type[Command], Rule] = {
    ReserveSeats: decide_reserve_seats,
    ReleaseSeats: decide_release_seats,
    ExtendHold: decide_extend_hold,
    ExpireHolds: decide_expire_holds,
    Checkout: decide_checkout,
    SettlePayment: decide_settle_payment,
    PaymentDeclined: decide_payment_declined,
    PaymentCanceled: decide_payment_canceled,
    VoidPayment: decide_void_payment,
    RefundOrder: decide_refund_order,
    PaymentRefunded: decide_payment_refunded,
    ApplyCode: decide_not_offered,
    WithholdSeats: decide_not_offered,
    ReturnSeats: decide_not_offered,
    ChangePrices: decide_not_offered,
    GiveSeats: decide_not_offered,
    CancelEvent: decide_not_offered,
    RefundCancelled: decide_not_offered,
    OfferTransfer: decide_not_offered,
    AcceptTransfer: decide_not_offered,
    DeclineTransfer: decide_not_offered,
    WithdrawTransfer: decide_not_offered,
    ExpireTransfers: decide_not_offered,
    OfferResale: decide_not_offered,
    WithdrawResale: decide_not_offered,
    JoinWaitingList: decide_not_offered,
    LeaveWaitingList: decide_not_offered,
}


def decide(sale: Sale, command: AnyCommand) -> AnyReply:
    """The answer to one command; one that was answered before gets that answer again."""
    before = sale.answered.get(command.command_id)
    if before is None:
        return HANDLERS[type(command)](sale, command)
    if before.request_hash != command.request_hash:
        return Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
    return before.reply
