"""How do empty servers become the shop of the backup again?

In this order, because each step rests on the one before: look whether anything would be lost, check the backup, empty the
broker (what outlived its database speaks of orders that no longer are), fill PostgreSQL, bring its schema up to date, empty
Redis. Nothing is sold meanwhile: no process of ours may be connected.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg

from contracts.settings import Settings
from db import backups
from db.migrate import MigrationRefused, migrate
from ops.backup import postgres, rabbitmq, redis, taking
from ops.backup.manifest import Manifest
from ops.backup.problem import BackupProblem

Say = Callable[[str], None]


async def restore(settings: Settings, folder: Path, *, replace: str | None, say: Say) -> Manifest:
    """Bring the servers to where the backup was; raises BackupProblem, before anything was changed where that is possible."""
    manifest = await asyncio.to_thread(taking.verify, folder)
    _check_kind(manifest, folder)
    say(f"the backup is whole: books until {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC")
    queues = await rabbitmq.find_queues(settings)
    await _check_servers(settings, manifest, queues, replace=replace)
    thrown_away = await rabbitmq.count_messages(settings, queues, throw_away=True)
    say(f"rabbitmq: {thrown_away} messages thrown away, {len(queues)} queues are empty")
    await postgres.load(settings.postgres_url, folder / postgres.DUMP, say=say)
    applied = await _bring_up_to_date(settings)
    say(f"postgres: schema is up to date{f' (applied {applied})' if applied else ''}")
    await _check_records(settings, manifest)
    await rabbitmq.bring_about(settings)
    await redis.forget_everything(settings.redis_url)
    say("redis: empty; everybody signs in again, waiting rooms come back from their logs")
    return manifest


def _check_kind(manifest: Manifest, folder: Path) -> None:
    if manifest.file_of("postgres") is None:
        raise BackupProblem(f"{folder} has no PostgreSQL in it: there is nothing to restore")
    if manifest.kind == "physical":
        raise BackupProblem(
            f"{folder} is a physical copy: put it in place as ops/postgres/point-in-time.md says, start PostgreSQL, then"
            f" `boxoffice restore reconcile {folder}`"
        )


async def _check_servers(settings: Settings, manifest: Manifest, queues: list[str], *, replace: str | None) -> None:
    """They are there, will do, and hold nothing that anybody would miss, unless its name was typed."""
    key_count = await redis.count_keys(settings.redis_url)
    message_count = await rabbitmq.count_messages(settings, queues, throw_away=False)
    connection = await postgres.reach(settings.postgres_url, application_name="boxoffice restore")
    try:
        facts = await backups.describe(connection)
        others = await backups.find_other_sessions(connection)
        is_empty = await backups.is_empty(connection)
    finally:
        await connection.close(timeout=5)
    if others:
        raise BackupProblem(
            f"the shop is open: stop {', '.join(others)} first; buyers may not buy while books are exchanged"
        )
    if _major(manifest.versions["postgres"]) > facts.major:
        raise BackupProblem(f"the backup is of PostgreSQL {manifest.versions['postgres']}, this is {facts.version}")
    held = [f"the database {facts.database}"] * (not is_empty)
    held += [f"{key_count} keys in Redis"] * bool(key_count) + [f"{message_count} messages in RabbitMQ"] * bool(
        message_count
    )
    if held and replace != facts.database:
        said = "" if replace is None else f" (not {replace!r})"
        raise BackupProblem(
            f"there is something here already: {', '.join(held)}. What is here is destroyed for ever by typing the database's"
            f" name: --replace {facts.database}{said}"
        )


async def _bring_up_to_date(settings: Settings) -> str:
    try:
        return ", ".join(await migrate(settings.postgres_url))
    except (MigrationRefused, asyncpg.PostgresError, OSError) as problem:
        raise BackupProblem(f"the schema of the backup cannot be brought up to date: {problem}") from problem


async def _check_records(settings: Settings, manifest: Manifest) -> None:
    """Every record that was counted when the backup was taken is there again; and mark the moment."""
    connection = await postgres.reach(settings.postgres_url, application_name="boxoffice restore")
    try:
        found = await backups.count_records(connection)
        assert manifest.snapshot_at is not None  # noqa: S101 -- for the type checker: there is a dump
        await backups.record_restore(connection, manifest.snapshot_at)
    finally:
        await connection.close(timeout=5)
    lost = [
        f"{table}: {found.get(table)} of {count}"
        for table, count in manifest.records.items()
        if found.get(table) != count
    ]
    if lost:
        raise BackupProblem(f"what was restored is not what was backed up: {'; '.join(lost)}")


def _major(version: str) -> int:
    return int(version.split(".")[0])
