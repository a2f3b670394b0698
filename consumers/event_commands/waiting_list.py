"""When seats are freed, who of the waiting list is offered them, in the same transaction?

Asked after a batch is decided and before it is saved, and only when something was freed while somebody waits: the whole map is
then read once, so that those who wanted seats together get neighbours.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from consumers.event_commands.seat_map import seat_rows
from consumers.rules.list_places import Place
from consumers.rules.sale import Hold, Sale, Seat
from consumers.rules.waiting_list import choose_for_line, is_offer_due, make_offer
from contracts.commands import AnyCommand, JoinWaitingList, LeaveWaitingList
from contracts.ids import HoldId, SeatId, UserId, WaitingId
from contracts.settings import Settings
from db import sale as sale_records
from db import waiting_list as records
from db.postgres import Transaction

# Whom one batch looks at; whoever stands behind them is looked at when the next seat is freed.
LOOKED_AT_MAX = 200


async def load_waiting_list(tx: Transaction, sale: Sale, commands: Sequence[AnyCommand]) -> None:
    """The places of those who ask about their own, with the holds they were offered."""
    event_id = sale.terms.event_id
    asking = [command for command in commands if isinstance(command, JoinWaitingList | LeaveWaitingList)]
    if not asking:
        return
    users = {command.user_id for command in asking}
    for record in await records.find_places(tx, event_id, users):
        sale.waiting.places[UserId(record["user_id"])] = Place(**dict(record))
    if any(isinstance(command, JoinWaitingList) for command in asking):
        sale.waiting.free_counts = await records.count_free_seats(tx, event_id)
    offered = {place.hold_id for place in sale.waiting.places.values() if place.hold_id is not None}
    for record in await sale_records.lock_holds(tx, event_id, offered - sale.holds.keys()):
        hold = Hold(**dict(record))
        sale.holds[HoldId(hold.id)] = hold
        await _load_seats(tx, sale, hold.seat_ids)
    await _count_seats(tx, sale, users)


async def offer_freed_seats(tx: Transaction, sale: Sale, *, settings: Settings) -> None:
    """Hold what was freed for whoever has waited longest and is served by it."""
    if not is_offer_due(sale):
        return
    event_id = sale.terms.event_id
    line = await _line(tx, sale)
    await _count_seats(tx, sale, {place.user_id for place in line})
    found = await sale_records.read_seats_of_map(tx, event_id)
    free_before = {SeatId(record["id"]) for record in found if record["status"] == "available"}

    def is_free(seat_id: SeatId) -> bool:
        # This batch knows better than the database what it has just freed or taken.
        seat = sale.seats.get(seat_id)
        return seat.status == "available" if seat is not None else seat_id in free_before

    for offer in choose_for_line(sale, line, list(seat_rows(found)), is_free):
        await _load_seats(tx, sale, offer.seat_ids)
        # One that somebody else has locked is not there; whose turn it is waits for the next.
        if all(seat_id in sale.seats and is_free(seat_id) for seat_id in offer.seat_ids):
            make_offer(sale, offer, timedelta(seconds=settings.waiting_list_offer_seconds))


async def save_waiting_list(tx: Transaction, sale: Sale) -> None:
    """Write what the batch changed of the list."""
    event_id, waiting = sale.terms.event_id, sale.waiting
    changed = waiting.changed.values()
    await records.insert_places(
        tx,
        event_id,
        at=sale.now,
        rows=[
            (place.id, place.user_id, place.position, place.seat_count, place.section, place.accessible)
            for place in changed
            if place.is_new
        ],
    )
    await records.end_offers(tx, event_id, at=sale.now, statuses={**waiting.offers_ended})
    await records.update_places(
        tx,
        event_id,
        [
            (place.id, place.status, place.hold_id, place.offered_at, place.ended_at)
            for place in changed
            if place.status != "waiting"
        ],
    )
    if (waiting.count, waiting.serial) != (sale.terms.waiting_count, sale.terms.waiting_serial):
        await records.save_counts(tx, event_id, count=waiting.count, serial=waiting.serial)


async def _line(tx: Transaction, sale: Sale) -> list[Place]:
    """Who waits, in order, as it is after what this batch has decided."""
    stored = await records.find_line(tx, sale.terms.event_id, limit=LOOKED_AT_MAX)
    line = {WaitingId(record["id"]): Place(**dict(record)) for record in stored}
    line |= sale.waiting.changed
    return sorted((place for place in line.values() if place.status == "waiting"), key=lambda place: place.position)


async def _load_seats(tx: Transaction, sale: Sale, seat_ids: Sequence[SeatId]) -> None:
    missing = [seat_id for seat_id in seat_ids if seat_id not in sale.seats]
    for record in await sale_records.lock_seats(tx, sale.terms.event_id, missing):
        seat = Seat(**dict(record), fence_read=record["fence"])
        sale.seats[seat.id] = seat


async def _count_seats(tx: Transaction, sale: Sale, users: set[UserId]) -> None:
    missing: set[UUID] = {user_id for user_id in users if user_id not in sale.seat_counts}
    for user_id, seat_count, hold_count in await sale_records.count_seats_of_users(tx, sale.terms.event_id, missing):
        sale.seat_counts[user_id], sale.hold_counts[user_id] = seat_count, hold_count
