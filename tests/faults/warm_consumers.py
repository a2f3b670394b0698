"""How does a crash test get a consumers process without waiting a second for its imports each time?

`python -m tests.faults.warm_consumers` imports every role once. For each line of JSON on its input, the environment of a
process, it forks one that does what `python -m consumers all` does, and prints its pid. When it ends, they end.
"""

import ctypes
import json
import os
import signal
import sys

from consumers.__main__ import EVERY_ROLE, ROLES, main, role_of

PR_SET_PDEATHSIG = 1  # prctl(2): the signal we get when our parent dies


def serve() -> None:
    """Fork a consumers process for each line, until the input ends."""
    for name in ROLES:
        role_of(name)
    # Nobody waits for the children: who started them looks for them by pid.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child_pid = os.fork()
        if child_pid == 0:
            become_consumers(json.loads(line))
        print(child_pid, flush=True)


def become_consumers(environment: dict[str, str]) -> None:
    """As if this process had been started with that environment; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A test run that is killed leaves no consumers behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    os.environ.clear()
    os.environ.update(environment)
    os._exit(main([EVERY_ROLE]))


if __name__ == "__main__":
    serve()
