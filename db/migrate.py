"""Is the database's schema the one this code expects?

`python -m db.migrate` applies the numbered files of `db/migrations/` that have not been applied, forward only, each in its
own transaction, one process at a time. A file that was applied and has changed since is an error: history is not edited.

It runs while the version before is selling, so files expand or contract, never both: a file adds what the old code does not
mind (tables, columns that may be null or have a default, indexes); what takes something away says so in its first line,
`-- contract: …`, and comes one version after the code that needed it (ops/decisions/0024).
"""

import asyncio
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from importlib import resources

import asyncpg

from contracts.settings import Settings, UnusableSettings

# Any number will do, as long as it is always this one: it keeps two deploys from migrating at once.
_MIGRATION_LOCK = 7_262_011

# A migration that waits for a lock makes every query behind it wait too, so it gives up soon, lets them through, and tries
# again: a report that reads for a minute delays the deploy by a minute, and the sale by half a second now and then.
LOCK_WAIT = "500ms"
LOCK_TRIES = 60
LOCK_PAUSE_SECONDS = 1.0

CONTRACTS_MARK = "-- contract:"
# What the code of the version before cannot bear.
_CONTRACTS = re.compile(
    r"\b(DROP\s+(TABLE|COLUMN|VIEW|TYPE|FUNCTION)|RENAME\s+\w+|ALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE"
    r"|SET\s+NOT\s+NULL|ADD\s+COLUMN\s+(?![^,;]*\b(DEFAULT|GENERATED)\b)[^,;]*\bNOT\s+NULL)\b",
    re.IGNORECASE,
)


class MigrationRefused(Exception):
    """The schema cannot be brought up to date; the message says why."""


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What tells an edited file from the one that was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def takes_away(self) -> list[str]:
        """What in it the version before cannot bear, as far as the words tell; empty for one that says that it contracts."""
        if self.sql.startswith(CONTRACTS_MARK):
            return []
        statements = re.sub(r"--.*", "", self.sql)
        return [" ".join(found.group(0).split()) for found in _CONTRACTS.finditer(statements)]


def migrations() -> list[Migration]:
    """All of them, in the order of their numbers."""
    folder = resources.files("db").joinpath("migrations")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(name=file.name, sql=file.read_text(encoding="utf-8")) for file in files]


async def migrate(postgres_url: str) -> list[str]:
    """Apply what is missing; returns the names of the files applied. Raises MigrationRefused."""
    connection = await asyncpg.connect(postgres_url, timeout=10)
    try:
        await connection.execute("SET lock_timeout = '30s'")
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            r["name"]: r["checksum"] for r in await connection.fetch("SELECT name, checksum FROM schema_migrations")
        }
        return [migration.name for migration in migrations() if await _apply(connection, migration, applied)]
    finally:
        await connection.close(timeout=5)


async def _apply(connection: asyncpg.Connection, migration: Migration, applied: dict[str, str]) -> bool:
    """True if the file was applied now, False if it had been."""
    if migration.name in applied:
        if applied[migration.name] != migration.checksum:
            raise MigrationRefused(f"{migration.name} was changed after it was applied: restore it and add a new file")
        return False
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            await _apply_at_once(connection, migration)
        except asyncpg.LockNotAvailableError:
            if tries_left == 0:
                raise MigrationRefused(
                    f"{migration.name}: somebody keeps a table locked; look for the oldest query in pg_stat_activity"
                ) from None
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        else:
            break
    return True


async def _apply_at_once(connection: asyncpg.Connection, migration: Migration) -> None:
    """All of it or nothing; raises LockNotAvailableError when somebody else is in the way."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)", migration.name, migration.checksum
        )


def main() -> int:
    """Migrate the database that the environment names."""
    try:
        applied = asyncio.run(migrate(Settings.read(os.environ).postgres_url))
    except (UnusableSettings, MigrationRefused) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"applied {', '.join(applied)}" if applied else "the schema is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
