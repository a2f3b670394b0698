"""Does the sale go on, and stay right, when a server that it stands on dies, hangs, forgets or refuses?"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from consumers.__main__ import ROLES
from consumers.lifecycle import open_event_queue
from contracts import topology
from tests.eventually import eventually
from tests.faults.tcp_proxy import HOST, TcpProxy
from tests.faults.world import Answer, Buyer, Event, HeldSeats, World
from tests.silent_queue import lose_leader

SHOPPERS = 4
PAIRS = 60
# What the promise of healing says: a purchase succeeds within this after the fault is over.
HEALED_WITHIN_SECONDS = 30.0
USUAL_WATERMARK = "0.3"  # rabbitmq/rabbitmq.conf
# Long enough for every pool, breaker and timeout to notice.
HANGS_SECONDS = 1.5

Strike = Callable[["SaleInProgress"], Awaitable[None]]


# ---- Redis


async def test_redis_killed_and_back_with_nothing_costs_sessions_and_no_seat(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.strike(world.stack.kill, "redis")
        # Who was there goes on buying: the ingress remembers them, and PostgreSQL takes the locks.
        await sale.sells(SHOPPERS)
        await world.strike(world.stack.empty, "redis")
        await world.strike(world.stack.start, "redis")
        # Everybody was signed out; the shoppers sign in again by themselves.
        await sale.somebody_hears(401, "unauthenticated")

    await the_sale_goes_on(world, strike)


async def test_redis_flushed_costs_sessions_and_no_seat(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.redis.flushall()
        await sale.somebody_hears(401, "unauthenticated")

    await the_sale_goes_on(world, strike)


async def test_redis_frozen_makes_buyers_wait_and_no_seat_is_sold_twice(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.strike(world.stack.freeze, "redis")
        await sale.goes_on_for(HANGS_SECONDS)
        await world.strike(world.stack.thaw, "redis")

    await the_sale_goes_on(world, strike)


async def test_commands_that_are_queued_are_answered_without_redis(world: World) -> None:
    event = await world.an_event()
    buyer = await world.a_buyer(event)
    key = str(uuid4())
    # Nobody takes the command yet; when somebody does, Redis is gone.
    waiting = asyncio.create_task(buyer.ask_once("POST", "/api/seats/reserve", reservation(event, 0), key))
    await in_a_queue(world, event, 1)
    await world.strike(world.stack.kill, "redis")
    world.start_consumers()
    assert (await waiting).status == 201
    await world.books_agree(event)


# ---- PostgreSQL


async def test_postgres_killed_in_the_middle_heals_by_itself(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.strike(world.stack.kill, "postgres")
        await sale.goes_on_for(0.5)
        await world.strike(world.stack.start, "postgres")

    await the_sale_goes_on(world, strike)


async def test_postgres_frozen_in_the_middle_heals_by_itself(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.strike(world.stack.freeze, "postgres")
        await sale.goes_on_for(HANGS_SECONDS)
        await world.strike(world.stack.thaw, "postgres")

    await the_sale_goes_on(world, strike)


async def test_a_lost_reply_to_commit_is_answered_as_if_it_had_come(world: World, tmp_path: Path) -> None:
    """Whether the COMMIT took place nobody can tell; the redelivered command finds its own hold."""
    event = await world.an_event()
    buyer = await world.a_buyer(event)
    go_on = tmp_path / "go on"
    async with TcpProxy(HOST, world.stack.ports["postgres"]) as proxy:
        through_proxy = world.settings.postgres_url.replace(f":{world.stack.ports['postgres']}/", f":{proxy.port}/")
        world.start_consumers(
            f"engine.before_commit=1*pause({go_on})", postgres_url=through_proxy, relay_poll_seconds="60"
        )
        reserving = asyncio.create_task(buyer.hold(event.seats[:2]))
        await eventually(lambda: engine_is_in_transaction(world), 10)
        proxy.drop_reply_after(b"COMMIT")
        go_on.touch()
        hold = await reserving
        assert proxy.fired == 1
        assert await world.fetch("SELECT id::text FROM holds WHERE event_id = $1", event.id) == [(hold.id,)]
        assert (await buyer.check_out(hold)).status == 201
        await world.everything_agrees(event)


async def test_a_zombie_that_comes_back_changes_nothing(world: World) -> None:
    """Frozen in its transaction, it loses its locks; another process does its work; then it wakes up."""
    event = await world.an_event()
    buyer = await world.a_buyer(event)
    zombie = world.start_consumers("engine.in_transaction=1*stop")
    reserving = asyncio.create_task(buyer.hold(event.seats[:2]))
    await eventually(zombie.is_stopped, 10)
    world.start_consumers()
    answer = await buyer.check_out(await reserving)
    assert answer.status == 201
    await world.at_rest(event)
    before = await everything_about(world, event)
    await world.kill_consumers()
    zombie.send(signal.SIGCONT)
    # Nobody else is there to answer: when somebody is answered, it has tried what it was about to do, and found its way back.
    other = await world.a_buyer(event)
    assert (await other.reserve(event.seats[:2])).code == "seats_unavailable"
    assert await everything_about(world, event) == before
    world.consumers = zombie
    await world.everything_agrees(event)


# ---- RabbitMQ


@pytest.mark.slow
async def test_the_broker_killed_in_the_middle_loses_no_command(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.strike(world.stack.kill, "rabbitmq")
        await sale.somebody_hears(503, "unavailable")
        await world.strike(world.stack.start, "rabbitmq")

    await the_sale_goes_on(world, strike)


@pytest.mark.slow
async def test_a_queue_without_a_leader_holds_up_no_other(world: World) -> None:
    # Queues are begun with in the order of their names: everything that is drained here comes after the silent one.
    silent, other = sorted([await world.an_event(), await world.an_event()], key=lambda event: event.id)
    await silence(world, silent)
    # A lifecycle that has looked once, before anybody consumed anything, leaves the silent queue as it is.
    world.start_consumers(lifecycle_poll_seconds="60")
    buyer = await world.a_buyer(other)
    assert (await buyer.check_out(await buyer.hold(other.seats[:2]))).status == 201
    await world.everything_agrees(other)


@pytest.mark.slow
async def test_a_queue_without_a_leader_is_replaced_and_its_sale_goes_on(world: World) -> None:
    event = await world.an_event()
    await silence(world, event)
    world.start_consumers()
    buyer = await world.a_buyer(event)
    assert (await buyer.check_out(await buyer.hold(event.seats[:2]))).status == 201
    await eventually(lambda: is_consumed(world, event), HEALED_WITHIN_SECONDS)
    await world.everything_agrees(event)


@pytest.mark.slow
async def test_a_blocked_broker_is_told_as_busy_and_never_as_failed(world: World) -> None:
    async def strike(sale: SaleInProgress) -> None:
        await world.strike(world.stack.rabbitmqctl, "set_vm_memory_high_watermark", "0.000001")
        try:
            answer = await sale.somebody_hears(503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        finally:
            await world.strike(world.stack.rabbitmqctl, "set_vm_memory_high_watermark", USUAL_WATERMARK)

    await the_sale_goes_on(world, strike)


async def test_a_full_queue_says_so(world: World) -> None:
    event = await world.an_event()
    buyer = await world.a_buyer(event)
    await limited_to(world, event, 1)
    try:
        full = await eventually(lambda: refused_as_busy(buyer, event), 5)
        assert 1 <= int(full.headers["retry-after"]) <= 3
        # What the queue took before is not refused, only not known yet.
        assert {answer.status for answer in buyer.answers[:-1]} == {202}
    finally:
        await world.strike(world.stack.rabbitmqctl, "clear_policy", "-p", topology.VHOST, "full")
    world.start_consumers()
    assert (await buyer.reserve(event.seats[4:6])).status == 201
    await world.everything_agrees(event)


async def test_a_command_that_no_queue_takes_is_refused_as_not_on_sale(world: World) -> None:
    event = await world.an_event()
    buyer = await world.a_buyer(event)
    lane = topology.lane_of(event.sale.event_id)
    url = world.settings.rabbitmq_url_for("lifecycle")
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(topology.lane_queue(lane), ensure=False)
        await queue.unbind(topology.COMMANDS_COLD, f"s{lane:02d}.*")
        try:
            answer = await buyer.ask_once("POST", "/api/seats/reserve", reservation(event, 0), str(uuid4()))
        finally:
            await queue.bind(topology.COMMANDS_COLD, f"s{lane:02d}.*")
    assert (answer.status, answer.code) == (409, "not_on_sale")
    world.start_consumers()
    assert (await buyer.reserve(event.seats[:2])).status == 201
    await world.everything_agrees(event)


# ---- a sale in the middle of which something happens


class SaleInProgress:
    """Some shoppers who reserve and pay, one pair of neighbouring seats after the other, contending for them."""

    def __init__(self, world: World, event: Event, shoppers: list[Buyer]) -> None:
        self.world = world
        self.event = event
        self.shoppers = shoppers
        self.over = asyncio.Event()
        self.bought: list[Answer] = []

    async def shop(self, buyer: Buyer, chance: random.Random) -> None:
        while not self.over.is_set():
            pair = chance.randrange(PAIRS)
            seats = self.event.seats[2 * pair : 2 * pair + 2]
            reserved = await buyer.reserve(seats)
            if reserved.status != 201:
                assert reserved.code == "seats_unavailable", reserved
                continue
            answer = await buyer.check_out(HeldSeats(reserved.body["holdId"], tuple(seats)))
            # Whoever is told no is told why, and nothing of it was charged; the books are held against it later.
            assert answer.status == 201 or answer.code in ("order_cancelled", "payment_unavailable"), answer
            if answer.status == 201:
                self.bought.append(answer)

    async def somebody_hears(self, status: int, code: str) -> Answer:
        """One of the shoppers gets that answer from now on."""
        seen = [len(buyer.answers) for buyer in self.shoppers]

        def heard() -> Answer | None:
            fresh = [one for buyer, start in zip(self.shoppers, seen, strict=True) for one in buyer.answers[start:]]
            return next((one for one in fresh if (one.status, one.code) == (status, code)), None)

        answer = await eventually(heard, 15)
        assert answer is not None
        return answer

    async def sells(self, order_count: int) -> None:
        """So many more orders are paid."""
        wanted = len(self.bought) + order_count
        await eventually(lambda: len(self.bought) >= wanted, HEALED_WITHIN_SECONDS)

    async def goes_on_for(self, seconds: float) -> None:
        """The fault lasts that long."""
        over_at = time.monotonic() + seconds
        await eventually(lambda: time.monotonic() >= over_at, seconds + 5)


async def the_sale_goes_on(world: World, strike: Strike) -> None:
    """Before, during and after the strike: nobody is sold a seat twice, everybody hears how it ended, and it heals."""
    event = await world.an_event(seats=2 * PAIRS, ticket_limit=2 * PAIRS)
    sale = SaleInProgress(world, event, [await world.a_buyer(event) for _ in range(SHOPPERS)])
    world.start_consumers()
    async with asyncio.TaskGroup() as shopping:
        for number, buyer in enumerate(sale.shoppers):
            shopping.create_task(sale.shop(buyer, random.Random(number)))
        await eventually(lambda: len(sale.bought) >= SHOPPERS, 20)
        # A role that finds no server when it begins ends its process, and waits for its supervisor: another matter.
        await eventually(lambda: every_role_has_begun(world), 20)
        await strike(sale)
        bought_before = len(sale.bought)
        await eventually(lambda: len(sale.bought) >= bought_before + SHOPPERS, HEALED_WITHIN_SECONDS)
        sale.over.set()
    await world.everything_agrees(event)
    stored = {
        row["id"]
        for row in await world.fetch(
            "SELECT id::text FROM orders WHERE event_id = $1 AND status = 'completed'", event.id
        )
    }
    assert {answer.body["orderId"] for answer in sale.bought} <= stored


# ---- looking and arranging


def reservation(event: Event, pair: int) -> dict[str, object]:
    return {"eventId": str(event.id), "seatIds": [str(seat) for seat in event.seats[2 * pair : 2 * pair + 2]]}


async def refused_as_busy(buyer: Buyer, event: Event) -> Answer | None:
    """Put one more command into the queue, without waiting for what comes of it."""
    answer = await buyer.ask_once(
        "POST", "/api/seats/reserve", reservation(event, 0), str(uuid4()), prefer="respond-async"
    )
    return answer if (answer.status, answer.code) == (503, "busy") else None


async def limited_to(world: World, event: Event, messages: int) -> None:
    """The lane that takes the event's commands may hold so many; the event has no queue of its own without a lifecycle."""
    pattern = f"^{topology.lane_queue(topology.lane_of(event.sale.event_id))}$"
    policy = f'{{"max-length": {messages}, "overflow": "reject-publish"}}'
    words = ("set_policy", "-p", topology.VHOST, "--priority", "10", "--apply-to", "queues", "full", pattern, policy)
    await world.strike(world.stack.rabbitmqctl, *words)


async def silence(world: World, event: Event) -> None:
    """The event has its queue, and the queue has lost its leader."""
    url = world.settings.rabbitmq_url_for("lifecycle")
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await open_event_queue(channel, event.sale.event_id, world.settings)
    await world.strike(lose_leader, world.stack, topology.event_queue(event.sale.event_id))


async def is_consumed(world: World, event: Event) -> bool:
    """Somebody consumes the event's own queue."""
    url = world.settings.rabbitmq_url_for("lifecycle")
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        with suppress(ChannelNotFoundEntity):
            queue = await channel.declare_queue(topology.event_queue(event.sale.event_id), passive=True)
            return (queue.declaration_result.consumer_count or 0) > 0
        return False


async def in_a_queue(world: World, event: Event, messages: int) -> None:
    """So many messages wait in the event's lane."""
    url = world.settings.rabbitmq_url_for("lifecycle")
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await eventually(lambda: waiting_count(channel, event, messages), 15)


async def waiting_count(channel: AbstractChannel, event: Event, messages: int) -> bool:
    lane = topology.lane_queue(topology.lane_of(event.sale.event_id))
    queue = await channel.declare_queue(lane, passive=True)
    return (queue.declaration_result.message_count or 0) >= messages


async def engine_is_in_transaction(world: World) -> bool:
    return bool(
        await world.fetch(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'boxoffice commands' AND state = 'idle in transaction'"
        )
    )


async def every_role_has_begun(world: World) -> bool:
    """Each has a connection to PostgreSQL."""
    found = await world.fetch("SELECT DISTINCT application_name AS name FROM pg_stat_activity")
    return {f"boxoffice {role}" for role in ROLES} <= {row["name"] for row in found}


async def everything_about(world: World, event: Event) -> list[list[object]]:
    """Every record of the event that a sale changes."""
    tables = ("seats", "holds", "orders", "order_items", "tickets", "payments", "seat_ledger")
    found = []
    for table in tables:
        sql = f"SELECT t::text FROM {table} AS t WHERE event_id = $1 ORDER BY 1"  # noqa: S608 -- our own names
        found.append([row[0] for row in await world.fetch(sql, event.id)])
    return found
