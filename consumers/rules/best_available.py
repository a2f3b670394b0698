"""Which places are the best that can be had together?

Best is first in the map's order, which runs from the front. Seats are together in one row if any row has the room, and if
it can be helped without leaving a single seat alone between two taken ones, because nobody buys that. Places to stand are
together wherever they are in their section. Places for wheelchairs and the seats beside them are given to nobody who does
not ask for them, and to whoever does there is nothing else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from contracts.ids import SeatId

IsFree = Callable[[SeatId], bool]
RowKind = Literal["seat", "accessible", "standing"]


@dataclass(frozen=True, slots=True)
class SeatRow:
    """Neighbours of one kind: a row from one end to the other, the stretch of a row beside places of another kind, or a
    handful of the places of a standing section.

    A row is `accessible` when it is made of places for wheelchairs, which `wheelchair_ids` names, and of the seats beside
    them.
    """

    section: str
    row: str
    seat_ids: Sequence[SeatId]
    kind: RowKind = "seat"
    wheelchair_ids: frozenset[SeatId] = frozenset()


def choose_best_available(
    rows: Iterable[SeatRow], is_free: IsFree, *, count: int, section: str | None = None, accessible: bool = False
) -> list[SeatId]:
    """`count` places, or an empty list when there are not that many.

    In this order: the first in the map's order that are together, in a row and orphaning no seat or in one standing
    section; together in a row; spread over as few rows as the order of the map gives, and over standing places as well
    only when there are not enough seats. Rows are walked only as far as the answer needs.
    """
    wanted = (row for row in rows if section is None or row.section == section)
    if accessible:
        return _beside_a_wheelchair((row for row in wanted if row.kind == "accessible"), is_free, count)
    together: list[SeatId] = []
    seated: list[SeatId] = []
    standing: defaultdict[str, list[SeatId]] = defaultdict(list)
    for row in wanted:
        if row.kind == "standing":
            places = standing[row.section]
            places += islice(filter(is_free, row.seat_ids), count - len(places))
            if len(places) == count:
                return places
        elif row.kind == "seat":
            for run in _free_runs(row, is_free):
                if len(run) == count or len(run) >= count + 2:
                    return list(run[:count])
                if len(run) > count and not together:
                    together = list(run[:count])
                if len(seated) < count:
                    seated += run
    spread = [*seated, *(seat_id for places in standing.values() for seat_id in places)]
    return together or (spread[:count] if len(spread) >= count else [])


def _beside_a_wheelchair(rows: Iterable[SeatRow], is_free: IsFree, count: int) -> list[SeatId]:
    """`count` neighbours, one place for a wheelchair among them and as few more as can be: such a place has no chair."""
    best: list[SeatId] = []
    fewest = count + 1
    for row in rows:
        for run in _free_runs(row, is_free):
            for start in range(len(run) - count + 1):
                window = run[start : start + count]
                wheelchair_count = sum(seat_id in row.wheelchair_ids for seat_id in window)
                if 0 < wheelchair_count < fewest:
                    best, fewest = list(window), wheelchair_count
    return best


def _free_runs(row: SeatRow, is_free: IsFree) -> Iterator[Sequence[SeatId]]:
    """The stretches of free neighbours in a row."""
    start = None
    for position, seat_id in enumerate(row.seat_ids):
        if is_free(seat_id):
            start = position if start is None else start
        elif start is not None:
            yield row.seat_ids[start:position]
            start = None
    if start is not None:
        yield row.seat_ids[start:]
