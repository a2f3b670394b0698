"""What does a device do at a door that has no network?

Beside the list it keeps two files: `<list>.key`, the public key whose lists it trusts, and `<list>.scans`, a line for each scan,
written to the disk before anybody is let in. What the server said of them stands in `<list>.uploaded`. Several processes may
share them: each scan has the log for itself.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from pydantic import AwareDatetime, ValidationError

from contracts.check_ins import WHAT_TO_SAY, CheckedIn, CheckInResult, Nonce
from contracts.door_list import DoorList, Judged, ListBroken, ListedTicket, claimed_head, read_door_list
from contracts.ids import TicketId
from contracts.value import Value

NOT_LISTED = (
    "This ticket is not in the list: it is forged, or younger than the list. Load a new list if there is a network."
)


class Scanned(Value):
    """A line of the log."""

    nonce: Nonce
    code: str
    gate: str
    scanned_at: AwareDatetime
    admitted: bool
    result: CheckInResult
    ticket_id: TicketId | None = None


@dataclass(frozen=True)
class Answer:
    """What the device shows."""

    result: CheckInResult
    admit: bool
    say: str
    ticket: ListedTicket | None
    first: Scanned | None = None


class Device:
    """A device with a list."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.key_file = _beside(file, "key")
        self.scans_file = _beside(file, "scans")
        self.uploaded_file = _beside(file, "uploaded")

    def take(self, packed: bytes, *, key: str | None = None) -> DoorList:
        """Keep this list; raises ListBroken when it is not signed with the key that is trusted.

        The key is the one that is given, else the one of before; a device that has none trusts the first list it gets, which
        came from the server that it logged in to.
        """
        trusted = key or self._trusted() or claimed_head(packed).public_key
        taken = read_door_list(packed, [trusted])
        _replace(self.key_file, f"{trusted}\n".encode())
        _replace(self.file, packed)
        return taken

    def read_list(self) -> DoorList:
        """The list, checked again: a file may have changed. Raises ListBroken, or OSError where there is none."""
        trusted = self._trusted()
        if trusted is None:
            raise ListBroken(f"nothing says whose lists to trust: {self.key_file} is missing")
        return read_door_list(self.file.read_bytes(), [trusted])

    def scan(self, door_list: DoorList, code: str, *, gate: str, now: datetime | None = None) -> Answer:
        """Judge a code and write it down; whoever is let in with it is let in once by this device."""
        at = now or datetime.now(UTC)
        with self._log() as log:
            judged = door_list.judge(code, at)
            first = _admitted_before(judged, _lines(log.read()))
            result = CheckInResult.ALREADY_USED if first is not None else judged.result
            scanned = Scanned(
                nonce=Nonce(uuid4()),
                code=code,
                gate=gate,
                scanned_at=at,
                admitted=result is CheckInResult.VALID,
                result=result,
                ticket_id=judged.ticket.id if judged.ticket is not None else None,
            )
            # On a line of its own, also after half a line.
            log.write("\n" + scanned.model_dump_json() + "\n")
            log.flush()
            # Whoever is in is in the log, even if the battery dies at this moment.
            os.fsync(log.fileno())
        say = WHAT_TO_SAY[result] if judged.is_listed else NOT_LISTED
        return Answer(result, scanned.admitted, say, judged.ticket, first)

    def to_upload(self) -> list[Scanned]:
        """The scans the server has not answered, oldest first."""
        with self._log() as log:
            scans = _lines(log.read())
        known = {answer.nonce for answer in self.uploaded()}
        return sorted((scan for scan in scans if scan.nonce not in known), key=lambda scan: scan.scanned_at)

    def uploaded(self) -> Sequence[CheckedIn]:
        """What the server has said."""
        if not self.uploaded_file.exists():
            return ()
        lines = self.uploaded_file.read_text(encoding="utf-8").splitlines()
        return [CheckedIn.model_validate_json(line) for line in lines if line]

    def keep_answers(self, answers: Iterable[CheckedIn]) -> None:
        """Write down what the server has said; these scans are not sent again."""
        with self.uploaded_file.open("a", encoding="utf-8") as file:
            file.writelines(f"{answer.model_dump_json()}\n" for answer in answers)

    def _trusted(self) -> str | None:
        return self.key_file.read_text(encoding="ascii").strip() if self.key_file.exists() else None

    @contextmanager
    def _log(self) -> Iterator[TextIO]:
        with self.scans_file.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


def _admitted_before(judged: Judged, scans: Iterable[Scanned]) -> Scanned | None:
    if judged.result is not CheckInResult.VALID or judged.ticket is None:
        return None
    return next((scan for scan in scans if scan.admitted and scan.ticket_id == judged.ticket.id), None)


def _lines(text: str) -> list[Scanned]:
    scans = []
    for line in text.splitlines():
        try:
            scans.append(Scanned.model_validate_json(line))
        except ValidationError:
            # Half a line: the device died while it wrote it, and nobody was let in on it.
            continue
    return scans


def _beside(file: Path, what: str) -> Path:
    return file.with_name(f"{file.name}.{what}")


def _replace(file: Path, content: bytes) -> None:
    """Never half of it: a list that is being taken does not cost the one of before."""
    new = _beside(file, "new")
    new.write_bytes(content)
    new.replace(file)
