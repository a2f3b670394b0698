"""How is a backup taken while tickets are sold, and how is it known to be good?"""

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from contracts.settings import Settings
from ops.backup import physical, postgres, rabbitmq, redis
from ops.backup.manifest import (
    BackedUpFile,
    Manifest,
    Part,
    describe_file,
    find_damage,
    make_folder,
    read_manifest,
    write_manifest,
)
from ops.backup.problem import BackupProblem
from ops.stack import Stack
from ops.stack.server import REPOSITORY

Say = Callable[[str], None]


@dataclass
class _Gathered:
    """What the parts have written and found out so far."""

    files: list[BackedUpFile] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    dumped: postgres.Dumped | None = None


async def take(
    settings: Settings, stack: Stack, folder: Path, parts: tuple[Part, ...], *, is_physical: bool, say: Say
) -> Manifest:
    """Write a backup into this folder, which is empty or not there yet; raises BackupProblem."""
    make_folder(folder)
    began_at, gathered = datetime.now(UTC), _Gathered()
    if "postgres" in parts:
        await _take_postgres(settings, folder, gathered, is_physical=is_physical)
        say(f"postgres: {_sizes(gathered, 'postgres')}")
    if "redis" in parts:
        gathered.versions["redis"] = await redis.describe(settings.redis_url)
        path = await asyncio.to_thread(redis.snapshot, settings.redis_url, folder)
        gathered.files.append(await asyncio.to_thread(describe_file, folder, path, "redis"))
        say(f"redis: {_sizes(gathered, 'redis')}")
    if "rabbitmq" in parts:
        exported = await rabbitmq.export(settings, stack, folder)
        gathered.versions["rabbitmq"] = exported.version
        gathered.notes += [exported.note] if exported.note else []
        gathered.files += [describe_file(folder, path, "rabbitmq") for path in exported.paths]
        say(f"rabbitmq: {_sizes(gathered, 'rabbitmq')}")
    manifest = _manifest_of(gathered, began_at, is_physical=is_physical)
    write_manifest(folder, manifest)
    return manifest


async def _take_postgres(settings: Settings, folder: Path, gathered: _Gathered, *, is_physical: bool) -> None:
    take_it = physical.copy if is_physical else postgres.dump
    dumped = gathered.dumped = await take_it(settings.postgres_url, folder)
    gathered.versions |= {"postgres": dumped.facts.version, "postgres client": dumped.client}
    paths = sorted(path for path in dumped.path.rglob("*") if path.is_file()) if is_physical else [dumped.path]
    gathered.files += [await asyncio.to_thread(describe_file, folder, path, "postgres") for path in paths]


def _manifest_of(gathered: _Gathered, began_at: datetime, *, is_physical: bool) -> Manifest:
    dumped = gathered.dumped
    return Manifest(
        snapshot_at=dumped.snapshot_at if dumped else None,
        began_at=began_at,
        finished_at=datetime.now(UTC),
        application=application_version(),
        commit=commit(),
        versions=gathered.versions,
        kind=None if dumped is None else "physical" if is_physical else "logical",
        database=dumped.facts.database if dumped else "",
        migrations=dumped.migrations if dumped else {},
        records=dumped.records if dumped else {},
        notes=gathered.notes,
        files=gathered.files,
    )


def verify(folder: Path) -> Manifest:
    """Every file is what was written, and can be read to its end; raises BackupProblem with all that is wrong."""
    manifest = read_manifest(folder)
    problems = find_damage(folder, manifest)
    if not problems:
        problems = [problem for file in manifest.files if (problem := _unreadable(folder, file))]
        problems += _physical_problems(folder, manifest)
    if problems:
        raise BackupProblem(f"{folder} is damaged:\n  " + "\n  ".join(problems))
    return manifest


def _unreadable(folder: Path, file: BackedUpFile) -> str | None:
    path = folder / file.name
    try:
        if file.name == postgres.DUMP:
            if not postgres.list_contents(path):
                return f"{file.name} has nothing in it"
            postgres.read_through(path)
        elif file.part == "redis":
            redis.check_snapshot(path)
        elif file.part == "rabbitmq":
            rabbitmq.check_definitions(path)
    except BackupProblem as problem:
        return str(problem)
    return None


def _physical_problems(folder: Path, manifest: Manifest) -> list[str]:
    if manifest.kind != "physical":
        return []
    try:
        physical.check(folder / physical.FOLDER)
    except BackupProblem as problem:
        return [str(problem)]
    return []


def application_version() -> str:
    """Ours, as it was installed."""
    try:
        return version("boxoffice")
    except PackageNotFoundError:
        return "unknown"


def commit() -> str:
    """The commit of the checkout; nothing where there is none, as in a container."""
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _sizes(gathered: _Gathered, part: Part) -> str:
    count = sum(file.bytes for file in gathered.files if file.part == part)
    return f"{count / 1e6:.1f} MB"
