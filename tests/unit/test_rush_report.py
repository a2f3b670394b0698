"""Does the rush count right, and does it see a broken promise?"""

from io import StringIO
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from consumers.proof.report import CheckResult, Report
from ops.rush.faults import Struck
from ops.rush.history import Acknowledged, count_unheard, find_broken_promises
from ops.rush.house import house_of
from ops.rush.plan import RushPlan
from ops.rush.report import DIFFERENT, NOT_SOLD_OUT, SOLD_OUT, Outcome, as_report
from ops.rush.tally import CHECKOUT, RESERVE, Tally, percentile

SEATS = [uuid4() for _ in range(4)]


def an_order(*seat_ids: UUID) -> Acknowledged:
    return Acknowledged(order_id=uuid4(), user_id=uuid4(), seat_ids=seat_ids)


def sold_to(*orders: Acknowledged) -> dict[UUID, UUID]:
    return {seat_id: order.order_id for order in orders for seat_id in order.seat_ids}


def a_tally() -> Tally:
    tally = Tally(begun_at=100.0, ended_at=110.0)
    tally.attempt_count, tally.hold_count, tally.order_count, tally.seat_count = 50, 40, 30, 90
    tally.refused.update({429: 7, 503: 2})
    for milliseconds in range(1, 101):
        tally.took(RESERVE, milliseconds / 1000)
    tally.took(CHECKOUT, 0.25)
    return tally


def an_outcome(
    *, sold_count: int = 90, promises: tuple[str, ...] = (), differences: tuple[str, ...] = (), is_warning: bool = False
) -> Outcome:
    result = CheckResult("a check", "It must be so.", 90, "seats", differences, is_warning=is_warning)
    return Outcome(
        plan=RushPlan(seat_count=90, buyer_count=30),
        tally=a_tally(),
        struck=(Struck("Redis killed, restarted empty", 4.0, 1.5), Struck("broker stopped and started", 7.0, None)),
        seat_count=90,
        sold_count=sold_count,
        broken_promises=promises,
        unheard_order_count=0,
        unsettled_count=0,
        proof=Report("the event", (result,), pending_count=0, is_money_compared=True),
    )


def shown(outcome: Outcome) -> str:
    console = Console(file=StringIO(), width=160)
    console.print(as_report(outcome))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


class TestPromises:
    """What the buyers were told, against the database."""

    def test_kept_promises_are_no_contradiction(self) -> None:
        one, other = an_order(*SEATS[:2]), an_order(*SEATS[2:])
        assert list(find_broken_promises([one, other], sold_to(one, other))) == []

    def test_an_acknowledged_order_that_is_not_there_is_seen(self) -> None:
        kept, lost = an_order(SEATS[0]), an_order(SEATS[1])
        [broken] = find_broken_promises([kept, lost], sold_to(kept))
        assert str(lost.order_id) in broken

    def test_an_order_that_lost_one_of_its_seats_is_seen(self) -> None:
        order = an_order(*SEATS[:2])
        [broken] = find_broken_promises([order], {SEATS[0]: order.order_id})
        assert str(SEATS[1]) in broken

    def test_a_seat_promised_twice_is_seen_from_both_sides(self) -> None:
        first, second = an_order(SEATS[0]), an_order(SEATS[0])
        broken = list(find_broken_promises([first, second], sold_to(first)))
        assert any("promised to order" in line and "and to order" in line for line in broken)
        assert any("but is in order" in line for line in broken)

    def test_an_order_without_seats_is_seen(self) -> None:
        assert list(find_broken_promises([an_order()], {}))

    def test_hearing_the_same_answer_twice_is_no_contradiction(self) -> None:
        order = an_order(*SEATS)
        assert list(find_broken_promises([order, order], sold_to(order))) == []

    def test_an_order_nobody_heard_of_is_counted_and_no_contradiction(self) -> None:
        heard, unheard = an_order(SEATS[0]), an_order(*SEATS[1:])
        assert list(find_broken_promises([heard], sold_to(heard, unheard))) == []
        assert count_unheard([heard], sold_to(heard, unheard)) == 1


class TestPercentiles:
    """The smallest value that at least that share does not exceed."""

    @pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
    def test_of_a_hundred(self, share: float, expected: int) -> None:
        assert percentile([float(value) for value in range(100, 0, -1)], share) == expected

    def test_of_one_it_is_always_that_one(self) -> None:
        assert percentile([3.0], 0.5) == percentile([3.0], 0.99) == 3.0

    def test_of_none_there_is_none(self) -> None:
        assert percentile([], 0.5) is None


class TestExitCode:
    """What a script that runs the rush is told."""

    def test_sold_out_without_differences(self) -> None:
        assert an_outcome().exit_code == SOLD_OUT

    def test_a_broken_promise_is_a_difference(self) -> None:
        assert an_outcome(promises=("seat 1 is nobody's",)).exit_code == DIFFERENT

    def test_a_difference_in_the_proof_is_one_although_the_house_is_sold_out(self) -> None:
        assert an_outcome(differences=("entry 3 is missing",)).exit_code == DIFFERENT

    def test_a_warning_is_none(self) -> None:
        assert an_outcome(differences=("the relay is late",), is_warning=True).exit_code == SOLD_OUT

    def test_time_was_up(self) -> None:
        assert an_outcome(sold_count=89).exit_code == NOT_SOLD_OUT


class TestTables:
    """What the operator reads."""

    def test_the_counts_and_the_times_are_there(self) -> None:
        text = shown(an_outcome())
        for words in ("429 slow down", "503 busy", "95 ms", "250 ms", "10.0 s", "sold out: 90 seats"):
            assert words in text

    def test_the_rates_are_per_second_of_the_rush(self) -> None:
        assert a_tally().per_second(30) == pytest.approx(3.0)

    def test_each_fault_says_how_long_it_took_to_heal(self) -> None:
        text = shown(an_outcome())
        assert "1.5 s" in text
        assert "never" in text

    def test_unsold_seats_are_said(self) -> None:
        assert "time is up with 1 seats unsold" in shown(an_outcome(sold_count=89))

    def test_differences_are_said_loudly_and_shown(self) -> None:
        text = shown(an_outcome(promises=("seat 1 is nobody's",), differences=("entry 3 is missing",)))
        assert "2 DIFFERENCES" in text
        assert "seat 1 is nobody's" in text
        assert "a check: entry 3 is missing" in text


@pytest.mark.parametrize("seat_count", [1, 49, 50, 51, 2000, 2001, 10_000, 12_345])
def test_a_house_has_exactly_the_seats_asked_for(seat_count: int) -> None:
    assert house_of(seat_count).capacity == seat_count
