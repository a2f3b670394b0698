"""When an event is cancelled: does nothing sell any more, and does everybody have all their money back, once?"""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic_core import from_json

from consumers.event_commands.handlers import decide
from consumers.rules.cancellations import cancellation_refund_id
from consumers.rules.sale import Order, Sale
from contracts.commands import CancelEvent, OfferResale, RefundCancelled
from contracts.ids import OrderId, RefundId
from contracts.rejections import RejectionCode
from contracts.replies import Done, EventCancelled, Rejected
from tests.builders import a_command_id, a_user, cancel_payment, check_out, reserve, settle
from tests.sale_on_paper import (
    NOW,
    PRICE,
    a_completed_order,
    a_hold,
    a_pending_order,
    a_sale,
    is_saved_and_loaded,
    payment_refunded,
    refund,
    seat_ids_of,
    statuses_of,
    the_time_is,
)


def cancel(sale: Sale, **fields: Any) -> CancelEvent:
    defaults = {"command_id": a_command_id(), "user_id": a_user(), "reason": "a storm"}
    return CancelEvent(event_id=sale.terms.event_id, **{**defaults, **fields})


def is_cancelled(sale: Sale) -> None:
    """It was cancelled in an earlier batch."""
    assert isinstance(decide(sale, cancel(sale)), EventCancelled)
    next_batch(sale)


def next_batch(sale: Sale) -> None:
    """As saved, and loaded for the courier's next command."""
    is_saved_and_loaded(sale)
    if sale.cancellation is not None:
        sale.cancellation.is_new = False
    sale.orders_to_refund = [order.id for order in sale.orders.values() if order.status == "completed"]
    under_way = ("pending", "voiding", "completed", "refunding")
    sale.orders_under_way_count = sum(order.status in under_way for order in sale.orders.values())


def go_on(sale: Sale) -> Done:
    """The courier comes by."""
    next_batch(sale)
    reply = decide(sale, RefundCancelled(command_id=a_command_id(), event_id=sale.terms.event_id))
    assert isinstance(reply, Done)
    return reply


def money_comes_back(sale: Sale) -> None:
    for one in list(sale.refunds.values()):
        decide(sale, payment_refunded(sale.terms.event_id, one.order_id, one.id))


def test_from_then_on_nothing_is_sold_not_even_in_the_same_batch() -> None:
    sale, user = a_sale(), a_user()
    hold, paying = a_hold(sale, user, 0), a_pending_order(sale, None, 1)
    decide(sale, cancel(sale))
    event_id = sale.terms.event_id
    for command in (reserve(event_id, a_user(), seat_ids_of(sale, 2)), check_out(event_id, user, hold.id)):
        assert decide(sale, command) == Rejected(code=RejectionCode.EVENT_CANCELLED)
    decide(sale, settle(event_id, paying.id))
    assert (paying.status, paying.ended_because) == ("voiding", "the event was cancelled")
    assert "sold" not in statuses_of(sale)


def test_the_organiser_hears_how_many_orders_will_be_refunded() -> None:
    sale = a_sale()
    sale.orders_to_refund_count = 7
    a_completed_order(sale, None, 0)  # sold in this very batch: not among those that were counted
    reply = decide(sale, cancel(sale))
    assert reply == EventCancelled(event_id=sale.terms.event_id, cancelled_at=sale.now, orders_to_refund=8)
    (audit,) = sale.audits
    assert (audit.action, from_json(audit.after or "")["reason"]) == ("cancel_event", "a storm")


def test_an_event_is_cancelled_once() -> None:
    sale = a_sale()
    command = cancel(sale)
    first = decide(sale, command)
    assert decide(sale, command) == first
    assert decide(sale, cancel(sale)) == Rejected(code=RejectionCode.EVENT_CANCELLED)
    assert len(sale.audits) == 1


def test_an_event_whose_status_was_set_by_hand_can_still_be_cancelled_properly() -> None:
    # Nobody would be refunded otherwise.
    sale = a_sale(cancelled=True)
    assert isinstance(decide(sale, cancel(sale)), EventCancelled)


def test_everybody_has_everything_back_whatever_the_policy_says() -> None:
    sale = a_sale()
    sale.terms = replace(sale.terms, refund_until=None, refund_fee_rate=Decimal("0.5"))
    orders = [a_completed_order(sale, None, place) for place in (0, 1, 2)]
    is_cancelled(sale)
    assert go_on(sale) == Done()
    assert {order.status for order in orders} == {"refunding"}
    assert [due.amount for due in sale.outgoing.refunds_due] == [PRICE] * 3
    assert {one.kind for one in sale.refunds.values()} == {"cancellation"}
    assert {one.fee_kept for one in sale.refunds.values()} == {0}
    money_comes_back(sale)
    assert {order.status for order in orders} == {"refunded"}
    assert "sold" not in statuses_of(sale)


def test_only_as_many_as_were_loaded_are_refunded_at_once() -> None:
    sale = a_sale()
    orders = [a_completed_order(sale, None, place) for place in (0, 1, 2)]
    is_cancelled(sale)
    sale.orders_to_refund = [orders[0].id]
    decide(sale, RefundCancelled(command_id=a_command_id(), event_id=sale.terms.event_id))
    assert [order.status for order in orders] == ["refunding", "completed", "completed"]


def test_asked_again_and_again_it_gives_nothing_back_twice_and_comes_to_an_end() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    is_cancelled(sale)
    go_on(sale)
    assert go_on(sale) == Done(changed=False)
    assert sale.cancellation is not None
    assert sale.cancellation.finished_at is None, "the money is on its way"
    assert len(sale.refunds) == 1
    money_comes_back(sale)
    assert go_on(sale) == Done()
    assert sale.cancellation.finished_at == sale.now
    assert go_on(sale) == Done(changed=False)
    assert order.status == "refunded"


def test_it_is_not_finished_while_somebody_is_still_paying() -> None:
    sale = a_sale()
    paying = a_pending_order(sale)
    is_cancelled(sale)
    go_on(sale)
    assert sale.cancellation is not None
    assert sale.cancellation.finished_at is None
    decide(sale, settle(sale.terms.event_id, paying.id))
    decide(sale, cancel_payment(sale.terms.event_id, paying.id))
    go_on(sale)
    assert sale.cancellation.finished_at is not None


def test_in_the_batch_that_cancels_it_nothing_is_finished() -> None:
    # What was counted may be older than what this batch has sold.
    sale = a_sale()
    decide(sale, cancel(sale))
    assert decide(sale, RefundCancelled(command_id=a_command_id(), event_id=sale.terms.event_id)) == Done(changed=False)
    assert sale.cancellation is not None
    assert sale.cancellation.finished_at is None


def test_of_an_event_that_is_not_cancelled_nothing_is_refunded() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    sale.orders_to_refund = [order.id]
    assert decide(sale, RefundCancelled(command_id=a_command_id(), event_id=sale.terms.event_id)) == Done(changed=False)
    assert order.status == "completed"


def test_what_a_buyer_has_given_back_before_is_not_given_back_again() -> None:
    sale = a_sale()
    sale.terms = replace(sale.terms, refund_until=NOW + timedelta(days=1), refund_fee_rate=Decimal("0.5"))
    order = a_completed_order(sale)
    first = sale.tickets_of(order.id)[0]
    asked = {"user_id": order.user_id, "as_organiser": False, "ticket_ids": (first.id,)}
    decide(sale, refund(sale.terms.event_id, order.id, **asked))
    is_cancelled(sale)
    go_on(sale)
    amounts = {one.kind: one.amount for one in sale.refunds.values()}
    assert amounts == {"buyer": PRICE / 2, "cancellation": PRICE}
    money_comes_back(sale)
    assert order.status == "refunded"


def test_who_paid_has_the_money_and_who_has_the_ticket_is_told() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    passed_on, kept = sale.tickets_of(order.id)
    passed_on.user_id = a_user()
    is_cancelled(sale)
    go_on(sale)
    assert [due.order_id for due in sale.outgoing.refunds_due] == [order.id]
    to_buyer, to_holder = sale.outgoing.notices
    assert (to_buyer.user_id, to_buyer.subject_id, to_buyer.amount) == (order.user_id, order.id, 2 * PRICE)
    assert (to_holder.user_id, to_holder.ticket_ids, to_holder.amount) == (passed_on.user_id, (passed_on.id,), None)
    assert {notice.kind for notice in sale.outgoing.notices} == {"event_cancelled"}
    assert {passed_on.status, kept.status} == {"void"}


def test_a_complimentary_order_is_over_at_once() -> None:
    sale = a_sale()
    for seat in sale.seats.values():
        seat.price = Decimal("0.00")
    order = a_pending_order(sale)
    is_cancelled(sale)
    go_on(sale)
    assert (order.status, sale.outgoing.refunds_due, sale.money) == ("refunded", [], [])
    assert set(statuses_of(sale)) == {"available"}


def test_a_seat_that_somebody_else_has_in_his_hands_does_not_hold_its_sellers_money_up() -> None:
    sale = a_sale()
    order = a_completed_order(sale, None, 0)
    hold = resold_and_held(sale, order)
    is_cancelled(sale)
    go_on(sale)
    assert [due.amount for due in sale.outgoing.refunds_due] == [PRICE]
    assert sale.seats_of(hold) is not None, "the hold runs out by itself"
    money_comes_back(sale)
    assert (order.status, statuses_of(sale)[0]) == ("refunded", "held")
    the_time_is(sale, hold.held_until)
    assert all(seat.is_available(sale.now) for seat in sale.seats.values())


def resold_and_held(sale: Sale, order: Order) -> Any:
    (ticket,) = sale.tickets_of(order.id)
    offer = OfferResale(
        command_id=a_command_id(),
        event_id=sale.terms.event_id,
        user_id=order.user_id,
        ticket_id=ticket.id,
        price=PRICE,
    )
    assert not isinstance(decide(sale, offer), Rejected)
    return a_hold(sale, None, 0)


def test_an_order_has_one_refund_of_its_cancelled_event_whoever_asks() -> None:
    order_id = OrderId(a_command_id())
    assert cancellation_refund_id(order_id) == cancellation_refund_id(order_id) != RefundId(order_id)
