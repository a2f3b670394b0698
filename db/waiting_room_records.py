"""What is written down of waiting rooms: what was promised, what the operator wants, what happened?

The only module with SQL for `waiting_rooms` and `waiting_room_log`. Who stands where is in Redis (`db/waiting_room.py`); what
people were shown, and how fast the line moves, in `db/waiting_room_observations.py`. Functions raise PostgreSQL's errors.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from contracts.beacon import BEACONS, BeaconSource
from contracts.draw import ALGORITHM, SECRET_BYTES, commitment_of
from contracts.ids import EventId, UserId
from contracts.waiting_room import KeptEntry, LogKind, Phase, PlaceId
from contracts.waiting_room_proof import BEACON_MARGIN_MS, Announcement, FrozenCohort, Revelation
from db.audit_log import changes, record_deed
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

_sql = queries("waiting_room_records")

# Rooms made in one go; the next round makes the others.
ROOMS_MADE_MAX: Final = 100
# How long after its sale Redis keeps an ended room, for those who still look at their page.
KEPT_AFTER_SALE_SECONDS: Final = 3600.0

# What an operator can ask for; everything else happens by itself.
WantedPhase: TypeAlias = Literal[Phase.OPEN, Phase.PAUSED, Phase.DRAINING, Phase.ENDED]
WANTED_PHASES: Final = frozenset({Phase.OPEN, Phase.PAUSED, Phase.DRAINING, Phase.ENDED})

# No such room; it has ended; somebody else has changed it since that version.
NotChanged: TypeAlias = Literal["unknown", "ended", "changed_meanwhile"]


class RoomKind(StrEnum):
    """scheduled: a draw among those who came before the start. unscheduled: first come, first served."""

    SCHEDULED = "scheduled"
    UNSCHEDULED = "unscheduled"


class Challenge(StrEnum):
    """What somebody has to do before they may join."""

    NONE = "none"
    PROOF_OF_WORK = "proof_of_work"


class DemotionMode(StrEnum):
    """What comes of a conduct that looks like many accounts in one hand."""

    OBSERVE = "observe"  # it is logged for operators, and nothing else
    DEMOTE = "demote"  # they are drawn behind all others, and the public log says so


@dataclass(frozen=True, kw_only=True)
class RoomRecord:
    """A room as it is written down. Times are the database's; `read_at` is when it was read, by the same clock."""

    event_id: EventId
    event_name: str
    event_status: str
    on_sale_date: datetime
    off_sale_date: datetime
    kind: RoomKind
    pre_at: datetime  # from when one may join
    opens_at: datetime  # when the draw is held, or the line begins to move
    capacity: int  # how many the operator wants inside at once
    rate_per_second: float  # arrivals a second the operator wants
    challenge: Challenge
    demotion: DemotionMode
    wanted_phase: Phase | None  # asked for, and not yet brought about
    wanted_because: str
    server_secret: bytes | None = field(repr=False)  # of the draw; published after it, never before
    announcement: Announcement | None
    frozen: FrozenCohort | None
    revelation: Revelation | None
    announced_at: datetime
    ended_at: datetime | None
    forgotten_at: datetime | None
    updated_at: datetime
    version: int  # goes up when the operator changes something
    read_at: datetime

    @property
    def is_scheduled(self) -> bool:
        """Is there a draw?"""
        return self.kind is RoomKind.SCHEDULED

    def is_sale_over(self, now: datetime) -> bool:
        """Can nothing be bought any more, at that time of the database's clock?"""
        return self.event_status in ("completed", "cancelled") or now >= self.off_sale_date


@dataclass(frozen=True, kw_only=True)
class NewRoomTerms:
    """What a room is made with unless the operator says otherwise, and what is announced of its draw."""

    capacity: int
    rate_per_second: float
    gather_seconds: float  # how long before the start people may join
    beacon: BeaconSource
    public_keys: tuple[str, ...]  # that receipts are signed with, as hex


# ---- rooms


async def find_room(pool: Pool, event_id: EventId) -> RoomRecord | None:
    """The event's room, or None."""
    record = await pool.fetchrow(_sql.find_room, event_id)
    return None if record is None else _room(record)


async def list_rooms_to_run(pool: Pool) -> list[RoomRecord]:
    """Every room that Redis has to have, those that have ended among them."""
    return [_room(record) for record in await pool.fetch(_sql.list_rooms_to_run)]


async def make_missing_rooms(pool: Pool, terms: NewRoomTerms) -> list[EventId]:
    """Make a room for every event of high demand that has none: scheduled if its sale lies ahead. Whose were made."""
    events = await pool.fetch(_sql.find_events_without_room, ROOMS_MADE_MAX)
    return [EventId(event["event_id"]) for event in events if await _insert_room(pool, event, terms)]


async def make_room(
    pool: Pool, event_id: EventId, terms: NewRoomTerms, *, by: UserId | None = None
) -> RoomRecord | None:
    """The event's room, made now if it has none, and the event is of high demand; None if its sale is over or unknown.

    `by` is the organiser who wants it; None: nobody in particular, and nothing of it is in the audit log.
    """
    room = await find_room(pool, event_id)
    if room is not None:
        return room
    event = await pool.fetchrow(_sql.find_event_for_room, event_id)
    if event is None:
        return None
    # Both or neither: an event of high demand without a room would sell to nobody.
    async with transaction(pool) as tx:
        is_new = await _insert_room(tx, event, terms)
        await tx.execute(_sql.mark_high_demand, event_id)
        if is_new and by is not None:
            after = {"capacity": terms.capacity, "rate_per_second": terms.rate_per_second, "high_demand": True}
            await _record_deed(tx, "make_waiting_room", event_id, by, before=None, after=after)
    return await find_room(pool, event_id)


async def move_room(pool: Pool, room: RoomRecord, opens_at: datetime) -> bool:
    """The sale begins at another time, and so does the draw, with another round of the beacon; the secret stays.

    False if it was too late: the cohort was frozen, or somebody has moved it already.
    """
    if room.announcement is None:
        return False
    changes = _when(opens_at, room.announcement.beacon_source)
    announcement = room.announcement.model_copy(update=changes)
    return _changed(await pool.execute(_sql.move_room, room.event_id, opens_at, announcement.model_dump_json()))


async def record_frozen(pool: Pool, event_id: EventId, frozen: FrozenCohort) -> FrozenCohort:
    """Who is in the draw, for ever; what was recorded the first time, if this is not."""
    await pool.execute(_sql.record_frozen, event_id, frozen.model_dump_json())
    return _must(await find_room(pool, event_id)).frozen or frozen


async def record_revelation(pool: Pool, event_id: EventId, revelation: Revelation) -> Revelation:
    """What decides the order, for ever; what was recorded the first time, if this is not."""
    await pool.execute(_sql.record_revelation, event_id, revelation.model_dump_json())
    return _must(await find_room(pool, event_id)).revelation or revelation


async def want_phase(
    pool: Pool, event_id: EventId, phase: WantedPhase, because: str, *, by: UserId | None = None
) -> NotChanged | None:
    """Ask the room's leader for a phase, in place of what was asked before; None when that is written down.

    `by` is who asks; None: a program of ours, and nothing of it is in the audit log.
    """
    wanted = {"wanted_phase": phase.value, "wanted_because": because}
    async with transaction(pool) as tx:
        before = await tx.fetchrow(_sql.lock_terms, event_id)
        if _changed(await tx.execute(_sql.want_phase, event_id, *wanted.values())):
            if by is not None:
                was = {name: before[name] for name in wanted}
                await _record_deed(tx, "want_waiting_room_phase", event_id, by, before=was, after=wanted)
            return None
    return "unknown" if await find_room(pool, event_id) is None else "ended"


async def clear_wanted(pool: Pool, event_id: EventId, phase: Phase) -> None:
    """It has been brought about, or cannot be; what has been asked since stays."""
    await pool.execute(_sql.clear_wanted, event_id, phase.value)


async def set_terms(
    pool: Pool,
    event_id: EventId,
    *,
    capacity: int | None = None,
    rate_per_second: float | None = None,
    challenge: Challenge | None = None,
    demotion: DemotionMode | None = None,
    if_version: int | None = None,
    by: UserId | None = None,
) -> NotChanged | None:
    """Change what the operator wants (None: leave it), if the version is still that one; None when that is done.

    `by` is the organiser; None: a program of ours, and nothing of it is in the audit log. Raises asyncpg's
    CheckViolationError for a capacity or a rate that is not above 0.
    """
    terms = {"capacity": capacity, "rate_per_second": rate_per_second, "challenge": challenge, "demotion": demotion}
    async with transaction(pool) as tx:
        known = await tx.fetchrow(_sql.lock_terms, event_id)
        if _changed(await tx.execute(_sql.set_terms, event_id, *terms.values(), if_version)):
            if by is not None:
                wanted = {name: value for name, value in terms.items() if value is not None}
                before, after = changes(known, wanted)
                await _record_deed(tx, "set_waiting_room_terms", event_id, by, before=before, after=after)
            return None
    room = await find_room(pool, event_id)
    if room is None:
        return "unknown"
    return "ended" if room.ended_at else "changed_meanwhile"


async def mark_ended(pool: Pool, event_id: EventId) -> None:
    """Nobody needs to lead it any more."""
    await pool.execute(_sql.mark_ended, event_id)


async def mark_forgotten(pool: Pool, event_id: EventId) -> None:
    """Redis has forgotten it."""
    await pool.execute(_sql.mark_forgotten, event_id)


@asynccontextmanager
async def alone_with_room(pool: Pool, event_id: EventId) -> AsyncIterator[bool]:
    """True for one process at a time, for what must not be done twice at once; the lock ends with its connection."""
    async with pool.acquire(timeout=5.0) as connection:
        is_alone: bool = await connection.fetchval(_sql.try_lock_room, str(event_id))
        try:
            yield is_alone
        finally:
            if is_alone:
                await connection.execute(_sql.unlock_room, str(event_id))


# ---- the log


async def append_log(pool: Pool, event_id: EventId, entries: Sequence[KeptEntry]) -> frozenset[int]:
    """Keep these entries; those that are kept already stay as they are. The indexes of the new ones."""
    if not entries:
        return frozenset()
    columns = zip(*(_fields(entry) for entry in entries), strict=True)
    appended = await pool.fetch(_sql.append_log, event_id, *map(list, columns))
    return frozenset(record["index"] for record in appended)


async def read_log(pool: Pool, event_id: EventId, *, after_index: int = -1, count: int = 1_000) -> list[KeptEntry]:
    """At most `count` entries after that one, oldest first."""
    return [_entry(record) for record in await pool.fetch(_sql.read_log, event_id, after_index, count)]


async def read_whole_log(pool: Pool, event_id: EventId) -> AsyncIterator[KeptEntry]:
    """Every entry, oldest first, read in pages."""
    last = -1
    while page := await read_log(pool, event_id, after_index=last, count=5_000):
        for entry in page:
            yield entry
        last = page[-1].index


async def last_log_index(pool: Pool, event_id: EventId) -> int:
    """The index of the last entry that is kept; -1 when none is."""
    index: int | None = await pool.fetchval(_sql.last_log_index, event_id)
    return -1 if index is None else index


async def count_log(pool: Pool, event_id: EventId) -> dict[LogKind, int]:
    """How many entries of each kind are kept; nothing for kinds there are none of."""
    return {LogKind(record["kind"]): record["entry_count"] for record in await pool.fetch(_sql.count_log, event_id)}


async def find_returned(pool: Pool, event_id: EventId) -> set[int]:
    """The tickets whose missed turn was given back to them."""
    return {record["ticket"] for record in await pool.fetch(_sql.find_returned, event_id)}


async def find_joined_at(pool: Pool, event_id: EventId, place_ids: Collection[PlaceId]) -> dict[PlaceId, int]:
    """When each of these places was joined, in milliseconds since 1970 by Redis's clock."""
    records = await pool.fetch(_sql.find_joined_at, event_id, list(place_ids))
    return {PlaceId(record["place_id"]): record["at_ms"] for record in records}


# ---- to PostgreSQL and back


async def _record_deed(
    tx: Transaction,
    action: str,
    event_id: EventId,
    by: UserId,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    subject = f"waiting room of event {event_id}"
    await record_deed(tx, user_id=by, action=action, event_id=event_id, subject=subject, before=before, after=after)


async def _insert_room(pool: Pool | Transaction, event: Any, terms: NewRoomTerms) -> bool:
    now, opens_at = event["now"], event["on_sale_date"]
    event_id = EventId(event["event_id"])
    when: tuple[Any, ...] = (RoomKind.UNSCHEDULED, now, now)
    draw: tuple[Any, ...] = (None, None)
    if event["is_scheduled"]:
        secret = secrets.token_bytes(SECRET_BYTES)
        when = (RoomKind.SCHEDULED, max(now, opens_at - timedelta(seconds=terms.gather_seconds)), opens_at)
        draw = (secret, _announcement(event_id, secret, opens_at, terms).model_dump_json())
    wanted = (terms.capacity, terms.rate_per_second)
    return _changed(await pool.execute(_sql.insert_room, event_id, *when, *wanted, *draw))


def _announcement(event_id: EventId, secret: bytes, opens_at: datetime, terms: NewRoomTerms) -> Announcement:
    return Announcement(
        event_id=event_id,
        algorithm=ALGORITHM,
        secret_commitment=commitment_of(secret),
        beacon_source=terms.beacon,
        public_keys=terms.public_keys,
        **_when(opens_at, terms.beacon),
    )


def _when(opens_at: datetime, source: BeaconSource) -> dict[str, int]:
    starts_at_ms = int(opens_at.timestamp() * 1000)
    return {
        "starts_at_ms": starts_at_ms,
        "beacon_round": BEACONS[source].first_round_from(starts_at_ms + BEACON_MARGIN_MS),
    }


def _changed(status: str) -> bool:
    """What `execute` says, "UPDATE 1" or "INSERT 0 1": did it change a record?"""
    return not status.endswith(" 0")


def _must(room: RoomRecord | None) -> RoomRecord:
    if room is None:
        raise LookupError("the room's record is gone; records of rooms are never deleted")
    return room


_DOCUMENTS: Final[dict[str, Callable[[str], Any]]] = {
    "announcement": Announcement.model_validate_json,
    "frozen": FrozenCohort.model_validate_json,
    "revelation": Revelation.model_validate_json,
}


def _room(record: Any) -> RoomRecord:
    fields = dict(record)
    for name, read in _DOCUMENTS.items():
        fields[name] = None if fields[name] is None else read(fields[name])
    fields["kind"], fields["challenge"] = RoomKind(fields["kind"]), Challenge(fields["challenge"])
    fields["demotion"] = DemotionMode(fields["demotion"])
    fields["wanted_phase"] = None if fields["wanted_phase"] is None else Phase(fields["wanted_phase"])
    return RoomRecord(**fields)


def _fields(entry: KeptEntry) -> Iterable[Any]:
    yield from (entry.index, entry.at_ms, entry.kind.value, entry.ticket, entry.epoch)
    yield from (entry.commitment, entry.detail, entry.place_id, entry.user_id)


def _entry(record: Any) -> KeptEntry:
    fields = dict(record)
    user_id = fields.pop("user_id")
    return KeptEntry(**fields, user_id=None if user_id is None else UserId(user_id))
