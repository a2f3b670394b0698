"""Which events have a queue of their own, and what else must the broker have?

The only role that declares anything. An event gets its queue when its sale opens by the database's clock and loses it after
the sale: first the binding, so that new commands take the shared lane, then, once it has been worked off, the queue. A queue
that no longer answers is replaced. A lifecycle that is late or dead costs speed, never correctness: commands then go through
the lane, and whether a seat may be sold is judged by the dates.
"""

import asyncio
import logging
import time
from contextlib import suppress

import aiohttp
from aio_pika.abc import AbstractChannel, AbstractRobustConnection
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from prometheus_client import Gauge

from consumers.broker import connect
from consumers.queue_counts import BROKER_TIMEOUT_SECONDS, count_queue, reopened
from consumers.seats_left import SeatsLeft
from consumers.silent_queues import find_silent_queues
from consumers.stuck_queues import QueueSurvey
from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings
from db import sale_clock
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool, transaction
from db.read_cache import ReadCache

log = logging.getLogger(__name__)

# A queue costs the broker some 85 KB and, if quorum, an Erlang atom that is never freed; more events than this share lanes.
EVENT_QUEUES_MAX = 2000
# How far back a lifecycle that starts looks for queues whose sale ended while it was away.
LOOK_BACK_SECONDS = 14 * 24 * 3600.0
# A queue goes silent when its node is killed, and then we look at once, because our connection breaks as well. This is for
# the node of a cluster that is not ours: looking costs a question per queue.
LOOK_AT_ALL_SECONDS = 30.0
# Each is asked, and deleted, on a channel of its own; the others' turn comes in the next round.
SUSPECTS_AT_ONCE_MAX = 100

# The next round asserts what is missing; sales go on through the lanes meanwhile. The client says with a plain RuntimeError
# that a connection or a channel is closed.
_TRIED_AGAIN: tuple[type[BaseException], ...] = (*TRANSIENT_ERRORS, *CONNECTION_EXCEPTIONS)

EVENT_QUEUES = Gauge(
    "boxoffice_event_queues", "Queues of events on sale, and of ended sales still being worked off", ["state"]
)


class Lifecycle:
    """What the broker has of events, as far as this process knows: nothing at first, so it asserts everything again."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        connection: AbstractRobustConnection,
        read_cache: ReadCache | None = None,
    ) -> None:
        self._settings = settings
        self._read_cache = read_cache
        self._pool = pool
        self._connection = connection
        self._open: set[EventId] = set()
        self._asserted: set[EventId] = set()
        # Unbound and not gone yet, with the moment since when it has been seen empty (None: it was not).
        self._closing: dict[EventId, float | None] = {}
        self._looked_back = False
        # Open, and not yet seen to be consumed since they were asserted or since all were looked at.
        self._unconsumed: set[EventId] = set()
        self._look_at_all_at = time.monotonic() + LOOK_AT_ALL_SECONDS
        self._survey = QueueSurvey(settings, pool, connection)
        self._seats_left = SeatsLeft(pool)

    async def run_once(self) -> None:
        """Bring statuses and queues up to date; raises what the database or the broker raises."""
        await self._update_statuses()
        wanted = await self._find_wanted()
        if not self._looked_back:
            ended = await sale_clock.find_ended_sales(
                self._pool, within_seconds=LOOK_BACK_SECONDS, limit=EVENT_QUEUES_MAX
            )
            self._closing |= {event_id: None for event_id in ended if event_id not in wanted}
            self._looked_back = True
        self._closing |= dict.fromkeys(self._open - wanted)
        changed = await self._open_queues(wanted - self._asserted)
        changed |= await self._close_queues(wanted)
        if changed:
            await sale_clock.announce_event_queues(self._pool)
        EVENT_QUEUES.labels("open").set(len(self._open))
        EVENT_QUEUES.labels("closing").set(len(self._closing))
        await self._remove_silent_queues()
        await self._survey.run_once(on_sale=self._open, ended=self._closing.keys())
        await self._seats_left.look(self._open)

    def assert_again(self, *_: object) -> None:
        """The broker was away: whatever it has forgotten is declared in the next round."""
        self._asserted.clear()

    async def _update_statuses(self) -> None:
        async with transaction(self._pool) as tx:
            changes = await sale_clock.update_statuses(tx)
        for status in ("on_sale", "sold_out", "completed"):
            for event_id in getattr(changes, status):
                log.info("event_status_changed", extra={"event_id": event_id, "status": status})
        if self._read_cache is not None and any((changes.on_sale, changes.sold_out, changes.completed)):
            # Nobody should read "upcoming" for a minute after the sale has opened.
            await self._read_cache.forget_all()

    async def _find_wanted(self) -> set[EventId]:
        found = await sale_clock.find_open_sales(self._pool, limit=EVENT_QUEUES_MAX + 1)
        if len(found) > EVENT_QUEUES_MAX:
            log.warning("too_many_event_queues", extra={"limit": EVENT_QUEUES_MAX})
        # An event that has its queue keeps it: the cap must not make two events take turns.
        kept = [event_id for event_id in found if event_id in self._open]
        fresh = [event_id for event_id in found if event_id not in self._open]
        return {*kept, *fresh[: EVENT_QUEUES_MAX - len(kept)]}

    async def _open_queues(self, event_ids: set[EventId]) -> bool:
        if not event_ids:
            return False
        async with self._connection.channel() as channel:
            for event_id in event_ids:
                await open_event_queue(channel, event_id, self._settings)
                self._open.add(event_id)
                self._asserted.add(event_id)
                self._unconsumed.add(event_id)
                self._closing.pop(event_id, None)
                log.info("event_queue_opened", extra={"event_id": event_id})
        return True

    async def _close_queues(self, wanted: set[EventId]) -> bool:
        changed = False
        for event_id in [event_id for event_id in self._closing if event_id not in wanted]:
            changed |= event_id in self._open
            self._open.discard(event_id)
            self._asserted.discard(event_id)
            async with self._connection.channel() as channel:
                gone = await close_event_queue(channel, event_id, consumed_until_gone=self._is_quiet(event_id))
                if gone:
                    del self._closing[event_id]
                    changed = True
                    log.info("event_queue_closed", extra={"event_id": event_id})
                    continue
                ready_count, consumer_count = await count_queue(channel, topology.event_queue(event_id))
            if ready_count and not consumer_count:
                # Not ours to move: the engine trusts a command for the user who sent it, and we would be another.
                log.warning("event_queue_left_unconsumed", extra={"event_id": event_id, "message_count": ready_count})
            since = self._closing[event_id]
            self._closing[event_id] = None if ready_count else since or time.monotonic()
        return changed

    async def _remove_silent_queues(self) -> None:
        """Take queues that do not answer out of the way; the next round opens them anew, as if the broker had lost them."""
        if time.monotonic() >= self._look_at_all_at:
            self._unconsumed |= self._asserted
            self._look_at_all_at = time.monotonic() + LOOK_AT_ALL_SECONDS
        self._unconsumed &= self._asserted
        suspects = {topology.event_queue(event_id): event_id for event_id in await self._find_suspects()}
        if suspects:
            silent = await find_silent_queues(self._settings, list(suspects))
            await asyncio.gather(*(self._remove_silent_queue(suspects[name]) for name in silent))

    async def _find_suspects(self) -> list[EventId]:
        """Queues that say they have neither messages nor consumers, while the same processes consume the event's lane: they
        have just been opened, or do not answer, for which the broker shows the same. Without consumers nothing is suspect."""
        if not self._unconsumed:
            return []
        suspects = []
        async with self._connection.channel() as channel:
            consumed_lanes = {
                lane
                for lane in {topology.lane_of(event_id) for event_id in self._unconsumed}
                if (await count_queue(channel, topology.lane_queue(lane)))[1]
            }
            for event_id in [one for one in self._unconsumed if topology.lane_of(one) in consumed_lanes]:
                underlay = await channel.get_underlay_channel()
                try:
                    ready_count, consumer_count = await count_queue(channel, topology.event_queue(event_id))
                except ChannelNotFoundEntity:
                    self._asserted.discard(event_id)  # somebody has deleted it
                    await reopened(channel, underlay)
                    continue
                if consumer_count:
                    self._unconsumed.discard(event_id)
                elif not ready_count:
                    suspects.append(event_id)
        return suspects[:SUSPECTS_AT_ONCE_MAX]

    async def _remove_silent_queue(self, event_id: EventId) -> None:
        log.error("event_queue_not_answering", extra={"event_id": event_id, "what_happens": "it is replaced"})
        async with self._connection.channel() as channel:
            await remove_silent_queue(channel, event_id)
        self._asserted.discard(event_id)
        log.info("event_queue_removed", extra={"event_id": event_id})

    def _is_quiet(self, event_id: EventId) -> bool:
        # AMQP shows no unacknowledged messages. A batch in somebody's hands is committed or back in the queue well within
        # the time a process has to drain, so a queue that has been empty for that long has nothing left.
        since = self._closing[event_id]
        return since is not None and time.monotonic() - since >= self._settings.drain_seconds


async def open_event_queue(channel: AbstractChannel, event_id: EventId, settings: Settings) -> None:
    """Make sure the event has its queue and commands reach it; does nothing when it is so already."""
    name = topology.event_queue(event_id)
    arguments = topology.command_queue_arguments(
        queue_type=settings.event_queue_type, single_active_consumer=settings.single_active_consumer
    )
    underlay = await channel.get_underlay_channel()
    # The plain protocol calls: aio-pika's robust objects would declare a queue again that has been deleted since.
    try:
        await underlay.queue_declare(name, durable=True, arguments=arguments, timeout=BROKER_TIMEOUT_SECONDS)
    except ChannelPreconditionFailed:
        # It was declared under other settings; its kind cannot be changed, and it sells as well as any.
        log.warning("event_queue_of_another_kind", extra={"event_id": event_id})
        underlay = await reopened(channel, underlay)
    await underlay.queue_bind(
        name, topology.COMMANDS, topology.command_routing_key(event_id), timeout=BROKER_TIMEOUT_SECONDS
    )


async def close_event_queue(channel: AbstractChannel, event_id: EventId, *, consumed_until_gone: bool = False) -> bool:
    """Send new commands to the shared lane and delete the queue once it is empty; True when it is gone.

    False means that something is left in it or, unless `consumed_until_gone`, that somebody still consumes it (he is the one
    who empties it): call again. Who consumes it is told by the broker that it has gone.
    """
    name = topology.event_queue(event_id)
    underlay = await channel.get_underlay_channel()
    try:
        await count_queue(channel, topology.event_queue(event_id))
    except ChannelNotFoundEntity:
        await reopened(channel, underlay)
        return True
    await underlay.queue_unbind(
        name, topology.COMMANDS, topology.command_routing_key(event_id), timeout=BROKER_TIMEOUT_SECONDS
    )
    # Counted again: what was on its way while the binding went has arrived by now.
    ready_count, consumer_count = await count_queue(channel, topology.event_queue(event_id))
    if ready_count or (consumer_count and not consumed_until_gone):
        return False
    # Not if_unused and if_empty: quorum queues refuse them with an error that closes the connection.
    await underlay.queue_delete(name, timeout=BROKER_TIMEOUT_SECONDS)
    return True


async def remove_silent_queue(channel: AbstractChannel, event_id: EventId) -> None:
    """Send commands to the shared lane at once, and delete the queue with whatever is in it.

    Nothing that matters is lost with it: a buyer whose command is gone is told that its outcome is not known and asks again;
    payments and expired holds come again from the reconciler and the sweep. The deletion takes five seconds, in which the
    broker calls for a leader, and frees the publishers that stand still behind this queue, with all that they have to send.
    """
    name = topology.event_queue(event_id)
    underlay = await channel.get_underlay_channel()
    await underlay.queue_unbind(
        name, topology.COMMANDS, topology.command_routing_key(event_id), timeout=BROKER_TIMEOUT_SECONDS
    )
    await underlay.queue_delete(name, timeout=BROKER_TIMEOUT_SECONDS)


# ---- the fixed part


async def declare_topology(settings: Settings) -> None:
    """Declare exchanges, queues and bindings of contracts/topology.py; what is there already stays as it is."""
    connection = await connect(settings, "lifecycle", name="lifecycle declares")
    async with connection, connection.channel() as channel:
        await declare_everything(channel, settings)
    await _warn_of_missing_limits(settings)


async def declare_everything(channel: AbstractChannel, settings: Settings) -> None:
    """The same on a channel of the caller's; raises ChannelPreconditionFailed when something is there and differs."""
    underlay = await channel.get_underlay_channel()
    for exchange in topology.EXCHANGES:
        await underlay.exchange_declare(
            exchange.name,
            exchange_type=exchange.type,
            durable=True,
            arguments=exchange.arguments,
            timeout=BROKER_TIMEOUT_SECONDS,
        )
    wait_queue = topology.wait_queue(settings.hold_seconds)
    arming = topology.Binding(topology.HOLDS, wait_queue.name, topology.hold_arm_key(settings.hold_seconds))
    for queue in (*topology.QUEUES, wait_queue):
        await underlay.queue_declare(
            queue.name, durable=True, arguments=queue.arguments, timeout=BROKER_TIMEOUT_SECONDS
        )
    for binding in (*topology.BINDINGS, arming):
        await underlay.queue_bind(binding.queue, binding.exchange, binding.routing_key, timeout=BROKER_TIMEOUT_SECONDS)
    log.info("topology_declared", extra={"hold_seconds": settings.hold_seconds})


async def queues_without_policy(settings: Settings) -> list[str]:
    """The queues of ours that no policy limits, as the management API tells; raises aiohttp's errors or TimeoutError.

    Policies cannot be set or seen over AMQP; a fresh broker loads them from rabbitmq/definitions.json.
    """
    account = {"Authorization": aiohttp.encode_basic_auth("operator", settings.rabbitmq_operator_password)}
    url = f"{settings.rabbitmq_management_url}/api/queues/{topology.VHOST}?columns=name,policy,exclusive"
    timeout = aiohttp.ClientTimeout(total=BROKER_TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(headers=account, timeout=timeout, raise_for_status=True) as session,
        session.get(url) as response,
    ):
        queues = await response.json()
    # Those of one connection come and go faster than the management API looks.
    ours = (queue for queue in queues if queue["name"].startswith("tk.") and not queue.get("exclusive"))
    return [queue["name"] for queue in ours if not queue.get("policy")]


async def _warn_of_missing_limits(settings: Settings) -> None:
    try:
        unlimited = await queues_without_policy(settings)
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        log.warning("policies_not_checked", extra={"reason": str(problem)})
        return
    if unlimited:
        log.error(
            "queues_without_limits",
            extra={"queues": unlimited, "what_to_do": "load rabbitmq/definitions.json: rabbitmqctl import_definitions"},
        )


# ---- the role


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Declare what is fixed, then open and close the queues of events by the clock until told to stop."""
    await declare_topology(settings)
    connection = await connect(settings, "lifecycle", name="lifecycle")
    pool = await open_pool(settings, application_name="boxoffice lifecycle", size=2)
    read_cache = ReadCache(settings)
    try:
        lifecycle = Lifecycle(settings, pool, connection, read_cache)
        connection.reconnect_callbacks.add(lifecycle.assert_again)
        while not stopping.is_set():
            try:
                await lifecycle.run_once()
            except _TRIED_AGAIN as problem:
                log.warning("lifecycle_round_failed", extra={"reason": repr(problem)})
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), settings.lifecycle_poll_seconds)
    finally:
        await connection.close()
        await read_cache.close()
        await pool.close()
