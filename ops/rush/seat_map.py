"""Which seats do the buyers see?"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

# Left by people on foot to those who cannot do without.
KEPT_KINDS = ("accessible", "companion")


class SeatMap:
    """The map as it was last loaded, shared by all buyers. It grows old; a seat somebody was refused is taken off it."""

    def __init__(self, document: Mapping[str, Any], *, first: int = 0) -> None:
        """From the answer of GET /api/events/<id>/seats; with `first`, of only so many seats of the map.

        Places to stand are not in it: they have no names, and are had by asking for so many.
        """
        self._rows: list[list[str]] = []
        # Whether there are places for wheelchairs, which are had by asking for them.
        self.has_kept_seats = False
        left = first or None
        for row in (row for section in document["sections"] for row in section["rows"]):
            seats = row["seats"] if left is None else row["seats"][:left]
            left = None if left is None else left - len(seats)
            self._rows += _stretches(seats)
            self.has_kept_seats |= any(_is_kept(seat) for seat in seats)
        self._rows = [row for row in self._rows if row]
        self.seat_ids = [seat_id for row in self._rows for seat_id in row]
        self._taken: set[str] = set()

    def neighbours(self, count: int, chance: random.Random) -> list[str]:
        """Seats side by side that were free when last heard of; fewer than asked for, or none, when the row has no more."""
        if not self._rows:
            return []
        row = chance.choice(self._rows)
        start = chance.randrange(len(row))
        return [seat_id for seat_id in row[start : start + count] if seat_id not in self._taken]

    def any_of(self, count: int, chance: random.Random) -> list[str]:
        """Seats from anywhere, whether they are said to be taken or not: what everybody fights for."""
        return chance.sample(self.seat_ids, min(count, len(self.seat_ids)))

    def forget(self, seat_ids: Iterable[str]) -> None:
        """Somebody was told that these are gone."""
        self._taken.update(seat_ids)


def _stretches(seats: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """What of a row was free, without the places that are kept, and not across them."""
    for is_kept, stretch in groupby(seats, key=_is_kept):
        if not is_kept:
            yield [seat["id"] for seat in stretch if seat["status"] == "available"]


def _is_kept(seat: Mapping[str, Any]) -> bool:
    return seat.get("kind") in KEPT_KINDS
