"""How does the provider never forget what it has answered?

One JSON record per line, appended and synced to the disk before the reply leaves. Requests that wait at the same time
share one sync, otherwise the disk would bound the whole simulator.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class BrokenJournal(Exception):
    """A whole line of the log cannot be read, or the disk refused a write: this log is no oracle any more."""


class Journal:
    """The open log. `append` says where the record will stand, `durable` waits until everything appended is on disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            raise BrokenJournal(f"another simulator is writing {path}") from problem
        self._end = os.fstat(self._file).st_size
        self._waiting: list[bytes] = []
        self._next_sync = asyncio.Event()
        self._sync_under_way: asyncio.Event | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._failure: OSError | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    def records(self) -> Iterator[tuple[int, int, Record]]:
        """Every record with its offset and length; cuts off a torn last line, for it was never answered."""
        offset = 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, offset)
                    self._end = offset
                    return
                try:
                    yield offset, len(line), json.loads(line)
                except ValueError as problem:
                    raise BrokenJournal(f"the record at byte {offset} cannot be read: {problem}") from problem
                offset += len(line)

    def append(self, record: Record) -> tuple[int, int]:
        """Queue the record for the next sync; its offset and length."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        offset = self._end
        self._end += len(line)
        self._waiting.append(line)
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().create_task(self._sync())
        return offset, len(line)

    async def durable(self) -> None:
        """Wait until everything appended so far is on disk; raises BrokenJournal when it cannot be."""
        # A sync already under way may have begun without our record: what still waits belongs to the next one.
        synced = self._next_sync if self._waiting else self._sync_under_way
        if synced is not None:
            await synced.wait()
        if self._failure is not None:
            raise BrokenJournal(f"the log cannot be written: {self._failure}")

    def read(self, offset: int, length: int) -> Record:
        """One durable record."""
        record: Record = json.loads(os.pread(self._file, length, offset))
        return record

    async def close(self) -> None:
        if self._syncing is not None:
            await self._syncing
        self._writer.shutdown()
        os.close(self._file)

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = b"".join(self._waiting), []
            self._sync_under_way, self._next_sync = self._next_sync, asyncio.Event()
            try:
                await loop.run_in_executor(self._writer, self._write, batch)
            except OSError as problem:
                self._failure = problem
            self._sync_under_way.set()
        self._sync_under_way = None
        self._syncing = None

    def _write(self, batch: bytes) -> None:
        left = memoryview(batch)
        while left:
            left = left[os.write(self._file, left) :]
        os.fdatasync(self._file)
