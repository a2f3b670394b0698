"""How many come in next, and what does everybody who waits learn of how fast the line moves?

Every two seconds what the sale does is measured, `consumers.rules.admission_rate` decides, and the decision is written to the
room. Every second the pace goes out to everybody (`RoomPulse`), with the state that the next leader goes on from: a change of
leaders must not begin slowly again.

Two of the measures are what another process can see of them, not the thing itself. The payment breaker is inside the payment
consumers: here it shows as payments that were asked for and stay unanswered. The age of commands is worked out from the depth
of their queue (`command_backlog`).
"""

import logging
import time
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from consumers.rules.admission_rate import (
    Measured,
    RateDecision,
    RateGoals,
    RateReason,
    RateState,
    decide_admission_rate,
)
from consumers.rules.line_pace import LineCounts, LinePace
from consumers.waiting_rooms.command_backlog import CommandBacklog, age_ms
from consumers.waiting_rooms.figures import NO_SHOW_SHARE, RATE, WANTED_RATE, RoomFigures
from contracts.ids import EventId
from contracts.waiting_line import Pace
from db.postgres import TRANSIENT_ERRORS, Pool
from db.sale_measures import CheckoutMeasures, SeatCounts, count_seats, count_unanswered_payments, measure_checkouts
from db.waiting_room import RoomSettings, Round, WaitingRooms
from db.waiting_room_observations import RoomPulse, WaitingRoomObservations

log = logging.getLogger(__name__)

STEER_EVERY_SECONDS: Final = 2.0
# The first look at a sale goes a little way back only: what was before says nothing about now.
FIRST_STEP_SECONDS: Final = STEER_EVERY_SECONDS

# A provider that answers does so within a few seconds. Fewer than a breaker's worth of silent ones is somebody's odd card.
UNANSWERED_FROM_SECONDS: Final = 15.0
UNANSWERED_TO_SECONDS: Final = 600.0
UNANSWERED_MIN: Final = 5

SEATS_PER_BUYER: Final = 2.0  # until an order has been seen
TURNS_MIN: Final = 20  # finished turns before a share of them means anything
# A change of the rate by less than this is not worth a line in the log of the process.
TOLD_FROM_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class RoomCounts:
    """What the room has counted since it was made, from its facts, as of `at_ms` of Redis's clock."""

    at_ms: int
    admitted: int
    joined: int
    returned: int
    claimed: int
    missed: int

    @classmethod
    def of(cls, facts: dict[str, str]) -> "RoomCounts":
        """Counters that are not there have counted nothing yet."""
        names = ("tokens_at", "A", "seq", "R", "C", "N")
        return cls(*(int(facts.get(name, 0)) for name in names))


class Steering:
    """One room's rate and capacity, under one leadership."""

    def __init__(
        self,
        pool: Pool,
        rooms: WaitingRooms,
        observations: WaitingRoomObservations,
        backlog: CommandBacklog,
        figures: RoomFigures,
        event_id: EventId,
    ) -> None:
        self._pool, self._rooms, self._observations, self._backlog = pool, rooms, observations, backlog
        self._figures, self._event_id = figures, event_id
        defaults = RoomSettings(capacity=0, rate_per_second=0)
        self._base = Pace(
            near_rank=defaults.near_rank,
            near_silence_seconds=defaults.near_ms / 1000,
            deep_silence_seconds=defaults.deep_ms / 1000,
        )
        self._line = LinePace(self._base)
        self._state: RateState | None = None
        self._decision: RateDecision | None = None
        self._stepped_at: float | None = None
        self._counts: RoomCounts | None = None
        self._changes = 0
        self._seats: SeatCounts | None = None
        self._first: tuple[int, int] | None = None  # seats sold, and turns finished, when this leadership began
        self._seats_per_buyer, self._deviation = SEATS_PER_BUYER, 0.0

    @property
    def decision(self) -> RateDecision | None:
        """What was decided last."""
        return self._decision

    async def look_at_seats(self) -> SeatCounts:
        """Where the seats are now; raises PostgreSQL's errors."""
        self._seats = await count_seats(self._pool, self._event_id)
        return self._seats

    def begin_slowly(self) -> None:
        """The room has just been opened, or goes on after a stop."""
        self._state = replace(self._state or RateState(), started_for_seconds=0.0)
        self._stepped_at = None
        self._line.forget_rates()

    async def step(self, facts: dict[str, str], active: int, goals: RateGoals) -> RateDecision:
        """Decide, and write it to the room; raises one of REDIS_AWAY."""
        state = self._state or await self._state_of_before()
        counts = RoomCounts.of(facts)
        measured = await self._measure(counts, active, goals)
        decision = decide_admission_rate(state, measured, goals)
        await self._rooms.steer(
            self._event_id,
            capacity=decision.capacity,
            rate_per_second=decision.rate,
            why=decision.reason.value,
        )
        self._tell(decision, goals)
        self._state, self._decision, self._counts = decision.state, decision, counts
        self._stepped_at = time.monotonic()
        if decision.reason is RateReason.SLOW_START:
            self._line.forget_rates()
        return decision

    def is_due(self) -> bool:
        """Is it time for the next step?"""
        return self._stepped_at is None or time.monotonic() - self._stepped_at >= STEER_EVERY_SECONDS

    async def publish_pulse(self, facts: dict[str, str], last_round: Round) -> None:
        """Tell everybody how the line moves; raises one of REDIS_AWAY."""
        counts = RoomCounts.of(facts)
        self._line.observe(
            LineCounts(counts.at_ms / 1000, last_round.waiting, counts.admitted, counts.joined, counts.returned)
        )
        self._line.base = self._base_now(counts, last_round.active)
        decision = self._decision
        pulse = RoomPulse(
            at_ms=counts.at_ms,
            pace=self._line.pace,
            reason=decision.reason.value if decision else RateReason.STOPPED.value,
            rate_per_second=decision.rate if decision else 0.0,
            state=asdict(self._state) if self._state else {},
        )
        await self._observations.publish_pulse(self._event_id, pulse)

    # ---- measuring

    async def _measure(self, counts: RoomCounts, active: int, goals: RateGoals) -> Measured:
        seconds = FIRST_STEP_SECONDS if self._stepped_at is None else time.monotonic() - self._stepped_at
        before = self._counts or counts
        base = Measured(
            seconds=seconds,
            claimed=max(0, counts.claimed - before.claimed),
            missed=max(0, counts.missed - before.missed),
        )
        try:
            seats, checkouts = await self.look_at_seats(), await measure_checkouts(self._pool, self._event_id)
            are_payments_down = await self._are_payments_down(checkouts)
        except TRANSIENT_ERRORS as problem:
            # Whoever is let in now finds nobody who can sell: as late as commands can be.
            log.warning("sale_not_measured", extra={"event_id": self._event_id, "reason": repr(problem)})
            return replace(base, command_age_ms=goals.command_age_ms * 10)
        depth = await self._backlog.find_depth(self._event_id)
        changes, self._changes = seats.change_count - (self._changes or seats.change_count), seats.change_count
        if checkouts.seats_per_order is not None:
            self._seats_per_buyer = checkouts.seats_per_order
            self._deviation = checkouts.seats_per_order_deviation
        return replace(
            base,
            checkout_p95_ms=checkouts.p95_ms,
            command_age_ms=age_ms(depth, changes_per_second=changes / seconds),
            are_payments_down=are_payments_down,
            seats_left=seats.available,
            seats_held=seats.held,
            seats_per_buyer=self._seats_per_buyer,
            buyers_per_turn=self._buyers_per_turn(self._turns_finished(counts, active)),
        )

    async def _are_payments_down(self, checkouts: CheckoutMeasures) -> bool:
        unanswered = await count_unanswered_payments(
            self._pool, from_seconds=UNANSWERED_FROM_SECONDS, to_seconds=UNANSWERED_TO_SECONDS
        )
        return unanswered >= UNANSWERED_MIN and unanswered > checkouts.order_count

    def _turns_finished(self, counts: RoomCounts, active: int) -> int:
        return max(0, counts.claimed - active)

    def _buyers_per_turn(self, finished: int) -> float:
        """How many of those who were inside have bought, since this leadership began."""
        sold = self._seats.sold if self._seats else 0
        first_sold, first_finished = self._first = self._first or (sold, finished)
        turns = finished - first_finished
        if turns < TURNS_MIN:
            return 1.0
        return min(1.0, max(0.0, sold - first_sold) / self._seats_per_buyer / turns)

    def _base_now(self, counts: RoomCounts, active: int) -> Pace:
        finished = self._turns_finished(counts, active)
        share = self._buyers_per_turn(finished)
        mean, deviation = self._seats_per_buyer, self._deviation
        # Who buys nothing takes no seat: the spread of that, and of how many the others take.
        variance = share * (mean**2 + deviation**2) - (share * mean) ** 2
        turns = finished - (self._first[1] if self._first else finished)
        decision = self._decision
        return self._base.model_copy(
            update={
                "intended_per_second": decision.intended if decision else None,
                "delay_seconds": decision.delay_seconds if decision else 0.0,
                "seats_left": self._seats.available if self._seats else None,
                "seats_per_turn": share * mean,
                "seats_per_turn_deviation": max(0.0, variance) ** 0.5,
                "turns_observed": turns,
            }
        )

    # ---- from one leader to the next, and to operators

    async def _state_of_before(self) -> RateState:
        pulse = await self._observations.find_pulse(self._event_id)
        known = {field.name for field in fields(RateState)}
        return RateState(**{name: value for name, value in (pulse.state if pulse else {}).items() if name in known})

    def _tell(self, decision: RateDecision, goals: RateGoals) -> None:
        self._figures.set(RATE, decision.rate)
        self._figures.set(WANTED_RATE, goals.arrivals_per_second)
        self._figures.set(NO_SHOW_SHARE, 1 - decision.state.show_share)
        before = self._decision
        if before is not None and not _differs(before, decision):
            return
        told = {"rate_per_second": round(decision.rate, 2), "capacity": decision.capacity}
        log.info("waiting_room_steered", extra={"event_id": self._event_id, **told, "reason": decision.reason.value})


def _differs(before: RateDecision, now: RateDecision) -> bool:
    if before.reason is not now.reason or before.capacity != now.capacity:
        return True
    return abs(before.rate - now.rate) > TOLD_FROM_SHARE * max(before.rate, now.rate)
