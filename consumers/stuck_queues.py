"""Which queues have messages and do not move?

A queue with messages is stuck when nobody consumes it for `stuck_queue_seconds`, or when those who do acknowledge nothing for
longer than their work can take.
AMQP tells how many messages are ready and how many consume; how many are acknowledged only the management API knows. Without
it a consumed queue counts as stuck when its ready messages do not become fewer. A queue that an operator has paused is not
stuck.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from prometheus_client import Gauge

from consumers.queue_counts import count_queue, reopened
from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings
from db.paused_event_queues import find_paused
from db.postgres import Pool
from db.telemetry.metrics import of_events

log = logging.getLogger(__name__)

# The broker brings its statistics up to date every five seconds: two of them must agree that nothing was acknowledged. A
# batch of commands is done in less.
CONSUMED_PATIENCE_SECONDS = 10.0
# One message of a stage may be a hundred mails, and is acknowledged after the last.
STAGE_PATIENCE_SECONDS = 120.0
MANAGEMENT_TIMEOUT_SECONDS = 2.0
# Often enough to see a queue move in between, seldom enough to cost nothing.
LOOKS_PER_PATIENCE = 4
# A question takes the broker a third of a millisecond. Of more events than this each has its turn.
EVENT_QUEUES_AT_ONCE_MAX = 200

STUCK_QUEUES = Gauge("boxoffice_stuck_queues", "1 per queue that has messages and does not move", ["queue"])
PARKED_MESSAGES = Gauge("boxoffice_parked_messages", "Messages in the parking lot")
EVENT_QUEUE_MESSAGES = of_events(
    Gauge("boxoffice_event_queue_messages", "Messages ready in the queue of an event on sale", ["event_id"])
)

STAGE_QUEUES = (
    topology.PAYMENTS_QUEUE,
    topology.NOTIFICATIONS_QUEUE,
    topology.WEBHOOKS_QUEUE,
    topology.CLEANUP_QUEUE,
)
# Every queue that must always have somebody who takes from it, beside those of events.
WORK_QUEUES = (*(topology.lane_queue(lane) for lane in range(topology.LANE_COUNT)), *STAGE_QUEUES)


class QueueSeen(NamedTuple):
    """A queue at one moment. `unacknowledged`, and `acknowledged` since the queue was made: None when nobody told us."""

    name: str
    ready: int
    consumers: int
    unacknowledged: int | None = None
    acknowledged: int | None = None

    @property
    def messages(self) -> int:
        """All that is known to be in it."""
        return self.ready + (self.unacknowledged or 0)


class StuckQueue(NamedTuple):
    """A queue that has not moved for so many seconds."""

    queue: str
    event_id: str | None
    messages: int
    consumers: int
    seconds: float


@dataclass
class _Watched:
    """A queue as it was when we last looked, and since when it has not moved."""

    seen: QueueSeen
    still_since: float
    is_named: bool = False


class QueueWatch:
    """What is known of every queue from look to look."""

    def __init__(self, *, patience_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def look(
        self, seen: Iterable[QueueSeen], *, events: Mapping[str, EventId], paused: Collection[str] = ()
    ) -> list[StuckQueue]:
        """The stuck ones among these, which are all there are; tells of each once, and once when it moves again. `events`:
        whose queue it is, by its name."""
        now = self._clock()
        stuck = []
        before, self._watched = self._watched, {}
        for queue in seen:
            watched = self._watched[queue.name] = before.pop(queue.name, _Watched(queue, now))
            event_id = events.get(queue.name)
            if queue.name in paused or _has_moved(watched.seen, queue):
                self._moves(watched, event_id, now)
            watched.seen = queue
            seconds = now - watched.still_since
            if seconds >= self._patience_with(queue):
                found = StuckQueue(
                    queue.name, str(event_id) if event_id else None, queue.messages, queue.consumers, seconds
                )
                _tell(watched, found)
                stuck.append(found)
        for watched in before.values():
            self._moves(watched, events.get(watched.seen.name), now)  # it is no longer there
        return stuck

    def _patience_with(self, queue: QueueSeen) -> float:
        if queue.consumers == 0:
            return self._patience_seconds
        consumed_patience_seconds = STAGE_PATIENCE_SECONDS if queue.name in STAGE_QUEUES else CONSUMED_PATIENCE_SECONDS
        return max(self._patience_seconds, consumed_patience_seconds)

    def _moves(self, watched: _Watched, event_id: EventId | None, now: float) -> None:
        if watched.is_named:
            seconds = round(now - watched.still_since, 1)
            log.info("queue_moves_again", extra={"queue": watched.seen.name, "event_id": event_id, "seconds": seconds})
        watched.is_named = False
        watched.still_since = now


def _has_moved(before: QueueSeen, now: QueueSeen) -> bool:
    if now.messages == 0 or now.ready < before.ready:
        return True
    if before.acknowledged is None or now.acknowledged is None:
        return now.ready == 0  # what is in somebody's hands is his matter while nobody tells us of acknowledgements
    return now.acknowledged > before.acknowledged


def _tell(watched: _Watched, stuck: StuckQueue) -> None:
    if watched.is_named:
        return
    watched.is_named = True
    log.error(
        "queue_stuck",
        extra={
            "queue": stuck.queue,
            "event_id": stuck.event_id,
            "messages": stuck.messages,
            "consumers": stuck.consumers,
            "seconds": round(stuck.seconds, 1),
        },
    )


class QueueSurvey:
    """Counts every queue from time to time, on its own channel, and tells which are stuck."""

    def __init__(self, settings: Settings, pool: Pool, connection: AbstractConnection) -> None:
        self._settings = settings
        self._pool = pool
        self._connection = connection
        self._watch = QueueWatch(patience_seconds=settings.stuck_queue_seconds)
        self._last_seen: dict[str, QueueSeen] = {}
        self._turns: deque[str] = deque()
        self._shown: set[str] = set()
        self._look_at = 0.0

    async def run_once(self, *, on_sale: Collection[EventId], ended: Collection[EventId]) -> None:
        """Look, if it is time. `on_sale`, `ended`: the events that have a queue, or may still have one. Raises what the
        database or the broker raises."""
        if time.monotonic() < self._look_at:
            return
        events = {topology.event_queue(event_id): event_id for event_id in (*on_sale, *ended)}
        paused = {topology.event_queue(event_id) for event_id in await find_paused(self._pool)} & events.keys()
        await self._count([*WORK_QUEUES, *self._in_turn(events)])
        seen = [self._last_seen[name] for name in (*WORK_QUEUES, *events) if name in self._last_seen]
        show_not_moving(self._watch.look(seen, events=events, paused=paused), paused)
        self._show_messages(on_sale)
        self._look_at = time.monotonic() + self._settings.stuck_queue_seconds / LOOKS_PER_PATIENCE

    def _in_turn(self, events: Mapping[str, EventId]) -> list[str]:
        """As many as may be counted at once, those that have waited longest first."""
        kept = [name for name in self._turns if name in events]
        waiting = deque([*kept, *(events.keys() - kept)])
        chosen = [waiting.popleft() for _ in range(min(len(waiting), EVENT_QUEUES_AT_ONCE_MAX))]
        self._turns = deque([*waiting, *chosen])
        return chosen

    async def _count(self, names: Iterable[str]) -> None:
        acknowledgements = await read_acknowledgements(self._settings)
        async with self._connection.channel() as channel:
            for name in names:
                underlay = await channel.get_underlay_channel()
                try:
                    ready, consumers = await count_queue(channel, name)
                except ChannelNotFoundEntity:
                    self._last_seen.pop(name, None)
                    await reopened(channel, underlay)
                    continue
                unacknowledged, acknowledged = acknowledgements.get(name, (None, None))
                self._last_seen[name] = QueueSeen(name, ready, consumers, unacknowledged, acknowledged)
            try:
                PARKED_MESSAGES.set((await count_queue(channel, topology.PARKING_QUEUE))[0])
            except ChannelNotFoundEntity:
                await reopened(channel, await channel.get_underlay_channel())

    def _show_messages(self, on_sale: Collection[EventId]) -> None:
        ready = {
            str(event_id): self._last_seen[topology.event_queue(event_id)].ready
            for event_id in on_sale
            if topology.event_queue(event_id) in self._last_seen
        }
        # Of events on sale only: that is what we are given, and `event_label` may know fewer in this process.
        for event_id, messages in ready.items():
            EVENT_QUEUE_MESSAGES.labels(event_id).set(messages)
        for event_id in self._shown - ready.keys():
            with suppress(KeyError):  # whoever drops the series of ended sales was quicker
                EVENT_QUEUE_MESSAGES.remove(event_id)
        self._shown = set(ready)


# ---- what this process shows of it

_not_moving: tuple[tuple[StuckQueue, ...], tuple[str, ...]] = ((), ())


def queues_not_moving() -> tuple[tuple[StuckQueue, ...], tuple[str, ...]]:
    """The stuck queues and the names of the paused ones, as this process last saw them; empty unless it looks at them."""
    return _not_moving


def show_not_moving(stuck: Iterable[StuckQueue], paused: Iterable[str]) -> None:
    """These are stuck and those paused, and no others."""
    global _not_moving
    before, _not_moving = _not_moving, (tuple(stuck), tuple(sorted(paused)))
    names = {one.queue for one in _not_moving[0]}
    for name in names:
        STUCK_QUEUES.labels(name).set(1)
    for name in {one.queue for one in before[0]} - names:
        STUCK_QUEUES.remove(name)


async def read_acknowledgements(settings: Settings) -> dict[str, tuple[int, int]]:
    """By queue: unacknowledged messages, and how many were ever acknowledged, as the management API tells; empty when it
    does not answer, because whoever sells does not need it."""
    account = {"Authorization": aiohttp.encode_basic_auth("operator", settings.rabbitmq_operator_password)}
    columns = "name,messages_unacknowledged,message_stats.ack"
    url = f"{settings.rabbitmq_management_url}/api/queues/{topology.VHOST}?columns={columns}"
    timeout = aiohttp.ClientTimeout(total=MANAGEMENT_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(headers=account, timeout=timeout, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            queues = await response.json()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as problem:
        log.debug("acknowledgements_not_read", extra={"reason": repr(problem)})
        return {}
    return {queue["name"]: (queue.get("messages_unacknowledged", 0), _ack_count(queue)) for queue in queues}


def _ack_count(queue: Mapping[str, Any]) -> int:
    # A queue that nothing has happened to yet has an empty list here, or the word "undefined".
    statistics = queue.get("message_stats")
    return int(statistics.get("ack", 0)) if isinstance(statistics, dict) else 0
