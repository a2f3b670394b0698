"""Are the seats that are chosen for somebody the best there are?"""

from collections.abc import Iterator, Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.rules.best_available import RowKind, SeatRow, choose_best_available
from contracts.ids import SeatId

FREE, TAKEN, STANDING, WHEELCHAIR, COMPANION = ".xswc"


class House:
    """Rows drawn as text: `.` is free, `x` is taken; `A: ..x.` is a row of section A. A row with `w` and `c` is of places
    for wheelchairs and the seats beside them, one with `s` of places to stand."""

    def __init__(self, *drawn: str) -> None:
        self.rows: list[SeatRow] = []
        self.free: set[SeatId] = set()
        for number, line in enumerate(drawn):
            section, _, seats = line.rpartition(": ")
            ids = [SeatId(UUID(int=number * 1000 + position)) for position in range(len(seats))]
            marks = list(zip(ids, seats, strict=True))
            wheelchairs = frozenset(seat_id for seat_id, mark in marks if mark == WHEELCHAIR)
            self.rows.append(SeatRow(section, str(number), ids, kind_of(seats), wheelchairs))
            self.free.update(seat_id for seat_id, mark in marks if mark != TAKEN)

    def choose(self, count: int, section: str | None = None, *, accessible: bool = False) -> list[SeatId]:
        return choose_best_available(
            iter(self.rows), self.free.__contains__, count=count, section=section, accessible=accessible
        )

    def free_of(self, kind: RowKind) -> set[SeatId]:
        """The free places of this kind."""
        return self.free & {seat_id for row in self.rows if row.kind == kind for seat_id in row.seat_ids}

    def places(self, seat_ids: Sequence[SeatId]) -> list[tuple[int, int]]:
        """Row and position of each seat."""
        return [divmod(seat_id.int, 1000) for seat_id in seat_ids]

    def windows(self, count: int, section: str | None) -> Iterator[list[SeatId]]:
        """Every way to sit together, in the order of the map."""
        for row in self._of(section):
            for start in range(len(row.seat_ids) - count + 1):
                window = list(row.seat_ids[start : start + count])
                if self.free.issuperset(window):
                    yield window

    def orphans(self, seat_ids: Sequence[SeatId]) -> int:
        """How many single seats would newly stand alone if these were taken."""
        return self._singles(self.free - set(seat_ids)) - self._singles(self.free - set(seat_ids), among=self.free)

    def by_brute_force(self, count: int, section: str | None) -> list[SeatId]:
        """The rule said again, with no cleverness: all windows are looked at."""
        windows = list(self.windows(count, section))
        for window in windows:
            if self.orphans(window) == 0:
                return window
        if windows:
            return windows[0]
        free = [seat_id for row in self._of(section) for seat_id in row.seat_ids if seat_id in self.free]
        return free[:count] if len(free) >= count else []

    def _of(self, section: str | None) -> list[SeatRow]:
        return [row for row in self.rows if section in (None, row.section)]

    def _singles(self, free: set[SeatId], among: set[SeatId] | None = None) -> int:
        """Free seats without a free neighbour; with `among`, only those that had none among these either."""
        alone = 0
        for row in self.rows:
            for position, seat_id in enumerate(row.seat_ids):
                beside = {*row.seat_ids[max(0, position - 1) : position], *row.seat_ids[position + 1 : position + 2]}
                if seat_id in free and not beside & free and (among is None or not beside & among):
                    alone += 1
        return alone


def kind_of(drawn: str) -> RowKind:
    """What a row is made of."""
    if STANDING in drawn:
        return "standing"
    return "accessible" if {WHEELCHAIR, COMPANION} & set(drawn) else "seat"


houses = st.lists(
    st.tuples(st.sampled_from("AB"), st.text(alphabet=FREE + TAKEN, min_size=1, max_size=9)),
    min_size=1,
    max_size=4,
).map(lambda rows: House(*(f"{section}: {seats}" for section, seats in rows)))
a_row = st.sampled_from([FREE, STANDING, WHEELCHAIR + COMPANION]).flatmap(
    lambda free: st.text(alphabet=free + TAKEN, min_size=1, max_size=7)
)
mixed_houses = st.lists(st.tuples(st.sampled_from("AB"), a_row), min_size=1, max_size=6).map(
    lambda rows: House(*(f"{section}: {places}" for section, places in rows))
)
counts = st.integers(1, 6)
sections = st.sampled_from([None, "A", "B", "C"])


@pytest.mark.parametrize(
    ("drawn", "count", "places"),
    [
        (("......",), 2, [(0, 0), (0, 1)]),
        (("x..x..",), 2, [(0, 1), (0, 2)]),
        ((".x....",), 2, [(0, 2), (0, 3)]),
        (("...", "...."), 2, [(1, 0), (1, 1)]),
        (("...", "xx."), 2, [(0, 0), (0, 1)]),
        ((".x.", ".x."), 3, [(0, 0), (0, 2), (1, 0)]),
        ((".x.", "x.x"), 4, []),
        (("xxx",), 1, []),
        (("..", "."), 1, [(1, 0)]),
    ],
    ids=[
        "the first of the first row",
        "between taken ones, if it fits exactly",
        "past a gap that is too small",
        "a row further back rather than an orphan",
        "an orphan rather than apart",
        "apart rather than not at all",
        "none when there are too few",
        "none when the house is full",
        "a single seat takes the single place",
    ],
)
def test_best_means(drawn: tuple[str, ...], count: int, places: list[tuple[int, int]]) -> None:
    house = House(*drawn)
    assert house.places(house.choose(count)) == places


@pytest.mark.parametrize(
    ("drawn", "count", "places"),
    [
        (("F: sss", "F: sss"), 4, [(0, 0), (0, 1), (0, 2), (1, 0)]),
        (("F: xsx", "F: sxs"), 2, [(0, 1), (1, 0)]),
        (("F: sss", "A: ..."), 3, [(0, 0), (0, 1), (0, 2)]),
        (("A: ...", "F: ss"), 2, [(1, 0), (1, 1)]),
        (("A: .x.x.", "F: s", "G: s"), 3, [(0, 0), (0, 2), (0, 4)]),
        (("F: s", "A: .x."), 3, [(1, 0), (1, 2), (0, 0)]),
        (("F: s", "G: ss"), 3, [(0, 0), (1, 0), (1, 1)]),
    ],
    ids=[
        "a standing section has no rows",
        "nor does a gap matter in it",
        "the front is best, standing or not",
        "standing together rather than leaving an orphan",
        "apart in seats before anybody stands",
        "a mix rather than not at all",
        "two standing sections rather than not at all",
    ],
)
def test_best_where_there_are_places_to_stand_means(
    drawn: tuple[str, ...], count: int, places: list[tuple[int, int]]
) -> None:
    house = House(*drawn)
    assert house.places(house.choose(count)) == places


@pytest.mark.parametrize(
    ("drawn", "count", "places"),
    [
        (("....", "wc", "wc"), 2, [(1, 0), (1, 1)]),
        (("wwcc",), 2, [(0, 1), (0, 2)]),
        (("cwwc",), 1, [(0, 1)]),
        (("wc", "cwc"), 3, [(1, 0), (1, 1), (1, 2)]),
        (("ccc", "cxw"), 2, []),
        (("wc", "...."), 3, []),
    ],
    ids=[
        "the first of the map",
        "one wheelchair and a chair rather than two wheelchairs",
        "somebody who comes alone",
        "where all of them fit",
        "not without a place for a wheelchair, nor apart",
        "nothing else",
    ],
)
def test_best_for_somebody_in_a_wheelchair_means(
    drawn: tuple[str, ...], count: int, places: list[tuple[int, int]]
) -> None:
    house = House(*drawn)
    assert house.places(house.choose(count, accessible=True)) == places


@given(mixed_houses, counts, sections)
def test_nobody_is_given_a_place_for_a_wheelchair_or_beside_one_without_asking(
    house: House, count: int, section: str | None
) -> None:
    assert not house.free_of("accessible") & set(house.choose(count, section))


@given(mixed_houses, counts)
def test_whoever_asks_sits_side_by_side_with_a_place_for_a_wheelchair_among_them(house: House, count: int) -> None:
    chosen = house.choose(count, accessible=True)
    windows = [
        window
        for row in house.rows
        for window in (row.seat_ids[start : start + count] for start in range(len(row.seat_ids) - count + 1))
        if row.wheelchair_ids & set(window) and house.free.issuperset(window)
    ]
    assert chosen in windows or (not chosen and not windows)


@given(mixed_houses, counts, sections)
def test_seats_and_places_to_stand_are_mixed_only_when_there_are_not_enough_seats(
    house: House, count: int, section: str | None
) -> None:
    chosen = set(house.choose(count, section))
    seats, standing = house.free_of("seat"), house.free_of("standing")
    of_section = {seat_id for row in house.rows if section in (None, row.section) for seat_id in row.seat_ids}
    assert len(chosen) == (count if len((seats | standing) & of_section) >= count else 0)
    if chosen & seats and chosen & standing:
        assert len(seats & of_section) < count


def test_a_section_that_was_named_is_kept_to() -> None:
    house = House("A: ....", "B: .x.", "B: ....")
    assert house.places(house.choose(2, "B")) == [(2, 0), (2, 1)]
    assert house.choose(1, "C") == []


@given(houses, counts, sections)
def test_never_a_taken_seat_nor_one_of_another_section_nor_one_twice(
    house: House, count: int, section: str | None
) -> None:
    chosen = house.choose(count, section)
    assert house.free.issuperset(chosen)
    assert len(set(chosen)) == len(chosen)
    assert all(section in (None, house.rows[row].section) for row, _ in house.places(chosen))


@given(houses, counts, sections)
def test_exactly_as_many_as_were_wanted_or_none_because_there_are_too_few(
    house: House, count: int, section: str | None
) -> None:
    there_are = sum(
        seat_id in house.free for row in house.rows if section in (None, row.section) for seat_id in row.seat_ids
    )
    assert len(house.choose(count, section)) == (count if there_are >= count else 0)


@given(houses, counts, sections)
def test_together_whenever_anybody_could_sit_together(house: House, count: int, section: str | None) -> None:
    windows = list(house.windows(count, section))
    assert house.choose(count, section) in windows or not windows


@given(houses, counts, sections)
def test_no_orphan_whenever_it_can_be_helped(house: House, count: int, section: str | None) -> None:
    if any(house.orphans(window) == 0 for window in house.windows(count, section)):
        assert house.orphans(house.choose(count, section)) == 0


@given(houses, counts, sections)
def test_it_is_what_looking_at_every_possibility_finds(house: House, count: int, section: str | None) -> None:
    assert house.choose(count, section) == house.by_brute_force(count, section)
