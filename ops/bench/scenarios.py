"""How fast is a sale: reservations, a fight over few seats, checkouts?

Each scenario prepares its house and its crowd, warms the processes up, measures a window, and has the books proved.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus

import aiohttp

from ops.bench.crowd import (
    RESERVE_PATH,
    SEATS_PER_ASK,
    asks_for_any_pair,
    asks_for_each_pair,
    asks_to_pay,
    let_in,
    users_needed,
)
from ops.bench.load import Answers, Ask, Look, run_wrk
from ops.bench.measurement import (
    Fact,
    IngressParts,
    Measurement,
    Variant,
    rate_of_at_least,
    slowest_of_95_below,
)
from ops.bench.shares import shares_between, take_snapshot
from ops.bench.stage import INGRESS, Stage
from ops.bench.window import (
    BARE_POST,
    WARM_UP_SECONDS,
    bare_http,
    come_to_rest,
    load_of,
    measure_wrk,
    open_sale,
    prove,
    run,
    same_chance,
)
from ops.stack import StackProblem

VARIANT_WARM_UP_SECONDS = 2

# The house must not be sold out in the window: so many asks a second are prepared, more than two cores can answer.
RESERVATIONS_PER_SECOND_MAX = 8000
ORDERS_PER_SECOND_MAX = 700

HOT_USERS, HOT_SEATS = 10_000, 100
# Asked again from the start when they have all been asked.
HOT_ASKS = 50_000
HOT_ANSWERS_PER_SECOND, HOT_P95_MS = 10_000, 100
# Yours, or gone.
HOT_STATUSES = (HTTPStatus.CREATED, HTTPStatus.CONFLICT)
# One fills a core; a second one takes from the engine and the servers what a fight over few seats leaves them idle.
HOT_WORKERS = (1, 2)

HOLDS_AT_ONCE = 64

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


def measure_reservations(stage: Stage, *, seconds: int) -> list[Measurement]:
    """One hot event in which nobody wants what somebody else wants: how fast are seats set aside, and what is it that
    costs the ingress its time?"""
    stage.start_programs()
    return [_take_ingress_apart(stage, _reserve(stage, seconds=seconds, warm_up_seconds=WARM_UP_SECONDS))]


def _reserve(stage: Stage, *, seconds: int, warm_up_seconds: int) -> Measurement:
    count = RESERVATIONS_PER_SECOND_MAX * (warm_up_seconds + seconds)
    house = open_sale(stage, SEATS_PER_ASK * count)
    cookies = run(let_in(stage.settings, users_needed(count)))
    asks = asks_for_each_pair(house, cookies, chance=same_chance())
    first = RESERVATIONS_PER_SECOND_MAX * warm_up_seconds
    run_wrk(load_of(stage, asks[:first], seconds=warm_up_seconds))
    measured = measure_wrk(stage, "reservations", load_of(stage, asks[first:], seconds=seconds))
    return replace(measured, proof=prove(stage, house))


def measure_hot_seats(stage: Stage, *, seconds: int) -> list[Measurement]:
    """Ten thousand users and a hundred seats: nearly every answer is a no, and no seat is given twice. With one ingress
    process and with two; the figure is that of the faster."""
    cookies = run(let_in(stage.settings, HOT_USERS))
    measured = [_measure_hot_seats(stage, cookies, worker_count=count, seconds=seconds) for count in HOT_WORKERS]
    best = max(measured, key=lambda one: sum(map(one.answers.rate_of, HOT_STATUSES)))
    targets = (
        rate_of_at_least(HOT_ANSWERS_PER_SECOND, best.answers, wanted=HOT_STATUSES),
        slowest_of_95_below(HOT_P95_MS, best.answers, wanted=HOT_STATUSES),
    )
    return [replace(one, targets=targets) if one is best else one for one in measured]


def _measure_hot_seats(stage: Stage, cookies: Sequence[str], *, worker_count: int, seconds: int) -> Measurement:
    stage.start_programs({"BOXOFFICE_INGRESS_WORKERS": str(worker_count)})
    rehearsal, house = open_sale(stage, HOT_SEATS), open_sale(stage, HOT_SEATS)
    rehearsed = asks_for_any_pair(rehearsal, cookies, HOT_ASKS, chance=same_chance())
    run_wrk(load_of(stage, rehearsed, seconds=WARM_UP_SECONDS))
    asks = asks_for_any_pair(house, cookies, HOT_ASKS, chance=same_chance())
    name = f"hot seats, {worker_count} ingress worker{'s' if worker_count > 1 else ''}"
    measured = measure_wrk(stage, name, load_of(stage, asks, seconds=seconds, repeats=True))
    early = Fact("refused by the ingress itself", 100 * _early_share(measured, worker_count), "%")
    return replace(measured, proof=prove(stage, house), bare_http=bare_http(stage), facts=(early,))


def _early_share(measured: Measurement, worker_count: int) -> float:
    """Of all reservations, those that no command was sent for."""
    early_count, command_count = measured.insides.early_refusals, measured.insides.engine_commands
    if worker_count > 1:
        # Only one of them shows what it has counted. The engine is one: what it has not seen was answered before.
        early_count = max(0.0, measured.answers.count - command_count)
    asked_count = early_count + command_count
    return early_count / asked_count if asked_count else 0.0


def measure_checkout(stage: Stage, *, seconds: int) -> list[Measurement]:
    """Holds become orders, with a payment provider that takes its time."""
    stage.start_programs()
    count = ORDERS_PER_SECOND_MAX * (WARM_UP_SECONDS + seconds)
    house = open_sale(stage, SEATS_PER_ASK * count)
    cookies = run(let_in(stage.settings, users_needed(count)))
    wanted = asks_for_each_pair(house, cookies, chance=same_chance())
    asks = asks_to_pay(house, iter(run(_hold(stage.url, wanted))))
    first = len(asks) * WARM_UP_SECONDS // (WARM_UP_SECONDS + seconds)
    run_wrk(load_of(stage, asks[:first], seconds=WARM_UP_SECONDS))
    come_to_rest(stage, house)  # the warm-up's last payments are not to be worked off in the window
    measured = measure_wrk(stage, "checkout", load_of(stage, asks[first:], seconds=seconds))
    return [replace(measured, proof=prove(stage, house, pays=True))]


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


def _take_ingress_apart(stage: Stage, measured: Measurement) -> Measurement:
    cookies = run(let_in(stage.settings, HOT_USERS))
    http, bare = _ingress_microseconds(stage, BARE_POST)
    http_and_gate, _ = _ingress_microseconds(stage, [Ask(RESERVE_PATH, body="{}", cookie=cookie) for cookie in cookies])
    whole = measured.shares.microseconds_per(INGRESS, measured.answers.count)
    return replace(measured, bare_http=bare, ingress_parts=IngressParts(http, http_and_gate, whole))


def _ingress_microseconds(stage: Stage, asks: Sequence[Ask | Look]) -> tuple[float, Answers]:
    groups = {INGRESS: stage.groups[INGRESS]}
    before = take_snapshot(groups)
    answers = bare_http(stage, asks)
    return shares_between(before, take_snapshot(groups)).microseconds_per(INGRESS, answers.count), answers


async def _hold(url: str, wanted: Sequence[Ask]) -> list[tuple[str, str]]:
    """Reserve all of these, as a client would; the cookie and the hold's id of each that was granted."""
    waiting = iter(wanted)
    holds: list[tuple[str, str]] = []

    async def hold_one_after_another(http: aiohttp.ClientSession) -> None:
        for ask in waiting:
            headers = {"content-type": "application/json", "cookie": f"session={ask.cookie}"}
            async with http.post(ask.path, data=ask.body, headers=headers) as response:
                if response.status == 201:
                    holds.append((ask.cookie, (await response.json())["holdId"]))

    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.DummyCookieJar()) as http:
        await asyncio.gather(*(hold_one_after_another(http) for _ in range(HOLDS_AT_ONCE)))
    if not holds:
        raise StackProblem("not one seat could be reserved, so there is nothing to pay for")
    return holds
