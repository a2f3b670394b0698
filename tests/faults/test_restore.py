"""Does a shop that was destroyed in the middle of a sale come back, with every buyer's money where it belongs?

Hypothesis: after PostgreSQL, Redis and RabbitMQ have lost everything, the backup and the payment provider's log are enough.
Whoever had bought before the backup has their seats; whoever bought after it has their money, all of it and once; who was
paying at that moment gets one or the other; nothing is sold twice; and a waiting room goes on in the order in which people came.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from consumers.payments.after_restore import NOBODY
from contracts.commands import RefundOrder
from contracts.ids import EventId, OrderId
from contracts.replies import RefundStarted
from contracts.settings import PREFIX
from contracts.waiting_room import Phase
from db.waiting_room import WaitingRooms
from db.waiting_room_records import want_phase
from ops.backup.command import NOT_GIVEN_BACK
from ops.payment_simulator.log_reader import IntentOnLog, read_money_log
from ops.stack import Stack
from ops.stack.server import REPOSITORY
from ops.stack.stack import DATABASES, SERVERS
from ops.verify import simulator_log_path, verify_event
from tests.builders import a_command_id, fresh_database
from tests.eventually import eventually
from tests.faults.processes import IngressProcess, WarmConsumers
from tests.faults.world import INGRESS_SETTINGS, Answer, Buyer, Event, HeldSeats, World, environment_of
from tests.waiting_rooms import Room

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PORT_BASE = 9760
NAME = "faults-restore"
PAIRS = 60
SHOPPERS = 4
# Orders before the backup, while it is taken, and after it.
BEFORE, MEANWHILE, AFTER = 8, 12, 12
BANK_ASKS = "pm_card_threeDSecure2Required"


@pytest.fixture(scope="module")
def doomed() -> Iterator[Stack]:
    """A stack that will lose everything but the provider's log."""
    stack = Stack(NAME, PORT_BASE, variables={})
    try:
        for name in (*DATABASES, "payments"):
            stack.stop(name)
            stack.empty(name)
        stack.up(SERVERS)
        asyncio.run(fresh_database(stack))
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="module")
def warm(doomed: Stack) -> Iterator[WarmConsumers]:
    consumers = WarmConsumers(doomed.log_file("consumers"))
    yield consumers
    consumers.close()


@pytest.fixture
async def shop(doomed: Stack, warm: WarmConsumers) -> AsyncIterator[World]:
    async with World(doomed, warm, doomed.environment()["BOXOFFICE_PUBLIC_URL"]) as world:
        yield world


@pytest.fixture
async def rooms(shop: World) -> AsyncIterator[WaitingRooms]:
    opened = WaitingRooms(shop.settings)
    yield opened
    await opened.close()


@dataclass
class Sale:
    """Shoppers who reserve pairs of neighbouring seats and pay, as often as they may, until they are told to stop."""

    world: World
    event: Event
    # A backup may take long on a busy machine: not everything is to be sold before it is done.
    budget: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BEFORE + MEANWHILE))
    bought: list[Answer] = field(default_factory=list)

    async def shop(self, buyer: Buyer, chance: random.Random) -> None:
        while True:
            await self.budget.acquire()
            await self.buy(buyer, chance)

    async def buy(self, buyer: Buyer, chance: random.Random) -> None:
        while True:
            pair = chance.randrange(4, PAIRS)
            seats = self.event.seats[2 * pair : 2 * pair + 2]
            reserved = await buyer.reserve(seats)
            if reserved.status == 201:
                answer = await buyer.check_out(HeldSeats(reserved.body["holdId"], tuple(seats)))
                assert answer.status == 201, answer
                self.bought.append(answer)
                return

    async def has_sold(self, count: int) -> None:
        await eventually(lambda: len(self.bought) >= count, 40)

    @property
    def order_ids(self) -> set[str]:
        return {answer.body["orderId"] for answer in self.bought}


async def test_everything_destroyed_in_the_middle_of_a_sale_comes_back(
    shop: World, rooms: WaitingRooms, tmp_path: Path
) -> None:
    folder, go_on = tmp_path / "backup", tmp_path / "go on"
    ingress = open_shop(shop)
    try:
        shop.start_consumers(f"payments.after_create=1*pause({go_on})", payment_unknown_seconds="30")
        await eventually(shop.ingress_is_ready, 30)
        event = await shop.an_event(seats=2 * PAIRS, ticket_limit=2 * PAIRS)
        room = await a_room_with_a_line(shop, rooms)
        sale = Sale(shop, event)

        # Somebody is paying when the backup is taken: the provider knows of it, and our books do not yet.
        in_between = asyncio.create_task(paid(await shop.a_buyer(event), event, 0))
        await eventually(lambda: intents(shop), 20)
        early = await paid(await shop.a_buyer(event), event, 1)
        buyers = [await shop.a_buyer(event) for _ in range(SHOPPERS)]
        async with asyncio.TaskGroup() as shopping:
            shoppers = [shopping.create_task(sale.shop(one, random.Random(n))) for n, one in enumerate(buyers)]
            await sale.has_sold(BEFORE)
            before = {early.body["orderId"], *sale.order_ids}
            in_line = await room.line()
            await boxoffice("backup", str(folder))
            go_on.touch()
            for _ in range(AFTER):
                sale.budget.release()
            await sale.has_sold(BEFORE + MEANWHILE + AFTER)
            for shopper in shoppers:
                shopper.cancel()
        # What happens after the backup, and is lost: everything above from there on, and a refund, a payment whose bank
        # asks back, one that is only set aside, and people who join the line.
        paid_in_between = (await in_between).body["orderId"]
        await refunded(shop, event, early.body["orderId"])
        left_paying = await asked_by_bank(shop, event)
        set_aside = await paid_and_not_captured(shop, event)
        await room.people(3)
        await shop.kill_consumers()
    finally:
        ingress.close()
    # The books of before it all, for whoever wants to know what was lost.
    captured_before = {intent.order_id: intent.captured_minor for intent in intents(shop) if intent.captured_minor}
    assert {set_aside, left_paying}.isdisjoint(captured_before)

    destroyed_at = time.monotonic()
    for name in DATABASES:
        await shop.strike(shop.stack.kill, name)
        await shop.strike(shop.stack.empty, name)
    for name in DATABASES:
        await shop.strike(shop.stack.start, name)
    await shop.redis.connection_pool.disconnect()  # of the Redis that was
    servers_back_seconds = time.monotonic() - destroyed_at

    # First without giving anything back: it says what differs, and that is the difference the proof sees, too.
    looked = await boxoffice("restore", str(folder), code=NOT_GIVEN_BACK)
    assert "Nothing was given back yet" in looked
    assert await money_differences(shop, event), "without the reconciliation nobody would have noticed"
    assert {i.order_id: i.captured_minor for i in intents(shop) if i.captured_minor} == captured_before

    await boxoffice("restore", "reconcile", str(folder), "--give-back")
    restored_seconds = time.monotonic() - destroyed_at
    print(
        f"servers back after {servers_back_seconds:.1f} s, shop restored and reconciled after {restored_seconds:.1f} s"
    )
    assert await money_differences(shop, event) == []

    # Whoever had bought before has what they bought; the one who was giving it back has the money.
    orders = await statuses(shop, event)
    assert {order: orders.get(order) for order in before} == dict.fromkeys(before, "completed") | {
        early.body["orderId"]: "refunded"
    }
    lost = sale.order_ids - orders.keys()
    assert len(lost) >= AFTER
    # Who was paying in between was charged, and has the seats.
    assert orders[paid_in_between] == "completed"
    # Whoever came later has all of the money back, and nobody's card is left with anything set aside.
    by_order = {intent.order_id: intent for intent in intents(shop)}
    assert {by_order[order].kept_minor for order in lost} == {0}
    assert {by_order[order].refund_count for order in lost} == {1}
    assert by_order[set_aside].state == by_order[left_paying].state == "canceled"
    for intent in intents(shop):
        assert intent.kept_minor == 0 or orders[intent.order_id or ""] == "completed", intent

    # Asking again gives nothing back a second time.
    await boxoffice("restore", "reconcile", str(folder), "--give-back")
    assert {intent.order_id: intent for intent in intents(shop)} == by_order

    # The shop opens: the line is as it was, and what was not sold is sold.
    ingress = open_shop(shop)
    try:
        shop.start_consumers()
        await eventually(shop.ingress_is_ready, 30)
        await eventually(lambda: is_line(room, in_line), 30)
        await sell_the_rest(shop, event)
        await shop.at_rest(event)
        await shop.books_agree(event)
        assert await event.sale.seats_sold_twice() == 0
        assert set((await event.sale.statuses()).values()) == {"sold"}
    finally:
        ingress.close()


# ---- before


def open_shop(world: World) -> IngressProcess:
    """An API of this test's own; it is closed while books are exchanged."""
    return IngressProcess(environment_of(world.stack, **INGRESS_SETTINGS), world.stack.log_file("ingress"))


async def paid(buyer: Buyer, event: Event, pair: int, card: str = "pm_card_visa") -> Answer:
    """Somebody buys that pair of seats."""
    answer = await buyer.check_out(await buyer.hold(event.seats[2 * pair : 2 * pair + 2]), payment_method=card)
    assert answer.status == 201, answer
    return answer


async def refunded(world: World, event: Event, order_id: str) -> None:
    """The organiser gives all of this order back, and the buyer has the money."""
    command = RefundOrder(
        command_id=a_command_id(),
        correlation_id=a_command_id(),
        event_id=event.sale.event_id,
        order_id=OrderId(UUID(order_id)),
        user_id=NOBODY,
        as_organiser=True,
    )
    assert isinstance(await event.sale.ask_one(command), RefundStarted)
    await eventually(lambda: all(intent.kept_minor == 0 for intent in world.intents(order_id)), 20)


async def asked_by_bank(world: World, event: Event) -> str:
    """The id of an order whose buyer never answered the bank."""
    buyer = await world.a_buyer(event)
    hold = await buyer.hold(event.seats[4:6])
    await buyer.check_out_once(hold, payment_method=BANK_ASKS)
    await eventually(lambda: any(intent.state == "requires_action" for intent in intents(world)), 20)
    return next(intent.order_id or "" for intent in intents(world) if intent.state == "requires_action")


async def paid_and_not_captured(world: World, event: Event) -> str:
    """The id of an order that is sold, and its money only set aside."""
    await world.script("capture", "drop_request", times=None)
    return str((await paid(await world.a_buyer(event), event, 3)).body["orderId"])


async def a_room_with_a_line(world: World, rooms: WaitingRooms) -> Room:
    """A waiting room in which twelve people wait and nobody is let in, and its log is in PostgreSQL."""
    event = await world.an_event(seats=20, high_demand=True)
    room = Room(rooms, world.redis, event_id=EventId(event.id))
    await eventually(lambda: has_entries(world, event, 1), 30)
    await want_phase(world.pool, EventId(event.id), Phase.PAUSED, "the test says so")
    await eventually(lambda: is_in_phase(room, Phase.PAUSED), 30)
    await room.people(12)
    count = int((await rooms.facts(EventId(event.id)))["entries"])
    await eventually(lambda: has_entries(world, event, count), 20)
    return room


async def has_entries(world: World, event: Event, count: int) -> bool:
    found = await world.fetch("SELECT count(*) FROM waiting_room_log WHERE event_id = $1", event.id)
    return int(found[0][0]) >= count


async def is_in_phase(room: Room, phase: Phase) -> bool:
    return (await room.rooms.facts(room.event_id)).get("phase") == phase


# ---- afterwards


async def boxoffice(*words: str, code: int = 0) -> str:
    """What an operator types, and what it says."""
    return await asyncio.to_thread(_boxoffice, *words, code=code)


def _boxoffice(*words: str, code: int) -> str:
    others = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    named = {f"{PREFIX}STACK": NAME, f"{PREFIX}PORT_BASE": str(PORT_BASE)}
    done = subprocess.run(
        [sys.executable, "-m", "ops.command", *words],
        cwd=REPOSITORY,
        env={**others, **named, "COLUMNS": "150"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def intents(world: World) -> list[IntentOnLog]:
    """Every payment of the provider's log: it outlives everything."""
    path = simulator_log_path(world.stack)
    return [] if path is None else list(read_money_log(path).intents.values())


async def money_differences(world: World, event: Event) -> list[str]:
    """What the proof says of our books beside the provider's."""
    report = await world.patiently(
        lambda: verify_event(world.pool, event.sale.event_id, simulator_log_path(world.stack))
    )
    assert report.is_money_compared
    return [difference for result in report.results for difference in result.differences]


async def statuses(world: World, event: Event) -> dict[str, str]:
    found = await world.fetch("SELECT id::text, status FROM orders WHERE event_id = $1", event.id)
    return {row["id"]: row["status"] for row in found}


async def is_line(room: Room, expected: list[str]) -> bool:
    return list(await room.line()) == expected


async def sell_the_rest(world: World, event: Event) -> None:
    """Whatever pair is free is bought by somebody new."""
    await world.clear_faults()
    free = [seat for seat in event.seats if (await event.sale.statuses())[seat] != "sold"]
    pairs = [event.seats.index(seat) // 2 for seat in free[::2]]
    held_over = "UPDATE holds SET held_until = now() - interval '1 second' WHERE event_id = $1 AND status = 'active'"
    await world.fetch(held_over, event.id)
    await world.fetch(
        "UPDATE seats SET held_until = now() - interval '1 second' WHERE event_id = $1 AND status = 'held'", event.id
    )
    queue = iter(pairs)

    async def buy_some() -> None:
        buyer = await world.a_buyer(event)
        for pair in queue:
            await paid(buyer, event, pair)

    try:
        await asyncio.gather(*(buy_some() for _ in range(SHOPPERS)))
    except aiohttp.ClientError as problem:
        raise AssertionError(repr(problem)) from problem
