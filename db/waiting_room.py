"""What is going on in an event's waiting room, and what changes in it?

The room lives in Redis and is changed only by the scripts in `db/lua/waiting_room*.lua`, each of which is one step: nobody
sees a room half-way. What many people do at once (join, poll, claim, …) shares round trips. All times are milliseconds
since 1970 by Redis's clock; no host of ours has a say in them. Every method raises one of `db.redis.REDIS_AWAY`, or
`CoalescerFull`; after either it may be called again, because each step is safe to repeat.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from contracts.ids import EventId, UserId
from contracts.settings import Settings
from contracts.waiting_room import Gone, KeptEntry, LogKind, Phase, PlaceId, PlaceState
from contracts.waiting_room_log import Person, RoomOnPaper
from db.coalescer import Coalescer, CoalescerFull
from db.redis import REDIS_AWAY, Script, ScriptCalls

# A healthy trip takes a few milliseconds, with the queue before it.
PLACES_TIMEOUT_SECONDS: Final = 0.25
# What one process does for everybody: a page of the draw takes Redis 15 ms, and thousands of polls may be before it.
LEADER_TIMEOUT_SECONDS: Final = 5.0
CALLS_PER_TRIP: Final = 500

# What any call may end in: nobody can say just now.
ROOM_AWAY: Final[tuple[type[Exception], ...]] = (*REDIS_AWAY, CoalescerFull)

# What one call may do at most, so that nobody waits long behind it: 500 admissions or 500 leavers take Redis 4 ms.
ADMITTED_MAX: Final = 500
SWEPT_MAX: Final = 500
PLACES_PER_CALL: Final = 1_000
DRAWN_PER_CALL: Final = 5_000
ENTRIES_PER_CALL: Final = 1_000
RESTORED_PER_CALL: Final = 500

# A dead leader is replaced within two seconds: this, and the fifth of a second after which another one asks.
LEADER_LEASE_MS: Final = 1_700
# A lease outlives the hold by this, so that whoever pays in the last second is not shown the door.
HOLD_GRACE_MS: Final = 60_000
SNAPSHOT_STEP: Final = 0.05
SNAPSHOT_FRESH_MS: Final = 1_000

# What people call needs all but the last two, and each key costs it 0.3 µs.
PLACES_KEY_COUNT: Final = 9
KEYS: Final = ("meta", "q", "q2", "hb", "rdy", "act", "pr", "out", "log", "lead", "snap")

# Whom a room stops: nobody while it has not been opened yet, or any more.
STOPS_NOBODY: Final = frozenset({None, Phase.CLOSED, Phase.ENDED})
# And whom it stops whatever lease they may have: everybody, before it has been opened.
STOPS_EVERYBODY: Final = frozenset({Phase.PRE, Phase.SEALING, Phase.RESTORING})

Item = TypeVar("Item")

# The number of keys, the keys, the function's name and its arguments; raw bytes among them.
Call = tuple[Any, ...]


# ---- what is asked and answered


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """How a room lets people in. Spans in milliseconds."""

    capacity: int  # how many may be ready or active at once
    rate_per_second: float
    burst: int = 0  # tokens kept from one round to the next, beyond one
    claim_ms: int = 120_000
    lease_ms: int = 900_000
    lease_cap_ms: int = 1_800_000  # no hold makes a lease longer than this, since the claim
    near_ms: int = 75_000  # silent for this long, somebody near the front is taken out
    deep_ms: int = 150_000  # and anybody
    near_rank: int = 2_000
    return_ms: int = 600_000  # how long after a missed turn one may return, once

    def __post_init__(self) -> None:
        if self.capacity < 0 or not 0 <= self.rate_per_second <= 1_000_000 or self.burst < 0:
            raise ValueError("capacity, rate and burst are numbers from 0")
        if min(self.claim_ms, self.lease_ms, self.lease_cap_ms, self.near_ms, self.deep_ms) < 1:
            raise ValueError("a span of nothing would put everybody out at once")


class Refusal(StrEnum):
    """Why nothing can be said of a place."""

    NO_ROOM = "no_room"
    CLOSED = "closed"  # nobody joins in this phase
    RESTORING = "restoring"  # try again: Redis was lost, and the room is being filled
    NOT_YOURS = "not_yours"  # it belongs to somebody else, or to nobody
    PLACE_TAKEN = "place_taken"  # the new place's id has been used before


class Refused(NamedTuple):
    """Nothing happened, and why."""

    reason: Refusal
    phase: Phase | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands. `rank` counts from 0 and is None where there is no order yet, or none any more."""

    place_id: PlaceId
    state: PlaceState
    ticket: int
    rank: int | None
    until_ms: int | None  # the end of the claim window, of the lease, or of the time to return after a missed turn
    gone: Gone | None
    is_new: bool
    phase: Phase
    now_ms: int
    epoch: int
    log_index: int  # where the log says that they joined


class Admissions(NamedTuple):
    """Who of the users asked about may buy: `lease_until_ms` is 0 for whoever has no lease now."""

    phase: Phase | None
    lease_until_ms: tuple[int, ...]

    @property
    def passes(self) -> tuple[bool, ...]:
        """For each user, in the order asked. Without a room everybody passes: whoever knows that there must be one,
        because the event has one, treats `phase is None` as a lost Redis and lets nobody pass."""
        if self.phase in STOPS_NOBODY:
            return (True,) * len(self.lease_until_ms)
        if self.phase in STOPS_EVERYBODY:
            return (False,) * len(self.lease_until_ms)
        return tuple(lease > 0 for lease in self.lease_until_ms)

    @property
    def is_known(self) -> bool:
        """False where nothing can be said of anybody: there is no room, it has just been made, or it is being filled again."""
        return self.phase not in (None, Phase.CLOSED, Phase.RESTORING)


class Configured(StrEnum):
    """What came of new settings."""

    CREATED = "created"
    ALTERED = "altered"
    NO_ROOM = "no_room"
    RESTORING = "restoring"


class PhaseChange(StrEnum):
    """What came of a new phase."""

    CHANGED = "changed"
    SAME = "same"
    ILLEGAL = "illegal"
    NO_ROOM = "no_room"


class RoundResult(StrEnum):
    """What came of a leader's round."""

    OK = "ok"
    FENCED = "fenced"  # another process leads
    NO_ROOM = "no_room"
    RESTORING = "restoring"


class Round(NamedTuple):
    """One round of a leader: how many came in and went out in it, and how many are where now."""

    result: RoundResult
    admitted: int = 0
    missed: int = 0
    leases_over: int = 0
    gave_up: int = 0
    waiting: int = 0
    ready: int = 0
    active: int = 0
    has_more_to_sweep: bool = False


class Sealing(NamedTuple):
    """An attempt at a draw: the cohort is everybody with a ticket of 1 … `cohort`."""

    attempt: int
    cohort: int


class DrawStep(StrEnum):
    """What came of a step of a draw."""

    OK = "ok"
    FENCED = "fenced"  # a later attempt is under way, or the room is not being sealed
    GAP = "gap"  # a page before this one is missing
    INCOMPLETE = "incomplete"  # somebody of the cohort has no drawn ticket yet
    ILLEGAL = "illegal"
    NO_ROOM = "no_room"


class CohortEntry(NamedTuple):
    """A join (`kind` J) or a demotion (D) of the cohort, from the log; `commitment` as hex."""

    kind: LogKind
    ticket: int
    place_id: PlaceId
    commitment: str
    rule: str


class CohortPage(NamedTuple):
    """A page of the cohort; the next one is after `next_after`, None at the end."""

    entries: list[CohortEntry]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What everybody computes their position from. `points` are (rank, ticket) at ranks growing by one step."""

    phase: Phase
    epoch: int
    at_ms: int
    held_until_ms: int  # nobody is admitted before: Redis was lost and has been restored
    cohort: int
    waiting: int
    ready: int
    active: int
    admitted: int
    joined: int
    head_ticket: int
    capacity: int
    rate_per_second: float
    points: tuple[tuple[int, int], ...]
    reason: str = ""  # why the phase is what it is, in the words of whoever changed it


class UnusableLog(Exception):
    """A room cannot be restored from this log; the message says what is wrong with it."""


# ---- the room


class RoomScript(Script):
    """One of the room's scripts, behind the words that all of them share."""

    def __init__(self, name: str, after: Script) -> None:
        super().__init__(name)
        self.text = after.text + self.text
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class RoomScripts:
    """The Lua that makes a room. Four scripts rather than one: each call pays for all functions of its script."""

    def __init__(self) -> None:
        words = Script("waiting_room")
        self.places = RoomScript("waiting_room_places", words)
        self.leader = RoomScript("waiting_room_leader", words)
        self.draw = RoomScript("waiting_room_draw", words)
        self.log = RoomScript("waiting_room_log", words)


class _Calls:
    """One script's functions, on a connection of their own."""

    def __init__(
        self, settings: Settings, script: Script, *, timeout_seconds: float, key_count: int = len(KEYS)
    ) -> None:
        self._calls = ScriptCalls(settings, script)
        self._key_count = key_count
        # Tests on a busy machine are more patient with Redis than a sale can be.
        self._timeout_seconds = max(timeout_seconds, settings.redis_timeout_seconds)
        self._coalescer: Coalescer[Call, Any] = Coalescer(self._run, batch_max=CALLS_PER_TRIP)

    async def ask(self, event_id: EventId, *words: Any) -> Any:
        """What the function named first answers to the other words."""
        return await self._coalescer.ask((*room_keys(event_id, self._key_count), *words))

    async def close(self) -> None:
        """Disconnect."""
        await self._calls.close()

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        async with asyncio.timeout(self._timeout_seconds):
            return await self._calls.run(calls)


class WaitingRooms:
    """The waiting rooms of all events."""

    def __init__(self, settings: Settings, scripts: RoomScripts | None = None) -> None:
        scripts = scripts or RoomScripts()
        self._places = _Calls(
            settings, scripts.places, timeout_seconds=PLACES_TIMEOUT_SECONDS, key_count=PLACES_KEY_COUNT
        )
        self._leader = _Calls(settings, scripts.leader, timeout_seconds=LEADER_TIMEOUT_SECONDS)
        self._draw = _Calls(settings, scripts.draw, timeout_seconds=LEADER_TIMEOUT_SECONDS)
        self._log = _Calls(settings, scripts.log, timeout_seconds=LEADER_TIMEOUT_SECONDS)

    async def close(self) -> None:
        """Disconnect."""
        for calls in (self._places, self._leader, self._draw, self._log):
            await calls.close()

    # ---- what people do

    async def join(self, event_id: EventId, user_id: UserId, place_id: PlaceId, commitment: str) -> Standing | Refused:
        """Give this account a place, unless it has one: then that one, whatever is asked for.

        `place_id` is new and random; `commitment` is 64 hex digits. Whoever missed their turn a moment ago is back at the
        head of the line, once, as after `claim`.
        """
        raw = bytes.fromhex(commitment)
        return _standing(await self._places.ask(event_id, "join", user_id.bytes, place_id, raw))

    async def poll(self, event_id: EventId, place_id: PlaceId, user_id: UserId) -> Standing | Refused:
        """Where they stand, exactly; also a sign of life."""
        return _standing(await self._places.ask(event_id, "poll", user_id.bytes, place_id))

    async def heartbeat_many(self, event_id: EventId, place_ids: Sequence[PlaceId]) -> int:
        """Signs of life of many places, whose owners somebody has checked. How many of them made a difference."""
        pages = _pages(place_ids, PLACES_PER_CALL)
        return sum(await asyncio.gather(*(self._places.ask(event_id, "heartbeat", *page) for page in pages)))

    async def claim(self, event_id: EventId, place_id: PlaceId, user_id: UserId) -> Standing | Refused:
        """Take one's turn: it worked if the state is ACTIVE. Again changes nothing, and prolongs nothing.

        Whoever missed their turn returns to the head of the line, once: the state is WAITING then.
        """
        return _standing(await self._places.ask(event_id, "claim", user_id.bytes, place_id))

    async def leave(self, event_id: EventId, place_id: PlaceId, user_id: UserId) -> Standing | Refused:
        """Give up the place, in whatever state; what it took is free at once."""
        return _standing(await self._places.ask(event_id, "leave", user_id.bytes, place_id))

    # ---- what the engine asks

    async def check(self, event_id: EventId, user_ids: Sequence[UserId]) -> Admissions:
        """Which of these users may touch a seat now; one call for a whole batch of commands, at most 1,024."""
        if not user_ids:
            return Admissions(None, ())
        phase, *leases = await self._places.ask(event_id, "check", *(user_id.bytes for user_id in user_ids))
        return Admissions(_phase(phase), tuple(leases))

    async def release(self, event_id: EventId, user_id: UserId) -> bool:
        """Their order is through, or their last hold is gone. True if that freed a slot."""
        return bool(await self._places.ask(event_id, "release", user_id.bytes))

    async def extend_lease(self, event_id: EventId, user_id: UserId, hold_until_ms: int) -> int | None:
        """A lease outlives its hold by a minute, up to its cap since the claim. When it ends; None without a lease."""
        wanted = hold_until_ms + HOLD_GRACE_MS
        return await self._places.ask(event_id, "extend", user_id.bytes, wanted) or None

    # ---- what operators and the leader do

    async def configure(self, event_id: EventId, settings: RoomSettings, *, why: str = "configured") -> Configured:
        """Make the room, closed, or change all its settings."""
        answer = await self._leader.ask(event_id, "configure", why, 1, *_flat(asdict(settings)))
        return Configured(_word(answer))

    async def steer(self, event_id: EventId, *, capacity: int, rate_per_second: float, why: str) -> Configured:
        """Change how many come in, and nothing else."""
        wanted = _flat({"capacity": capacity, "rate_per_second": rate_per_second})
        return Configured(_word(await self._leader.ask(event_id, "configure", why, 0, *wanted)))

    async def set_phase(self, event_id: EventId, phase: Phase, why: str) -> PhaseChange:
        """Pre, open, pause, drain, end. SEALING is begun by `begin_seal`, and ended by `finish_seal` alone."""
        return PhaseChange(_word(await self._leader.ask(event_id, "set_phase", phase.value, why)))

    async def end_hold(self, event_id: EventId, why: str) -> bool:
        """After a restore: admit again before every lease of before must have ended. True if that was still held."""
        return bool(await self._leader.ask(event_id, "end_hold", why))

    async def elect(self, event_id: EventId, process_id: str) -> int | None:
        """The fence of this process if it leads this room for the next LEADER_LEASE_MS; None if another does."""
        fence: int = await self._leader.ask(event_id, "elect", process_id, LEADER_LEASE_MS)
        return fence if fence > 0 else None

    async def resign(self, event_id: EventId, process_id: str) -> None:
        """Let another process lead at once."""
        await self._leader.ask(event_id, "resign", process_id)

    async def tick(
        self, event_id: EventId, fence: int, *, admit_max: int = ADMITTED_MAX, sweep_max: int = SWEPT_MAX
    ) -> Round:
        """One round: put out who is late or silent, then let in as many as rate and capacity allow."""
        limits = (min(admit_max, ADMITTED_MAX), min(sweep_max, SWEPT_MAX))
        word, *counts = await self._leader.ask(event_id, "tick", fence, *limits)
        if not counts:
            return Round(RoundResult(_word(word)))
        *numbers, more = counts
        return Round(RoundResult(_word(word)), *numbers)._replace(has_more_to_sweep=bool(more))

    async def remove(self, event_id: EventId) -> None:
        """Forget the room, its log too."""
        await self._log.ask(event_id, "remove")

    # ---- the draw

    async def begin_seal(self, event_id: EventId, why: str) -> Sealing | DrawStep:
        """Freeze the cohort, or begin again where somebody broke off; an earlier attempt can do nothing after this."""
        word, *numbers = await self._draw.ask(event_id, "begin_seal", why)
        return Sealing(*numbers) if numbers else DrawStep(_word(word))

    async def demote(self, event_id: EventId, rule: str, place_ids: Sequence[PlaceId]) -> int:
        """Have these drawn behind all others, before the cohort is frozen; each is logged. How many were there."""
        pages = _pages(place_ids, PLACES_PER_CALL)
        return sum([await self._draw.ask(event_id, "demote", rule, *page) for page in pages])

    async def read_cohort(self, event_id: EventId, *, after: int = -1, count: int = ENTRIES_PER_CALL) -> CohortPage:
        """A page of what the draw is over: everybody who joined before it, whoever has left since among them."""
        next_after, *fields = await self._draw.ask(event_id, "read_cohort", after, min(count, ENTRIES_PER_CALL))
        entries = [_cohort_entry(*fields[start : start + 5]) for start in range(0, len(fields), 5)]
        return CohortPage(entries, next_after if next_after >= 0 else None)

    async def record_root(self, event_id: EventId, attempt: int, root: str) -> DrawStep:
        """Publish the Merkle root of the cohort in the log, before the beacon speaks."""
        return DrawStep(_word(await self._draw.ask(event_id, "record_root", attempt, root)))

    async def write_drawn(
        self, event_id: EventId, attempt: int, *, first_ticket: int, place_ids: Sequence[PlaceId]
    ) -> DrawStep:
        """The places that drew `first_ticket` and those after it, at most 5,000; the pages in order, from ticket 1.

        Everybody of the cohort has a number; who has left is not written.
        """
        if len(place_ids) > DRAWN_PER_CALL:
            raise ValueError(f"at most {DRAWN_PER_CALL} places a page: everybody waits while it is written")
        return DrawStep(_word(await self._draw.ask(event_id, "write_drawn", attempt, first_ticket, *place_ids)))

    async def finish_seal(self, event_id: EventId, attempt: int, *, seed: str, beacon_round: int) -> DrawStep:
        """Swap the drawn order in, and open: at once, or not at all."""
        return DrawStep(_word(await self._draw.ask(event_id, "finish_seal", attempt, seed, beacon_round)))

    # ---- what is known of a room

    async def snapshot(
        self, event_id: EventId, *, step: float = SNAPSHOT_STEP, fresh_ms: int = SNAPSHOT_FRESH_MS
    ) -> Snapshot | None:
        """The one everybody gets for `fresh_ms` (0: made now, for the asker alone); None without a room."""
        if not 0.005 <= step <= SNAPSHOT_STEP:
            raise ValueError("a step is 0.5 to 5 per cent")
        text = await self._log.ask(event_id, "snapshot", str(step), fresh_ms)
        return _snapshot(json.loads(text)) if text else None

    async def facts(self, event_id: EventId) -> dict[str, str]:
        """Everything that is written of the room itself, for operators; empty without a room."""
        words = [word.decode() for word in await self._log.ask(event_id, "room")]
        return dict(zip(words[::2], words[1::2], strict=True))

    async def read_log(
        self, event_id: EventId, *, after_index: int = -1, count: int = ENTRIES_PER_CALL
    ) -> list[KeptEntry]:
        """At most `count` entries after that one, oldest first."""
        entries = await self._log.ask(event_id, "read_log", after_index, min(count, ENTRIES_PER_CALL))
        return [_entry(entry_id, fields) for entry_id, fields in entries]

    async def acknowledge(self, event_id: EventId, index: int) -> int:
        """Everything up to that entry is safe elsewhere. How many were forgotten now: whole blocks, after the draw."""
        forgotten: int = await self._log.ask(event_id, "acknowledge", index)
        return forgotten

    # ---- after Redis was lost

    async def rebuild(
        self, event_id: EventId, entries: AsyncIterable[KeptEntry], settings: RoomSettings
    ) -> RoomOnPaper:
        """Fill the room again from its exported log, oldest entry first; the order is what it was, a new epoch begins.

        Nobody passes or joins meanwhile. Afterwards nobody is admitted until every lease of before must have ended, or
        until `end_hold`. Raises UnusableLog if the room is there, or the log has faults; the room stays shut then.
        """
        if await self._log.ask(event_id, "begin_restore", *_flat(asdict(settings))) != b"OK":
            raise UnusableLog("the room is there, and is not overwritten")
        room = await self._read_through(event_id, entries)
        for page in _pages(_latest_places(room), RESTORED_PER_CALL):
            cohort = room.cohort if room.phase is Phase.SEALING else 0
            words = (word for person in page for word in _restored(person))
            await self._log.ask(event_id, "restore_places", cohort, *words)
        await self._log.ask(
            event_id, "finish_restore", room.phase.value, room.epoch + 1, "restored", *_flat(_meta(room))
        )
        return room

    async def _read_through(self, event_id: EventId, entries: AsyncIterable[KeptEntry]) -> RoomOnPaper:
        room, page = RoomOnPaper(), list[KeptEntry]()
        async for entry in entries:
            faults = room.apply(entry)
            if faults:
                raise UnusableLog("; ".join(faults))
            # A draw that is still to come reads its cohort from Redis.
            if not room.seed and room.phase in (Phase.CLOSED, Phase.PRE, Phase.SEALING):
                page.append(entry)
            if len(page) == RESTORED_PER_CALL:
                await self._restore_log(event_id, page)
                page.clear()
        await self._restore_log(event_id, page)
        return room

    async def _restore_log(self, event_id: EventId, page: Sequence[KeptEntry]) -> None:
        if page:
            await self._log.ask(event_id, "restore_log", *(word for entry in page for word in _fields(entry)))


# ---- to Redis and back


@lru_cache(maxsize=1024)
def room_keys(event_id: UUID, count: int = len(KEYS)) -> tuple[int | str, ...]:
    """How many keys a script is given, and the keys: the first ones of the room's."""
    return count, *(f"wr:{{{event_id}}}:{name}" for name in KEYS[:count])


def _flat(fields: dict[str, Any]) -> list[str]:
    return [str(word) for pair in fields.items() for word in pair]


def _pages(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _word(answer: bytes) -> str:
    return answer.decode().lower()


def _phase(answer: bytes) -> Phase | None:
    return Phase(answer.decode()) if answer else None


STATES: Final = {
    b"J": PlaceState.WAITING,
    b"R": PlaceState.WAITING,
    b"A": PlaceState.READY,
    b"C": PlaceState.ACTIVE,
}
GONE: Final = {
    b"N": Gone.MISSED,
    b"X": Gone.LEASE_OVER,
    b"F": Gone.DONE,
    b"G": Gone.GAVE_UP,
    b"L": Gone.LEFT,
}
# Whoever is not shopping yet, in a room where nobody comes in any more.
TOO_LATE: Final = {Phase.SOLD_OUT: Gone.SOLD_OUT, Phase.ENDED: Gone.ENDED}


def _standing(answer: list[Any]) -> Standing | Refused:
    if len(answer) == 2:
        return Refused(Refusal(_word(answer[0])), _phase(answer[1]))
    word, place_id, kind, ticket, rank, until_ms, phase_name, now_ms, epoch, log_index = answer
    phase = Phase(phase_name.decode())
    state, gone = STATES.get(kind, PlaceState.GONE), GONE.get(kind)
    if phase in TOO_LATE and state in (PlaceState.WAITING, PlaceState.READY):
        state, gone, until_ms = PlaceState.GONE, TOO_LATE[phase], 0
    return Standing(
        PlaceId(place_id.decode()),
        state,
        ticket,
        rank if rank >= 0 else None,
        until_ms or None,
        gone,
        word == b"NEW",
        phase,
        now_ms,
        epoch,
        log_index,
    )


def _snapshot(document: dict[str, Any]) -> Snapshot:
    points = tuple((rank, ticket) for rank, ticket in document.pop("points"))
    return Snapshot(phase=Phase(document.pop("phase")), points=points, **document)


def _cohort_entry(kind: bytes, ticket: bytes, place_id: bytes, commitment: bytes, rule: bytes) -> CohortEntry:
    return CohortEntry(LogKind(kind.decode()), int(ticket), PlaceId(place_id.decode()), commitment.hex(), rule.decode())


def _entry(entry_id: bytes, fields: list[bytes]) -> KeptEntry:
    at_ms, kind, ticket, epoch, commitment, detail, place_id, user_id = fields[1::2]
    return KeptEntry(
        index=int(entry_id.partition(b"-")[0]) - 1,
        at_ms=int(at_ms),
        kind=LogKind(kind.decode()),
        ticket=int(ticket),
        epoch=int(epoch),
        commitment=commitment.hex(),
        detail=detail.decode(),
        place_id=PlaceId(place_id.decode()),
        user_id=UserId(UUID(bytes=user_id)) if user_id else None,
    )


# ---- a room on paper, back to Redis


def _fields(entry: KeptEntry) -> tuple[Any, ...]:
    user = entry.user_id.bytes if entry.user_id else b""
    commitment = bytes.fromhex(entry.commitment)
    start = (entry.index, entry.at_ms, entry.kind.value, entry.ticket, entry.epoch)
    return (*start, commitment, entry.detail, entry.place_id, user)


def _latest_places(room: RoomOnPaper) -> list[Person]:
    """Of each account the place that counts: the one it joined last."""
    latest: dict[UserId | None, Person] = {}
    for person in room.people.values():
        other = latest.get(person.user_id)
        if other is None or person.index > other.index:
            latest[person.user_id] = person
    return list(latest.values())


def _restored(person: Person) -> tuple[Any, ...]:
    if person.user_id is None or person.place_id is None:
        raise UnusableLog("the public log does not say whose the places were")
    standing = (person.kind.value, person.ticket, person.since_ms, int(person.has_returned))
    return (person.user_id.bytes, person.place_id, person.index, *standing)


def _meta(room: RoomOnPaper) -> dict[str, Any]:
    counts: dict[str, Any] = {kind.value: count for kind, count in room.counts.items()}
    return counts | {
        "seq": room.last_ticket,
        "entries": room.entry_count,
        "exported": room.entry_count,
        "capacity": room.capacity,
        "cohort": room.cohort,
        "cohort_entries": room.cohort_entry_count,
        "seed": room.seed,
    }
