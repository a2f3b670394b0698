"""How is the database written to one file without holding up a sale, and how does it come back?

A logical dump: one transaction that sees one moment (REPEATABLE READ) and takes no lock but the one against somebody who
drops a table under it. A sale writes on meanwhile. Whatever is counted for the manifest is counted in the same snapshot.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg

from db import backups
from ops.backup.problem import BackupProblem
from ops.backup.programs import client_major, postgres_client, postgres_environment, run

DUMP = "postgres.dump"
# Level 1 of gzip: 92,000 seats and what was done with them shrink to a quarter; the usual level takes twice the processor time
# for a tenth less.
COMPRESSION = "1"
# A migration that is running has the tables; the dump is better taken a moment later than in its way.
LOCK_WAIT_MS = 5000


@dataclass(frozen=True)
class Dumped:
    """What was dumped, and what it is a dump of."""

    path: Path
    snapshot_at: datetime
    facts: backups.DatabaseFacts
    client: str
    migrations: dict[str, str]
    records: dict[str, int]


async def dump(postgres_url: str, folder: Path) -> Dumped:
    """Write the whole database to a file in this folder; raises BackupProblem."""
    program = postgres_client("pg_dump")
    connection = await reach(postgres_url, application_name="boxoffice backup")
    try:
        facts = await backups.describe(connection)
        client = await asyncio.to_thread(client_major, program)
        if client < facts.major:
            raise BackupProblem(
                f"{program} is of PostgreSQL {client}, the server of {facts.major}: install its postgresql-client-{facts.major}"
            )
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await backups.export_snapshot(connection)
            snapshot_at = (await backups.describe(connection)).now
            dumping = asyncio.create_task(asyncio.to_thread(_dump, program, postgres_url, folder / DUMP, snapshot))
            try:
                records = await backups.count_records(connection)
                migrations = await backups.list_migrations(connection)
            finally:
                # Until the dump has begun it needs our transaction; to end with it is the simplest way to be sure of that.
                await asyncio.wait([dumping])
            await dumping
    except asyncpg.UndefinedTableError as missing:
        raise BackupProblem(f"{facts.database} is not a database of ours: {missing}") from missing
    finally:
        await connection.close(timeout=5)
    return Dumped(folder / DUMP, snapshot_at, facts, f"pg_dump {client}", migrations=migrations, records=records)


def _dump(program: str, postgres_url: str, path: Path, snapshot: str) -> None:
    words = ("--format=custom", f"--compress={COMPRESSION}", "--no-owner", "--no-privileges", "--encoding=UTF8")
    bounds = (f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT_MS}")
    run([program, *words, *bounds, f"--file={path}"], postgres_environment(postgres_url))


def list_contents(path: Path) -> int:
    """How many things a dump has in it: pg_restore has read its table of contents. Raises BackupProblem."""
    listed = run([postgres_client("pg_restore"), "--list", str(path)], {})
    return sum(bool(line) and not line.startswith(";") for line in listed.splitlines())


def read_through(path: Path) -> None:
    """Read all of a dump, every block of it decompressed, into nothing; raises BackupProblem."""
    run([postgres_client("pg_restore"), "--file=/dev/null", str(path)], {})


async def load(postgres_url: str, path: Path, *, say: Callable[[str], None]) -> None:
    """Fill the database from a dump, all of it or nothing; what was there before is gone. Raises BackupProblem."""
    program = postgres_client("pg_restore")
    connection = await reach(postgres_url, application_name="boxoffice restore")
    try:
        await backups.wipe(connection)
        words = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
        environment = postgres_environment(postgres_url)
        target = f"--dbname={environment['PGDATABASE']}"
        await asyncio.to_thread(run, [program, *words, target, str(path)], environment)
        # A dump has no statistics, and a planner without them reads whole tables.
        say("postgres: restored; looking at it for the planner")
        await backups.analyze(connection)
    except asyncpg.PostgresError as problem:
        raise BackupProblem(f"the database was not restored: {problem}") from problem
    finally:
        await connection.close(timeout=5)


async def reach(postgres_url: str, *, application_name: str) -> asyncpg.Connection:
    """A connection; raises BackupProblem when there is no PostgreSQL."""
    try:
        return await backups.connect_plainly(postgres_url, application_name=application_name)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        raise BackupProblem(f"PostgreSQL cannot be reached: {problem or repr(problem)}") from problem
