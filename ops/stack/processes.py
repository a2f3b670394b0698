"""Which processes are ours, and how do they begin and end?

A process is ours when its pid *and* its start time match what we wrote down, or when it carries our mark in its
environment. A pid alone proves nothing: after a crash it may belong to anybody.
"""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.stack.problem import StackProblem

MARK = "STACK_PROCESS"  # not BOXOFFICE_*: our processes refuse settings that they do not know
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process at one time in history: `started_ticks` are clock ticks between boot and its start."""

    pid: int
    started_ticks: int

    def is_alive(self) -> bool:
        reap(self.pid)
        stat = _stat_of(self.pid)
        return stat is not None and stat.started_ticks == self.started_ticks and stat.state not in "ZX"

    def is_frozen(self) -> bool:
        stat = _stat_of(self.pid)
        return stat is not None and stat.started_ticks == self.started_ticks and stat.state == "T"

    def uptime_seconds(self) -> float:
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, since_boot - self.started_ticks / CLOCK_TICKS)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still the one we mean."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def family(self) -> list["Process"]:
        """This process, its children and theirs, and whoever is in its session; parents first."""
        if not self.is_alive():
            return []
        stats = [stat for stat in map(_stat_of, _pids()) if stat is not None]
        members = {self.pid} | {stat.pid for stat in stats if stat.session == self.pid}
        grown = True
        while grown:
            children = {stat.pid for stat in stats if stat.parent in members}
            grown = not children <= members
            members |= children
        others = [stat for stat in stats if stat.pid in members and stat.pid != self.pid]
        return [self, *(Process(pid=stat.pid, started_ticks=stat.started_ticks) for stat in others)]


@dataclass(frozen=True)
class Launch:
    """What to start: the words of the command, what its environment adds, and as whom (None: as we are)."""

    command: Sequence[str]
    environment: Mapping[str, str]
    user: str | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Workplace:
    """A program and the folder it works in: how to know a process that overwrites its environment, as PostgreSQL does."""

    program: str
    folder: Path

    def is_that_of(self, pid: int) -> bool:
        """Both must match: somebody's shell may well stand in that folder."""
        try:
            process = Path(f"/proc/{pid}")
            return (process / "cwd").readlink() == self.folder and (process / "exe").readlink().name == self.program
        except OSError:  # it ended meanwhile, or belongs to somebody else
            return False


@dataclass(frozen=True)
class _Stat:
    pid: int
    state: str
    parent: int
    session: int
    started_ticks: int


def launch(what: Launch, *, mark: str, log: Path) -> Process:
    """Start a process in a session of its own, its output appended to `log`; raises StackProblem."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                list(what.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=what.folder,
                env={**what.environment, MARK: mark},
                start_new_session=True,
                user=what.user,
                group=pwd.getpwnam(what.user).pw_gid if what.user else None,
                extra_groups=[] if what.user else None,
            )
    except OSError as refused:
        raise StackProblem(f"cannot start {what.command[0]}: {refused.strerror or refused}") from refused
    # The process may well outlive us. We reap it ourselves (see `reap`), so Popen need not warn that it still runs.
    child.returncode = 0
    stat = _stat_of(child.pid)
    return Process(pid=child.pid, started_ticks=stat.started_ticks if stat else 0)


def reap(pid: int) -> None:
    """Take the exit status of a child of ours that ended; others are none of our business."""
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)


def remember(process: Process, file: Path) -> None:
    """Write the process down; a crash leaves either the old text or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": process.pid, "started_ticks": process.started_ticks}))
    fresh.replace(file)


def recall(file: Path) -> Process | None:
    """The process that was written down, if it still runs."""
    try:
        noted = json.loads(file.read_text())
        process = Process(pid=int(noted["pid"]), started_ticks=int(noted["started_ticks"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return process if process.is_alive() else None


def forget(file: Path) -> None:
    """Nobody is to expect this process to run any longer."""
    file.unlink(missing_ok=True)


def left_behind(*, mark: str, workplace: Workplace | None = None) -> list[Process]:
    """What carries this mark or is found at this workplace, oldest first: the rest of a run that was cut short."""
    wanted = f"{MARK}={mark}".encode()
    found = [
        stat
        for pid in _pids()
        if wanted in _environment_of(pid) or (workplace is not None and workplace.is_that_of(pid))
        if (stat := _stat_of(pid)) and stat.state not in "ZX"
    ]
    found.sort(key=lambda stat: (stat.started_ticks, stat.pid))
    return [Process(pid=stat.pid, started_ticks=stat.started_ticks) for stat in found]


def end(processes: Iterable[Process], *, timeout_seconds: float = 10.0) -> None:
    """Kill these processes and wait until none is left; raises StackProblem when one does not go."""
    doomed = list(processes)
    for process in doomed:
        process.signal(signal.SIGKILL)
    left = wait_gone(doomed, timeout_seconds=timeout_seconds)
    if left:
        raise StackProblem(f"processes {[process.pid for process in left]} do not end, not even when killed")


def wait_gone(processes: Iterable[Process], *, timeout_seconds: float) -> list[Process]:
    """Wait until all of them have ended; returns those that have not."""
    give_up_at = time.monotonic() + timeout_seconds
    left = [process for process in processes if process.is_alive()]
    while left and time.monotonic() < give_up_at:
        time.sleep(0.02)
        left = [process for process in left if process.is_alive()]
    return left


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _stat_of(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold blanks and brackets of its own: count from the last one.
    fields = text.rpartition(")")[2].split()
    return _Stat(pid=pid, state=fields[0], parent=int(fields[1]), session=int(fields[3]), started_ticks=int(fields[19]))


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or belongs to somebody else
        return []
