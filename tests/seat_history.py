"""Is there any order of events in which everything the users saw of one seat makes sense?

Linearizability of a single seat, after Wing and Gong with Lowe's memory of visited configurations (the method of
Porcupine): each operation must appear to happen at one instant between its call and its return. Seats are independent
of each other, so a history is checked seat by seat, which keeps it cheap (500 operations in a fraction of a second).

An operation whose outcome is unknown (the answer never came) may have happened at any time after its call, or never.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Kind = Literal["hold", "release", "expire", "buy", "cancel", "read"]
SeatStatus = Literal["available", "held", "sold"]
Outcome = Literal["done", "refused", "unknown", "available", "held", "sold"]


@dataclass(frozen=True)
class Operation:
    """What one user asked of the seat, and what came of it.

    Times are seconds of one monotonic clock. The outcome of a read is the status it saw; that of anything else is
    `done` or `refused`, or `unknown`, whose `return_at` then means nothing. Record refusals that are about the seat:
    one because of a ticket limit or a declined card says nothing here and does not belong in the history.
    """

    call_at: float
    return_at: float
    kind: Kind
    who: str
    outcome: Outcome

    @property
    def is_unknown(self) -> bool:
        return self.outcome == "unknown"

    @property
    def due_at(self) -> float:
        """When it must have happened, if it happened at all."""
        return math.inf if self.is_unknown else self.return_at

    def __str__(self) -> str:
        return f"[{self.call_at:.3f}..{self.due_at:.3f}] {self.who} {self.kind}: {self.outcome}"


class Seat(NamedTuple):
    """The seat as a sequential program would see it."""

    status: SeatStatus = "available"
    owner: str | None = None


AVAILABLE: Final = Seat()


def is_linearizable(history: Iterable[Operation]) -> bool:
    """Whether some order of the operations, each between its call and its return, explains every outcome."""
    return find_contradiction(history) is None


def find_contradiction(history: Iterable[Operation]) -> str | None:
    """None if the history makes sense; otherwise where the best explanation of it gets stuck, for a test's message."""
    operations = sorted(history, key=lambda operation: operation.call_at)
    must_happen = sum(1 << number for number, operation in enumerate(operations) if not operation.is_unknown)
    furthest, seat_there = 0, AVAILABLE
    visited: set[tuple[int, Seat]] = set()
    # Depth first; the operations that have happened are the bits of one integer, so that configurations hash quickly.
    waiting = [(0, AVAILABLE)]
    while waiting:
        happened, seat = waiting.pop()
        if happened & must_happen == must_happen:
            return None
        if (happened, seat) in visited:
            continue
        visited.add((happened, seat))
        if (happened & must_happen).bit_count() > (furthest & must_happen).bit_count():
            furthest, seat_there = happened, seat
        waiting.extend(_next_configurations(operations, happened, seat))
    return _describe(operations, furthest, seat_there)


def seat_after(seat: Seat, operation: Operation) -> Seat | None:
    """The seat after the operation happened with its outcome; None if it cannot have happened so, here and now."""
    if operation.kind == "read":
        return seat if operation.outcome == seat.status else None
    changed = _changed(seat, operation)
    if operation.outcome != "refused":
        # One with unknown outcome that changes nothing is as good as one that never happened: no need to try it.
        return changed
    # A hold may be refused although the seat is free: somebody had its lock for a moment. Nothing else may.
    return seat if changed is None or operation.kind == "hold" else None


def _changed(seat: Seat, operation: Operation) -> Seat | None:
    """The seat if the operation succeeds, or None if it cannot."""
    held_by_them, sold_to_them = Seat("held", operation.who), Seat("sold", operation.who)
    match operation.kind:
        case "hold":
            return held_by_them if seat == AVAILABLE else None
        case "release" | "expire":
            return AVAILABLE if seat == held_by_them else None
        case "buy":
            return sold_to_them if seat == held_by_them else None
        case "cancel":
            return AVAILABLE if seat == sold_to_them else None
        case _:
            raise ValueError(f"{operation.kind} does not change a seat")


def _next_configurations(operations: Sequence[Operation], happened: int, seat: Seat) -> list[tuple[int, Seat]]:
    """What may be true one operation later, the most promising last."""
    configurations: list[tuple[int, Seat]] = []
    for number in _could_happen_next(operations, happened):
        after = seat_after(seat, operations[number])
        if after == seat:
            # It changes nothing, so if it can happen later it can happen now: no need to try both.
            return [(happened | 1 << number, seat)]
        if after is not None:
            configurations.append((happened | 1 << number, after))
    return configurations[::-1]


def _could_happen_next(operations: Sequence[Operation], happened: int) -> list[int]:
    """The operations called before any other that is still to happen had returned, the one due first in front."""
    to_come = [number for number in range(len(operations)) if not happened >> number & 1]
    first_due_at = min((operations[number].due_at for number in to_come), default=math.inf)
    possible: list[int] = []
    lost: set[tuple[Kind, str]] = set()
    for number in to_come:
        operation = operations[number]
        if operation.call_at > first_due_at:
            break
        if operation.is_unknown:
            # Lost twins are interchangeable and never due: trying the eldest is enough, and spares trying all subsets.
            if (operation.kind, operation.who) in lost:
                continue
            lost.add((operation.kind, operation.who))
        possible.append(number)
    return sorted(possible, key=lambda number: operations[number].due_at)


def _describe(operations: Sequence[Operation], happened: int, seat: Seat) -> str:
    stuck = "\n".join(f"  {operations[number]}" for number in _could_happen_next(operations, happened))
    owner = f" by {seat.owner}" if seat.status == "held" else f" to {seat.owner}" if seat.status == "sold" else ""
    return (
        f"No order of these {len(operations)} operations explains what was seen. The best one explains"
        f" {happened.bit_count()}, leaves the seat {seat.status}{owner}, and then none of these can have happened:\n"
        f"{stuck}"
    )
