"""What must be true of a waiting room that was fair? Each check looks at the files only, and names what contradicts it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush

from consumers.proof.report import Check
from contracts.beacon import BEACONS, DrandBeacon
from contracts.draw import ALGORITHM, commitment_of
from contracts.receipts import Receipt
from contracts.waiting_room import LogEntry, LogKind
from contracts.waiting_room_log import check_log
from contracts.waiting_room_proof import BEACON_MARGIN_MS
from ops.waiting_room.evidence import Evidence


def _promise(evidence: Evidence) -> Iterator[str]:
    """The announcement against what somebody saved of it, and against what was revealed."""
    announcement, revelation = evidence.proof.announcement, evidence.proof.revelation
    if evidence.announced is not None and evidence.announced != announcement:
        yield "the announcement in the proof is not the one that was saved before the sale"
    if announcement is None:
        if evidence.sealed_at is not None:
            yield "the log has a draw that was never announced"
        return
    if announcement.event_id != evidence.proof.event_id:
        yield f"the announcement is of another event, {announcement.event_id}"
    if announcement.algorithm != ALGORITHM:
        yield f"the order was to follow from {announcement.algorithm!r}, which this program does not know"
    if revelation is not None and commitment_of(bytes.fromhex(revelation.secret)) != announcement.secret_commitment:
        yield "the secret that was revealed is not the one that was promised: its SHA-256 is another"
    if evidence.sealed_at is not None and revelation is None:
        yield "the draw was made, and its secret has not been revealed"


def _cohort(evidence: Evidence) -> Iterator[str]:
    """Who was in the draw, by the proof and by the log."""
    frozen = evidence.proof.frozen
    if evidence.frozen_before is not None and evidence.frozen_before != frozen:
        yield "the frozen cohort in the proof is not the one that was saved before the beacon spoke"
    if frozen is None:
        return
    if evidence.frozen_at is None:
        yield "the log does not say when the cohort was frozen"
    if len(evidence.cohort) != frozen.cohort_size:
        yield f"the log has {len(evidence.cohort)} people in the cohort, the proof {frozen.cohort_size}"
    tickets = [entrant.ticket for entrant in evidence.cohort]
    if tickets != list(range(1, len(tickets) + 1)):
        yield "the tickets of the cohort are not 1 … N: somebody was taken out"
    if evidence.tree.root.hex() != frozen.merkle_root:
        yield "the log's cohort has another Merkle root than the one that was published: somebody was added, changed or removed"
    for entry in _published_roots(evidence):
        if entry.detail.rsplit(" ", 1)[-1] != frozen.merkle_root:
            yield f"entry {entry.index} of the log published another Merkle root"


def _demotions(evidence: Evidence) -> Iterator[str]:
    """Who is drawn last, by the proof and by the log."""
    frozen = evidence.proof.frozen
    if frozen is None:
        return
    logged, proven = set(evidence.demotions), set(frozen.demotions)
    for ticket, rule in sorted(logged - proven):
        yield f"ticket {ticket} was demoted ({rule}) by the log, but not by the proof"
    for ticket, rule in sorted(proven - logged):
        yield f"ticket {ticket} was demoted ({rule}) by the proof, but not by the log"
    strangers = {demotion.ticket for demotion in logged} - {entrant.ticket for entrant in evidence.cohort}
    for ticket in sorted(strangers):
        yield f"ticket {ticket} was demoted and is not in the cohort"


def _beacon(evidence: Evidence) -> Iterator[str]:
    """What the beacon said, and whether it was the round that had been promised."""
    announcement, revelation = evidence.proof.announcement, evidence.proof.revelation
    if announcement is None or revelation is None:
        return
    beacon, said = BEACONS[announcement.beacon_source], revelation.beacon
    if said.round != announcement.beacon_round:
        yield f"round {announcement.beacon_round} was announced, and round {said.round} was used"
    first = beacon.first_round_from(announcement.starts_at_ms + BEACON_MARGIN_MS)
    if announcement.beacon_round != first:
        yield f"round {first} is the first due {BEACON_MARGIN_MS // 1000} s after the start, not {announcement.beacon_round}"
    fault = beacon.fault_of(said)
    if fault is not None:
        yield f"{announcement.beacon_source}, round {said.round}: {fault}"
    if evidence.frozen_at is not None and evidence.frozen_at.at_ms >= beacon.due_ms(said.round):
        yield f"the cohort was frozen at {_clock(evidence.frozen_at)}, when the beacon had spoken"


def _trust(evidence: Evidence) -> Iterator[str]:
    """What the files cannot show by themselves."""
    announcement = evidence.proof.announcement
    if announcement is None:
        return
    beacon = BEACONS[announcement.beacon_source]
    if not beacon.is_verifiable:
        yield "the randomness was the server's own (offline beacon): the draw can be recomputed, but not trusted"
    if evidence.announced is None:
        yield f"compare with what was published before the sale: secret commitment {announcement.secret_commitment}"
    for entry in _published_roots(evidence):
        if entry.at_ms >= beacon.due_ms(announcement.beacon_round):
            yield f"the Merkle root was published at {_clock(entry)}, when the beacon had spoken"


def _order(evidence: Evidence) -> Iterator[str]:
    """The seed that the log was sealed with is the one that follows from secret, beacon and cohort."""
    sealed = evidence.sealed_at
    if evidence.proof.frozen is not None and evidence.proof.revelation is not None and sealed is None:
        yield "the log does not say with which seed the draw was made"
    if sealed is not None and evidence.seed is not None and sealed.detail != evidence.seed.hex():
        yield f"the draw was made with the seed {sealed.detail}; secret, beacon and cohort make {evidence.seed.hex()}"


def _admissions(evidence: Evidence) -> Iterator[str]:
    """Each admission is of whoever was first in line at that moment."""
    line = _Line()
    for entry in evidence.log:
        if entry.kind is LogKind.SEALED:
            line.take_drawn(evidence.drawn)
        elif entry.kind in _COMES:
            line.add(entry.ticket)
        elif entry.kind is LogKind.ADMITTED:
            first = line.first()
            if first != entry.ticket:
                whose = "nobody waited" if first is None else f"ticket {first} was first in line"
                yield f"entry {entry.index} admitted ticket {entry.ticket}, when {whose}"
            line.remove(entry.ticket)
        elif entry.kind in _GOES:
            line.remove(entry.ticket)


_COMES = frozenset({LogKind.JOINED, LogKind.REENTERED})
_GOES = frozenset({LogKind.GAVE_UP, LogKind.LEFT})


class _Line:
    """Who waits, and who of them is first."""

    def __init__(self) -> None:
        self._waiting: set[int] = set()
        self._heap: list[int] = []

    def add(self, ticket: int) -> None:
        self._waiting.add(ticket)
        heappush(self._heap, ticket)

    def remove(self, ticket: int) -> None:
        self._waiting.discard(ticket)

    def first(self) -> int | None:
        while self._heap and self._heap[0] not in self._waiting:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def take_drawn(self, drawn: dict[int, int]) -> None:
        """Tickets of the door become those of the draw; late-comers keep theirs."""
        self._waiting = {drawn.get(ticket, ticket) for ticket in self._waiting}
        self._heap = list(self._waiting)
        heapify(self._heap)


def _log(evidence: Evidence) -> Iterator[str]:
    """Everything that holds of any room's log."""
    try:
        yield from check_log(evidence.log)
    except (ValueError, KeyError) as problem:
        yield f"it cannot be followed to its end: {problem}"


def _receipts(evidence: Evidence) -> Iterator[str]:
    """Each receipt is signed, and its holder is in the log where it says, and in the cohort if they came in time."""
    for name, receipt in evidence.receipts:
        for fault in _receipt_faults(evidence, receipt):
            yield f"{name} (ticket {receipt.ticket}): {fault}"


def _receipt_faults(evidence: Evidence, receipt: Receipt) -> Iterator[str]:
    announcement = evidence.proof.announcement
    keys = evidence.proof.public_keys if announcement is None else announcement.public_keys
    if receipt.event_id != evidence.proof.event_id:
        yield f"it is of another event, {receipt.event_id}"
        return
    if not any(receipt.is_signed_by(key) for key in keys):
        yield "it is not signed with a published key"
    entry = evidence.joined.get(receipt.log_index)
    if entry is None or entry.ticket != receipt.ticket or entry.commitment != receipt.commitment:
        yield f"entry {receipt.log_index} of the log is not this join: its holder was taken out of the line, or changed"


def _published_roots(evidence: Evidence) -> list[LogEntry]:
    return [entry for entry in evidence.log if entry.kind is LogKind.PHASE and " root " in entry.detail]


def _clock(entry: LogEntry) -> str:
    return f"{datetime.fromtimestamp(entry.at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _one_if_drawn(evidence: Evidence) -> int:
    return int(evidence.proof.announcement is not None)


CHECKS: tuple[Check[Evidence], ...] = (
    Check("promise", "the secret revealed is the one promised before the sale", "promises", _one_if_drawn, _promise),
    Check("cohort", "the cohort is the one that was frozen", "people", lambda it: len(it.cohort), _cohort),
    Check("demotions", "whoever is drawn last was named before", "demotions", lambda it: len(it.demotions), _demotions),
    Check("beacon", "the promised round of the beacon said this", "rounds", _one_if_drawn, _beacon),
    Check("order", "secret, beacon and cohort make this order", "places", lambda it: len(it.drawn), _order),
    Check(
        "admissions",
        "whoever was admitted was first in line",
        "admissions",
        lambda it: sum(entry.kind is LogKind.ADMITTED for entry in it.log),
        _admissions,
    ),
    Check("log", "nothing is missing, and nothing happened that may not", "entries", lambda it: len(it.log), _log),
    Check("receipts", "whoever holds a receipt is in the log", "receipts", lambda it: len(it.receipts), _receipts),
    Check("trust", "nothing rests on our word alone", "draws", _one_if_drawn, _trust, is_warning=True),
)

# How to ask the beacon oneself, rather than to believe the file.
ASK_THE_BEACON = f"curl https://api.drand.sh/{DrandBeacon.chain_hash}/public/"
