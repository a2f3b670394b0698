"""What does the process do that leads a room, and what one that would take its place?

Two things side by side, so that neither waits for the other's servers. `lead_once`, five times a second: be elected, or stay
so, and let people in; Redis alone is asked. `keep_once`: bring the room's phase about, hold its draw, copy its log, steer its
rate, tell how it goes; that needs PostgreSQL too. Whoever is not elected does nothing but ask again, and whoever finds that
another leads has stopped with that. The fence that Redis gives each leadership decides if two believe that they lead.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from consumers.rules.admission_rate import RateGoals
from consumers.rules.room_phases import SERVES, Circumstances, PhaseStep, Wish, decide_phase, judge_wish
from consumers.waiting_rooms.beacon_voice import BeaconVoice
from consumers.waiting_rooms.command_backlog import CommandBacklog
from consumers.waiting_rooms.draw import Draw, DrawBroken, DrawContradicted
from consumers.waiting_rooms.figures import (
    ACTIVE_SESSIONS,
    CAPACITY,
    DUPLICATE_JOINS,
    LOG_LAG,
    QUEUE_LENGTH,
    QUEUE_READY,
    RATE,
    TICK_LAG,
    RoomFigures,
)
from consumers.waiting_rooms.log_mirror import LogGap, LogLost, LogMirror
from consumers.waiting_rooms.promises import Promises
from consumers.waiting_rooms.restoration import make_or_restore, restore_over
from consumers.waiting_rooms.steering import Steering
from contracts.beacon import BEACONS
from contracts.ids import EventId
from contracts.settings import Settings
from contracts.waiting_room import Phase
from db.coalescer import CoalescerFull
from db.postgres import TRANSIENT_ERRORS, Pool
from db.redis import REDIS_AWAY
from db.waiting_room import DRAWN_PER_CALL, PhaseChange, Round, RoundResult, WaitingRooms
from db.waiting_room_observations import WaitingRoomObservations
from db.waiting_room_records import RoomRecord, clear_wanted, find_room, mark_ended, move_room

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 0.2
KEEP_SECONDS: Final = 0.25
# A room that nobody can be let into needs no more than to be kept: well within a leader's lease.
IDLE_ROUND_SECONDS: Final = 1.0
_IDLE: Final = frozenset({Phase.CLOSED, Phase.SOLD_OUT, Phase.ENDED})

SEATS_EVERY_SECONDS: Final = 1.0
PULSE_EVERY_SECONDS: Final = 1.0
# Whoever takes a room over that has been going on for long reads its log in pieces: people are let in meanwhile.
PAGES_AT_ONCE: Final = 20
SWEEPS_AT_ONCE: Final = 10
RESTORED_AT_ONCE: Final = 3

DRAW_AGAIN_SECONDS: Final = 0.5
# When trying again at once would only fill the log.
DRAW_LATER_SECONDS: Final = 30.0
# Nobody led when the sale began, and the beacon's round has been spoken or is about to be: the draw is announced anew.
LATE_MARGIN_MS: Final = 2_000
LATE_START_SECONDS: Final = 5.0

# What may pass by itself; the next round tries again.
PASSING: Final[tuple[type[BaseException], ...]] = (*TRANSIENT_ERRORS, *REDIS_AWAY, CoalescerFull)
_BREAKS_A_DRAW: Final[tuple[type[BaseException], ...]] = (DrawBroken, LogLost, LogGap, *PASSING)


@dataclass(frozen=True)
class Resources:
    """What all rooms of a process share. `process_id` is what it is elected by."""

    settings: Settings
    pool: Pool
    rooms: WaitingRooms
    observations: WaitingRoomObservations
    backlog: CommandBacklog
    beacon: BeaconVoice
    process_id: str
    page_size: int = DRAWN_PER_CALL
    # Each holds a connection while it needs another: more of them than that would wait for each other.
    restoring: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RESTORED_AT_ONCE))


class Cadence:
    """Is it time again?"""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last_at: float | None = None

    def is_due(self) -> bool:
        """True at most once in so many seconds, and the first time."""
        now = time.monotonic()
        if self._last_at is not None and now - self._last_at < self._seconds:
            return False
        self._last_at = now
        return True


class Leadership:
    """One stretch of leading one room: what is measured and remembered, and forgotten with it."""

    def __init__(self, event_id: EventId, fence: int, with_: Resources) -> None:
        self.fence = fence
        self.figures = RoomFigures(event_id)
        self.mirror = LogMirror(with_.pool, with_.rooms, event_id)
        self.steering = Steering(with_.pool, with_.rooms, with_.observations, with_.backlog, self.figures, event_id)
        self.promises: Promises | None = None
        self.last_round = Round(RoundResult.OK)
        self.phase: Phase | None = None
        self.is_sold_out = False
        self.drawing: asyncio.Task[None] | None = None
        self.looks_at_seats = Cadence(SEATS_EVERY_SECONDS)
        self.tells_pulse = Cadence(PULSE_EVERY_SECONDS)

    async def end(self) -> None:
        """Nothing of it goes on."""
        self.figures.forget()
        if self.drawing is not None:
            self.drawing.cancel()
            # Without waiting for ever: should it go on, the next leader's attempt shuts it out.
            await asyncio.wait({self.drawing}, timeout=DRAW_AGAIN_SECONDS)
            self.drawing = None


class RoomLeader:
    """One room, in one process: leading it, or ready to."""

    def __init__(self, record: RoomRecord, with_: Resources) -> None:
        self._with = with_
        self._leadership: Leadership | None = None
        self._led_at: float | None = None
        self._record, self._read_at = record, time.monotonic()

    def update(self, record: RoomRecord) -> None:
        """The room as it is written down now; what was read before the latest change that we know of is passed over."""
        if record.version >= self._record.version:
            self._record, self._read_at = record, time.monotonic()

    @property
    def event_id(self) -> EventId:
        """Whose room it is."""
        return self._record.event_id

    @property
    def is_leading(self) -> bool:
        """As far as this process knows."""
        return self._leadership is not None

    @property
    def round_seconds(self) -> float:
        """How long until the next round."""
        phase = self._leadership.phase if self._leadership else None
        return IDLE_ROUND_SECONDS if phase in _IDLE else ROUND_SECONDS

    @property
    def now(self) -> datetime:
        """The database's clock, as of the last time that the record was read."""
        return self._record.read_at + timedelta(seconds=time.monotonic() - self._read_at)

    @property
    def _now_ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    # ---- leading

    async def lead_once(self) -> bool:
        """One round, if this process leads; True if it does. Raises one of REDIS_AWAY or PostgreSQL's errors."""
        fence = await self._with.rooms.elect(self.event_id, self._with.process_id)
        if fence is None:
            await self._stop_leading("another process leads")
            await self._see_to_room()
            return False
        if self._leadership is None or self._leadership.fence != fence:
            await self._begin_leading(fence)
        return await self._let_in(fence)

    async def close(self) -> None:
        """Stop; another process may lead at once."""
        was_leading = self.is_leading
        await self._stop_leading("stopping")
        if was_leading:
            with suppress(*REDIS_AWAY):
                await self._with.rooms.resign(self.event_id, self._with.process_id)

    async def _let_in(self, fence: int) -> bool:
        for _ in range(SWEEPS_AT_ONCE):
            done = await self._with.rooms.tick(self.event_id, fence)
            if done.result is RoundResult.FENCED:
                await self._stop_leading("fenced")
                return False
            if done.result is not RoundResult.OK:
                await self._see_to_room()
                return False
            self._show(done)
            if not done.has_more_to_sweep:
                break
        return True

    def _show(self, done: Round) -> None:
        leadership, now = self._leadership, time.monotonic()
        if leadership is None:
            return
        leadership.last_round = done
        figures = leadership.figures
        figures.set(QUEUE_LENGTH, done.waiting)
        figures.set(QUEUE_READY, done.ready)
        figures.set(ACTIVE_SESSIONS, done.active)
        if self._led_at is not None:
            figures.set(TICK_LAG, max(0.0, now - self._led_at - self.round_seconds))
        self._led_at = now

    async def _begin_leading(self, fence: int) -> None:
        await self._stop_leading("a new leadership")
        self._leadership = Leadership(self.event_id, fence, self._with)
        log.info("waiting_room_led", extra={"event_id": self.event_id, "fence": fence})

    async def _stop_leading(self, why: str) -> None:
        leadership, self._leadership, self._led_at = self._leadership, None, None
        if leadership is None:
            return
        log.info(
            "waiting_room_led_no_longer", extra={"event_id": self.event_id, "fence": leadership.fence, "reason": why}
        )
        await leadership.end()

    async def _see_to_room(self) -> None:
        """Redis may not have it: it was never made, or it is lost."""
        phase = (await self._with.rooms.facts(self.event_id)).get("phase")
        if phase is None or phase == Phase.RESTORING:
            async with self._with.restoring:
                await make_or_restore(self._with.pool, self._with.rooms, self._record)

    # ---- keeping

    async def keep_once(self) -> None:
        """Everything else that a leader does; nothing without being one. Raises what servers raise."""
        leadership = self._leadership
        if leadership is None:
            return
        facts = await self._with.rooms.facts(self.event_id)
        phase = Phase(facts["phase"]) if "phase" in facts else Phase.RESTORING
        leadership.phase = phase
        if phase is Phase.RESTORING:
            return
        if not await self._copy_log(leadership, facts):
            return
        await self._keep_announcement(phase)
        await self._look_at_seats(leadership, phase)
        await self._step(leadership, phase)
        await self._steer(leadership, facts, phase)
        await self._mark_ended(leadership, facts, phase)

    async def _copy_log(self, leadership: Leadership, facts: dict[str, str]) -> bool:
        """False when Redis and the copy tell two stories, and the room has been filled from the copy."""
        entry_count = int(facts.get("entries", 0))
        if leadership.promises is None:
            leadership.promises = await Promises.of_room(self._with.pool, self.event_id, leadership.figures)
        try:
            entries = await leadership.mirror.copy(entry_count=entry_count, pages=PAGES_AT_ONCE)
        except LogLost as lost:
            await self._stop_leading("the log is lost")
            async with self._with.restoring:
                await restore_over(self._with.pool, self._with.rooms, self._record, because=str(lost))
            return False
        except LogGap as gap:
            # Only a database that was put back to an earlier day does that. People go on being served: the room is in Redis.
            log.critical("waiting_room_log_has_a_gap", extra={"event_id": self.event_id, "reason": str(gap)})
            return True
        for entry in entries:
            leadership.figures.count_entry(entry)
        await leadership.promises.follow(entries)
        leadership.figures.set(LOG_LAG, max(0, entry_count - 1 - leadership.mirror.last_index))
        leadership.figures.set(CAPACITY, int(facts.get("capacity", 0)))
        leadership.figures.set(DUPLICATE_JOINS, int(facts.get("duplicate_joins", 0)))
        return True

    async def _keep_announcement(self, phase: Phase) -> None:
        """A draw is announced for when it will be held: the sale may have been moved, or nobody have been here in time."""
        record = self._record
        if phase not in (Phase.CLOSED, Phase.PRE) or record.announcement is None or record.frozen is not None:
            return
        if record.on_sale_date != record.opens_at and record.on_sale_date > self.now:
            await self._announce_anew(record.on_sale_date, "the sale was moved")
        elif self.now >= record.opens_at and self._now_ms >= self._last_moment_ms(record):
            await self._announce_anew(self.now + timedelta(seconds=LATE_START_SECONDS), "nobody led when it was due")

    def _last_moment_ms(self, record: RoomRecord) -> int:
        """A cohort frozen after the beacon has spoken proves nothing."""
        if record.announcement is None:
            return self._now_ms + 1
        beacon = BEACONS[record.announcement.beacon_source]
        return beacon.due_ms(record.announcement.beacon_round) - LATE_MARGIN_MS

    async def _announce_anew(self, opens_at: datetime, why: str) -> None:
        if await move_room(self._with.pool, self._record, opens_at):
            log.warning(
                "waiting_room_draw_announced_anew",
                extra={"event_id": self.event_id, "opens_at": opens_at.isoformat(), "reason": why},
            )
        changed = await find_room(self._with.pool, self.event_id)
        if changed is not None:
            self.update(changed)

    async def _look_at_seats(self, leadership: Leadership, phase: Phase) -> None:
        # A wish is judged by what is so now, not by what was so a second ago.
        has_wish = self._record.wanted_phase is not None
        if has_wish or (phase in SERVES and leadership.looks_at_seats.is_due()):
            leadership.is_sold_out = (await leadership.steering.look_at_seats()).is_sold_out

    # ---- phases

    async def _step(self, leadership: Leadership, phase: Phase) -> None:
        circumstances = self._circumstances(leadership)
        step = decide_phase(phase, circumstances)
        if step is not None and step.phase is Phase.SEALING:
            self._draw(leadership, step)
        elif step is not None and await self._enter(step):
            phase = leadership.phase = step.phase
            if phase is Phase.OPEN:
                leadership.steering.begin_slowly()
        await self._settle_wish(phase, circumstances)

    def _circumstances(self, leadership: Leadership) -> Circumstances:
        record, now = self._record, self.now
        return Circumstances(
            is_scheduled=record.is_scheduled,
            may_be_joined=now >= record.pre_at,
            has_opened=now >= record.opens_at,
            is_sale_over=record.is_sale_over(now),
            is_sold_out=leadership.is_sold_out,
            wanted=record.wanted_phase,
            wanted_because=record.wanted_because,
        )

    async def _enter(self, step: PhaseStep) -> bool:
        change = await self._with.rooms.set_phase(self.event_id, step.phase, step.why)
        if change is not PhaseChange.CHANGED:
            return change is PhaseChange.SAME
        log.info(
            "waiting_room_phase_changed",
            extra={"event_id": self.event_id, "phase": step.phase.value, "reason": step.why},
        )
        return True

    async def _settle_wish(self, phase: Phase, circumstances: Circumstances) -> None:
        wish = judge_wish(phase, circumstances)
        if wish in (Wish.NONE, Wish.KEPT) or circumstances.wanted is None:
            return
        if wish is Wish.IMPOSSIBLE:
            told = {"phase": phase.value, "wanted_phase": circumstances.wanted.value}
            log.warning("waiting_room_wish_impossible", extra={"event_id": self.event_id, **told})
        if wish is Wish.FULFILLED and circumstances.wanted is Phase.OPEN:
            # Whoever says "open" after a loss of Redis answers for the leases of before.
            await self._with.rooms.end_hold(self.event_id, circumstances.wanted_because or "the operator says so")
        await clear_wanted(self._with.pool, self.event_id, circumstances.wanted)
        if self._record.wanted_phase is circumstances.wanted:
            version = self._record.version + 1
            self._record = replace(self._record, wanted_phase=None, wanted_because="", version=version)

    def _draw(self, leadership: Leadership, step: PhaseStep) -> None:
        """Hold the draw, beside everything else: it takes a quarter of a minute, most of it waiting for the beacon."""
        if leadership.drawing is not None and not leadership.drawing.done():
            return
        leadership.drawing = asyncio.create_task(self._hold_draw(leadership, step.why))

    async def _hold_draw(self, leadership: Leadership, why: str) -> None:
        async def copy_log() -> None:
            facts = await self._with.rooms.facts(self.event_id)
            entries = await leadership.mirror.copy(entry_count=int(facts.get("entries", 0)))
            for entry in entries:
                leadership.figures.count_entry(entry)

        draw = Draw(
            self._with.pool,
            self._with.rooms,
            self._with.beacon,
            copy_log=copy_log,
            now_ms=lambda: self._now_ms,
            page_size=self._with.page_size,
        )
        try:
            await draw.hold(self._record, why)
            leadership.steering.begin_slowly()
        except DrawContradicted as problem:
            log.critical("waiting_room_not_drawn", extra={"event_id": self.event_id, "reason": str(problem)})
            await asyncio.sleep(DRAW_LATER_SECONDS)
        except _BREAKS_A_DRAW as problem:
            log.warning("waiting_room_draw_interrupted", extra={"event_id": self.event_id, "reason": repr(problem)})
            await asyncio.sleep(DRAW_AGAIN_SECONDS)
        except Exception:
            log.exception("waiting_room_draw_broken", extra={"event_id": self.event_id})
            await asyncio.sleep(DRAW_LATER_SECONDS)

    # ---- the rate, and the end

    async def _steer(self, leadership: Leadership, facts: dict[str, str], phase: Phase) -> None:
        if phase in SERVES and leadership.promises is not None and leadership.tells_pulse.is_due():
            leadership.promises.note_shown(await self._with.observations.take_shown(self.event_id))
            await leadership.steering.publish_pulse(facts, leadership.last_round)
        if phase not in (Phase.OPEN, Phase.DRAINING):
            leadership.figures.set(RATE, 0)  # whatever was decided before: nobody is let in now
        is_held = int(facts.get("held_until", 0)) > int(facts.get("tokens_at", 0))
        if phase not in (Phase.OPEN, Phase.DRAINING) or is_held or not leadership.steering.is_due():
            return
        goals = RateGoals(arrivals_per_second=self._record.rate_per_second, capacity=self._record.capacity)
        await leadership.steering.step(facts, leadership.last_round.active, goals)

    async def _mark_ended(self, leadership: Leadership, facts: dict[str, str], phase: Phase) -> None:
        is_copied = leadership.mirror.last_index + 1 >= int(facts.get("entries", 0))
        if phase is not Phase.ENDED or self._record.ended_at is not None or not is_copied:
            return
        await mark_ended(self._with.pool, self.event_id)
        self._record = replace(self._record, ended_at=self.now)
        log.info("waiting_room_ended", extra={"event_id": self.event_id})
