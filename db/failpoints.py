"""Where may a test kill this process?

Code names its critical moments, `await failpoint("checkout.after_commit")`, and a test arms some of them:
`arm("checkout.after_commit=2*kill;relay.after_publish=pause(go)")`. Unarmed, a failpoint does nothing.

Each term is `name=[p%][n*]action(argument)`, after FreeBSD's fail(9):

    off             count the hit, do nothing else
    raise(Message)  raise InjectedFailure
    sleep(ms)       wait so many milliseconds
    pause(path)     wait until that file exists, at most 30 seconds
    kill            SIGKILL to this process: nothing is cleaned up
    stop            SIGSTOP: to everybody else, this process hangs

`n*` acts on the n-th hit only, so that a crash is exactly repeatable; `p%` acts with that probability.
"""

import asyncio
import logging
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PAUSE_LIMIT_SECONDS: Final = 30.0
PAUSE_POLL_SECONDS: Final = 0.01

TERM: Final = re.compile(
    r"(?P<name>[\w.]+)=((?P<percent>\d+(\.\d+)?)%)?((?P<nth>\d+)\*)?(?P<action>\w+)(\((?P<argument>.*)\))?",
    re.DOTALL,
)


class InjectedFailure(Exception):
    """A failpoint was armed with `raise`."""


async def failpoint(name: str) -> None:
    """Mark a moment at which a test may kill, stop, delay or fail this process."""
    if _failpoints.is_active:
        await _failpoints.reach(name)


def arm(spec: str, *, seed: int = 0) -> None:
    """Arm the failpoints of the spec, in place of those armed before; `seed` makes `p%` repeatable.

    Raises ValueError, saying which term, if the spec does not follow the grammar.
    """
    _failpoints.arm([_parse(term.strip()) for term in spec.split(";") if term.strip()], seed)


def record(path: Path | str) -> None:
    """Append the name of every failpoint reached to a file, a line each: the raw material of a crash matrix."""
    _failpoints.record(Path(path))


def disarm() -> None:
    """Arm nothing, record nothing and forget the hits."""
    _failpoints.disarm()


def hits() -> dict[str, int]:
    """How often each failpoint was reached while any were armed or recorded."""
    return dict(_failpoints.hit_counts)


@dataclass(frozen=True)
class ArmedFailpoint:
    """A moment and what happens there, on every hit or on one."""

    name: str
    act: Callable[[], Awaitable[None]]
    nth_hit: int | None = None
    probability: float = 1.0

    def is_due(self, name: str, hit: int, dice: random.Random) -> bool:
        if self.name != name or self.nth_hit not in (None, hit):
            return False
        return self.probability >= 1 or dice.random() < self.probability


@dataclass
class Failpoints:
    """What is armed in this process, and what was reached."""

    is_active: bool = False
    armed: list[ArmedFailpoint] = field(default_factory=list)
    hit_counts: Counter[str] = field(default_factory=Counter)
    recording: Path | None = None
    dice: random.Random = field(default_factory=random.Random)

    def arm(self, armed: list[ArmedFailpoint], seed: int) -> None:
        self.armed = armed
        self.dice.seed(seed)
        self.is_active = bool(armed) or self.recording is not None
        if armed:
            logger.warning("failpoints are armed: %s", ", ".join(sorted({one.name for one in armed})))

    def record(self, path: Path) -> None:
        self.recording = path
        self.is_active = True
        logger.warning("failpoints are recorded to %s", path)

    def disarm(self) -> None:
        self.is_active = False
        self.armed = []
        self.recording = None
        self.hit_counts.clear()

    async def reach(self, name: str) -> None:
        self.hit_counts[name] += 1
        hit = self.hit_counts[name]
        if self.recording is not None:
            _append_line(self.recording, name)
        for one in self.armed:
            if one.is_due(name, hit, self.dice):
                logger.warning("failpoint %s strikes at hit %d", name, hit)
                await one.act()


_failpoints: Final = Failpoints()


def _append_line(path: Path, line: str) -> None:
    # Opened, written and closed before anything strikes: the last line of a killed process is the point it died at.
    with path.open("a") as file:
        file.write(f"{line}\n")


def _parse(term: str) -> ArmedFailpoint:
    parts = TERM.fullmatch(term)
    if parts is None:
        raise ValueError(f"failpoint {term!r} is not of the form name=[p%][n*]action(argument)")
    action, argument, nth = parts["action"], parts["argument"] or "", parts["nth"]
    if action not in ACTIONS:
        raise ValueError(f"failpoint {term!r}: unknown action {action!r}, known are {', '.join(ACTIONS)}")
    if nth is not None and int(nth) < 1:
        raise ValueError(f"failpoint {term!r}: hits are counted from 1")
    try:
        act = ACTIONS[action](argument)
    except ValueError as error:
        raise ValueError(f"failpoint {term!r}: {error}") from error
    return ArmedFailpoint(
        name=parts["name"],
        act=act,
        nth_hit=None if nth is None else int(nth),
        probability=1.0 if parts["percent"] is None else float(parts["percent"]) / 100,
    )


def _off(_: str) -> Callable[[], Awaitable[None]]:
    async def do_nothing() -> None:
        return

    return do_nothing


def _raise(message: str) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise InjectedFailure(message or "a failpoint was armed to fail here")

    return fail


def _sleep(milliseconds: str) -> Callable[[], Awaitable[None]]:
    if not milliseconds.isdecimal():
        raise ValueError(f"sleep needs whole milliseconds, not {milliseconds!r}")

    async def sleep() -> None:
        await asyncio.sleep(int(milliseconds) / 1000)

    return sleep


def _pause(path: str) -> Callable[[], Awaitable[None]]:
    if not path:
        raise ValueError("pause needs the path of the file to wait for")

    async def wait_for_file() -> None:
        deadline_at = time.monotonic() + PAUSE_LIMIT_SECONDS
        while not os.path.exists(path):  # noqa: ASYNC240, PTH110 - another process makes it: nothing to await
            if time.monotonic() > deadline_at:
                raise TimeoutError(f"nobody created {path} within {PAUSE_LIMIT_SECONDS:.0f} seconds")
            await asyncio.sleep(PAUSE_POLL_SECONDS)

    return wait_for_file


def _signal(number: signal.Signals) -> Callable[[str], Callable[[], Awaitable[None]]]:
    def prepare(_: str) -> Callable[[], Awaitable[None]]:
        async def send_to_self() -> None:
            os.kill(os.getpid(), number)

        return send_to_self

    return prepare


ACTIONS: Final[dict[str, Callable[[str], Callable[[], Awaitable[None]]]]] = {
    "off": _off,
    "raise": _raise,
    "sleep": _sleep,
    "pause": _pause,
    "kill": _signal(signal.SIGKILL),
    "stop": _signal(signal.SIGSTOP),
}
