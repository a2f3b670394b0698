"""Who may hold seats, keep them longer, give them back; and when are they free again?"""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from consumers.event_commands.handlers import decide
from consumers.rules.sale import Hold, Sale
from contracts.commands import AnyCommand
from contracts.ids import HoldId, SeatId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import Done, HoldExtended, Rejected, SeatsReleased, SeatsReserved
from tests.builders import (
    a_command_id,
    a_user,
    cancel_payment,
    check_out,
    decline,
    expire,
    extend,
    release,
    reserve,
    reserve_best,
    settle,
)
from tests.sale_on_paper import (
    CEILING,
    HOLD,
    NOW,
    PRICE,
    a_completed_order,
    a_hold,
    a_pending_order,
    a_sale,
    is_saved_and_loaded,
    live_holds,
    payment_refunded,
    refund,
    seat_ids_of,
    statuses_of,
    the_time_is,
)

A_MOMENT = timedelta(microseconds=1)


# ---- reserving


def test_reserved_seats_are_held_for_the_asker_until_the_time_they_are_told() -> None:
    sale, user = a_sale(), a_user()
    command = reserve(sale.terms.event_id, user, seat_ids_of(sale, 2, 0))
    reply = decide(sale, command)
    assert isinstance(reply, SeatsReserved)
    assert (reply.hold_id, reply.held_until, reply.total) == (command.command_id, NOW + HOLD, 2 * PRICE)
    assert [seat.seat_id for seat in reply.seats] == seat_ids_of(sale, 2, 0), "in the order they were asked for"
    assert statuses_of(sale) == ["held", "available", "held", "available", "available", "available"]
    assert {sale.seats[seat_id].held_until for seat_id in command.seat_ids} == {NOW + HOLD}


def test_a_reservation_is_written_in_the_ledger_and_will_be_looked_at_when_it_ends() -> None:
    sale = a_sale()
    hold = a_hold(sale)
    assert [(entry.seat_id, entry.from_status, entry.to_status, entry.hold_id) for entry in sale.ledger] == [
        (seat_id, "available", "held", hold.id) for seat_id in hold.seat_ids
    ]
    assert [(due.hold_id, due.held_until) for due in sale.outgoing.armed] == [(hold.id, NOW + HOLD)]


def test_a_seats_fence_goes_up_whenever_it_changes_hands() -> None:
    sale, user = a_sale(), a_user()
    seat = sale.seats[seat_ids_of(sale, 0)[0]]
    hold = a_hold(sale, user, 0)
    assert (seat.fence, hold.fences) == (1, [1])
    decide(sale, release(sale.terms.event_id, user, hold.id))
    assert seat.fence == 2
    assert seat.fence_read == 0, "the save insists on the fence that was loaded"


def test_a_repeated_reservation_gets_the_first_answer_and_no_second_hold() -> None:
    sale = a_sale()
    command = reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0, 1))
    first = decide(sale, command)
    the_time_is(sale, sale.now + timedelta(minutes=1))
    assert decide(sale, command) == first
    assert len(sale.holds) == 1
    assert statuses_of(sale).count("held") == 2


@pytest.mark.parametrize("fields", [{"user_id": uuid4()}, {"request_hash": "another body"}])
def test_a_used_command_id_serves_nobody_else_and_nothing_else(fields: dict[str, object]) -> None:
    sale = a_sale()
    command = reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0))
    decide(sale, command)
    assert decide(sale, command.model_copy(update=fields)) == Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)


@pytest.mark.parametrize(
    ("since_opening", "code"),
    [
        (-A_MOMENT, RejectionCode.SALE_NOT_OPEN),
        (timedelta(0), None),
        (timedelta(hours=25) - A_MOMENT, None),
        (timedelta(hours=25), RejectionCode.SALE_CLOSED),
    ],
)
def test_the_sale_opens_and_closes_to_the_microsecond(since_opening: timedelta, code: RejectionCode | None) -> None:
    sale = a_sale(now=NOW - timedelta(hours=1) + since_opening)
    reply = decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))
    assert (reply.code if isinstance(reply, Rejected) else None) == code


def test_nothing_of_a_cancelled_event_is_held() -> None:
    sale = a_sale(cancelled=True, now=NOW - timedelta(days=1))
    reply = decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)))
    assert reply == Rejected(code=RejectionCode.EVENT_CANCELLED), (
        "that it is cancelled matters more than that it is early"
    )


def test_the_choice_that_was_made_for_somebody_is_decided_like_their_own() -> None:
    sale = a_sale()
    command = reserve_best(sale.terms.event_id, a_user(), 2)
    sale.chosen_seat_ids = {command.command_id: seat_ids_of(sale, 3, 4)}
    reply = decide(sale, command)
    assert isinstance(reply, SeatsReserved)
    assert [seat.seat_id for seat in reply.seats] == seat_ids_of(sale, 3, 4)


@pytest.mark.parametrize("chosen", [{}, "an empty choice"])
def test_without_a_choice_there_are_not_enough_seats(chosen: object) -> None:
    sale = a_sale()
    command = reserve_best(sale.terms.event_id, a_user(), 2)
    sale.chosen_seat_ids = {command.command_id: []} if chosen else {}
    assert decide(sale, command) == Rejected(code=RejectionCode.NOT_ENOUGH_SEATS)


def test_the_ticket_limit_counts_what_is_held_and_what_is_owned() -> None:
    sale, user = a_sale(ticket_limit=4), a_user()
    sale.seat_counts[user] = 1  # bought earlier
    a_hold(sale, user, 0, 1)
    too_many = decide(sale, reserve(sale.terms.event_id, user, seat_ids_of(sale, 2, 3)))
    assert too_many == Rejected(code=RejectionCode.TICKET_LIMIT_EXCEEDED)
    a_hold(sale, user, 2)


def a_user_with_all_the_holds_they_may_have(sale: Sale) -> tuple[UserId, list[Hold]]:
    user = a_user()
    return user, [a_hold(sale, user, index) for index in range(sale.terms.live_holds_max)]


def test_more_holds_than_a_user_may_have_are_refused_however_few_seats_they_are() -> None:
    sale = a_sale(ticket_limit=6, live_holds_max=2)
    user, _ = a_user_with_all_the_holds_they_may_have(sale)
    refused = decide(sale, reserve(sale.terms.event_id, user, seat_ids_of(sale, 2)))
    assert refused == Rejected(code=RejectionCode.TOO_MANY_HOLDS)
    a_hold(sale, None, 2)


@pytest.mark.parametrize("step", ["extend", "check_out", "decline"])
def test_a_hold_that_may_still_become_tickets_counts(step: str) -> None:
    sale = a_sale(ticket_limit=6, live_holds_max=2)
    user, holds = a_user_with_all_the_holds_they_may_have(sale)
    the_time_is(sale, sale.now + timedelta(minutes=1))
    if step == "extend":
        decide(sale, extend(sale.terms.event_id, user, holds[0].id))
    else:
        checkout = check_out(sale.terms.event_id, user, holds[0].id)
        decide(sale, checkout)
        if step == "decline":
            decide(sale, decline(sale.terms.event_id, checkout.command_id))
    refused = decide(sale, reserve(sale.terms.event_id, user, seat_ids_of(sale, 2)))
    assert refused == Rejected(code=RejectionCode.TOO_MANY_HOLDS)


@pytest.mark.parametrize("end", ["release", "settle", "cancel_payment", "expire"])
def test_a_hold_that_is_over_or_paid_does_not_count(end: str) -> None:
    sale = a_sale(ticket_limit=6, live_holds_max=2)
    user, holds = a_user_with_all_the_holds_they_may_have(sale)
    checkout = check_out(sale.terms.event_id, user, holds[0].id)
    if end == "release":
        decide(sale, release(sale.terms.event_id, user, holds[0].id))
    elif end == "expire":
        the_time_is(sale, NOW + HOLD)
        is_saved_and_loaded(sale)  # the database counts by its clock
        decide(sale, expire(sale.terms.event_id, *(hold.id for hold in holds)))
    else:
        decide(sale, checkout)
        end_of_payment = settle if end == "settle" else cancel_payment
        decide(sale, end_of_payment(sale.terms.event_id, checkout.command_id))
    a_hold(sale, user, 2)
    assert sale.hold_count_of(user) == len(live_holds(sale, user))


def test_what_is_given_back_counts_no_longer() -> None:
    sale, user = a_sale(ticket_limit=2), a_user()
    hold = a_hold(sale, user, 0, 1)
    decide(sale, release(sale.terms.event_id, user, hold.id))
    a_hold(sale, user, 2, 3)


def test_what_is_refunded_counts_no_longer() -> None:
    sale, user = a_sale(ticket_limit=2), a_user()
    order = a_completed_order(sale, user, 0, 1)
    command = refund(sale.terms.event_id, order.id)
    decide(sale, command)
    decide(sale, payment_refunded(sale.terms.event_id, order.id, command.command_id))
    a_hold(sale, user, 2, 3)


def test_unknown_seats_are_named() -> None:
    sale, stranger = a_sale(), SeatId(uuid4())
    reply = decide(sale, reserve(sale.terms.event_id, a_user(), [*seat_ids_of(sale, 0), stranger]))
    assert reply == Rejected(code=RejectionCode.SEATS_UNKNOWN, seat_ids=(stranger,))
    assert set(statuses_of(sale)) == {"available"}


@pytest.mark.parametrize("status", ["held", "sold", "withheld", "locked"])
def test_all_seats_or_none_and_the_taken_ones_are_named(status: str) -> None:
    sale = a_sale()
    taken = sale.seats[seat_ids_of(sale, 1)[0]]
    taken.status, taken.held_until = status, NOW + A_MOMENT if status == "held" else None
    reply = decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0, 1, 2)))
    assert reply == Rejected(code=RejectionCode.SEATS_UNAVAILABLE, seat_ids=(taken.id,))
    assert (sale.ledger, sale.holds, sale.changed_seats) == ([], {}, {})


def test_held_means_held_only_until_its_time() -> None:
    sale, late, quick = a_sale(), a_user(), a_user()
    hold = a_hold(sale, late, 0)
    the_time_is(sale, hold.held_until - A_MOMENT)
    refused = decide(sale, reserve(sale.terms.event_id, quick, seat_ids_of(sale, 0)))
    assert isinstance(refused, Rejected)
    the_time_is(sale, hold.held_until)
    a_hold(sale, quick, 0)
    steps = [(entry.from_status, entry.to_status) for entry in sale.ledger]
    assert steps == [("available", "held"), ("held", "available"), ("available", "held")], "the ledger has no leaps"


# ---- giving back


def test_released_seats_are_free_and_the_hold_is_over() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    assert decide(sale, release(sale.terms.event_id, user, hold.id)) == SeatsReleased(hold_id=hold.id)
    assert hold.status == "released"
    for seat in sale.seats.values():
        assert (seat.status, seat.hold_id, seat.held_until) == ("available", None, None)


def test_a_hold_frees_only_what_is_still_its_own() -> None:
    sale, user, other = a_sale(), a_user(), a_user()
    hold = a_hold(sale, user, 0, 1)
    seat = sale.seats[seat_ids_of(sale, 1)[0]]
    seat.hold_id = HoldId(other)
    decide(sale, release(sale.terms.event_id, user, hold.id))
    assert statuses_of(sale)[:2] == ["available", "held"]


@pytest.mark.parametrize("command_of", [release, extend])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("expired", RejectionCode.HOLD_EXPIRED),
        ("released", RejectionCode.HOLD_RELEASED),
        ("paying", RejectionCode.HOLD_IN_PAYMENT),
        ("converted", RejectionCode.HOLD_ALREADY_PAID),
    ],
)
def test_a_hold_that_is_no_longer_active_says_what_became_of_it(
    command_of: Callable[..., AnyCommand], status: str, code: RejectionCode
) -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    hold.status = status
    assert decide(sale, command_of(sale.terms.event_id, user, hold.id)) == Rejected(code=code)


@pytest.mark.parametrize("command_of", [release, extend])
def test_a_hold_whose_time_is_over_is_over_before_anybody_cleans_up(command_of: Callable[..., AnyCommand]) -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    the_time_is(sale, hold.held_until)
    reply = decide(sale, command_of(sale.terms.event_id, user, hold.id))
    assert reply == Rejected(code=RejectionCode.HOLD_EXPIRED)


@pytest.mark.parametrize("command_of", [release, extend])
def test_somebody_elses_hold_looks_like_none(command_of: Callable[..., AnyCommand]) -> None:
    sale = a_sale()
    hold = a_hold(sale)
    for hold_id in (hold.id, a_command_id()):
        reply = decide(sale, command_of(sale.terms.event_id, a_user(), hold_id))
        assert reply == Rejected(code=RejectionCode.HOLD_UNKNOWN)


# ---- keeping longer


def test_an_extension_is_a_full_hold_from_now_on_and_is_looked_at_anew() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    sale.outgoing.armed.clear()
    the_time_is(sale, sale.now + timedelta(minutes=4))
    reply = decide(sale, extend(sale.terms.event_id, user, hold.id))
    assert isinstance(reply, HoldExtended)
    assert (reply.held_until, reply.extendable_until) == (sale.now + HOLD, NOW + CEILING)
    assert {sale.seats[seat_id].held_until for seat_id in hold.seat_ids} == {reply.held_until}
    assert [due.held_until for due in sale.outgoing.armed] == [reply.held_until]
    assert hold.reserved_until == NOW + HOLD, "a retry of the reservation still gets its first answer"


def test_no_extension_goes_past_the_ceiling() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    for minutes in (9, 18):
        the_time_is(sale, NOW + timedelta(minutes=minutes))
        decide(sale, extend(sale.terms.event_id, user, hold.id))
    assert hold.held_until == NOW + CEILING
    the_time_is(sale, sale.now + timedelta(minutes=1))
    refused = decide(sale, extend(sale.terms.event_id, user, hold.id))
    assert refused == Rejected(code=RejectionCode.HOLD_CEILING_REACHED, held_until=NOW + CEILING)


def test_a_hold_that_lost_a_seat_is_not_extended() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user)
    sale.seats[hold.seat_ids[0]].fence += 1
    reply = decide(sale, extend(sale.terms.event_id, user, hold.id))
    assert reply == Rejected(code=RejectionCode.HOLD_EXPIRED)


# ---- running out


def test_a_hold_that_is_over_is_freed() -> None:
    sale = a_sale()
    over = a_hold(sale, None, 0)
    the_time_is(sale, sale.now + timedelta(minutes=5))
    not_over = a_hold(sale, None, 1)
    the_time_is(sale, over.held_until)
    assert decide(sale, expire(sale.terms.event_id, over.id, not_over.id)) == Done(changed=True)
    assert (over.status, not_over.status) == ("expired", "active")
    assert statuses_of(sale)[:2] == ["available", "held"]


def test_a_hint_that_comes_early_twice_or_about_nothing_changes_nothing() -> None:
    sale = a_sale()
    hold = a_hold(sale)
    assert decide(sale, expire(sale.terms.event_id, hold.id, a_command_id())) == Done(changed=False)
    the_time_is(sale, hold.held_until)
    decide(sale, expire(sale.terms.event_id, hold.id))
    assert decide(sale, expire(sale.terms.event_id, hold.id)) == Done(changed=False)


def test_a_payment_stops_the_clock() -> None:
    sale = a_sale()
    order = a_pending_order(sale)
    the_time_is(sale, sale.now + timedelta(days=300))
    assert decide(sale, expire(sale.terms.event_id, order.hold_id)) == Done(changed=False)
    assert statuses_of(sale)[:2] == ["held", "held"]


def test_an_expired_hold_does_not_free_the_seats_of_whoever_came_after() -> None:
    sale = a_sale()
    late = a_hold(sale, None, 0, 1)
    the_time_is(sale, late.held_until)
    quick = a_hold(sale, None, 0)
    decide(sale, expire(sale.terms.event_id, late.id))
    assert sale.seats[quick.seat_ids[0]].hold_id == quick.id
    assert statuses_of(sale)[:2] == ["held", "available"]


# ---- answered before


def test_a_repeated_release_is_answered_the_same() -> None:
    sale, user = a_sale(), a_user()
    command = release(sale.terms.event_id, user, a_hold(sale, user).id)
    first = decide(sale, command)
    assert decide(sale, command) == first, "twice in one batch, too"
    assert len(sale.new_answers) == 1


def test_a_repeated_extension_is_answered_the_same() -> None:
    sale, user = a_sale(), a_user()
    command = extend(sale.terms.event_id, user, a_hold(sale, user).id)
    the_time_is(sale, sale.now + timedelta(minutes=1))
    assert decide(sale, command) == decide(sale, command)


def test_an_answered_command_id_serves_no_other_body() -> None:
    sale, user = a_sale(), a_user()
    command = release(sale.terms.event_id, user, a_hold(sale, user).id)
    decide(sale, command)
    sale.answered = {answer.command_id: answer for answer in sale.new_answers}
    other = command.model_copy(update={"request_hash": "another body"})
    assert decide(sale, other) == Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
