"""How fast is it said which seats can be had: in short (availability), and in full (the map), while they change?"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from itertools import repeat

from ops.bench.load import THREADS, Ask, Look, run_wrk
from ops.bench.measurement import Fact, Measurement, rate_of_at_least, slowest_of_95_below
from ops.bench.stage import Stage
from ops.bench.steady import Tally, ask_steadily
from ops.bench.steady_sale import CHANGES_PER_SECOND, CHANGES_RESERVATIONS_PER_SECOND, buy, reservations_of
from ops.bench.window import (
    BARE_GET,
    WARM_UP_SECONDS,
    Window,
    bare_http,
    load_of,
    look_at,
    measure_wrk,
    open_sale,
    prove,
    run,
)

SEATS = 10_000

AVAILABILITY_PER_SECOND = 12_000

MAPS_PER_SECOND = 50
MAP_P95_MS = 20
# Before the window: the map is built, and its compressed form.
LEAD_SECONDS = 2

GZIP = (("Accept-Encoding", "gzip"),)
PLAIN: tuple[tuple[str, str], ...] = ()


def measure_availability(stage: Stage, *, seconds: int) -> list[Measurement]:
    """One worker tells everybody which of ten thousand seats are left: plain, compressed, and "as you know it"."""
    stage.start_programs()
    house = open_sale(stage, SEATS)
    path = f"/api/events/{house.event_id}/availability"
    version = look_at(stage, Look(path)).headers.get("etag", "")
    forms = {"plain": PLAIN, "gzip": GZIP, "not modified": (("If-None-Match", version),)}
    run_wrk(load_of(stage, [Look(path)] * THREADS, seconds=WARM_UP_SECONDS, repeats=True))
    measured = [
        _measure_availability(stage, form, Look(path, headers), seconds=seconds) for form, headers in forms.items()
    ]
    bare = bare_http(stage, BARE_GET)
    return [replace(one, bare_http=bare) for one in measured]


def _measure_availability(stage: Stage, form: str, look: Look, *, seconds: int) -> Measurement:
    load = load_of(stage, [look] * THREADS, seconds=seconds, repeats=True)
    measured = measure_wrk(stage, f"availability, {form}", load)
    size = Fact("body", len(look_at(stage, look).body), "bytes")
    wanted = (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED)
    target = rate_of_at_least(AVAILABILITY_PER_SECOND, measured.answers, wanted=wanted)
    return replace(measured, facts=(size,), targets=(target,))


def measure_map(stage: Stage, *, seconds: int) -> list[Measurement]:
    """The full map of ten thousand seats, asked for at a steady pace while buyers change two hundred seats a second."""
    stage.start_programs()
    house = open_sale(stage, SEATS)
    path = f"/api/events/{house.event_id}/seats"
    forms = {"gzip": GZIP, "plain": PLAIN}
    window_seconds = LEAD_SECONDS + seconds
    reservations = reservations_of(
        stage, house, per_second=CHANGES_RESERVATIONS_PER_SECOND, seconds=len(forms) * window_seconds
    )
    measured = [
        _measure_map(stage, form, Look(path, headers), reservations, seconds=seconds) for form, headers in forms.items()
    ]
    proof, bare = prove(stage, house), bare_http(stage, BARE_GET)
    return [replace(one, proof=proof, bare_http=bare) for one in measured]


def _measure_map(stage: Stage, form: str, look: Look, reservations: Iterator[Ask], *, seconds: int) -> Measurement:
    run(_look_while_buying(stage, look, reservations, seconds=LEAD_SECONDS))
    window = Window(stage)
    maps, bought = run(_look_while_buying(stage, look, reservations, seconds=seconds))
    answers = maps.answers(seconds=seconds)
    load = f"{MAPS_PER_SECOND} a second, {CHANGES_PER_SECOND} changes a second"
    measured = window.measured(f"full map, {form}", load=load, answers=answers)
    facts = (
        Fact("body", maps.body_bytes / max(1, answers.count), "bytes"),
        Fact("reservations meanwhile", bought.statuses[HTTPStatus.CREATED] / seconds, "a second"),
    )
    return replace(measured, facts=facts, targets=(slowest_of_95_below(MAP_P95_MS, answers, wanted=(HTTPStatus.OK,)),))


async def _look_while_buying(
    stage: Stage, look: Look, reservations: Iterator[Ask], *, seconds: int
) -> tuple[Tally, Tally]:
    return await asyncio.gather(
        ask_steadily(stage.url, repeat(look), per_second=MAPS_PER_SECOND, seconds=seconds),
        buy(stage, reservations, per_second=CHANGES_RESERVATIONS_PER_SECOND, seconds=seconds),
    )
