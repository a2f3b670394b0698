"""Which queues does this process drain?

Several processes share the queues (`sharing.py` says who drains what, `drain.py` how). Of each queue one is first and drains
it, and the next one subscribes after it: a single active consumer hands over to it at once when the first one dies. Whoever is
not first any longer finishes its batch and gives everything else back, so that the new first one goes on where it stopped.
The connection is a plain one on purpose: a robust client would declare a deleted event queue again.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from prometheus_client import Gauge

from consumers.broker import CONNECT_TIMEOUT_SECONDS, ConfirmedPublisher, url_for
from consumers.event_commands.door import Door
from consumers.event_commands.drain import BROKER_AWAY, START_TIMEOUT_SECONDS, NobodyThere, QueueDrain
from consumers.event_commands.engine import Engine
from consumers.event_commands.replies import Replies
from consumers.event_commands.sharing import ACTIVE, STANDBY, Membership
from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings
from db import paused_event_queues, sale_clock
from db.postgres import BY_INDEX, TRANSIENT_ERRORS, Pool, open_pool
from db.seat_locks import SeatLocks
from db.telemetry.metrics import keep_events
from db.waiting_room import WaitingRooms

log = logging.getLogger(__name__)

# How often the list of events on sale is read when nobody has told us that it changed.
LOOK_AGAIN_SECONDS = 1.0
# After a restart there may be two thousand to begin with; more at once would only make each of them slower.
STARTED_AT_ONCE_MAX = 64
# What lifecycle opens at most; each queue costs a channel here.
EVENT_QUEUES_MAX = 2000
# Lifecycle removes the queue of an ended sale once it is empty; after a day nothing can be left in it.
ENDED_SECONDS = 24 * 3600

ROLE = "commands"
LANES = frozenset(topology.lane_queue(lane) for lane in range(topology.LANE_COUNT))
# The broker gives a connection up after two to three beats without a sign of life: with a third of a lease, a process that
# hangs has lost its queues by the time its lease has lapsed.
BEATS_PER_LEASE = 3

QUEUE_SHARE = Gauge("boxoffice_queue_share", "Queues of commands that this process drains, or stands by for", ["state"])
PAUSED_QUEUES = Gauge("boxoffice_paused_queues", "Queues of events that nobody drains because an operator said so")


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """The `commands` role: drain every event's queue and every lane until told to stop."""
    pool = await open_pool(settings, application_name="boxoffice commands", planner=BY_INDEX)
    # Of its own, because batches that wait for locks may hold all the others, and whoever is silent for so long is gone.
    looking = await open_pool(settings, application_name="boxoffice commands looks", size=1)
    seat_locks, door = SeatLocks(settings), Door(settings, WaitingRooms(settings))
    try:
        async with ConfirmedPublisher(settings, "worker", name="commands parks") as parking:
            engine = Engine(settings, pool, seat_locks, door)
            await drain_share(engine, parking, Membership(settings, looking, role=ROLE), stopping)
    finally:
        await door.close()
        await seat_locks.close()
        await looking.close()
        await pool.close()


async def drain_share(
    engine: Engine, parking: ConfirmedPublisher, membership: Membership, stopping: asyncio.Event
) -> None:
    """Drain this member's share of all queues until told to stop, over as many connections as it takes."""
    while not stopping.is_set():
        try:
            await _drain_while_connected(engine, parking, membership, stopping)
        except BROKER_AWAY as problem:
            log.warning("broker_away", extra={"error": repr(problem)})
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), timeout=LOOK_AGAIN_SECONDS)


async def _drain_while_connected(
    engine: Engine, parking: ConfirmedPublisher, membership: Membership, stopping: asyncio.Event
) -> None:
    settings = engine.settings
    connection = await aio_pika.connect(_takers_url(settings, membership), timeout=CONNECT_TIMEOUT_SECONDS)
    lost = asyncio.Event()
    connection.close_callbacks.add(lambda *_: lost.set())
    async with connection, Replies(settings) as replies:
        queues = OpenQueues(connection, engine, replies, parking, membership)
        try:
            while not stopping.is_set() and not lost.is_set():
                await _look_around(queues, membership)
                await _first_of(stopping, lost, timeout_seconds=LOOK_AGAIN_SECONDS)
        finally:
            if stopping.is_set():
                with suppress(*TRANSIENT_ERRORS):
                    await membership.end()  # first, so that the others take over while we finish
            await queues.stop(settings.drain_seconds if not lost.is_set() else 0.0)


def _takers_url(settings: Settings, membership: Membership) -> str:
    beat_seconds = min(settings.heartbeat_seconds, max(1, int(settings.lease_seconds / BEATS_PER_LEASE)))
    patient = settings.model_copy(update={"heartbeat_seconds": beat_seconds})
    return url_for(patient, "worker", name=f"commands takes {membership.name}")


async def _look_around(queues: "OpenQueues", membership: Membership) -> None:
    """Who is there, what is on sale, what is paused. While PostgreSQL is away all of it stays as it was last seen: what is
    drained stays so, and waits for it."""
    try:
        await membership.renew()
        on_sale = await sale_clock.find_open_sales(membership.pool, limit=EVENT_QUEUES_MAX)
        # Of sales that have ended, payments may still have something to say.
        ended = await _find_ended(membership.pool) if queues.is_empty else []
        paused = await paused_event_queues.find_paused(membership.pool)
    except TRANSIENT_ERRORS as problem:
        log.warning("sales_not_read", extra={"error": repr(problem)})
    else:
        keep_events(on_sale)
        queues.want({topology.event_queue(event_id) for event_id in (*on_sale, *ended)} | LANES)
        queues.pause({topology.event_queue(event_id) for event_id in paused})
    queues.arrange()


async def _find_ended(pool: Pool) -> list[EventId]:
    return await sale_clock.find_ended_sales(pool, within_seconds=ENDED_SECONDS, limit=EVENT_QUEUES_MAX)


class OpenQueues:
    """The queues being drained over one connection: those that are ours, and those that we stand by for."""

    def __init__(
        self,
        connection: AbstractConnection,
        engine: Engine,
        replies: Replies,
        parking: ConfirmedPublisher,
        membership: Membership,
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._replies = replies
        self._parking = parking
        self._membership = membership
        self._wanted: set[str] = set()
        # Wanted now or earlier, and not known to be gone: when a sale ends, what is still in its queue has to be carried out.
        self._known: set[str] = set()
        self._paused: set[str] = set()
        self._draining: dict[str, QueueDrain] = {}
        self._beginning: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        # Those that another subscription of ours, behind everybody else's, has taken the place of, while they finish.
        self._stepping_back: set[QueueDrain] = set()
        self._at_once = asyncio.Semaphore(STARTED_AT_ONCE_MAX)
        self._not_answering: set[str] = set()
        self._nobody_since: dict[str, float] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being drained yet."""
        return not self._draining

    def want(self, names: set[str]) -> None:
        """These have to be drained by somebody, besides those that were wanted before and are not gone."""
        self._wanted = names
        self._known |= names

    def pause(self, names: set[str]) -> None:
        """These are to be drained by nobody, and all others may be."""
        for name in sorted(names - self._paused):
            log.warning("event_queue_paused", extra={"queue": name})
        for name in sorted(self._paused - names):
            log.warning("event_queue_resumed", extra={"queue": name})
        self._paused = names

    def arrange(self) -> None:
        """Begin with what is ours and new, or broke, and leave what is not ours any longer. Returns before any of that has
        happened, because a queue that does not answer must hold up no other."""
        ranks = self._membership.ranks_of(self._known)
        for name, drain in self._draining.items():
            drain.note_rank(ranks[name])
            if name not in self._ending and not self._is_to_stay(drain, ranks[name]):
                self._ending[name] = asyncio.create_task(self._end(drain, ranks[name]), name=f"end {name}")
        ours = {name for name, rank in ranks.items() if self._is_ours(rank) and name not in self._paused}
        for name in sorted(ours - self._draining.keys() - self._beginning.keys()):
            self._beginning[name] = asyncio.create_task(self._begin(name, ranks[name]), name=f"begin {name}")
        self._show(ranks)

    def _is_ours(self, rank: int) -> bool:
        # Without single active consumers whoever stood by would drain the queue too.
        return rank == ACTIVE or (rank == STANDBY and self._engine.settings.single_active_consumer)

    def _is_to_stay(self, drain: "QueueDrain", rank: int) -> bool:
        if drain.is_broken or drain.name in self._paused:
            return False
        if rank == ACTIVE or not drain.may_be_active or not self._engine.settings.single_active_consumer:
            return self._is_ours(rank)
        # We are draining it although it is another's turn: for as long as that other one is not well, or not there yet.
        return not (
            drain.is_out_of_turn_for(self._membership.patience_seconds) and self._membership.is_first_well(drain.name)
        )

    def _show(self, ranks: Mapping[str, int]) -> None:
        active_count = sum(ranks[name] == ACTIVE for name in self._draining)
        QUEUE_SHARE.labels("active").set(active_count)
        QUEUE_SHARE.labels("standby").set(len(self._draining) - active_count)
        PAUSED_QUEUES.set(len(self._paused))

    def _new_drain(self, name: str) -> "QueueDrain":
        return QueueDrain(name, self._engine, self._replies, self._parking, taker=self._membership.name)

    async def _begin(self, name: str, rank: int) -> None:
        drain = self._new_drain(name)
        try:
            async with self._at_once, asyncio.timeout(START_TIMEOUT_SECONDS):
                await drain.start(self._connection, after_others=rank != ACTIVE and self._is_first_coming(name))
        except NobodyThere:
            self._nobody_since.setdefault(name, time.monotonic())
            return  # whoever is first is about to; we look again
        except aio_pika.exceptions.ChannelNotFoundEntity:
            if name not in self._wanted:
                self._known.discard(name)
            return  # or lifecycle has not declared it yet; we look again
        except TimeoutError:
            # We look again, too, and say it once. Lifecycle takes an event's queue that stays like this out of the way.
            if name not in self._not_answering:
                log.warning("queue_not_answering", extra={"queue": name, "within_seconds": START_TIMEOUT_SECONDS})
            self._not_answering.add(name)
            return
        except BROKER_AWAY as problem:
            if not self._connection.is_closed:  # else all of them end like this, and all begin again on the next one
                log.warning("queue_not_drained", extra={"queue": name, "error": repr(problem)})
            return
        finally:
            del self._beginning[name]
        if name in self._not_answering:
            self._not_answering.remove(name)
            log.info("queue_answers_again", extra={"queue": name})
        self._nobody_since.pop(name, None)
        self._draining[name] = drain

    def _is_first_coming(self, name: str) -> bool:
        """Whoever should be first is well, and has not left the queue alone for as long as a lease lasts."""
        since = self._nobody_since.get(name, time.monotonic())
        return self._membership.is_first_well(name) and time.monotonic() - since <= self._engine.settings.lease_seconds

    async def _end(self, drain: "QueueDrain", rank: int) -> None:
        try:
            if drain.is_broken:
                await drain.stop()
            elif self._is_ours(rank) and drain.name not in self._paused:
                await self._step_back(drain)
                return
            else:
                await drain.hand_over()
            del self._draining[drain.name]
        except BROKER_AWAY as problem:
            log.warning("queue_not_left", extra={"queue": drain.name, "error": repr(problem)})
        finally:
            del self._ending[drain.name]

    async def _step_back(self, drain: "QueueDrain") -> None:
        """Subscribe once more, behind everybody, and then leave the old place: if nobody else is there after all, it is us
        again, and at no moment it is nobody."""
        successor = self._new_drain(drain.name)
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            await successor.start(self._connection)
        self._draining[drain.name] = successor
        self._stepping_back.add(drain)
        await drain.hand_over()
        self._stepping_back.discard(drain)

    async def stop(self, within_seconds: float) -> None:
        """Take nothing more, finish what was taken, or leave it to the others if there are any."""
        changing = [*self._beginning.values(), *self._ending.values()]
        for task in changing:
            task.cancel()
        drains = [*self._draining.values(), *self._stepping_back]
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await asyncio.gather(*changing, return_exceptions=True)
                await asyncio.gather(
                    *(drain.stop() if self._membership.is_alone else drain.hand_over() for drain in drains)
                )
        for drain in drains:
            drain.abandon()


async def _first_of(*events: asyncio.Event, timeout_seconds: float) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
