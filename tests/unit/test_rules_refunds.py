"""When does money go back, and when do the seats?"""

from collections.abc import Callable

import pytest

from consumers.event_commands.handlers import decide
from contracts.commands import AnyCommand
from contracts.ids import TicketId
from contracts.rejections import RejectionCode
from contracts.replies import Done, Rejected
from tests.builders import a_command_id, cancel_payment, decline
from tests.sale_on_paper import (
    a_completed_order,
    a_pending_order,
    a_sale,
    payment_refunded,
    refund,
    statuses_of,
    void_payment,
)


def test_the_seats_stay_sold_until_the_money_is_back() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    assert decide(sale, refund(sale.terms.event_id, order.id)) == Done()
    assert order.status == "refunding"
    assert [due.order_id for due in sale.outgoing.refunds_due] == [order.id]
    assert statuses_of(sale)[:2] == ["sold", "sold"]


def test_when_the_money_is_back_the_seats_are_on_sale_again() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    decide(sale, refund(sale.terms.event_id, order.id))
    assert decide(sale, payment_refunded(sale.terms.event_id, order.id)) == Done()
    assert (order.status, order.payment_status) == ("refunded", "refunded")
    assert sale.unsold_orders == [order]
    assert set(statuses_of(sale)) == {"available"}


def test_an_order_is_refunded_once() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    decide(sale, refund(sale.terms.event_id, order.id))
    assert decide(sale, refund(sale.terms.event_id, order.id)) == Done(changed=False)
    decide(sale, payment_refunded(sale.terms.event_id, order.id))
    for again in (refund(sale.terms.event_id, order.id), payment_refunded(sale.terms.event_id, order.id)):
        assert decide(sale, again) == Done(changed=False)
    assert len(sale.outgoing.refunds_due) == 1
    assert len(sale.unsold_orders) == 1


def test_money_that_comes_back_unasked_frees_nothing() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    assert decide(sale, payment_refunded(sale.terms.event_id, order.id)) == Done(changed=False)
    assert decide(sale, payment_refunded(sale.terms.event_id, a_command_id())) == Done(changed=False)
    assert statuses_of(sale)[:2] == ["sold", "sold"]


@pytest.mark.parametrize("step", [None, decline, cancel_payment, void_payment])
def test_what_was_never_completed_is_not_refunded(step: Callable[..., AnyCommand] | None) -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    if step is not None:
        decide(sale, step(sale.terms.event_id, order.id))
    reply = decide(sale, refund(sale.terms.event_id, order.id))
    assert reply == Rejected(code=RejectionCode.ORDER_NOT_REFUNDABLE, order_id=order.id)


def test_an_unknown_order_is_not_refunded() -> None:
    sale = a_sale()
    assert decide(sale, refund(sale.terms.event_id, a_command_id())) == Rejected(code=RejectionCode.ORDER_UNKNOWN)


def test_single_tickets_are_not_refunded_yet() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    reply = decide(sale, refund(sale.terms.event_id, order.id, ticket_ids=(TicketId(a_command_id()),)))
    assert isinstance(reply, Rejected)
    assert reply.code is RejectionCode.NOT_OFFERED
    assert order.status == "completed"


def test_a_refund_delivered_again_is_answered_the_same() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    command = refund(sale.terms.event_id, order.id)
    assert decide(sale, command) == decide(sale, command) == Done()
