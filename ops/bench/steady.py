"""What do clients hear who come at a steady pace, whatever becomes of those before them?

wrk asks as fast as it is answered, so a server that stalls is asked less while it does. Here the next one asks when it is
time to, and a time is counted from when the asking was due: nobody's wait is left out. Light enough for some hundred asks
a second; for more there is wrk.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from ops.bench.load import Answers, Ask, Look
from ops.stack import StackProblem

# Above the longest that a route waits by itself: a slow answer is counted as slow, not as none.
ANSWER_SECONDS_MAX = 30.0
# Whoever comes while so many are waiting waits for a connection, and that is counted.
CONNECTIONS_MAX = 512

# Those who are told that there is no room come again after this.
TURNED_AWAY_SECONDS = 0.25

PERCENTILES = (50, 90, 95, 99, 100)


class Heard(NamedTuple):
    """One answer."""

    status: int
    body: bytes


@dataclass
class Tally:
    """What came back so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    # Of each answer, in milliseconds.
    waits_ms: list[float] = field(default_factory=list)
    # Bytes of bodies, as they came over the wire.
    body_bytes: int = 0

    def note(self, heard: Heard, *, since: float) -> None:
        """An answer to what was to be asked at that time of time.perf_counter."""
        self.statuses[heard.status] += 1
        self.waits_ms.append(1000 * (time.perf_counter() - since))
        self.body_bytes += len(heard.body)

    def add(self, other: "Tally") -> None:
        """And what came back elsewhere."""
        self.statuses += other.statuses
        self.errors += other.errors
        self.waits_ms += other.waits_ms
        self.body_bytes += other.body_bytes

    def answers(self, *, seconds: float) -> Answers:
        """All of it, of a window of so many seconds; raises StackProblem when nobody was answered."""
        if not self.waits_ms:
            raise StackProblem(f"nobody was answered, so there is nothing to tell: {dict(self.errors)}")
        return Answers(
            seconds=seconds,
            statuses=dict(sorted(self.statuses.items())),
            latency_ms=percentiles_of(self.waits_ms),
            errors=dict(self.errors),
            ran_out=False,
        )


class Caller(asyncio.Protocol):
    """A connection that is kept, over which one thing at a time is asked."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Heard] | None = None
        self._head, self._status, self._missing = b"", 0, 0
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of TCP there is no other, though uvloop's does not say so.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exception: Exception | None) -> None:
        self._transport = None
        self._fail(exception or ConnectionResetError("the connection was closed"))

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    async def ask(self, request: bytes) -> Heard:
        """Send this request and wait for its answer; raises OSError, and ValueError for an answer that we cannot read."""
        if self._transport is None:
            raise ConnectionResetError("the connection was closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._status:
            data = self._read_head(data)
        if self._status:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing <= 0:
                self._finish()

    def _read_head(self, data: bytes) -> bytes:
        """What follows the head; empty as long as there is more of it to come."""
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        try:
            self._status, self._missing = _status_and_length(head)
        except ValueError as unreadable:
            self._fail(unreadable)
        return rest

    def _finish(self) -> None:
        heard = Heard(self._status, b"".join(self._pieces))
        self._head, self._status, self._missing = b"", 0, 0
        self._pieces = []
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(heard)

    def _fail(self, problem: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(problem)


def _status_and_length(head: bytes) -> tuple[int, int]:
    """Of an answer whose body has a known length; raises ValueError for any other."""
    first, *lines = head.lower().split(b"\r\n")
    status = int(first.split(b" ", 2)[1])
    lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
    if not lengths and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        raise ValueError(f"an answer {status} without a length")
    return status, lengths[0] if lengths and status != HTTPStatus.NOT_MODIFIED else 0


class Callers:
    """Connections to one server, opened when they are needed and kept."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._address = (parts.hostname or "", parts.port or 80)
        self._idle: list[Caller] = []
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)

    async def ask(self, wanted: Ask | Look) -> Heard:
        """Ask over a connection that is free; raises OSError, and ValueError for an answer that we cannot read."""
        async with self._room:
            caller = await self._take()
            try:
                heard = await caller.ask(wanted.written(self.host).encode())
            except BaseException:
                caller.close()  # an answer that comes after all is not to be taken for the next one's
                raise
            self._idle.append(caller)
            return heard

    def close(self) -> None:
        """Give up the connections that nobody waits at."""
        for caller in self._idle:
            caller.close()

    async def _take(self) -> Caller:
        while self._idle:
            caller = self._idle.pop()
            if caller.is_connected:
                return caller
        _, fresh = await asyncio.get_running_loop().create_connection(Caller, *self._address)
        return fresh


@asynccontextmanager
async def callers_of(url: str) -> AsyncIterator[Callers]:
    """Connections that are closed in the end."""
    callers = Callers(url)
    try:
        yield callers
    finally:
        callers.close()


async def ask_steadily(url: str, asks: Iterator[Ask | Look], *, per_second: float, seconds: float) -> Tally:
    """Ask the next of these every 1/`per_second`, for so long; returns when all have been answered or given up."""
    tally = Tally()
    async with callers_of(url) as callers:
        begun_at = time.perf_counter()
        asking = []
        for number in range(round(per_second * seconds)):
            due_at = begun_at + number / per_second
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            wanted = next(asks, None)
            if wanted is None:
                raise StackProblem("there is nothing left to ask: the window is too long for the house")
            asking.append(asyncio.create_task(ask_once(callers, wanted, due_at, tally)))
        await asyncio.gather(*asking)
    return tally


@asynccontextmanager
async def besieged(url: str, asks: Sequence[Ask | Look], *, at_once: int) -> AsyncIterator[Tally]:
    """Meanwhile so many clients ask these without end; one that is told there is no room comes again in a moment."""
    tally = Tally()

    async def insist(callers: Callers, first: int) -> None:
        for number in range(first, 10**9, at_once):
            heard = await ask_once(callers, asks[number % len(asks)], time.perf_counter(), tally)
            if heard is None or heard.status == HTTPStatus.SERVICE_UNAVAILABLE:
                await asyncio.sleep(TURNED_AWAY_SECONDS)

    async with callers_of(url) as callers:
        clients = [asyncio.create_task(insist(callers, first)) for first in range(at_once)]
        try:
            yield tally
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


async def ask_once(callers: Callers, wanted: Ask | Look, due_at: float, tally: Tally) -> Heard | None:
    """The answer, counted in `tally`; None, and counted there too, when there was none."""
    try:
        heard = await callers.ask(wanted)
    except (OSError, ValueError) as problem:
        tally.errors[type(problem).__name__] += 1
        return None
    tally.note(heard, since=due_at)
    return heard


def percentiles_of(waits_ms: Sequence[float]) -> dict[int, float]:
    """By percentile, the wait that so many per cent did not exceed; 100 is the longest. Of at least one."""
    ordered = sorted(waits_ms)
    return {share: ordered[ceil(share * len(ordered) / 100) - 1] for share in PERCENTILES}
