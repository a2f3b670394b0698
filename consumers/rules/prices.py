"""What do these seats cost this buyer, and may he have them at that price?

By their tiers (a child's, a student's price) and his code. Nothing of this is looked at for who names neither.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache

from consumers.rules.after_sale import Ticket
from consumers.rules.codes import Code
from consumers.rules.sale import Charge, Hold, Sale, Seat
from contracts.codes import as_compared
from contracts.commands import ReserveSeats
from contracts.ids import UserId
from contracts.price_parts import PriceParts, parts_of, smallest_unit, sum_of
from contracts.rejections import RejectionCode
from contracts.replies import Rejected

# With two places, as the database has all amounts.
_NOTHING = Decimal("0.00")


def why_not_in_presale(sale: Sale, code: str) -> RejectionCode | None:
    """Why whoever gives this code, or none, may have no seats yet."""
    if not code:
        return RejectionCode.CODE_NEEDED
    known = find_valid_code(sale, code)
    if known is None:
        return RejectionCode.CODE_UNKNOWN
    return None if known.opens_presale else RejectionCode.CODE_NEEDED


def why_not_at_this_price(sale: Sale, command: ReserveSeats, seats: Sequence[Seat]) -> Rejected | None:
    """Why these seats cannot be had in these tiers or by this code."""
    if command.tiers and not _are_tiers_of(sale, command.tiers, seats):
        return Rejected(code=RejectionCode.TIER_UNKNOWN)
    if not command.code:
        return None
    code = find_valid_code(sale, command.code)
    refused = why_not_by_code(sale, code, command.user_id, seats)
    if code is None or refused is not None:
        return refused
    # In the presale a code opens its own sections, and not the others with them.
    elsewhere = tuple(seat.id for seat in seats if sale.is_presale() and not code.counts_in(seat.section))
    return Rejected(code=RejectionCode.CODE_NEEDED, seat_ids=elsewhere) if elsewhere else None


def charges_for(sale: Sale, command: ReserveSeats, seats: Sequence[Seat]) -> Sequence[Charge]:
    """What each of these seats costs in its tier and by the code; `why_not_at_this_price` has had nothing against it."""
    tiers = command.tiers or ("",) * len(seats)
    usual = [
        Charge(sale.tiers[seat.section, tier] if tier else seat.price, tier)
        for seat, tier in zip(seats, tiers, strict=True)
    ]
    code = find_valid_code(sale, command.code) if command.code else None
    return usual if code is None else charges_by_code(sale, code, seats, usual)


def charges_by_code(sale: Sale, code: Code, seats: Sequence[Seat], charges: Sequence[Charge]) -> list[Charge]:
    """The same charges with what the code takes off each. What another buyer asks for his seat is his price: he is paid what
    is paid for it, so no code of the organiser's makes it less."""
    unit = smallest_unit(sale.terms.currency)
    reduced = []
    for seat, charge in zip(seats, charges, strict=True):
        if seat.resale_id is None and code.counts_in(seat.section):
            off = code.taken_off(charge.price, unit=unit)
            charge = Charge(charge.price - off, charge.tier, charge.reduction + off)
        reduced.append(charge)
    return reduced


def find_valid_code(sale: Sale, code: str) -> Code | None:
    """The code, however it was typed, if it counts just now."""
    known = sale.codes.get(as_compared(code))
    return known if known is not None and known.is_valid(sale.now) else None


def why_not_by_code(sale: Sale, code: Code | None, user_id: UserId, seats: Sequence[Seat]) -> Rejected | None:
    """Why this user cannot use this code for these seats; that it is not known, or for none of them, look the same."""
    if code is None or not any(code.counts_in(seat.section) for seat in seats):
        return Rejected(code=RejectionCode.CODE_UNKNOWN)
    uses, uses_of_user = sale.code_uses.get(code.id, 0), sale.code_uses_of_users.get((code.id, user_id), 0)
    if code.uses_max is not None and uses >= code.uses_max:
        return Rejected(code=RejectionCode.CODE_USED_UP)
    if code.uses_per_user_max is not None and uses_of_user >= code.uses_per_user_max:
        return Rejected(code=RejectionCode.CODE_USED_UP)
    return None


def parts_of_hold(sale: Sale, hold: Hold, seats: Sequence[Seat]) -> PriceParts:
    """What is in the price of a hold: the sum of what will stand on its tickets."""
    terms = sale.terms
    if not terms.fee_rate and not terms.tax_rate:
        return _all_face(hold.total, sum(hold.reductions, _NOTHING) if hold.reductions else _NOTHING)
    charges = [hold.charge_of(at, seat) for at, seat in enumerate(seats)]
    return sum_of(
        parts_of(
            charge.price,
            fee_rate=terms.fee_rate,
            tax_rate=terms.tax_rate,
            currency=terms.currency,
            reduction=charge.reduction,
        )
        for charge in charges
    )


def parts_of_tickets(tickets: Iterable[Ticket]) -> PriceParts:
    """What was paid for these tickets, as it stands on each of them."""
    return sum_of(
        PriceParts.model_construct(
            face=ticket.price - ticket.fee - ticket.tax,
            fee=ticket.fee,
            tax=ticket.tax,
            reduction=ticket.reduction,
            total=ticket.price,
        )
        for ticket in tickets
    )


@lru_cache(maxsize=1024)
def _all_face(total: Decimal, reduction: Decimal) -> PriceParts:
    # Of an event without fees and taxes. In a batch of hundreds there are a few totals, and making a value takes longer than
    # everything else that is done here for the price.
    return PriceParts.model_construct(face=total, fee=_NOTHING, tax=_NOTHING, reduction=reduction, total=total)


def _are_tiers_of(sale: Sale, tiers: Sequence[str], seats: Sequence[Seat]) -> bool:
    """One for each seat, "" for the usual price; a seat that its owner resells has no other."""
    return len(tiers) == len(seats) and all(
        not tier or (seat.resale_id is None and (seat.section, tier) in sale.tiers)
        for tier, seat in zip(tiers, seats, strict=True)
    )
