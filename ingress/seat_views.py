"""Which events' seats does this process follow, and how does it stay true to the database?

An event is followed from the moment somebody asks for it: its key is bound to this process's queue, then its seats are read,
then what came meanwhile is applied, so nothing falls between. A gap, a lost connection or a ledger that is ahead of us for
longer than a message takes, and the seats are read afresh. While the broker is away no view is live: nobody is refused
early, and what is shown is read from PostgreSQL.
"""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from prometheus_client import Histogram
from redis.asyncio import Redis

from contracts import topology, wire
from contracts.commands import BestAvailable
from contracts.domain_events import SeatsChanged
from contracts.ids import EventId, SeatId
from contracts.rejections import RejectionCode
from contracts.replies import Rejected
from contracts.settings import Settings
from db.availability_cache import AvailabilityCache
from db.postgres import TRANSIENT_ERRORS, Pool
from db.seat_views import EventSeats, SaleState, read_event_seats, read_sales
from ingress.command_bus import BROKER_AWAY, CONNECT_TIMEOUT_SECONDS, RECONNECT_SECONDS, lost_event
from ingress.seat_audience import Audience
from ingress.seat_documents import Document, SeatDocuments, availability_document
from ingress.seat_view import Heard, SeatState, SeatView
from ingress.stream_places import StreamPlaces

log = logging.getLogger(__name__)

# How often all views are compared with the database. A message takes milliseconds, so a ledger that was ahead of us one
# look ago and still is has said something that we have not heard.
LOOK_SECONDS = 2.0
# How old seats may be shown when no change is heard of.
SHOWN_SECONDS = 1.0
# An event whose view breaks again and again is not read more often than this.
RELOAD_SECONDS = 1.0
# Reading ten thousand seats keeps a connection of the pool busy for 40 ms; the others are for those who buy.
LOADS_AT_ONCE = 3
# Events that may wait for their first reading because of a reservation; more are passed on without a view.
LOADS_WAITING_MAX = 64
# A broker that takes longer to bind is as good as away.
BIND_TIMEOUT_SECONDS = 2.0
# What may be heard of one event while it is read.
HEARD_EARLY_MAX = 10_000

LAG_SECONDS = Histogram(
    "boxoffice_seat_view_lag_seconds",
    "From a commit until a live view shows it, by the clocks of two machines",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0),
)


class WatchedEvent:
    """One event as this process knows it."""

    def __init__(self, event: EventSeats, settings: Settings, now: float) -> None:
        self._settings = settings
        self._building: asyncio.Task[Document] | None = None
        self._map: Document | None = None
        self._availability: tuple[object, Document] | None = None
        self._list: tuple[object, Document] | None = None
        self._list_made_at = float("-inf")
        self.is_live = False
        self.replace(event, now)
        self.audience = Audience(self.view.version, interval_seconds=settings.stream_interval_seconds)

    def replace(self, event: EventSeats, now: float) -> None:
        """Everything as it was read just now."""
        self.sale = event.sale
        self.ledger_seq = event.sale.ledger_seq
        self.loaded_at = time.monotonic()
        self.documents = SeatDocuments(event)
        self.view = SeatView(
            [SeatState(seat.id, seat.status, seat.held_until) for seat in event.seats],
            version=event.sale.ledger_seq,
            now=now,
            believed_seconds=self._settings.hold_seconds,
        )
        self._map = None

    def hear(self, changed: SeatsChanged, now: float) -> Heard:
        """Take in what the engine tells, and pass it on to those who watch."""
        heard, changes = self._take_in(changed, now)
        if heard is Heard.APPLIED:
            self.audience.seats_changed(changes, version=self.view.version)
        return heard

    def hear_early(self, changed: SeatsChanged, now: float) -> Heard:
        """Take in what the engine told while the seats were read; those who watch are told to look again anyway."""
        return self._take_in(changed, now)[0]

    def _take_in(self, changed: SeatsChanged, now: float) -> tuple[Heard, dict[int, int]]:
        heard, changes = self.view.apply(changed, now)
        if heard is Heard.APPLIED:
            prices = {one.seat_index: one.price for one in changed.changes if one.price is not None}
            if prices:
                self.documents, self._map = self.documents.repriced(prices), None
        return heard, changes

    def look(self, sale: SaleState) -> bool:
        """Take in how the sale stands; False when the seats must be read afresh."""
        if sale.status != self.sale.status:
            self.audience.sale_changed(sale.status)
        is_behind = self.view.version < self.ledger_seq
        is_rebuilt = sale.event_version != self.sale.event_version
        self.sale, self.ledger_seq = sale, sale.ledger_seq
        return not is_behind and not is_rebuilt

    def needs_pass(self, now: float) -> bool:
        """Whether it is sold through a waiting room just now. Before and after, the sale has another "no" for everybody."""
        return self.sale.high_demand and self.sale.is_open(datetime.fromtimestamp(now, UTC))

    def refused(self, seat_ids: Sequence[SeatId], best: BestAvailable | None, now: float) -> Rejected | None:
        """The "no" that the sale would give to this reservation, as far as that is certain."""
        if not self.is_live or not self.sale.is_open(datetime.fromtimestamp(now, UTC)):
            return None
        if best is None:
            # The sale has another "no" for a seat that is not there.
            gone = self.view.gone(seat_ids, now)
            if not gone or not all(map(self.view.knows, seat_ids)):
                return None
            return Rejected(code=RejectionCode.SEATS_UNAVAILABLE, seat_ids=tuple(gone))
        span = self.documents.span(best.section) if best.section is not None else None
        first, end = span or (0, None)
        if not self.view.has_fewer_than(best.count, now, first=first, end=end):
            return None
        return Rejected(code=RejectionCode.NOT_ENOUGH_SEATS)

    # ---- as bytes

    def availability(self) -> Document:
        """One character per seat, made once for each version that is asked for."""
        state = self._state
        if self._availability is None or self._availability[0] != state:
            document = self.documents.availability(self.sale, bytes(self.view.statuses), version=self.view.version)
            self._availability = state, document
        return self._availability[1]

    async def map(self) -> Document:
        """The house."""
        if self._map is not None:
            return self._map
        documents = self.documents
        made = await asyncio.to_thread(documents.map)
        if documents is self.documents:
            # Else a price has changed meanwhile, and this one must not be shown for longer than to whoever waits.
            self._map = made
        return made

    async def seat_list(self) -> Document:
        """All there is to say about every seat; made when somebody asks, something has changed and a second has passed."""
        if self._list is not None:
            state, document = self._list
            if state == self._state or time.monotonic() - self._list_made_at < SHOWN_SECONDS:
                return document
        if self._building is None:
            self._building = asyncio.create_task(self._build_list())
        # Shielded: one client that hangs up must not take the list from all the others.
        return await asyncio.shield(self._building)

    async def _build_list(self) -> Document:
        try:
            made_at, state = time.monotonic(), self._state
            document = await asyncio.to_thread(
                self.documents.seat_list, self.sale, bytes(self.view.statuses), version=self.view.version
            )
            self._list, self._list_made_at = (state, document), made_at
            return document
        finally:
            self._building = None

    @property
    def _state(self) -> tuple[object, ...]:
        """What the documents depend on."""
        return self.documents, self.view.version, self.sale.status


class SeatViews:
    """One per ingress process. Open it with `await SeatViews.open(settings, pool, redis)`."""

    def __init__(self, settings: Settings, pool: Pool, redis: Redis) -> None:
        self.places = StreamPlaces(settings)
        self.early_refusal_count = 0
        self._settings = settings
        self._pool = pool
        self._cache = AvailabilityCache(pool, redis)
        self._shown: dict[EventId, tuple[float, Document]] = {}
        self._events: OrderedDict[EventId, WatchedEvent] = OrderedDict()
        self._loading: dict[EventId, asyncio.Task[WatchedEvent | None]] = {}
        self._heard_early: dict[EventId, list[SeatsChanged | None]] = {}
        self._loads = asyncio.Semaphore(LOADS_AT_ONCE)
        self._queue: AbstractQueue | None = None
        # How far the database's clock is ahead of ours: only its clock judges time.
        self._clock_ahead_seconds = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._unbinding: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, settings: Settings, pool: Pool, redis: Redis) -> Self:
        """Begin to follow; the broker need not be there yet."""
        views = cls(settings, pool, redis)
        views._tasks = [
            asyncio.create_task(views._stay_connected(), name="seat changes in"),
            asyncio.create_task(views._look_often(), name="seat views checked"),
            asyncio.create_task(views._beat(), name="stream heartbeats"),
        ]
        return views

    async def close(self) -> None:
        """Follow nothing any more."""
        self.end_streams()
        tasks = [*self._tasks, *self._loading.values(), *self._unbinding]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def end_streams(self) -> None:
        """Send everybody who watches away; they come back to another process."""
        for event in self._events.values():
            event.audience.end()

    @property
    def event_count(self) -> int:
        """How many events are followed."""
        return len(self._events)

    def now(self) -> float:
        """Seconds since 1970 by the database's clock."""
        return time.time() + self._clock_ahead_seconds

    def live(self, event_id: EventId) -> WatchedEvent | None:
        """The event, if its view is up to date; costs nothing."""
        event = self._events.get(event_id)
        if event is None or not event.is_live:
            return None
        self._events.move_to_end(event_id)
        return event

    def early_no(self, event_id: EventId, seat_ids: Sequence[SeatId], best: BestAvailable | None) -> Rejected | None:
        """The sale's "no" to a reservation, where it is certain; an event nobody has asked for is followed from now on."""
        event = self.live(event_id)
        if event is None:
            self.follow(event_id)
            return None
        rejected = event.refused(seat_ids, best, self.now())
        self.early_refusal_count += rejected is not None
        return rejected

    def follow(self, event_id: EventId) -> None:
        """Have the event's seats at hand soon; returns at once."""
        if self._queue is not None and len(self._loading) < LOADS_WAITING_MAX:
            self._load_soon(event_id)

    async def find(self, event_id: EventId) -> WatchedEvent | None:
        """The event, up to date or, while nothing is heard, a second old; None when there is none.

        Raises TRANSIENT_ERRORS when PostgreSQL is needed and away.
        """
        event = self._events.get(event_id)
        if event is None or not (event.is_live or time.monotonic() - event.loaded_at < SHOWN_SECONDS):
            # Shielded: one client that hangs up must not take the event from all the others.
            event = await asyncio.shield(self._load_soon(event_id))
        if event is not None and event_id in self._events:
            self._events.move_to_end(event_id)
        return event

    async def availability(self, event_id: EventId) -> Document | None:
        """One character per seat: of a live view or, without one, as old as the seed allows. Raises TRANSIENT_ERRORS."""
        event = self.live(event_id)
        if event is not None:
            return event.availability()
        shown = self._shown.get(event_id)
        if shown is not None and time.monotonic() - shown[0] < SHOWN_SECONDS:
            return shown[1]
        found = await self._cache.find(event_id)
        if found is None:
            return None
        if found.status == "on_sale":
            self.follow(event_id)
        document = availability_document(found)
        if len(self._shown) >= self._settings.seat_views_max:
            self._shown.clear()
        self._shown[event_id] = time.monotonic(), document
        return document

    # ---- loading and forgetting

    def _load_soon(self, event_id: EventId) -> asyncio.Task[WatchedEvent | None]:
        loading = self._loading.get(event_id)
        if loading is None:
            loading = self._loading[event_id] = asyncio.create_task(self._load(event_id))
            loading.add_done_callback(lambda task: self._loaded(event_id, task))
        return loading

    def _loaded(self, event_id: EventId, task: "asyncio.Task[WatchedEvent | None]") -> None:
        self._loading.pop(event_id)
        self._heard_early.pop(event_id, None)
        if not task.cancelled() and (problem := task.exception()) is not None:
            # The next look tries again, and whoever waits is told.
            log.warning("seats_not_read", extra={"eventId": str(event_id), "error": repr(problem)})

    async def _load(self, event_id: EventId) -> WatchedEvent | None:
        async with self._loads:
            if event_id not in self._events and not await read_sales(self._pool, [event_id]):
                return None
            early = self._heard_early[event_id] = []
            queue = await self._bind(event_id)
            read = await read_event_seats(self._pool, event_id)
        if read is None:
            self._forget(event_id)
            return None
        self._set_clock(read.sale)
        # Nothing waits below, so nothing can be heard that is neither early nor heard by the event.
        event = self._install(event_id, read)
        del self._heard_early[event_id]
        hears_all = len(early) < HEARD_EARLY_MAX and all(
            changed is not None and event.hear_early(changed, self.now()) is not Heard.GAP for changed in early
        )
        event.is_live = hears_all and queue is not None and queue is self._queue
        if event.is_live:
            # What was read in the meantime, while nothing was heard, nobody who watches has been told of.
            event.audience.resync(event.view.version)
        return event

    async def _bind(self, event_id: EventId) -> AbstractQueue | None:
        """The queue that now gets this event's changes; None while there is none."""
        queue = self._queue
        if queue is None:
            return None
        try:
            await queue.bind(topology.SEAT_CHANGES, routing_key=str(event_id), timeout=BIND_TIMEOUT_SECONDS)
        except BROKER_AWAY:
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The client cancels what waits for an answer when it gives up a connection; nobody has cancelled us.
            return None
        return queue

    def _install(self, event_id: EventId, read: EventSeats) -> WatchedEvent:
        event = self._events.get(event_id)
        if event is None:
            event = self._events[event_id] = WatchedEvent(read, self._settings, self.now())
            self._make_room(event_id)
            return event
        event.replace(read, self.now())
        return event

    def _make_room(self, newcomer: EventId) -> None:
        """Forget the events nobody has asked for the longest; those that are watched stay."""
        too_many = len(self._events) - self._settings.seat_views_max
        if too_many <= 0:
            return
        busy = {newcomer, *self._loading}
        idle = [event_id for event_id, event in self._events.items() if not event.audience and event_id not in busy]
        for event_id in idle[:too_many]:
            self._forget(event_id)

    def _forget(self, event_id: EventId) -> None:
        event = self._events.pop(event_id, None)
        if event is not None:
            event.is_live = False
            event.audience.end()
        if self._queue is not None:
            task = asyncio.create_task(self._unbind(self._queue, event_id))
            self._unbinding.add(task)
            task.add_done_callback(self._unbinding.discard)

    async def _unbind(self, queue: AbstractQueue, event_id: EventId) -> None:
        with suppress(*BROKER_AWAY):
            await queue.unbind(topology.SEAT_CHANGES, routing_key=str(event_id))

    def _read_afresh(self, event_id: EventId, event: WatchedEvent) -> None:
        event.is_live = False
        # Sooner than that, the next look does it.
        if self._queue is not None and time.monotonic() - event.loaded_at >= RELOAD_SECONDS:
            self._load_soon(event_id)

    # ---- what the engine tells

    async def _stay_connected(self) -> None:
        while True:
            try:
                await self._listen_until_lost()
            except BROKER_AWAY as problem:
                log.warning("broker_away", extra={"error": repr(problem)})
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_until_lost(self) -> None:
        url = f"{self._settings.rabbitmq_url_for('ingress')}&name=ingress%20watches"
        connection = await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
        async with connection:
            channel = await connection.channel(publisher_confirms=False)
            lost = lost_event(connection, channel)
            # A new name each time: the broker may still believe that the last connection has the old queue.
            name = f"{topology.SEAT_CHANGES}.{os.getpid()}.{uuid4().hex}"
            queue = await channel.declare_queue(
                name, durable=False, exclusive=True, auto_delete=True, arguments={"x-queue-type": "classic"}
            )
            await queue.consume(self._take_changes, no_ack=True)
            try:
                self._queue = queue
                self._follow_again()
                await lost.wait()
            finally:
                self._queue = None
                for event in self._events.values():
                    event.is_live = False

    def _follow_again(self) -> None:
        for event_id, event in list(self._events.items()):
            if event.audience:
                self._load_soon(event_id)
            else:
                del self._events[event_id]

    async def _take_changes(self, delivery: AbstractIncomingMessage) -> None:
        # Nothing in here waits: deliveries are begun in their order, and so they stay in it.
        changed = _read_changes(delivery)
        event_id = _event_of(delivery)
        if event_id is None:
            return
        early = self._heard_early.get(event_id)
        if early is not None:
            if len(early) < HEARD_EARLY_MAX:
                early.append(changed)
            return
        event = self._events.get(event_id)
        if event is None or not event.is_live:
            return
        heard = Heard.GAP if changed is None else event.hear(changed, self.now())
        if heard is Heard.APPLIED:
            _observe_lag(delivery)
        elif heard is Heard.GAP:
            log.info("seat_view_gap", extra={"eventId": str(event_id)})
            self._read_afresh(event_id, event)

    # ---- what the database says

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except TRANSIENT_ERRORS as problem:
                log.warning("seat_views_not_checked", extra={"error": repr(problem)})

    async def _look(self) -> None:
        event_ids = list(self._events)
        if not event_ids:
            return
        for sale in await read_sales(self._pool, event_ids):
            event = self._events.get(sale.event_id)
            if event is None:
                continue
            self._set_clock(sale)
            is_true = event.look(sale)
            if (event.is_live and not is_true) or (event.audience and not event.is_live):
                self._read_afresh(sale.event_id, event)

    def _set_clock(self, sale: SaleState) -> None:
        self._clock_ahead_seconds = sale.now.timestamp() - time.time()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.stream_heartbeat_seconds)
            for event in list(self._events.values()):
                await event.audience.beat()


def _read_changes(delivery: AbstractIncomingMessage) -> SeatsChanged | None:
    """What it says; None when that cannot be read: whatever it was, it was not heard."""
    try:
        changed = wire.decode_domain_event(delivery.body)
    except wire.UnreadableMessage as problem:
        log.warning("unreadable_seat_changes", extra={"error": str(problem)})
        return None
    return changed if isinstance(changed, SeatsChanged) else None


def _observe_lag(delivery: AbstractIncomingMessage) -> None:
    committed_at_ms = delivery.headers.get(wire.COMMITTED_AT_HEADER)
    if isinstance(committed_at_ms, int):
        LAG_SECONDS.observe(max(0.0, time.time() - committed_at_ms / 1000))


def _event_of(delivery: AbstractIncomingMessage) -> EventId | None:
    try:
        return EventId(UUID(delivery.routing_key or ""))
    except ValueError:
        return None
