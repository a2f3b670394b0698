"""How would a sale of this size go through the waiting room, with people as they are?"""

import asyncio
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from consumers.proof.report import CheckResult
from contracts.settings import Settings, UnusableSettings
from db.waiting_room import WaitingRooms
from ops.stack import Stack, StackProblem
from ops.waiting_room.crowd import CrowdPlan
from ops.waiting_room.evidence import write_evidence
from ops.waiting_room.outcome import Outcome, outcome_of
from ops.waiting_room.plot import Curve, as_blocks, as_svg
from ops.waiting_room.rehearsal import Moment, Recording, Rehearsal, RehearsalPlan
from ops.waiting_room.verify import examine, is_clean

FAIR, UNFAIR, COULD_NOT_RUN, UNFINISHED = 0, 1, 2, 3

# What keeps a rehearsal from being run, and is said in one line.
UNRUNNABLE = (OSError, RedisError, StackProblem, UnusableSettings, TimeoutError)

# A rehearsal shares the machine with Redis and with everything else: it waits for an answer longer than a sale would.
REDIS_PATIENCE_SECONDS = 10.0

# Longer than this, heartbeats come so late that people are missed who are there.
GAP_SECONDS_MAX = 20.0

# What the issue asks for; the report says for each figure whether it was met.
POSITION_ERROR_P95_MAX = 0.05
BAND_COVERAGE = (0.75, 0.85)
DELIVERED = (0.97, 1.03)


def simulate(
    people: Annotated[int, typer.Option(min=100, max=1_000_000, help="How many come.")] = 50_000,
    arrivals: Annotated[float, typer.Option(min=0.1, help="People a second that the operator asks for.")] = 30.0,
    patience: Annotated[float, typer.Option(min=1.0, help="Minutes after which the mean visitor gives up.")] = 20.0,
    hidden: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of tabs in the background.")] = 0.3,
    early: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share that comes before the start.")] = 0.8,
    speed: Annotated[float, typer.Option(min=1.0, max=50.0, help="How much faster than a real sale.")] = 9.0,
    seconds: Annotated[float, typer.Option(min=1.0, help="Stop after this long.")] = 180.0,
    random_seed: Annotated[int, typer.Option(help="The same number, the same crowd.")] = 1,
    svg: Annotated[Path | None, typer.Option(help="Write the plot to this file too.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Write the proof to this folder, for `verify`.")] = None,
) -> None:
    """Let a crowd through the waiting room's real functions, and compare what it was told with what happened.

    Needs a running stack; its own room, and removes it. Exit code 0: fair; 1: not; 2: could not run; 3: not over in time.
    """
    crowd = CrowdPlan(people, patience * 60, early_share=early, hidden_share=hidden, random_seed=random_seed)
    plan = RehearsalPlan(crowd, arrivals_per_second=arrivals, speed=speed, seconds_max=seconds)
    console = Console()
    try:
        settings = Settings.read({**os.environ, **Stack.from_environment().environment()})
        recording = uvloop.run(rehearse(plan, settings, console))
    except UNRUNNABLE as problem:
        Console(stderr=True).print(f"could not run: {problem or type(problem).__name__}", style="red", markup=False)
        sys.exit(COULD_NOT_RUN)
    sys.exit(_tell(recording, console, svg=svg, keep=keep))


async def rehearse(plan: RehearsalPlan, settings: Settings, console: Console) -> Recording:
    """Run it, with progress; the room is removed however it ends."""
    rooms = WaitingRooms(settings.model_copy(update={"redis_timeout_seconds": REDIS_PATIENCE_SECONDS}))
    rehearsal = Rehearsal(rooms, plan, settings)
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("the doors open", total=plan.crowd.people)

            def show(moment: Moment) -> None:
                served = rehearsal.done_count
                words = f"{moment.at_seconds:>6.0f} s  {moment.waiting:>7,} wait  {moment.active:>6,} inside"
                progress.update(task, description=words, completed=served)

            return await rehearsal.run(show)
    finally:
        await asyncio.shield(rooms.remove(rehearsal.event_id))
        await rooms.close()


def _tell(recording: Recording, console: Console, *, svg: Path | None, keep: Path | None) -> int:
    outcome = outcome_of(recording)
    checks = examine(recording.evidence) if recording.evidence is not None else []
    console.print(as_report(recording, outcome, checks))
    if svg is not None:
        svg.write_text(as_svg(curves_of(recording)), encoding="utf-8")
        console.print(f"plot: {svg}", highlight=False)
    if keep is not None and recording.evidence is not None:
        write_evidence(keep, recording.evidence)
        console.print(f"proof: boxoffice waitingroom verify {keep}", highlight=False)
    if not is_clean(checks):
        return UNFAIR
    return FAIR if recording.is_finished else UNFINISHED


def curves_of(recording: Recording) -> list[Curve]:
    """The line, and the arrivals a second, over the time of the sale."""
    moments = recording.moments
    every = max(1, len(moments) // 90)
    thinned = moments[::every]
    arrivals = tuple(
        (now.at_seconds, (now.claimed - before.claimed) / (now.at_seconds - before.at_seconds))
        for before, now in pairwise(thinned)
        if now.at_seconds > before.at_seconds
    )
    return [
        Curve("people in line", tuple((moment.at_seconds, float(moment.waiting)) for moment in moments)),
        Curve("arrivals a second", arrivals, wanted=recording.plan.arrivals_per_second),
    ]


def as_report(recording: Recording, outcome: Outcome, checks: list[CheckResult]) -> RenderableType:
    """The plots, the figures with what was asked for, and whether the log is fair."""
    plots = [Text("\n".join([f"{curve.title}:", *as_blocks(curve)]), style="cyan") for curve in curves_of(recording)]
    return Group(*plots, _figures(outcome), _distances(outcome), *_verdict(recording, checks))


def _figures(outcome: Outcome) -> Table:
    table = Table(
        "figure", "value", "asked for", title="what people were told, and what happened", title_justify="left"
    )
    for name, value, wanted, is_met in (
        ("people", f"{outcome.people:,}", "", None),
        ("admitted / came / missed", f"{outcome.admitted:,} / {outcome.claimed:,} / {outcome.missed:,}", "", None),
        ("left or went silent / came back", f"{outcome.left:,} / {outcome.returned:,}", "", None),
        ("position error, median", _per_cent(outcome.position_error_p50), "", None),
        ("position error, p95", *_met(outcome.position_error_p95, "≤ 5 %", 0.0, POSITION_ERROR_P95_MAX)),
        ("the last turns, p95", _turns(outcome.near_error_turns_p95), "", None),
        ("time error, median", _per_cent(outcome.time_error_p50), "", None),
        ("time error, p95", _per_cent(outcome.time_error_p95), "", None),
        ("time band came true", *_met(outcome.band_coverage, "80 ± 5 %", *BAND_COVERAGE)),
        ("arrivals, of those asked for", *_met(outcome.delivered_share, "97–103 %", *DELIVERED)),
        ("place in the draw by tenth of arrival", _spread(outcome), "0.50 each", None),
    ):
        style = {True: "green", False: "yellow", None: ""}[is_met]
        table.add_row(name, Text(value, style=style), wanted)
    return table


def _distances(outcome: Outcome) -> Table:
    table = Table("position error", "screens", "p95", title_justify="left")
    for words, count, error in outcome.errors_by_distance:
        table.add_row(words, f"{count:,}", _per_cent(error))
    return table


def _verdict(recording: Recording, checks: list[CheckResult]) -> list[Text]:
    differences = [f"{c.name}: {text}" for c in checks if not c.is_warning for text in c.differences[:5]]
    lines = [Text(difference, style="yellow") for difference in differences]
    gap = max((now.at_seconds - before.at_seconds for before, now in pairwise(recording.moments)), default=0.0)
    if gap > GAP_SECONDS_MAX:
        words = f"the machine was too busy: once nothing happened for {gap:.0f} s of the sale; use a lower --speed"
        lines.append(Text(words, style="yellow"))
    if not recording.is_finished:
        lines.append(Text("not over in time: the figures are of what there was", style="yellow"))
    fair = "the proof verifies: draw, order and every admission" if is_clean(checks) else "the proof does not verify"
    return [*lines, Text(fair, style="bold green" if is_clean(checks) else "bold red")]


def _met(value: float | None, wanted: str, low: float, high: float) -> tuple[str, str, bool | None]:
    return _per_cent(value), wanted, None if value is None else low <= value <= high


def _per_cent(value: float | None) -> str:
    return "not seen" if value is None else f"{value * 100:.1f} %"


def _turns(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.0f} turns"


def _spread(outcome: Outcome) -> str:
    places = outcome.mean_place_by_arrival_decile
    return f"{min(places):.2f} … {max(places):.2f}" if places else "no draw"
