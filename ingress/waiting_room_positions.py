"""Where does somebody stand, and when may they ask again?

Asked exactly, a place costs Redis a call; so whoever asks sooner than they were told hears the last answer again, and deep in
a large line the position is reckoned from the snapshot that everybody shares, and signs of life travel in one call a second.
What is shown never gets worse without a reason (contracts/waiting_line.py).
"""

import asyncio
import logging
import math
import random
import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from pydantic import AwareDatetime, Field
from sanic import HTTPResponse

from contracts.ids import EventId, UserId
from contracts.settings import Settings
from contracts.value import Value
from contracts.waiting_line import (
    LineReason,
    Outlook,
    Snapshot,
    outlook_at,
    outlook_of,
    poll_after_seconds,
    shown_after,
)
from contracts.waiting_room import Gone, Phase, PlaceId, PlaceState
from db import waiting_room
from db.waiting_room import ROOM_AWAY, Refused, Standing, WaitingRooms
from db.waiting_room_observations import ShownOutlook, WaitingRoomObservations, shown_outlook
from ingress.responses import ProblemCode, Refusal, json_response, problem
from ingress.waiting_room_snapshots import BEFORE_OPENING, RoomSnapshots
from ingress.waiting_room_tokens import ShownPlace

log = logging.getLogger(__name__)

# Clocks of clients are no better than this.
EARLY_GRACE_SECONDS: Final = 0.25
# A dozen tabs of one person ask in step; what asks more often than they would is a program that does not listen.
EARLY_ASKS_MAX: Final = 20
# About a kilobyte each.
TOLD_MAX: Final = 50_000
# However deep: once in this time we ask exactly, and find out who has left on another device.
RECKONED_SECONDS_MAX: Final = 300.0
READY_POLL_SECONDS: Final = 5.0
ACTIVE_POLL_SECONDS: Final = 30.0
GATHERED_SECONDS: Final = 1.0
# Of a long line a sample says as much as everybody.
SAMPLED_WHOLE_MAX: Final = 1_000
SAMPLED_SHARE: Final = 0.01

SERVED: Final = frozenset({Phase.OPEN, Phase.PAUSED, Phase.DRAINING})


class SaleNow(Value):
    """How fast the line moves, and why."""

    is_paused: bool
    rate_per_second: float | None = Field(None, description="admissions a second that are aimed at")
    reason: str = Field("", description="why it is paused, or as slow as it is")
    seats_left: int | None = None


class PlaceAnswer(Value):
    """Where you stand. In the draw there is no position yet: the order in which you came does not matter."""

    event_id: EventId
    state: PlaceState
    admitted: bool = Field(description="true while you may buy")
    phase: Phase
    in_draw: bool = Field(False, description="you are in the draw; the order in which you came does not matter")
    gone: Gone | None = Field(None, description="with state `gone`: why")
    ticket: int | None = Field(None, description="your number in the order; none before the draw")
    outlook: Outlook | None = Field(
        None, description="position, people ahead, time and chance; while you wait in a line"
    )
    total: int = Field(ge=0, description="people in line")
    until: AwareDatetime | None = Field(
        None, description="`ready`: claim before; `active`: buy before; `gone` after a missed turn: join again before"
    )
    poll_after_seconds: float = Field(description="ask again then; sooner, you hear the same")
    heartbeat_seconds: float = Field(description="ask at least this often, or you are taken to have left")
    snapshot_age_ms: int = Field(ge=0)
    sale: SaleNow


@dataclass(slots=True)
class Told:
    """What somebody was told, and when they may ask again; times by our own monotonic clock."""

    answer: PlaceAnswer
    epoch: int
    told_at: float
    exact_at: float
    early_count: int = 0

    @property
    def ask_at(self) -> float:
        """When it is time to ask again."""
        return self.told_at + self.answer.poll_after_seconds

    @property
    def outlook(self) -> Outlook | None:
        """What was shown last."""
        return self.answer.outlook


class RoomPositions:
    """Everybody whom this process has told where they stand."""

    def __init__(
        self,
        settings: Settings,
        rooms: WaitingRooms,
        snapshots: RoomSnapshots,
        observations: WaitingRoomObservations,
    ) -> None:
        self._settings = settings
        self._rooms = rooms
        self._snapshots = snapshots
        self._signs = SignsOfLife(rooms, observations)
        self._told: OrderedDict[PlaceId, Told] = OrderedDict()
        self.early_count = 0
        self.reckoned_count = 0

    async def ask(self, event_id: EventId, shown: ShownPlace, user_id: UserId) -> PlaceAnswer:
        """Where the place stands; raises Refusal for one that is not theirs, or for asking far too often."""
        now = time.monotonic()
        told = self._told.get(shown.place_id)
        if told is not None and now < told.ask_at - EARLY_GRACE_SECONDS:
            return self._again(told, now)
        room = (await self._snapshots.get(event_id)).snapshot
        if told is not None and self._may_reckon(told, room, now):
            return self._reckon(shown.place_id, told, room)
        return (await self.ask_exactly(event_id, shown.place_id, user_id)).answer

    async def ask_exactly(self, event_id: EventId, place_id: PlaceId, user_id: UserId) -> Told:
        """The same, from Redis."""
        standing = await self._rooms.poll(event_id, place_id, user_id)
        if isinstance(standing, Refused):
            raise refusal_of(standing)
        return await self.tell(event_id, standing)

    async def tell(self, event_id: EventId, standing: Standing) -> Told:
        """What to tell of a place whose standing has just been heard."""
        self._snapshots.hear_clock(standing.now_ms)
        room = (await self._snapshots.get(event_id)).snapshot
        before = self._told.get(standing.place_id)
        outlook = None
        if standing.state is PlaceState.WAITING and standing.rank is not None:
            reason = _reason(before, room, standing.epoch)
            outlook = shown_after(
                before.outlook if before else None, outlook_at(standing.rank, room.pace), reason=reason
            )
            self._sample(event_id, standing.ticket, room, before, reason)
        answer = _answer(event_id, standing, room, outlook, standing.now_ms)
        return self._keep(standing.place_id, answer, standing.epoch, is_exact=True)

    def _again(self, told: Told, now: float) -> PlaceAnswer:
        told.early_count += 1
        self.early_count += 1
        left = max(0.0, told.ask_at - now)
        if told.early_count > EARLY_ASKS_MAX:
            headers = {"retry-after": str(math.ceil(left) or 1)}
            raise Refusal(problem(ProblemCode.TOO_EARLY, headers=headers))
        return told.answer.model_copy(update={"poll_after_seconds": round(left, 1)})

    def _may_reckon(self, told: Told, room: Snapshot, now: float) -> bool:
        """Deep in a large line, heard of lately, and nothing has happened that Redis alone knows."""
        answer, pace = told.answer, room.pace
        return (
            room.waiting > self._settings.room_exact_max
            and answer.state is PlaceState.WAITING
            and answer.ticket is not None
            and room.phase in SERVED
            and told.epoch == room.epoch
            and now - told.exact_at < RECKONED_SECONDS_MAX
            # Whoever was silent for longer may have been taken out.
            and now - told.told_at < pace.deep_silence_seconds / 2
            and room.rank_of(answer.ticket) >= pace.near_rank
        )

    def _reckon(self, place_id: PlaceId, told: Told, room: Snapshot) -> PlaceAnswer:
        self.reckoned_count += 1
        event_id, ticket = told.answer.event_id, told.answer.ticket or 0
        self._signs.heard_of(event_id, place_id)
        reason = _reason(told, room, room.epoch)
        outlook = shown_after(told.outlook, outlook_of(ticket, room), reason=reason)
        self._sample(event_id, ticket, room, told, reason)
        now_ms = self._snapshots.now_ms()
        standing = _reckoned_standing(place_id, ticket, room, now_ms)
        answer = _answer(event_id, standing, room, outlook, now_ms)
        return self._keep(place_id, answer, told.epoch, is_exact=False).answer

    def _keep(self, place_id: PlaceId, answer: PlaceAnswer, epoch: int, *, is_exact: bool) -> Told:
        now = time.monotonic()
        before = self._told.pop(place_id, None)
        exact_at = now if is_exact or before is None else before.exact_at
        told = self._told[place_id] = Told(answer, epoch, now, exact_at)
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        return told

    def _sample(
        self, event_id: EventId, ticket: int, room: Snapshot, before: Told | None, reason: LineReason | None
    ) -> None:
        """Note what was shown, as of the snapshot: its count of admissions is what the prediction is measured from."""
        if room.waiting > SAMPLED_WHOLE_MAX and random.random() > SAMPLED_SHARE:  # noqa: S311 -- a sample, no secret
            return
        outlook = shown_after(before.outlook if before else None, outlook_of(ticket, room), reason=reason)
        self._signs.shown(event_id, shown_outlook(ticket, at_ms=room.at_ms, admitted=room.admitted, outlook=outlook))


class SignsOfLife:
    """Gathers for a second who was heard of, and what they were shown, and passes it on in one call for each room."""

    def __init__(self, rooms: WaitingRooms, observations: WaitingRoomObservations) -> None:
        self._rooms = rooms
        self._observations = observations
        self._heard: defaultdict[EventId, set[PlaceId]] = defaultdict(set)
        self._shown: defaultdict[EventId, list[ShownOutlook]] = defaultdict(list)
        self._passing_on: asyncio.Task[None] | None = None

    def heard_of(self, event_id: EventId, place_id: PlaceId) -> None:
        """They are still there."""
        self._heard[event_id].add(place_id)
        self._soon()

    def shown(self, event_id: EventId, outlook: ShownOutlook) -> None:
        """They were shown that."""
        self._shown[event_id].append(outlook)
        self._soon()

    def _soon(self) -> None:
        if self._passing_on is None:
            self._passing_on = asyncio.create_task(self._pass_on_until_quiet())

    async def _pass_on_until_quiet(self) -> None:
        try:
            while self._heard or self._shown:
                await asyncio.sleep(GATHERED_SECONDS)
                await self._pass_on()
        finally:
            self._passing_on = None

    async def _pass_on(self) -> None:
        heard, self._heard = self._heard, defaultdict(set)
        shown, self._shown = self._shown, defaultdict(list)
        try:
            for event_id, place_ids in heard.items():
                await self._rooms.heartbeat_many(event_id, tuple(place_ids))
            for event_id, outlooks in shown.items():
                await self._observations.note_shown(event_id, outlooks)
        except ROOM_AWAY as reason:
            # They are heard of again with their next question, long before they are missed.
            log.warning("signs_of_life_lost", extra={"error": repr(reason)})


def position_response(answer: PlaceAnswer, status: HTTPStatus = HTTPStatus.OK) -> HTTPResponse:
    """The answer, with the time to ask again in Retry-After too."""
    return json_response(answer, status, retry_after(answer))


def retry_after(answer: PlaceAnswer) -> dict[str, str]:
    """The header that says when to ask again, in whole seconds."""
    return {"retry-after": str(math.ceil(answer.poll_after_seconds))}


_PROBLEM_OF: Final = {
    waiting_room.Refusal.NO_ROOM: ProblemCode.ROOM_RESTORING,  # there was a snapshot of it a moment ago
    waiting_room.Refusal.CLOSED: ProblemCode.ROOM_CLOSED,
    waiting_room.Refusal.RESTORING: ProblemCode.ROOM_RESTORING,
    waiting_room.Refusal.NOT_YOURS: ProblemCode.PLACE_UNKNOWN,
    waiting_room.Refusal.PLACE_TAKEN: ProblemCode.BUSY,  # two random ids were equal: the next one will not be
}


def refusal_of(refused: Refused) -> Refusal:
    """What a room's "no" is in HTTP."""
    detail = f"the room is {refused.phase.value}" if refused.phase is not None else ""
    return Refusal(problem(_PROBLEM_OF[refused.reason], detail))


def _reason(before: Told | None, room: Snapshot, epoch: int) -> LineReason | None:
    """Why what is shown may be worse than before."""
    if before is None:
        return None
    if before.answer.in_draw:
        return LineReason.DRAWN
    if before.epoch != epoch:
        return LineReason.RESTORED
    return LineReason.PAUSED if room.phase is Phase.PAUSED else None


def _reckoned_standing(place_id: PlaceId, ticket: int, room: Snapshot, now_ms: int) -> Standing:
    return Standing(
        place_id=place_id,
        state=PlaceState.WAITING,
        ticket=ticket,
        rank=round(room.rank_of(ticket)),
        until_ms=None,
        gone=None,
        is_new=False,
        phase=room.phase,
        now_ms=now_ms,
        epoch=room.epoch,
        log_index=0,
    )


def _answer(event_id: EventId, standing: Standing, room: Snapshot, outlook: Outlook | None, now_ms: int) -> PlaceAnswer:
    is_ordered = standing.phase not in BEFORE_OPENING
    heartbeat = _heartbeat_seconds(standing, room)
    return PlaceAnswer(
        event_id=event_id,
        state=standing.state,
        admitted=standing.state is PlaceState.ACTIVE,
        phase=standing.phase,
        in_draw=not is_ordered and standing.state is PlaceState.WAITING,
        gone=standing.gone,
        ticket=standing.ticket if is_ordered else None,
        outlook=outlook,
        total=room.waiting,
        until=_moment(standing.until_ms),
        poll_after_seconds=round(_poll_after(standing, room, outlook, now_ms, heartbeat), 1),
        heartbeat_seconds=heartbeat,
        snapshot_age_ms=max(0, now_ms - room.at_ms),
        sale=SaleNow(
            is_paused=standing.phase is Phase.PAUSED,
            rate_per_second=room.pace.intended_per_second,
            reason=room.reason,
            seats_left=room.pace.seats_left,
        ),
    )


def _heartbeat_seconds(standing: Standing, room: Snapshot) -> float:
    # Before there is an order, the ticket of the door is the most that can be in front.
    rank = standing.ticket if standing.rank is None else standing.rank
    return room.pace.near_heartbeat_seconds if rank < room.pace.near_rank else room.pace.deep_heartbeat_seconds


def _poll_after(standing: Standing, room: Snapshot, outlook: Outlook | None, now_ms: int, heartbeat: float) -> float:
    dice = random.random()  # noqa: S311 -- spreads load, guards nothing
    if standing.state is PlaceState.READY:
        return READY_POLL_SECONDS
    if standing.state is PlaceState.ACTIVE:
        return ACTIVE_POLL_SECONDS
    time_left = math.inf
    if outlook is not None and outlook.band is not None and standing.phase is not Phase.PAUSED:
        time_left = outlook.band.p50
    elif room.opens_at_ms is not None:
        time_left = max(0.0, (room.opens_at_ms - now_ms) / 1000)
    # A question is a sign of life as well, so nobody is told to be silent for longer; and never all at once.
    return min(poll_after_seconds(time_left, jitter=dice), heartbeat * (1 - 0.2 * dice))


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
