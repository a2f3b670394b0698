"""What is in a backup, when is it from, and is it still what was written?"""

import hashlib
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ops.backup.problem import BackupProblem

MANIFEST = "manifest.json"
FORMAT = 1
BLOCK = 1 << 20

Part = Literal["postgres", "redis", "rabbitmq"]
PARTS: tuple[Part, ...] = ("postgres", "redis", "rabbitmq")


class BackedUpFile(BaseModel):
    """One file of a backup; `name` is its path below the folder."""

    model_config = ConfigDict(frozen=True)

    name: str
    part: Part
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """Everything about a backup that one wants to know without opening it."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    # The moment, by the database's clock, at which its books end: what was committed later is not in them.
    snapshot_at: datetime | None
    began_at: datetime
    finished_at: datetime
    # Of ours, and the commit it was built from where that is known.
    application: str
    commit: str
    versions: dict[str, str]
    kind: Literal["logical", "physical"] | None
    database: str
    # Files of db/migrations/ by name, with their checksums.
    migrations: dict[str, str]
    # Records by table, in the same snapshot as the dump.
    records: dict[str, int]
    notes: list[str]
    files: list[BackedUpFile]

    def file_of(self, part: Part) -> BackedUpFile | None:
        """The main file of a part, None when the backup does not have that part."""
        return next((file for file in self.files if file.part == part), None)


def describe_file(folder: Path, path: Path, part: Part) -> BackedUpFile:
    """A file as it will be known; it belongs to us alone and is on the disk."""
    path.chmod(0o600)
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
        os.fsync(file.fileno())
    return BackedUpFile(
        name=str(path.relative_to(folder)), part=part, bytes=path.stat().st_size, sha256=digest.hexdigest()
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Last of all: a folder without a manifest is no backup, so one that was cut short is never taken for one."""
    fresh = folder / f"{MANIFEST}.new"
    write_private(fresh, manifest.model_dump_json(indent=2) + "\n")
    fresh.replace(folder / MANIFEST)


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but us may read, and have it on the disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> Manifest:
    """Raises BackupProblem when the folder is not a whole backup of ours."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as missing:
        raise BackupProblem(f"{folder} has no {MANIFEST}: it is no backup, or one that was cut short") from missing
    except (OSError, ValidationError) as problem:
        raise BackupProblem(f"{path} cannot be read: {problem}") from problem
    if manifest.format != FORMAT:
        raise BackupProblem(f"{path} has format {manifest.format}, and this is for {FORMAT}: use a newer Boxoffice")
    return manifest


def find_damage(folder: Path, manifest: Manifest) -> list[str]:
    """Every file that is missing or no longer what was written."""
    return [problem for file in manifest.files if (problem := _damage_of(folder, file))]


def _damage_of(folder: Path, file: BackedUpFile) -> str | None:
    path = folder / file.name
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"{file.name} is not in the folder"
    if not path.is_file():
        return f"{file.name} is missing"
    if path.stat().st_size != file.bytes:
        return f"{file.name} has {path.stat().st_size} bytes, and had {file.bytes}"
    found = describe_file(folder, path, file.part).sha256
    return None if found == file.sha256 else f"{file.name} was changed: its SHA-256 is {found}"


def make_folder(folder: Path) -> None:
    """A folder for us alone; raises BackupProblem when there is something in it already."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BackupProblem(f"{folder} is not empty: a backup never overwrites anything, name a new folder")
        folder.chmod(0o700)
    except OSError as problem:
        raise BackupProblem(f"{folder} cannot be used: {problem.strerror or problem}") from problem


def parts_named(text: str) -> tuple[Part, ...]:
    """The parts in `postgres,redis`, in our order; raises BackupProblem for one that there is not."""
    wanted = {word.strip() for word in text.split(",") if word.strip()}
    unknown = wanted - set(PARTS)
    if unknown or not wanted:
        raise BackupProblem(f"--what takes {', '.join(PARTS)}; not {', '.join(sorted(unknown)) or 'nothing'}")
    return tuple(part for part in PARTS if part in wanted)


def total_bytes(files: Iterable[BackedUpFile]) -> int:
    """How large they are together."""
    return sum(file.bytes for file in files)
