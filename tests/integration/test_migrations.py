"""Can the schema be changed while the version before is selling?"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from contracts.settings import Settings
from db import migrate as migrating
from db.migrate import Migration, MigrationRefused, migrate, migrations

# Written before the first release, when no old code was running anywhere.
BEFORE_THE_FIRST_RELEASE = 10


@pytest.fixture
async def scratch_url(settings: Settings) -> AsyncIterator[str]:
    """A migrated database of the test's own, because it changes the schema."""
    name = f"scratch_{uuid4().hex}"
    owner = await asyncpg.connect(settings.postgres_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = settings.postgres_url.rpartition("/")[0] + f"/{name}"
    await migrate(url)
    yield url
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@pytest.fixture
async def reader(scratch_url: str) -> AsyncIterator[Any]:
    """Somebody who reads venues in a transaction that does not end."""
    connection = await asyncpg.connect(scratch_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT count(*) FROM venues")
    yield transaction
    await connection.close(timeout=5)


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> Migration:
    """A migration that needs the table for itself for a moment."""
    new = Migration("9999_test.sql", "ALTER TABLE venues ADD COLUMN note text NOT NULL DEFAULT '';")
    monkeypatch.setattr(migrating, "migrations", lambda: [*migrations(), new])
    monkeypatch.setattr(migrating, "LOCK_PAUSE_SECONDS", 0.1)
    return new


async def test_a_migration_waits_for_a_long_reader_without_making_others_wait(
    scratch_url: str, reader: Any, one_more: Migration
) -> None:
    migration = asyncio.create_task(migrate(scratch_url))
    buyer = await asyncpg.connect(scratch_url)
    slowest, asked_until = 0.0, time.monotonic() + 1.5
    while time.monotonic() < asked_until:
        began_at = time.monotonic()
        await buyer.fetchval("SELECT count(*) FROM venues")
        slowest = max(slowest, time.monotonic() - began_at)
    await buyer.close()
    assert not migration.done()
    assert 0.3 < slowest < 3.0, "a buyer waits as long as the migration waits for its lock, and no longer"
    await reader.commit()
    assert await migration == [one_more.name]


async def test_a_migration_that_never_gets_its_lock_says_what_to_look_for(
    scratch_url: str, reader: Any, one_more: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "LOCK_TRIES", 2)
    with pytest.raises(MigrationRefused, match="pg_stat_activity"):
        await migrate(scratch_url)


@pytest.mark.parametrize("migration", migrations()[BEFORE_THE_FIRST_RELEASE:], ids=lambda migration: migration.name)
def test_a_migration_takes_nothing_away_that_the_version_before_uses(migration: Migration) -> None:
    assert migration.takes_away == [], (
        "say `-- contract: …` in its first line, one version after the code that needed it"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE seats DROP COLUMN fence;",
        "DROP TABLE holds;",
        "ALTER TABLE seats RENAME COLUMN fence TO version;",
        "ALTER TABLE seats\n    ALTER COLUMN price TYPE bigint;",
        "ALTER TABLE seats ALTER COLUMN hold_id SET NOT NULL;",
        "ALTER TABLE seats ADD COLUMN row_label text NOT NULL;",
    ],
)
def test_what_takes_away_is_found(sql: str) -> None:
    assert Migration("0012.sql", sql).takes_away
    assert not Migration("0012.sql", f"-- contract: nobody reads it since 0.2\n{sql}").takes_away


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE notes (id uuid PRIMARY KEY, text text NOT NULL);",
        "ALTER TABLE seats ADD COLUMN note text;",
        "ALTER TABLE seats ADD COLUMN note text NOT NULL DEFAULT '';",
        "-- It will not drop table seats.\nCREATE INDEX seats_by_price ON seats (event_id, price);",
    ],
)
def test_what_only_adds_is_let_through(sql: str) -> None:
    assert Migration("0012.sql", sql).takes_away == []
