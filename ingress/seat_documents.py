"""How do an event's seats become the bytes that thousands ask for?

What seldom changes (sections, rows, numbers, prices) is encoded once; a document of ten thousand seats is then a join of
those pieces with the statuses between them. All of it is CPU time: `run` builds a big one in a thread.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from contracts.house import Place, Point, RowLine, SeatKind, Section, row_lines
from contracts.ids import EventId, SeatId
from contracts.value import Amount, Value
from db.availability_cache import Availability
from db.seat_views import EventSeats, SaleState, SaleStatus, SeatRecord
from ingress.http_cache import entity_tag
from ingress.seat_view import AVAILABLE

# What changes by the second is compressed fast, what is asked for once a minute well.
QUICK, THOROUGH = 1, 6

_CENT = Decimal("0.01")

SectionType = Literal["seated", "general_admission"]
SeatStatus = Literal["available", "held", "sold", "withheld"]


class ListedSeat(Value):
    """A seat, what it costs, everything included, and whether it can be had."""

    id: SeatId
    seat_index: int
    number: str
    kind: SeatKind
    price: Amount
    status: SeatStatus


class ListedRow(Value):
    """A row of seats, from one end to the other."""

    row: str
    seats: tuple[ListedSeat, ...]


class ListedTier(Value):
    """Another price of a section, everything included, which buyers choose by its name."""

    name: str
    price: Amount


class ListedSection(Value):
    """A section; one of general admission has no rows, but so many places at one price."""

    name: str
    type: SectionType
    capacity: int
    available_count: int
    first_seat_index: int
    price: Amount
    tiers: tuple[ListedTier, ...]
    rows: tuple[ListedRow, ...]


class SeatList(Value):
    """Every seat of an event, by section and row."""

    event_id: EventId
    version: int
    status: SaleStatus
    currency: str
    available_count: int
    sections: tuple[ListedSection, ...]


class DrawnSeat(Value):
    """A seat on the map; its seatIndex is its place in the availability: the row's firstSeatIndex and so on."""

    id: SeatId
    number: str
    kind: SeatKind
    price: Amount


class DrawnRow(Value):
    """A row and where it lies: its seats are spaced evenly from `start` to `end`, its middle `bend` further from the stage.
    Both points are null when nobody has drawn the house."""

    row: str
    first_seat_index: int
    start: Point | None
    end: Point | None
    bend: float
    seats: tuple[DrawnSeat, ...]


class DrawnSection(Value):
    """A section and where it lies; `price` is its lowest."""

    name: str
    type: SectionType
    capacity: int
    first_seat_index: int
    price: Amount
    tiers: tuple[ListedTier, ...]
    place: Place | None
    outline: tuple[Point, ...]
    rows: tuple[DrawnRow, ...]


class SeatMap(Value):
    """What seldom changes while an event sells: its seats, what they cost and where they are."""

    event_id: EventId
    currency: str
    sections: tuple[DrawnSection, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """An answer, encoded."""

    body: bytes
    gzipped: bytes
    etag: str


class Span(NamedTuple):
    """The seats of a section: from index `first` to before `end`."""

    first: int
    end: int


class SeatDocuments:
    """The documents of one event, made of its seats as they were read."""

    def __init__(self, event: EventSeats) -> None:
        self._event = event
        self._event_id = event.sale.event_id
        self._currency = event.currency
        self._sections = list(_sections(event))
        self._fragments: list[bytes] = []

    def repriced(self, prices: Mapping[int, Decimal]) -> "SeatDocuments":
        """The documents of the same event, in which the seats of these indexes cost that."""
        seats = list(self._event.seats)
        for index, price in prices.items():
            seats[index] = replace(seats[index], price=price)
        return SeatDocuments(replace(self._event, seats=seats))

    def span(self, section: str) -> Span | None:
        """Where the seats of that section are; None when there is no such section."""
        return next((one.span for one in self._sections if one.name == section), None)

    def availability(self, sale: SaleState, statuses: bytes, *, version: int) -> Document:
        """One character per seat."""
        return _document(
            Availability(
                event_id=self._event_id,
                version=version,
                status=sale.status,
                available_count=statuses.count(AVAILABLE),
                seats=statuses.decode("ascii"),
            )
        )

    def map(self) -> Document:
        """The house without its statuses."""
        sections = tuple(section.drawn() for section in self._sections)
        return _document(SeatMap(event_id=self._event_id, currency=self._currency, sections=sections), THOROUGH)

    def seat_list(self, sale: SaleState, statuses: bytes, *, version: int) -> Document:
        """Everything about every seat."""
        if not self._fragments:
            self._fragments = self._encode_fragments()
        parts = [b""] * (2 * len(self._fragments) - 1)
        parts[0::2] = self._fragments
        parts[1::2] = self._changing(sale, statuses, version)
        return _encoded(b"".join(parts), QUICK)

    def _changing(self, sale: SaleState, statuses: bytes, version: int) -> Iterator[bytes]:
        """What stands between the fragments, in their order."""
        yield b"%d" % version
        yield b'"%b"' % sale.status.encode()
        yield b"%d" % statuses.count(AVAILABLE)
        for section in self._sections:
            first, end = section.span
            yield b"%d" % statuses.count(AVAILABLE, first, end)
            if section.type == "seated":
                yield from map(_STATUS_IN_JSON.__getitem__, statuses[first:end])

    def _encode_fragments(self) -> list[bytes]:
        # A text nobody has in a name stands for whatever changes; the pieces are what lies between.
        gap = uuid4().hex
        whole = {
            "eventId": str(self._event_id),
            "version": gap,
            "status": gap,
            "currency": self._currency,
            "availableCount": gap,
            "sections": [section.listed(gap) for section in self._sections],
        }
        return json.dumps(whole, separators=(",", ":")).encode().split(f'"{gap}"'.encode())


class _Section:
    """A section's seats as they were read, and its drawing."""

    def __init__(self, name: str, first: int, seats: Sequence[SeatRecord], drawing: Section | None) -> None:
        self.name = name
        self.type: SectionType = "general_admission" if seats[0].kind == "standing" else "seated"
        self.span = Span(first, first + len(seats))
        self._seats = seats
        self._drawing = drawing

    def listed(self, gap: str) -> dict[str, Any]:
        """As a section of the seat list, `gap` where something changes."""
        rows = [
            {"row": row, "seats": [_listed_seat(index, seat, gap) for index, seat in of_row]}
            for row, of_row in self._rows()
        ]
        return {
            "name": self.name,
            "type": self.type,
            "capacity": len(self._seats),
            "availableCount": gap,
            "firstSeatIndex": self.span.first,
            "price": str(self._price),
            "tiers": [tier.model_dump(mode="json", by_alias=True) for tier in self._tiers],
            "rows": rows,
        }

    def drawn(self) -> DrawnSection:
        """As a section of the map."""
        lines = row_lines(self._drawing) if self._drawing is not None else []
        rows = [(row, of_row) for row, of_row in self._rows()]
        # A house that has been rebuilt since says nothing about these rows.
        drawn = lines if len(lines) == len(rows) else [None] * len(rows)
        return DrawnSection(
            name=self.name,
            type=self.type,
            capacity=len(self._seats),
            first_seat_index=self.span.first,
            price=self._price,
            tiers=self._tiers,
            place=self._drawing.place if self._drawing is not None else None,
            outline=self._drawing.outline if self._drawing is not None else (),
            rows=tuple(_drawn_row(row, of_row, line) for (row, of_row), line in zip(rows, drawn, strict=True)),
        )

    @property
    def _price(self) -> Amount:
        return min(seat.price for seat in self._seats)

    @property
    def _tiers(self) -> tuple[ListedTier, ...]:
        # Of the event's own copy of the house: what its price_tiers were made from.
        tiers = self._drawing.tiers if self._drawing is not None else ()
        return tuple(ListedTier(name=tier.name, price=tier.price.quantize(_CENT)) for tier in tiers)

    def _rows(self) -> Iterator[tuple[str, list[tuple[int, SeatRecord]]]]:
        if self.type == "general_admission":
            return
        for row, of_row in groupby(enumerate(self._seats, self.span.first), key=lambda place: place[1].row):
            yield row, list(of_row)


def _sections(event: EventSeats) -> Iterator[_Section]:
    drawings = {} if event.house is None else {section.name: section for section in event.house.laid_out().sections}
    first = 0
    for name, of_section in groupby(event.seats, key=lambda seat: seat.section):
        seats = list(of_section)
        yield _Section(name, first, seats, drawings.get(name))
        first += len(seats)


def _listed_seat(index: int, seat: SeatRecord, gap: str) -> dict[str, Any]:
    return {
        "id": str(seat.id),
        "seatIndex": index,
        "number": seat.number,
        "kind": seat.kind,
        "price": str(seat.price),
        "status": gap,
    }


def _drawn_row(row: str, of_row: Sequence[tuple[int, SeatRecord]], line: RowLine | None) -> DrawnRow:
    return DrawnRow.model_construct(
        row=row,
        first_seat_index=of_row[0][0],
        start=line.start if line is not None else None,
        end=line.end if line is not None else None,
        bend=line.bend if line is not None else 0.0,
        seats=tuple(
            DrawnSeat.model_construct(id=seat.id, number=seat.number, kind=seat.kind, price=seat.price)
            for _, seat in of_row
        ),
    )


def availability_document(availability: Availability) -> Document:
    """An availability that was found elsewhere, encoded."""
    return _document(availability)


def _document(value: Value, level: int = QUICK) -> Document:
    return _encoded(value.model_dump_json(by_alias=True).encode(), level)


def _encoded(body: bytes, level: int) -> Document:
    return Document(body, gzip.compress(body, level, mtime=0), entity_tag(body))


_STATUS_IN_JSON = {ord(status[0]): f'"{status}"'.encode() for status in ("available", "held", "sold", "withheld")}
