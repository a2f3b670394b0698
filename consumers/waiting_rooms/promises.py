"""Did what people were shown come true?

The log tells who was let in, in which order and when. What somebody was shown before (`db/waiting_room_observations.py`) is
compared with it when their turn comes: the position with the admissions that really came before theirs, the time with the time
it took. Whoever leaves before their turn proves nothing. What waits to be compared is in this process's memory: a change of
leaders costs the samples of those who wait, and the people in line are shown something new within the minute.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from consumers.waiting_rooms.figures import (
    ETA_ERROR,
    IN_BAND,
    INVERSIONS,
    POSITION_ERROR,
    WAIT_SECONDS,
    RoomFigures,
)
from contracts.ids import EventId
from contracts.waiting_room import KeptEntry, LogKind, PlaceId
from db.postgres import Pool
from db.waiting_room_observations import ShownOutlook
from db.waiting_room_records import count_log, find_joined_at, find_returned

# Of each person the latest few screens; of all people together some megabytes.
SCREENS_PER_PERSON = 8
PEOPLE_MAX = 20_000
# Of the last turns one more or less is many per cent, and means nothing to whoever stands there.
FAR_TURNS = 20

_LEAVES = frozenset({LogKind.GAVE_UP, LogKind.LEFT})


class Promises:
    """One room's promises, and what came of them. Entries are given in the order of the log, each once."""

    def __init__(
        self, pool: Pool, event_id: EventId, figures: RoomFigures, *, admitted_count: int, returned: set[int]
    ) -> None:
        self._pool, self._event_id, self._figures = pool, event_id, figures
        self._admitted_count = admitted_count
        self._returned = returned
        self._shown: defaultdict[int, list[ShownOutlook]] = defaultdict(list)
        self._epoch, self._last_ticket = 0, 0

    @classmethod
    async def of_room(cls, pool: Pool, event_id: EventId, figures: RoomFigures) -> "Promises":
        """For what comes after the entries that are copied now."""
        counts = await count_log(pool, event_id)
        returned = await find_returned(pool, event_id)
        return cls(pool, event_id, figures, admitted_count=counts.get(LogKind.ADMITTED, 0), returned=returned)

    def note_shown(self, shown: Iterable[ShownOutlook]) -> None:
        """People have seen this."""
        for one in shown:
            screens = self._shown[one.ticket]
            screens.append(one)
            del screens[:-SCREENS_PER_PERSON]
        while len(self._shown) > PEOPLE_MAX:
            del self._shown[next(iter(self._shown))]

    async def follow(self, entries: Sequence[KeptEntry]) -> None:
        """This has happened since."""
        joined_at_ms = await self._find_joined_at(entries)
        for entry in entries:
            if entry.kind is LogKind.REENTERED:
                self._returned.add(entry.ticket)
            elif entry.kind in _LEAVES:
                self._shown.pop(entry.ticket, None)
            elif entry.kind is LogKind.ADMITTED:
                self._admit(entry, joined_at_ms.get(entry.place_id))

    async def _find_joined_at(self, entries: Sequence[KeptEntry]) -> dict[PlaceId, int]:
        places = [entry.place_id for entry in entries if entry.kind is LogKind.ADMITTED]
        return await find_joined_at(self._pool, self._event_id, places) if places else {}

    def _admit(self, entry: KeptEntry, joined_at_ms: int | None) -> None:
        self._admitted_count += 1
        if entry.epoch != self._epoch:
            self._epoch, self._last_ticket = entry.epoch, 0
        if entry.ticket in self._returned:
            # The turn that was promised was their first one.
            return
        if entry.ticket <= self._last_ticket:
            self._figures.count(INVERSIONS)
        self._last_ticket = max(self._last_ticket, entry.ticket)
        if joined_at_ms is not None:
            self._figures.observe(WAIT_SECONDS, (entry.at_ms - joined_at_ms) / 1000)
        for shown in self._shown.pop(entry.ticket, ()):
            self._compare(shown, entry)

    def _compare(self, shown: ShownOutlook, entry: KeptEntry) -> None:
        turns = self._admitted_count - shown.admitted
        seconds = (entry.at_ms - shown.at_ms) / 1000
        if turns < FAR_TURNS or seconds <= 0:
            return
        self._figures.observe(POSITION_ERROR, abs(shown.position - turns) / turns)
        if shown.p50 is None or shown.p10 is None or shown.p90 is None:
            return
        self._figures.observe(ETA_ERROR, abs(shown.p50 - seconds) / seconds)
        self._figures.count(IN_BAND, "yes" if shown.p10 <= seconds <= shown.p90 else "no")
