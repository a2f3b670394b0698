"""What becomes of an order, whatever the payment provider says and in whatever order it says it?"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from consumers.event_commands.handlers import decide
from consumers.rules.checkouts import WHILE_PAYING
from consumers.rules.sale import Order, Sale, ticket_id_of
from contracts.ids import HoldId, OrderId
from contracts.rejections import RejectionCode
from contracts.replies import Done, OrderCompleted, Rejected, ReplyLater
from tests.builders import a_command_id, a_user, cancel_payment, check_out, decline, release, settle
from tests.sale_on_paper import (
    GRACE,
    HOLD,
    NOW,
    PRICE,
    a_completed_order,
    a_hold,
    a_pending_order,
    a_sale,
    statuses_of,
    the_time_is,
    void_payment,
)

NOTHING_DONE = Done(changed=False)


def a_voiding_order(sale: Sale) -> Order:
    """An order whose payment is being ended at the provider."""
    order = a_pending_order(sale)
    decide(sale, void_payment(sale.terms.event_id, order.id))
    return order


def a_declined_order(sale: Sale) -> Order:
    """An order whose card was refused."""
    order = a_pending_order(sale)
    decide(sale, decline(sale.terms.event_id, order.id))
    return order


def a_cancelled_order(sale: Sale) -> Order:
    """An order whose payment is dead."""
    order = a_pending_order(sale)
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    return order


def forget_what_was_said(sale: Sale) -> None:
    """From here on, only what comes next."""
    sale.late_replies.clear()
    sale.outgoing = type(sale.outgoing)()


def last_told(sale: Sale) -> object:
    """The one answer that went to whoever waits for an order."""
    (late,) = sale.late_replies
    assert late.reply_to == "tk.reply.test"
    return late.reply


# ---- T1: checking out


def test_a_checkout_opens_an_order_and_no_clock_takes_the_seats_while_it_is_paid() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    command = check_out(sale.terms.event_id, user, hold.id)
    sale.askers = {command.command_id: "tk.reply.test"}
    assert decide(sale, command) == ReplyLater()
    order = sale.orders[OrderId(command.command_id)]
    assert (order.status, order.total, order.user_id) == ("pending", 2 * PRICE, user)
    assert (order.reply_to, order.correlation_id) == ("tk.reply.test", command.correlation_id)
    assert (hold.status, hold.held_until) == ("paying", NOW + HOLD)
    assert {sale.seats[seat_id].held_until for seat_id in hold.seat_ids} == {WHILE_PAYING}


def test_a_checkout_asks_for_its_payment_once_under_a_key_that_is_known_beforehand() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    (requested,) = sale.outgoing.payments_requested
    assert (requested.order_id, requested.amount, requested.payment_method) == (order.id, 2 * PRICE, "pm_card_visa")
    assert requested.provider_key == order.provider_key == str(order.id)


@pytest.mark.parametrize("status", ["expired", "released"])
def test_a_hold_that_is_over_cannot_be_paid(status: str) -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    hold.status = status
    reply = decide(sale, check_out(sale.terms.event_id, user, hold.id))
    assert isinstance(reply, Rejected)
    assert reply.code.value == f"hold_{status}"
    assert sale.orders == {}


def test_a_hold_whose_time_is_over_cannot_be_paid() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    the_time_is(sale, hold.held_until)
    reply = decide(sale, check_out(sale.terms.event_id, user, hold.id))
    assert reply == Rejected(code=RejectionCode.HOLD_EXPIRED)


def test_a_hold_that_lost_a_seat_cannot_be_paid() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    sale.seats[hold.seat_ids[1]].hold_id = HoldId(a_command_id())
    reply = decide(sale, check_out(sale.terms.event_id, user, hold.id))
    assert reply == Rejected(code=RejectionCode.HOLD_EXPIRED)
    assert hold.status == "active"


def test_nobody_pays_somebody_elses_hold_or_learns_that_it_exists() -> None:
    sale = a_sale()
    held, paying = a_hold(sale, None, 0), a_pending_order(sale, None, 1)
    for hold_id in (held.id, paying.hold_id, a_command_id()):
        reply = decide(sale, check_out(sale.terms.event_id, a_user(), hold_id))
        assert reply == Rejected(code=RejectionCode.HOLD_UNKNOWN)


def test_nothing_of_a_cancelled_event_is_paid() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    cancelled = a_sale(cancelled=True)
    cancelled.holds, cancelled.seats = sale.holds, sale.seats
    reply = decide(cancelled, check_out(sale.terms.event_id, user, hold.id))
    assert reply == Rejected(code=RejectionCode.EVENT_CANCELLED)


# ---- the same checkout again


def test_the_same_message_again_changes_nothing() -> None:
    sale, user = a_sale(), a_user()
    command = check_out(sale.terms.event_id, user, a_hold(sale, user).id)
    assert decide(sale, command) == decide(sale, command) == ReplyLater()
    assert len(sale.outgoing.payments_requested) == 1


def test_a_retry_while_it_is_being_paid_is_told_to_wait() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    for command_id in (order.id, a_command_id()):
        again = check_out(sale.terms.event_id, order.user_id, order.hold_id, command_id=command_id)
        assert decide(sale, again) == Rejected(code=RejectionCode.STILL_IN_PROGRESS, order_id=order.id)
    assert len(sale.orders) == 1


@pytest.mark.parametrize("same_id", [True, False])
def test_a_retry_afterwards_gets_the_stored_answer(same_id: bool) -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    command_id = order.id if same_id else a_command_id()
    again = check_out(sale.terms.event_id, order.user_id, order.hold_id, command_id=command_id)
    reply = decide(sale, again)
    assert isinstance(reply, OrderCompleted)
    assert reply.model_dump_json(by_alias=True, exclude_none=True) == order.answer


def test_a_used_command_id_serves_nobody_else_and_nothing_else() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    stranger = check_out(sale.terms.event_id, a_user(), order.hold_id, command_id=order.id)
    other = check_out(sale.terms.event_id, order.user_id, order.hold_id, command_id=order.id, request_hash="other")
    for command in (stranger, other):
        assert decide(sale, command) == Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)


def test_a_buyer_back_from_their_bank_has_the_payment_looked_at_again_and_is_told_how_it_ended() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    order.payment_status = "action_needed"
    forget_what_was_said(sale)
    again = check_out(sale.terms.event_id, order.user_id, order.hold_id, command_id=order.id)
    sale.askers = {again.command_id: "tk.reply.another"}
    assert decide(sale, again) == ReplyLater()
    assert [requested.order_id for requested in sale.outgoing.payments_requested] == [order.id]
    assert (order.reply_to, order.correlation_id) == ("tk.reply.another", again.correlation_id)


def test_after_a_decline_another_card_is_another_order_and_the_old_one_keeps_its_answer() -> None:
    sale = a_sale()
    declined = a_declined_order(sale)
    hold_id, user = declined.hold_id, declined.user_id
    old = decide(sale, check_out(sale.terms.event_id, user, hold_id, command_id=declined.id))
    assert isinstance(old, Rejected)
    assert old.code is RejectionCode.PAYMENT_DECLINED
    command = check_out(sale.terms.event_id, user, hold_id, payment_method="pm_another")
    assert decide(sale, command) == ReplyLater()
    assert sale.live_order_of(hold_id) is sale.orders[OrderId(command.command_id)]


# ---- T3: the money is authorised


def test_authorised_money_sells_the_seats() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    assert decide(sale, settle(sale.terms.event_id, order.id, "pi_1")) == Done()
    assert (order.status, order.payment_status, order.intent_id) == ("completed", "authorized", "pi_1")
    assert sale.holds[order.hold_id].status == "converted"
    assert statuses_of(sale)[:2] == ["sold", "sold"]
    for seat_id in sale.holds[order.hold_id].seat_ids:
        seat = sale.seats[seat_id]
        assert (seat.order_id, seat.hold_id, seat.held_until) == (order.id, order.hold_id, None)


def test_whoever_waits_is_told_of_their_tickets_and_so_are_the_others() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    decide(sale, settle(sale.terms.event_id, order.id, "pi_1"))
    reply = last_told(sale)
    assert isinstance(reply, OrderCompleted)
    seat_ids = sale.holds[order.hold_id].seat_ids
    assert [ticket.ticket_id for ticket in reply.tickets] == [ticket_id_of(order.id, seat_id) for seat_id in seat_ids]
    assert [(due.order_id, due.intent_id) for due in sale.outgoing.captures_due] == [(order.id, "pi_1")]
    (confirmed,) = sale.outgoing.confirmed
    assert confirmed.ticket_ids == tuple(ticket.ticket_id for ticket in reply.tickets)


def test_a_second_settle_sells_nothing_and_says_the_same_again() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    first = last_told(sale)
    forget_what_was_said(sale)
    ledger_length = len(sale.ledger)
    assert decide(sale, settle(sale.terms.event_id, order.id)) == NOTHING_DONE
    assert last_told(sale) == first
    assert len(sale.ledger) == ledger_length
    assert sale.outgoing.captures_due == []


def test_a_settle_for_no_order_of_ours_changes_nothing() -> None:
    sale = a_sale()
    assert decide(sale, settle(sale.terms.event_id, a_command_id())) == NOTHING_DONE


@pytest.mark.parametrize("ended", [a_declined_order, a_cancelled_order])
def test_money_for_an_order_that_has_ended_is_given_back(ended: Callable[[Sale], Order]) -> None:
    sale = a_sale()
    order = ended(sale)
    forget_what_was_said(sale)
    status, statuses = order.status, statuses_of(sale)
    assert decide(sale, settle(sale.terms.event_id, order.id, "pi_late")) == NOTHING_DONE
    assert [due.intent_id for due in sale.outgoing.voids_due] == ["pi_late"]
    assert (order.status, statuses_of(sale)) == (status, statuses)


def test_money_that_comes_while_it_is_being_voided_sells_nothing() -> None:
    sale = a_sale()
    order = a_voiding_order(sale)
    assert decide(sale, settle(sale.terms.event_id, order.id)) == NOTHING_DONE
    assert order.status == "voiding"
    assert "sold" not in statuses_of(sale)


@pytest.mark.parametrize("lost", ["hold_id", "fence", "hold_status"])
def test_money_for_seats_that_are_gone_is_voided_instead_of_selling(lost: str) -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    hold = sale.holds[order.hold_id]
    seat = sale.seats[hold.seat_ids[1]]
    if lost == "hold_id":
        seat.hold_id = HoldId(a_command_id())
    elif lost == "fence":
        seat.fence += 1
    else:
        hold.status = "released"
    decide(sale, settle(sale.terms.event_id, order.id, "pi_1"))
    assert (order.status, order.payment_status) == ("voiding", "authorized")
    assert order.ended_because == "the seats were no longer held"
    assert [due.intent_id for due in sale.outgoing.voids_due] == ["pi_1"]
    assert sale.late_replies == [], "nobody is told of an end before the provider says that it is one"


def test_money_for_a_cancelled_event_is_voided_and_the_seats_wait_for_the_provider() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    cancelled = a_sale(cancelled=True)
    cancelled.holds, cancelled.seats, cancelled.orders = sale.holds, sale.seats, sale.orders
    decide(cancelled, settle(sale.terms.event_id, order.id))
    assert (order.status, order.ended_because) == ("voiding", "the event was cancelled")
    assert statuses_of(sale)[:2] == ["held", "held"]


# ---- TD: the card is refused


def test_after_a_decline_the_seats_stay_with_the_buyer_for_a_moment_at_least() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    the_time_is(sale, NOW + timedelta(hours=1))  # the hold's own time was over long ago
    decide(sale, decline(sale.terms.event_id, order.id))
    hold = sale.holds[order.hold_id]
    assert (order.status, order.payment_status, hold.status) == ("declined", "declined", "active")
    assert hold.held_until == sale.now + GRACE
    assert {sale.seats[seat_id].held_until for seat_id in hold.seat_ids} == {hold.held_until}
    assert sale.outgoing.armed[-1].held_until == hold.held_until
    reply = last_told(sale)
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.order_id, reply.held_until) == (RejectionCode.PAYMENT_DECLINED, order.id, hold.held_until)
    assert reply.detail == "generic_decline"


def test_a_decline_shortens_no_hold() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    decide(sale, decline(sale.terms.event_id, order.id))
    assert sale.holds[order.hold_id].held_until == NOW + HOLD


def test_a_provider_that_is_away_is_not_a_card_that_is_refused() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    unavailable = decline(sale.terms.event_id, order.id).model_copy(
        update={"decline_code": "payment_unavailable", "message": "the provider is away"}
    )
    decide(sale, unavailable)
    reply = last_told(sale)
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.detail) == (RejectionCode.PAYMENT_UNAVAILABLE, "the provider is away")


def test_a_decline_of_what_is_being_voided_ends_it_and_frees_the_seats() -> None:
    sale = a_sale()
    order = a_voiding_order(sale)
    decide(sale, decline(sale.terms.event_id, order.id))
    assert (order.status, order.payment_status) == ("cancelled", "canceled")
    assert set(statuses_of(sale)) == {"available"}


def test_a_decline_for_seats_that_are_gone_ends_the_order() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    sale.seats[sale.holds[order.hold_id].seat_ids[0]].fence += 1
    decide(sale, decline(sale.terms.event_id, order.id))
    assert order.status == "cancelled"


@pytest.mark.parametrize("ended", [a_completed_order, a_declined_order, a_cancelled_order])
def test_a_decline_that_comes_too_late_changes_nothing_and_says_the_answer_again(
    ended: Callable[[Sale], Order],
) -> None:
    sale = a_sale()
    order = ended(sale)
    first = last_told(sale)
    forget_what_was_said(sale)
    status = order.status
    assert decide(sale, decline(sale.terms.event_id, order.id)) == NOTHING_DONE
    assert order.status == status
    assert last_told(sale) == first
    assert decide(sale, decline(sale.terms.event_id, a_command_id())) == NOTHING_DONE


# ---- voiding, and T4: the payment is dead


def test_a_payment_nobody_can_finish_is_ended_at_the_provider_before_the_seats_are_freed() -> None:
    sale = a_sale()
    order = a_voiding_order(sale)
    assert (order.status, order.ended_because) == ("voiding", "nobody can finish it")
    assert [due.order_id for due in sale.outgoing.voids_due] == [order.id]
    assert statuses_of(sale)[:2] == ["held", "held"]


@pytest.mark.parametrize("other", [a_completed_order, a_declined_order, a_cancelled_order, a_voiding_order])
def test_only_what_is_pending_is_voided(other: Callable[[Sale], Order]) -> None:
    sale = a_sale()
    order = other(sale)
    forget_what_was_said(sale)
    assert decide(sale, void_payment(sale.terms.event_id, order.id)) == NOTHING_DONE
    assert decide(sale, void_payment(sale.terms.event_id, a_command_id())) == NOTHING_DONE
    assert sale.outgoing.voids_due == []


@pytest.mark.parametrize("waiting", [a_pending_order, a_voiding_order])
def test_when_the_provider_says_it_is_dead_the_seats_are_free_and_the_buyer_is_told(
    waiting: Callable[[Sale], Order],
) -> None:
    sale = a_sale()
    order = waiting(sale)
    assert decide(sale, cancel_payment(sale.terms.event_id, order.id)) == Done()
    assert (order.status, order.payment_status) == ("cancelled", "canceled")
    assert sale.holds[order.hold_id].status == "released"
    assert set(statuses_of(sale)) == {"available"}
    reply = last_told(sale)
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.order_id) == (RejectionCode.ORDER_CANCELLED, order.id)
    assert [notice.order_id for notice in sale.outgoing.cancelled] == [order.id]


def test_a_sold_order_whose_authorisation_died_before_it_was_captured_is_unsold() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    assert (order.status, order.payment_status) == ("cancelled", "canceled")
    assert sale.unsold_orders == [order]
    assert set(statuses_of(sale)) == {"available"}


@pytest.mark.parametrize("ended", [a_declined_order, a_cancelled_order])
def test_a_payment_that_dies_after_its_order_changes_nothing(ended: Callable[[Sale], Order]) -> None:
    sale = a_sale()
    order = ended(sale)
    status, statuses = order.status, statuses_of(sale)
    assert decide(sale, cancel_payment(sale.terms.event_id, order.id)) == NOTHING_DONE
    assert decide(sale, cancel_payment(sale.terms.event_id, a_command_id())) == NOTHING_DONE
    assert (order.status, statuses_of(sale)) == (status, statuses)


def test_a_paid_hold_is_given_back_by_nobody() -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    reply = decide(sale, release(sale.terms.event_id, order.user_id, order.hold_id))
    assert reply == Rejected(code=RejectionCode.HOLD_ALREADY_PAID)
