"""On which ports does a stack listen, and who has one that we need?"""

import errno
import socket
from pathlib import Path

from ops.stack.problem import StackProblem

HOST = "127.0.0.1"

# Offsets from the stack's port base. The order is a contract: contracts/settings.py has the dev stack's ports.
OFFSETS = {
    "api": 0,
    "postgres": 1,
    "redis": 2,
    "amqp": 3,
    "management": 4,
    "prometheus": 5,
    "erlang": 6,
    "epmd": 7,
    "payments": 8,
    "smtp": 9,
    "mailbox": 10,
    "metrics": 11,
}

LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


def ports_from(port_base: int) -> dict[str, int]:
    """The port of each listener; raises StackProblem when the base leaves no room for them."""
    if not 1024 <= port_base <= 65535 - len(OFFSETS):
        raise StackProblem(f"port base {port_base} must lie between 1024 and {65535 - len(OFFSETS)}")
    return {name: port_base + offset for name, offset in OFFSETS.items()}


def is_taken(port: int) -> bool:
    """Somebody listens on this port of 127.0.0.1 (or of all addresses)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        # As servers do: connections of an earlier run that are still closing do not count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as refused:
            return refused.errno == errno.EADDRINUSE
    return False


def holder_of(port: int) -> str:
    """Words for the process that listens on this port, as far as /proc lets us see it."""
    inodes = _listening_inodes(port)
    for folder in Path("/proc").glob("[0-9]*"):
        if _has_socket(folder, inodes):
            return f"process {folder.name} ({_command_of(folder)})"
    return "a process that we may not see"


def is_listened_on(port: int) -> bool:
    """Some process has it open for connections, as opposed to connections that are still closing."""
    return bool(_listening_inodes(port))


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _has_socket(process: Path, inodes: set[str]) -> bool:
    try:
        return any(
            str(fd.readlink()).removeprefix("socket:[").rstrip("]") in inodes for fd in (process / "fd").iterdir()
        )
    except OSError:  # it ended meanwhile, or belongs to somebody else
        return False


def _command_of(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended"
    return b" ".join(words).decode(errors="replace").strip()[:120]
