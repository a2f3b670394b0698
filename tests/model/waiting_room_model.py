"""What should a waiting room answer? The same rules as the Lua, written the slow and plain way, to compare it with.

No Redis, no sets by score: a list of people, looked through from start to end every time.
"""

from dataclasses import dataclass, field

from contracts.waiting_room import Gone, Phase, PlaceState
from db.waiting_room import RoomSettings

SERVED = (Phase.OPEN, Phase.PAUSED, Phase.DRAINING)
JOINABLE = (Phase.OPEN, Phase.PAUSED)


@dataclass
class ModelPerson:
    """Somebody's place."""

    user: int
    ticket: int
    seen_ms: int
    state: PlaceState = PlaceState.WAITING
    gone: Gone | None = None
    until_ms: int = 0
    since_ms: int = 0
    has_returned: bool = False


@dataclass
class ModelRoom:
    """A room on one page. Answers are (state, gone, ticket, rank, until), or None where nothing can be said."""

    settings: RoomSettings
    now_ms: int
    phase: Phase = Phase.OPEN
    people: list[ModelPerson] = field(default_factory=list)
    tokens: float = 0.0
    tokens_at_ms: int = 0
    near_cursor: int = 0

    def line(self) -> list[ModelPerson]:
        """Who waits, first to last."""
        return sorted((one for one in self.people if one.state is PlaceState.WAITING), key=lambda one: one.ticket)

    def of(self, user: int) -> ModelPerson | None:
        """The place of theirs that counts: the last one; with its deadlines come to pass."""
        theirs = [one for one in self.people if one.user == user]
        if theirs:
            self._expire(theirs[-1])
        return theirs[-1] if theirs else None

    def join(self, user: int) -> object:
        """A place, or the one they have."""
        one = self.of(user)
        if one is not None:
            self._return(one)
            if one.state is not PlaceState.GONE:
                self._hear(one)
                return self.answer(one)
        if self.phase not in JOINABLE:
            return None
        self.people.append(ModelPerson(user, len(self.people) + 1, self.now_ms))
        return self.answer(self.people[-1])

    def poll(self, user: int) -> object:
        """Where they stand."""
        one = self.of(user)
        if one is None:
            return None
        self._hear(one)
        return self.answer(one)

    def claim(self, user: int) -> object:
        """Their turn."""
        one = self.of(user)
        if one is None:
            return None
        self._return(one)
        if one.state is PlaceState.READY and self.phase in SERVED:
            one.state, one.since_ms, one.until_ms = PlaceState.ACTIVE, self.now_ms, self.now_ms + self.settings.lease_ms
        self._hear(one)
        return self.answer(one)

    def leave(self, user: int) -> object:
        """They go."""
        one = self.of(user)
        if one is None:
            return None
        if one.state is not PlaceState.GONE:
            self._go(one, Gone.LEFT)
        return self.answer(one)

    def release(self, user: int) -> bool:
        """They are done."""
        one = self.of(user)
        if one is None or one.state is not PlaceState.ACTIVE:
            return False
        self._go(one, Gone.DONE)
        return True

    def extend(self, user: int, hold_until_ms: int) -> int | None:
        """The lease follows the hold."""
        one = self.of(user)
        if one is None or one.state is not PlaceState.ACTIVE:
            return None
        wanted = min(hold_until_ms + 60_000, one.since_ms + self.settings.lease_cap_ms)
        one.until_ms = max(one.until_ms, wanted)
        return one.until_ms

    def passes(self, user: int) -> bool:
        """May they buy?"""
        theirs = [one for one in self.people if one.user == user]
        is_active = bool(theirs) and theirs[-1].state is PlaceState.ACTIVE and theirs[-1].until_ms > self.now_ms
        return is_active or self.phase is Phase.ENDED

    def tick(self) -> tuple[int, int, int, int]:
        """A round: admitted, then how many wait, are ready, are active."""
        for one in self.people:
            self._expire(one)
        self._put_out_the_silent()
        passed_ms = min(self.now_ms - self.tokens_at_ms, 2_000)
        kept = min(self.tokens, max(self.settings.burst, 1))
        self.tokens = kept + passed_ms * self.settings.rate_per_second / 1_000
        self.tokens_at_ms = self.now_ms
        free = self.settings.capacity - self.count(PlaceState.READY) - self.count(PlaceState.ACTIVE)
        may_come = max(0, min(int(self.tokens), free)) if self.phase in (Phase.OPEN, Phase.DRAINING) else 0
        admitted = self.line()[:may_come]
        for one in admitted:
            one.state, one.until_ms = PlaceState.READY, self.now_ms + self.settings.claim_ms
        self.tokens -= len(admitted)
        return len(admitted), *(self.count(state) for state in list(PlaceState)[:3])

    def enter_phase(self, phase: Phase) -> None:
        """The operator says so."""
        self.phase, self.tokens, self.tokens_at_ms = phase, 0.0, self.now_ms

    def count(self, state: PlaceState) -> int:
        """How many are in that state."""
        return sum(one.state is state for one in self.people)

    def answer(self, one: ModelPerson) -> object:
        """What is said of them."""
        too_late = {Phase.SOLD_OUT: Gone.SOLD_OUT, Phase.ENDED: Gone.ENDED}.get(self.phase)
        if too_late and one.state in (PlaceState.WAITING, PlaceState.READY):
            return PlaceState.GONE, too_late, one.ticket, None, None
        rank = self.line().index(one) if one.state is PlaceState.WAITING else None
        return one.state, one.gone, one.ticket, rank, self._until(one)

    def _until(self, one: ModelPerson) -> int | None:
        if one.state in (PlaceState.READY, PlaceState.ACTIVE):
            return one.until_ms
        if one.gone is Gone.MISSED and not one.has_returned:
            return one.since_ms + self.settings.return_ms
        return None

    def _expire(self, one: ModelPerson) -> None:
        if one.until_ms > self.now_ms:
            return
        if one.state is PlaceState.READY:
            self._go(one, Gone.MISSED)
        elif one.state is PlaceState.ACTIVE:
            self._go(one, Gone.LEASE_OVER)

    def _go(self, one: ModelPerson, why: Gone) -> None:
        one.state, one.gone, one.since_ms = PlaceState.GONE, why, self.now_ms

    def _return(self, one: ModelPerson) -> None:
        in_time = self.now_ms - one.since_ms <= self.settings.return_ms
        if one.gone is Gone.MISSED and not one.has_returned and in_time and self.phase in SERVED:
            one.state, one.gone, one.seen_ms, one.has_returned = PlaceState.WAITING, None, self.now_ms, True

    def _hear(self, one: ModelPerson) -> None:
        if one.state is PlaceState.WAITING:
            one.seen_ms = self.now_ms

    def _put_out_the_silent(self) -> None:
        for rank, one in enumerate(self.line()):
            is_near = rank < self.settings.near_rank
            patience_ms = self.settings.near_ms if is_near else self.settings.deep_ms
            if one.seen_ms < self.now_ms - patience_ms:
                self._go(one, Gone.GAVE_UP)
