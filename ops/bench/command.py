"""How does somebody ask for the figures?"""

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Protocol

import typer

from ops.bench.load import find_wrk
from ops.bench.machine import this_machine
from ops.bench.measurement import Measurement, Variant
from ops.bench.reading import measure_availability, measure_map
from ops.bench.report import Report, as_json, as_markdown, as_screen
from ops.bench.scenarios import measure_checkout, measure_hot_seats, measure_reservations, measure_variants
from ops.bench.searching import measure_search
from ops.bench.stage import Stage
from ops.bench.storm import measure_login_storm
from ops.bench.waiting import measure_room
from ops.bench.watching import measure_streams
from ops.stack.screen import console, note, problems_shown, step

VARIANT_SECONDS = 5

# As many characters as the tables need where no terminal says how wide it is.
UNKNOWN_WIDTH = 180


class Part(StrEnum):
    """What may be measured by itself."""

    RESERVATIONS = "reservations"
    HOT_SEATS = "hot-seats"
    CHECKOUT = "checkout"
    AVAILABILITY = "availability"
    MAP = "map"
    STREAMS = "streams"
    LOGIN_STORM = "login-storm"
    ROOM = "room"
    VARIANTS = "variants"
    # Last: it fills the catalogue.
    SEARCH = "search"


class Measure(Protocol):
    """A scenario: what is measured, each window for so many seconds.

    It begins with fresh processes, so that the order does not matter.
    """

    def __call__(self, stage: Stage, *, seconds: int) -> list[Measurement]: ...


# Each with the length of its windows in seconds.
MEASURED: Mapping[Part, tuple[Measure, int]] = {
    Part.RESERVATIONS: (measure_reservations, 12),
    Part.HOT_SEATS: (measure_hot_seats, 10),
    Part.CHECKOUT: (measure_checkout, 10),
    Part.AVAILABILITY: (measure_availability, 5),
    Part.MAP: (measure_map, 8),
    Part.STREAMS: (measure_streams, 10),
    Part.LOGIN_STORM: (measure_login_storm, 8),
    Part.ROOM: (measure_room, 10),
    Part.SEARCH: (measure_search, 8),
}


def bench(
    only: Annotated[list[Part] | None, typer.Option(help="Only this; may be given more than once.")] = None,
    seconds: Annotated[
        int | None, typer.Option(min=1, max=120, help="Length of every measured window; without it, each has its own.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything here, unrounded.")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables here, for a README.")
    ] = None,
) -> None:
    """Measure this machine: selling, watching, waiting, searching, and where the time goes. It asserts nothing.

    Uses servers of its own (stack `bench`, ports from 9800), empties them first and stops them at the end.
    """
    parts = only or list(Part)
    with problems_shown(), _sigterm_interrupts():
        try:
            report = _measure(parts, seconds)
        except KeyboardInterrupt as interrupted:
            console.print("Interrupted. Everything has been stopped.")
            raise typer.Exit(130) from interrupted
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(report), indent=2) + "\n")
    if markdown_file is not None:
        markdown_file.write_text(as_markdown(report))
    if not console.is_terminal:
        console.width = UNKNOWN_WIDTH
    console.print(as_screen(report))


def _measure(parts: list[Part], seconds: int | None) -> Report:
    find_wrk()  # before anything else: nothing can be measured without it
    measurements: list[Measurement] = []
    variants: list[Variant] = []
    with Stage(say=note) as stage:
        for part in (part for part in Part if part in parts):
            with step(part.value):
                if part is Part.VARIANTS:
                    variants = measure_variants(stage, seconds=seconds or VARIANT_SECONDS, say=note)
                    continue
                measure, usual_seconds = MEASURED[part]
                measurements += measure(stage, seconds=seconds or usual_seconds)
    return Report(this_machine(), _command(parts, seconds), measurements, variants)


def _command(parts: list[Part], seconds: int | None) -> str:
    """What brings these figures about again; where they were written to belongs to this machine."""
    chosen = [] if parts == list(Part) else [f"--only {part.value}" for part in parts]
    return " ".join(["boxoffice bench", *chosen, *([] if seconds is None else [f"--seconds {seconds}"])])


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a run exactly as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
