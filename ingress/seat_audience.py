"""What do those who watch an event hear, and when?

The first change after a pause is told at once; after that, changes are gathered for an interval and told as one frame, in
which each seat is once. A frame is encoded once, whoever hears it, and written to one connection after the other: a task
for each listener and frame would cost more than the sale.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from websockets.frames import Frame, Opcode

from db.seat_views import SaleStatus

# Frames kept for those who come back and say where they were. A minute of a busy sale; whoever was away for longer, or
# while more than this was said, begins anew.
RECENT_FRAMES_MAX = 600
RECENT_BYTES_MAX = 512 * 1024
# So many writes take about 3 ms; then others have a turn.
LISTENERS_AT_A_TIME = 500

PING = Frame(Opcode.PING, b"").serialize(mask=False)


@dataclass(frozen=True)
class News:
    """Something to be told, encoded when it is first needed. `version` is the version a seat frame leads to."""

    type: Literal["seats", "resync", "sale", "heartbeat"]
    data: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    previous: int | None = None

    @cached_property
    def as_sse(self) -> bytes:
        """One event of a text/event-stream (WHATWG HTML 9.2.6)."""
        if self.type == "heartbeat":
            return b":\n\n"
        # Only what moves the listener on has an id: Last-Event-ID is then the last version it knows all of.
        id_line = f"id: {self.version}\n" if self.version is not None else ""
        return f"{id_line}event: {self.type}\ndata: {_json(self.data)}\n\n".encode()

    @cached_property
    def as_frame(self) -> bytes:
        """One unmasked WebSocket text frame; a heartbeat comes with a ping."""
        text = _json({"type": self.type, **self.data}).encode()
        frame = Frame(Opcode.TEXT, text).serialize(mask=False)
        return frame + PING if self.type == "heartbeat" else frame


HEARTBEAT = News("heartbeat")


class Listener(Protocol):
    """Somebody who watches."""

    def hear(self, news: News) -> None:
        """Send it, or be cut off for being too slow."""

    def end(self) -> None:
        """Say goodbye and close."""


class Audience:
    """Everybody who watches one event in this process, and what was said a moment ago."""

    def __init__(self, version: int, *, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._listeners: dict[Listener, None] = {}
        self._version = self._told_version = version
        self._changes: dict[int, int] = {}
        self._announcements: deque[News] = deque()
        self._recent: deque[News] = deque()
        self._recent_bytes = 0
        self._telling: asyncio.Task[None] | None = None
        self._told_at = float("-inf")

    def __len__(self) -> int:
        return len(self._listeners)

    def join(self, listener: Listener, *, after: int | None) -> None:
        """Listen from now on; whoever knows version `after` first hears what came since, or that this cannot be told."""
        self.catch_up(listener, after=after)
        self._listeners[listener] = None
        if self._changes:
            self._tell_soon()

    def catch_up(self, listener: Listener, *, after: int | None) -> None:
        """Tell one listener what it missed."""
        missed = None if after is None else self._missed_since(after)
        if missed is None:
            listener.hear(_resync(self._version))
            return
        for news in missed:
            listener.hear(news)

    def leave(self, listener: Listener) -> None:
        """Listen no longer."""
        self._listeners.pop(listener, None)

    def seats_changed(self, changes: Mapping[int, int], *, version: int) -> None:
        """These seats, by index, have become these characters."""
        self._version = version
        self._changes.update(changes)
        if self._changes and self._listeners:
            self._tell_soon()

    def sale_changed(self, status: SaleStatus) -> None:
        """The sale has opened, sold out, or come to its end."""
        self._announce(News("sale", {"status": status}))

    def resync(self, version: int) -> None:
        """Something may have been missed: everybody is to look at the availability and go on from there."""
        self._version = self._told_version = version
        self._changes.clear()
        self._recent.clear()
        self._recent_bytes = 0
        self._announce(_resync(version))

    async def beat(self) -> None:
        """Keep the connections open."""
        await self._tell_all(HEARTBEAT)

    def end(self) -> None:
        """Send everybody away."""
        for listener in tuple(self._listeners):
            listener.end()

    def _missed_since(self, version: int) -> list[News] | None:
        """The frames somebody at that version has not heard; None when they are not all known any more."""
        missed = [news for news in self._recent if news.version is not None and news.version > version]
        known_from = missed[0].previous if missed else self._told_version
        # A version from before the frame's end is told the whole frame: seats that it names twice are what they are.
        return missed if known_from is not None and known_from <= version <= self._version else None

    def _announce(self, news: News) -> None:
        if self._listeners:
            self._announcements.append(news)
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_until_quiet())

    async def _tell_until_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._listeners and (self._announcements or self._changes):
                await asyncio.sleep(self._told_at + self._interval_seconds - loop.time())
                self._told_at = loop.time()
                for news in tuple(self._next_news()):
                    await self._tell_all(news)
        finally:
            self._telling = None

    def _next_news(self) -> Iterator[News]:
        while self._announcements:
            yield self._announcements.popleft()
        if not self._changes:
            return
        frame = _frame(self._changes, previous=self._told_version, version=self._version)
        self._changes = {}
        self._told_version = self._version
        self._remember(frame)
        yield frame

    def _remember(self, frame: News) -> None:
        self._recent.append(frame)
        self._recent_bytes += len(frame.as_sse)
        while len(self._recent) > RECENT_FRAMES_MAX or self._recent_bytes > RECENT_BYTES_MAX:
            self._recent_bytes -= len(self._recent.popleft().as_sse)

    async def _tell_all(self, news: News) -> None:
        listeners = tuple(self._listeners)
        for first in range(0, len(listeners), LISTENERS_AT_A_TIME):
            for listener in listeners[first : first + LISTENERS_AT_A_TIME]:
                listener.hear(news)
            await asyncio.sleep(0)


def _frame(changes: Mapping[int, int], *, previous: int, version: int) -> News:
    indexes: defaultdict[str, list[int]] = defaultdict(list)
    for index, character in changes.items():
        indexes[chr(character)].append(index)
    data = {"version": version, "previous": previous, "changes": indexes}
    return News("seats", data, version=version, previous=previous)


def _resync(version: int) -> News:
    return News("resync", {"version": version})


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
