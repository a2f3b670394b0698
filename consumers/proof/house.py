"""Does the ledger, replayed from an empty house, give the seats as they are?"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple
from uuid import UUID

from consumers.proof.report import Check
from db.proof import Books, LedgerRecord, SeatRecord


class Replayed(NamedTuple):
    """What the ledger says has become of a seat."""

    status: str = "available"
    hold_id: UUID | None = None
    order_id: UUID | None = None


UNTOUCHED = Replayed()


def find_ledger_gaps(books: Books) -> Iterator[str]:
    """The numbers are 1, 2, 3 … up to the last one the event has given out."""
    expected = 1
    for entry in books.ledger:
        if entry.seq != expected:
            yield f"entry {_range(expected, entry.seq - 1)} is missing"
        expected = entry.seq + 1
    if expected - 1 < books.ledger_seq:
        yield f"entry {_range(expected, books.ledger_seq)} is missing at the end"
    if expected - 1 > books.ledger_seq:
        yield f"the ledger goes on to entry {expected - 1}, but the event has given out only {books.ledger_seq}"


def find_broken_steps(books: Books) -> Iterator[str]:
    """Each entry starts from where the one before left its seat."""
    state: dict[UUID, str] = {}
    for entry in books.ledger:
        before = state.get(entry.seat_id, "available")
        if entry.from_status != before:
            yield f"entry {entry.seq} takes seat {entry.seat_id} from {entry.from_status}, but it was {before}"
        state[entry.seat_id] = entry.to_status


def find_seats_unlike_ledger(books: Books) -> Iterator[str]:
    """The last entry of each seat, and the seat's own record, agree; a hold that is over but not yet cleaned is held in both."""
    replayed = replay(books.ledger)
    for seat in books.seats:
        expected = replayed.get(seat.id, UNTOUCHED)
        if _as_replayed(seat) != expected:
            yield f"seat {seat.seat_index} ({seat.id}) is {_words(_as_replayed(seat))}, the ledger says {_words(expected)}"
    known = {seat.id for seat in books.seats}
    yield from (
        f"the ledger speaks of seat {seat_id}, which is not there" for seat_id in replayed if seat_id not in known
    )


def find_lost_seats(books: Books) -> Iterator[str]:
    """available + held + sold + withheld = capacity, on both sides, and the map has every place once."""
    in_seats = Counter(seat.status for seat in books.seats)
    replayed = Counter(seat.status for seat in replay(books.ledger).values() if seat.status != "available")
    untouched = books.capacity - replayed.total()
    for status, in_ledger in (("available", untouched), *((status, replayed[status]) for status in _TAKEN)):
        if in_seats[status] != in_ledger:
            yield f"{in_seats[status]} seats are {status}, by the ledger and the capacity it must be {in_ledger}"
    if in_seats.total() != books.capacity:
        yield f"there are {in_seats.total()} seats, the capacity is {books.capacity}"
    for seat, position in zip_longest(books.seats, range(books.capacity)):
        if seat is None or seat.seat_index != position:
            yield (
                f"the map has no seat {position}"
                if seat is None
                else f"where seat {position} belongs is {seat.seat_index}"
            )
            return


def find_double_sales(books: Books) -> Iterator[str]:
    """No seat is sold while it is sold: neither in the ledger nor among the items that are live."""
    sold: dict[UUID, int] = {}
    for entry in books.ledger:
        if entry.to_status != "sold":
            sold.pop(entry.seat_id, None)
        elif entry.seat_id in sold:
            yield f"entry {entry.seq} sells seat {entry.seat_id}, which entry {sold[entry.seat_id]} had sold"
        else:
            sold[entry.seat_id] = entry.seq
    items = Counter(item.seat_id for item in books.items if item.live)
    yield from (f"seat {seat_id} is in {count} live orders" for seat_id, count in items.items() if count > 1)


def replay(ledger: Iterable[LedgerRecord]) -> dict[UUID, Replayed]:
    """What each seat the ledger speaks of has become."""
    return {
        entry.seat_id: Replayed(
            entry.to_status,
            entry.hold_id if entry.to_status in ("held", "sold") else None,
            entry.order_id if entry.to_status == "sold" else None,
        )
        for entry in ledger
    }


_TAKEN = ("held", "sold", "withheld")


def _as_replayed(seat: SeatRecord) -> Replayed:
    return Replayed(seat.status, seat.hold_id, seat.order_id)


def _words(seat: Replayed) -> str:
    if seat.status == "sold":
        return f"sold to order {seat.order_id} from hold {seat.hold_id}"
    return f"held by {seat.hold_id}" if seat.status == "held" else seat.status


def _range(first: int, last: int) -> str:
    return str(first) if first >= last else f"{first} to {last}"


HOUSE_CHECKS: tuple[Check[Books], ...] = (
    Check(
        "ledger without gaps",
        "The ledger's numbers run from 1 to the last one given out.",
        "entries",
        lambda books: len(books.ledger),
        find_ledger_gaps,
    ),
    Check(
        "ledger in one piece",
        "Each entry starts from what the one before made of its seat.",
        "entries",
        lambda books: len(books.ledger),
        find_broken_steps,
    ),
    Check(
        "ledger equals seats",
        "Replayed from an empty house, the ledger gives the seats as they are.",
        "seats",
        lambda books: len(books.seats),
        find_seats_unlike_ledger,
    ),
    Check(
        "every seat accounted for",
        "Available, held, sold and withheld seats add up to the capacity.",
        "seats",
        lambda books: len(books.seats),
        find_lost_seats,
    ),
    Check(
        "no seat sold twice",
        "No seat is sold while it is sold, in the ledger or in the orders.",
        "sales",
        lambda books: sum(entry.to_status == "sold" for entry in books.ledger),
        find_double_sales,
    ),
)
