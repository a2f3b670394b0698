"""How long is it from the commit of a change until those who watch the sale know of it, and what does watching cost?"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from db.demo import read_ledger_times
from db.postgres import open_pool
from ops.bench.crowd import House
from ops.bench.listeners import CONNECTED, Arrival, Overheard, read_overheard
from ops.bench.load import Ask, Look
from ops.bench.measurement import Fact, Measurement, Target
from ops.bench.shares import resident_bytes
from ops.bench.stage import INGRESS, Stage
from ops.bench.steady import percentiles_of
from ops.bench.steady_sale import CHANGES_PER_SECOND, CHANGES_RESERVATIONS_PER_SECOND, buy, reservations_of
from ops.bench.window import BARE_GET, Window, bare_http, look_at, open_sale, prove, run
from ops.stack import StackProblem
from ops.stack.processes import Process

LISTENERS, SAMPLE = 5_000, 200
LISTENER_VARIABLES = {
    "BOXOFFICE_STREAMS_MAX": str(2 * LISTENERS),
    # All of ours come from this machine.
    "BOXOFFICE_STREAMS_PER_ADDRESS_MAX": str(2 * LISTENERS),
}
LISTENER_GROUP = "listeners"
# How long the program may live whatever becomes of us.
LISTENER_SECONDS_MAX = 180
CONNECT_SECONDS_MAX = 90.0
LOOK_SECONDS = 0.1

SEATS = 10_000
LAG_P95_MS = 250
# Changes go on before and after the window, so that it lies in the middle of a sale.
LEAD_SECONDS = 2

RESYNC = "resync"


@dataclass(frozen=True)
class Watched:
    """What became of the changes of a window on their way to the sample."""

    # From the beginning of the transaction that made the change to its arrival; one for each change and listener.
    lags_ms: Sequence[float]
    # Frames that one listener got, on average.
    frames_each: float
    # Changes that a listener of the sample was never told of, all listeners together.
    missed_count: int
    # Beyond the one that each stream begins with.
    resync_count: int


def measure_streams(stage: Stage, *, seconds: int) -> list[Measurement]:
    """Five thousand people watch one sale over one worker, while buyers change two hundred seats a second."""
    stage.start_programs(LISTENER_VARIABLES)
    house = open_sale(stage, SEATS)
    all_seconds = seconds + 2 * LEAD_SECONDS
    asks = reservations_of(stage, house, per_second=CHANGES_RESERVATIONS_PER_SECOND, seconds=all_seconds)
    # The sale itself is in memory by then: what is counted is the listeners.
    look_at(stage, Look(f"/api/events/{house.event_id}/availability"))
    bytes_before = resident_bytes(stage.groups[INGRESS])
    with tempfile.TemporaryDirectory(prefix="boxoffice-bench-") as folder:
        with _listening(stage, house, Path(folder)):
            listener_bytes = (resident_bytes(stage.groups[INGRESS]) - bytes_before) / LISTENERS
            measured, begun_at, ended_at = run(_measure_buying(stage, asks, seconds=seconds))
        heard = read_overheard(Path(folder))
    changed_at = run(_changed_at(stage, house, begun_at, ended_at))
    told = _as_told(measured, watched(heard, changed_at), heard)
    memory = Fact("memory of the ingress per listener", listener_bytes / 1024, "KiB")
    told = replace(told, facts=(memory, *told.facts))
    return [replace(told, proof=prove(stage, house), bare_http=bare_http(stage, BARE_GET))]


def watched(overheard: Overheard, changed_at: Mapping[int, float]) -> Watched:
    """What became of these changes, of which we know when they were made, by sequence number."""
    by_listener: dict[int, list[Arrival]] = defaultdict(list)
    for arrival in overheard.arrivals:
        by_listener[arrival.listener].append(arrival)
    lags = [lag for arrivals in by_listener.values() for lag in _lags_ms(arrivals, changed_at)]
    return Watched(
        lags_ms=lags,
        frames_each=len(_frames_within(overheard.arrivals, changed_at)) / max(1, overheard.sample_count),
        missed_count=len(changed_at) * overheard.sample_count - len(lags),
        resync_count=sum(arrival.type == RESYNC for arrival in overheard.arrivals) - overheard.sample_count,
    )


def _lags_ms(arrivals: Sequence[Arrival], changed_at: Mapping[int, float]) -> Iterator[float]:
    """Of one listener: a frame's id is its last change; those since the frame before came with it. After a resync nobody
    knows what did."""
    known_seq: int | None = None
    for arrival in arrivals:
        if arrival.type == RESYNC:
            known_seq = None
        if arrival.type == RESYNC or arrival.last_seq is None:
            continue
        news = range(arrival.last_seq if known_seq is None else known_seq + 1, arrival.last_seq + 1)
        yield from (1000 * (arrival.at - changed_at[seq]) for seq in news if seq in changed_at)
        known_seq = arrival.last_seq


def _frames_within(arrivals: Sequence[Arrival], changed_at: Mapping[int, float]) -> list[Arrival]:
    return [arrival for arrival in arrivals if arrival.last_seq in changed_at]


def _as_told(measured: Measurement, seen: Watched, overheard: Overheard) -> Measurement:
    """The streams' figures in the place of the reservations': a frame that came is an answer. Raises StackProblem when
    nothing was heard."""
    if not seen.lags_ms:
        raise StackProblem(f"nobody heard of any of {seen.missed_count} changes")
    frame_count = round(seen.frames_each * overheard.listener_count)
    answers = replace(
        measured.answers,
        statuses={200: frame_count},
        latency_ms=percentiles_of(seen.lags_ms),
        errors={
            **measured.answers.errors,
            "streams lost": overheard.lost_count,
            "changes missed": seen.missed_count,
            "resyncs": seen.resync_count,
        },
    )
    reserved = Fact("reservations meanwhile: p95", measured.answers.latency_ms[95], "ms")
    share = Fact("ingress, of one core", 100 * measured.shares.by_group[INGRESS] / measured.shares.seconds, "%")
    told_of = len(seen.lags_ms)
    missed_percent = 100 * seen.missed_count / (told_of + seen.missed_count)
    targets = (Target("lag p95", answers.latency_ms[95], LAG_P95_MS, "ms", spoilt_by=missed_percent),)
    return replace(measured, answers=answers, targets=targets, facts=(share, reserved))


async def _changed_at(stage: Stage, house: House, begun_at: float, ended_at: float) -> dict[int, float]:
    """The changes of the window, and when their transactions began: a little before they could be known to anybody."""
    async with await open_pool(stage.settings, application_name="boxoffice bench", size=1) as pool:
        times: Mapping[int, datetime] = await read_ledger_times(pool, house.event_id)
    return {seq: at.timestamp() for seq, at in times.items() if begun_at <= at.timestamp() <= ended_at}


async def _measure_buying(stage: Stage, asks: Iterator[Ask], *, seconds: int) -> tuple[Measurement, float, float]:
    """The window, and between which times of the system's clock it was."""
    await buy(stage, asks, per_second=CHANGES_RESERVATIONS_PER_SECOND, seconds=LEAD_SECONDS)
    window, begun_at = Window(stage), time.time()
    bought = await buy(stage, asks, per_second=CHANGES_RESERVATIONS_PER_SECOND, seconds=seconds)
    ended_at = time.time()
    measured = window.measured(
        "streams: from a change to its arrival",
        load=f"{LISTENERS:,} listeners, {CHANGES_PER_SECOND} changes a second",
        answers=bought.answers(seconds=seconds),
    )
    await buy(stage, asks, per_second=CHANGES_RESERVATIONS_PER_SECOND, seconds=LEAD_SECONDS)
    return measured, begun_at, ended_at


@contextmanager
def _listening(stage: Stage, house: House, folder: Path) -> Iterator[None]:
    """Everybody watches meanwhile, and what they have heard is in that folder afterwards."""
    words = (
        "ops.bench.listeners",
        *("--url", stage.url),
        *("--path", f"/api/events/{house.event_id}/seats/stream"),
        *("--count", str(LISTENERS)),
        *("--sample", str(SAMPLE)),
        *("--seconds-max", str(LISTENER_SECONDS_MAX)),
        *("--folder", str(folder)),
    )
    with stage.beside(LISTENER_GROUP, words) as program:
        _wait_until_connected(stage, program, folder)
        yield


def _wait_until_connected(stage: Stage, program: Process, folder: Path) -> None:
    give_up_at = time.monotonic() + CONNECT_SECONDS_MAX
    while not (folder / CONNECTED).exists():
        if not program.is_alive() or time.monotonic() > give_up_at:
            raise StackProblem(f"the listeners could not open their streams; {stage.logs}")
        time.sleep(LOOK_SECONDS)
