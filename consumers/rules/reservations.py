"""May this user hold these seats, keep them longer, or give them back?

Of an event in high demand seats are held only for whom its waiting room has let in. Everything after that needs no pass,
the checkout neither: a live hold is the proof that its owner was let in, and lasts longer than a turn may.
"""

from collections.abc import Sequence
from datetime import datetime

from consumers.rules.prices import (
    charges_for,
    find_valid_code,
    parts_of_hold,
    why_not_at_this_price,
    why_not_in_presale,
)
from consumers.rules.sale import Hold, Sale, Seat
from contracts.commands import ExpireHolds, ExtendHold, ReleaseSeats, ReserveSeats
from contracts.ids import HoldId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, HoldExtended, Rejected, SeatsReleased, SeatsReserved


def decide_reserve_seats(sale: Sale, command: ReserveSeats) -> AnyReply:
    """Hold the seats, all or none."""
    earlier = sale.holds.get(HoldId(command.command_id))
    if earlier is not None:
        return _the_same_answer(sale, command, earlier)
    shut = _why_not_open(sale, command) or _why_not_let_in(sale, command.user_id)
    if shut is not None:
        return Rejected(code=shut)
    seat_ids = command.seat_ids or sale.chosen_seat_ids.get(command.command_id, ())
    if not seat_ids:
        return Rejected(code=RejectionCode.NOT_ENOUGH_SEATS)
    if sale.hold_count_of(command.user_id) >= sale.terms.live_holds_max:
        return Rejected(code=RejectionCode.TOO_MANY_HOLDS)
    if sale.seat_count_of(command.user_id) + len(seat_ids) > sale.terms.ticket_limit:
        return Rejected(code=RejectionCode.TICKET_LIMIT_EXCEEDED)
    unknown = [seat_id for seat_id in seat_ids if seat_id not in sale.seats]
    if unknown:
        return Rejected(code=RejectionCode.SEATS_UNKNOWN, seat_ids=tuple(unknown))
    seats = [sale.seats[seat_id] for seat_id in seat_ids]
    taken = [seat.id for seat in seats if not sale.may_be_reserved(seat)]
    if taken:
        return Rejected(code=RejectionCode.SEATS_UNAVAILABLE, seat_ids=tuple(taken))
    if not command.code and not command.tiers:
        return _reserved(sale, sale.take(command, seats), seats)
    return _reserve_at_other_price(sale, command, seats)


def decide_release_seats(sale: Sale, command: ReleaseSeats) -> AnyReply:
    """Give the hold back, if it is still the asker's to give."""
    hold = sale.holds.get(command.hold_id)
    refusal = why_not_yours(hold, command.user_id, sale.now)
    if hold is None or refusal is not None:
        return refusal or Rejected(code=RejectionCode.HOLD_UNKNOWN)
    sale.give_back(hold, "released", command.command_id)
    return sale.remember(command, SeatsReleased(hold_id=hold.id))


def decide_extend_hold(sale: Sale, command: ExtendHold) -> AnyReply:
    """A full hold's time from now on, but never past the ceiling."""
    hold = sale.holds.get(command.hold_id)
    refusal = why_not_yours(hold, command.user_id, sale.now)
    if hold is None or refusal is not None:
        return refusal or Rejected(code=RejectionCode.HOLD_UNKNOWN)
    seats = sale.seats_of(hold)
    if seats is None:
        return Rejected(code=RejectionCode.HOLD_EXPIRED)
    ceiling = hold.created_at + sale.terms.hold_ceiling
    held_until = min(sale.now + sale.terms.hold_duration, ceiling)
    if held_until <= hold.held_until:
        return Rejected(code=RejectionCode.HOLD_CEILING_REACHED, held_until=hold.held_until)
    sale.set_held_until(hold, seats, held_until, seats_until=held_until)
    sale.arm(hold)
    return sale.remember(command, HoldExtended(hold_id=hold.id, held_until=held_until, extendable_until=ceiling))


def decide_expire_holds(sale: Sale, command: ExpireHolds) -> AnyReply:
    """Free what is over. A hint may come early, late or twice: only the hold's own time counts, and a payment stops it."""
    over = [
        hold
        for hold_id in command.hold_ids
        if (hold := sale.holds.get(hold_id)) and hold.status == "active" and hold.held_until <= sale.now
    ]
    for hold in over:
        sale.give_back(hold, "expired", command.command_id)
    return Done(changed=bool(over))


def _reserve_at_other_price(sale: Sale, command: ReserveSeats, seats: Sequence[Seat]) -> AnyReply:
    refused = why_not_at_this_price(sale, command, seats)
    if refused is not None:
        return refused
    code = find_valid_code(sale, command.code) if command.code else None
    charges = charges_for(sale, command, seats)
    hold = sale.take(command, seats, charges=charges, code_id=None if code is None else code.id)
    return _reserved(sale, hold, seats)


def _why_not_open(sale: Sale, command: ReserveSeats) -> RejectionCode | None:
    if sale.terms.cancelled:
        return RejectionCode.EVENT_CANCELLED
    if sale.is_presale():
        return why_not_in_presale(sale, command.code)
    if sale.is_before():
        return RejectionCode.SALE_NOT_OPEN
    if sale.is_over():
        return RejectionCode.SALE_CLOSED
    return None


def _why_not_let_in(sale: Sale, user_id: UserId) -> RejectionCode | None:
    if not sale.terms.high_demand:
        return None
    is_admitted = sale.admitted.get(user_id)
    if is_admitted is None:
        return RejectionCode.ADMISSION_UNKNOWN
    return None if is_admitted else RejectionCode.NOT_ADMITTED


def why_not_yours(hold: Hold | None, user_id: UserId, now: datetime) -> Rejected | None:
    """Why this user cannot act on this hold. Somebody else's hold is as unknown as none: ids must not be probed."""
    if hold is None or hold.user_id != user_id:
        return Rejected(code=RejectionCode.HOLD_UNKNOWN)
    if hold.is_active(now):
        return None
    return Rejected(code=_CODE_OF_HOLD_STATUS[hold.status])


_CODE_OF_HOLD_STATUS = {
    "active": RejectionCode.HOLD_EXPIRED,
    "expired": RejectionCode.HOLD_EXPIRED,
    "released": RejectionCode.HOLD_RELEASED,
    "paying": RejectionCode.HOLD_IN_PAYMENT,
    "converted": RejectionCode.HOLD_ALREADY_PAID,
}


def _reserved(sale: Sale, hold: Hold, seats: Sequence[Seat]) -> SeatsReserved:
    return SeatsReserved(
        hold_id=hold.id,
        event_id=sale.terms.event_id,
        seats=tuple(seat.as_sold_seat(hold.charge_of(at, seat).price) for at, seat in enumerate(seats)),
        total=hold.total,
        currency=sale.terms.currency,
        held_until=hold.reserved_until,
        parts=parts_of_hold(sale, hold, seats),
    )


def _the_same_answer(sale: Sale, command: ReserveSeats, hold: Hold) -> AnyReply:
    if hold.user_id != command.user_id or hold.request_hash != command.request_hash:
        return Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
    return _reserved(sale, hold, [sale.seats[seat_id] for seat_id in hold.seat_ids])
