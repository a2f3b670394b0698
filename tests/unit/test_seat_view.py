"""Is a view that believes it knows everything ever wrong?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import find, given
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from contracts.domain_events import SeatChange, SeatsChanged
from contracts.ids import EventId, SeatId
from ingress.seat_view import Heard, SeatState, SeatView

EVENT_ID = EventId(UUID(int=1))
SEATS = [SeatId(UUID(int=100 + index)) for index in range(6)]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = NOW.timestamp()
BELIEVED_SECONDS = 600.0
STATUSES = ("available", "held", "sold", "withheld")


def a_view(*statuses: str, version: int = 0, held_until: datetime | None = None) -> SeatView:
    """A view of so many seats, each with its status."""
    seats = [
        SeatState(seat_id, status, held_until if status == "held" else None)
        for seat_id, status in zip(SEATS, statuses, strict=False)
    ]
    return SeatView(seats, version=version, now=AT, believed_seconds=BELIEVED_SECONDS)


def changed(first: int, last: int, *changes: tuple[int, str, datetime | None]) -> SeatsChanged:
    """A message of the engine; changes as (index, status, held_until)."""
    named = tuple(SeatChange(SEATS[index], index, status, until) for index, status, until in changes)
    return SeatsChanged(event_id=EVENT_ID, first_seq=first, last_seq=last, changes=named)


# ---- a history, and what the network makes of it


@dataclass(frozen=True)
class History:
    """What an engine did, one message a transaction, and the characters after each ledger number."""

    messages: Sequence[SeatsChanged]
    truths: dict[int, bytes]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Transactions of one to four changes, or of none but moved times."""
    statuses = ["available"] * len(SEATS)
    version, messages, truths = 0, [], {0: _characters(statuses)}
    for _ in range(draw(st.integers(1, 8))):
        indexes = draw(st.lists(st.integers(0, len(SEATS) - 1), min_size=1, max_size=4, unique=True))
        if draw(st.integers(0, 4)) == 0:
            moved = [(index, statuses[index], NOW) for index in indexes]
            messages.append(changed(version + 1, version, *moved))
            continue
        for index in indexes:
            statuses[index] = draw(st.sampled_from(STATUSES))
        messages.append(
            changed(version + 1, version + len(indexes), *((index, statuses[index], NOW) for index in indexes))
        )
        version += len(indexes)
        truths[version] = _characters(statuses)
    return History(messages, truths)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[History, list[SeatsChanged]]:
    """A history whose messages are lost, doubled and overtaken."""
    history = draw(histories())
    return history, draw(st.lists(st.sampled_from(history.messages), max_size=20))


def _characters(statuses: Sequence[str]) -> bytes:
    return "".join(status[0] for status in statuses).encode()


def is_wrong(view: SeatView, history: History, heard: Sequence[SeatsChanged]) -> bool:
    """Whether the view, fed with this until it owns to a gap, ever shows what never was."""
    for message in heard:
        if view.apply(message, AT)[0] is Heard.GAP:
            return False
        if history.truths.get(view.version) != bytes(view.statuses):
            return True
    return False


class Gullible(SeatView):
    """The negative control: a view that believes whatever comes."""

    def apply(self, changed: SeatsChanged, now: float) -> tuple[Heard, dict[int, int]]:
        self.version = changed.first_seq - 1
        return super().apply(changed, now)


@given(deliveries())
def test_whatever_is_lost_doubled_or_overtaken_a_view_without_a_gap_is_right(
    delivered: tuple[History, list[SeatsChanged]],
) -> None:
    assert not is_wrong(a_view(*["available"] * len(SEATS)), *delivered)


def test_without_the_numbers_it_would_be_wrong() -> None:
    def fools(delivered: tuple[History, list[SeatsChanged]]) -> bool:
        free = [SeatState(seat_id, "available", None) for seat_id in SEATS]
        return is_wrong(Gullible(free, version=0, now=AT, believed_seconds=BELIEVED_SECONDS), *delivered)

    try:
        find(deliveries(), fools)
    except NoSuchExample:
        pytest.fail("the histories cannot tell a careful view from a gullible one")


@given(histories())
def test_everything_in_its_order_leads_to_the_end(history: History) -> None:
    view = a_view(*["available"] * len(SEATS))
    assert {view.apply(message, AT)[0] for message in history.messages} == {Heard.APPLIED}
    assert (view.version, bytes(view.statuses)) == max(history.truths.items())


# ---- one message


def test_only_what_looks_different_is_passed_on() -> None:
    view = a_view("available", "held")
    heard, differences = view.apply(changed(1, 2, (0, "held", NOW), (1, "held", NOW)), AT)
    assert (heard, differences) == (Heard.APPLIED, {0: ord("h")})


def test_moved_times_count_at_their_version_only() -> None:
    later = NOW + timedelta(seconds=300)
    view = a_view("held", version=7, held_until=NOW + timedelta(seconds=10))
    assert view.apply(changed(7, 6, (0, "held", later)), AT)[0] is Heard.OLD
    assert not view.is_gone(SEATS[0], AT + 20)
    assert view.apply(changed(9, 8, (0, "held", later)), AT)[0] is Heard.GAP
    assert not view.is_gone(SEATS[0], AT + 20)
    assert view.apply(changed(8, 7, (0, "held", later)), AT)[0] is Heard.APPLIED
    assert view.is_gone(SEATS[0], AT + 20)
    assert view.version == 7


# ---- who may have a seat


@pytest.mark.parametrize(("status", "gone"), [("available", False), ("sold", True), ("withheld", True), ("held", True)])
def test_what_is_taken_is_gone(status: str, gone: bool) -> None:
    assert a_view(status, held_until=NOW + timedelta(seconds=60)).is_gone(SEATS[0], AT) is gone


def test_a_hold_that_is_over_keeps_nobody_away() -> None:
    view = a_view("held", held_until=NOW + timedelta(seconds=60))
    assert view.is_gone(SEATS[0], AT + 59.9)
    assert not view.is_gone(SEATS[0], AT + 60)


@pytest.mark.parametrize("held_until", [None, datetime(9999, 12, 31, tzinfo=UTC)])
def test_a_hold_of_unknown_or_endless_duration_is_believed_in_for_a_while(held_until: datetime | None) -> None:
    view = a_view("held", held_until=held_until)
    assert view.is_gone(SEATS[0], AT + BELIEVED_SECONDS - 1)
    assert not view.is_gone(SEATS[0], AT + BELIEVED_SECONDS)


def test_a_seat_of_another_event_is_not_ours_to_refuse() -> None:
    view = a_view("sold")
    assert not view.is_gone(SEATS[5], AT)
    assert not view.knows(SEATS[5])


def test_nothing_is_left_only_when_no_hold_is_about_to_end() -> None:
    view = a_view("sold", "held", "available", held_until=NOW + timedelta(seconds=60))
    assert not view.has_fewer_than(1, AT)
    assert view.has_fewer_than(2, AT)
    assert not view.has_fewer_than(2, AT + 60)
    assert view.has_fewer_than(1, AT, first=0, end=2)
    view.apply(changed(1, 1, (2, "sold", None)), AT)
    assert view.has_fewer_than(1, AT)
