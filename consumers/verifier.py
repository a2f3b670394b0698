"""Does what is written about each sale still agree, while it sells?

Every `verify_seconds` each event on sale, each that ended within a day and each of which something has changed is held against
its ledger, with the checks of `boxoffice verify` that need no provider's log: the provider's side is the reconciler's. One
event at a time, in a process below everybody else's priority, with a rest after each; an event that is too large or takes too
long is named and left out. It repairs nothing: whatever contradicts the ledger is a bug, and a person has to see it.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from prometheus_client import Counter as CounterMetric
from prometheus_client import Gauge, Histogram

from consumers.examiner import Examiner, Findings, NotExamined
from consumers.proof.books import INVARIANTS
from contracts.ids import EventId
from contracts.settings import Settings
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool
from db.proof import EventSeen, list_events_seen

log = logging.getLogger(__name__)

ENDED_WITHIN_SECONDS = 24 * 3600.0
# A ledger of this many entries takes the examiner some ten seconds and half a gigabyte; `boxoffice verify` takes any.
LEDGER_ENTRIES_MAX = 400_000
# While every processor is busy with the sale, one second of work takes it half a minute.
EVENT_SECONDS_MAX = 120.0
# After each event it rests for so many times what a processor was busy with it, so that the examiner takes at most a sixth
# of one however much is on sale, and PostgreSQL for it about as much.
REST_PER_WORK = 5.0
DETAILS_MAX = 20

VIOLATIONS = CounterMetric(
    "invariant_violations_total", "Invariants found violated, once per event and round while it lasts", ["check"]
)
VIOLATED = Gauge("boxoffice_invariants_violated", "Events that violate the invariant, as of the last round", ["check"])
VERIFIED_AT = Gauge("boxoffice_verified_at_seconds", "When the last complete round ended, in seconds since 1970")
VERIFIED_EVENTS = Gauge("boxoffice_verified_events", "Events that the last round looked at")
LEFT_OUT_EVENTS = Gauge("boxoffice_verify_left_out_events", "Events that the last round could not look at")
VERIFY_SECONDS = Histogram(
    "boxoffice_verify_seconds", "Time to verify an event", buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
)

# From the start: an alert on what has never been exported would never fire.
for _check in INVARIANTS:
    VIOLATIONS.labels(_check.name)
    VIOLATED.labels(_check.name)

_IDENTIFIED = re.compile(r"\b(?:seat|order|ticket|hold|refund|resale|entry|event|intent) (?:\d+ \()?[\w-]*\d[\w-]*\)?")


class Examines(Protocol):
    """Who looks at an event's records."""

    async def examine(self, event_id: EventId) -> Findings:
        """What contradicts each other in its records. Raises NotExamined."""


class Looked(NamedTuple):
    """When an event was last looked at, and how far its ledger went then."""

    at: float
    ledger_seq: int


class Verifier:
    """What is known of each event from round to round."""

    def __init__(self, pool: Pool, examiner: Examines) -> None:
        self._pool = pool
        self._examiner = examiner
        self._looked: dict[EventId, Looked] = {}
        self._violated: set[EventId] = set()

    async def run_once(self) -> None:
        """One round; raises what the database raises."""
        found: Counter[str] = Counter()
        verified_count = left_out_count = 0
        for event in await self._due():
            busy_seconds = 0.0
            try:
                violations, busy_seconds = await self._look_at(event)
            except NotExamined as problem:
                left_out_count += 1
                log.warning("event_not_verified", extra={"event_id": event.event_id, "reason": str(problem)})
            else:
                verified_count += 1
                found.update(violations.keys())
                self._tell(event.event_id, violations)
            # Left out or not, it has had its turn.
            self._looked[event.event_id] = Looked(time.monotonic(), event.ledger_seq)
            await asyncio.sleep(REST_PER_WORK * busy_seconds)
        for check in INVARIANTS:
            VIOLATED.labels(check.name).set(found[check.name])
        VERIFIED_EVENTS.set(verified_count)
        LEFT_OUT_EVENTS.set(left_out_count)
        VERIFIED_AT.set(time.time())

    async def _due(self) -> list[EventSeen]:
        """The events of this round, those that have waited longest first."""
        seen = await list_events_seen(self._pool, ended_within_seconds=ENDED_WITHIN_SECONDS)
        there = {event.event_id for event in seen}
        self._violated &= there
        self._looked = {event_id: looked for event_id, looked in self._looked.items() if event_id in there}
        due = [event for event in seen if self._is_due(event)]
        return sorted(due, key=lambda event: self._looked.get(event.event_id, Looked(0.0, 0)).at)

    def _is_due(self, event: EventSeen) -> bool:
        if event.is_current or event.event_id in self._violated:
            return True
        # Of the many that ended long ago only the changes since we began are looked at, so a restart costs nothing.
        return self._looked.setdefault(event.event_id, Looked(0.0, event.ledger_seq)).ledger_seq != event.ledger_seq

    async def _look_at(self, event: EventSeen) -> Findings:
        if event.ledger_seq > LEDGER_ENTRIES_MAX:
            raise NotExamined(f"its ledger has {event.ledger_seq} entries, more than {LEDGER_ENTRIES_MAX}")
        with VERIFY_SECONDS.time():
            return await self._examiner.examine(event.event_id)

    def _tell(self, event_id: EventId, violations: Mapping[str, Sequence[str]]) -> None:
        if violations:
            self._violated.add(event_id)
        else:
            self._violated.discard(event_id)
        for check, differences in violations.items():
            VIOLATIONS.labels(check).inc()
            log.error(
                "invariant_violated",
                extra={
                    "event_id": event_id,
                    "check": check,
                    "difference_count": len(differences),
                    "details": ids_in(differences),
                },
            )


def ids_in(differences: Sequence[str]) -> list[str]:
    """What the differences are about, `order 7c…`, each once and at most DETAILS_MAX: a log is no place for the amounts."""
    found = dict.fromkeys(one for difference in differences for one in _IDENTIFIED.findall(difference))
    return list(found)[:DETAILS_MAX]


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """The role: round after round until told to stop; a round that is under way then is given up."""
    async with (
        await open_pool(settings, application_name="boxoffice verifier", size=1) as pool,
        Examiner(settings, seconds_max=EVENT_SECONDS_MAX) as examiner,
    ):
        VERIFIED_AT.set(time.time())  # nothing is overdue yet
        rounds = asyncio.create_task(_run_rounds(settings, Verifier(pool, examiner)), name="verifier rounds")
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait({rounds, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not rounds.done():
            rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds


async def _run_rounds(settings: Settings, verifier: Verifier) -> None:
    rest_seconds = settings.verify_seconds  # a process that begins has other things to do
    while True:
        await asyncio.sleep(rest_seconds)
        began_at = time.monotonic()
        try:
            await verifier.run_once()
        except TRANSIENT_ERRORS as problem:
            log.warning("verifier_round_failed", extra={"reason": repr(problem)})
        rest_seconds = max(0.0, settings.verify_seconds - (time.monotonic() - began_at))
