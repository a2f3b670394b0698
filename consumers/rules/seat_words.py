"""What are these seats called, in words a person can look up?"""

from collections.abc import Iterable, Iterator
from itertools import groupby

from consumers.rules.sale import Seat

# A subject is one line of a list; the whole of it stands in what was before and after.
SUBJECT_LENGTH_MAX = 200


def words_for(seats: Iterable[Seat]) -> str:
    """Row by row, neighbours together: "Stalls A 1–20, Stalls B 3"; places to stand, which have no names, by their number:
    "Floor (300 places)"."""
    in_order = sorted(seats, key=lambda seat: seat.seat_index)
    rows = groupby(in_order, key=lambda seat: (seat.section, seat.row))
    return ", ".join(words for (section, row), of_row in rows for words in _words_for_row(section, row, list(of_row)))


def subject_of(seats: Iterable[Seat]) -> str:
    """The same in short: how many, and as many of them as fit."""
    all_of_them = list(seats)
    text = f"{len(all_of_them)} {'seat' if len(all_of_them) == 1 else 'seats'}: {words_for(all_of_them)}"
    return text if len(text) <= SUBJECT_LENGTH_MAX else f"{text[: SUBJECT_LENGTH_MAX - 1]}…"


def _words_for_row(section: str, row: str, seats: list[Seat]) -> Iterator[str]:
    if not seats[0].seat_number:
        yield f"{section} ({len(seats)} {'place' if len(seats) == 1 else 'places'})"
        return
    # Of neighbours the index goes up as the position does.
    for _, some in groupby(enumerate(seats), key=lambda place: place[1].seat_index - place[0]):
        together = [seat for _, seat in some]
        first, last = together[0].seat_number, together[-1].seat_number
        yield f"{section} {row} {first}" if len(together) == 1 else f"{section} {row} {first}–{last}"
