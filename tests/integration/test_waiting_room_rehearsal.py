"""Does a crowd get through the real waiting room, and does its proof then verify?"""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from contracts.settings import Settings
from contracts.waiting_room import LogKind
from ops.waiting_room.crowd import CrowdPlan, a_crowd
from ops.waiting_room.evidence import read_evidence, write_evidence
from ops.waiting_room.outcome import outcome_of
from ops.waiting_room.plot import as_blocks, as_svg
from ops.waiting_room.rehearsal import Recording, RehearsalPlan
from ops.waiting_room.simulate import as_report, curves_of, rehearse
from ops.waiting_room.verify import examine, is_clean

CROWD = CrowdPlan(people=400, patience_seconds=120.0, early_seconds=20.0, late_seconds=20.0)
PLAN = RehearsalPlan(
    CROWD, arrivals_per_second=20.0, speed=5.0, seconds_max=60.0, claim_seconds=20.0, return_seconds=15.0
)


@pytest.fixture
async def recording(settings: Settings) -> Recording:
    """Four hundred people, a minute of a sale, in a quarter of it."""
    return await rehearse(PLAN, settings, Console(quiet=True))


async def test_a_crowd_gets_through_and_the_proof_of_it_verifies(recording: Recording, tmp_path: Path) -> None:
    assert recording.is_finished and recording.evidence is not None
    write_evidence(tmp_path, recording.evidence)
    assert is_clean(results := examine(read_evidence(tmp_path))), results
    outcome = outcome_of(recording)
    assert outcome.people == 400
    assert outcome.claimed + outcome.missed == outcome.admitted > 100
    _every_screen_is_compared_with_what_happened(recording)
    _the_report_can_be_read(recording)
    _a_log_with_two_admissions_swapped_does_not_verify(recording)


def _every_screen_is_compared_with_what_happened(recording: Recording) -> None:
    outcome = outcome_of(recording)
    assert outcome.screens > 100 and outcome.band_coverage is not None
    # A busy machine is no place to measure; a position that ignored the line would be wrong by more than half of it.
    assert outcome.position_error_p50 is not None and outcome.position_error_p50 < 0.3
    assert len(outcome.mean_place_by_arrival_decile) == 10


def _the_report_can_be_read(recording: Recording) -> None:
    assert recording.evidence is not None
    console = Console(record=True, width=120, quiet=True)
    console.print(as_report(recording, outcome_of(recording), examine(recording.evidence)))
    assert all(len(as_blocks(curve)) == 6 for curve in curves_of(recording))
    assert as_svg(curves_of(recording)).count("<polyline") == 3


def _a_log_with_two_admissions_swapped_does_not_verify(recording: Recording) -> None:
    """The negative control: the checks see this log, and not only any log."""
    evidence = recording.evidence
    assert evidence is not None
    one, other = [entry for entry in evidence.log if entry.kind is LogKind.ADMITTED][10:12]
    swapped = {
        one.index: one.model_copy(update={"ticket": other.ticket}),
        other.index: other.model_copy(update={"ticket": one.ticket}),
    }
    log = tuple(swapped.get(entry.index, entry) for entry in evidence.log)
    assert not is_clean(examine(replace(evidence, log=log)))


def test_the_same_number_makes_the_same_crowd() -> None:
    assert a_crowd(CROWD) == a_crowd(CROWD)
    assert a_crowd(CROWD) != a_crowd(replace(CROWD, random_seed=2))
    early = [visitor for visitor in a_crowd(CROWD) if visitor.comes_at < 0]
    assert 280 < len(early) < 360
