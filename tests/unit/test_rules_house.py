"""What may an organiser do with the seats of the house, and what must he not?"""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from consumers.event_commands.handlers import decide
from consumers.rules import house
from consumers.rules.after_sale import Resale
from consumers.rules.sale import Sale, Seat
from consumers.rules.seat_words import SUBJECT_LENGTH_MAX, subject_of, words_for
from contracts.commands import ChangePrices, Command, GiveSeats, ReturnSeats, WithholdSeats
from contracts.ids import OrderId, ResaleId, SeatId
from contracts.rejections import RejectionCode
from contracts.replies import OrderCompleted, PricesChanged, Rejected, ReplyLater, SeatsReturned, SeatsWithheld
from tests.builders import a_command_id, a_user, check_out, reserve, settle
from tests.sale_on_paper import (
    HOLD,
    NOW,
    PRICE,
    a_completed_order,
    a_hold,
    a_sale,
    is_saved_and_loaded,
    replayed,
    seat_ids_of,
    statuses_of,
    the_time_is,
)

DEARER = Decimal("60.00")


def withhold(sale: Sale, *indexes: int, **fields: Any) -> WithholdSeats:
    """Keep these back."""
    return _command(WithholdSeats, sale, indexes, reason="for the band", **fields)


def give_back(sale: Sale, *indexes: int, **fields: Any) -> ReturnSeats:
    """Put these on sale again."""
    return _command(ReturnSeats, sale, indexes, **fields)


def reprice(sale: Sale, *indexes: int, price: Decimal = DEARER, **fields: Any) -> ChangePrices:
    """Another price for these."""
    return _command(ChangePrices, sale, indexes, price=price, **fields)


def give(sale: Sale, *indexes: int, **fields: Any) -> GiveSeats:
    """These are somebody's, for nothing."""
    fields.setdefault("to_user_id", a_user())
    return _command(GiveSeats, sale, indexes, reason="she sings", **fields)


def _command(kind: Any, sale: Sale, indexes: Sequence[int], **fields: Any) -> Any:
    seat_ids = fields.pop("seat_ids", None) or tuple(seat_ids_of(sale, *indexes))
    fields = {"command_id": a_command_id(), "user_id": a_user(), **fields}
    return kind(event_id=sale.terms.event_id, seat_ids=seat_ids, **fields)


Ask = Callable[..., Any]
ALL: dict[str, Ask] = {"withhold": withhold, "give_back": give_back, "reprice": reprice, "give": give}


def refused(sale: Sale, command: Command) -> Rejected:
    """The "no" to this command, which must leave everything as it was."""
    before = (statuses_of(sale), [seat.price for seat in sale.seats.values()], len(sale.ledger))
    reply = decide(sale, command)  # type: ignore[arg-type]
    assert isinstance(reply, Rejected), reply
    assert (statuses_of(sale), [seat.price for seat in sale.seats.values()], len(sale.ledger)) == before
    assert (sale.audits, sale.new_answers, sale.outgoing.notices, sale.repriced_seats) == ([], [], [], {})
    return reply


def put_up_for_resale(sale: Sale, index: int) -> Resale:
    """As if its owner had offered that seat to others for less."""
    order = a_completed_order(sale, None, index)
    is_saved_and_loaded(sale)
    (ticket,) = sale.tickets_of(order.id)
    seat = sale.seats[ticket.seat_id]
    resale = Resale(
        id=ResaleId(uuid4()),
        ticket_id=ticket.id,
        order_id=order.id,
        seat_id=seat.id,
        seller_id=order.user_id,
        price=Decimal("20.00"),
        usual_price=seat.price,
        hold_id=order.hold_id,
        status="open",
        created_at=NOW,
    )
    sale.resales[resale.id] = resale
    sale.free([seat], a_command_id())
    seat.resale_id, seat.price = resale.id, resale.price
    is_saved_and_loaded(sale)
    return resale


# ---- what all of them refuse


@pytest.mark.parametrize("what", ALL)
def test_of_a_cancelled_event_nothing_is_touched(what: str) -> None:
    sale = a_sale(cancelled=True)
    assert refused(sale, ALL[what](sale, 0)) == Rejected(code=RejectionCode.EVENT_CANCELLED)


@pytest.mark.parametrize("what", ALL)
def test_seats_that_are_not_there_are_named_and_the_others_stay_as_they_are(what: str) -> None:
    sale, stranger = a_sale(), SeatId(uuid4())
    command = ALL[what](sale, seat_ids=(*seat_ids_of(sale, 0), stranger))
    assert refused(sale, command) == Rejected(code=RejectionCode.SEATS_UNKNOWN, seat_ids=(stranger,))


@pytest.mark.parametrize("what", ALL)
def test_a_seat_in_another_sessions_hands_is_left_alone(what: str) -> None:
    sale = a_sale()
    (locked,) = seat_ids_of(sale, 1)
    sale.seats[locked].status = "locked"
    assert refused(sale, ALL[what](sale, 0, 1)).seat_ids[-1] == locked


@pytest.mark.parametrize("what", ["withhold", "give"])
@pytest.mark.parametrize("state", ["held", "sold", "being paid", "resale"])
def test_seats_that_somebody_has_are_named_and_nothing_happens(what: str, state: str) -> None:
    sale = a_sale()
    if state == "sold":
        a_completed_order(sale, None, 1)
    elif state == "resale":
        put_up_for_resale(sale, 1)
    else:
        hold = a_hold(sale, None, 1)
        if state == "being paid":
            decide(sale, check_out(sale.terms.event_id, hold.user_id, hold.id))
    is_saved_and_loaded(sale)
    reply = refused(sale, ALL[what](sale, 0, 1, 2))
    assert (reply.code, reply.seat_ids) == (RejectionCode.SEATS_UNAVAILABLE, tuple(seat_ids_of(sale, 1)))


def test_a_refusal_does_not_name_more_seats_than_a_request_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "NAMED_MAX", 2)
    sale = a_sale()
    assert refused(sale, give_back(sale, 0, 1, 2)).seat_ids == tuple(seat_ids_of(sale, 0, 1))


@pytest.mark.parametrize("what", ALL)
def test_the_same_command_again_gets_the_same_answer_and_another_body_under_its_id_is_refused(what: str) -> None:
    sale = a_sale()
    if what == "give_back":
        decide(sale, withhold(sale, 0, 1))
    command = ALL[what](sale, 0, 1, request_hash="one")
    answer = decide(sale, command)
    assert not isinstance(answer, Rejected)
    is_saved_and_loaded(sale)
    entries, audits = list(sale.ledger), list(sale.audits)
    assert decide(sale, command) == answer
    other = command.model_copy(update={"request_hash": "other"})
    assert decide(sale, other) == Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
    assert (sale.ledger, sale.audits) == (entries, audits)


@pytest.mark.parametrize("what", ALL)
def test_a_seat_that_is_named_twice_is_one(what: str) -> None:
    sale = a_sale()
    if what == "give_back":
        decide(sale, withhold(sale, 0))
    entries = len(sale.ledger)
    assert not isinstance(decide(sale, ALL[what](sale, 0, 0)), Rejected)
    assert len(sale.ledger) - entries == (0 if what == "reprice" else 1)


@pytest.mark.parametrize("what", ALL)
def test_what_was_done_is_written_down_with_who_did_it(what: str) -> None:
    sale = a_sale()
    if what == "give_back":
        decide(sale, withhold(sale, 0, 1))
        is_saved_and_loaded(sale)
    command = ALL[what](sale, 0, 1)
    decide(sale, command)
    (entry,) = sale.audits
    assert (entry.user_id, entry.action) == (command.user_id, command.type)
    assert entry.subject == "2 seats: Stalls A 1–2"
    assert entry.after is not None
    assert json.loads(entry.after)["seats"] == "Stalls A 1–2"


# ---- keeping back, and putting on sale again


def test_available_seats_are_withheld_with_an_entry_each() -> None:
    sale = a_sale()
    assert decide(sale, withhold(sale, 0, 2)) == SeatsWithheld(seat_count=2)
    assert statuses_of(sale) == ["withheld", "available", "withheld", *["available"] * 3]
    assert [(e.from_status, e.to_status, e.hold_id, e.order_id) for e in sale.ledger] == [
        ("available", "withheld", None, None)
    ] * 2
    (entry,) = sale.audits
    assert entry.before is not None
    assert entry.after is not None
    assert json.loads(entry.before)["status"] == "available"
    assert json.loads(entry.after)["reason"] == "for the band"


def test_a_hold_that_is_over_keeps_no_seat_and_can_do_nothing_to_it_any_more() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user, 0)
    is_saved_and_loaded(sale)
    the_time_is(sale, NOW + HOLD)
    assert decide(sale, withhold(sale, 0)) == SeatsWithheld(seat_count=1)
    assert [(e.from_status, e.to_status) for e in sale.ledger] == [("held", "available"), ("available", "withheld")]
    seat = sale.seats[hold.seat_ids[0]]
    assert (seat.hold_id, seat.held_until) == (None, None)
    sale.give_back(hold, "expired", a_command_id())
    assert seat.status == "withheld"


def test_withheld_seats_cannot_be_reserved_or_withheld_again() -> None:
    sale = a_sale()
    decide(sale, withhold(sale, 0))
    is_saved_and_loaded(sale)
    for command in (reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0)), withhold(sale, 0, 1)):
        assert refused(sale, command).code is RejectionCode.SEATS_UNAVAILABLE


def test_what_is_returned_is_available_at_once() -> None:
    sale = a_sale()
    decide(sale, withhold(sale, 0, 1))
    assert decide(sale, give_back(sale, 0, 1)) == SeatsReturned(seat_count=2)
    assert statuses_of(sale) == ["available"] * 6
    assert not isinstance(decide(sale, reserve(sale.terms.event_id, a_user(), seat_ids_of(sale, 0, 1))), Rejected)
    assert list(replayed(sale.ledger, list(sale.seats)).values()) == statuses_of(sale)


def test_only_what_is_withheld_is_returned() -> None:
    sale = a_sale()
    decide(sale, withhold(sale, 0))
    a_hold(sale, None, 1)
    is_saved_and_loaded(sale)
    reply = refused(sale, give_back(sale, 0, 1, 2))
    assert (reply.code, reply.seat_ids) == (RejectionCode.SEATS_UNAVAILABLE, tuple(seat_ids_of(sale, 1, 2)))


# ---- prices


def test_what_is_not_sold_costs_the_new_price_and_the_rest_is_counted() -> None:
    sale = a_sale()
    order = a_completed_order(sale, None, 0)
    decide(sale, withhold(sale, 1))
    is_saved_and_loaded(sale)
    assert decide(sale, reprice(sale, 0, 1, 2)) == PricesChanged(seat_count=2, unchanged_count=1)
    assert [seat.price for seat in sale.seats.values()] == [PRICE, DEARER, DEARER, PRICE, PRICE, PRICE]
    assert sale.tickets_of(order.id)[0].price == PRICE
    assert sale.prices_changed
    assert sale.ledger == []


def test_whoever_holds_a_seat_pays_what_he_was_told_and_the_next_one_the_new_price() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user, 0)
    decide(sale, reprice(sale, 0, 1))
    checkout = check_out(sale.terms.event_id, user, hold.id)
    decide(sale, checkout)
    decide(sale, settle(sale.terms.event_id, checkout.command_id))
    order = sale.orders[OrderId(checkout.command_id)]
    assert (order.total, sale.tickets_of(order.id)[0].price) == (PRICE, PRICE)
    assert a_hold(sale, None, 1).total == DEARER


def test_so_does_whoever_holds_it_by_a_hold_that_is_older_than_its_prices() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user, 0)
    hold.prices = None
    decide(sale, reprice(sale, 0))
    assert hold.charge_of(0, sale.seats[hold.seat_ids[0]]).price == PRICE


def test_a_seat_under_resale_keeps_what_its_owner_asks_and_costs_the_new_price_afterwards() -> None:
    sale = a_sale()
    resale = put_up_for_resale(sale, 0)
    assert decide(sale, reprice(sale, 0)) == PricesChanged(seat_count=1, unchanged_count=0)
    assert sale.seats[resale.seat_id].price == Decimal("20.00")
    assert (resale.usual_price, sale.changed_resales) == (DEARER, {resale.id: resale})
    (entry,) = sale.audits
    assert entry.before is not None
    assert json.loads(entry.before) == {"prices": [{"price": str(PRICE), "seats": "Stalls A 1"}]}


def test_a_price_that_cannot_be_paid_in_the_currency_is_refused() -> None:
    sale = a_sale()
    sale.terms = type(sale.terms)(**{**_fields(sale.terms), "currency": "JPY"})
    reply = refused(sale, reprice(sale, 0, price=Decimal("12.50")))
    assert reply == Rejected(code=RejectionCode.PRICE_NOT_PAYABLE)
    assert decide(sale, reprice(sale, 0, price=Decimal(1250))) == PricesChanged(seat_count=1, unchanged_count=0)


def _fields(terms: Any) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in type(terms).__slots__}


def test_of_seats_that_are_all_sold_nothing_changes() -> None:
    sale = a_sale()
    a_completed_order(sale, None, 0)
    is_saved_and_loaded(sale)
    assert decide(sale, reprice(sale, 0)) == PricesChanged(seat_count=0, unchanged_count=1)
    assert (sale.repriced_seats, sale.prices_changed) == ({}, False)


def test_everybody_who_looks_at_the_seats_is_told_the_new_price_although_it_is_no_entry_of_the_ledger() -> None:
    sale = a_sale()
    a_hold(sale, None, 1)
    is_saved_and_loaded(sale)
    decide(sale, reprice(sale, 0, 1, price=Decimal(60)))
    (message,) = sale.seats_changed()
    assert message.first_seq == message.last_seq + 1
    # As the database would write it.
    assert [(c.seat_index, c.status, str(c.price)) for c in message.changes] == [
        (0, "available", "60.00"),
        (1, "held", "60.00"),
    ]


def test_a_seat_that_is_repriced_and_taken_in_one_batch_is_told_once() -> None:
    sale = a_sale()
    decide(sale, reprice(sale, 0, 1))
    a_hold(sale, None, 1, 2)
    (message,) = sale.seats_changed()
    told = {change.seat_index: (change.status, change.price) for change in message.changes}
    assert told == {0: ("available", DEARER), 1: ("held", DEARER), 2: ("held", None)}
    assert len(message.changes) == 3


# ---- giving away


def test_given_seats_are_a_completed_order_for_which_nobody_is_asked_for_money() -> None:
    sale, guest = a_sale(), a_user()
    decide(sale, withhold(sale, 1))
    command = give(sale, 0, 1, to_user_id=guest)
    reply = decide(sale, command)
    assert isinstance(reply, OrderCompleted)
    order = sale.orders[OrderId(command.command_id)]
    assert (order.kind, order.status, order.total, order.user_id) == ("complimentary", "completed", 0, guest)
    assert (order.payment_status, order.payment_method, order.provider_key) == ("captured", "none", str(order.id))
    assert (order.intent_id, order.completed_at) == (None, NOW)
    hold = sale.holds[order.hold_id]
    assert (hold.status, hold.user_id, hold.id) == ("converted", guest, reply.hold_id)
    assert hold.id != order.id, "the answer to this command must not be taken for a reservation"
    assert [(t.user_id, t.price, t.fee, t.tax) for t in sale.tickets_of(order.id)] == [(guest, 0, 0, 0)] * 2
    assert sale.seats_of(hold) is not None
    outgoing = sale.outgoing
    assert (outgoing.payments_requested, outgoing.captures_due, outgoing.confirmed, outgoing.armed) == ([], [], [], [])
    assert (sale.money, sale.sold_orders) == ([], [])


def test_the_ledger_says_where_a_given_seat_came_from() -> None:
    sale = a_sale()
    hold = a_hold(sale, None, 2)
    decide(sale, withhold(sale, 1))
    is_saved_and_loaded(sale)
    the_time_is(sale, hold.held_until)
    command = give(sale, 0, 1, 2)
    decide(sale, command)
    assert [(e.from_status, e.to_status, e.order_id) for e in sale.ledger] == [
        ("held", "available", None),
        ("available", "sold", command.command_id),
        ("withheld", "sold", command.command_id),
        ("available", "sold", command.command_id),
    ]
    assert {e.hold_id for e in sale.ledger if e.to_status == "sold"} == {sale.orders[command.command_id].hold_id}


def test_whoever_is_given_tickets_is_told_once() -> None:
    sale = a_sale()
    command = give(sale, 0)
    reply = decide(sale, command)
    assert isinstance(reply, OrderCompleted)
    (notice,) = sale.outgoing.notices
    assert (notice.kind, notice.user_id, notice.order_id) == ("tickets_given", command.to_user_id, command.command_id)
    assert notice.ticket_ids == tuple(ticket.ticket_id for ticket in reply.tickets)
    assert notice.reason == "she sings"


def test_the_limit_is_not_asked_and_what_was_given_counts_afterwards() -> None:
    sale, guest = a_sale(ticket_limit=2), a_user()
    sale.seat_counts[guest] = 0
    assert isinstance(decide(sale, give(sale, 0, 1, 2, to_user_id=guest)), OrderCompleted)
    reply = decide(sale, reserve(sale.terms.event_id, guest, seat_ids_of(sale, 3)))
    assert reply == Rejected(code=RejectionCode.TICKET_LIMIT_EXCEEDED)


def test_what_was_given_is_found_by_its_order_when_the_answer_is_no_longer_kept() -> None:
    sale = a_sale()
    command = give(sale, 0, request_hash="one")
    answer = decide(sale, command)
    sale.answered.clear()
    assert decide(sale, command) == answer
    other = command.model_copy(update={"request_hash": "other"})
    assert decide(sale, other) == Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)


def test_whoever_was_given_seats_cannot_pay_for_them() -> None:
    sale, guest = a_sale(), a_user()
    command = give(sale, 0, to_user_id=guest)
    given = decide(sale, command)
    hold_id = sale.orders[OrderId(command.command_id)].hold_id
    assert decide(sale, check_out(sale.terms.event_id, guest, hold_id)) == given


# ---- an ordinary checkout that costs nothing


def a_free_hold(sale: Sale) -> Any:
    """Two seats whose price a code has brought down to nothing."""
    hold = a_hold(sale, None, 0, 1)
    hold.prices, hold.reductions, hold.total = [Decimal("0.00")] * 2, [PRICE] * 2, Decimal("0.00")
    return hold


def test_a_checkout_of_what_costs_nothing_is_completed_at_once_and_no_provider_is_asked() -> None:
    sale = a_sale()
    hold = a_free_hold(sale)
    command = check_out(sale.terms.event_id, hold.user_id, hold.id)
    reply = decide(sale, command)
    assert isinstance(reply, OrderCompleted)
    assert (reply.total, len(reply.tickets)) == (0, 2)
    order = sale.orders[OrderId(command.command_id)]
    assert (order.kind, order.status, order.payment_status, order.payment_method) == (
        "sale",
        "completed",
        "captured",
        "none",
    )
    assert (hold.status, statuses_of(sale)[:2]) == ("converted", ["sold", "sold"])
    assert [ticket.reduction for ticket in sale.tickets_of(order.id)] == [PRICE] * 2
    assert (sale.outgoing.payments_requested, sale.outgoing.captures_due, sale.late_replies) == ([], [], [])
    assert [one.order_id for one in sale.outgoing.confirmed] == [order.id], "he is told like every buyer"


def test_a_free_checkout_that_is_repeated_gets_the_same_answer() -> None:
    sale = a_sale()
    hold = a_free_hold(sale)
    command = check_out(sale.terms.event_id, hold.user_id, hold.id)
    answer = decide(sale, command)
    assert decide(sale, command) == answer
    assert decide(sale, check_out(sale.terms.event_id, hold.user_id, hold.id)) == answer
    assert len(sale.orders) == 1


def test_a_checkout_of_one_cent_is_paid_for() -> None:
    """The negative control of the one before: what decides is the total."""
    sale = a_sale()
    hold = a_free_hold(sale)
    hold.total = Decimal("0.01")
    command = check_out(sale.terms.event_id, hold.user_id, hold.id)
    assert decide(sale, command) == ReplyLater()
    assert len(sale.outgoing.payments_requested) == 1


# ---- their names


def a_seat(index: int, *, row: str = "A", number: str | None = None, section: str = "Stalls") -> Seat:
    """A seat somewhere."""
    number = str(index + 1) if number is None else number
    return Seat(SeatId(uuid4()), index, section, row, number, PRICE, "available", None, None, None, 0, 0)


def test_neighbours_are_named_together_and_gaps_are_seen() -> None:
    seats = [a_seat(7, row="B", number="3"), *(a_seat(index) for index in (0, 1, 2, 4))]
    assert words_for(seats) == "Stalls A 1–3, Stalls A 5, Stalls B 3"


def test_places_to_stand_are_counted() -> None:
    places = [a_seat(index, section="Floor", row="", number="") for index in range(3)]
    assert words_for(places) == "Floor (3 places)"
    assert subject_of(places[:1]) == "1 seat: Floor (1 place)"


def test_a_subject_is_one_line() -> None:
    text = subject_of(a_seat(2 * index) for index in range(500))
    assert len(text) == SUBJECT_LENGTH_MAX
    assert text.startswith("500 seats: Stalls A 1, Stalls A 3, ")
