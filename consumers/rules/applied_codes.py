"""May this code make a hold cheaper that somebody has already?"""

from consumers.rules.prices import charges_by_code, find_valid_code, parts_of_hold, why_not_by_code
from consumers.rules.reservations import why_not_yours
from consumers.rules.sale import Sale
from contracts.commands import ApplyCode
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, HoldRepriced, Rejected


def decide_apply_code(sale: Sale, command: ApplyCode) -> AnyReply:
    """The hold's seats cost what the code makes of what they cost now; its time stays as it is."""
    hold = sale.holds.get(command.hold_id)
    refusal = why_not_yours(hold, command.user_id, sale.now)
    if hold is None or refusal is not None:
        return refusal or Rejected(code=RejectionCode.HOLD_UNKNOWN)
    if sale.terms.cancelled:
        return Rejected(code=RejectionCode.EVENT_CANCELLED)
    if hold.code_id is not None:
        return Rejected(code=RejectionCode.CODE_ALREADY_APPLIED)
    seats = sale.seats_of(hold)
    if seats is None:
        return Rejected(code=RejectionCode.HOLD_EXPIRED)
    code = find_valid_code(sale, command.code)
    refused = why_not_by_code(sale, code, command.user_id, seats)
    if code is None or refused is not None:
        return refused or Rejected(code=RejectionCode.CODE_UNKNOWN)
    before = [hold.charge_of(at, seat) for at, seat in enumerate(seats)]
    charges = charges_by_code(sale, code, seats, before)
    if charges == before:
        # A use would be gone, and the hold's only code, for nothing.
        return Rejected(code=RejectionCode.CODE_UNKNOWN, detail="it takes nothing off these seats")
    sale.reprice(hold, charges, code_id=code.id)
    parts = parts_of_hold(sale, hold, seats)
    return sale.remember(
        command,
        HoldRepriced(
            hold_id=hold.id,
            seats=tuple(seat.as_sold_seat(hold.charge_of(at, seat).price) for at, seat in enumerate(seats)),
            total=hold.total,
            reduction=parts.reduction,
            currency=sale.terms.currency,
            held_until=hold.held_until,
            parts=parts,
        ),
    )
