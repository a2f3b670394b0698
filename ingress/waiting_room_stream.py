"""How does the head of the line hear of its turn at once?

Server-Sent Events, for those who are near: their position as it changes, their turn within a second, and what becomes of the
room. One look at the shared snapshot a second serves all who listen to one room; Redis is asked for a place of its own only
when its turn may have come, and now and then as a sign of life.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sanic import Request

from contracts.ids import EventId, UserId
from contracts.value import Value
from contracts.waiting_line import Outlook, Snapshot, outlook_of, shown_after
from contracts.waiting_room import Phase, PlaceId, PlaceState
from db.waiting_room import ROOM_AWAY
from ingress.responses import Refusal
from ingress.seat_stream import EVENT_STREAM, HEADERS, SeatStream
from ingress.taken_connection import OnGone, take_connection
from ingress.waiting_room_positions import PlaceAnswer, RoomPositions
from ingress.waiting_room_snapshots import RoomSnapshots

log = logging.getLogger(__name__)

__all__ = ["EVENT_STREAM", "FRAMES", "HeadStreams", "PlaceFrame", "RoomFrame", "is_near_the_head"]

NEAR_RANK: Final = 2_000
NEAR_SECONDS: Final = 60.0
TELL_SECONDS: Final = 1.0
# Well within the time after which somebody near the front is missed.
EXACT_SECONDS: Final = 20.0
EXACT_SECONDS_READY: Final = 3.0
COMMENT = b":\n\n"


class PlaceFrame(PlaceAnswer):
    """`place`: where you stand now. With state `ready` it is your turn: claim it."""


class RoomFrame(Value):
    """`room`: the room has entered another phase, or lets people in at another pace, and why."""

    phase: Phase
    reason: str


FRAMES = (PlaceFrame, RoomFrame)


class HeadStream(SeatStream):
    """One listener's connection."""

    def say(self, name: str, value: Value) -> None:
        """Send one event."""
        self._write(f"event: {name}\ndata: {value.model_dump_json()}\n\n".encode())

    def keep_open(self) -> None:
        """Send a comment, so that nobody in between takes the connection for dead."""
        self._write(COMMENT)


@dataclass(eq=False, slots=True)
class Listener:
    """Somebody who listens, what they were told last, and when we last asked exactly."""

    stream: HeadStream
    place_id: PlaceId
    user_id: UserId
    answer: PlaceAnswer
    exact_at: float
    said_at: float

    def is_due(self, room: Snapshot, now: float) -> bool:
        """Is it time to ask Redis for this place?"""
        since = now - self.exact_at
        if self.answer.state is not PlaceState.WAITING:
            return since >= EXACT_SECONDS_READY
        ticket = self.answer.ticket
        is_in_line = ticket is not None and room.points and ticket >= room.points[0].ticket
        return since >= EXACT_SECONDS or not is_in_line


class HeadStreams:
    """Everybody who listens to a room in this process."""

    def __init__(self, snapshots: RoomSnapshots, positions: RoomPositions, *, heartbeat_seconds: float) -> None:
        self._snapshots = snapshots
        self._positions = positions
        self._heartbeat_seconds = heartbeat_seconds
        self._listeners: dict[EventId, set[Listener]] = {}
        self._tasks: dict[EventId, asyncio.Task[None]] = {}

    async def open(
        self,
        request: Request,
        event_id: EventId,
        place_id: PlaceId,
        user_id: UserId,
        answer: PlaceAnswer,
        on_gone: OnGone,
    ) -> None:
        """Let them listen from now on; raises RequestCancelled."""
        stream, now = HeadStream(), time.monotonic()
        listener = Listener(stream, place_id, user_id, answer, exact_at=now, said_at=now)

        def gone() -> None:
            self._listeners.get(event_id, set()).discard(listener)
            on_gone()

        await take_connection(request, stream, status=200, headers=HEADERS, content_type=EVENT_STREAM, on_gone=gone)
        stream.greet()
        stream.say("place", answer)
        self._listeners.setdefault(event_id, set()).add(listener)
        if event_id not in self._tasks:
            self._tasks[event_id] = asyncio.create_task(self._tell_while_they_listen(event_id), name="head of the line")

    @property
    def count(self) -> int:
        """How many listen."""
        return sum(map(len, self._listeners.values()))

    def end(self) -> None:
        """Send everybody away; they come back to another process."""
        for listeners in self._listeners.values():
            for listener in tuple(listeners):
                listener.stream.end()

    async def close(self) -> None:
        """Tell nobody any more."""
        self.end()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell_while_they_listen(self, event_id: EventId) -> None:
        told: RoomFrame | None = None
        try:
            while self._listeners.get(event_id):
                with suppress(*ROOM_AWAY, Refusal):
                    told = await self._tell(event_id, told)
                await asyncio.sleep(TELL_SECONDS)
        finally:
            del self._tasks[event_id]
            if not self._listeners.get(event_id):
                self._listeners.pop(event_id, None)

    async def _tell(self, event_id: EventId, told: RoomFrame | None) -> RoomFrame:
        """One round; returns how the room was said to be."""
        room, now = (await self._snapshots.get(event_id)).snapshot, time.monotonic()
        frame = RoomFrame(phase=room.phase, reason=room.reason)
        listeners = tuple(self._listeners[event_id])
        if frame != told:
            for listener in listeners:
                listener.stream.say("room", frame)
        is_changed = told is not None and frame.phase is not told.phase
        due = [one for one in listeners if is_changed or one.is_due(room, now)]
        await asyncio.gather(*(self._tell_exactly(event_id, listener) for listener in due))
        for listener in set(listeners).difference(due):
            self._tell_by(room, listener, now)
        return frame

    async def _tell_exactly(self, event_id: EventId, listener: Listener) -> None:
        try:
            told = await self._positions.ask_exactly(event_id, listener.place_id, listener.user_id)
        except Refusal:
            # Another place of theirs counts now; this one has nothing more to hear.
            listener.stream.end()
            return
        listener.exact_at = time.monotonic()
        self._say(listener, told.answer)
        if told.answer.state is PlaceState.GONE:
            listener.stream.end()

    def _tell_by(self, room: Snapshot, listener: Listener, now: float) -> None:
        before = listener.answer
        if before.state is PlaceState.WAITING and before.ticket is not None:
            outlook = shown_after(before.outlook, outlook_of(before.ticket, room))
            self._say(listener, before.model_copy(update={"outlook": outlook, "total": room.waiting}))
        if now - listener.said_at >= self._heartbeat_seconds:
            listener.said_at = now
            listener.stream.keep_open()

    def _say(self, listener: Listener, answer: PlaceAnswer) -> None:
        """Tell it if it says anything new: a time that is shorter by a second is none."""
        if _gist(answer) != _gist(listener.answer):
            listener.said_at = time.monotonic()
            listener.stream.say("place", answer)
            listener.answer = answer


def is_near_the_head(answer: PlaceAnswer) -> bool:
    """May somebody who stands there listen?"""
    if answer.state is not PlaceState.WAITING:
        return answer.state is not PlaceState.GONE
    outlook = answer.outlook
    if outlook is None:
        return False
    return outlook.people_ahead < NEAR_RANK or (outlook.band is not None and outlook.band.p50 < NEAR_SECONDS)


def _gist(answer: PlaceAnswer) -> tuple[object, ...]:
    outlook: Outlook | None = answer.outlook
    return answer.state, answer.phase, answer.until, outlook and outlook.position
