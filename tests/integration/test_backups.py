"""Is a backup for us alone, and known for bad when it is? And is a shop that holds anything safe from a restore?"""

import asyncio
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.settings import Settings
from db.postgres import open_pool
from ops.backup import restoring, taking
from ops.backup.manifest import MANIFEST, Manifest, describe_file, parts_named, read_manifest, write_manifest
from ops.backup.postgres import DUMP
from ops.backup.problem import BackupProblem
from ops.backup.programs import postgres_environment
from ops.backup.redis import SNAPSHOT
from ops.stack import Stack
from tests.admissions_world import a_database_of_its_own
from tests.builders import a_user, an_event_on_sale, settings_of


async def take(settings: Settings, stack: Stack, folder: Path) -> Manifest:
    return await taking.take(settings, stack, folder, ("postgres", "redis"), is_physical=False, say=lambda _: None)


@dataclass(frozen=True)
class House:
    """A database with one house of twelve seats, two of them sold, and a backup of it."""

    settings: Settings
    folder: Path


@pytest.fixture(scope="module")
def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("backups") / "backup"
    with asyncio.Runner() as runner:
        database = a_database_of_its_own(settings_of(stack))
        own = runner.run(database.__aenter__())
        runner.run(_sell_two_seats(own))
        runner.run(take(own, stack, folder))
        yield House(own, folder)
        runner.run(database.__aexit__(None, None, None))


async def _sell_two_seats(own: Settings) -> None:
    async with await open_pool(own, application_name="test", size=2) as pool:
        sale = await an_event_on_sale(own, pool, seats=12)
        await sale.buy(a_user(), sale.seats[:2])
        await sale.close()


@pytest.fixture
def backup(house: House, tmp_path: Path) -> Path:
    """A copy of the backup that a test may spoil."""
    return Path(shutil.copytree(house.folder, tmp_path / "backup"))


def test_a_backup_says_what_is_in_it_and_nobody_else_may_read_it(house: House) -> None:
    manifest = taking.verify(house.folder)
    assert [file.name for file in manifest.files] == [DUMP, SNAPSHOT]
    assert {name: manifest.records[name] for name in ("events", "seats", "orders", "tickets")} == {
        "events": 1,
        "seats": 12,
        "orders": 1,
        "tickets": 2,
    }
    assert "0001_the_sale.sql" in manifest.migrations
    assert {stat.S_IMODE(path.stat().st_mode) for path in house.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(house.folder.stat().st_mode) == 0o700


async def test_a_backup_comes_back_into_an_empty_database(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any, **__: Any) -> Any:
        return []

    async def count_nothing(*_: Any, **__: Any) -> int:
        return 0

    # The test stack's Redis and broker are everybody's: what becomes of them is tests/faults/test_restore.py's to see.
    monkeypatch.setattr(restoring.rabbitmq, "find_queues", nothing)
    monkeypatch.setattr(restoring.rabbitmq, "count_messages", count_nothing)
    monkeypatch.setattr(restoring.rabbitmq, "bring_about", nothing)
    monkeypatch.setattr(restoring.redis, "count_keys", count_nothing)
    monkeypatch.setattr(restoring.redis, "forget_everything", nothing)

    # Where it came from there is something: not without its name being typed.
    for replace in (None, "boxoffice"):
        with pytest.raises(BackupProblem, match="something here already"):
            await restoring.restore(house.settings, house.folder, replace=replace, say=lambda _: None)

    async with a_database_of_its_own(settings) as empty:
        connection = await asyncpg.connect(empty.postgres_url)
        # Whoever of ours is connected keeps the shop open.
        ours = await asyncpg.connect(empty.postgres_url, server_settings={"application_name": "ingress"})
        with pytest.raises(BackupProblem, match="the shop is open: stop ingress"):
            await restoring.restore(empty, house.folder, replace=None, say=lambda _: None)
        await ours.close()
        await restoring.restore(empty, house.folder, replace=None, say=lambda _: None)
        assert await connection.fetchval("SELECT count(*) FROM seats WHERE status = 'sold'") == 2
        assert await connection.fetchval("SELECT count(*) FROM restores WHERE reconciled_at IS NULL") == 1
        await connection.close()


def test_a_backup_that_was_changed_is_not_one(backup: Path) -> None:
    dump = backup / DUMP
    whole = dump.read_bytes()
    dump.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    with pytest.raises(BackupProblem, match="was changed"):
        taking.verify(backup)
    dump.unlink()
    with pytest.raises(BackupProblem, match="is missing"):
        taking.verify(backup)


def test_checksums_alone_would_pass_a_dump_that_nobody_can_read(backup: Path) -> None:
    """It was cut short before it was summed up, say by a full disk."""
    dump = backup / DUMP
    dump.write_bytes(dump.read_bytes()[:-3000])
    manifest = read_manifest(backup)
    others = [file for file in manifest.files if file.name != DUMP]
    files = [describe_file(backup, dump, "postgres"), *others]
    write_manifest(backup, manifest.model_copy(update={"files": files}))
    with pytest.raises(BackupProblem, match="pg_restore failed"):
        taking.verify(backup)


def test_a_backup_that_was_cut_short_is_not_one(backup: Path) -> None:
    (backup / MANIFEST).unlink()
    with pytest.raises(BackupProblem, match="cut short"):
        taking.verify(backup)


async def test_a_backup_overwrites_nothing(settings: Settings, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(BackupProblem, match="not empty"):
        await take(settings, stack, tmp_path)


async def test_without_a_server_it_says_so(settings: Settings, stack: Stack, tmp_path: Path) -> None:
    away = settings.model_copy(update={"postgres_url": "postgresql://nobody@127.0.0.1:1/nothing"})
    with pytest.raises(BackupProblem, match="PostgreSQL cannot be reached"):
        await take(away, stack, tmp_path / "backup")


def test_what_is_no_part_is_refused() -> None:
    assert parts_named("redis, postgres") == ("postgres", "redis")
    for nonsense in ("mysql", ""):
        with pytest.raises(BackupProblem, match="--what takes"):
            parts_named(nonsense)


def test_a_password_is_not_on_the_command_line() -> None:
    environment = postgres_environment("postgresql://ann:s%40crt@db.example:5433/shop?sslmode=require")
    assert environment == {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "ann",
        "PGPASSWORD": "s@crt",
        "PGDATABASE": "shop",
        "PGAPPNAME": "boxoffice backup",
        "PGSSLMODE": "require",
    }
