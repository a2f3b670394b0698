"""Which programs of PostgreSQL and Redis make and read backups, and what went wrong when they did?"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ops.backup.problem import BackupProblem
from ops.stack import StackProblem, binaries

# The server should hardly notice: whatever else runs on this machine comes first. What the server itself does for a dump
# is one connection's worth of reading.
NICENESS = 10
TAIL_LINES = 8


def run(command: Sequence[str], environment: Mapping[str, str], *, cwd: Path | None = None) -> str:
    """Run it to its end and return what it said; raises BackupProblem when it fails."""
    try:
        done = subprocess.run(
            ["nice", "-n", str(NICENESS), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
            umask=0o077,
            cwd=cwd,
            check=False,
        )
    except OSError as problem:
        raise BackupProblem(f"cannot start {command[0]}: {problem.strerror or problem}") from problem
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL_LINES:])
        raise BackupProblem(f"{Path(command[0]).name} failed (exit code {done.returncode}):\n{said}")
    return done.stdout


def postgres_client(name: str) -> str:
    """pg_dump and its kin: those beside the newest server on this machine, else whatever is on the path."""
    try:
        beside_the_server = binaries.postgres_program(name)
    except StackProblem:
        beside_the_server = Path(name)
    found = str(beside_the_server) if beside_the_server.exists() else shutil.which(name)
    if found is None:
        raise BackupProblem(f"no {name} on this machine: apt-get install postgresql-client")
    return found


def client_major(program: str) -> int:
    """The major version of a program of PostgreSQL."""
    said = run([program, "--version"], {})
    digits = "".join(letter if letter.isdigit() else " " for letter in said).split()
    return int(digits[0]) if digits else 0


def redis_client(name: str) -> str:
    """redis-cli and its kin (Valkey's as well)."""
    found = shutil.which(name) or shutil.which(name.replace("redis", "valkey"))
    if found is None:
        raise BackupProblem(f"no {name} on this machine: apt-get install redis-tools")
    return found


def postgres_environment(url: str) -> dict[str, str]:
    """How libpq's programs reach that database. In the environment, because everybody on the machine may read a command line."""
    parts = urlsplit(url)
    named = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port) if parts.port else None,
        "PGUSER": unquote(parts.username) if parts.username else None,
        "PGPASSWORD": unquote(parts.password) if parts.password else None,
        "PGDATABASE": unquote(parts.path.lstrip("/")) or None,
        "PGAPPNAME": "boxoffice backup",
    }
    options = {
        f"PG{name.upper()}": values[-1] for name, values in parse_qs(parts.query).items() if name in LIBPQ_OPTIONS
    }
    return {name: value for name, value in {**named, **options}.items() if value is not None}


# What a URL may say after its question mark, and libpq reads from the environment under PG and its name.
LIBPQ_OPTIONS = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs"})
