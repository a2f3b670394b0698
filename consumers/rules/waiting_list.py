"""Who may wait for seats that are freed, and whose turn is it?

While anybody waits, a seat that is freed belongs to the list first: it is offered in the transaction that freed it, as a hold in
the name of whoever has waited longest and whom it serves, for a limited time. What serves nobody on the list is everybody's.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid5

from consumers.rules.best_available import SeatRow, choose_best_available
from consumers.rules.list_places import Place
from consumers.rules.sale import Sale
from contracts.commands import JoinWaitingList, LeaveWaitingList
from contracts.domain_events import Notice
from contracts.ids import CommandId, HoldId, SeatId, WaitingId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Rejected, WaitingListJoined, WaitingListLeft


class Offer(NamedTuple):
    """Whose turn it is, and for which seats."""

    place: Place
    seat_ids: Sequence[SeatId]


def decide_join_waiting_list(sale: Sale, command: JoinWaitingList) -> AnyReply:
    """A place behind all others, or the one there is already."""
    refusal = _why_not_join(sale)
    if refusal is not None:
        return Rejected(code=refusal)
    place = sale.waiting.place_of(command.user_id)
    if place is None:
        if sale.seat_count_of(command.user_id) + command.seat_count > sale.terms.ticket_limit:
            return Rejected(code=RejectionCode.TICKET_LIMIT_EXCEEDED)
        if sale.waiting.free_counts.get((command.section, command.accessible), 0) >= command.seat_count:
            return Rejected(code=RejectionCode.WAITING_LIST_NOT_NEEDED)
        place = _joined(sale, command)
    return sale.remember(
        command,
        WaitingListJoined(
            waiting_id=place.id,
            event_id=sale.terms.event_id,
            position=place.position,
            seat_count=place.seat_count,
            section=place.section,
        ),
    )


def decide_leave_waiting_list(sale: Sale, command: LeaveWaitingList) -> AnyReply:
    """Give the place up, and what it was offered with it."""
    place = sale.waiting.place_of(command.user_id)
    if place is None:
        return Rejected(code=RejectionCode.NOT_ON_WAITING_LIST)
    hold = None if place.hold_id is None else sale.holds.get(place.hold_id)
    if hold is not None and hold.status == "paying":
        return Rejected(code=RejectionCode.HOLD_IN_PAYMENT)
    if hold is not None and hold.status == "active":
        sale.give_back(hold, "released", command.command_id)
    _end(sale, place, "left")
    return sale.remember(command, WaitingListLeft(waiting_id=place.id))


def is_offer_due(sale: Sale) -> bool:
    """Whether this batch has freed seats that somebody may be waiting for."""
    is_on = not sale.terms.cancelled and not sale.is_before() and not sale.is_over()
    return is_on and sale.waiting.count > 0 and bool(sale.waiting.freed_ids)


def choose_for_line(
    sale: Sale, line: Iterable[Place], rows: Sequence[SeatRow], is_free: Callable[[SeatId], bool]
) -> list[Offer]:
    """Free seats for those in the line whom they serve, first come first. `line` is in order of position; who has bought
    elsewhere what he may have is taken off it."""
    left = [row for row in rows if any(map(is_free, row.seat_ids))]
    promised: set[SeatId] = set()
    offers: list[Offer] = []
    for place in line:
        if not left:
            break
        if sale.seat_count_of(place.user_id) + place.seat_count > sale.terms.ticket_limit:
            _end(sale, place, "lapsed")
            continue
        chosen = choose_best_available(
            left,
            lambda seat_id: seat_id not in promised and is_free(seat_id),
            count=place.seat_count,
            section=place.section or None,
            accessible=place.accessible,
        )
        if chosen:
            promised.update(chosen)
            offers.append(Offer(place, chosen))
            left = [row for row in left if any(is_free(one) and one not in promised for one in row.seat_ids)]
    return offers


def make_offer(sale: Sale, offer: Offer, within: timedelta) -> None:
    """Hold the seats in the name of whose turn it is; they are in the sale by now, and free."""
    place = offer.place
    held_until = min(sale.now + within, sale.terms.off_sale_at)
    # Always the same one: a batch that is decided again makes the same offer.
    hold_id = HoldId(uuid5(place.id, "offer"))
    seats = [sale.seats[seat_id] for seat_id in offer.seat_ids]
    command_id = CommandId(place.id)
    sale.set_aside(hold_id, place.user_id, seats, held_until=held_until, command_id=command_id, waiting_id=place.id)
    place.status, place.hold_id, place.offered_at = "offered", hold_id, sale.now
    sale.waiting.count -= 1
    sale.waiting.change(place)
    sale.outgoing.notices.append(
        Notice(kind="waiting_list_offer", subject_id=place.id, user_id=place.user_id, until=held_until)
    )


def _why_not_join(sale: Sale) -> RejectionCode | None:
    if sale.terms.cancelled:
        return RejectionCode.EVENT_CANCELLED
    if sale.is_before():
        return RejectionCode.SALE_NOT_OPEN
    return RejectionCode.SALE_CLOSED if sale.is_over() else None


def _joined(sale: Sale, command: JoinWaitingList) -> Place:
    sale.waiting.serial += 1
    sale.waiting.count += 1
    place = Place(
        id=WaitingId(command.command_id),
        user_id=command.user_id,
        position=sale.waiting.serial,
        seat_count=command.seat_count,
        section=command.section,
        accessible=command.accessible,
        status="waiting",
        hold_id=None,
        joined_at=sale.now,
        is_new=True,
    )
    sale.waiting.change(place)
    return place


def _end(sale: Sale, place: Place, status: str) -> None:
    if place.status == "waiting":
        sale.waiting.count -= 1
    place.status, place.ended_at = status, sale.now
    sale.waiting.change(place)
