"""Which seats of this event are free, as far as this engine knows?

A hint, held in memory from batch to batch, for those who ask for the best available: it knows the ledger number it is
true for, and the engine, under the fence, compares that with the event's. What it proposes is decided like any other
reservation, so a stale hint costs a second look and never a seat.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby

from consumers.rules.best_available import SeatRow, choose_best_available
from consumers.rules.sale import Seat
from contracts.commands import BestAvailable, ReserveSeats
from contracts.ids import CommandId, EventId, SeatId
from db import sale
from db.postgres import Pool


class SeatMap:
    """One event's rows, and until when each seat is spoken for."""

    def __init__(self, event_id: EventId, ledger_seq: int, records: sale.Records) -> None:
        self.event_id = event_id
        self.ledger_seq = ledger_seq
        self._rows = [
            SeatRow(section, row, [SeatId(record["id"]) for record in seats])
            for (section, row), seats in groupby(records, key=lambda record: (record["section"], record["row"]))
        ]
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
        promised: set[SeatId] = set(avoid)
        chosen: dict[CommandId, list[SeatId]] = {}
        for command in commands:
            if command.best_available is None:
                promised.update(command.seat_ids)
                continue
            seat_ids = self._best(command.best_available, promised, now)
            promised.update(seat_ids)
            chosen[command.command_id] = seat_ids
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

    def _best(self, wanted: BestAvailable, promised: set[SeatId], now: datetime) -> list[SeatId]:
        def is_free(seat_id: SeatId) -> bool:
            return seat_id not in promised and self.is_free(seat_id, now)

        rows = [row for index, row in enumerate(self._rows) if not self._is_full(index, row, now)]
        return choose_best_available(rows, is_free, count=wanted.count, section=wanted.section)

    def _is_full(self, index: int, row: SeatRow, now: datetime) -> bool:
        if index in self._full_until:
            until = self._full_until[index]
            return until is None or until > now
        if any(seat_id not in self._gone_until for seat_id in row.seat_ids):
            return False
        ends = [until for seat_id in row.seat_ids if (until := self._gone_until[seat_id]) is not None]
        self._full_until[index] = min(ends) if ends else None
        return self._is_full(index, row, now)
