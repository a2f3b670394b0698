"""Passwords: right, wrong, too long, nobody's, and too many at once."""

import asyncio
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator

import bcrypt
import pytest

from contracts.settings import Settings
from ingress.passwords import HASHING_NICENESS, HashingBusy, Passwords


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    opened = Passwords(Settings(bcrypt_cost=4, password_hash_slots=1, password_hash_waiting_max=2))
    yield opened
    opened.close()


async def test_the_right_password_matches_and_a_wrong_one_does_not(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.matches("correct horse", stored)
    assert not await passwords.matches("correct horses", stored)
    assert not await passwords.matches("", stored)


async def test_the_cost_is_the_one_that_is_set(passwords: Passwords) -> None:
    assert (await passwords.hash("correct horse")).startswith("$2b$04$")


async def test_seventy_two_bytes_are_read_to_the_last(passwords: Passwords) -> None:
    stored = await passwords.hash("é" * 36)
    assert await passwords.matches("é" * 36, stored)
    assert not await passwords.matches("é" * 35 + "è", stored)


async def test_what_bcrypt_would_not_read_is_not_taken_for_right(passwords: Passwords) -> None:
    stored = await passwords.hash("x" * 72)
    assert not await passwords.matches("x" * 73, stored)
    with pytest.raises(ValueError, match="72"):
        await passwords.hash("x" * 73)


async def test_nobody_has_a_password(passwords: Passwords) -> None:
    assert not await passwords.matches("", None)
    assert not await passwords.matches("x" * 100, None)


async def test_nobodys_password_takes_as_long_as_somebodys() -> None:
    # A cost at which the hash outweighs everything around it, and our own CPU time, which a busy machine does not change.
    passwords = Passwords(Settings(bcrypt_cost=8))
    stored = await passwords.hash("correct horse")

    async def seconds(password: str, password_hash: str | None) -> float:
        started = time.process_time()
        await passwords.matches(password, password_hash)
        return time.process_time() - started

    known, unknown, too_long = [], [], []
    for _ in range(12):
        known.append(await seconds("wrong", stored))
        unknown.append(await seconds("wrong", None))
        too_long.append(await seconds("x" * 100, None))
    passwords.close()
    assert 0.5 < statistics.median(unknown) / statistics.median(known) < 2
    assert 0.5 < statistics.median(too_long) / statistics.median(known) < 2


async def test_more_than_may_wait_are_sent_away_at_once(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow_check(password: bytes, stored: bytes) -> bool:
        return go_on.wait(timeout=10)

    monkeypatch.setattr(bcrypt, "checkpw", slow_check)
    # One is being checked, two wait.
    asked = [asyncio.create_task(passwords.matches("a", "$2b$04$" + "." * 53)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(HashingBusy):
        await passwords.matches("a", None)
    go_on.set()
    assert await asyncio.gather(*asked) == [True] * 3
    assert await passwords.matches("a", "$2b$04$" + "." * 53)


async def test_the_loop_turns_while_a_password_is_checked() -> None:
    passwords = Passwords(Settings(bcrypt_cost=11))
    turns = 0
    checking = asyncio.create_task(passwords.matches("a", None))
    while not checking.done():
        await asyncio.sleep(0)
        turns += 1
    passwords.close()
    assert turns > 100


@pytest.mark.skipif(sys.platform != "linux", reason="niceness belongs to a thread on Linux only")
async def test_hashing_gives_way_to_everything_else(passwords: Passwords) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    assert await passwords._in_thread(niceness) == max(before, HASHING_NICENESS)
    assert niceness() == before
