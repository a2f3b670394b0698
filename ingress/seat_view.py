"""Which seats of one event are taken, as far as this process knows, and does it know it all?

Pure state. What the engine tells is numbered without gaps, so a message that was lost, doubled or overtaken shows: the
view says `GAP`, and whoever keeps it reads the seats afresh. Nothing is ever decided by it but an early "no".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from contracts.domain_events import SeatChange, SeatsChanged
from contracts.ids import SeatId

# What a seat is, as one character: the first of its status.
AVAILABLE, HELD, SOLD, WITHHELD = b"ahsw"
_CHARACTER = {"available": AVAILABLE, "held": HELD, "sold": SOLD, "withheld": WITHHELD}


class Heard(Enum):
    """What a message meant for a view."""

    APPLIED = "applied"
    OLD = "old"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class SeatState:
    """A seat as it was read."""

    id: SeatId
    status: str
    held_until: datetime | None


class SeatView:
    """The seats of one event, as of ledger number `version`.

    Times are seconds since 1970. A hold is believed in for `believed_seconds` since it was last heard of, and no longer
    than it lasts: then it is the engine that must say no.
    """

    def __init__(self, seats: Iterable[SeatState], *, version: int, now: float, believed_seconds: float) -> None:
        read = list(seats)
        self.version = version
        self.statuses = bytearray(_CHARACTER[seat.status] for seat in read)
        self._believed_seconds = believed_seconds
        self._index_of = {seat.id: index for index, seat in enumerate(read)}
        self._held_until = {
            index: self._believed_until(seat.held_until, now)
            for index, seat in enumerate(read)
            if seat.status == "held"
        }
        # When the first of all these holds is over; None when that must be looked for again.
        self._first_end: float | None = None

    @property
    def available_count(self) -> int:
        """How many seats nobody has."""
        return self.statuses.count(AVAILABLE)

    def apply(self, changed: SeatsChanged, now: float) -> tuple[Heard, dict[int, int]]:
        """Take in what a transaction of the engine changed, and return the seats that look different now: their new
        characters by index. What follows a gap changes nothing."""
        if changed.first_seq <= self.version and changed.last_seq <= self.version:
            return Heard.OLD, {}
        if changed.first_seq != self.version + 1:
            return Heard.GAP, {}
        # No ledger entry (`first_seq == last_seq + 1`): only times have moved, and the version stays.
        self.version = max(self.version, changed.last_seq)
        self._first_end = None
        return Heard.APPLIED, dict(self._differences(changed.changes, now))

    def gone(self, seat_ids: Sequence[SeatId], now: float) -> list[SeatId]:
        """Those of these seats that nobody can have now; a seat the event does not have is not among them."""
        return [seat_id for seat_id in seat_ids if self.is_gone(seat_id, now)]

    def is_gone(self, seat_id: SeatId, now: float) -> bool:
        """Whether the seat is sold, withheld, or held by a hold that is not over."""
        index = self._index_of.get(seat_id)
        if index is None:
            return False
        status = self.statuses[index]
        return status != AVAILABLE and (status != HELD or self._held_until[index] > now)

    def knows(self, seat_id: SeatId) -> bool:
        """Whether the event has such a seat."""
        return seat_id in self._index_of

    def has_fewer_than(self, count: int, now: float, *, first: int = 0, end: int | None = None) -> bool:
        """Whether it is certain that not so many seats, of those from index `first` to before `end`, can be had."""
        if self.statuses.count(AVAILABLE, first, len(self.statuses) if end is None else end) >= count:
            return False
        if self._first_end is None:
            self._first_end = min(self._held_until.values(), default=float("inf"))
        return self._first_end > now

    def _differences(self, changes: Iterable[SeatChange], now: float) -> Iterable[tuple[int, int]]:
        for change in changes:
            index = self._index_of.get(change.seat_id)
            if index is None:
                continue
            character = _CHARACTER[change.status]
            if character == HELD:
                self._held_until[index] = self._believed_until(change.held_until, now)
            else:
                self._held_until.pop(index, None)
            if self.statuses[index] != character:
                self.statuses[index] = character
                yield index, character

    def _believed_until(self, held_until: datetime | None, now: float) -> float:
        bound = now + self._believed_seconds
        return bound if held_until is None else min(held_until.timestamp(), bound)
