"""Does the map in memory know what is free, and is it quick about it in the largest house?"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from consumers.event_commands.seat_map import STANDING_TOGETHER, SeatMap
from contracts.ids import EventId, SeatId
from tests.builders import a_user, reserve, reserve_best

NOW = datetime(2031, 5, 1, 20, 0, tzinfo=UTC)
EVENT = EventId(uuid4())


def a_record(index: int, section: str, row: str, kind: str) -> dict[str, Any]:
    """A free seat, as `read_seat_map` reads it."""
    return {
        "id": UUID(int=index),
        "section": section,
        "row": row,
        "kind": kind,
        "status": "available",
        "held_until": None,
    }


def a_map(*blocks: tuple[str, str, str, int], **changes: Any) -> SeatMap:
    """From (section, row, kind, count)."""
    kinds = [(section, row, kind) for section, row, kind, count in blocks for _ in range(count)]
    records = [{**a_record(index, *kind), **changes} for index, kind in enumerate(kinds)]
    return SeatMap(EVENT, 0, records)  # type: ignore[arg-type]


def choose(seat_map: SeatMap, *counts: int, now: datetime = NOW, **wishes: Any) -> list[list[int]]:
    """The places given to buyers who come in one batch, by their number in the map."""
    commands = [reserve_best(EVENT, a_user(), count, **wishes) for count in counts]
    chosen = seat_map.choose(commands, now)
    return [[seat_id.int for seat_id in chosen[command.command_id]] for command in commands]


def become(seat_map: SeatMap, places: Sequence[int], status: str, held_until: datetime | None = None) -> None:
    """A batch was committed that did this."""
    seats = [SimpleNamespace(id=SeatId(UUID(int=place)), status=status, held_until=held_until) for place in places]
    seat_map.apply(1, seats)  # type: ignore[arg-type]


def test_no_place_is_promised_twice_in_a_batch() -> None:
    seat_map = a_map(("Stalls", "A", "seat", 4), ("Floor", "", "standing", 2))
    assert choose(seat_map, 4, 2, 1) == [[0, 1, 2, 3], [4, 5], []]


def test_seats_asked_for_by_name_are_promised_too() -> None:
    seat_map = a_map(("Stalls", "A", "seat", 4))
    named = reserve(EVENT, a_user(), [SeatId(UUID(int=0)), SeatId(UUID(int=1))])
    best = reserve_best(EVENT, a_user(), 2)
    assert [seat_id.int for seat_id in seat_map.choose([named, best], NOW)[best.command_id]] == [2, 3]


def test_a_full_row_is_looked_at_again_when_a_seat_comes_back_or_its_time_is_over() -> None:
    seat_map = a_map(("Stalls", "A", "seat", 2), ("Stalls", "B", "seat", 2))
    become(seat_map, [0, 1], "held", NOW + timedelta(minutes=10))
    assert choose(seat_map, 2) == [[2, 3]]
    assert choose(seat_map, 2, now=NOW + timedelta(minutes=10)) == [[0, 1]]
    become(seat_map, [0, 1], "sold")
    assert choose(seat_map, 2, now=NOW + timedelta(minutes=10)) == [[2, 3]]
    become(seat_map, [0, 1], "available")
    assert choose(seat_map, 2) == [[0, 1]]


def test_a_row_used_up_by_one_batch_is_there_for_the_next() -> None:
    seat_map = a_map(("Stalls", "A", "seat", 2), ("Stalls", "B", "seat", 2))
    assert choose(seat_map, 2, 2) == [[0, 1], [2, 3]]
    assert choose(seat_map, 2, 2) == [[0, 1], [2, 3]], "nothing was committed"


def test_the_places_for_wheelchairs_part_a_row() -> None:
    seat_map = a_map(
        ("Stalls", "A", "seat", 3),
        ("Stalls", "A", "accessible", 1),
        ("Stalls", "A", "companion", 1),
        ("Stalls", "A", "seat", 3),
    )
    assert choose(seat_map, 4) == [[0, 1, 2, 5]], "nobody sits together across them, so apart"
    assert choose(seat_map, 3, 3, 1) == [[0, 1, 2], [5, 6, 7], []]
    assert choose(seat_map, 2, 1, accessible=True) == [[3, 4], []]


def test_a_standing_section_is_given_out_to_the_last_place_whatever_it_is_cut_into() -> None:
    capacity = 2 * STANDING_TOGETHER + 7
    seat_map = a_map(("Floor", "", "standing", capacity))
    given = choose(seat_map, *[6] * (capacity // 6), capacity % 6, 1, section="Floor")
    assert [place for places in given for place in places] == list(range(capacity))


@pytest.mark.parametrize("section", ["Nowhere", "floor"])
def test_a_section_that_is_not_there_has_no_places(section: str) -> None:
    assert choose(a_map(("Floor", "", "standing", 9)), 1, section=section) == [[]]


def test_late_in_a_large_standing_section_hardly_any_place_is_looked_at() -> None:
    """Counted, not timed: twenty thousand places, fifteen thousand of them gone."""
    seat_map = a_map(("Floor", "", "standing", 20_000))
    become(seat_map, range(15_000), "sold")
    choose(seat_map, 1)  # who finds the full blocks full
    looked_at = 0
    is_free = seat_map.is_free

    def counting(seat_id: SeatId, now: datetime) -> bool:
        nonlocal looked_at
        looked_at += 1
        return is_free(seat_id, now)

    seat_map.is_free = counting  # type: ignore[method-assign]
    assert choose(seat_map, 4) == [[15_000, 15_001, 15_002, 15_003]]
    assert looked_at <= 2 * STANDING_TOGETHER
