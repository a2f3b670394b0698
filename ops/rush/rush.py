"""How is a rush run, from the empty house to the proof?"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from uuid import UUID

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contracts.ids import EventId
from contracts.settings import Settings
from db.demo import count_seats_by_status, count_undecided, list_free_seats, list_sold_seats
from db.events import find_event
from db.postgres import Pool, open_pool
from db.redis import open_redis
from ops.rush.accounts import Accounts
from ops.rush.buyer import Buyer
from ops.rush.faults import Struck, strike_all
from ops.rush.history import Acknowledged, count_unheard, find_broken_promises
from ops.rush.house import HasWaitingRoom, open_house, wait_until_on_sale
from ops.rush.plan import SEATS_WANTED_MAX, RushPlan
from ops.rush.report import Outcome
from ops.rush.seat_map import SeatMap
from ops.rush.shop import REQUEST_SECONDS_MAX, Shop
from ops.rush.tally import Tally
from ops.stack import Stack
from ops.verify import verify_event

LOOK_SECONDS = 0.25
# How long requests on their way may take when the rush is over, and payments to come to rest after it.
FINISH_SECONDS = 15.0
SETTLE_SECONDS_MAX = 60.0
# Those who do not pay and those who are declined use up accounts too.
SPARE_ACCOUNTS = 1.5


@dataclass
class Scene:
    """Everything a rush needs while it runs."""

    plan: RushPlan
    settings: Settings
    pool: Pool
    accounts: Accounts
    shop: Shop
    tally: Tally
    history: list[Acknowledged]
    event_id: EventId
    # What buyers see of the house, and what is to be sold of it.
    seats: SeatMap
    seat_ids: frozenset[UUID]
    console: Console


async def run_rush(
    plan: RushPlan, settings: Settings, *, stack: Stack | None, money_log_path: Path | None, console: Console
) -> Outcome:
    """Prepare, sell, wait for the payments, prove. Without a stack there is no chaos."""
    async with _scene(plan, settings, console) as scene:
        struck = await _sell(scene, stack if plan.has_chaos else None)
        scene.tally.ended_at = time.monotonic()
        with console.status("waiting for the last payments to come to rest"):
            unsettled_count = await _settled(scene)
        with console.status("proving it"):
            sold = await list_sold_seats(scene.pool, scene.event_id)
            return Outcome(
                plan=plan,
                tally=scene.tally,
                struck=tuple(struck),
                seat_count=len(scene.seat_ids),
                sold_count=len(scene.seat_ids & sold.keys()),
                broken_promises=tuple(find_broken_promises(scene.history, sold)),
                unheard_order_count=count_unheard(scene.history, sold),
                unsettled_count=unsettled_count,
                proof=await verify_event(scene.pool, scene.event_id, money_log_path),
            )


@asynccontextmanager
async def _scene(plan: RushPlan, settings: Settings, console: Console) -> AsyncIterator[Scene]:
    chance = random.Random(plan.random_seed)  # noqa: S311 -- a rehearsal that can be repeated
    tally, redis = Tally(), open_redis(settings)
    connector = aiohttp.TCPConnector(limit=plan.connections_max, keepalive_timeout=60.0)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
    base_url = f"http://{settings.http_host}:{settings.http_port}"
    try:
        async with (
            await open_pool(settings, application_name="boxoffice rush", size=4) as pool,
            aiohttp.ClientSession(
                base_url, connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            ) as http,
        ):
            accounts = Accounts(settings, redis, http, signs_in=plan.signs_in)
            shop = Shop(http, accounts, tally, connections_max=plan.connections_max, chance=chance)
            with console.status("building the house and letting the buyers in"):
                event_id = plan.event_id or await open_house(pool, plan.seat_count)
                await _let_in(accounts, pool, event_id, plan)
                await wait_until_on_sale(pool, event_id)
                document = await shop.look(f"/api/events/{event_id}/seats")
                seats = SeatMap(document, first=plan.hot_seat_count)
            yield Scene(
                plan=plan,
                settings=settings,
                pool=pool,
                accounts=accounts,
                shop=shop,
                tally=tally,
                history=[],
                event_id=event_id,
                seats=seats,
                seat_ids=await _to_be_sold(pool, event_id, seats, plan),
                console=console,
            )
    finally:
        await redis.aclose()


async def _to_be_sold(pool: Pool, event_id: EventId, seats: SeatMap, plan: RushPlan) -> frozenset[UUID]:
    """Those everybody fights for, or all that are free: the database knows the places to stand by name as well."""
    if plan.hot_seat_count:
        return frozenset(map(UUID, seats.seat_ids))
    return await list_free_seats(pool, event_id)


async def _let_in(accounts: Accounts, pool: Pool, event_id: EventId, plan: RushPlan) -> None:
    async with pool.acquire(timeout=5.0) as connection:
        event = await find_event(connection, event_id)
    if event is not None and event.high_demand:
        raise HasWaitingRoom(f"event {event_id} has a waiting room, which lets nobody rush in: choose another event")
    capacity = event.capacity if event is not None else plan.seat_count
    count = plan.buyer_count + ceil(capacity / SEATS_WANTED_MAX * SPARE_ACCOUNTS)
    await accounts.create(pool, event_id, count, signed_in_count=plan.buyer_count)


async def _sell(scene: Scene, stack: Stack | None) -> list[Struck]:
    """Let everybody buy until the house is sold out or time is up."""
    with _progress(scene.console) as progress:
        scene.tally.begun_at = time.monotonic()
        buyers = [asyncio.create_task(buyer.buy()) for buyer in _buyers(scene)]
        chaos = asyncio.create_task(_strike(scene, stack, progress))
        try:
            await _watch(scene, buyers, chaos, progress)
        finally:
            scene.shop.over.set()
            await asyncio.wait([chaos])  # a server that is being started must not be left half-way
            await _finish(buyers)
        return await chaos


def _buyers(scene: Scene) -> Iterable[Buyer]:
    for number in range(scene.plan.buyer_count):
        yield Buyer(
            scene.plan,
            scene.event_id,
            shop=scene.shop,
            seats=scene.seats,
            accounts=scene.accounts,
            tally=scene.tally,
            history=scene.history,
            chance=random.Random(scene.plan.random_seed * 1_000_003 + number),  # noqa: S311 -- a rehearsal, repeatable
        )


async def _strike(scene: Scene, stack: Stack | None, progress: Progress) -> list[Struck]:
    if stack is None:
        return []
    return await strike_all(
        stack,
        scene.tally,
        seat_count=len(scene.seat_ids),
        say=lambda text: progress.console.print(f"[yellow]! {text}[/]", highlight=False),
        over=scene.shop.over,
    )


async def _watch(
    scene: Scene, buyers: list["asyncio.Task[None]"], chaos: "asyncio.Task[list[Struck]]", progress: Progress
) -> None:
    """Returns when every seat is sold, time is up or nobody is left; raises whatever ended a buyer or the chaos."""
    wanted, tally = len(scene.seat_ids), scene.tally
    sold_bar = progress.add_task("seats sold", total=wanted, notes="")
    while tally.elapsed_seconds < scene.plan.seconds_max:
        # By the database: a buyer whose answer was lost has bought all the same. It may be away for a moment.
        sold = await _count_sold(scene)
        progress.update(sold_bar, completed=sold, notes=_notes(tally))
        if sold >= wanted or all(buyer.done() for buyer in buyers):
            break
        for task in (chaos, *buyers):
            if task.done():
                task.result()
        await asyncio.sleep(LOOK_SECONDS)


async def _count_sold(scene: Scene) -> int:
    if not scene.plan.hot_seat_count:
        return (await count_seats_by_status(scene.pool, scene.event_id)).get("sold", 0)
    return len(scene.seat_ids & (await list_sold_seats(scene.pool, scene.event_id)).keys())


def _notes(tally: Tally) -> str:
    polite = tally.refused[429] + tally.refused[503]
    return f"{tally.order_count:,} orders, {tally.conflict_count:,} conflicts, {polite:,} refused politely"


async def _finish(buyers: list["asyncio.Task[None]"]) -> None:
    """Let what is on its way arrive: an acknowledged order that we did not read would be one we could not check."""
    _, late = await asyncio.wait(buyers, timeout=FINISH_SECONDS)
    for buyer in late:
        buyer.cancel()
    await asyncio.gather(*buyers, return_exceptions=True)


async def _settled(scene: Scene) -> int:
    """How many payments have not come to rest after a fair wait; none, if all is well."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while count := await count_undecided(scene.pool, scene.event_id):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
    return count


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[notes]}"),
        console=console,
    )
