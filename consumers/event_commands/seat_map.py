"""Which seats of this event are free, as far as this engine knows?

A hint, held in memory from batch to batch, for those who ask for the best available: it knows the ledger number it is
true for, and the engine, under the fence, compares that with the event's. What it proposes is decided like any other
reservation, so a stale hint costs a second look and never a seat.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

from consumers.rules.best_available import RowKind, SeatRow, choose_best_available
from consumers.rules.sale import Seat
from contracts.commands import BestAvailable, ReserveSeats
from contracts.ids import CommandId, EventId, SeatId
from db import sale
from db.postgres import Pool

# Twenty thousand places to stand are no row that anybody could walk for each buyer: so many are looked at together, and
# left alone once they are gone.
STANDING_TOGETHER = 50


class SeatMap:
    """One event's rows, and until when each seat is spoken for."""

    def __init__(self, event_id: EventId, ledger_seq: int, records: sale.Records) -> None:
        self.event_id = event_id
        self.ledger_seq = ledger_seq
        self._rows = list(seat_rows(records))
        self._rows_of_section: defaultdict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(self._rows):
            self._rows_of_section[row.section].append(index)
        self._positions = {seat_id: index for index, row in enumerate(self._rows) for seat_id in row.seat_ids}
        # None: gone for good (sold or withheld). A time: held until then. Free seats are not in here.
        self._gone_until: dict[SeatId, datetime | None] = {
            SeatId(record["id"]): record["held_until"] for record in records if record["status"] != "available"
        }
        # Rows known to be full are not walked again until one of their seats comes back: near the end of a sale
        # thousands of them would be walked for every buyer.
        self._full_until: dict[int, datetime | None] = {}

    @classmethod
    async def load(cls, pool: Pool, event_id: EventId) -> "SeatMap":
        """The map as the database has it now."""
        ledger_seq, records = await sale.read_seat_map(pool, event_id)
        return cls(event_id, ledger_seq, records)

    def choose(
        self, commands: Iterable[ReserveSeats], now: datetime, *, avoid: frozenset[SeatId] = frozenset()
    ) -> dict[CommandId, list[SeatId]]:
        """Seats for everybody who left the choice to us, in the order they asked, no seat twice; an empty list: none left."""
        choice = _Choice(self, now, promised=set(avoid))
        chosen: dict[CommandId, list[SeatId]] = {}
        for command in commands:
            if command.best_available is None:
                choice.promised.update(command.seat_ids)
            else:
                chosen[command.command_id] = choice.best(command.best_available)
        return chosen

    def apply(self, ledger_seq: int, seats: Iterable[Seat]) -> None:
        """What a committed batch changed."""
        self.ledger_seq = ledger_seq
        for seat in seats:
            if seat.status == "available":
                self._gone_until.pop(seat.id, None)
            else:
                self._gone_until[seat.id] = seat.held_until
            self._full_until.pop(self._positions.get(seat.id, -1), None)

    def is_free(self, seat_id: SeatId, now: datetime) -> bool:
        """Whether anybody may have the seat, as far as we know."""
        if seat_id not in self._gone_until:
            return True
        until = self._gone_until[seat_id]
        return until is not None and until <= now

    def rows_with_room(self, section: str | None, now: datetime, *, used_up: Container[int]) -> Iterator[SeatRow]:
        """The rows in which a seat may be free, in the order of the map, without those that are used up."""
        full_until = self._full_until
        for index in range(len(self._rows)) if section is None else self._rows_of_section.get(section, ()):
            if index in used_up:
                continue
            if index in full_until:
                until = full_until[index]
                if until is None or until > now:
                    continue
            elif self._is_full(index, now):
                continue
            yield self._rows[index]

    def rows_of(self, seat_ids: Iterable[SeatId]) -> Iterator[tuple[int, SeatRow]]:
        """The rows in which these seats are, each once, with its place in the order of the map."""
        for index in {self._positions[seat_id] for seat_id in seat_ids}:
            yield index, self._rows[index]

    def _is_full(self, index: int, now: datetime) -> bool:
        seat_ids = self._rows[index].seat_ids
        if any(seat_id not in self._gone_until for seat_id in seat_ids):
            return False
        ends = [until for seat_id in seat_ids if (until := self._gone_until[seat_id]) is not None]
        first_end = self._full_until[index] = min(ends) if ends else None
        return first_end is None or first_end > now


class _Choice:
    """What one batch's buyers are given: a seat that is promised to one of them is taken for the next."""

    def __init__(self, seat_map: SeatMap, now: datetime, *, promised: set[SeatId]) -> None:
        self.promised = promised
        self._seat_map = seat_map
        self._now = now
        # Nothing comes back while we choose, so these are not walked again for the next buyer.
        self._used_up: set[int] = set()

    def best(self, wanted: BestAvailable) -> list[SeatId]:
        rows = self._seat_map.rows_with_room(wanted.section, self._now, used_up=self._used_up)
        seat_ids = choose_best_available(
            rows, self._is_free, count=wanted.count, section=wanted.section, accessible=wanted.accessible
        )
        self.promised.update(seat_ids)
        for index, row in self._seat_map.rows_of(seat_ids):
            if not any(map(self._is_free, row.seat_ids)):
                self._used_up.add(index)
        return seat_ids

    def _is_free(self, seat_id: SeatId) -> bool:
        return seat_id not in self.promised and self._seat_map.is_free(seat_id, self._now)


def seat_rows(records: sale.Records) -> Iterator[SeatRow]:
    """The rows of a map. Places for wheelchairs and the seats beside them are a row of their own, whatever else is in it."""
    for (section, row, kind), of_row in groupby(records, key=_neighbourhood):
        places = list(of_row)
        together = STANDING_TOGETHER if kind == "standing" else len(places)
        for start in range(0, len(places), together):
            some = places[start : start + together]
            wheelchair_ids = frozenset(SeatId(place["id"]) for place in some if place["kind"] == "accessible")
            yield SeatRow(section, row, [SeatId(place["id"]) for place in some], kind, wheelchair_ids)


def _neighbourhood(record: Any) -> tuple[str, str, RowKind]:
    kind = record["kind"]
    return record["section"], record["row"], "accessible" if kind == "companion" else kind
