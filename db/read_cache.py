"""How are the same few pages read by thousands without being made by thousands?

Cache-aside in Redis. Whatever is cached carries the generation of the catalogue it was read under, and counts only while
that is the generation: a write of the catalogue ends it after its commit, and a reader that had read before it cannot pass
old data off as new. One loader for each key: within a process the askers share one flight, across processes a lock in
Redis lets one load while the others wait a moment for what it finds. Redis away or slow costs speed, and never an answer.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from contracts.settings import Settings
from db.redis import REDIS_AWAY, open_redis

log = logging.getLogger(__name__)

# One tag for the whole catalogue, so that one call reads an entry and the generation it must be of.
_TAG = "{catalogue}"
_GENERATION = f"{_TAG}:generation"

# A healthy trip takes a few milliseconds, but it is our own loop that looks at the clock, and at a stampede that is late.
REDIS_TIMEOUT_SECONDS = 0.2
# After so many failures in a row Redis is left alone for this long, or every reader would wait for the timeout in turn.
REDIS_FAILURES_MAX = 3
REDIS_PAUSE_SECONDS = 1.0
# Longer than any load takes; a loader that died is succeeded after this.
TURN_MILLISECONDS = 1000
# How long others wait for the one who loads before they load themselves.
PATIENCE_SECONDS = 0.2
POLL_SECONDS = 0.01
# Of one process. Anybody can ask for a million different lists, and Redis has the seat locks to keep.
KEPT_BYTES_PER_MINUTE_MAX = 32 * 1024 * 1024


class Document(NamedTuple):
    """Bytes as they are answered, and the tag that changes with them (no line breaks in it)."""

    tag: str
    body: bytes


Load = Callable[[], Awaitable[Document | None]]


class ReadCache:
    """The documents of the catalogue that somebody has read lately."""

    def __init__(self, settings: Settings) -> None:
        self._redis: Any = open_redis(settings)  # redis-py has no types for what is sent as it is
        self._flights: dict[str, asyncio.Task[Document | None]] = {}
        self._away_until = 0.0
        self._failure_count = 0
        self._owes_forgetting = False
        self._minute_began_at = 0.0
        self._kept_bytes = 0

    async def find(self, name: str, load: Load, *, seconds: int) -> Document | None:
        """The document of that name, at most `seconds` old, or what `load` finds; None is not kept. Raises what it raises."""
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(self._find(name, load, seconds))
            flight.add_done_callback(lambda done: self._land(name, done))
        # Shielded: one client that hangs up must not take the document from all the others.
        return await asyncio.shield(flight)

    async def get(self, name: str, load: Callable[[], Awaitable[Document]], *, seconds: int) -> Document:
        """The same of what is always there."""
        document = await self.find(name, load, seconds=seconds)
        if document is None:
            raise LookupError(name)
        return document

    async def forget_all(self) -> None:
        """What was read until now is no longer good; call it after the commit of every write of the catalogue."""
        # Whoever asks from now on must not join a flight that may have read before the commit.
        self._flights.clear()
        self._owes_forgetting = await self._call("INCR", _GENERATION) is None

    async def close(self) -> None:
        """Give the connections up."""
        await self._redis.aclose()

    def _land(self, name: str, done: "asyncio.Task[Document | None]") -> None:
        if self._flights.get(name) is done:
            del self._flights[name]
        if not done.cancelled():
            done.exception()  # looked at: when all its askers have hung up, nobody else does

    async def _find(self, name: str, load: Load, seconds: int) -> Document | None:
        found = await self._read(name)
        if found is None:
            return await load()
        generation, document = found
        if document is not None:
            return document
        if not await self._call("SET", _turn_key(name), b"", "NX", "PX", TURN_MILLISECONDS):
            generation, document = await self._wait_for(name, generation)
            return document or await self._load(name, load, seconds, generation)
        try:
            # Once more: the one whose turn it was may have come back between our look and our turn.
            generation, document = await self._read(name) or (generation, None)
            return document or await self._load(name, load, seconds, generation)
        finally:
            await self._call("DEL", _turn_key(name))

    async def _load(self, name: str, load: Load, seconds: int, generation: bytes) -> Document | None:
        """What `load` finds, kept under the generation from before it was read."""
        document = await load()
        if document is not None and self._may_keep(len(document.body)):
            entry = b"\n".join((generation, document.tag.encode(), document.body))
            await self._call("SET", _key(name), entry, "EX", seconds)
        return document

    async def _wait_for(self, name: str, generation: bytes) -> tuple[bytes, Document | None]:
        """What somebody else is loading, or None when that takes too long; with the generation then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            found = await self._read(name)
            if found is None:
                break
            generation, document = found
            if document is not None:
                return generation, document
        return generation, None

    async def _read(self, name: str) -> tuple[bytes, Document | None] | None:
        """The generation, and the document if it is of it; None when Redis is away."""
        if self._owes_forgetting:
            # It was away when something was written; what it kept meanwhile is old.
            await self.forget_all()
        values = await self._call("MGET", _GENERATION, _key(name))
        if values is None or self._owes_forgetting:
            return None
        generation, entry = values[0] or b"0", values[1]
        if entry is None:
            return generation, None
        kept_under, tag, body = entry.split(b"\n", 2)
        return generation, Document(tag.decode(), body) if kept_under == generation else None

    async def _call(self, *command: str | bytes | int) -> Any:
        """What Redis answers; None when it is away, or was a moment ago."""
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                answer = await self._redis.execute_command(*command)
        except REDIS_AWAY as problem:
            self._failed(problem)
            return None
        self._failure_count = 0
        return answer

    def _failed(self, problem: Exception) -> None:
        self._failure_count += 1
        if self._failure_count >= REDIS_FAILURES_MAX:
            self._failure_count = 0
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            log.warning("catalogue_cache_away", extra={"reason": repr(problem)})

    def _may_keep(self, byte_count: int) -> bool:
        now = time.monotonic()
        if now - self._minute_began_at >= 60:
            self._minute_began_at, self._kept_bytes = now, 0
        self._kept_bytes += byte_count
        return self._kept_bytes <= KEPT_BYTES_PER_MINUTE_MAX


def _key(name: str) -> str:
    return f"{_TAG}:read:{name}"


def _turn_key(name: str) -> str:
    return f"{_TAG}:turn:{name}"
