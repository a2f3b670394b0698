"""What do the files of a finished waiting room say, and what follows from them?

Everything that follows is computed here once, from the log, and never taken from the proof: checks compare the two.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from contracts.draw import Demotion, Entrant, cohort_tree, draw_seed, drawn_order, drawn_tickets, is_commitment
from contracts.merkle_tree import MerkleTree
from contracts.receipts import Receipt
from contracts.value import Value
from contracts.waiting_room import LogEntry, LogKind, Phase
from contracts.waiting_room_proof import (
    ANNOUNCEMENT_FILE,
    FROZEN_FILE,
    LOG_FILE,
    PROOF_FILE,
    RECEIPTS_FOLDER,
    Announcement,
    FrozenCohort,
    RoomProof,
)

Document = TypeVar("Document", bound=Value)


class UnreadableProof(Exception):
    """The files are not what a proof is made of; the message says which and why."""


@dataclass(frozen=True)
class Evidence:
    """The files, read. `receipts` is by file name; `announced` and `frozen_before` are what others saved at the time."""

    proof: RoomProof
    log: tuple[LogEntry, ...]
    receipts: tuple[tuple[str, Receipt], ...] = ()
    announced: Announcement | None = None
    frozen_before: FrozenCohort | None = None

    @cached_property
    def frozen_at(self) -> LogEntry | None:
        """The entry that froze the cohort."""
        return next((entry for entry in self.log if _enters(entry, Phase.SEALING)), None)

    @cached_property
    def sealed_at(self) -> LogEntry | None:
        """The entry that put the drawn order in the place of the order of arrival."""
        return next((entry for entry in self.log if entry.kind is LogKind.SEALED), None)

    @cached_property
    def cohort(self) -> tuple[Entrant, ...]:
        """Who had joined when the cohort was frozen, by ticket; whoever is in it without a commitment is left out."""
        joined = (entry for entry in self._before_the_freeze if entry.kind is LogKind.JOINED)
        return tuple(sorted(Entrant(e.ticket, e.commitment) for e in joined if is_commitment(e.commitment)))

    @cached_property
    def demotions(self) -> tuple[Demotion, ...]:
        """Who had been demoted by then, by ticket."""
        demoted = (entry for entry in self._before_the_freeze if entry.kind is LogKind.DEMOTED)
        return tuple(sorted(Demotion(entry.ticket, entry.detail) for entry in demoted))

    @cached_property
    def tree(self) -> MerkleTree:
        """The tree of the cohort that the log tells of."""
        return cohort_tree(self.proof.event_id, self.cohort, self.demotions)

    @cached_property
    def seed(self) -> bytes | None:
        """What the draw must have been made from; None before it is revealed."""
        revelation = self.proof.revelation
        if revelation is None:
            return None
        return draw_seed(
            server_secret=bytes.fromhex(revelation.secret),
            beacon_randomness=bytes.fromhex(revelation.beacon.randomness),
            merkle_root=self.tree.root,
        )

    @cached_property
    def drawn(self) -> dict[int, int]:
        """For each ticket of the cohort its ticket of the draw; nothing before it is revealed, or without a draw."""
        if self.seed is None:
            return {}
        return drawn_tickets(drawn_order(self.seed, self.cohort, {demotion.ticket for demotion in self.demotions}))

    @cached_property
    def joined(self) -> dict[int, LogEntry]:
        """Who joined at which entry of the log."""
        return {entry.index: entry for entry in self.log if entry.kind is LogKind.JOINED}

    @property
    def _before_the_freeze(self) -> Iterator[LogEntry]:
        end = self.frozen_at
        return (entry for entry in self.log if end is not None and entry.index < end.index)


def read_evidence(where: Path) -> Evidence:
    """The files of a folder, of a zip of one, or beside a proof.json; raises UnreadableProof."""
    try:
        return _read(_folder(where))
    except (OSError, zipfile.BadZipFile, KeyError) as problem:
        raise UnreadableProof(f"{where}: {problem}") from problem


def _folder(where: Path) -> Path | zipfile.Path:
    if where.is_dir():
        return where
    if where.name == PROOF_FILE:
        return where.parent
    archive = zipfile.Path(where)
    inner = list(archive.iterdir())
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else archive


def _read(folder: Path | zipfile.Path) -> Evidence:
    receipts = folder / RECEIPTS_FOLDER
    files: list[Path | zipfile.Path] = list(receipts.iterdir()) if receipts.is_dir() else []
    return Evidence(
        proof=_document(folder / PROOF_FILE, RoomProof),
        log=tuple(_entries(folder / LOG_FILE)),
        receipts=tuple((file.name, _document(file, Receipt)) for file in sorted(files, key=_name)),
        announced=_optional(folder / ANNOUNCEMENT_FILE, Announcement),
        frozen_before=_optional(folder / FROZEN_FILE, FrozenCohort),
    )


def _name(file: Path | zipfile.Path) -> str:
    return file.name


def _entries(file: Path | zipfile.Path) -> Iterator[LogEntry]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield LogEntry.model_validate_json(line)
        except ValidationError as problem:
            raise UnreadableProof(f"{file.name}, line {number}: {_first(problem)}") from None


def _document(file: Path | zipfile.Path, kind: type[Document]) -> Document:
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as problem:
        raise UnreadableProof(f"{file.name}: {_first(problem)}") from None


def _optional(file: Path | zipfile.Path, kind: type[Document]) -> Document | None:
    return _document(file, kind) if file.exists() else None


def _first(problem: ValidationError) -> str:
    error = problem.errors()[0]
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}" if error["loc"] else str(error["msg"])


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """The files of a proof, as they are published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROOF_FILE).write_text(evidence.proof.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with (folder / LOG_FILE).open("w", encoding="utf-8") as file:
        file.writelines(f"{entry.model_dump_json(exclude_defaults=True)}\n" for entry in evidence.log)
    for saved, name in ((evidence.announced, ANNOUNCEMENT_FILE), (evidence.frozen_before, FROZEN_FILE)):
        if saved is not None:
            (folder / name).write_text(saved.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / RECEIPTS_FOLDER).mkdir(exist_ok=True)
    for name, receipt in evidence.receipts:
        (folder / RECEIPTS_FOLDER / name).write_text(receipt.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _enters(entry: LogEntry, phase: Phase) -> bool:
    return entry.kind is LogKind.PHASE and entry.detail.split(" ", 1)[0] == phase
