"""Which seats are the best that can be had together?

Best is first in the map's order, which runs from the front. Together in one row if any row has the room, and if it can be
helped without leaving a single seat alone between two taken ones, because nobody buys that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from contracts.ids import SeatId


@dataclass(frozen=True, slots=True)
class SeatRow:
    """One row of seats, from one end to the other."""

    section: str
    row: str
    seat_ids: Sequence[SeatId]


def choose_best_available(
    rows: Sequence[SeatRow], is_free: Callable[[SeatId], bool], *, count: int, section: str | None = None
) -> list[SeatId]:
    """`count` seats, or an empty list when there are not that many.

    In this order: together and orphaning no seat; together; spread over as few rows as the order of the map gives.
    """
    wanted = [row for row in rows if section is None or row.section == section]
    together: list[SeatId] = []
    spread: list[SeatId] = []
    for row in wanted:
        for run in _free_runs(row, is_free):
            if len(run) == count or len(run) >= count + 2:
                return list(run[:count])
            if len(run) > count and not together:
                together = list(run[:count])
            if len(spread) < count:
                spread += run[: count - len(spread)]
    if together:
        return together
    return spread if len(spread) == count else []


def _free_runs(row: SeatRow, is_free: Callable[[SeatId], bool]) -> Iterator[Sequence[SeatId]]:
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
