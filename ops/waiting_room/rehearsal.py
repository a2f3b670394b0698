"""How does a crowd get through a waiting room? Run through the real functions in Redis, faster than it would be.

Redis's clock cannot be set. So everything in seconds is divided by `speed`: patience, heartbeats, claim windows, and the
rate is multiplied by it. Outside this module all times are seconds of the sale, and 0 is its start.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from consumers.rules.admission_rate import Measured, RateGoals, RateReason, RateState, decide_admission_rate
from consumers.rules.line_pace import LineCounts, LinePace
from contracts.draw import commitment_of
from contracts.ids import EventId, UserId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_line import Breakpoint, Outlook, Pace, Snapshot, outlook_of, poll_after_seconds, shown_after
from contracts.waiting_room import KeptEntry, LogEntry, LogKind, Phase, PlaceId
from contracts.waiting_room_proof import RoomProof
from db.waiting_room import RoomSettings, WaitingRooms
from ops.waiting_room.crowd import CrowdPlan, Visitor, a_crowd
from ops.waiting_room.evidence import Evidence
from ops.waiting_room.rehearsed_draw import draw_line

ROUND_SECONDS = 0.05  # of the rehearsal: one round of the leader, and everything that is due
STEER_SECONDS = 1.0  # of the sale: between two steps of the controller
CALLS_AT_ONCE = 2000
SAMPLED_VISITORS = 1000


@dataclass(frozen=True)
class RehearsalPlan:
    """What is rehearsed: the crowd, the arrivals a second that the operator asks for, and how much faster it runs."""

    crowd: CrowdPlan
    arrivals_per_second: float
    speed: float
    seconds_max: float
    pace: Pace = field(default_factory=Pace)
    claim_seconds: float = 120.0
    lease_seconds: float = 900.0
    return_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody saw on their screen, and when: `admitted` people had been admitted by then."""

    ticket: int
    at_seconds: float
    admitted: int
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Moment:
    """The room at one moment, for the plot; `claimed` since the start."""

    at_seconds: float
    waiting: int
    active: int
    claimed: int


@dataclass
class Recording:
    """Everything that was seen: the log, what was on screens, the room over time, and who came when."""

    plan: RehearsalPlan
    starts_at_ms: int = 0
    opened_at: float = 0.0
    log: list[LogEntry] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    evidence: Evidence | None = None
    is_finished: bool = False

    def seconds_at(self, at_ms: int) -> float:
        """A time of the log, in seconds of the sale."""
        return (at_ms - self.starts_at_ms) / 1000 * self.plan.speed


@dataclass(slots=True)
class Guest:
    """A visitor who has a place."""

    visitor: Visitor
    place_id: PlaceId
    user_id: UserId
    ticket: int = 0
    kind: LogKind = LogKind.JOINED
    polls_at: float = 0.0
    last_shown: Outlook | None = None


class Rehearsal:
    """One run. `run` takes the time it takes; `recording` then has what happened."""

    def __init__(self, rooms: WaitingRooms, plan: RehearsalPlan, settings: Settings) -> None:
        """Nothing is done yet; the room will be that of an event that nobody else knows."""
        self.recording = Recording(plan)
        self.event_id = EventId(uuid4())
        self._rooms, self._plan, self._keys = rooms, plan, SigningKeys.of(settings)
        self._crowd = a_crowd(plan.crowd)
        self._due: defaultdict[int, list[Callable[[], Coroutine[Any, Any, Any]]]] = defaultdict(list)
        self._beats: defaultdict[int, list[Guest]] = defaultdict(list)
        self._guests: dict[PlaceId, Guest] = {}
        self._sampled: list[Guest] = []
        self._round, self._came = 0, 0
        self._begun_at = 0.0
        self._done_slot = -(10**9)
        self._pace = LinePace(plan.pace)
        self._state, self._steered_at = RateState(), 0.0
        self._counted = {LogKind.CLAIMED: 0, LogKind.MISSED: 0}
        self._capacity = int(plan.arrivals_per_second * 2 * plan.lease_seconds)
        self._counts: defaultdict[LogKind, int] = defaultdict(int)
        self._phase = Phase.CLOSED
        self._snapshot: Snapshot | None = None
        self._secret = secrets.token_bytes(32)
        self._drawing: asyncio.Task[None] | None = None
        self._proof: RoomProof | None = None

    # ---- the clock

    @property
    def now(self) -> float:
        """Seconds of the sale; the crowd comes before 0."""
        return (time.monotonic() - self._begun_at) * self._plan.speed - self._plan.crowd.early_seconds

    @property
    def done_count(self) -> int:
        """How many have been let in, or have left."""
        kinds = (LogKind.ADMITTED, LogKind.GAVE_UP, LogKind.LEFT)
        return sum(self._counts[kind] for kind in kinds)

    def _slot_in(self, sale_seconds: float) -> int:
        """The round that far from now. Slots are of time, not counted: a machine that is busy does many in one."""
        return max(self._done_slot + 1, round((self.now + sale_seconds) / self._plan.speed / ROUND_SECONDS))

    def _due_slots(self) -> range:
        """Those that have passed since they were last asked for."""
        last = self._slot_in(0)
        slots = range(self._done_slot + 1, last + 1)
        self._done_slot = last
        return slots

    # ---- from the beginning to the end

    async def run(self, on_round: Callable[[Moment], None] = lambda _: None) -> Recording:
        """Let everybody come, and through; ends when nobody waits any more, or when the time is up."""
        await self._open_the_doors()
        fence = 0
        while not self._is_over():
            began = time.monotonic()
            if self._round % 10 == 0:
                fence = await self._rooms.elect(self.event_id, "rehearsal") or fence
            await self._do_what_is_due()
            await self._rooms.tick(self.event_id, fence)
            await self._look()
            on_round(self.recording.moments[-1])
            self._round += 1
            await asyncio.sleep(max(0.0, ROUND_SECONDS - (time.monotonic() - began)))
        if self._drawing is not None:
            await self._drawing
        await self._read_log()
        if self._proof is not None:
            self.recording.evidence = Evidence(
                self._proof, tuple(self.recording.log), announced=self._proof.announcement
            )
        return self.recording

    def _is_over(self) -> bool:
        if time.monotonic() - self._begun_at > self._plan.seconds_max:
            return True
        snapshot = self._snapshot
        everybody_came = self._came == len(self._crowd)
        self.recording.is_finished = bool(
            everybody_came and snapshot and self._phase is Phase.OPEN and not snapshot.waiting and not snapshot.ready
        )
        return self.recording.is_finished

    async def _open_the_doors(self) -> None:
        plan, ms = self._plan, 1000 / self._plan.speed
        settings = RoomSettings(
            capacity=self._capacity,
            rate_per_second=0.0,
            claim_ms=int(plan.claim_seconds * ms),
            lease_ms=int(plan.lease_seconds * ms),
            near_ms=int(plan.pace.near_silence_seconds * ms),
            deep_ms=int(plan.pace.deep_silence_seconds * ms),
            near_rank=plan.pace.near_rank,
            return_ms=int(plan.return_seconds * ms),
        )
        await self._rooms.configure(self.event_id, settings)
        await self._rooms.set_phase(self.event_id, Phase.PRE, "rehearsal")
        self._begun_at = time.monotonic()
        self._done_slot = self._slot_in(0)
        room = await self._rooms.snapshot(self.event_id, fresh_ms=0)
        assert room is not None  # noqa: S101 -- it was made a line ago
        self.recording.starts_at_ms = room.at_ms + int(plan.crowd.early_seconds * ms)

    # ---- what people do

    async def _do_what_is_due(self) -> None:
        calls: list[Coroutine[Any, Any, Any]] = []
        while self._came < len(self._crowd) and self._crowd[self._came].comes_at <= self.now:
            calls.append(self._join(self._crowd[self._came]))
            self._came += 1
        slots = self._due_slots()
        calls += [act() for slot in slots for act in self._due.pop(slot, ())]
        alive = [guest for slot in slots for guest in self._beats.pop(slot, ()) if guest.kind in _WAITS]
        calls.append(self._hear(alive))
        for start in range(0, len(calls), CALLS_AT_ONCE):
            await asyncio.gather(*calls[start : start + CALLS_AT_ONCE])
        if self._drawing is None and self.now >= 0:
            self._drawing = asyncio.create_task(self._draw())
        elif self._drawing is not None and self._drawing.done():
            self._drawing.result()  # a draw that failed ends the rehearsal

    async def _join(self, visitor: Visitor) -> None:
        guest = Guest(visitor, PlaceId(secrets.token_urlsafe(16)), UserId(UUID(int=visitor.number + 1)))
        self._guests[guest.place_id] = guest
        commitment = commitment_of(b"%d of %b" % (visitor.number, self._secret))
        await self._rooms.join(self.event_id, guest.user_id, guest.place_id, commitment)
        if visitor.number % max(1, len(self._crowd) // SAMPLED_VISITORS) == 0:
            self._sampled.append(guest)
        self._plan_heartbeat(guest)
        if visitor.says_goodbye:
            self._later(visitor.leaves_at - self.now, lambda: self._leave(guest))

    def _later(self, sale_seconds: float, act: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._due[self._slot_in(sale_seconds)].append(act)

    def _plan_heartbeat(self, guest: Guest) -> None:
        pace = self._plan.pace
        is_near = self._snapshot is not None and self._snapshot.rank_of(guest.ticket) < pace.near_rank
        usual = pace.near_heartbeat_seconds if is_near else pace.deep_heartbeat_seconds
        # Nobody beats in step: the same jitter as polls have, downwards.
        jitter = 1 - 0.3 * (hash((guest.place_id, self._round)) % 1000) / 1000
        self._beats[self._slot_in(guest.visitor.heartbeat_seconds(usual) * jitter)].append(guest)

    async def _hear(self, guests: list[Guest]) -> None:
        now = self.now
        heard = [guest.place_id for guest in guests if not guest.visitor.is_silent(now)]
        if heard:
            await self._rooms.heartbeat_many(self.event_id, heard)
        for guest in guests:
            if now < guest.visitor.leaves_at:
                self._plan_heartbeat(guest)

    async def _leave(self, guest: Guest) -> None:
        if guest.kind in _WAITS:
            await self._rooms.leave(self.event_id, guest.place_id, guest.user_id)

    async def _claim(self, guest: Guest) -> None:
        if not guest.visitor.is_silent(self.now):
            await self._rooms.claim(self.event_id, guest.place_id, guest.user_id)

    async def _finish(self, guest: Guest) -> None:
        if guest.visitor.buys:
            await self._rooms.release(self.event_id, guest.user_id)
        else:
            await self._rooms.leave(self.event_id, guest.place_id, guest.user_id)

    # ---- what is seen

    async def _look(self) -> None:
        await self._read_log()
        room = await self._rooms.snapshot(self.event_id, fresh_ms=0)
        if room is None:
            return
        self._enter(room.phase)
        at_seconds = self.recording.seconds_at(room.at_ms)
        returned = self._counts[LogKind.REENTERED]
        self._pace.observe(LineCounts(at_seconds, room.waiting, room.admitted, room.joined, returned))
        if self._phase is Phase.OPEN:
            await self._steer(at_seconds)
        self._snapshot = Snapshot(
            at_ms=room.at_ms,
            epoch=room.epoch,
            phase=room.phase,
            waiting=room.waiting,
            ready=room.ready,
            active=room.active,
            joined=room.joined,
            points=tuple(Breakpoint(rank, ticket) for rank, ticket in room.points),
            pace=self._pace.pace,
        )
        claimed = self._counts[LogKind.CLAIMED]
        self.recording.moments.append(Moment(at_seconds, room.waiting, room.active, claimed))
        if self._phase is Phase.OPEN:
            self._show(self._snapshot, at_seconds, room.admitted)

    def _enter(self, phase: Phase) -> None:
        if phase is not self._phase and phase is Phase.OPEN:
            self._pace.forget_rates()
            self.recording.opened_at = self.now
            # Due at once: before its first step nobody knows which rate is aimed at.
            self._steered_at = self.now - 2 * STEER_SECONDS
        self._phase = phase

    def _show(self, snapshot: Snapshot, at_seconds: float, admitted: int) -> None:
        for guest in self._sampled:
            if guest.kind is not LogKind.JOINED or guest.polls_at > at_seconds or guest.visitor.is_silent(at_seconds):
                continue
            guest.last_shown = shown_after(guest.last_shown, outlook_of(guest.ticket, snapshot))
            self.recording.shown.append(Shown(guest.ticket, at_seconds, admitted, guest.last_shown))
            band = guest.last_shown.band
            jitter = (guest.visitor.number * 7919 + self._round) % 1000 / 1000
            guest.polls_at = at_seconds + poll_after_seconds(band.p50 if band else 90.0, jitter=jitter)

    async def _steer(self, at_seconds: float) -> None:
        """One step of the controller, and what it aims at for those who are told a time."""
        seconds = at_seconds - self._steered_at
        if seconds < STEER_SECONDS:
            return
        new = {kind: self._counts[kind] - before for kind, before in self._counted.items()}
        measured = Measured(seconds=seconds, claimed=new[LogKind.CLAIMED], missed=new[LogKind.MISSED])
        goals = RateGoals(arrivals_per_second=self._plan.arrivals_per_second, capacity=self._capacity)
        decision = decide_admission_rate(self._state, measured, goals)
        self._state, self._steered_at = decision.state, at_seconds
        self._counted = {kind: self._counts[kind] for kind in self._counted}
        rate = decision.rate * self._plan.speed
        told = {"intended_per_second": decision.intended, "delay_seconds": decision.delay_seconds}
        self._pace.base = self._plan.pace.model_copy(update=told)
        if decision.reason is RateReason.SLOW_START:
            self._pace.forget_rates()
        await self._rooms.steer(
            self.event_id, capacity=decision.capacity, rate_per_second=rate, why=decision.reason.value
        )

    async def _read_log(self) -> None:
        log = self.recording.log
        while page := await self._rooms.read_log(self.event_id, after_index=len(log) - 1):
            for entry in page:
                self._note(entry)
            log += [LogEntry(**entry.model_dump(exclude={"place_id", "user_id"}, by_alias=False)) for entry in page]

    def _note(self, entry: KeptEntry) -> None:
        self._counts[entry.kind] += 1
        guest = self._guests.get(entry.place_id)
        if guest is None:
            return
        if entry.kind is LogKind.JOINED:
            guest.ticket = entry.ticket
            return
        guest.kind = entry.kind
        visitor = guest.visitor
        if entry.kind is LogKind.ADMITTED and not visitor.misses_turn:
            self._later(visitor.reacts_after, lambda: self._claim(guest))
        elif entry.kind is LogKind.MISSED and visitor.misses_turn and visitor.returns_after is not None:
            visitor.misses_turn = False
            self._later(visitor.returns_after, lambda: self._claim(guest))
        elif entry.kind is LogKind.CLAIMED:
            self._later(visitor.shops_for, lambda: self._finish(guest))

    async def _draw(self) -> None:
        """The start: the order of those who came before it is drawn."""
        drawn = await draw_line(
            self._rooms, self.event_id, secret=self._secret, starts_at_ms=self.recording.starts_at_ms, keys=self._keys
        )
        self._proof = drawn.proof
        for place_id, ticket in drawn.tickets.items():
            self._guests[place_id].ticket = ticket


_WAITS = frozenset({LogKind.JOINED, LogKind.REENTERED})
