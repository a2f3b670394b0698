"""How does a room come to be in Redis: made for the first time, or filled again from what is written down?"""

import logging

from consumers.rules.room_phases import SERVES
from contracts.ids import EventId
from contracts.waiting_room import Phase
from db.postgres import Pool
from db.waiting_room import RoomSettings, UnusableLog, WaitingRooms
from db.waiting_room_records import RoomRecord, alone_with_room, last_log_index, read_whole_log

log = logging.getLogger(__name__)

# Nobody had been let in by then, so nobody can still be shopping unseen.
_NOBODY_INSIDE = frozenset({Phase.CLOSED, Phase.PRE, Phase.SEALING})


def first_settings(record: RoomRecord) -> RoomSettings:
    """How a room begins: with nobody let in, until the first step of the controller."""
    return RoomSettings(capacity=record.capacity, rate_per_second=0.0)


async def make_or_restore(pool: Pool, rooms: WaitingRooms, record: RoomRecord) -> bool:
    """Bring the room about that its record tells of; one process at a time. True if this one did it."""
    event_id = record.event_id
    async with alone_with_room(pool, event_id) as is_alone:
        # Another process may have done it while this one came here.
        if not is_alone or not await _is_missing(rooms, event_id):
            return False
        if await last_log_index(pool, event_id) < 0:
            await rooms.configure(event_id, first_settings(record), why="made")
            log.info("waiting_room_made", extra={"event_id": event_id, "kind": record.kind})
            return True
        return await _restore(pool, rooms, record)


async def restore_over(pool: Pool, rooms: WaitingRooms, record: RoomRecord, *, because: str) -> bool:
    """Redis tells another story than its copy: the copy counts, and what came after it is lost."""
    log.error("waiting_room_log_lost", extra={"event_id": record.event_id, "reason": because})
    async with alone_with_room(pool, record.event_id) as is_alone:
        if not is_alone:
            return False
        await rooms.remove(record.event_id)
        return await _restore(pool, rooms, record)


async def _is_missing(rooms: WaitingRooms, event_id: EventId) -> bool:
    phase = (await rooms.facts(event_id)).get("phase")
    # Whoever was restoring it holds the lock no longer: they have not finished.
    return phase is None or phase == Phase.RESTORING


async def _restore(pool: Pool, rooms: WaitingRooms, record: RoomRecord) -> bool:
    event_id = record.event_id
    try:
        on_paper = await rooms.rebuild(event_id, read_whole_log(pool, event_id), first_settings(record))
    except UnusableLog as problem:
        # Nobody joins, and nobody passes: somebody has to look at it.
        log.critical("waiting_room_not_restored", extra={"event_id": event_id, "reason": str(problem)})
        return False
    told = {"phase": on_paper.phase, "entry_count": on_paper.entry_count, "waiting_count": on_paper.waiting_count}
    log.error("waiting_room_restored", extra={"event_id": event_id, "epoch": on_paper.epoch + 1, **told})
    if on_paper.phase in _NOBODY_INSIDE:
        await rooms.end_hold(event_id, "nobody had been let in")
    elif on_paper.phase in SERVES:
        log.warning("waiting_room_holds_admissions", extra={"event_id": event_id, "what_to_do": "end_hold lets go on"})
    return True
