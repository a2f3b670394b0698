"""Is everything that happened in a room written down where a lost Redis cannot take it?

Redis writes a room's log; here it is copied to PostgreSQL, page by page, and only then may Redis forget it. Whoever copies an
entry twice changes nothing. That the copy and Redis tell the same story is checked at their seam: a Redis that came back from
its disk without its last second would otherwise go on with another one under the same numbers.
"""

import asyncio
from collections.abc import Sequence

from contracts.ids import EventId
from contracts.waiting_room import KeptEntry
from db.postgres import Pool
from db.waiting_room import ENTRIES_PER_CALL, WaitingRooms
from db.waiting_room_records import append_log, last_log_index, read_log


class LogLost(Exception):
    """Redis has forgotten the end of the log, or tells another one: the room must be filled again from the copy."""


class LogGap(Exception):
    """Redis has forgotten entries that are not copied, so the copy is an old one: it must not be taken for the truth."""


class LogMirror:
    """One room's log, copied by one process."""

    def __init__(self, pool: Pool, rooms: WaitingRooms, event_id: EventId) -> None:
        self._pool = pool
        self._rooms = rooms
        self._event_id = event_id
        self._last: KeptEntry | None = None
        self._is_known = False
        # The draw wants the whole cohort copied while the usual round copies too.
        self._alone = asyncio.Lock()

    @property
    def last_index(self) -> int:
        """The last entry that is copied; -1 before the first."""
        return -1 if self._last is None else self._last.index

    async def copy(self, *, entry_count: int, pages: int | None = None) -> list[KeptEntry]:
        """Copy what is new, at most so many pages; the entries that nobody had copied before, oldest first.

        `entry_count` is how many entries Redis has had, as its facts say. Raises LogLost or LogGap.
        """
        async with self._alone:
            await self._find_seam()
            if entry_count <= self.last_index:
                raise LogLost(f"Redis has {entry_count} entries, and {self.last_index + 1} are copied")
            copied: list[KeptEntry] = []
            while pages is None or pages > 0:
                page = await self._next_page()
                if not page:
                    break
                copied += await self._keep(page)
                pages = None if pages is None else pages - 1
            return copied

    async def _find_seam(self) -> None:
        if self._is_known:
            return
        last = await last_log_index(self._pool, self._event_id)
        kept = await read_log(self._pool, self._event_id, after_index=last - 1, count=1) if last >= 0 else []
        self._last, self._is_known = (kept[0] if kept else None), True

    async def _next_page(self) -> list[KeptEntry]:
        """What Redis has after the last entry copied. That one is read again, unless Redis has forgotten it already."""
        after, last = self.last_index - (self._last is not None), self._last
        page = await self._rooms.read_log(self._event_id, after_index=after, count=ENTRIES_PER_CALL)
        if page and last is not None and page[0].index == last.index:
            if page[0] != last:
                raise LogLost(f"entry {last.index} is copied as {last.kind}, and Redis has {page[0].kind}")
            page = page[1:]
        if page and page[0].index != self.last_index + 1:
            raise LogGap(f"entry {self.last_index + 1} is neither copied nor in Redis")
        return page

    async def _keep(self, page: Sequence[KeptEntry]) -> list[KeptEntry]:
        new = await append_log(self._pool, self._event_id, page)
        self._last = page[-1]
        await self._rooms.acknowledge(self._event_id, self.last_index)
        return [entry for entry in page if entry.index in new]
