"""How do several workers count as one?

In prometheus_client's own way: each worker writes its figures to files in one folder, and whichever is asked adds up the files
of all. A worker that is gone has counted what it has counted, but has nothing open any more: its counters stay, its gauges go.
One worker alone writes no files and is read as it is.
"""

import asyncio
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from db.telemetry.readings import READINGS

# Read by prometheus_client when it is imported.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

PREFIX = "boxoffice-metrics-"
# What is counted there changes with every request, and a folder in /tmp may be cleaned up under a process that runs for weeks.
IN_MEMORY = Path("/dev/shm")  # noqa: S108 -- in it we make a folder that nobody else can read

_FILE_OF_LIVE_GAUGES = re.compile(r"gauge_live[a-z]+_(\d+)\.db")


@contextmanager
def folder_for_workers(environment: MutableMapping[str, str]) -> Iterator[None]:
    """A folder that only we can read, named in the environment of the workers that are started meanwhile. Those of processes
    that were killed and could not take theirs away are taken away here."""
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left_behind in parent.glob(f"{PREFIX}*"):
        if (descriptor := _locked(left_behind)) is not None:
            shutil.rmtree(left_behind, ignore_errors=True)
            os.close(descriptor)
    folder, descriptor = _new_folder(parent)
    environment[FOLDER_VARIABLE] = str(folder)
    try:
        yield
    finally:
        del environment[FOLDER_VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _new_folder(parent: Path) -> tuple[Path, int]:
    """The folder, and what to close when it is needed no longer."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        descriptor = _locked(folder)
        if descriptor is not None:
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)
        # Another ingress has just taken it for left behind.


def _locked(folder: Path) -> int | None:
    """An exclusive lock, which ends with the process that has it; None while somebody else has it, or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def are_shared() -> bool:
    """Whether this process is one of several that count together."""
    return bool(values.ValueClass._multiprocess)  # what it chose when it was imported


async def exposition() -> bytes:
    """What has been counted, of all workers, for Prometheus."""
    if not are_shared():
        return generate_latest(REGISTRY)
    READINGS.take()
    # Some thousand lines of each worker are added up: the requests of this one need not wait for that.
    return await asyncio.to_thread(_of_all_workers, _folder())


def forget_dead_workers() -> None:
    """Drop the gauges of workers that are gone without a word."""
    found = (_FILE_OF_LIVE_GAUGES.fullmatch(file.name) for file in _folder().iterdir())
    for pid in {int(one[1]) for one in found if one}:
        if not _is_alive(pid):
            forget_worker(pid)


def forget_worker(pid: int) -> None:
    """Drop the gauges of this worker."""
    with suppress(FileNotFoundError):  # another worker was quicker
        mark_process_dead(pid, str(_folder()))  # type: ignore[no-untyped-call]  # untyped library


def _of_all_workers(folder: Path) -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # untyped library
    return generate_latest(registry)


@cache
def _folder() -> Path:
    """As prometheus_client has read it from the environment; we read none."""
    return Path(MultiProcessCollector(CollectorRegistry())._path)  # type: ignore[no-untyped-call]  # untyped library


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class ProcessFigures:
    """prometheus_client's figures of a process (memory, processor time, open files), which it does not share by itself."""

    def __init__(self) -> None:
        self._collector = ProcessCollector(registry=None)
        self._gauges: dict[str, Gauge] = {}
        self._seconds = Counter("process_cpu_seconds_total", "Processor time of all workers, in seconds", registry=None)
        self._seconds_before = 0.0

    def read(self) -> None:
        """Take them now."""
        for family in self._collector.collect():
            value = family.samples[0].value
            if family.type == "counter":
                self._seconds.inc(value - self._seconds_before)
                self._seconds_before = value
            else:
                self._gauge(family.name, family.documentation).set(value)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        if name not in self._gauges:
            # When the first of them began, how many files each may open: of these a sum would say nothing.
            mode = "livemin" if name in ("process_start_time_seconds", "process_max_fds") else "livesum"
            self._gauges[name] = Gauge(name, documentation, registry=None, multiprocess_mode=mode)  # type: ignore[arg-type]
        return self._gauges[name]
