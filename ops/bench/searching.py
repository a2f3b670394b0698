"""How fast is a show found among fifty thousand?"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice

from contracts.settings import Settings
from db.demo import insert_catalogue, vacuum_catalogue
from db.postgres import open_pool, transaction
from ops.bench.catalogue import Catalogue, make_up
from ops.bench.load import Look, run_wrk
from ops.bench.measurement import Fact, Measurement, slowest_of_95_below
from ops.bench.questions import Curious, Question, next_page
from ops.bench.stage import INGRESS, Stage
from ops.bench.steady import Callers, Tally, ask_once, callers_of
from ops.bench.window import BARE_GET, Window, bare_http, load_of, measure_wrk, run, same_chance

EVENTS_P95_MS = 50

# Few at once: it is how long an answer takes that is asked for, not how many there can be.
SEARCHERS = 6
WARM_UP_SECONDS = 2
# Asked again and again, once they are in the cache.
WARM_QUESTIONS = 200

TallyByKind = defaultdict[str, Tally]


def measure_search(stage: Stage, *, seconds: int) -> list[Measurement]:
    """Fifty thousand events: what nobody has asked before, all of it and by kind, and what everybody asks."""
    stage.start_programs()
    # The others would take the thousands of sales that are on for theirs; nobody buys here.
    stage.stop_programs(but=INGRESS)
    chance, now = same_chance(), datetime.now(UTC)
    catalogue = make_up(chance, now=now)
    run(_write_down(stage.settings, catalogue))
    questions = Curious(catalogue, chance, now=now).questions()
    run(
        _search(stage, questions, seconds=WARM_UP_SECONDS)
    )  # connections, statements, PostgreSQL's pages: not the answers
    window = Window(stage)
    by_kind = run(_search(stage, questions, seconds=seconds))
    cold = _cold(window, by_kind, seconds=seconds)
    bare = bare_http(stage, BARE_GET)
    return [replace(one, bare_http=bare) for one in (cold, _measure_warm(stage, questions, seconds=seconds))]


def _cold(window: Window, by_kind: TallyByKind, *, seconds: int) -> Measurement:
    whole = Tally()
    for tally in by_kind.values():
        whole.add(tally)
    answers = whole.answers(seconds=seconds)
    measured = window.measured("search, never asked before", load=f"{SEARCHERS} at once", answers=answers)
    facts = tuple(Fact(f"{kind}: p95", _p95(tally), "ms") for kind, tally in sorted(by_kind.items()))
    return replace(
        measured, facts=facts, targets=(slowest_of_95_below(EVENTS_P95_MS, answers, wanted=(HTTPStatus.OK,)),)
    )


def _p95(tally: Tally) -> float:
    return tally.answers(seconds=1).latency_ms[95]


def _measure_warm(stage: Stage, questions: Iterator[Question], *, seconds: int) -> Measurement:
    looks = [Look(question.path) for question in islice(questions, WARM_QUESTIONS)]
    run_wrk(load_of(stage, looks, seconds=WARM_UP_SECONDS, repeats=True))
    return measure_wrk(stage, "search, asked before", load_of(stage, looks, seconds=seconds, repeats=True))


async def _search(stage: Stage, questions: Iterator[Question], *, seconds: int) -> TallyByKind:
    """A few people ask one thing after the other."""
    by_kind: TallyByKind = defaultdict(Tally)
    over_at = time.monotonic() + seconds

    async def search(callers: Callers) -> None:
        while time.monotonic() < over_at:
            question = next(questions)
            cursor = await _ask(callers, question, by_kind)
            if question.goes_on and cursor is not None:
                await _ask(callers, next_page(question, cursor), by_kind)

    async with callers_of(stage.url) as callers:
        await asyncio.gather(*(search(callers) for _ in range(SEARCHERS)))
    return by_kind


async def _ask(callers: Callers, question: Question, by_kind: TallyByKind) -> str | None:
    """Where the next page begins, if there is one."""
    heard = await ask_once(callers, Look(question.path), time.perf_counter(), by_kind[question.kind])
    if heard is None or not question.goes_on or heard.status != HTTPStatus.OK:
        return None
    cursor: str | None = json.loads(heard.body).get("nextCursor")
    return cursor


async def _write_down(settings: Settings, catalogue: Catalogue) -> None:
    async with await open_pool(settings, application_name="boxoffice bench", size=1) as pool:
        async with transaction(pool) as tx:
            await insert_catalogue(tx, catalogue.venues, catalogue.events)
        async with pool.acquire() as connection:
            await vacuum_catalogue(connection)
