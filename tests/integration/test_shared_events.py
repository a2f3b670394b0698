"""Do several members drain each event one at a time, in order, whoever comes and goes meanwhile?"""

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from consumers.broker import ConfirmedPublisher
from consumers.command_sender import CommandSender
from consumers.event_commands import queues, sharing
from consumers.event_commands.drain import QueueDrain
from consumers.event_commands.outcome import Asked
from consumers.event_commands.queues import OpenQueues, drain_share
from consumers.event_commands.sharing import Membership, rank_of
from consumers.lifecycle import open_event_queue
from contracts import topology
from contracts.commands import AnyCommand
from contracts.ids import CommandId, EventId, SeatId
from contracts.replies import AnyReply, Rejected, SeatsReserved
from contracts.settings import Settings
from db import sale_clock
from db.audit_log import DeedFilter, list_deeds
from db.consumer_leases import list_leases
from db.paused_event_queues import NotPausable, pause, resume
from db.postgres import Pool, open_pool
from db.sessions import create_session
from ingress.command_bus import CommandBus
from tests.broker_probe import BrokerProbe
from tests.builders import OnSale, a_user, check_out, engine_of, reserve, settle
from tests.conftest import AnEvent, IngressWith
from tests.eventually import eventually

EVENT_COUNT = 5
SEAT_COUNT = 20
BATCH_SECONDS = 0.03
LEASE_SECONDS = 1.5


@dataclass(frozen=True)
class Batch:
    """What one member did of one event at one go."""

    member: UUID
    event_id: EventId
    began_at: float
    ended_at: float
    command_ids: tuple[CommandId, ...]


@dataclass
class Member:
    """One `commands` process, as far as the queues see it."""

    membership: Membership
    stopping: asyncio.Event
    task: asyncio.Task[None]

    @property
    def id(self) -> UUID:
        return self.membership.worker_id

    async def leave(self) -> None:
        """As on SIGTERM."""
        self.stopping.set()
        await self.task


class House:
    """Some events on sale, those who drain them, and what each of these did."""

    def __init__(self, settings: Settings, pool: Pool, sales: Sequence[OnSale], bus: CommandBus) -> None:
        self.settings, self.pool, self.sales, self._bus = settings, pool, sales, bus
        self.role = f"test-{uuid4()}"
        self.batches: list[Batch] = []
        self.members: list[Member] = []
        self.sent: defaultdict[EventId, list[CommandId]] = defaultdict(list)
        # How long a batch takes at least: so long, whoever does not wait for its end is seen.
        self.batch_seconds = 0.0
        self.open = AsyncExitStack()

    async def join(self) -> Member:
        """One more process."""
        looking = await open_pool(self.settings, application_name="test looks", size=1)
        self.open.callback(looking.terminate)
        membership = Membership(self.settings, looking, role=self.role)
        # Ids are random; a test counts on a share for everybody.
        others = [member.id for member in self.members if not member.stopping.is_set()]
        while len({self.first(sale.event_id, [*others, membership.worker_id]) for sale in self.sales}) <= len(others):
            membership.worker_id = uuid4()
        engine = engine_of(self.settings, self.pool)
        self.open.push_async_callback(engine.door.close)
        self.open.push_async_callback(engine.seat_locks.close)
        run_batch = engine.run_batch

        async def run_and_note(event_id: EventId, asked: Sequence[Asked]) -> Any:
            began_at = time.monotonic()
            outcome = await run_batch(event_id, asked)
            await asyncio.sleep(self.batch_seconds)
            ids = tuple(one.command.command_id for one in asked)
            self.batches.append(Batch(membership.worker_id, event_id, began_at, time.monotonic(), ids))
            return outcome

        engine.run_batch = run_and_note  # type: ignore[method-assign]
        parking = await self.open.enter_async_context(ConfirmedPublisher(self.settings, "worker", name="test parks"))
        stopping = asyncio.Event()
        task = asyncio.create_task(drain_share(engine, parking, membership, stopping))
        member = Member(membership, stopping, task)
        self.members.append(member)
        return member

    def first(self, event_id: EventId, ids: Sequence[UUID]) -> UUID:
        """Who is to drain this event among these."""
        return next(one for one in ids if rank_of(topology.event_queue(event_id), one, ids) == 0)

    async def reserve(self, sale: OnSale, *seats: SeatId) -> AnyReply:
        """One reservation through the broker."""
        command = reserve(sale.event_id, a_user(), seats)
        self.sent[sale.event_id].append(command.command_id)
        return await self._bus.ask(command, user_id=command.user_id, wait_seconds=20)

    async def tell(self, command: AnyCommand) -> None:
        """One command of a courier's."""
        async with ConfirmedPublisher(self.settings, "courier", name="test tells") as publisher:
            await CommandSender(publisher).send(command)

    async def worked_by(self, sale: OnSale) -> UUID:
        """Who answers this event's commands now."""
        await self.reserve(sale, SeatId(uuid4()))
        return next(batch.member for batch in reversed(self.batches) if batch.event_id == sale.event_id)

    async def shared_among(self, *members: Member) -> bool:
        """Each event is drained by whom it falls to."""
        return all(
            [
                await self.worked_by(sale) == self.first(sale.event_id, [member.id for member in members])
                for sale in self.sales
            ]
        )

    def are_working(self, *members: Member) -> bool:
        """Each of them has done something of late."""
        recent = {batch.member for batch in self.batches[-50:]}
        return all(member.id in recent for member in members)

    def overlaps(self) -> list[tuple[Batch, Batch]]:
        """Batches of one event that two members did at the same time."""
        found = []
        for sale in self.sales:
            mine = sorted((b for b in self.batches if b.event_id == sale.event_id), key=lambda batch: batch.began_at)
            found += [
                (one, other)
                for one, other in itertools.pairwise(mine)
                if other.began_at < one.ended_at and one.member != other.member
            ]
        return found

    def done(self, event_id: EventId) -> list[CommandId]:
        """The event's commands, in the order in which they were begun with."""
        mine = sorted((b for b in self.batches if b.event_id == event_id), key=lambda batch: batch.began_at)
        return [command_id for batch in mine for command_id in batch.command_ids]


@pytest.fixture
async def house(
    settings: Settings, pool: Pool, an_event: AnEvent, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    """Events that nobody else drains, and nobody who drains them yet; the lanes are other tests'."""
    quick = settings.model_copy(update={"lease_seconds": LEASE_SECONDS, "publish_timeout_seconds": 10.0})
    sales = [await an_event(seats=SEAT_COUNT) for _ in range(EVENT_COUNT)]
    mine = {sale.event_id for sale in sales}

    async def open_sales(_: Pool, *, limit: int) -> list[EventId]:
        return list(mine)

    async def no_ended_sales(_: Pool, **__: object) -> list[EventId]:
        return []

    monkeypatch.setattr(sale_clock, "find_open_sales", open_sales)
    monkeypatch.setattr(sale_clock, "find_ended_sales", no_ended_sales)
    monkeypatch.setattr(queues, "LANES", frozenset())
    monkeypatch.setattr(queues, "LOOK_AGAIN_SECONDS", 0.1)
    async with BrokerProbe(quick) as broker:
        for event_id in mine:
            await open_event_queue(broker.channel, event_id, quick)
        bus = await CommandBus.open(quick, redis)
        house = House(quick, pool, sales, bus)
        try:
            yield house
        finally:
            await asyncio.gather(*(member.leave() for member in house.members))
            await house.open.aclose()
            await bus.close()
            for event_id in mine:
                await (await broker.fresh_channel()).queue_delete(topology.event_queue(event_id))


async def rush(house: House, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """People come all the time, and each seat is wanted more than once, while something happens to those who drain."""
    house.settings = house.settings.model_copy(update={"engine_batch_max": 4})
    house.batch_seconds = BATCH_SECONDS
    happening = asyncio.create_task(meanwhile())
    buyers: defaultdict[SeatId, list[asyncio.Task[AnyReply]]] = defaultdict(list)
    for number in itertools.count():
        for sale in house.sales:
            seat = sale.seats[number % len(sale.seats)]
            buyers[seat].append(asyncio.create_task(house.reserve(sale, seat)))
        await asyncio.sleep(BATCH_SECONDS / 3)  # faster than one member works, so that there is something in its hands
        if happening.done() and number > len(sale.seats):
            break
    await happening
    for contenders in buyers.values():
        answers = Counter(type(reply) for reply in await asyncio.gather(*contenders))
        assert answers == +Counter({SeatsReserved: 1, Rejected: len(contenders) - 1})


async def everything_was_done_once(house: House) -> None:
    for sale in house.sales:
        assert house.done(sale.event_id) == house.sent[sale.event_id], "in the order in which it was asked"
        await sale.ledger_agrees_with_seats()


async def test_whoever_joins_gets_a_share_and_whoever_leaves_gives_it_back(house: House) -> None:
    one = await house.join()
    await eventually(lambda: house.shared_among(one))
    other = await house.join()
    await eventually(lambda: house.shared_among(one, other))
    third = await house.join()
    await eventually(lambda: house.shared_among(one, other, third))
    await other.leave()
    # Not after a lease has lapsed: whoever leaves says so.
    await eventually(lambda: house.shared_among(one, third), within_seconds=LEASE_SECONDS - 0.5)
    assert {lease.worker_id for lease in await list_leases(house.pool, role=house.role)} == {one.id, third.id}
    await everything_was_done_once(house)
    assert house.overlaps() == []


async def test_nothing_is_lost_doubled_or_overtaken_while_events_move(house: House) -> None:
    async def come_and_go() -> None:
        one = await house.join()
        other = await house.join()
        await eventually(lambda: house.are_working(one, other))
        third = await house.join()
        await eventually(lambda: house.are_working(one, other, third))
        await one.leave()
        await eventually(lambda: house.are_working(other, third))

    await rush(house, come_and_go)
    await everything_was_done_once(house)
    assert house.overlaps() == []


@pytest.mark.slow
async def test_a_member_that_only_cancels_is_overtaken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test before: giving everything back before somebody else begins is what keeps the order."""
    monkeypatch.setattr(QueueDrain, "hand_over", QueueDrain.stop)
    with pytest.raises(AssertionError):
        await test_nothing_is_lost_doubled_or_overtaken_while_events_move(house)
    assert house.overlaps()


async def test_a_member_that_does_not_yield_keeps_everything(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another control: without yielding, whoever joins gets nothing."""
    monkeypatch.setattr(OpenQueues, "_is_to_stay", lambda *_: True)
    one = await house.join()
    await eventually(lambda: house.shared_among(one))
    other = await house.join()
    await eventually(lambda: len(one.membership.members) == 2)
    with pytest.raises(AssertionError):
        await eventually(lambda: house.shared_among(one, other), within_seconds=2 * LEASE_SECONDS)


async def test_without_single_active_consumers_the_shares_alone_decide(house: House) -> None:
    await reopen(house, single_active_consumer=False)
    one, other = await house.join(), await house.join()
    await eventually(lambda: house.shared_among(one, other))
    house.batches.clear()
    house.sent.clear()
    await rush(house, _nothing)
    assert house.overlaps() == []
    await everything_was_done_once(house)


async def test_two_that_both_believe_they_are_first_are_seen(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: then both drain, and only the fence keeps the sale right, which it does."""
    monkeypatch.setattr(sharing, "rank_of", lambda *_: 0)
    await reopen(house, single_active_consumer=False)
    one, other = await house.join(), await house.join()
    await rush(house, lambda: eventually(lambda: house.are_working(one, other)))
    assert house.overlaps()
    for sale in house.sales:
        await sale.ledger_agrees_with_seats()


async def test_a_paused_event_waits_and_its_neighbours_do_not(
    house: House, ingress_with: IngressWith, redis: Redis
) -> None:
    """Buyers are told to come back, nothing happens in the books, and payments settle when it goes on."""
    url = await ingress_with(reserve_deadline_seconds=0.3, publish_timeout_seconds=10.0)
    await house.join()
    paused, other = house.sales[:2]
    buyer = a_user()
    hold = await paused.hold(buyer, paused.seats[-2:])
    checkout = check_out(paused.event_id, buyer, hold.hold_id)
    await paused.run(checkout)
    await pause(house.pool, paused.event_id, reason="a test")
    await eventually(lambda: consumer_count(house, paused, 0))

    cookie = await create_session(redis, user_id=a_user(), role="user", seconds=600)
    async with aiohttp.ClientSession(url, headers={"cookie": f"session={cookie}"}) as http:
        assert await asked_for(http, paused, paused.seats[:2]) in (202, 503)
        await house.tell(settle(paused.event_id, checkout.command_id))
        assert isinstance(await house.reserve(other, *other.seats[:2]), SeatsReserved)
        assert Counter((await paused.statuses()).values()) == {"available": SEAT_COUNT - 2, "held": 2}
        assert await paused.status_of("orders", checkout.command_id) == "pending"

        await resume(house.pool, paused.event_id)
        await eventually(lambda: is_completed(paused, checkout.command_id))
        # The first reservation was over before it was taken up; its seats are there for whoever comes now.
        assert await asked_for(http, paused, paused.seats[:2]) == 201
    deeds = await list_deeds(house.pool, DeedFilter(event_id=paused.event_id), before_id=None, limit=10)
    assert [deed.action for deed in deeds] == ["resume_event_queue", "pause_event_queue"]


async def test_an_event_that_shares_a_lane_cannot_be_paused(house: House) -> None:
    sold = house.sales[0]
    await house.pool.execute(
        "UPDATE events SET on_sale_date = now() - interval '2 h', off_sale_date = now() WHERE id = $1", sold.event_id
    )
    for event_id in (sold.event_id, EventId(uuid4())):
        with pytest.raises(NotPausable):
            await pause(house.pool, event_id, reason="a test")
    assert await resume(house.pool, sold.event_id) is None


async def asked_for(http: aiohttp.ClientSession, sale: OnSale, seats: Sequence[SeatId]) -> int:
    """The status of a reservation at the API."""
    body = {"eventId": str(sale.event_id), "seatIds": [str(seat) for seat in seats]}
    async with http.post("/api/seats/reserve", json=body) as response:
        await response.read()
        return response.status


async def consumer_count(house: House, sale: OnSale, expected: int) -> bool:
    async with BrokerProbe(house.settings) as broker:
        return await broker.consumer_count(topology.event_queue(sale.event_id)) == expected


async def is_completed(sale: OnSale, order_id: UUID) -> bool:
    return await sale.status_of("orders", order_id) == "completed"


async def test_whoever_comes_after_a_crash_waits_for_no_lease_to_lapse(house: House) -> None:
    house.settings = house.settings.model_copy(update={"lease_seconds": 6.0})
    for member in (await house.join(), await house.join()):
        await eventually(lambda member=member: member.membership.members)
        member.task.cancel()  # it says goodbye to nobody
        await asyncio.wait({member.task})
        house.members.remove(member)
    crashed_at = time.monotonic()
    await house.join()
    await asyncio.gather(*(house.worked_by(sale) for sale in house.sales))
    assert time.monotonic() - crashed_at < 4.0


async def test_whoever_stands_by_waits_for_the_first_but_not_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It believes that somebody else is first, who never comes.
    monkeypatch.setattr(sharing, "rank_of", lambda *_: 1)
    began_at = time.monotonic()
    await house.join()
    await house.reserve(house.sales[0], SeatId(uuid4()))
    assert time.monotonic() - began_at > LEASE_SECONDS


async def reopen(house: House, *, single_active_consumer: bool) -> None:
    """The same queues of the other kind."""
    house.settings = house.settings.model_copy(update={"single_active_consumer": single_active_consumer})
    async with BrokerProbe(house.settings) as broker:
        for sale in house.sales:
            await broker.channel.queue_delete(topology.event_queue(sale.event_id))
            await open_event_queue(broker.channel, sale.event_id, house.settings)


async def _nothing() -> None:
    return None
