"""What is measured, and how?

Each scenario prepares its house and its crowd, warms the processes up, measures a window, and has the books proved.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import aiohttp
import uvloop

from contracts import topology
from db.demo import count_seats_by_status, count_undecided
from db.postgres import open_pool
from ops.bench.crowd import (
    SEATS_PER_ASK,
    House,
    asks_for_any_pair,
    asks_for_each_pair,
    asks_to_pay,
    let_in,
    open_house,
    users_needed,
)
from ops.bench.insides import Insides, insides_between, read_samples
from ops.bench.load import THREADS, Answers, Ask, Load, run_wrk
from ops.bench.shares import Shares, shares_between, take_snapshot
from ops.bench.stage import INGRESS, Stage
from ops.stack import StackProblem
from ops.verify import verify_event

RESERVE_PATH, CHECKOUT_PATH = "/api/seats/reserve", "/api/checkout"

CONNECTIONS = 256
WARM_UP_SECONDS = 3
VARIANT_WARM_UP_SECONDS = 2
# Of each look at a part of the ingress.
PART_SECONDS = 3

# The house must not be sold out in the window: so many asks a second are prepared, more than two cores can answer.
RESERVATIONS_PER_SECOND_MAX = 8000
ORDERS_PER_SECOND_MAX = 700

HOT_USERS, HOT_SEATS = 10_000, 100
# Asked again from the start when they have all been asked.
HOT_ASKS = 50_000

HOLDS_AT_ONCE = 64
SETTLE_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.25

RANDOM_SEED = 1

Result = TypeVar("Result")


@dataclass(frozen=True)
class Proof:
    """What the books say afterwards."""

    difference_count: int
    is_money_compared: bool
    seats_by_status: Mapping[str, int]
    # After the last answer, until every payment had come to rest; None where nothing is paid.
    settled_seconds: float | None = None

    @property
    def is_clean(self) -> bool:
        return self.difference_count == 0


@dataclass(frozen=True)
class IngressParts:
    """CPU of the ingress for one reservation, in microseconds: as much as a request costs that gets no further."""

    # Read, routed, and refused for want of a session.
    http: float
    # And the session found and the rate limit asked in Redis, but the body of no use.
    http_and_gate: float
    # And the command sent and its reply told.
    all: float
    # Reservations a second for each request a second that is refused for want of a session, in the same minute: what is left
    # of bare HTTP. Machines differ, and one machine differs from hour to hour; this differs less.
    of_bare_http: float


@dataclass(frozen=True)
class Measurement:
    """One window of one scenario."""

    name: str
    connections: int
    answers: Answers
    shares: Shares
    insides: Insides
    proof: Proof
    ingress_parts: IngressParts | None = None


@dataclass(frozen=True)
class Variant:
    """The same load with other settings, and with the usual ones just before."""

    name: str
    variables: Mapping[str, str]
    usual: Measurement
    changed: Measurement

    @property
    def ratio(self) -> float:
        """The changed one's rate, with the usual one's as 1."""
        return self.changed.answers.per_second / self.usual.answers.per_second


VARIANTS: Mapping[str, Mapping[str, str]] = {
    **{
        f"batches of at most {size}": {
            "BOXOFFICE_ENGINE_BATCH_MAX": str(size),
            "BOXOFFICE_COMMAND_BATCH_MAX": str(size),
        }
        for size in (1, 16, 256)
    },
    "classic queue": {"BOXOFFICE_EVENT_QUEUE_TYPE": "classic"},
}


def measure_reservations(stage: Stage, *, seconds: int) -> Measurement:
    """One hot event in which nobody wants what somebody else wants: how fast are seats set aside, and what is it that
    costs the ingress its time?"""
    measured = _reserve(stage, seconds=seconds, warm_up_seconds=WARM_UP_SECONDS)
    return replace(measured, ingress_parts=_take_ingress_apart(stage, measured))


def _reserve(stage: Stage, *, seconds: int, warm_up_seconds: int) -> Measurement:
    count = RESERVATIONS_PER_SECOND_MAX * (warm_up_seconds + seconds)
    house = _open(stage, SEATS_PER_ASK * count)
    cookies = _run(let_in(stage.settings, users_needed(count)))
    asks = asks_for_each_pair(house, cookies, chance=_chance())
    first = RESERVATIONS_PER_SECOND_MAX * warm_up_seconds
    _warm_up(stage, RESERVE_PATH, asks[:first], seconds=warm_up_seconds)
    return _measure(stage, "reservations", _load(stage, RESERVE_PATH, asks[first:], seconds=seconds), house)


def measure_hot_seats(stage: Stage, *, seconds: int) -> Measurement:
    """Ten thousand users and a hundred seats: nearly every answer is a no, and no seat is given twice."""
    cookies = _run(let_in(stage.settings, HOT_USERS))
    rehearsal, house = _open(stage, HOT_SEATS), _open(stage, HOT_SEATS)
    rehearsed = asks_for_any_pair(rehearsal, cookies, HOT_ASKS, chance=_chance())
    _warm_up(stage, RESERVE_PATH, rehearsed, seconds=WARM_UP_SECONDS)
    asks = asks_for_any_pair(house, cookies, HOT_ASKS, chance=_chance())
    load = _load(stage, RESERVE_PATH, asks, seconds=seconds, repeats=True)
    return _measure(stage, "hot seats", load, house)


def measure_checkout(stage: Stage, *, seconds: int) -> Measurement:
    """Holds become orders, with a payment provider that takes its time."""
    count = ORDERS_PER_SECOND_MAX * (WARM_UP_SECONDS + seconds)
    house = _open(stage, SEATS_PER_ASK * count)
    cookies = _run(let_in(stage.settings, users_needed(count)))
    wanted = asks_for_each_pair(house, cookies, chance=_chance())
    asks = asks_to_pay(house, iter(_run(_hold(_url(stage), wanted))))
    first = len(asks) * WARM_UP_SECONDS // (WARM_UP_SECONDS + seconds)
    _warm_up(stage, CHECKOUT_PATH, asks[:first], seconds=WARM_UP_SECONDS)
    _run(_come_to_rest(stage, house))  # the warm-up's last payments are not to be worked off in the window
    load = _load(stage, CHECKOUT_PATH, asks[first:], seconds=seconds)
    return _measure(stage, "checkout", load, house, pays=True)


def measure_variants(stage: Stage, *, seconds: int, say: Callable[[str], None]) -> list[Variant]:
    """What becomes of the reservations' rate with other settings. Each is compared with a run of the minute before it:
    the machine of an hour ago is another machine."""
    return [_measure_variant(stage, name, seconds=seconds, say=say) for name in VARIANTS]


def _measure_variant(stage: Stage, name: str, *, seconds: int, say: Callable[[str], None]) -> Variant:
    def once(variables: Mapping[str, str]) -> Measurement:
        stage.start_programs(variables)
        return _reserve(stage, seconds=seconds, warm_up_seconds=VARIANT_WARM_UP_SECONDS)

    variant = Variant(name, VARIANTS[name], usual=once({}), changed=once(VARIANTS[name]))
    say(f"{name}: {variant.changed.answers.per_second:,.0f} a second, {variant.ratio:.2f} of the usual")
    return variant


def _take_ingress_apart(stage: Stage, measured: Measurement) -> IngressParts:
    cookies = _run(let_in(stage.settings, HOT_USERS))
    http, bare = _ingress_microseconds(stage, [Ask(cookie="", body="{}")] * THREADS)
    http_and_gate, _ = _ingress_microseconds(stage, [Ask(cookie, body="{}") for cookie in cookies])
    return IngressParts(
        http=http,
        http_and_gate=http_and_gate,
        all=measured.shares.microseconds_per(INGRESS, measured.answers.count),
        of_bare_http=measured.answers.per_second / bare.per_second,
    )


def _ingress_microseconds(stage: Stage, asks: Sequence[Ask]) -> tuple[float, Answers]:
    groups = {INGRESS: stage.groups[INGRESS]}
    before = take_snapshot(groups)
    answers = run_wrk(_load(stage, RESERVE_PATH, asks, seconds=PART_SECONDS, repeats=True))
    return shares_between(before, take_snapshot(groups)).microseconds_per(INGRESS, answers.count), answers


# ---- one window


def _measure(stage: Stage, name: str, load: Load, house: House, *, pays: bool = False) -> Measurement:
    groups = stage.groups
    samples, snapshot = read_samples(*stage.metrics_ports), take_snapshot(groups)
    answers = run_wrk(load)
    shares = shares_between(snapshot, take_snapshot(groups))
    insides = insides_between(samples, read_samples(*stage.metrics_ports), seconds=shares.seconds)
    return Measurement(
        name=name,
        connections=load.connections,
        answers=answers,
        shares=shares,
        insides=insides,
        proof=_run(_prove(stage, house, pays=pays)),
    )


def _warm_up(stage: Stage, path: str, asks: Sequence[Ask], *, seconds: int) -> None:
    run_wrk(_load(stage, path, asks, seconds=seconds))


def _open(stage: Stage, seat_count: int) -> House:
    house = _run(open_house(stage.settings, seat_count))
    stage.wait_until_consumed(topology.event_queue(house.event_id))
    return house


async def _come_to_rest(stage: Stage, house: House) -> None:
    async with await open_pool(stage.settings, application_name="boxoffice bench", size=1) as pool:
        await _settled(pool, house)


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


async def _settled(pool: Any, house: House) -> float:
    """How long it took until every payment had come to rest; raises StackProblem when some do not."""
    begun_at = time.monotonic()
    while count := await count_undecided(pool, house.event_id):
        if time.monotonic() > begun_at + SETTLE_SECONDS_MAX:
            raise StackProblem(f"{count} payments have not come to rest after {SETTLE_SECONDS_MAX:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - begun_at


async def _hold(url: str, wanted: Sequence[Ask]) -> list[tuple[str, str]]:
    """Reserve all of these, as a client would; the cookie and the hold's id of each that was granted."""
    waiting = iter(wanted)
    holds: list[tuple[str, str]] = []

    async def hold_one_after_another(http: aiohttp.ClientSession) -> None:
        for ask in waiting:
            headers = {"content-type": "application/json", "cookie": f"session={ask.cookie}"}
            async with http.post(RESERVE_PATH, data=ask.body, headers=headers) as response:
                if response.status == 201:
                    holds.append((ask.cookie, (await response.json())["holdId"]))

    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.DummyCookieJar()) as http:
        await asyncio.gather(*(hold_one_after_another(http) for _ in range(HOLDS_AT_ONCE)))
    if not holds:
        raise StackProblem("not one seat could be reserved, so there is nothing to pay for")
    return holds


def _load(stage: Stage, path: str, asks: Sequence[Ask], *, seconds: int, repeats: bool = False) -> Load:
    return Load(_url(stage), path, asks, connections=CONNECTIONS, seconds=seconds, repeats=repeats)


def _url(stage: Stage) -> str:
    return stage.stack.environment()["BOXOFFICE_PUBLIC_URL"]


def _chance() -> random.Random:
    return random.Random(RANDOM_SEED)  # noqa: S311 -- the same asks each time


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    return uvloop.run(work)
