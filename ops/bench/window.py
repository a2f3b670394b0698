"""How is one window measured, whatever is asked in it?"""

import asyncio
import http.client
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import uvloop

from contracts import topology
from db.demo import count_seats_by_status, count_undecided
from db.postgres import Pool, open_pool
from ops.bench.crowd import RESERVE_PATH, House, open_house
from ops.bench.insides import insides_between, read_samples
from ops.bench.load import THREADS, Answers, Ask, Load, Look, run_wrk
from ops.bench.measurement import Measurement, Proof
from ops.bench.shares import shares_between, take_snapshot
from ops.bench.stage import Stage
from ops.stack import StackProblem
from ops.verify import verify_event

CONNECTIONS = 256
WARM_UP_SECONDS = 3
# Of each look at what bare HTTP costs.
BARE_SECONDS = 3

SETTLE_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.25
# For one answer, caches cold.
LOOK_SECONDS_MAX = 30.0

RANDOM_SEED = 1

# Nobody's: as much of a reservation as HTTP is. Two, because each thread of wrk wants something to ask.
BARE_POST = [Ask(RESERVE_PATH, body="{}")] * THREADS
BARE_GET = [Look("/live")] * THREADS

Result = TypeVar("Result")


class Seen(NamedTuple):
    """An answer as it came over the wire, compressed or not; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Window:
    """A time in which it is counted who did how much; it begins when it is made."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._groups = stage.groups
        self._samples, self._snapshot = read_samples(*stage.metrics_ports), take_snapshot(self._groups)

    def measured(self, name: str, *, load: str, answers: Answers) -> Measurement:
        """What was counted until now."""
        shares = shares_between(self._snapshot, take_snapshot(self._groups))
        insides = insides_between(self._samples, read_samples(*self._stage.metrics_ports), seconds=shares.seconds)
        return Measurement(name=name, load=load, answers=answers, shares=shares, insides=insides)


def measure_wrk(stage: Stage, name: str, load: Load) -> Measurement:
    """One window, in which wrk asks."""
    window = Window(stage)
    answers = run_wrk(load)
    return window.measured(name, load=f"{load.connections} connections", answers=answers)


def load_of(stage: Stage, asks: Sequence[Ask | Look], *, seconds: int, repeats: bool = False) -> Load:
    """As many connections as it takes to keep a sale busy."""
    return Load(stage.url, asks, connections=CONNECTIONS, seconds=seconds, repeats=repeats)


def bare_http(stage: Stage, asks: Sequence[Ask | Look] = BARE_POST) -> Answers:
    """What the ingress answers in this minute when there is nothing to do but HTTP."""
    return run_wrk(load_of(stage, asks, seconds=BARE_SECONDS, repeats=True))


def look_at(stage: Stage, look: Look) -> Seen:
    """What that GET is answered with; raises StackProblem when it is an error."""
    parts = urlsplit(stage.url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=LOOK_SECONDS_MAX)) as connection:
        # Not as http.client would: it asks for no compression, and the answer may depend on that.
        connection.putrequest("GET", look.path, skip_accept_encoding=True)
        for name, value in look.headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise StackProblem(f"GET {look.path} was answered {answer.status}: {body[:300].decode(errors='replace')}")
    return Seen(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)


def open_sale(stage: Stage, seat_count: int) -> House:
    """A fresh event, on sale, whose queue the engine drains."""
    house = run(open_house(stage.settings, seat_count))
    stage.wait_until_consumed(topology.event_queue(house.event_id))
    return house


def come_to_rest(stage: Stage, house: House) -> None:
    """Returns when every payment has; raises StackProblem when some do not."""

    async def wait() -> None:
        async with await open_pool(stage.settings, application_name="boxoffice bench", size=1) as pool:
            await _settled(pool, house)

    run(wait())


def prove(stage: Stage, house: House, *, pays: bool = False) -> Proof:
    """What the books say, the provider's included if somebody `pays`."""
    return run(_prove(stage, house, pays=pays))


async def _prove(stage: Stage, house: House, *, pays: bool) -> Proof:
    async with await open_pool(stage.settings, application_name="boxoffice bench", size=2) as pool:
        settled_seconds = await _settled(pool, house) if pays else None
        money_log = stage.stack.data_folder("payments") / "payments.log"
        report = await verify_event(pool, house.event_id, money_log if pays else None)
        return Proof(
            difference_count=report.difference_count,
            is_money_compared=report.is_money_compared,
            seats_by_status=await count_seats_by_status(pool, house.event_id),
            settled_seconds=settled_seconds,
        )


async def _settled(pool: Pool, house: House) -> float:
    """How long it took until every payment had come to rest; raises StackProblem when some do not."""
    begun_at = time.monotonic()
    while count := await count_undecided(pool, house.event_id):
        if time.monotonic() > begun_at + SETTLE_SECONDS_MAX:
            raise StackProblem(f"{count} payments have not come to rest after {SETTLE_SECONDS_MAX:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - begun_at


def same_chance() -> random.Random:
    """The same asks each time."""
    return random.Random(RANDOM_SEED)  # noqa: S311 -- repeatable on purpose


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """On the fast event loop: what we need ourselves is what the measured do not get."""
    return uvloop.run(work)
