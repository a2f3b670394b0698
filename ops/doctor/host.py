"""Can this host run our processes through a rush?"""

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from contracts.settings import PREFIX
from ops.doctor.deployment import Deployment
from ops.doctor.findings import Check, Findings, note, warning, wrong

PYTHON_MIN = (3, 11)
FILES_BESIDES_STREAMS = 1000
SPACE_MIN_BYTES = 2 << 30  # RabbitMQ stops below 512 MB, and PostgreSQL's log may grow by 2 GB in a rush
SPACE_MIN_SHARE = 0.1
# Where the servers keep what they store, as Debian's packages have it.
STORES = ("/var/lib/postgresql", "/var/lib/redis", "/var/lib/rabbitmq")
OURS = (b"ingress", b"consumers")
CORES_WORTH_SHARING = 4


async def python_version(_: Deployment) -> Findings:
    """TaskGroup, timeout and what else we use."""
    if sys.version_info >= PYTHON_MIN:
        return []
    return [wrong(f"Python {sys.version.split()[0]} is too old", "install Python 3.11 or later, run `make setup`")]


async def open_files(deployment: Deployment) -> Findings:
    """Every stream and every connection is a file."""
    needed = deployment.settings.streams_max + FILES_BESIDES_STREAMS
    running = list(_limits_of_running())
    found = [
        warning(
            f"process {pid} ({words}) may open {limit} files; {PREFIX}STREAMS_MAX alone may want {needed}",
            "LimitNOFILE=65536 in its unit, or ulimits in its container",
        )
        for pid, words, limit in running
        if limit < needed and "ingress" in words
    ]
    own, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not running and own < needed:
        return [
            note(
                f"none of our processes runs here; one started from this shell may open {own} files, and"
                f" {PREFIX}STREAMS_MAX alone may want {needed}",
                "ulimit -n 65536, or LimitNOFILE=65536 in the unit",
            )
        ]
    return found


def _limits_of_running() -> Iterator[tuple[str, str, int]]:
    """Pid, words and soft limit of open files of each `python -m ingress` or `consumers` that we may look at."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"-m" not in words or words[words.index(b"-m") + 1] not in OURS:
                continue
            line = next(x for x in (folder / "limits").read_text().splitlines() if x.startswith("Max open files"))
        except (OSError, IndexError, StopIteration):  # it ended meanwhile, or is somebody else's
            continue
        soft = line.split()[3]
        named = b" ".join(words[words.index(b"-m") + 1 :]).decode(errors="replace").strip()
        yield folder.name, named, sys.maxsize if soft == "unlimited" else int(soft)


async def disk_space(_: Deployment) -> Findings:
    """Of this host's disk, and of those the servers store on if they are here."""
    seen, found = set[int](), []
    for folder in (Path.cwd(), *map(Path, STORES)):
        if not folder.exists() or (device := folder.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(folder)
        if usage.free < SPACE_MIN_BYTES or usage.free < usage.total * SPACE_MIN_SHARE:
            found.append(
                warning(
                    f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.0f} are free below {folder}",
                    "make room: a full disk stops PostgreSQL and RabbitMQ",
                )
            )
    return found


async def cores(deployment: Deployment) -> Findings:
    """One worker fills a core."""
    workers, here = deployment.settings.ingress_workers, len(os.sched_getaffinity(0))
    if workers > here:
        return [
            warning(
                f"{workers} workers of the ingress share {here} cores: they only take turns",
                f"{PREFIX}INGRESS_WORKERS={max(1, here - 1)}, or the ingress on a host of its own",
            )
        ]
    if here >= CORES_WORTH_SHARING and workers == 1 and deployment.is_production:
        return [
            note(
                f"one worker of the ingress on {here} cores",
                f"raise {PREFIX}INGRESS_WORKERS, or run several instances behind nginx",
            )
        ]
    return []


CHECKS = (
    Check("Python", python_version),
    Check("open files", open_files),
    Check("disk space", disk_space),
    Check("workers and cores", cores),
)
