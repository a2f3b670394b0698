"""Which rule decides which command? The table of contents of what a sale can do."""

from collections.abc import Callable
from typing import Any

from consumers.rules.applied_codes import decide_apply_code
from consumers.rules.cancellations import decide_cancel_event, decide_refund_cancelled
from consumers.rules.checkouts import (
    decide_checkout,
    decide_payment_canceled,
    decide_payment_declined,
    decide_settle_payment,
    decide_void_payment,
)
from consumers.rules.house import (
    decide_change_prices,
    decide_give_seats,
    decide_return_seats,
    decide_withhold_seats,
)
from consumers.rules.refunds import decide_payment_refunded, decide_refund_order
from consumers.rules.resales import decide_expire_resales, decide_offer_resale, decide_withdraw_resale
from consumers.rules.reservations import (
    decide_expire_holds,
    decide_extend_hold,
    decide_release_seats,
    decide_reserve_seats,
)
from consumers.rules.sale import Sale
from consumers.rules.transfers import (
    decide_accept_transfer,
    decide_decline_transfer,
    decide_expire_transfers,
    decide_offer_transfer,
    decide_withdraw_transfer,
)
from consumers.rules.waiting_list import decide_join_waiting_list, decide_leave_waiting_list
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
    ExpireResales,
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
    ApplyCode: decide_apply_code,
    WithholdSeats: decide_withhold_seats,
    ReturnSeats: decide_return_seats,
    ChangePrices: decide_change_prices,
    GiveSeats: decide_give_seats,
    CancelEvent: decide_cancel_event,
    RefundCancelled: decide_refund_cancelled,
    OfferTransfer: decide_offer_transfer,
    AcceptTransfer: decide_accept_transfer,
    DeclineTransfer: decide_decline_transfer,
    WithdrawTransfer: decide_withdraw_transfer,
    ExpireTransfers: decide_expire_transfers,
    OfferResale: decide_offer_resale,
    WithdrawResale: decide_withdraw_resale,
    ExpireResales: decide_expire_resales,
    JoinWaitingList: decide_join_waiting_list,
    LeaveWaitingList: decide_leave_waiting_list,
}


def decide(sale: Sale, command: AnyCommand) -> AnyReply:
    """The answer to one command; one that was answered before gets that answer again."""
    before = sale.answered.get(command.command_id)
    if before is None:
        sale.deciding = command
        return HANDLERS[type(command)](sale, command)
    if before.request_hash != command.request_hash:
        return Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
    return before.reply
