"""A waiting room that was fair, on paper: the files that it would have left behind.

Somebody of everything is in it: leavers and silent ones before and after the draw, late-comers, demoted people, a missed
turn and a return, an order that went through.
"""

import random
from dataclasses import replace
from uuid import UUID

from contracts.beacon import BeaconSource, OfflineBeacon
from contracts.draw import Demotion, Entrant, cohort_tree, commitment_of, draw_seed, drawn_order, drawn_tickets
from contracts.ids import EventId
from contracts.receipts import Receipt
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_room import LogEntry, LogKind
from contracts.waiting_room_proof import (
    BEACON_MARGIN_MS,
    Announcement,
    FrozenCohort,
    Revelation,
    RoomProof,
)
from ops.waiting_room.evidence import Evidence

EVENT = EventId(UUID("00000000-0000-4000-8000-00000000d0a1"))
KEYS = SigningKeys.of(Settings())
STARTS_AT_MS = 1_800_000_000_000
SERVER_SECRET = b"the server's secret, 32 bytes.  "
RANDOMNESS = b"what the beacon said, 32 bytes. "
CAPACITY = 1_000_000


class Log:
    """A log that is being written, entry after entry."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.at_ms = STARTS_AT_MS - 60_000

    def write(self, kind: LogKind, ticket: int = 0, *, commitment: str = "", detail: str = "") -> LogEntry:
        """The next entry, ten milliseconds after the last."""
        self.at_ms += 10
        entry = LogEntry(
            index=len(self.entries), at_ms=self.at_ms, kind=kind, ticket=ticket, commitment=commitment, detail=detail
        )
        self.entries.append(entry)
        return entry

    def join(self, ticket: int) -> LogEntry:
        """Somebody comes."""
        return self.write(LogKind.JOINED, ticket, commitment=commitment_of(b"secret of %d" % ticket))


def a_fair_sale(cohort_size: int = 40, late_count: int = 10) -> Evidence:
    """Everybody joins, some leave, the draw is made, and whoever is left is admitted in its order."""
    log, demotions = Log(), tuple(Demotion(ticket, "join cadence") for ticket in (4, 9) if ticket <= cohort_size)
    log.write(LogKind.PHASE, detail=f"pre {CAPACITY} opened")
    for ticket in range(1, cohort_size + 1):
        log.join(ticket)
    for ticket, rule in demotions:
        log.write(LogKind.DEMOTED, ticket, detail=rule)
    gone = {2, 3}
    log.write(LogKind.LEFT, 2)
    log.write(LogKind.GAVE_UP, 3)
    log.write(LogKind.PHASE, cohort_size, detail=f"sealing {CAPACITY} the sale begins")
    frozen_at_ms = log.at_ms
    root = cohort_tree(EVENT, _entrants(log), demotions).root
    log.write(LogKind.PHASE, cohort_size, detail=f"sealing {CAPACITY} root {root.hex()}")
    for ticket in range(cohort_size + 1, cohort_size + late_count + 1):
        log.join(ticket)
    seed = draw_seed(server_secret=SERVER_SECRET, beacon_randomness=RANDOMNESS, merkle_root=root)
    drawn = drawn_tickets(drawn_order(seed, _entrants(log)[:cohort_size], {ticket for ticket, _ in demotions}))
    log.at_ms = frozen_at_ms + BEACON_MARGIN_MS + 5000
    log.write(LogKind.SEALED, cohort_size, detail=seed.hex())
    log.write(LogKind.PHASE, cohort_size, detail=f"open {CAPACITY} drawn")
    line = sorted(drawn.get(ticket, ticket) for ticket in range(1, cohort_size + late_count + 1) if ticket not in gone)
    _admit_everybody(log, line)
    return _evidence(log, demotions, root, cohort_size)


def _admit_everybody(log: Log, line: list[int]) -> None:
    """One after the other: one gives up, one leaves, one misses the turn and returns, the others buy or do not."""
    log.write(LogKind.GAVE_UP, line.pop(5))
    log.write(LogKind.LEFT, line.pop(-5))
    misser = line[7]
    for place, ticket in enumerate(line):
        log.write(LogKind.ADMITTED, ticket, detail="1")
        if ticket == misser:
            log.write(LogKind.MISSED, ticket, detail="1")
            continue
        if place == 12:
            log.write(LogKind.REENTERED, misser)
            log.write(LogKind.ADMITTED, misser, detail="1")
        log.write(LogKind.CLAIMED, ticket)
        log.write(random.Random(ticket).choice([LogKind.RELEASED, LogKind.LEFT]), ticket)


def _entrants(log: Log) -> list[Entrant]:
    return [Entrant(entry.ticket, entry.commitment) for entry in log.entries if entry.kind is LogKind.JOINED]


def _evidence(log: Log, demotions: tuple[Demotion, ...], root: bytes, cohort_size: int) -> Evidence:
    beacon = OfflineBeacon()
    beacon_round = beacon.first_round_from(STARTS_AT_MS + BEACON_MARGIN_MS)
    announcement = Announcement(
        event_id=EVENT,
        secret_commitment=commitment_of(SERVER_SECRET),
        starts_at_ms=STARTS_AT_MS,
        beacon_source=BeaconSource.OFFLINE,
        beacon_round=beacon_round,
        public_keys=KEYS.public_keys,
    )
    frozen = FrozenCohort(event_id=EVENT, cohort_size=cohort_size, demotions=demotions, merkle_root=root.hex())
    revelation = Revelation(secret=SERVER_SECRET.hex(), beacon=beacon.spoken(beacon_round, RANDOMNESS))
    proof = RoomProof(
        event_id=EVENT,
        event_name="A fair sale",
        public_keys=KEYS.public_keys,
        announcement=announcement,
        frozen=frozen,
        revelation=revelation,
    )
    joins = [entry for entry in log.entries if entry.kind is LogKind.JOINED]
    receipts = tuple((f"{entry.ticket:03}.json", receipt_of(entry)) for entry in joins)
    return Evidence(proof, tuple(log.entries), receipts, announced=announcement, frozen_before=frozen)


def receipt_of(entry: LogEntry) -> Receipt:
    """What somebody was given when they joined."""
    receipt = Receipt(event_id=EVENT, ticket=entry.ticket, commitment=entry.commitment, log_index=entry.index)
    return receipt.signed_with(KEYS.receipt_key)


def renumbered(entries: list[LogEntry]) -> tuple[LogEntry, ...]:
    """The entries with indexes that have no gap: what a careful forger would do."""
    return tuple(entry.model_copy(update={"index": index}) for index, entry in enumerate(entries))


def with_log(evidence: Evidence, entries: list[LogEntry]) -> Evidence:
    """The same files with another log."""
    return replace(evidence, log=renumbered(entries))
