"""Who may have seats of an event in high demand, and when is their turn over?"""

from datetime import timedelta

import pytest

from consumers.event_commands.door import those_let_in, turns_after
from consumers.event_commands.handlers import decide
from consumers.rules.sale import Sale
from contracts.commands import ReserveSeats
from contracts.ids import UserId
from contracts.replies import HoldExtended, ReplyLater, SeatsReleased, SeatsReserved
from tests.builders import (
    a_user,
    cancel_payment,
    check_out,
    decline,
    expire,
    extend,
    rejected_as,
    release,
    reserve,
    reserve_best,
    settle,
)
from tests.sale_on_paper import (
    HOLD,
    NOW,
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


def a_sale_in_high_demand(**fields: int) -> tuple[Sale, UserId]:
    """A sale, and somebody who has been let in."""
    sale, user = a_sale(high_demand=True, **fields), a_user()
    sale.admitted = {user: True}
    return sale, user


def a_wish(sale: Sale, user: UserId, *indexes: int) -> ReserveSeats:
    """To have these seats."""
    return reserve(sale.terms.event_id, user, seat_ids_of(sale, *indexes))


# ---- reserving


def test_whoever_has_been_let_in_gets_seats() -> None:
    sale, user = a_sale_in_high_demand()
    assert isinstance(decide(sale, a_wish(sale, user, 0)), SeatsReserved)


@pytest.mark.parametrize(("said", "code"), [(False, "not_admitted"), (None, "admission_unknown")])
def test_nobody_else_does_and_no_seat_is_touched(said: bool | None, code: str) -> None:
    sale, user = a_sale_in_high_demand()
    stranger = a_user()
    if said is not None:
        sale.admitted = {user: True, stranger: said}
    wishes = [a_wish(sale, stranger, 0), reserve_best(sale.terms.event_id, stranger, 2)]
    assert rejected_as([decide(sale, wish) for wish in wishes]) == [code, code]
    assert (sale.ledger, sale.changed_holds, set(statuses_of(sale))) == ([], {}, {"available"})


def test_an_ordinary_event_asks_for_no_pass() -> None:
    sale, stranger = a_sale(), a_user()
    sale.admitted = {stranger: False}
    assert isinstance(decide(sale, a_wish(sale, stranger, 0)), SeatsReserved)


def test_what_was_answered_before_is_answered_again_whatever_the_room_says_by_now() -> None:
    sale, user = a_sale_in_high_demand()
    wish = a_wish(sale, user, 0)
    first = decide(sale, wish)
    for sale.admitted in ({user: False}, {}):
        assert decide(sale, wish) == first


def test_a_sale_that_is_closed_says_so_before_it_asks_who_is_in() -> None:
    sale, _ = a_sale_in_high_demand()
    the_time_is(sale, sale.terms.off_sale_at)
    assert rejected_as([decide(sale, a_wish(sale, a_user(), 0))]) == ["sale_closed"]


def test_that_seats_are_taken_is_told_only_to_whoever_has_been_let_in() -> None:
    sale, user = a_sale_in_high_demand()
    a_hold(sale, user, 0)
    other, stranger = a_user(), a_user()
    sale.admitted = {other: True, stranger: False}
    replies = [decide(sale, a_wish(sale, one, 0)) for one in (other, stranger)]
    assert rejected_as(replies) == ["seats_unavailable", "not_admitted"]


def test_a_live_hold_is_pass_enough_for_everything_after_it() -> None:
    sale, user = a_sale_in_high_demand()
    first, second = a_hold(sale, user, 0), a_hold(sale, user, 1)
    sale.admitted = {user: False}
    the_time_is(sale, NOW + timedelta(minutes=1))
    assert isinstance(decide(sale, extend(sale.terms.event_id, user, first.id)), HoldExtended)
    assert isinstance(decide(sale, release(sale.terms.event_id, user, second.id)), SeatsReleased)
    assert isinstance(decide(sale, check_out(sale.terms.event_id, user, first.id)), ReplyLater)


def test_seats_are_looked_for_only_for_those_let_in() -> None:
    sale, user = a_sale_in_high_demand()
    wishes = [a_wish(sale, user, 0), a_wish(sale, a_user(), 1)]
    assert those_let_in(wishes, {user: True}) == wishes[:1]
    assert those_let_in(wishes, {user: False}) == []
    assert those_let_in(wishes, None) == wishes, "an event without a room"


# ---- the turn


def test_a_turn_goes_on_as_long_as_the_hold_made_in_it() -> None:
    sale, user = a_sale_in_high_demand()
    hold = a_hold(sale, user)
    assert turns_after([sale]) == {user: NOW + HOLD}
    is_saved_and_loaded(sale)
    assert turns_after([sale]) == {}, "nothing has changed"
    the_time_is(sale, NOW + timedelta(minutes=1))
    decide(sale, extend(sale.terms.event_id, user, hold.id))
    assert turns_after([sale]) == {user: NOW + HOLD + timedelta(minutes=1)}


def test_a_turn_is_over_with_the_completed_order() -> None:
    sale, user = a_sale_in_high_demand()
    order = a_pending_order(sale, user)
    is_saved_and_loaded(sale)
    decide(sale, settle(sale.terms.event_id, order.id))
    assert turns_after([sale]) == {user: None}


def test_a_turn_is_over_when_the_last_hold_is_given_back() -> None:
    sale, user = a_sale_in_high_demand()
    holds = [a_hold(sale, user, 0), a_hold(sale, user, 1)]
    is_saved_and_loaded(sale)
    decide(sale, release(sale.terms.event_id, user, holds[0].id))
    assert turns_after([sale]) == {}, "there is another"
    is_saved_and_loaded(sale)
    decide(sale, release(sale.terms.event_id, user, holds[1].id))
    assert turns_after([sale]) == {user: None}


def test_a_turn_is_over_when_the_last_hold_has_expired() -> None:
    sale, user = a_sale_in_high_demand()
    hold = a_hold(sale, user)
    the_time_is(sale, hold.held_until)
    is_saved_and_loaded(sale)
    decide(sale, expire(sale.terms.event_id, hold.id))
    assert turns_after([sale]) == {user: None}


def test_whoever_gives_seats_back_and_takes_others_keeps_their_turn() -> None:
    sale, user = a_sale_in_high_demand()
    hold = a_hold(sale, user, 0)
    is_saved_and_loaded(sale)
    decide(sale, release(sale.terms.event_id, user, hold.id))
    a_hold(sale, user, 1)
    assert turns_after([sale]) == {user: NOW + HOLD}


def test_no_turn_is_over_while_a_payment_is_under_way() -> None:
    sale, user = a_sale_in_high_demand()
    order, other = a_pending_order(sale, user, 0), a_hold(sale, user, 1)
    is_saved_and_loaded(sale)
    assert turns_after([sale]) == {}
    decide(sale, release(sale.terms.event_id, user, other.id))
    assert turns_after([sale]) == {}
    is_saved_and_loaded(sale)
    decide(sale, decline(sale.terms.event_id, order.id))
    assert turns_after([sale]) == {user: NOW + HOLD}, "another card may be tried"


def test_a_turn_is_over_when_its_only_payment_has_come_to_nothing() -> None:
    sale, user = a_sale_in_high_demand()
    order = a_pending_order(sale, user)
    is_saved_and_loaded(sale)
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    assert turns_after([sale]) == {user: None}


def test_money_given_back_later_ends_no_turn() -> None:
    sale, user = a_sale_in_high_demand()
    refunded, canceled = a_completed_order(sale, user, 0), a_completed_order(sale, user, 1)
    is_saved_and_loaded(sale)
    command = refund(sale.terms.event_id, refunded.id)
    decide(sale, command)
    decide(sale, payment_refunded(sale.terms.event_id, refunded.id, command.command_id))
    decide(sale, cancel_payment(sale.terms.event_id, canceled.id))
    assert turns_after([sale]) == {}


def test_what_the_later_transaction_says_counts() -> None:
    before, user = a_sale_in_high_demand()
    a_hold(before, user)
    after = a_sale(high_demand=True)
    after.admitted = {user: True}
    hold = a_hold(after, user)
    is_saved_and_loaded(after)
    decide(after, release(after.terms.event_id, user, hold.id))
    assert turns_after([before, after]) == {user: None}


def test_an_ordinary_event_has_no_turns() -> None:
    sale = a_sale()
    a_hold(sale)
    assert turns_after([sale]) == {}
