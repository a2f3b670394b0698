"""What does a waiting room's log say happened, and was everything in it fair?

One pass over the entries, oldest first, keeping a few numbers for each person. The public log is checked by ticket; the log
as we keep it, by place and account too. The draw is computed again on the way, so an order that is not the drawn one shows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from contracts.draw import Entrant, drawn_order, drawn_tickets, is_commitment
from contracts.ids import UserId
from contracts.waiting_room import KeptEntry, LogEntry, LogKind, Phase, PlaceId

# From which entry to which a person may go. J has no before: that there is none is checked where it is written down.
MOVES: Final[dict[LogKind, frozenset[LogKind]]] = {
    LogKind.ADMITTED: frozenset({LogKind.JOINED, LogKind.REENTERED}),
    LogKind.CLAIMED: frozenset({LogKind.ADMITTED}),
    LogKind.MISSED: frozenset({LogKind.ADMITTED}),
    LogKind.LEASE_OVER: frozenset({LogKind.CLAIMED}),
    LogKind.RELEASED: frozenset({LogKind.CLAIMED}),
    LogKind.GAVE_UP: frozenset({LogKind.JOINED, LogKind.REENTERED}),
    LogKind.LEFT: frozenset({LogKind.JOINED, LogKind.REENTERED, LogKind.ADMITTED, LogKind.CLAIMED}),
    LogKind.REENTERED: frozenset({LogKind.MISSED}),
}
WAITING: Final = frozenset({LogKind.JOINED, LogKind.REENTERED})
LIVE: Final = WAITING | {LogKind.ADMITTED, LogKind.CLAIMED}

NEXT_PHASES: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.CLOSED: frozenset({Phase.PRE, Phase.OPEN}),
    Phase.PRE: frozenset({Phase.SEALING}),
    Phase.SEALING: frozenset({Phase.OPEN}),
    Phase.OPEN: frozenset({Phase.PAUSED, Phase.DRAINING}),
    Phase.PAUSED: frozenset({Phase.OPEN, Phase.DRAINING}),
    Phase.SOLD_OUT: frozenset({Phase.OPEN}),  # an operator's decision, when seats have come back
}
FINAL: Final = frozenset({Phase.SOLD_OUT, Phase.ENDED})
JOINABLE: Final = frozenset({Phase.PRE, Phase.SEALING, Phase.OPEN, Phase.PAUSED})
ADMITTING: Final = frozenset({Phase.OPEN, Phase.DRAINING})

# A broken log says the same thing a million times; nobody reads past the first few.
FAULTS_MAX: Final = 100


@dataclass(slots=True)
class Person:
    """Where somebody stands by the log: `kind` is that of their last entry, at `since_ms`."""

    ticket: int
    kind: LogKind
    since_ms: int
    index: int
    has_returned: bool = False
    place_id: PlaceId | None = None
    user_id: UserId | None = None


@dataclass(slots=True)
class RoomOnPaper:
    """A room as its log tells it; `apply` takes the next entry and says what was wrong with it."""

    phase: Phase = Phase.CLOSED
    capacity: int = 0
    epoch: int = 1
    entry_count: int = 0
    last_ticket: int = 0
    cohort: int = 0
    cohort_entry_count: int = 0
    seed: str = ""
    people: dict[int, Person] = field(default_factory=dict)
    counts: dict[LogKind, int] = field(default_factory=lambda: dict.fromkeys(LogKind, 0))
    ready_count: int = 0
    active_count: int = 0
    _entrants: list[Entrant] = field(default_factory=list)
    _demoted: set[int] = field(default_factory=set)
    _ticket_of: dict[PlaceId, int] = field(default_factory=dict)
    _live_place_of: dict[UserId, PlaceId | None] = field(default_factory=dict)
    _last_admitted: int = 0
    _last_fence: int = 0

    @property
    def waiting_count(self) -> int:
        """How many are in line: who joined, less everybody who is somewhere else."""
        return sum(person.kind in WAITING for person in self.people.values())

    @property
    def demoted_tickets(self) -> frozenset[int]:
        """Who is drawn behind everybody else."""
        return frozenset(self._demoted)

    def apply(self, entry: LogEntry) -> list[str]:
        """Take the next entry; what was wrong with it, in sentences."""
        faults = list(self._faults_of_order(entry))
        self.entry_count = entry.index + 1
        self.counts[entry.kind] += 1
        if entry.kind is LogKind.PHASE:
            faults += self._enter_phase(entry)
        elif entry.kind is LogKind.SEALED:
            faults += self._seal(entry)
        elif entry.kind is LogKind.JOINED:
            faults += self._join(entry)
        elif entry.kind is LogKind.DEMOTED:
            faults += self._demote(entry)
        else:
            faults += self._move(entry)
        return [f"entry {entry.index} ({entry.kind.value}, ticket {entry.ticket}): {fault}" for fault in faults]

    def _faults_of_order(self, entry: LogEntry) -> Iterator[str]:
        if entry.index != self.entry_count:
            yield f"the log has a gap: entry {self.entry_count} was next"
        if entry.epoch < self.epoch:
            yield f"epoch {entry.epoch} after epoch {self.epoch}"
        if entry.epoch > self.epoch:
            self.epoch, self._last_admitted, self._last_fence = entry.epoch, 0, 0

    def _enter_phase(self, entry: LogEntry) -> Iterator[str]:
        phase, capacity = phase_and_capacity(entry)
        self.capacity = capacity
        if phase is self.phase:
            return
        is_next = phase in NEXT_PHASES.get(self.phase, frozenset())
        is_end = phase in FINAL and self.phase is not Phase.ENDED
        if not (is_next or is_end):
            yield f"the room cannot go from {self.phase.value} to {phase.value}"
        if self.phase is Phase.SEALING and phase is Phase.OPEN and not self.seed:
            yield "the room opened before its draw was sealed"
        self.phase = phase
        if phase is Phase.SEALING:
            self.cohort, self.cohort_entry_count = self.last_ticket, entry.index
            if entry.ticket != self.cohort:
                yield f"the cohort ends at ticket {self.cohort}"

    def _seal(self, entry: LogEntry) -> Iterator[str]:
        if self.phase is not Phase.SEALING or self.seed:
            yield "there was no draw to be sealed"
            return
        if entry.ticket != self.cohort:
            yield f"the cohort ends at ticket {self.cohort}"
        self.seed = entry.detail
        entrants = [entrant for entrant in self._entrants if is_commitment(entrant.commitment)]
        if len(entrants) != self.cohort:
            yield f"{self.cohort - len(entrants)} of the cohort have no commitment to be drawn by"
            return
        self._take_drawn(drawn_tickets(drawn_order(bytes.fromhex(self.seed), entrants, self._demoted)))

    def _take_drawn(self, drawn: dict[int, int]) -> None:
        """From here on the cohort's tickets are the drawn ones."""
        late = {ticket: person for ticket, person in self.people.items() if ticket > self.cohort}
        cohort = [person for ticket, person in self.people.items() if ticket <= self.cohort]
        for person in cohort:
            person.ticket = drawn[person.ticket]
        self.people = {person.ticket: person for person in cohort} | late
        self._ticket_of = {person.place_id: person.ticket for person in self.people.values() if person.place_id}
        self._entrants.clear()

    def _join(self, entry: LogEntry) -> Iterator[str]:
        if self.phase not in JOINABLE:
            yield f"somebody joined a room that was {self.phase.value}"
        if entry.ticket in self.people:
            yield "the ticket was given twice"
        elif entry.ticket != self.last_ticket + 1:
            yield f"tickets are given one after the other, and {self.last_ticket + 1} was next"
        self.last_ticket = max(self.last_ticket, entry.ticket)
        if self.phase is Phase.PRE:
            self._entrants.append(Entrant(entry.ticket, entry.commitment))
        person = Person(entry.ticket, LogKind.JOINED, entry.at_ms, entry.index)
        self.people[entry.ticket] = person
        if isinstance(entry, KeptEntry):
            yield from self._join_with_place(entry, person)

    def _join_with_place(self, entry: KeptEntry, person: Person) -> Iterator[str]:
        if entry.place_id in self._ticket_of:
            yield "the place was given twice"
        person.place_id, person.user_id = entry.place_id, entry.user_id
        self._ticket_of[entry.place_id] = entry.ticket
        if entry.user_id is None:
            return
        if entry.user_id in self._live_place_of:
            yield "whoever joined has a live place already"
        self._live_place_of[entry.user_id] = entry.place_id

    def _demote(self, entry: LogEntry) -> Iterator[str]:
        if self.phase is not Phase.PRE:
            yield "somebody was demoted after the cohort was frozen"
        if entry.ticket not in self.people:
            yield "nobody with this ticket joined"
        self._demoted.add(entry.ticket)

    def _move(self, entry: LogEntry) -> Iterator[str]:
        person = self.people.get(entry.ticket)
        if person is None:
            yield "nobody with this ticket joined"
            return
        if isinstance(entry, KeptEntry) and entry.place_id != person.place_id:
            yield "the ticket belongs to another place"
        if person.kind not in MOVES[entry.kind]:
            yield f"it came after {person.kind.value}"
        self._count(person.kind, -1)
        self._count(entry.kind, +1)
        if entry.kind is LogKind.ADMITTED:
            yield from self._faults_of_admission(entry, person)
        if entry.kind is LogKind.REENTERED:
            yield from self._return(person)
        person.kind, person.since_ms = entry.kind, entry.at_ms
        self._note_owner(person)

    def _count(self, kind: LogKind, by: int) -> None:
        self.ready_count += by * (kind is LogKind.ADMITTED)
        self.active_count += by * (kind is LogKind.CLAIMED)

    def _faults_of_admission(self, entry: LogEntry, person: Person) -> Iterator[str]:
        if self.phase not in ADMITTING:
            yield f"somebody was admitted to a room that was {self.phase.value}"
        if self.ready_count + self.active_count > self.capacity:
            yield f"{self.ready_count} ready and {self.active_count} active are more than {self.capacity}"
        fence = int(entry.detail or 0)
        if fence < self._last_fence:
            yield f"a leader of fence {fence} admitted after one of fence {self._last_fence}"
        self._last_fence = max(self._last_fence, fence)
        # Who returns has an old ticket, and has been at the head before: everybody may see the R.
        if person.has_returned:
            return
        if entry.ticket <= self._last_admitted:
            yield f"ticket {self._last_admitted} was admitted before"
        self._last_admitted = max(self._last_admitted, entry.ticket)

    def _return(self, person: Person) -> Iterator[str]:
        if person.has_returned:
            yield "a missed turn gives one return"
        person.has_returned = True

    def _note_owner(self, person: Person) -> None:
        if person.user_id is None:
            return
        if person.kind in LIVE:
            self._live_place_of[person.user_id] = person.place_id
        elif self._live_place_of.get(person.user_id) == person.place_id:
            del self._live_place_of[person.user_id]


def phase_and_capacity(entry: LogEntry) -> tuple[Phase, int]:
    """What an entry P says; ValueError for one that says something else."""
    phase, capacity, _ = entry.detail.split(" ", 2)
    return Phase(phase), int(capacity)


def read_through(entries: Iterable[LogEntry]) -> tuple[RoomOnPaper, list[str]]:
    """The room at the end of the log, and the first FAULTS_MAX things that were wrong on the way."""
    room, faults = RoomOnPaper(), list[str]()
    for entry in entries:
        found = room.apply(entry)
        faults += found[: FAULTS_MAX - len(faults)]
    return room, faults


def check_log(entries: Iterable[LogEntry]) -> list[str]:
    """Everything that was not as promised, in sentences; nothing if all was well. Entries oldest first, from index 0.

    Tickets unique and given one after the other; nobody admitted who had not joined, twice, out of order, beyond the
    capacity or by a leader that had been replaced; one return after a missed turn; one live place for each account (in the
    log as we keep it); the drawn order the one that the seed gives; no entry missing.
    """
    room, faults = read_through(entries)
    joined, ended = room.counts[LogKind.JOINED], sum(person.kind not in LIVE for person in room.people.values())
    if joined != room.waiting_count + room.ready_count + room.active_count + ended:
        faults.append(
            f"{joined} joined, but {room.waiting_count} wait, {room.ready_count} are ready, {room.active_count} active and"
            f" {ended} gone"
        )
    return faults
