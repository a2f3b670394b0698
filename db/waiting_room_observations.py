"""How fast does a room's line move, as its leader measures it, and what have people been shown of it?

Two keys beside the room's own in Redis, with its hash tag. Both may be lost at any time: the line goes on without them. Each
method raises one of `db.redis.REDIS_AWAY`.

- `pulse`: what the leader publishes about once a second: the pace that positions and times are computed from, and why the
  rate is what it is. It expires when nobody leads.
- `shown`: samples of what people were shown. The leader takes them out, and compares each with what then happened.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from redis.asyncio import Redis

from contracts.ids import EventId
from contracts.value import Value
from contracts.waiting_line import Outlook, Pace

# A leader that has said nothing for so long knows no better than anybody else.
PULSE_SECONDS = 30
# Some kilobytes a room: of more screens than that at once, the oldest are dropped.
SHOWN_MAX = 10_000
SHOWN_SECONDS = 3600
SHOWN_PER_CALL = 1_000


class RoomPulse(Value):
    """How the line moves, and why so. `state` is the leader's own, for whoever leads after it."""

    at_ms: int = Field(description="milliseconds since 1970 by Redis's clock")
    pace: Pace = Pace()
    reason: str = Field("steady", description="why the rate is what it is: consumers.rules.admission_rate.RateReason")
    rate_per_second: float = 0.0
    state: dict[str, float] = Field(default_factory=dict)


class ShownOutlook(Value):
    """What somebody was shown, and what had happened by then: what they were promised."""

    ticket: int = Field(ge=1, description="the drawn one, in a room with a draw")
    at_ms: int = Field(description="of the snapshot that it was computed from")
    admitted: int = Field(ge=0, description="`admitted` of that snapshot: admissions since the room was made")
    position: int = Field(ge=1)
    p10: float | None = Field(None, description="seconds from the snapshot; None when no time was shown")
    p50: float | None = None
    p90: float | None = None


def shown_outlook(ticket: int, *, at_ms: int, admitted: int, outlook: Outlook) -> ShownOutlook:
    """What to note of an outlook that somebody was shown."""
    band = outlook.band
    times = {} if band is None else {"p10": band.p10, "p50": band.p50, "p90": band.p90}
    return ShownOutlook(ticket=ticket, at_ms=at_ms, admitted=admitted, position=outlook.position, **times)


class WaitingRoomObservations:
    """Of all events; one for each process, on its own client of Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish_pulse(self, event_id: EventId, pulse: RoomPulse) -> None:
        """Tell everybody how the line moves."""
        await self._redis.set(_key(event_id, "pulse"), pulse.model_dump_json(), ex=PULSE_SECONDS)

    async def find_pulse(self, event_id: EventId) -> RoomPulse | None:
        """How the line moves; None while nobody leads. Raises pydantic's ValidationError for one of a newer version."""
        written = await self._redis.get(_key(event_id, "pulse"))
        return None if written is None else RoomPulse.model_validate_json(written)

    async def note_shown(self, event_id: EventId, shown: Sequence[ShownOutlook]) -> None:
        """Note what these people were shown: a sample of everybody is enough, one in a hundred of a large line."""
        if not shown:
            return
        key = _key(event_id, "shown")
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.rpush(key, *(one.model_dump_json(by_alias=False) for one in shown))
            pipeline.ltrim(key, -SHOWN_MAX, -1)
            pipeline.expire(key, SHOWN_SECONDS)
            await pipeline.execute()

    async def take_shown(self, event_id: EventId) -> list[ShownOutlook]:
        """At most a thousand of what was noted, the oldest first; whoever takes them has them alone."""
        written: Any = await self._redis.lpop(_key(event_id, "shown"), SHOWN_PER_CALL)
        return [ShownOutlook.model_validate_json(one) for one in written or ()]

    async def forget(self, event_id: EventId) -> None:
        """The room is gone."""
        await self._redis.unlink(_key(event_id, "pulse"), _key(event_id, "shown"))


def _key(event_id: EventId, name: str) -> str:
    return f"wr:{{{event_id}}}:{name}"
