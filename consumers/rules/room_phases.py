"""Into which phase does a waiting room go next, if into any?

One step at a time: whoever calls it brings the step about and asks again. The clock opens a room, the operator's wish pauses,
drains or ends it, and the last seat shuts it.

- A wish that cannot be fulfilled yet is kept: somebody who asks for a pause before the sale gets it when the room is open.
- Sold out is not taken back when a seat is returned: thousands have just been told that it is over, and a room that opens and
  shuts for every refund would make liars of us. The operator may open it again, when there is something to sell; whoever is
  still in line then is where they were.
- A room whose seats are all held stays open and lets nobody in (`admission_rate`): what is held may come back.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contracts.waiting_room import Phase

SERVES: Final = frozenset({Phase.OPEN, Phase.PAUSED, Phase.DRAINING})

# From where an operator's wish can be fulfilled at once. A room that is to be drawn opens by itself, after the draw.
_FULFILLED_FROM: Final = {
    Phase.OPEN: frozenset({Phase.PAUSED, Phase.SOLD_OUT}),
    Phase.PAUSED: frozenset({Phase.OPEN}),
    Phase.DRAINING: frozenset({Phase.OPEN, Phase.PAUSED}),
    Phase.ENDED: frozenset(Phase) - {Phase.ENDED, Phase.RESTORING},
}
# Where it is too early for a wish, and not too late.
_NOT_YET: Final = frozenset({Phase.CLOSED, Phase.PRE, Phase.SEALING, Phase.RESTORING})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a room's phase depends on. The times have been compared with the database's clock."""

    is_scheduled: bool
    may_be_joined: bool
    has_opened: bool
    is_sale_over: bool = False
    is_sold_out: bool = False  # no seat is left, and none is held
    wanted: Phase | None = None
    wanted_because: str = ""


@dataclass(frozen=True, slots=True)
class PhaseStep:
    """The next phase and why, in a few words for the log. SEALING stands for the whole draw."""

    phase: Phase
    why: str


class Wish(StrEnum):
    """What is to become of what the operator has asked for."""

    NONE = "none"
    KEPT = "kept"
    FULFILLED = "fulfilled"
    IMPOSSIBLE = "impossible"


def decide_phase(phase: Phase, now: Circumstances) -> PhaseStep | None:
    """The next step; None when the room is where it belongs."""
    if phase in (Phase.ENDED, Phase.RESTORING):
        return None
    if now.is_sale_over:
        return PhaseStep(Phase.ENDED, "the sale is over")
    if phase in SERVES and now.is_sold_out and now.wanted is not Phase.ENDED:
        return PhaseStep(Phase.SOLD_OUT, "every seat is sold")
    if now.wanted is not None and _can_be_fulfilled(phase, now):
        return PhaseStep(now.wanted, now.wanted_because or "the operator says so")
    return _by_the_clock(phase, now)


def judge_wish(phase: Phase, now: Circumstances) -> Wish:
    """What becomes of the operator's wish, in a room that is in this phase now."""
    if now.wanted is None:
        return Wish.NONE
    if phase is now.wanted:
        return Wish.FULFILLED
    is_possible = phase in _NOT_YET or _can_be_fulfilled(phase, now)
    return Wish.KEPT if is_possible else Wish.IMPOSSIBLE


def _can_be_fulfilled(phase: Phase, now: Circumstances) -> bool:
    if now.wanted is None or phase not in _FULFILLED_FROM.get(now.wanted, frozenset()):
        return False
    return phase is not Phase.SOLD_OUT or now.wanted is Phase.ENDED or not now.is_sold_out


def _by_the_clock(phase: Phase, now: Circumstances) -> PhaseStep | None:
    if phase is Phase.CLOSED and now.may_be_joined:
        if now.is_scheduled:
            return PhaseStep(Phase.PRE, "the draw gathers")
        return PhaseStep(Phase.OPEN, "first come, first served")
    if phase is Phase.SEALING or (phase is Phase.PRE and now.has_opened):
        return PhaseStep(Phase.SEALING, "the sale begins")
    return None
