"""Which process uses how much of the machine?

Linux counts the CPU time of every process in /proc, in ticks of 10 ms: exact enough for a window of seconds. What a group
of processes used is the difference of two snapshots.
"""

import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.stack.processes import CLOCK_TICKS, Process

LOAD_GENERATOR = "load generator (wrk, bench)"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

OTHERS = "everything else on this machine"

# Of /proc/<pid>/stat, counted from the state: user, system, and the same of children that have ended and been waited for.
# With these two, nothing is lost when a child (an autovacuum worker, say) ends inside the window.
TIMES = slice(11, 15)
# Of the first line of /proc/stat: user, nice, system, then idle and waiting for disks, then interrupts. Guests are in user.
BUSY = (0, 1, 2, 5, 6)


@dataclass(frozen=True)
class Snapshot:
    """CPU seconds used so far, by group and by the whole machine."""

    at: float
    by_group: Mapping[str, float]
    machine: float


@dataclass(frozen=True)
class Shares:
    """CPU seconds used in a window of `seconds` on `cores` cores."""

    seconds: float
    cores: int
    by_group: Mapping[str, float]

    def percent(self, group: str) -> float:
        """Of all the CPU time that the machine had to give in the window."""
        return 100 * self.by_group[group] / (self.seconds * self.cores)

    def microseconds_per(self, group: str, count: int) -> float:
        """CPU time for each of `count` answers."""
        return 1e6 * self.by_group[group] / count if count else 0.0

    def milliseconds_of_ours_per(self, count: int, *, of: int) -> float:
        """CPU time of all our processes, servers included, for each `count` of `of` answers; not of those who ask."""
        ours = sum(used for group, used in self.by_group.items() if group not in (LOAD_GENERATOR, OTHERS))
        return 1e3 * ours * count / of if of else 0.0

    @property
    def idle_percent(self) -> float:
        """What nobody used."""
        return max(0.0, 100 - sum(map(self.percent, self.by_group)))


def take_snapshot(groups: Mapping[str, Process]) -> Snapshot:
    """What the group of each leader has used by now, and those who ask: we, and wrk, our child that has been waited for."""
    by_group = {name: sum(map(_cpu_seconds, leader.family())) for name, leader in groups.items()}
    asking = map(resource.getrusage, (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    return Snapshot(
        at=time.monotonic(),
        by_group={LOAD_GENERATOR: sum(used.ru_utime + used.ru_stime for used in asking), **by_group},
        machine=machine_seconds(Path("/proc/stat").read_text()),
    )


def shares_between(before: Snapshot, after: Snapshot, *, cores: int | None = None) -> Shares:
    """What each group used from the one to the other, and what others did to the measurement."""
    used = {name: after.by_group[name] - earlier for name, earlier in before.by_group.items()}
    others = max(0.0, after.machine - before.machine - sum(used.values()))
    return Shares(seconds=after.at - before.at, cores=cores or os.cpu_count() or 1, by_group={**used, OTHERS: others})


def resident_bytes(leader: Process) -> int:
    """The memory that this process and those under it have in use now."""
    return sum(map(_resident_bytes, leader.family()))


def process_seconds(stat: str) -> float:
    """The CPU seconds in the text of /proc/<pid>/stat."""
    # The name in brackets may hold blanks and brackets of its own: count from the last one.
    return sum(map(int, stat.rpartition(")")[2].split()[TIMES])) / CLOCK_TICKS


def machine_seconds(stat: str) -> float:
    """The CPU seconds that all processes together have used, in the text of /proc/stat."""
    times = stat.splitlines()[0].split()[1:]
    return sum(int(times[place]) for place in BUSY) / CLOCK_TICKS


def _cpu_seconds(process: Process) -> float:
    try:
        return process_seconds(Path(f"/proc/{process.pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile; its parent has its time
        return 0.0


def _resident_bytes(process: Process) -> int:
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0
