"""On which machine, with which versions, was it measured?"""

import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ops.stack import StackProblem, binaries

LIBRARIES = ("sanic", "aio-pika", "asyncpg", "pydantic", "uvloop")


@dataclass(frozen=True)
class Machine:
    """What a figure is worth nothing without."""

    cores: int
    memory_gib: float
    cpu: str
    system: str
    # In the order in which they are read out, e.g. "PostgreSQL 15.8".
    versions: Sequence[str]

    @property
    def sentence(self) -> str:
        """All of it in a line."""
        return f"{self.cores} × {self.cpu}, {self.memory_gib:.0f} GiB, {self.system}; {', '.join(self.versions)}"


def this_machine() -> Machine:
    """The one that we run on."""
    return Machine(
        cores=os.cpu_count() or 1,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        cpu=_cpu(),
        system=f"{platform.system()} {platform.release()}",
        versions=(
            f"Python {platform.python_version()}",
            *_servers(),
            *(f"{library} {version(library)}" for library in LIBRARIES),
        ),
    )


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _servers() -> list[str]:
    said = {
        "PostgreSQL": lambda: _say(str(binaries.postgres_program("postgres")), "--version"),
        "Redis": lambda: _say(str(binaries.redis_program()), "--version"),
        # Its command line takes seconds to say so; the folder it is installed in is named after the version.
        "RabbitMQ": lambda: str(binaries.rabbitmq_program("rabbitmq-server")),
    }
    return [f"{name} {_number_in(say)}" for name, say in said.items()]


def _number_in(say: Callable[[], str]) -> str:
    try:
        found = re.search(r"\d+(\.\d+)+", say())
    except (OSError, StackProblem):
        found = None
    return found[0] if found else "of an unknown version"


def _say(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout
