"""Does a new version go live, or a process die, while people buy, without a request that is lost or carried out twice?"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from urllib.parse import quote

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts import topology
from db.postgres import Pool, open_pool
from ops.payment_simulator.log_reader import read_money_log
from ops.stack import SERVERS, Stack
from ops.stack.rolling import change_scale, restart
from ops.stack.scale import read_scale
from ops.verify import simulator_log_path, verify_event
from tests.builders import OnSale, an_event_on_sale, fresh_database, settings_of
from tests.eventually import eventually
from tests.faults.rush_hour import BUYERS, Listener, RushHour

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PORT_BASE = 9700
SCALE = "ingress=3 commands=2"
KILLS_MAX = 8
MOVED_WITHIN_SECONDS = 10.0
# How often somebody asks is not what these tests are about, nor how long a busy machine's broker takes to confirm.
VARIABLES = {
    "BOXOFFICE_PUBLISH_TIMEOUT_SECONDS": "2.0",
    "BOXOFFICE_RATE_LIMIT_MULTIPLIER": "100000",
    "BOXOFFICE_LIVE_HOLDS_MAX": "10000",
    "BOXOFFICE_STREAMS_PER_ADDRESS_MAX": "1000",
}


@pytest.fixture(scope="module")
def scaled() -> Iterator[Stack]:
    """Three ingress processes behind nginx, two of commands, and the other roles together."""
    stack = Stack("rolling", PORT_BASE, variables={})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        try:
            stack.down()
            stack.empty("payments")
            stack.up(SERVERS)
            asyncio.run(fresh_database(stack))
            stack.run_module("consumers", "declare-topology")
            change_scale(stack, read_scale([SCALE]))
            yield stack
        finally:
            stack.down()


@pytest.fixture
async def pool(scaled: Stack) -> AsyncIterator[Pool]:
    opened = await open_pool(settings_of(scaled), application_name="rolling restart")
    yield opened
    opened.terminate()


@pytest.fixture
async def redis(scaled: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(settings_of(scaled).redis_url) as client:
        yield client


@pytest.fixture
async def event(scaled: Stack, pool: Pool) -> AsyncIterator[OnSale]:
    """More seats than will be bought, on sale."""
    event = await an_event_on_sale(settings_of(scaled), pool, seats=20_000, seats_per_row=100, ticket_limit=10_000)

    async def is_open() -> bool:
        return bool(await pool.fetchval("SELECT status = 'on_sale' FROM events WHERE id = $1", event.event_id))

    await eventually(is_open, within_seconds=30)
    yield event
    await event.close()


@pytest.fixture
async def rush(scaled: Stack, event: OnSale, pool: Pool, redis: Redis) -> RushHour:
    return RushHour(scaled.environment()["BOXOFFICE_PUBLIC_URL"], event, pool, redis)


async def all_buyers_are_served(rush: RushHour) -> None:
    """From now on: each of them has been answered several times."""
    count = len(rush.figures.seconds) + 5 * BUYERS
    await eventually(lambda: len(rush.figures.seconds) >= count, within_seconds=60)


async def everything_adds_up(scaled: Stack, rush: RushHour, event: OnSale, pool: Pool) -> None:
    """No hold that nobody asked for, one charge for each order, and clean books."""
    holds = await pool.fetch("SELECT id FROM holds WHERE event_id = $1", event.event_id)
    assert {str(record["id"]) for record in holds} == rush.figures.holds
    orders = await pool.fetch("SELECT id FROM orders WHERE event_id = $1", event.event_id)
    assert {str(record["id"]) for record in orders} == rush.figures.orders
    log = simulator_log_path(scaled)
    assert log is not None

    async def is_clean() -> bool:
        return (await verify_event(pool, event.event_id, log)).is_clean

    await eventually(is_clean, within_seconds=60)  # captures come after the answers
    by_order = read_money_log(log).by_order()
    assert [order for order in rush.figures.orders if sum(i.capture_count for i in by_order[order]) != 1] == []


async def test_a_rolling_restart_of_every_process_loses_nothing_and_repeats_nothing(
    scaled: Stack, rush: RushHour, event: OnSale, pool: Pool
) -> None:
    before = {name: scaled.process(name) for name in scaled.applications if name != "nginx"}
    told: list[str] = []
    async with AsyncExitStack() as all_day:
        figures = await all_day.enter_async_context(rush.under_way())
        listener = await all_day.enter_async_context(Listener(rush._url, event).listening())
        await all_buyers_are_served(rush)
        processes = [name for name in scaled.applications if name != "nginx"]
        await asyncio.to_thread(restart, scaled, processes, rolling=True, say=told.append)
        assert figures.idle_cuts == 0  # ours let go of nothing that somebody could be about to use
        await asyncio.to_thread(restart, scaled, ["nginx"], rolling=True, say=told.append)
        await all_buyers_are_served(rush)
    after = {name: scaled.process(name) for name in before}
    print(f"\nrolling restart of {len(before) + 1} processes: {figures}", *told, sep="\n  ")
    print(f"  SSE: {listener.frames} frames, {listener.arrivals} arrivals, {listener.resyncs} resyncs")
    assert all(before[name] != after[name] for name in before)
    assert figures.lost == []
    assert listener.gaps == 0
    assert listener.frames > 0
    assert listener.arrivals > 1
    await everything_adds_up(scaled, rush, event, pool)


async def test_without_being_sent_away_first_a_process_takes_requests_with_it(
    scaled: Stack, rush: RushHour, event: OnSale
) -> None:
    """The negative control: the same measure sees what a kill -9 loses."""
    async with rush.under_way() as figures:
        await all_buyers_are_served(rush)
        kills = 0
        while not figures.lost and kills < KILLS_MAX:
            await asyncio.to_thread(scaled.kill, "ingress-1")
            kills += 1
            await asyncio.to_thread(scaled.start, "ingress-1")
            await all_buyers_are_served(rush)
    print(f"\nkill -9 of ingress-1, {kills} times: {figures}", *figures.lost[:5], sep="\n  ")
    assert figures.lost
    # Whatever was lost was lost by writes: what only reads was asked of another process.
    assert [one for one in figures.lost if one.startswith("look")] == []
    # And nobody sent it again in the client's name: one hold for each reservation that was asked, answered or not.
    holds = await event.pool.fetchval("SELECT count(*) FROM holds WHERE event_id = $1", event.event_id)
    assert holds <= figures.asked["reserve"]
    assert holds - len(figures.holds) <= sum(one.startswith("reserve") for one in figures.lost)


async def test_the_events_of_a_killed_consumer_are_served_by_another_within_ten_seconds(
    scaled: Stack, rush: RushHour, event: OnSale, pool: Pool
) -> None:
    owner = await owner_of(scaled, event)
    async with rush.under_way() as figures:
        await all_buyers_are_served(rush)
        killed_at = time.monotonic()
        await asyncio.to_thread(scaled.kill, owner)
        # One that was asked only after that.
        await eventually(lambda: max(figures.reserved_began_at) > killed_at, within_seconds=MOVED_WITHIN_SECONDS + 5)
        moved_after = time.monotonic() - killed_at
        await asyncio.to_thread(scaled.start, owner)
        await all_buyers_are_served(rush)
    print(f"\nkill -9 of {owner}: its event was served again after {moved_after:.2f} s; {figures}")
    assert moved_after < MOVED_WITHIN_SECONDS


async def test_a_running_stack_grows_and_shrinks_by_the_difference_only(scaled: Stack, rush: RushHour) -> None:
    async with rush.under_way() as figures:
        await all_buyers_are_served(rush)
        first = {name: scaled.process(name) for name in scaled.applications}
        await asyncio.to_thread(change_scale, scaled, read_scale(["ingress=2 commands=1"]))
        await all_buyers_are_served(rush)
        smaller = {name: scaled.process(name) for name in scaled.applications}
        assert scaled.process("ingress-3") is None
        assert scaled.process("commands-2") is None
        await asyncio.to_thread(change_scale, scaled, read_scale([SCALE]))
        await all_buyers_are_served(rush)
        larger = {name: scaled.process(name) for name in scaled.applications}
    print(f"\n{SCALE}, fewer, and again {SCALE}: {figures}")
    assert smaller == {name: first[name] for name in smaller}
    assert {name: larger[name] for name in smaller} == smaller
    assert all(larger.values())
    assert larger.keys() == first.keys()
    assert figures.lost == []


async def owner_of(scaled: Stack, event: OnSale) -> str:
    """The commands process that the broker gives the event's messages to now."""
    queue = quote(topology.event_queue(event.event_id), safe="")
    settings = settings_of(scaled)
    login = {"authorization": aiohttp.encode_basic_auth("operator", settings.rabbitmq_operator_password)}
    pids = {process.pid: name for name in ("commands-1", "commands-2") if (process := scaled.process(name))}

    async def active() -> str | None:
        async with (
            aiohttp.ClientSession(settings.rabbitmq_management_url, headers=login) as http,
            http.get(f"/api/queues/tk/{queue}") as response,
        ):
            consumers = (await response.json()).get("consumer_details", [])
        # Its tag ends with the process's id.
        return next((pids[int(one["consumer_tag"].rpartition(":")[2])] for one in consumers if one["active"]), None)

    return await eventually(active, within_seconds=30) or ""
