"""Is this the right password?

bcrypt takes a quarter of a second of a core on purpose. It runs in threads (it lets go of the interpreter's lock), few at
a time, with a short line of others waiting: a storm of logins must neither stop the sale nor pile up.
"""

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from contracts.settings import Settings

# bcrypt reads no further; what it does not read it must not pretend to have checked.
PASSWORD_MAX_BYTES = 72

# Next to a sale that fills both cores, hashing gets a tenth of one; on a quiet machine, all it wants.
HASHING_NICENESS = 10

Result = TypeVar("Result")


class HashingBusy(Exception):
    """Too many are waiting already; nothing was checked."""


class Passwords:
    """Hashes and checks passwords, a bounded number at a time."""

    def __init__(self, settings: Settings) -> None:
        self._cost = settings.bcrypt_cost
        self._at_once_max = settings.password_hash_slots + settings.password_hash_waiting_max
        self._threads = ThreadPoolExecutor(
            settings.password_hash_slots, thread_name_prefix="passwords", initializer=_give_way
        )
        self._pending_count = 0
        # Well-formed, of the usual cost and matched by nothing: an unknown user costs what a known one costs.
        self._nobodys_hash = f"$2b${settings.bcrypt_cost:02}$" + "." * 22 + hashlib.sha256(b"").hexdigest()[:30] + "."

    async def hash(self, password: str) -> str:
        """The hash to store; raises HashingBusy, and ValueError above 72 bytes."""
        encoded = password.encode()
        if len(encoded) > PASSWORD_MAX_BYTES:
            raise ValueError(f"a password of more than {PASSWORD_MAX_BYTES} bytes")
        hashed = await self._in_thread(lambda: bcrypt.hashpw(encoded, bcrypt.gensalt(self._cost)))
        return hashed.decode()

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether they belong together; None stands for "no such user" and takes as long. Raises HashingBusy."""
        encoded = password.encode()
        # bcrypt would raise above 72 bytes, which would answer faster than a check does.
        fits = len(encoded) <= PASSWORD_MAX_BYTES
        stored = (password_hash or self._nobodys_hash).encode()
        matched = await self._in_thread(lambda: bcrypt.checkpw(encoded[:PASSWORD_MAX_BYTES], stored))
        return matched and fits and password_hash is not None

    def close(self) -> None:
        """Let the threads end; what they are doing is finished, what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        if self._pending_count >= self._at_once_max:
            raise HashingBusy(f"{self._pending_count} passwords are being checked already")
        self._pending_count += 1
        running = self._threads.submit(work)
        # Counted until the thread is done with it, even if the client has gone away meanwhile.
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._finished))
        return await asyncio.wrap_future(running)

    def _finished(self) -> None:
        self._pending_count -= 1


def _give_way() -> None:
    # Linux counts niceness by thread, and gives a group of processes less where only its nice threads run. A thread that
    # hashes holds the interpreter's lock for microseconds in a quarter of a second: it does not keep the others waiting.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HASHING_NICENESS)
