"""How does a calendar take note of a show?

RFC 5545, one event per file. Its UID stays the same for ever and SEQUENCE grows with every change, so that a calendar that
takes the file again changes the entry it has instead of making a second one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

# RFC 5545 3.1: lines are at most 75 octets long, without the line break; a longer one goes on behind a blank.
_LINE_OCTETS_MAX = 75
MEDIA_TYPE = "text/calendar"


@dataclass(frozen=True, kw_only=True)
class CalendarEntry:
    """A show. Times are aware; a show has a beginning and, here, no end: nobody has told us."""

    uid: str
    sequence: int
    status: Literal["CONFIRMED", "TENTATIVE", "CANCELLED"]
    begins_at: datetime
    # When anything about it was last changed.
    changed_at: datetime
    summary: str
    location: str
    description: str
    url: str


def calendar_file(entry: CalendarEntry) -> bytes:
    """The entry as an iCalendar file, in UTF-8 with CRLF; the same entry, the same bytes."""
    return b"".join(_folded(line) for line in _lines(entry))


def _lines(entry: CalendarEntry) -> Iterator[str]:
    yield "BEGIN:VCALENDAR"
    yield "VERSION:2.0"
    yield "PRODID:-//Boxoffice//Tickets//EN"
    yield "METHOD:PUBLISH"
    yield "BEGIN:VEVENT"
    yield f"UID:{_text(entry.uid)}"
    yield f"SEQUENCE:{entry.sequence}"
    yield f"DTSTAMP:{_utc(entry.changed_at)}"
    yield f"LAST-MODIFIED:{_utc(entry.changed_at)}"
    # In UTC: the venue's zone is in the moment already, and no file has to carry the zone's rules.
    yield f"DTSTART:{_utc(entry.begins_at)}"
    yield f"SUMMARY:{_text(entry.summary)}"
    if entry.location:
        yield f"LOCATION:{_text(entry.location)}"
    if entry.description:
        yield f"DESCRIPTION:{_text(entry.description)}"
    yield f"URL:{entry.url}"
    yield f"STATUS:{entry.status}"
    yield "TRANSP:OPAQUE"
    yield "END:VEVENT"
    yield "END:VCALENDAR"


def _text(value: str) -> str:
    """RFC 5545 3.3.11: what would end a value or a line is escaped, what is no text is left out."""
    unbroken = value.replace("\r\n", "\n").replace("\r", "\n")
    printable = "".join(letter for letter in unbroken if (letter >= " " and letter != "\x7f") or letter in "\n\t")
    escaped = printable.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return escaped.replace("\n", "\\n")


def _folded(line: str) -> bytes:
    """The line in pieces of at most 75 octets, none of which ends within a character."""
    pieces: list[bytes] = []
    piece = b""
    for letter in line:
        octets = letter.encode()
        if len(piece) + len(octets) > _LINE_OCTETS_MAX:
            pieces.append(piece)
            piece = b" "
        piece += octets
    return b"\r\n".join([*pieces, piece]) + b"\r\n"


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
