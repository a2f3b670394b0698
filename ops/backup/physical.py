"""How is the whole database server copied, so that it can be brought to any moment since?

A base backup (pg_basebackup) and the write-ahead log that is archived after it: together they lose what the archive lags, a
minute at most, where a nightly dump loses the day. It is of the whole server, and only for the same major version. How the
log is archived, and how such a copy is brought to a moment, is in ops/postgres/point-in-time.md.
"""

import asyncio
from pathlib import Path

from db import backups
from ops.backup.postgres import Dumped, reach
from ops.backup.problem import BackupProblem
from ops.backup.programs import client_major, postgres_client, postgres_environment, run

FOLDER = "postgres"


async def copy(postgres_url: str, folder: Path) -> Dumped:
    """Copy the server's files below this folder, with all the log that makes them whole; raises BackupProblem."""
    program = postgres_client("pg_basebackup")
    connection = await reach(postgres_url, application_name="boxoffice backup")
    try:
        facts = await backups.describe(connection)
        client = await asyncio.to_thread(client_major, program)
        if client != facts.major:
            raise BackupProblem(
                f"{program} is of PostgreSQL {client}, the server of {facts.major}: they must be the same"
            )
        environment = postgres_environment(postgres_url)
        # A replication connection names no database. A checkpoint that is spread out may take the thirteen minutes that
        # ops/postgres/postgresql.conf gives it, and the copy waits for it.
        environment.pop("PGDATABASE", None)
        words = ("--format=plain", "--wal-method=stream", "--checkpoint=fast", "--manifest-checksums=SHA256")
        await asyncio.to_thread(run, [program, f"--pgdata={folder / FOLDER}", *words], environment)
        # The copy is whole as of its end. What is counted now may be a moment more than is in it; `facts` are of before.
        records = await backups.count_records(connection)
        migrations = await backups.list_migrations(connection)
    finally:
        await connection.close(timeout=5)
    return Dumped(folder / FOLDER, facts.now, facts, f"pg_basebackup {client}", migrations=migrations, records=records)


def check(folder: Path) -> None:
    """pg_verifybackup: every file is there, and the log reaches from its beginning to its end. Raises BackupProblem."""
    run([postgres_client("pg_verifybackup"), str(folder)], {})
