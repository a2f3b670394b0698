"""What can a look at a deployment find?"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.doctor.deployment import Deployment

TIMEOUT_SECONDS = 5.0
NAMES_SHOWN = 5


class Level(StrEnum):
    """How bad it is."""

    FINE = "fine"
    NOTE = "note"  # good to know
    WARNING = "warning"  # will hurt under conditions that may come
    WRONG = "wrong"  # mend it before a sale
    UNKNOWN = "unknown"  # nobody could be asked


@dataclass(frozen=True)
class Finding:
    """One thing somebody should know, and what to do about it."""

    level: Level
    what: str
    what_to_do: str = ""


Findings = list[Finding]
Question = Callable[["Deployment"], Awaitable[Findings]]


class Unanswered(Exception):
    """What we wanted to know could not be asked; says why and what to do about that."""

    def __init__(self, why: str, what_to_do: str) -> None:
        super().__init__(why)
        self.what_to_do = what_to_do


@dataclass(frozen=True)
class Check:
    """A question to a deployment. No findings: all is well. Raises Unanswered, or what its server's client raises."""

    name: str
    ask: Question
    timeout_seconds: float = TIMEOUT_SECONDS


def wrong(what: str, what_to_do: str) -> Finding:
    """Mend it before a sale."""
    return Finding(Level.WRONG, what, what_to_do)


def warning(what: str, what_to_do: str) -> Finding:
    """It will hurt one day."""
    return Finding(Level.WARNING, what, what_to_do)


def some(names: Sequence[str]) -> str:
    """The first of them, and how many more: a list of a hundred is read by nobody."""
    return ", ".join(names[:NAMES_SHOWN]) + (
        f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    )


def note(what: str, what_to_do: str = "") -> Finding:
    """Good to know."""
    return Finding(Level.NOTE, what, what_to_do)
