"""Does a room go where the clock, the operator and the last seat send it, and nowhere else?"""

from dataclasses import replace

import pytest

from consumers.rules.room_phases import SERVES, Circumstances, Wish, decide_phase, judge_wish
from contracts.waiting_room import Phase
from contracts.waiting_room_log import FINAL, NEXT_PHASES

SCHEDULED = Circumstances(is_scheduled=True, may_be_joined=True, has_opened=True)
WALK_IN = replace(SCHEDULED, is_scheduled=False)
WISHES = (None, Phase.OPEN, Phase.PAUSED, Phase.DRAINING, Phase.ENDED)


def next_phase(phase: Phase, now: Circumstances) -> Phase | None:
    step = decide_phase(phase, now)
    return None if step is None else step.phase


def test_a_scheduled_room_gathers_and_draws_and_nothing_skips_the_draw() -> None:
    early = replace(SCHEDULED, may_be_joined=False, has_opened=False)
    assert next_phase(Phase.CLOSED, early) is None
    assert next_phase(Phase.CLOSED, replace(early, may_be_joined=True)) is Phase.PRE
    assert next_phase(Phase.PRE, replace(early, may_be_joined=True)) is None
    assert next_phase(Phase.CLOSED, SCHEDULED) is Phase.PRE
    assert next_phase(Phase.PRE, SCHEDULED) is Phase.SEALING
    assert next_phase(Phase.PRE, replace(SCHEDULED, wanted=Phase.OPEN)) is Phase.SEALING


def test_an_unscheduled_room_opens_when_it_may() -> None:
    assert next_phase(Phase.CLOSED, replace(WALK_IN, may_be_joined=False)) is None
    assert next_phase(Phase.CLOSED, WALK_IN) is Phase.OPEN


@pytest.mark.parametrize("phase", sorted(SERVES))
def test_the_last_seat_shuts_the_room(phase: Phase) -> None:
    assert next_phase(phase, replace(WALK_IN, is_sold_out=True)) is Phase.SOLD_OUT
    assert next_phase(phase, replace(WALK_IN, is_sold_out=True, wanted=Phase.PAUSED)) is Phase.SOLD_OUT


def test_sold_out_is_final_but_for_the_operator_and_only_with_something_to_sell() -> None:
    assert next_phase(Phase.SOLD_OUT, WALK_IN) is None
    asked = replace(WALK_IN, wanted=Phase.OPEN)
    assert next_phase(Phase.SOLD_OUT, asked) is Phase.OPEN
    assert next_phase(Phase.SOLD_OUT, replace(asked, is_sold_out=True)) is None
    assert judge_wish(Phase.SOLD_OUT, replace(asked, is_sold_out=True)) is Wish.IMPOSSIBLE


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.ENDED, Phase.RESTORING)])
def test_the_end_of_the_sale_ends_every_room(phase: Phase) -> None:
    assert next_phase(phase, replace(WALK_IN, is_sale_over=True, wanted=Phase.OPEN)) is Phase.ENDED


def test_a_wish_for_later_is_kept_and_one_for_never_is_not() -> None:
    wanted = replace(SCHEDULED, wanted=Phase.PAUSED)
    assert [judge_wish(phase, wanted) for phase in (Phase.PRE, Phase.SEALING)] == [Wish.KEPT, Wish.KEPT]
    assert next_phase(Phase.OPEN, wanted) is Phase.PAUSED
    assert judge_wish(Phase.PAUSED, wanted) is Wish.FULFILLED
    assert [judge_wish(phase, wanted) for phase in (Phase.DRAINING, Phase.SOLD_OUT, Phase.ENDED)] == [
        Wish.IMPOSSIBLE
    ] * 3
    assert judge_wish(Phase.OPEN, SCHEDULED) is Wish.NONE


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RESTORING])
@pytest.mark.parametrize("wanted", WISHES)
@pytest.mark.parametrize("is_sold_out", [False, True])
@pytest.mark.parametrize("is_scheduled", [False, True])
def test_every_step_is_one_that_the_log_allows(
    phase: Phase, wanted: Phase | None, is_sold_out: bool, is_scheduled: bool
) -> None:
    now = replace(SCHEDULED, wanted=wanted, is_sold_out=is_sold_out, is_scheduled=is_scheduled)
    if phase is Phase.PRE and not is_scheduled:
        return
    step = next_phase(phase, now)
    if step is None or step is phase is Phase.SEALING:
        return
    assert step in NEXT_PHASES.get(phase, frozenset()) | FINAL


def test_a_room_comes_to_rest() -> None:
    for phase in Phase:
        for wanted in WISHES:
            now, at = replace(WALK_IN, wanted=wanted), phase
            for _ in range(5):
                step = decide_phase(at, now)
                if step is None or step.phase is Phase.SEALING:
                    break
                at = step.phase
                now = replace(now, wanted=None) if judge_wish(at, now) is Wish.FULFILLED else now
            else:
                pytest.fail(f"{phase} with {wanted} goes round and round")
