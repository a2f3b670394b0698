"""Was this waiting room fair? Answered from its published files alone, on any machine."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.proof.report import CheckResult
from contracts.beacon import BeaconSource
from ops.waiting_room.checks import ASK_THE_BEACON, CHECKS
from ops.waiting_room.evidence import Evidence, UnreadableProof, read_evidence

CLEAN, DIFFERENT, COULD_NOT_CHECK = 0, 1, 2

DIFFERENCES_SHOWN = 20  # of each check


def verify(
    where: Annotated[Path, typer.Argument(help="The folder of a proof, a zip of it, or the proof.json in it.")],
) -> None:
    """Recompute the draw, find every receipt, and check every admission, from the files alone.

    Exit code 0: everything agrees; 1: differences; 2: could not check.
    """
    begun_at = time.monotonic()
    try:
        evidence = read_evidence(where)
    except UnreadableProof as problem:
        Console(stderr=True).print(f"could not check: {problem}", style="red", markup=False)
        sys.exit(COULD_NOT_CHECK)
    results = examine(evidence)
    Console().print(as_table(evidence, results, seconds=time.monotonic() - begun_at))
    sys.exit(CLEAN if is_clean(results) else DIFFERENT)


def examine(evidence: Evidence) -> list[CheckResult]:
    """Every check on these files."""
    return [check.run(evidence) for check in CHECKS]


def is_clean(results: list[CheckResult]) -> bool:
    """Nothing contradicts anything; what the files cannot show is a warning."""
    return not any(result.differences for result in results if not result.is_warning)


def as_table(evidence: Evidence, results: list[CheckResult], *, seconds: float) -> RenderableType:
    """The report as people read it: the table, what contradicts, how to ask the beacon, the verdict."""
    title = f"{evidence.proof.event_name} ({evidence.proof.event_id})".strip()
    table = Table("check", "what must be true", title=title, title_justify="left")
    table.add_column("looked at", justify="right")
    table.add_column("result")
    for result in results:
        table.add_row(result.name, result.sentence, f"{result.looked_at} {result.noun}", _verdict(result))
    return Group(table, *_differences(results), *_how_to_ask(evidence), _summary(results, seconds))


def _verdict(result: CheckResult) -> Text:
    if not result.differences:
        return Text("agrees" if result.looked_at else "nothing to check", style="green" if result.looked_at else "dim")
    words = "please read" if result.is_warning else f"{len(result.differences)} differences"
    return Text(words, style="yellow" if result.is_warning else "bold red")


def _differences(results: list[CheckResult]) -> list[Text]:
    lines = []
    for result in results:
        shown = result.differences[:DIFFERENCES_SHOWN]
        lines += [Text(f"{result.name}: {difference}", style="yellow") for difference in shown]
        if len(result.differences) > len(shown):
            lines.append(Text(f"{result.name}: … and {len(result.differences) - len(shown)} more", style="yellow"))
    return lines


def _how_to_ask(evidence: Evidence) -> list[Text]:
    """The signature was checked here; whoever wants to can ask the beacon's operators too."""
    revelation = evidence.proof.revelation
    if revelation is None or revelation.beacon.source is not BeaconSource.DRAND_QUICKNET:
        return []
    return [Text(f"the beacon itself: {ASK_THE_BEACON}{revelation.beacon.round}", style="dim")]


def _summary(results: list[CheckResult], seconds: float) -> Text:
    count = sum(len(result.differences) for result in results if not result.is_warning)
    found = f"{count} differences" if count else "no differences"
    return Text(f"{found} ({seconds:.1f} s)", style="bold red" if count else "bold green")
