"""How does a scan become true?

Look, judge, write: one transaction for all scans of an event that came while the last one was under way, so that a crowd at
fifty gates pays for one commit. A nonce that is known is answered as it was, before anything else is looked at.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self, TypeAlias

import asyncpg

from contracts.check_ins import CheckInResult, Nonce
from contracts.ids import EventId, TicketId, UserId
from contracts.rejections import RejectionCode
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import CodeRead, read_code
from db import check_ins as records
from db.check_ins import Admission, EventAtDoor, NonceTaken, Question, ScanRecord, TicketAtDoor, Told
from db.coalescer import Coalescer
from db.postgres import BY_INDEX, Pool, open_pool
from ingress.check_in_rules import Scan, Verdict, answer_of, judge
from ingress.door_lists import DoorLists
from ingress.responses import Code, ProblemCode

# Somebody else was recording the same nonce: by the next time we know it.
ATTEMPTS = 3
# The engine has the ticket; or it locked the tickets of two orders one after the other, and we the other way round.
IN_SOMEBODYS_HANDS = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
SCANS_AT_ONCE_MAX = 64
# Of their own, so that no search of the catalogue keeps a door waiting: one for an event that is being scanned, and one for
# another event, or a batch.
CONNECTIONS = 2
# A process remembers who waits at this many events before it forgets those where nobody does.
EVENTS_MAX = 256


class Asked(NamedTuple):
    """A scan, and whose."""

    user_id: UserId
    scan: Scan


# What is told of a scan: a CheckedIn as JSON, the same for ever, or why nothing is.
Answer: TypeAlias = bytes | Code


class CheckInDesk:
    """The door's side of a process: its keys, its lists, and the scans that are waiting for the next transaction."""

    @classmethod
    async def open(cls, settings: Settings, pool: Pool) -> Self:
        """With connections of its own for scans; lists are read over the others."""
        own = await open_pool(settings, application_name="ingress door", size=CONNECTIONS, planner=BY_INDEX)
        return cls(settings, pool, own)

    def __init__(self, settings: Settings, pool: Pool, scans: Pool) -> None:
        self._pool = scans
        self.keys = SigningKeys.of(settings)
        self.lists = DoorLists(pool, self.keys)
        self._waiting: dict[EventId, Coalescer[Asked, Answer]] = {}

    def close(self) -> None:
        """Give the connections up."""
        self._pool.terminate()

    async def check_in(self, event_id: EventId, user_id: UserId, scan: Scan) -> Answer:
        """The answer to one scan, together with whatever others of the event are waiting."""
        return await self._waiting_at(event_id).ask(Asked(user_id, scan))

    def _waiting_at(self, event_id: EventId) -> Coalescer[Asked, Answer]:
        waiting = self._waiting.get(event_id)
        if waiting is None:
            if len(self._waiting) >= EVENTS_MAX:
                self._waiting = {event: one for event, one in self._waiting.items() if not one.is_idle}
            waiting = Coalescer(lambda asked: self.check_in_all(event_id, asked), batch_max=SCANS_AT_ONCE_MAX)
            self._waiting[event_id] = waiting
        return waiting

    async def check_in_all(self, event_id: EventId, asked: Sequence[Asked]) -> list[Answer]:
        """The answers to these scans, judged in their order."""
        for _ in range(ATTEMPTS):
            try:
                return await self._check_in_all(event_id, asked)
            except NonceTaken:
                continue
            except IN_SOMEBODYS_HANDS:
                if len(asked) == 1:
                    break
                # One ticket that somebody else has locked must not keep all gates waiting.
                return [(await self.check_in_all(event_id, [one]))[0] for one in asked]
        return [ProblemCode.UNAVAILABLE] * len(asked)

    async def _check_in_all(self, event_id: EventId, asked: Sequence[Asked]) -> list[Answer]:
        reads = [read_code(self.keys, one.scan.code) for one in asked]
        ticket_ids = {read.ticket_id for read in reads if read is not None and read.event_id == event_id}
        question = Question(
            event_id=event_id,
            ticket_ids=ticket_ids,
            nonces={one.scan.nonce for one in asked},
            user_ids={one.user_id for one in asked},
        )
        async with records.at_the_door(self._pool, question) as (tx, event):
            if event is None:
                return [RejectionCode.EVENT_UNKNOWN] * len(asked)
            tickets = await records.find_tickets(tx, event_id, ticket_ids)
            table = _Table(event_id, event, tickets, dict(event.told))
            answers = [table.take(one, read) for one, read in zip(asked, reads, strict=True)]
            for ticket_id, first in table.given_way.items():
                await records.give_way(tx, event_id, ticket_id, first)
            await records.record_scans(tx, event_id, table.scans)
        return answers


@dataclass
class _Table:
    """What one transaction knows, and what it will write."""

    event_id: EventId
    event: EventAtDoor
    tickets: dict[TicketId, TicketAtDoor]
    told: dict[Nonce, Told]
    scans: list[ScanRecord] = field(default_factory=list)
    given_way: dict[TicketId, Nonce] = field(default_factory=dict)

    def take(self, asked: Asked, read: CodeRead | None) -> Answer:
        scan, event = asked.scan, self.event
        if asked.user_id not in event.scanners:
            return ProblemCode.FORBIDDEN
        code_hash = hashlib.sha256(scan.code.encode()).digest()
        told = self.told.get(scan.nonce)
        if told is not None:
            return told.answer.encode() if told.code_hash == code_hash else RejectionCode.IDEMPOTENCY_KEY_REUSED
        ticket = self.tickets.get(read.ticket_id) if read is not None and read.event_id == self.event_id else None
        verdict = judge(scan, read, event_id=self.event_id, event=event, ticket=ticket)
        answer = answer_of(scan, verdict, ticket).model_dump_json()
        self.told[scan.nonce] = Told(code_hash, answer)
        self._note(asked, event, verdict, ticket, Told(code_hash, answer))
        return answer.encode()

    def _note(
        self, asked: Asked, event: EventAtDoor, verdict: Verdict, ticket: TicketAtDoor | None, told: Told
    ) -> None:
        scan = asked.scan
        record = ScanRecord(
            nonce=scan.nonce,
            code_hash=told.code_hash,
            ticket_id=ticket.id if ticket is not None else None,
            result=verdict.result,
            admitted=verdict.admitted,
            gate=scan.gate,
            scanned_by=asked.user_id,
            scanned_at=scan.recorded_as_at(event.now),
            offline=scan.offline,
            first_nonce=_came_after(verdict),
            answer=told.answer,
            counts=verdict.counts,
        )
        self.scans.append(record)
        if ticket is not None and record.counts:
            if verdict.gives_way:
                self.given_way[ticket.id] = record.nonce
            # Whoever comes with the same ticket later in this batch comes second.
            admission = Admission(record.nonce, record.gate, record.scanned_at, record.offline)
            self.tickets[ticket.id] = replace(ticket, admission=admission)


def _came_after(verdict: Verdict) -> Nonce | None:
    if verdict.result is CheckInResult.ALREADY_USED and verdict.admitted and verdict.first is not None:
        return verdict.first.nonce
    return None
