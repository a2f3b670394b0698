"""Which packages run in production, and under which licences?"""

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import cast

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "ops" / "locks" / "runtime.txt"

# What an Apache-2.0 program may be shipped with, and asks of nobody more than a notice. MPL-2.0 asks for the changes to its own
# files, of which we make none.
ALLOWED = re.compile(
    r"(apache.*|mit.*|0?bsd.*|3-clause bsd.*|isc.*|psf.*|python software foundation.*|mpl-2\.0|mozilla public license 2\.0.*"
    r"|unlicense|public domain|tcl|zlib)",
    re.IGNORECASE,
)

_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\]+))?", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """One line of the lock. `licence` is empty where the package says nothing, None where it is not installed here."""

    name: str
    version: str
    licence: str | None


def packages(lock: Path = LOCK) -> list[Package]:
    """Those of the lock, in its order. (Some are for other systems only, and not installed here.)"""
    pinned = _PINNED.finditer(lock.read_text(encoding="utf-8"))
    return [Package(match["name"], match["version"], licence_of(match["name"])) for match in pinned]


def licence_of(name: str) -> str | None:
    """As the installed package says: by expression, by its field, or by its classifiers."""
    try:
        metadata = cast(Message, importlib.metadata.metadata(name))  # whose own type leaves out half of what it can
    except importlib.metadata.PackageNotFoundError:
        return None
    classified = [line.split("::")[-1].strip() for line in metadata.get_all("Classifier") or [] if "License ::" in line]
    told = metadata.get("License-Expression") or (metadata.get("License") or "").strip().split("\n")[0]
    return told or " OR ".join(line for line in classified if line != "OSI Approved")


def refused(found: list[Package]) -> Iterator[str]:
    """Licences that nobody has looked at yet."""
    for package in found:
        if package.licence is None:
            continue
        parts = re.split(r"\s+(?:AND|OR)\s+", package.licence)
        if not package.licence or not all(ALLOWED.fullmatch(part.strip("() ")) for part in parts):
            yield f"{package.name} {package.version}: {package.licence or 'says nothing of its licence'}"
