"""Of which events does nobody take commands for now, because an operator said so?

They wait in the event's queue up to its bound; then buyers are told to come back later. What nobody waits for any longer is
dropped when the queue is taken up again. An event without a queue of its own shares a lane with others and cannot be paused.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.ids import EventId, UserId
from db.audit_log import record_deed
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

# Whoever runs a command on the host has no account there; the audit log shows no name for this one.
THE_HOST = UserId(UUID(int=0))

_sql = queries("paused_event_queues")


@dataclass(frozen=True, kw_only=True)
class PausedQueue:
    """An event's queue that nobody drains, since when, and why."""

    event_id: EventId
    paused_at: datetime
    reason: str


class NotPausable(Exception):
    """The event has no queue of its own; the message says why."""


async def pause(pool: Pool, event_id: EventId, *, reason: str) -> PausedQueue:
    """Nobody is to take this event's commands from now on, which is heard within a second; raises NotPausable."""
    async with transaction(pool) as tx:
        event = await tx.fetchrow(_sql.find_event, event_id)
        if event is None:
            raise NotPausable(f"there is no event {event_id}")
        if not event["is_open"]:
            raise NotPausable(
                f"{event['name']} is not on sale: its commands share a lane with those of other events, and a lane is not"
                " paused for one of them"
            )
        paused = PausedQueue(**await tx.fetchrow(_sql.pause, event_id, reason))
        await _record(
            tx, event_id, "pause_event_queue", before={"paused": False}, after={"paused": True, "reason": reason}
        )
    return paused


async def resume(pool: Pool, event_id: EventId) -> PausedQueue | None:
    """Its commands are taken again; None when it was not paused."""
    async with transaction(pool) as tx:
        record = await tx.fetchrow(_sql.resume, event_id)
        if record is None:
            return None
        paused = PausedQueue(**record)
        before = {"paused": True, "reason": paused.reason}
        await _record(tx, event_id, "resume_event_queue", before=before, after={"paused": False})
    return paused


async def find_paused(pool: Pool) -> set[EventId]:
    """The events that are paused."""
    return {record["event_id"] for record in await pool.fetch(_sql.find_paused)}


async def list_paused(pool: Pool) -> list[PausedQueue]:
    """The same with since when and why, the longest paused first."""
    return [PausedQueue(**record) for record in await pool.fetch(_sql.list_paused)]


async def _record(
    tx: Transaction, event_id: EventId, action: str, *, before: dict[str, Any], after: dict[str, Any]
) -> None:
    await record_deed(
        tx,
        user_id=THE_HOST,
        action=action,
        event_id=event_id,
        subject=f"queue of event {event_id}",
        before=before,
        after=after,
    )
