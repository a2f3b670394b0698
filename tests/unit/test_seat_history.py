"""Does the history checker accept what can have happened, and nothing else?"""

import math
from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seat_history import (
    AVAILABLE,
    Kind,
    Operation,
    Outcome,
    Seat,
    find_contradiction,
    is_linearizable,
    seat_after,
)

USERS = ("ann", "bob", "cid", "dee")
KINDS: tuple[Kind, ...] = ("hold", "release", "expire", "buy", "cancel", "read")
NO_WAY_TO_FREE_A_SEAT: tuple[Kind, ...] = ("hold", "buy", "read")


def in_turn(*operations: tuple[str, Kind, Outcome], start_at: float = 0.0) -> list[Operation]:
    """One after the other, each returned before the next is called."""
    return [
        Operation(start_at + number, start_at + number + 0.5, kind, who, outcome)
        for number, (who, kind, outcome) in enumerate(operations)
    ]


def test_a_hold_a_purchase_and_a_cancellation_make_sense() -> None:
    assert is_linearizable(
        in_turn(
            ("ann", "hold", "done"),
            ("bob", "hold", "refused"),
            ("ann", "buy", "done"),
            ("bob", "read", "sold"),
            ("ann", "cancel", "done"),
            ("bob", "hold", "done"),
            ("bob", "expire", "done"),
            ("cid", "read", "available"),
        )
    )


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param([("ann", "hold", "done"), ("bob", "hold", "done")], id="held twice"),
        pytest.param(
            [("ann", "hold", "done"), ("ann", "buy", "done"), ("bob", "hold", "done"), ("bob", "buy", "done")],
            id="sold twice",
        ),
        pytest.param([("ann", "hold", "done"), ("bob", "buy", "done")], id="bought what another holds"),
        pytest.param([("ann", "buy", "done")], id="bought without a hold"),
        pytest.param(
            [("ann", "hold", "done"), ("ann", "expire", "done"), ("ann", "buy", "done")], id="bought too late"
        ),
        pytest.param([("ann", "hold", "done"), ("ann", "buy", "refused")], id="refused what was theirs"),
        pytest.param([("ann", "hold", "done"), ("bob", "read", "available")], id="stale read"),
    ],
)
def test_nonsense_is_rejected(nonsense: list[tuple[str, Kind, Outcome]]) -> None:
    assert not is_linearizable(in_turn(*nonsense))


def test_two_holds_make_sense_only_if_a_release_may_lie_between() -> None:
    ann = Operation(0, 1, "hold", "ann", "done")
    bob = Operation(2, 3, "hold", "bob", "done")
    assert not is_linearizable([ann, bob])
    assert is_linearizable([ann, bob, Operation(1.5, 2.5, "release", "ann", "done")])
    assert not is_linearizable([ann, bob, Operation(3.5, 4, "release", "ann", "done")])


def test_an_operation_with_unknown_outcome_may_happen_late_or_never() -> None:
    ann, bob = in_turn(("ann", "hold", "done"), ("bob", "hold", "done"), start_at=1)
    lost_release = Operation(1.7, 1.8, "release", "ann", "unknown")
    assert is_linearizable([ann, bob, lost_release])
    assert is_linearizable([ann, lost_release, *in_turn(("ann", "buy", "done"), start_at=9)])
    assert not is_linearizable([ann, bob, replace(lost_release, call_at=3)])


def test_a_contradiction_names_the_operations_that_cannot_come_next() -> None:
    contradiction = find_contradiction(in_turn(("ann", "hold", "done"), ("bob", "hold", "done")))
    assert contradiction is not None
    assert "leaves the seat held by ann" in contradiction
    assert "bob hold: done" in contradiction
    assert "ann hold" not in contradiction


def make_history(
    random: Random, length: int, *, concurrency: int, unknown_kinds: tuple[Kind, ...] = KINDS
) -> tuple[list[Operation], Seat]:
    """Operations that truly happened one after the other, seen through calls and returns that overlap."""
    history, seat, now = [], AVAILABLE, 0.0
    for _ in range(length):
        now += random.random()
        kind = random.choice(KINDS)
        # Mostly the owner acts on a taken seat, or hardly anything would ever succeed.
        who = seat.owner if seat.owner and kind != "hold" and random.random() < 0.7 else random.choice(USERS)
        operation = Operation(
            call_at=now - random.random() * concurrency,
            return_at=now + random.random() * concurrency,
            kind=kind,
            who=who,
            outcome=seat.status if kind == "read" else "done",
        )
        after = seat_after(seat, operation)
        if after is None:
            operation = replace(operation, outcome="refused")
        seat = after or seat
        if kind in unknown_kinds and random.random() < 0.1:
            operation = replace(operation, outcome="unknown")
        history.append(operation)
    return history, seat


def after_silence(history: list[Operation], *operations: tuple[str, Kind, Outcome]) -> list[Operation]:
    """The history with these appended, in turn, once everything before has returned."""
    silence_at = 1 + max((operation.return_at for operation in history), default=0.0)
    return [*history, *in_turn(*operations, start_at=silence_at)]


def freeing(seat: Seat) -> list[tuple[str, Kind, Outcome]]:
    if seat.owner is None:
        return []
    return [(seat.owner, "release" if seat.status == "held" else "cancel", "done")]


@settings(deadline=None)  # a busy machine is no contradiction
@given(st.randoms(use_true_random=False), st.integers(0, 60), st.integers(1, 6))
def test_what_truly_happened_is_accepted(random: Random, length: int, concurrency: int) -> None:
    history, _ = make_history(random, length, concurrency=concurrency)
    assert is_linearizable(history), find_contradiction(history)


@settings(deadline=None)  # a busy machine is no contradiction
@given(st.randoms(use_true_random=False), st.integers(0, 40), st.integers(1, 6))
def test_a_planted_double_hold_is_found(random: Random, length: int, concurrency: int) -> None:
    # An unknown release could explain a second hold, so here only other kinds of outcome get lost.
    history, seat = make_history(random, length, concurrency=concurrency, unknown_kinds=NO_WAY_TO_FREE_A_SEAT)
    fine = after_silence(history, *freeing(seat), ("ann", "hold", "done"))
    assert is_linearizable(fine), find_contradiction(fine)
    assert not is_linearizable(after_silence(fine, ("bob", "hold", "done")))


@settings(deadline=None)  # a busy machine is no contradiction
@given(st.randoms(use_true_random=False), st.integers(0, 40), st.integers(1, 6))
def test_a_planted_double_sale_is_found(random: Random, length: int, concurrency: int) -> None:
    history, seat = make_history(random, length, concurrency=concurrency, unknown_kinds=NO_WAY_TO_FREE_A_SEAT)
    fine = after_silence(history, *freeing(seat), ("ann", "hold", "done"), ("ann", "buy", "done"))
    assert is_linearizable(fine), find_contradiction(fine)
    assert not is_linearizable(after_silence(fine, ("bob", "buy", "done")))


def test_a_long_history_is_checked_quickly_enough_for_every_seat_of_a_run() -> None:
    history, _ = make_history(Random(1), 500, concurrency=6)
    assert is_linearizable(history)


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    """Anything at all, most of it nonsense, and small enough to try every order."""

    def operation() -> Operation:
        call_at = draw(st.integers(0, 9))
        kind = draw(st.sampled_from(KINDS))
        outcomes: tuple[Outcome, ...] = ("available", "held", "sold") if kind == "read" else ("done", "done", "refused")
        return Operation(
            call_at=call_at,
            return_at=call_at + draw(st.integers(1, 6)) - 0.5,
            kind=kind,
            who=draw(st.sampled_from(USERS[:2])),
            outcome=draw(st.sampled_from((*outcomes, "unknown"))),
        )

    return [operation() for _ in range(draw(st.integers(1, 5)))]


@settings(deadline=None)  # a busy machine is no contradiction
@given(small_histories())
def test_the_checker_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert is_linearizable(history) == any(explains(order) for order in permutations(history))


def explains(order: tuple[Operation, ...]) -> bool:
    """Whether the operations, in exactly this order, respect their intervals and their outcomes."""
    seats = {AVAILABLE}
    latest_call_at = -math.inf
    for operation in order:
        latest_call_at = max(latest_call_at, operation.call_at)
        if operation.due_at < latest_call_at:
            return False
        after = {changed for seat in seats if (changed := seat_after(seat, operation)) is not None}
        seats = seats | after if operation.is_unknown else after
    return bool(seats)
