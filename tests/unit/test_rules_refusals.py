"""Can every "no" that a rule knows be reached, and is there none that this table does not know?"""

import ast
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consumers.event_commands import handlers
from consumers.event_commands.handlers import decide
from consumers.rules.after_sale import Resale, Ticket
from consumers.rules.codes import Code
from consumers.rules.sale import Order, Sale
from contracts.commands import ApplyCode, ChangePrices, JoinWaitingList, LeaveWaitingList
from contracts.ids import ResaleId, SeatId, TicketId
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
    NOW,
    a_completed_order,
    a_hold,
    a_pending_order,
    a_sale,
    refund,
    seat_ids_of,
    the_time_is,
)
from tests.ticket_offers import accept, offer, resell, take_off_sale

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


def _ask_for_refund(sale: Sale, order: Order, **fields: Any) -> AnyReply:
    return decide(sale, refund(sale.terms.event_id, order.id, **fields))


def _no_refunds() -> AnyReply:
    sale = a_sale()
    order = a_completed_order(sale)
    return _ask_for_refund(sale, order, user_id=order.user_id, as_organiser=False)


def _no_such_ticket() -> AnyReply:
    sale = a_sale()
    return _ask_for_refund(sale, a_completed_order(sale), ticket_ids=(TicketId(uuid4()),))


def _void_ticket() -> AnyReply:
    sale = a_sale()
    order = a_completed_order(sale)
    ticket_ids = (sale.tickets_of(order.id)[0].id,)
    _ask_for_refund(sale, order, ticket_ids=ticket_ids)
    return _ask_for_refund(sale, order, ticket_ids=ticket_ids)


def _a_ticket(sale: Sale) -> Ticket:
    return sale.tickets_of(a_completed_order(sale).id)[0]


def _used_ticket() -> AnyReply:
    sale = a_sale()
    ticket = _a_ticket(sale)
    ticket.checked_in_at = sale.now
    return decide(sale, offer(sale.terms.event_id, ticket.user_id, ticket.id))


def _ticket_offered_already() -> AnyReply:
    sale = a_sale()
    ticket = _a_ticket(sale)
    decide(sale, offer(sale.terms.event_id, ticket.user_id, ticket.id))
    return decide(sale, offer(sale.terms.event_id, ticket.user_id, ticket.id))


def _no_transfers() -> AnyReply:
    sale = a_sale()
    sale.terms = replace(sale.terms, transfers=False)
    ticket = _a_ticket(sale)
    return decide(sale, offer(sale.terms.event_id, ticket.user_id, ticket.id))


def _no_such_transfer() -> AnyReply:
    sale = a_sale()
    return decide(sale, accept(sale.terms.event_id, a_user(), a_command_id()))


def _transfer_over() -> AnyReply:
    sale = a_sale()
    ticket = _a_ticket(sale)
    command = offer(sale.terms.event_id, ticket.user_id, ticket.id)
    decide(sale, command)
    the_time_is(sale, sale.terms.event_at)
    return decide(sale, accept(sale.terms.event_id, a_user(), command.command_id))


def _no_resales() -> AnyReply:
    sale = a_sale()
    sale.terms = replace(sale.terms, resales=False)
    ticket = _a_ticket(sale)
    return decide(sale, resell(sale.terms.event_id, ticket.user_id, ticket.id))


def _resale_for_more() -> AnyReply:
    sale = a_sale()
    ticket = _a_ticket(sale)
    return decide(sale, resell(sale.terms.event_id, ticket.user_id, ticket.id, price="45.01"))


def _somebody_elses_money() -> AnyReply:
    sale = a_sale()
    ticket = _a_ticket(sale)
    ticket.user_id = a_user()
    return decide(sale, resell(sale.terms.event_id, ticket.user_id, ticket.id))


def _a_resale(sale: Sale) -> Resale:
    ticket = _a_ticket(sale)
    command = resell(sale.terms.event_id, ticket.user_id, ticket.id)
    decide(sale, command)
    return sale.resales[ResaleId(command.command_id)]


def _no_such_resale() -> AnyReply:
    sale = a_sale()
    return decide(sale, take_off_sale(sale.terms.event_id, a_user(), a_command_id()))


def _resale_over() -> AnyReply:
    sale = a_sale()
    resale = _a_resale(sale)
    command = take_off_sale(sale.terms.event_id, resale.seller_id, resale.id)
    decide(sale, command)
    return decide(sale, command.model_copy(update={"command_id": a_command_id()}))


def _resale_taken() -> AnyReply:
    sale = a_sale()
    resale = _a_resale(sale)
    a_hold(sale, None, list(sale.seats).index(resale.seat_id))
    return decide(sale, take_off_sale(sale.terms.event_id, resale.seller_id, resale.id))


def _presale_without_code() -> AnyReply:
    sale = a_sale()
    sale.terms = replace(sale.terms, presale_at=NOW, on_sale_at=NOW + timedelta(hours=1))
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))


def _with_code(code: str, **fields: Any) -> AnyReply:
    sale = a_sale()
    sale.codes["SPRING"] = Code(id=uuid4(), code="SPRING", percent_off=Decimal(10), **fields)
    for code_id in (known.id for known in sale.codes.values()):
        sale.code_uses[code_id] = 1
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0), code=code))


def _code_twice() -> AnyReply:
    sale = a_sale()
    sale.codes["SPRING"] = Code(id=uuid4(), code="SPRING", percent_off=Decimal(10))
    hold = a_hold(sale)
    fields = {"event_id": sale.terms.event_id, "user_id": hold.user_id, "hold_id": hold.id, "code": "SPRING"}
    decide(sale, ApplyCode(command_id=a_command_id(), **fields))
    return decide(sale, ApplyCode(command_id=a_command_id(), **fields))


def _no_such_tier() -> AnyReply:
    sale = a_sale()
    return decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0), tiers=("child",)))


def _price_in_fractions() -> AnyReply:
    sale = a_sale()
    sale.terms = replace(sale.terms, currency="JPY")
    fields = {"user_id": a_user(), "seat_ids": tuple(seat_ids_of(sale, 0)), "price": Decimal("10.50")}
    return decide(sale, ChangePrices(command_id=a_command_id(), event_id=sale.terms.event_id, **fields))


def _seats_to_be_had() -> AnyReply:
    sale = a_sale()
    sale.waiting.free_counts[("", False)] = 6
    fields = {"command_id": a_command_id(), "event_id": sale.terms.event_id, "user_id": a_user()}
    return decide(sale, JoinWaitingList(seat_count=2, **fields))


def _not_waiting() -> AnyReply:
    sale = a_sale()
    fields = {"command_id": a_command_id(), "event_id": sale.terms.event_id, "user_id": a_user()}
    return decide(sale, LeaveWaitingList(**fields))


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
    RejectionCode.NOT_OFFERED: _somebody_elses_money,
    RejectionCode.REFUNDS_CLOSED: _no_refunds,
    RejectionCode.TICKET_UNKNOWN: _no_such_ticket,
    RejectionCode.TICKET_NOT_VALID: _void_ticket,
    RejectionCode.TICKET_CHECKED_IN: _used_ticket,
    RejectionCode.TICKET_ON_OFFER: _ticket_offered_already,
    RejectionCode.TRANSFERS_CLOSED: _no_transfers,
    RejectionCode.TRANSFER_UNKNOWN: _no_such_transfer,
    RejectionCode.TRANSFER_ENDED: _transfer_over,
    RejectionCode.RESALES_CLOSED: _no_resales,
    RejectionCode.RESALE_PRICE_TOO_HIGH: _resale_for_more,
    RejectionCode.RESALE_UNKNOWN: _no_such_resale,
    RejectionCode.RESALE_ENDED: _resale_over,
    RejectionCode.RESALE_IN_CHECKOUT: _resale_taken,
    RejectionCode.CODE_NEEDED: _presale_without_code,
    RejectionCode.CODE_UNKNOWN: lambda: _with_code("WINTER"),
    RejectionCode.CODE_USED_UP: lambda: _with_code("SPRING", uses_max=1),
    RejectionCode.CODE_ALREADY_APPLIED: _code_twice,
    RejectionCode.TIER_UNKNOWN: _no_such_tier,
    RejectionCode.PRICE_NOT_PAYABLE: _price_in_fractions,
    RejectionCode.WAITING_LIST_NOT_NEEDED: _seats_to_be_had,
    RejectionCode.NOT_ON_WAITING_LIST: _not_waiting,
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


def test_a_settle_is_never_refused() -> None:
    # It carries somebody's money: whatever the state, it sells, voids, or changes nothing.
    sale = a_sale(cancelled=True)
    assert not isinstance(decide(sale, settle(sale.terms.event_id, a_command_id())), Rejected)
