"""How do the tests start, kill and freeze processes of our own?"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from ops.stack.server import REPOSITORY


class OurProcess:
    """One process, by its pid; its parent (the tests, or the warm consumers) reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def is_alive(self) -> bool:
        return self._state() not in ("", "Z", "X")

    def is_stopped(self) -> bool:
        return self._state() == "T"

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _state(self) -> str:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return stat.rpartition(")")[2].split()[0]


class WarmConsumers:
    """Starts consumers processes in a few milliseconds each."""

    def __init__(self, log: Path) -> None:
        self._log: IO[bytes] = log.open("ab")
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm_consumers"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def start(self, environment: Mapping[str, str]) -> OurProcess:
        """A new process with that environment; it works as soon as it has connected."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(dict(environment)) + "\n")
        self._parent.stdin.flush()
        return OurProcess(int(self._parent.stdout.readline()))

    def close(self) -> None:
        """End all of them."""
        self._parent.kill()
        self._parent.communicate()
        self._log.close()


class IngressProcess:
    """The API, at its stack's port."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._log: IO[bytes] = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ingress"],
            cwd=REPOSITORY,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
