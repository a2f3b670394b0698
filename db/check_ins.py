"""Whom has the door let in?

A scan is judged and written in one transaction that locks its ticket's record (`lock_tickets`): so of two doors one is
second, and a transfer or a refund, which the engine does under a lock on the same record, is either seen or has to see that
somebody is in the house. It takes no part in the event's queue, because no seat changes.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg
from pydantic import AwareDatetime, Field

from contracts.check_ins import CheckInResult, Nonce
from contracts.ids import EventId, TicketId, UserId
from contracts.value import Value
from db.moments import PAGE_RECORDS, one_moment
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

SQL = queries("check_ins")

Records: TypeAlias = Sequence[Any]

CONFLICTS_MAX = 100


class NonceTaken(Exception):
    """Somebody has recorded a scan of that nonce since we looked; look again."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A scan that let somebody in, and counts."""

    nonce: Nonce
    gate: str
    scanned_at: datetime
    offline: bool


@dataclass(frozen=True, slots=True)
class TicketAtDoor:
    """What the books say of a ticket, read under the lock on its record."""

    id: TicketId
    version: int
    status: str
    ended_because: str
    section: str
    row: str
    seat_number: str
    tier: str
    holder: str
    is_on_resale: bool
    admission: Admission | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a device was told about a nonce, and about which code."""

    code_hash: bytes
    answer: str


@dataclass(frozen=True, slots=True)
class EventAtDoor:
    """What a door must know of its event. `now` is PostgreSQL's clock."""

    now: datetime
    is_cancelled: bool
    rotating_codes: bool
    scanners: frozenset[UserId]  # those of the askers who are scanners or administrators, still
    told: Mapping[Nonce, Told]  # what was told about those nonces that are known


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan as it is written."""

    nonce: Nonce
    code_hash: bytes
    ticket_id: TicketId | None
    result: CheckInResult
    admitted: bool
    gate: str
    scanned_by: UserId
    scanned_at: datetime
    offline: bool
    first_nonce: Nonce | None
    answer: str
    counts: bool  # it is the one by which its ticket was used


class GateCount(Value):
    """How many scans of a gate had that result."""

    gate: str
    result: CheckInResult
    admitted: int = Field(description="bearers who went in")
    refused: int
    offline: int = Field(description="of both, those that a device judged by itself")


class Conflict(Value):
    """Somebody went in who should not have, or two with one ticket: found when a device came back to the network."""

    ticket_id: TicketId | None = Field(description="null where a device let in what is no ticket of this event")
    section: str
    row: str
    seat_number: str
    result: CheckInResult
    gate: str
    scanned_at: AwareDatetime
    recorded_at: AwareDatetime
    scanned_by: UserId
    first_gate: str | None = Field(description="of a ticket that let two in: where the first one was scanned")
    first_scanned_at: AwareDatetime | None


class DoorFigures(Value):
    """How the evening goes."""

    tickets: int = Field(description="that are good for entry or have been used")
    checked_in: int
    gates: tuple[GateCount, ...]
    conflict_count: int
    conflicts: tuple[Conflict, ...] = Field(description=f"the latest, at most {CONFLICTS_MAX}")


@dataclass(frozen=True, slots=True)
class ListVersion:
    """What a list for doors without a network is made of."""

    event_name: str
    is_cancelled: bool
    rotating_codes: bool
    # Every change of a ticket makes at least one of these numbers greater and none smaller, so it names one state.
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be known of scans before they are judged."""

    event_id: EventId
    ticket_ids: Collection[TicketId]
    nonces: Collection[Nonce]
    user_ids: Collection[UserId]


@asynccontextmanager
async def at_the_door(pool: Pool, asked: Question) -> AsyncIterator[tuple[Transaction, EventAtDoor | None]]:
    """A transaction that has these tickets to itself, and what must be known of the event; None: there is no such event.

    May end in a deadlock with an engine that locks two orders' tickets one after the other.
    """
    async with transaction(pool) as tx:
        known = asked.event_id, *map(list, (asked.ticket_ids, asked.nonces, asked.user_ids))
        record = await tx.fetchrow(SQL.lock_tickets, *known)
        yield tx, _event(record) if record is not None else None


async def find_tickets(
    tx: Transaction, event_id: EventId, ticket_ids: Collection[TicketId]
) -> dict[TicketId, TicketAtDoor]:
    """Those of these tickets that there are."""
    if not ticket_ids:
        return {}
    found = await tx.fetch(SQL.tickets_at_the_door, event_id, list(ticket_ids))
    return {record["id"]: _ticket(record) for record in found}


async def record_scans(tx: Transaction, event_id: EventId, scans: Sequence[ScanRecord]) -> None:
    """Write them, and mark the tickets of those that count as used; raises NonceTaken."""
    if not scans:
        return
    columns = (
        [getattr(scan, name) for scan in scans]
        for name in (
            "nonce",
            "code_hash",
            "ticket_id",
            "result",
            "admitted",
            "gate",
            "scanned_by",
            "scanned_at",
            "offline",
            "first_nonce",
            "answer",
            "counts",
        )
    )
    try:
        await tx.execute(SQL.record_scans, event_id, *columns)
    except asyncpg.UniqueViolationError as problem:
        if problem.constraint_name != "check_ins_pkey":
            raise
        raise NonceTaken from problem


async def give_way(tx: Transaction, event_id: EventId, ticket_id: TicketId, first: Nonce) -> None:
    """Whoever was let in with this ticket came after the scan `first`, which is heard of only now."""
    await tx.execute(SQL.give_way, event_id, ticket_id, first)


async def may_scan(pool: Pool, user_id: UserId) -> bool:
    """Is this user a scanner or an administrator at this moment? A session knows only who it was begun for."""
    return bool(await pool.fetchval(SQL.may_scan, user_id))


async def find_list_version(pool: Pool | Transaction, event_id: EventId) -> ListVersion | None:
    """Which list there would be now; None when there is no such event."""
    record = await pool.fetchrow(SQL.list_version, event_id)
    if record is None:
        return None
    fields = dict(record)
    steps = tuple(fields.pop(name) for name in ("ticket_count", "versions", "void", "used", "resales", "resales_ended"))
    return ListVersion(steps=steps, **fields)


@asynccontextmanager
async def list_of(pool: Pool, event_id: EventId) -> AsyncIterator[tuple[ListVersion | None, AsyncIterator[Records]]]:
    """As of one moment: which list it is, and every ticket of the event, by its id, in pages of records as (id, version,
    status, section, row, seat_number, tier)."""
    async with one_moment(pool) as tx:
        version = await find_list_version(tx, event_id)
        yield version, _pages(tx, event_id)


async def find_figures(pool: Pool, event_id: EventId) -> DoorFigures | None:
    """How the evening goes; None when there is no such event."""
    async with one_moment(pool) as tx:
        counts = await tx.fetchrow(SQL.count_used, event_id)
        if counts is None:
            return None
        gates = await tx.fetch(SQL.count_by_gate, event_id)
        conflicts = await tx.fetch(SQL.list_conflicts, event_id, CONFLICTS_MAX)
    return DoorFigures(
        **counts,
        gates=tuple(GateCount(**record) for record in gates),
        conflicts=tuple(Conflict(**record) for record in conflicts),
    )


async def _pages(tx: Transaction, event_id: EventId) -> AsyncIterator[Records]:
    cursor = await tx.cursor(SQL.read_list, event_id)
    while page := await cursor.fetch(PAGE_RECORDS):
        yield page


def _event(record: Any) -> EventAtDoor:
    told = zip(record["nonces"], record["code_hashes"], record["answers"], strict=True)
    return EventAtDoor(
        now=record["now"],
        is_cancelled=record["is_cancelled"],
        rotating_codes=record["rotating_codes"],
        scanners=frozenset(record["scanners"]),
        told={nonce: Told(code_hash, answer) for nonce, code_hash, answer in told},
    )


def _ticket(record: Any) -> TicketAtDoor:
    fields = dict(record)
    nonce, gate, scanned_at, offline = (
        fields.pop(f"first_{name}") for name in ("nonce", "gate", "scanned_at", "offline")
    )
    admission = Admission(nonce, gate, scanned_at, offline) if nonce is not None else None
    return TicketAtDoor(**fields, admission=admission)
