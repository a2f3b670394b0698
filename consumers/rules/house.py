"""What may an organiser do with the seats of the house: keep them back, put them on sale again, reprice them, give them away?

Before the sale, during it and after it; of a cancelled event, nothing any more. Each is decided for all of the seats or for
none, and leaves a note of who did it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid5

from consumers.rules.after_sale import AuditEntry
from consumers.rules.sale import NO_PAYMENT_METHOD, Hold, Order, Sale, Seat
from consumers.rules.seat_words import subject_of, words_for
from contracts.commands import ChangePrices, GiveSeats, ReturnSeats, WithholdSeats
from contracts.domain_events import Notice
from contracts.ids import HoldId, OrderId, SeatId
from contracts.money import UnusableAmount, to_minor_units
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, OrderCompleted, PricesChanged, Rejected, SeatsReturned, SeatsWithheld

AboutSeats = WithholdSeats | ReturnSeats | ChangePrices | GiveSeats

_NOTHING = Decimal("0.00")
# What a refusal names at most: as many as a request may name. A handful of organisers must not make a reply too long to read.
NAMED_MAX = 1000


def decide_withhold_seats(sale: Sale, command: WithholdSeats) -> AnyReply:
    """Take available seats off sale. A hold that is over does not keep them, and one that is alive does."""
    seats = _find_seats(sale, command)
    if isinstance(seats, Rejected):
        return seats
    refusal = _refuse([seat for seat in seats if not _is_free_for_us(seat, sale)])
    if refusal is not None:
        return refusal
    sale.withhold(seats, command.command_id)
    words = words_for(seats)
    after = {"status": "withheld", "seats": words, "reason": command.reason}
    _note(sale, command, seats, before={"status": "available", "seats": words}, after=after)
    return sale.remember(command, SeatsWithheld(seat_count=len(seats)))


def decide_return_seats(sale: Sale, command: ReturnSeats) -> AnyReply:
    """Put withheld seats on sale again."""
    seats = _find_seats(sale, command)
    if isinstance(seats, Rejected):
        return seats
    refusal = _refuse([seat for seat in seats if seat.status != "withheld"])
    if refusal is not None:
        return refusal
    sale.free(seats, command.command_id)
    words = words_for(seats)
    before = {"status": "withheld", "seats": words}
    _note(sale, command, seats, before=before, after={"status": "available", "seats": words})
    return sale.remember(command, SeatsReturned(seat_count=len(seats)))


def decide_change_prices(sale: Sale, command: ChangePrices) -> AnyReply:
    """Another price for what is not sold. A hold carries its own prices, so whoever has one pays what he was told; a seat
    that its owner offers to others keeps what he asks, and costs the new price once it is the house's again."""
    seats = _find_seats(sale, command)
    if isinstance(seats, Rejected):
        return seats
    if not _is_payable(command.price, sale.terms.currency):
        return Rejected(code=RejectionCode.PRICE_NOT_PAYABLE)
    # Whether one in another session's hands is sold cannot be said.
    refusal = _refuse([seat for seat in seats if seat.status == "locked"])
    if refusal is not None:
        return refusal
    # With two places, as the database has it and everybody is told.
    price = command.price.quantize(_NOTHING)
    unsold = [seat for seat in seats if seat.status != "sold"]
    before = _prices(sale, unsold)
    _keep_prices_of_holds(sale)
    for seat in unsold:
        _change_price(sale, seat, price)
    sale.prices_changed |= bool(unsold)
    reply = PricesChanged(seat_count=len(unsold), unchanged_count=len(seats) - len(unsold))
    after = {"price": str(price), "seats": words_for(unsold), "unchangedCount": reply.unchanged_count}
    _note(sale, command, seats, before={"prices": before}, after=after)
    return sale.remember(command, reply)


def decide_give_seats(sale: Sale, command: GiveSeats) -> AnyReply:
    """Complimentary tickets: available or withheld seats are somebody's at once, for nothing, and no provider hears of it.

    The ticket limit is not asked; what is given counts against it when its owner buys more.
    """
    earlier = sale.orders.get(OrderId(command.command_id))
    if earlier is not None:
        is_the_same = earlier.kind == "complimentary" and earlier.request_hash == command.request_hash
        return sale.stored_answer(earlier) if is_the_same else Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
    seats = _find_seats(sale, command)
    if isinstance(seats, Rejected):
        return seats
    refusal = _refuse([seat for seat in seats if seat.status != "withheld" and not _is_free_for_us(seat, sale)])
    if refusal is not None:
        return refusal
    words = words_for(seats)
    order = _complimentary_order(sale, command)
    tickets = sale.give(order, _hold_behind(sale, command, seats), seats, command.command_id)
    reply = OrderCompleted(
        order_id=order.id,
        event_id=sale.terms.event_id,
        hold_id=order.hold_id,
        total=order.total,
        currency=order.currency,
        tickets=tuple(tickets),
        completed_at=sale.now,
    )
    sale.store_answer(order, reply)
    ticket_ids = tuple(ticket.ticket_id for ticket in tickets)
    sale.tell(
        Notice(
            kind="tickets_given",
            subject_id=order.id,
            user_id=order.user_id,
            order_id=order.id,
            ticket_ids=ticket_ids,
            reason=command.reason,
        )
    )
    after = {"orderId": str(order.id), "userId": str(order.user_id), "seats": words, "reason": command.reason}
    _note(sale, command, seats, before=None, after=after)
    return sale.remember(command, reply)


def _find_seats(sale: Sale, command: AboutSeats) -> list[Seat] | Rejected:
    """The seats the command names, each once, or why nothing can be done with any."""
    if sale.terms.cancelled:
        return Rejected(code=RejectionCode.EVENT_CANCELLED)
    named = dict.fromkeys(command.seat_ids)
    unknown = [seat_id for seat_id in named if seat_id not in sale.seats]
    if unknown:
        return Rejected(code=RejectionCode.SEATS_UNKNOWN, seat_ids=_as_many_as_fit(unknown))
    return [sale.seats[seat_id] for seat_id in named]


def _is_free_for_us(seat: Seat, sale: Sale) -> bool:
    """Whether the house may dispose of the seat: one under resale is its owner's until somebody has bought it."""
    return seat.resale_id is None and seat.is_available(sale.now)


def _refuse(seats: Iterable[Seat]) -> Rejected | None:
    taken = [seat.id for seat in seats]
    return Rejected(code=RejectionCode.SEATS_UNAVAILABLE, seat_ids=_as_many_as_fit(taken)) if taken else None


def _as_many_as_fit(seat_ids: Sequence[SeatId]) -> tuple[SeatId, ...]:
    return tuple(seat_ids[:NAMED_MAX])


def _is_payable(price: Decimal, currency: str) -> bool:
    # 12.50 yen cannot be paid, and whoever has chosen the seats must not be the first to hear of it.
    try:
        to_minor_units(price, currency)
    except UnusableAmount:
        return False
    return True


def _keep_prices_of_holds(sale: Sale) -> None:
    """A hold that is older than its prices costs what its seats cost: from now on, what they cost until now. The others of
    the event, which are not here, are seen to where this is saved."""
    for hold in sale.holds.values():
        if hold.prices is None:
            hold.prices = [sale.seats[seat_id].price for seat_id in hold.seat_ids]


def _change_price(sale: Sale, seat: Seat, price: Decimal) -> None:
    if seat.resale_id is not None:
        resale = sale.resales[seat.resale_id]
        resale.usual_price = price
        sale.changed_resales[resale.id] = resale
    elif seat.price != price:
        sale.change_price(seat, price)


def _prices(sale: Sale, seats: Iterable[Seat]) -> list[dict[str, Any]]:
    """What the seats usually cost, price by price."""
    by_price: defaultdict[Decimal, list[Seat]] = defaultdict(list)
    for seat in seats:
        usual = seat.price if seat.resale_id is None else sale.resales[seat.resale_id].usual_price
        by_price[usual].append(seat)
    return [{"price": str(price), "seats": words_for(at_price)} for price, at_price in sorted(by_price.items())]


def _complimentary_order(sale: Sale, command: GiveSeats) -> Order:
    return Order(
        id=OrderId(command.command_id),
        user_id=command.to_user_id,
        hold_id=HoldId(uuid5(command.command_id, "hold")),
        status="completed",
        total=_NOTHING,
        currency=sale.terms.currency,
        created_at=sale.now,
        request_hash=command.request_hash,
        payment_status="captured",
        payment_method=NO_PAYMENT_METHOD,
        provider_key=str(command.command_id),
        kind="complimentary",
        is_new=True,
    )


def _hold_behind(sale: Sale, command: GiveSeats, seats: Sequence[Seat]) -> Hold:
    """Behind every order is a hold: this one was never anybody's to keep or to give back. Not under the command's own id,
    under which the answer to a reservation would be looked for."""
    return Hold(
        id=HoldId(uuid5(command.command_id, "hold")),
        user_id=command.to_user_id,
        seat_ids=[seat.id for seat in seats],
        fences=(),  # of the moment at which they are given
        total=_NOTHING,
        status="converted",
        held_until=sale.now,
        reserved_until=sale.now,
        created_at=sale.now,
        request_hash=command.request_hash,
        prices=[_NOTHING] * len(seats),
        is_new=True,
    )


def _note(
    sale: Sale, command: AboutSeats, seats: Sequence[Seat], *, before: dict[str, Any] | None, after: dict[str, Any]
) -> None:
    written = None if before is None else json.dumps(before, ensure_ascii=False)
    sale.audits.append(
        AuditEntry(command.user_id, command.type, subject_of(seats), written, json.dumps(after, ensure_ascii=False))
    )
