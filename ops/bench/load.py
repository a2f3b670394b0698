"""What happens when many connections ask at once?

wrk asks, because a load generator in Python would take the cores that it is to measure. What it asks is in lists, one for
each of its threads (see load.lua): a whole request to the line.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ops.stack import StackProblem
from ops.stack.binaries import may_install

SCRIPT = Path(__file__).with_name("load.lua")
# What load.lua's line begins with; the lines before it are wrk's own.
MARK = "BENCH "
# What stands for CR LF in a list, so that a request is a line of it; in no request of ours.
LINE_END = "\x01"

THREADS = 2
# Above the longest that a route waits by itself: a slow answer is counted as slow, not as none.
TIMEOUT_SECONDS = 30
INSTALL_SECONDS = 300


class Ask(NamedTuple):
    """A POST: to which path, with which JSON body, and whose session it comes with, if anybody's."""

    path: str
    body: str
    cookie: str = ""

    def written(self, host: str) -> str:
        """As it goes over the wire."""
        whose = f"Cookie: session={self.cookie}\r\n" if self.cookie else ""
        length = len(self.body.encode())
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{whose}"
            f"Content-Length: {length}\r\n\r\n{self.body}"
        )


class Look(NamedTuple):
    """A GET: of which path, query string included, with which further headers."""

    path: str
    headers: tuple[tuple[str, str], ...] = ()

    def written(self, host: str) -> str:
        """As it goes over the wire."""
        further = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\n{further}\r\n"


@dataclass(frozen=True)
class Load:
    """What was asked, over how many connections, for how long; `repeats`: from the start again when all has been asked."""

    url: str
    asks: Sequence[Ask | Look]
    connections: int
    seconds: int
    repeats: bool = False


@dataclass(frozen=True)
class Answers:
    """What came back."""

    seconds: float
    # How many answers had which HTTP status.
    statuses: Mapping[int, int]
    # By percentile (100: the slowest), in milliseconds.
    latency_ms: Mapping[int, float]
    errors: Mapping[str, int]
    # There was nothing left to ask before the time was over: the rate is lower than it might have been.
    ran_out: bool

    @property
    def count(self) -> int:
        """All answers, whatever they said."""
        return sum(self.statuses.values())

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def rate_of(self, status: int) -> float:
        """Answers with this status per second."""
        return self.statuses.get(status, 0) / self.seconds


def run_wrk(load: Load) -> Answers:
    """Ask until the time is over; raises StackProblem when wrk is not there or fails."""
    wrk = find_wrk()
    with tempfile.TemporaryDirectory(prefix="boxoffice-bench-") as folder:
        _write_lists(Path(folder), load)
        command = [
            wrk,
            *("--threads", str(THREADS)),
            *("--connections", str(load.connections)),
            *("--duration", f"{load.seconds}s"),
            *("--timeout", f"{TIMEOUT_SECONDS}s"),
            *("--script", str(SCRIPT)),
            load.url,
            *("--", folder, "again" if load.repeats else "once"),
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackProblem(f"wrk failed (exit code {done.returncode}): {(done.stderr or done.stdout).strip()[-500:]}")
    return read_answers(done.stdout)


def read_answers(output: str) -> Answers:
    """What load.lua wrote at the end of wrk's output; raises StackProblem when it did not."""
    lines = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise StackProblem(f"wrk said nothing that can be counted: {output.strip()[-500:]}")
    said = json.loads(lines[-1])
    return Answers(
        seconds=said["microseconds"] / 1e6,
        statuses={int(status): count for status, count in sorted(said["statuses"].items())},
        latency_ms={int(percentile): microseconds / 1000 for percentile, microseconds in said["latency"].items()},
        errors=said["errors"],
        ran_out=said["ran_out"],
    )


def find_wrk() -> str:
    """The program, installed if it must and may be; raises StackProblem with what to install."""
    found = shutil.which("wrk")
    if found is None and may_install(os.environ):
        _install()
        found = shutil.which("wrk")
    if found is None:
        raise StackProblem("wrk is not on this machine: install it (apt-get install wrk)")
    return found


def _write_lists(folder: Path, load: Load) -> None:
    host = urlsplit(load.url).netloc
    for number in range(THREADS):
        lines = (ask.written(host).replace("\r\n", LINE_END) + "\n" for ask in load.asks[number::THREADS])
        (folder / f"{number}.txt").write_text("".join(lines))


def _install() -> None:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Package lists may be absent (containers) or old; an update that fails may still leave usable ones.
    for words in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
        subprocess.run(["apt-get", *words], timeout=INSTALL_SECONDS, env=environment, check=False, **quiet)  # type: ignore[call-overload]  # mypy cannot follow the dict
