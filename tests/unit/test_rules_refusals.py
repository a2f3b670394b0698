"""Can every "no" that a rule knows be reached, and is there none that this table does not know?"""

import ast
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from consumers.event_commands import handlers
from consumers.event_commands.handlers import HANDLERS, decide, decide_not_offered
from contracts.commands import AnyCommand, CancelEvent, TransferTicket
from contracts.ids import SeatId, TicketId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Rejected
from tests.builders import (
    a_command_id,
    a_user,
    cancel_payment,
    check_out,
    decline,
    extend,
    release,
    reserve,
    reserve_best,
    settle,
)
from tests.sale_on_paper import (
    CEILING,
    a_completed_order,
    a_hold,
    a_pending_order,
    a_sale,
    refund,
    seat_ids_of,
    the_time_is,
)

REPOSITORY = Path(__file__).parents[2]


def _too_early() -> AnyReply:
    sale = a_sale()
    the_time_is(sale, sale.terms.on_sale_at - timedelta(seconds=1))
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))


def _too_late() -> AnyReply:
    sale = a_sale()
    the_time_is(sale, sale.terms.off_sale_at)
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))


def _cancelled() -> AnyReply:
    sale = a_sale(cancelled=True)
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))


def _not_let_in() -> AnyReply:
    sale, user = a_sale(high_demand=True), a_user()
    sale.admitted = {user: False}
    return decide(sale, reserve(sale.terms.event_id, user, seat_ids_of(sale, 0)))


def _room_away() -> AnyReply:
    sale = a_sale(high_demand=True)
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))


def _no_such_seat() -> AnyReply:
    sale = a_sale()
    return decide(sale, reserve(sale.terms.event_id, a_user(), [SeatId(uuid4())]))


def _taken() -> AnyReply:
    sale = a_sale()
    a_hold(sale, None, 0)
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))


def _full() -> AnyReply:
    sale = a_sale()
    return decide(sale, reserve_best(sale.terms.event_id, a_user(), 2))


def _one_too_many() -> AnyReply:
    sale, user = a_sale(ticket_limit=1), a_user()
    return decide(sale, reserve(sale.terms.event_id, user, seat_ids_of(sale, 0, 1)))


def _one_hold_too_many() -> AnyReply:
    sale, user = a_sale(live_holds_max=1), a_user()
    a_hold(sale, user, 0)
    return decide(sale, reserve(sale.terms.event_id, user, seat_ids_of(sale, 1)))


def _no_such_hold() -> AnyReply:
    sale = a_sale()
    return decide(sale, release(sale.terms.event_id, a_user(), a_command_id()))


def _hold_run_out() -> AnyReply:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    the_time_is(sale, hold.held_until)
    return decide(sale, extend(sale.terms.event_id, user, hold.id))


def _hold_given_back() -> AnyReply:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    decide(sale, release(sale.terms.event_id, user, hold.id))
    return decide(sale, check_out(sale.terms.event_id, user, hold.id))


def _hold_in_payment() -> AnyReply:
    sale = a_sale()
    order = a_pending_order(sale)
    return decide(sale, release(sale.terms.event_id, order.user_id, order.hold_id))


def _hold_paid() -> AnyReply:
    sale = a_sale()
    order = a_completed_order(sale)
    return decide(sale, extend(sale.terms.event_id, order.user_id, order.hold_id))


def _no_more_time() -> AnyReply:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    hold.held_until = hold.created_at + CEILING
    return decide(sale, extend(sale.terms.event_id, user, hold.id))


def _card_refused() -> AnyReply:
    sale = a_sale()
    order = a_pending_order(sale)
    decide(sale, decline(sale.terms.event_id, order.id))
    return sale.late_replies[0].reply


def _provider_away() -> AnyReply:
    sale = a_sale()
    order = a_pending_order(sale)
    away = {"decline_code": RejectionCode.PAYMENT_UNAVAILABLE.value}
    decide(sale, decline(sale.terms.event_id, order.id).model_copy(update=away))
    return sale.late_replies[0].reply


def _order_died() -> AnyReply:
    sale = a_sale()
    order = a_pending_order(sale)
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    return decide(sale, check_out(sale.terms.event_id, order.user_id, order.hold_id, command_id=order.id))


def _no_such_order() -> AnyReply:
    sale = a_sale()
    return decide(sale, refund(sale.terms.event_id, a_command_id()))


def _order_not_paid() -> AnyReply:
    sale = a_sale()
    return decide(sale, refund(sale.terms.event_id, a_pending_order(sale).id))


def _still_being_paid() -> AnyReply:
    sale = a_sale()
    order = a_pending_order(sale)
    return decide(sale, check_out(sale.terms.event_id, order.user_id, order.hold_id))


def _key_used() -> AnyReply:
    sale = a_sale()
    command = reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0))
    decide(sale, command)
    return decide(sale, command.model_copy(update={"request_hash": "another body"}))


def _not_offered() -> AnyReply:
    sale = a_sale()
    order = a_completed_order(sale)
    return decide(sale, refund(sale.terms.event_id, order.id, ticket_ids=(TicketId(a_command_id()),)))


REFUSALS: dict[RejectionCode, Callable[[], AnyReply]] = {
    RejectionCode.SALE_NOT_OPEN: _too_early,
    RejectionCode.SALE_CLOSED: _too_late,
    RejectionCode.EVENT_CANCELLED: _cancelled,
    RejectionCode.NOT_ADMITTED: _not_let_in,
    RejectionCode.ADMISSION_UNKNOWN: _room_away,
    RejectionCode.SEATS_UNKNOWN: _no_such_seat,
    RejectionCode.SEATS_UNAVAILABLE: _taken,
    RejectionCode.NOT_ENOUGH_SEATS: _full,
    RejectionCode.TICKET_LIMIT_EXCEEDED: _one_too_many,
    RejectionCode.TOO_MANY_HOLDS: _one_hold_too_many,
    RejectionCode.HOLD_UNKNOWN: _no_such_hold,
    RejectionCode.HOLD_EXPIRED: _hold_run_out,
    RejectionCode.HOLD_RELEASED: _hold_given_back,
    RejectionCode.HOLD_IN_PAYMENT: _hold_in_payment,
    RejectionCode.HOLD_ALREADY_PAID: _hold_paid,
    RejectionCode.HOLD_CEILING_REACHED: _no_more_time,
    RejectionCode.PAYMENT_DECLINED: _card_refused,
    RejectionCode.PAYMENT_UNAVAILABLE: _provider_away,
    RejectionCode.ORDER_CANCELLED: _order_died,
    RejectionCode.ORDER_UNKNOWN: _no_such_order,
    RejectionCode.ORDER_NOT_REFUNDABLE: _order_not_paid,
    RejectionCode.STILL_IN_PROGRESS: _still_being_paid,
    RejectionCode.IDEMPOTENCY_KEY_REUSED: _key_used,
    RejectionCode.NOT_OFFERED: _not_offered,
}


@pytest.mark.parametrize("code", REFUSALS)
def test_this_refusal_can_be_reached(code: RejectionCode) -> None:
    reply = REFUSALS[code]()
    assert isinstance(reply, Rejected)
    assert reply.code is code


def test_no_rule_knows_a_refusal_that_is_not_in_the_table() -> None:
    files = [*(REPOSITORY / "consumers" / "rules").glob("*.py"), Path(handlers.__file__)]
    named = {
        RejectionCode[node.attr]
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "RejectionCode"
    }
    assert named == set(REFUSALS)


def test_what_has_no_rule_yet_is_refused_and_changes_nothing() -> None:
    without_rule = [kind for kind, rule in HANDLERS.items() if rule is decide_not_offered]
    assert without_rule == [CancelEvent, TransferTicket]
    sale = a_sale()
    commands: list[AnyCommand] = [
        CancelEvent(command_id=a_command_id(), event_id=sale.terms.event_id, admin_id=a_user()),
        TransferTicket(
            command_id=a_command_id(),
            event_id=sale.terms.event_id,
            ticket_id=TicketId(uuid4()),
            from_user_id=a_user(),
            to_user_id=a_user(),
        ),
    ]
    for command in commands:
        assert decide(sale, command) == Rejected(code=RejectionCode.NOT_OFFERED)
    assert sale.ledger == []


def test_a_settle_is_never_refused() -> None:
    # It carries somebody's money: whatever the state, it sells, voids, or changes nothing.
    sale = a_sale(cancelled=True)
    assert not isinstance(decide(sale, settle(sale.terms.event_id, a_command_id())), Rejected)
