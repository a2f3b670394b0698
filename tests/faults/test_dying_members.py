"""Are a dead or frozen member's events somebody else's within ten seconds, in the middle of a sale?

Its lease runs as in production (6 s), and so does the heartbeat of its connection, which follows from it (2 s).
"""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from consumers.event_commands.queues import ROLE
from consumers.event_commands.sharing import rank_of
from contracts import topology
from db.consumer_leases import list_leases
from tests.eventually import eventually
from tests.faults.processes import OurProcess
from tests.faults.world import Event, World

MOVED_WITHIN_SECONDS = 10.0
LEASE_SECONDS = 6.0


class Shoppers:
    """One after the other reserves a seat of an event, all the time."""

    def __init__(self, world: World, events: Sequence[Event]) -> None:
        self._world = world
        self.events = events
        # By event, when each answered reservation was begun, and how long it took.
        self.answers: dict[int, list[tuple[float, float]]] = {}
        self._leaving = asyncio.Event()
        self._tasks = [asyncio.create_task(self._shop(event)) for event in events]

    async def _shop(self, event: Event) -> None:
        answers = self.answers[id(event)] = []
        for seat in event.seats:
            if self._leaving.is_set():
                break
            buyer = await self._world.a_buyer(event)
            began_at = time.monotonic()
            answer = await buyer.reserve([seat])
            assert answer.status == 201, answer
            answers.append((began_at, time.monotonic() - began_at))
            await asyncio.sleep(0.05)

    def have_answers_since(self, moment: float) -> bool:
        """At every event, somebody who came after that has been answered."""
        return len(self.answers) == len(self._tasks) and all(
            any(began_at > moment for began_at, _ in answers) for answers in self.answers.values()
        )

    async def leave(self) -> None:
        """No more of them."""
        self._leaving.set()
        await asyncio.gather(*self._tasks)

    def longest_wait_after(self, moment: float) -> float:
        """How long anybody waited for an answer from then on."""
        every = [one for answers in self.answers.values() for one in answers]
        return max(began_at + seconds - max(began_at, moment) for began_at, seconds in every)


async def worker_ids(world: World) -> dict[str, UUID]:
    """Of the members that are alive."""
    leases = await list_leases(world.pool, role=ROLE)
    return {one.name: one.worker_id for one in leases if one.silent_seconds < LEASE_SECONDS}


def name_of(process: OurProcess) -> str:
    return f"{socket.gethostname()}:{process.pid}"


async def are_alive(world: World, *processes: OurProcess) -> bool:
    return {name_of(process) for process in processes} <= (await worker_ids(world)).keys()


async def events_of(world: World, process: OurProcess, count: int) -> list[Event]:
    """As many events as that member drains, and those that came about beside them."""
    ids = await worker_ids(world)
    events, mine = [], 0
    while mine < count:
        event = await world.an_event(seats=500)
        events.append(event)
        mine += rank_of(topology.event_queue(event.sale.event_id), ids[name_of(process)], ids.values()) == 0
    return events


@asynccontextmanager
async def two_members(world: World, **settings: str) -> AsyncIterator[tuple[OurProcess, Shoppers]]:
    """The one that something is about to happen to, and people who shop at events of its and of the other one's."""
    victim, survivor = world.start_consumers(**settings), world.start_consumers(**settings)
    shoppers = None
    try:
        await eventually(lambda: are_alive(world, victim, survivor))
        shoppers = Shoppers(world, await events_of(world, victim, 2))
        await eventually(lambda: shoppers.have_answers_since(0), within_seconds=30)
        yield victim, shoppers
    finally:
        victim.send(signal.SIGKILL)
        if shoppers is not None:
            await shoppers.leave()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_its_events_are_drained_by_others(world: World, fault: signal.Signals) -> None:
    async with two_members(world) as (victim, shoppers):
        victim.send(fault)
        struck_at = time.monotonic()
        await eventually(lambda: shoppers.have_answers_since(struck_at), within_seconds=40)
        if fault == signal.SIGSTOP:
            # It wakes with a batch in its hands that others have done long ago: the fence and the inbox are for that.
            victim.send(signal.SIGCONT)
            woke_at = time.monotonic()
            await eventually(lambda: are_alive(world, victim))
            await eventually(lambda: shoppers.have_answers_since(woke_at + 1))
        await shoppers.leave()
    longest_seconds = shoppers.longest_wait_after(struck_at)
    print(f"{fault.name}: nobody waited longer than {longest_seconds:.1f} s")
    assert longest_seconds < MOVED_WITHIN_SECONDS
    for event in shoppers.events:
        await world.everything_agrees(event)


@pytest.mark.slow
async def test_a_frozen_members_events_stay_with_it_for_as_long_as_its_heartbeat_allows(world: World) -> None:
    """The control: with the heartbeat that everything else has, or a longer one, ten seconds are not enough."""
    await world.fetch("DELETE FROM consumer_leases")  # those of earlier tests would be as good as alive
    async with two_members(world, lease_seconds="60", heartbeat_seconds="15") as (victim, shoppers):
        victim.send(signal.SIGSTOP)
        struck_at = time.monotonic()
        with pytest.raises(AssertionError):
            await eventually(lambda: shoppers.have_answers_since(struck_at), within_seconds=MOVED_WITHIN_SECONDS)
        victim.send(signal.SIGKILL)
