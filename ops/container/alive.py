"""`python -m ops.container.alive`: does the process of this container live? Exit code 0 when it does.

It asks the first process's own /live: the ingress at its HTTP port, a consumer at its metrics port. Whoever serves neither (a
migration, a simulator) is alive while it runs.
"""

import os
import sys
import urllib.request
from pathlib import Path

from contracts.settings import Settings

TIMEOUT_SECONDS = 3.0
FIRST_PROCESS = Path("/proc/1/cmdline")


def live_port(words: list[str], settings: Settings) -> int | None:
    """Where a process started with these words answers /live; None: nowhere."""
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if module == "ingress":
        return settings.http_port
    if module == "consumers" and words[-1] != "declare-topology":
        return settings.metrics_port or None
    return None


def main() -> int:
    """Ask once."""
    words = FIRST_PROCESS.read_text(encoding="utf-8").rstrip("\0").split("\0")
    port = live_port(words, Settings.read(os.environ))
    if port is None:
        return 0
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=TIMEOUT_SECONDS):
            return 0
    except OSError as silent:
        print(silent, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
