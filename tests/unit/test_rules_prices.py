"""Who may have seats in a presale, in which tier and by which code, and what do they cost then?"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.event_commands.handlers import decide
from consumers.rules.codes import Code
from consumers.rules.sale import Hold, Sale
from contracts.codes import as_compared
from contracts.commands import ApplyCode
from contracts.ids import HoldId, ResaleId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, HoldRepriced, OrderCompleted, Rejected, SeatsReserved
from tests.builders import a_command_id, a_user, cancel_payment, check_out, expire, release, reserve, settle
from tests.sale_on_paper import HOLD, NOW, PRICE, a_hold, a_sale, is_saved_and_loaded, seat_ids_of, the_time_is

CENT = Decimal("0.01")


def a_code(sale: Sale, code: str = "SPRING", **fields: Any) -> Code:
    """A code of this sale, a tenth off unless it is said otherwise."""
    made = Code(id=uuid4(), code=code, **({"percent_off": Decimal(10)} | fields))
    sale.codes[code] = made
    return made


def a_presale(sale: Sale) -> Sale:
    """The same in its presale: the sale to everybody opens in an hour."""
    sale.terms = replace(sale.terms, presale_at=NOW - timedelta(hours=1), on_sale_at=NOW + timedelta(hours=1))
    return sale


def ask(sale: Sale, *indexes: int, user: UserId | None = None, **fields: Any) -> AnyReply:
    """A reservation of these seats, the first two unless it is said otherwise."""
    command = reserve(sale.terms.event_id, user or a_user(), seat_ids_of(sale, *(indexes or (0, 1))), **fields)
    return decide(sale, command)


def apply(sale: Sale, hold: Hold, code: str = "SPRING", **fields: Any) -> AnyReply:
    """The code for that hold."""
    given_fields: dict[str, Any] = {"command_id": a_command_id(), "user_id": hold.user_id} | fields
    return decide(sale, ApplyCode(event_id=sale.terms.event_id, hold_id=hold.id, code=code, **given_fields))


def refused_as(reply: AnyReply) -> str:
    """The code of the refusal."""
    assert isinstance(reply, Rejected), reply
    return reply.code.value


def reserved(reply: AnyReply) -> SeatsReserved:
    """The answer that says yes."""
    assert isinstance(reply, SeatsReserved), reply
    return reply


def repriced(reply: AnyReply) -> HoldRepriced:
    """The answer that says yes."""
    assert isinstance(reply, HoldRepriced), reply
    return reply


# ---- every "no"


def _no_presale() -> AnyReply:
    sale = a_sale()
    a_code(sale, opens_presale=True)
    the_time_is(sale, sale.terms.on_sale_at - timedelta(seconds=1))
    return ask(sale, code="SPRING")


def _before_the_presale() -> AnyReply:
    sale = a_presale(a_sale())
    a_code(sale, opens_presale=True)
    the_time_is(sale, NOW - timedelta(hours=1, seconds=1))
    return ask(sale, code="SPRING")


def _in_presale_without_a_code() -> AnyReply:
    return ask(a_presale(a_sale()))


def _in_presale_with_a_discount_only() -> AnyReply:
    sale = a_presale(a_sale())
    a_code(sale)
    return ask(sale, code="SPRING")


def _in_presale_with_no_such_code() -> AnyReply:
    return ask(a_presale(a_sale()), code="SPRING")


def _in_presale_with_a_code_for_a_seat_elsewhere() -> AnyReply:
    sale = a_presale(a_sale())
    a_code(sale, opens_presale=True, sections=["Stalls"])
    sale.seats[seat_ids_of(sale, 1)[0]].section = "Balcony"
    return ask(sale, 0, 1, code="SPRING")


def _no_such_code() -> AnyReply:
    return ask(a_sale(), code="SPRING")


def _disabled() -> AnyReply:
    sale = a_sale()
    a_code(sale, disabled_at=NOW)
    return ask(sale, code="SPRING")


def _not_yet_valid() -> AnyReply:
    sale = a_sale()
    a_code(sale, valid_from=NOW + timedelta(seconds=1))
    return ask(sale, code="SPRING")


def _no_longer_valid() -> AnyReply:
    sale = a_sale()
    a_code(sale, valid_until=NOW)
    return ask(sale, code="SPRING")


def _for_none_of_the_seats() -> AnyReply:
    sale = a_sale()
    a_code(sale, sections=["Balcony"])
    return ask(sale, code="SPRING")


def _used_up() -> AnyReply:
    sale = a_sale()
    sale.code_uses[a_code(sale, uses_max=5).id] = 5
    return ask(sale, code="SPRING")


def _used_up_in_this_batch() -> AnyReply:
    sale = a_sale()
    a_code(sale, uses_max=1)
    reserved(ask(sale, 0, code="SPRING"))
    return ask(sale, 1, code="SPRING")


def _used_up_by_this_user() -> AnyReply:
    sale, user = a_sale(), a_user()
    a_code(sale, uses_per_user_max=1)
    reserved(ask(sale, 0, user=user, code="SPRING"))
    return ask(sale, 1, user=user, code="SPRING")


def _no_such_tier() -> AnyReply:
    return ask(a_sale(), tiers=("", "Student"))


def _a_tier_too_few() -> AnyReply:
    sale = a_sale()
    sale.tiers["Stalls", "Student"] = Decimal(20)
    return ask(sale, 0, 1, tiers=("Student",))


def _the_tier_of_another_section() -> AnyReply:
    sale = a_sale()
    sale.tiers["Balcony", "Student"] = Decimal(20)
    return ask(sale, 0, tiers=("Student",))


def _a_tier_for_a_seat_that_is_resold() -> AnyReply:
    sale = a_sale()
    sale.tiers["Stalls", "Student"] = Decimal(20)
    sale.seats[seat_ids_of(sale, 0)[0]].resale_id = ResaleId(uuid4())
    return ask(sale, 0, tiers=("Student",))


def _applied_to_no_hold() -> AnyReply:
    sale = a_sale()
    hold = a_hold(sale)
    return apply(sale, replace(hold, id=HoldId(uuid4())))


def _applied_to_somebody_elses_hold() -> AnyReply:
    sale = a_sale()
    a_code(sale)
    return apply(sale, a_hold(sale), user_id=a_user())


def _applied_too_late() -> AnyReply:
    sale = a_sale()
    a_code(sale)
    hold = a_hold(sale)
    the_time_is(sale, NOW + HOLD)
    return apply(sale, hold)


def _applied_while_it_is_paid() -> AnyReply:
    sale = a_sale()
    a_code(sale)
    hold = a_hold(sale)
    decide(sale, check_out(sale.terms.event_id, hold.user_id, hold.id))
    return apply(sale, hold)


def _applied_when_all_is_cancelled() -> AnyReply:
    sale = a_sale()
    a_code(sale)
    hold = a_hold(sale)
    sale.terms = replace(sale.terms, cancelled=True)
    return apply(sale, hold)


def _applied_though_unknown() -> AnyReply:
    sale = a_sale()
    return apply(sale, a_hold(sale))


def _applied_elsewhere() -> AnyReply:
    sale = a_sale()
    a_code(sale, sections=["Balcony"])
    return apply(sale, a_hold(sale))


def _applied_for_nothing() -> AnyReply:
    sale = a_sale()
    a_code(sale, percent_off=Decimal(0), opens_presale=True)
    return apply(sale, a_hold(sale))


def _applied_though_used_up() -> AnyReply:
    sale = a_sale()
    a_code(sale, uses_max=1)
    reserved(ask(sale, 2, code="SPRING"))
    return apply(sale, a_hold(sale))


def _applied_twice() -> AnyReply:
    sale = a_sale()
    a_code(sale)
    hold = a_hold(sale)
    repriced(apply(sale, hold))
    return apply(sale, hold)


def _applied_after_reserving_with_one() -> AnyReply:
    sale = a_sale()
    a_code(sale)
    a_code(sale, "SUMMER")
    hold_id = reserved(ask(sale, code="SPRING")).hold_id
    return apply(sale, sale.holds[hold_id], "SUMMER")


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (_no_presale, RejectionCode.SALE_NOT_OPEN),
        (_before_the_presale, RejectionCode.SALE_NOT_OPEN),
        (_in_presale_without_a_code, RejectionCode.CODE_NEEDED),
        (_in_presale_with_a_discount_only, RejectionCode.CODE_NEEDED),
        (_in_presale_with_no_such_code, RejectionCode.CODE_UNKNOWN),
        (_in_presale_with_a_code_for_a_seat_elsewhere, RejectionCode.CODE_NEEDED),
        (_no_such_code, RejectionCode.CODE_UNKNOWN),
        (_disabled, RejectionCode.CODE_UNKNOWN),
        (_not_yet_valid, RejectionCode.CODE_UNKNOWN),
        (_no_longer_valid, RejectionCode.CODE_UNKNOWN),
        (_for_none_of_the_seats, RejectionCode.CODE_UNKNOWN),
        (_used_up, RejectionCode.CODE_USED_UP),
        (_used_up_in_this_batch, RejectionCode.CODE_USED_UP),
        (_used_up_by_this_user, RejectionCode.CODE_USED_UP),
        (_no_such_tier, RejectionCode.TIER_UNKNOWN),
        (_a_tier_too_few, RejectionCode.TIER_UNKNOWN),
        (_the_tier_of_another_section, RejectionCode.TIER_UNKNOWN),
        (_a_tier_for_a_seat_that_is_resold, RejectionCode.TIER_UNKNOWN),
        (_applied_to_no_hold, RejectionCode.HOLD_UNKNOWN),
        (_applied_to_somebody_elses_hold, RejectionCode.HOLD_UNKNOWN),
        (_applied_too_late, RejectionCode.HOLD_EXPIRED),
        (_applied_while_it_is_paid, RejectionCode.HOLD_IN_PAYMENT),
        (_applied_when_all_is_cancelled, RejectionCode.EVENT_CANCELLED),
        (_applied_though_unknown, RejectionCode.CODE_UNKNOWN),
        (_applied_elsewhere, RejectionCode.CODE_UNKNOWN),
        (_applied_for_nothing, RejectionCode.CODE_UNKNOWN),
        (_applied_though_used_up, RejectionCode.CODE_USED_UP),
        (_applied_twice, RejectionCode.CODE_ALREADY_APPLIED),
        (_applied_after_reserving_with_one, RejectionCode.CODE_ALREADY_APPLIED),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else value.value,
)
def test_no(why: Callable[[], AnyReply], code: RejectionCode) -> None:
    assert refused_as(why()) == code.value


def test_a_refused_reservation_leaves_nothing_behind() -> None:
    sale = a_sale()
    a_code(sale, uses_max=1)
    sale.tiers["Stalls", "Student"] = Decimal(20)
    ask(sale, tiers=("Student", "Nobody"), code="SPRING")
    assert (sale.holds, sale.ledger, sale.code_uses) == ({}, [], {})


# ---- yes, at this price


def test_in_the_presale_the_right_code_lets_in_and_costs_nothing_else() -> None:
    sale = a_presale(a_sale())
    code = a_code(sale, opens_presale=True, percent_off=Decimal(0))
    reply = reserved(ask(sale, code=" spring "))
    assert reply.total == 2 * PRICE
    assert sale.holds[reply.hold_id].code_id == code.id


def test_once_everybody_may_buy_nobody_needs_a_code() -> None:
    sale = a_presale(a_sale())
    the_time_is(sale, sale.terms.on_sale_at)
    assert reserved(ask(sale)).total == 2 * PRICE


def test_tiers_are_by_seat_and_the_code_comes_on_top_in_its_sections_only() -> None:
    sale = a_sale()
    sale.tiers["Stalls", "Student"] = Decimal("20.00")
    sale.seats[seat_ids_of(sale, 2)[0]].section = "Balcony"
    a_code(sale, sections=["Stalls"], amount_off=Decimal("1.00"))
    reply = reserved(ask(sale, 0, 1, 2, tiers=("Student", "", ""), code="SPRING"))
    # A tenth off, then 1.00 off: 20.00 → 17.00, 45.00 → 39.50; and nothing off in the balcony.
    assert [seat.price for seat in reply.seats] == [Decimal("17.00"), Decimal("39.50"), Decimal("45.00")]
    hold = sale.holds[reply.hold_id]
    assert (hold.tiers, hold.reductions) == (["Student", "", ""], [Decimal("3.00"), Decimal("5.50"), Decimal(0)])
    assert reply.parts is not None
    assert (reply.parts.total, reply.parts.reduction) == (reply.total, Decimal("8.50"))


def test_what_another_buyer_asks_for_his_seat_is_not_reduced() -> None:
    sale = a_sale()
    sale.seats[seat_ids_of(sale, 0)[0]].resale_id = ResaleId(uuid4())
    a_code(sale)
    assert [seat.price for seat in reserved(ask(sale, 0, 1, code="SPRING")).seats] == [PRICE, Decimal("40.50")]


@pytest.mark.parametrize(
    ("price", "percent", "amount", "currency", "paid"),
    [
        ("45.00", "10", "0", "EUR", "40.50"),
        ("0.99", "50", "0", "EUR", "0.49"),  # 0.495: rounded down, whatever is nearer
        ("45.00", "0", "50", "EUR", "0"),
        ("45.00", "100", "0", "EUR", "0"),
        ("10.00", "33.33", "1.00", "EUR", "5.66"),  # 6.667 - 1
        ("999", "10", "0", "JPY", "899"),  # 899.1
        ("999", "10", "0", "ISK", "899"),
        ("9.99", "15", "0", "KWD", "8.49"),  # 8.4915
        ("45.00", "0", "0.5", "JPY", "44"),
    ],
)
def test_what_a_code_takes_off(price: str, percent: str, amount: str, currency: str, paid: str) -> None:
    sale = a_sale()
    sale.terms = replace(sale.terms, currency=currency)
    sale.seats[seat_ids_of(sale, 0)[0]].price = Decimal(price)
    a_code(sale, percent_off=Decimal(percent), amount_off=Decimal(amount))
    reply = reserved(ask(sale, 0, code="SPRING"))
    assert reply.total == Decimal(paid)
    assert reply.parts is not None
    assert reply.parts.reduction == Decimal(price) - Decimal(paid)


@given(
    cents=st.integers(0, 99_999_999),
    percent=st.decimals(0, 100, places=2),
    amount=st.decimals(0, 1000, places=2),
    fee=st.decimals(0, Decimal("0.9999"), places=4),
    tax=st.decimals(0, Decimal("0.9999"), places=4),
)
def test_no_price_is_negative_and_parts_and_reduction_always_sum(
    cents: int, percent: Decimal, amount: Decimal, fee: Decimal, tax: Decimal
) -> None:
    sale, usual = a_sale(), cents * CENT
    sale.terms = replace(sale.terms, fee_rate=fee, tax_rate=tax)
    for seat in sale.seats.values():
        seat.price = usual
    a_code(sale, percent_off=percent, amount_off=amount)
    reply = reserved(ask(sale, 0, 1, 2, code="SPRING"))
    parts = reply.parts
    assert parts is not None
    assert parts.face + parts.fee + parts.tax == parts.total == reply.total
    assert parts.total + parts.reduction == 3 * usual
    assert min(parts.face, parts.fee, parts.tax, parts.reduction, *(seat.price for seat in reply.seats)) >= 0
    assert all(seat.price % CENT == 0 for seat in reply.seats)


def test_applying_a_code_reprices_the_hold_and_the_order_pays_that() -> None:
    sale = a_sale()
    sale.terms = replace(sale.terms, fee_rate=Decimal("0.1"), tax_rate=Decimal("0.19"))
    code = a_code(sale)
    hold = a_hold(sale)
    held_until = hold.held_until
    reply = repriced(apply(sale, hold, "spring"))
    assert (reply.total, reply.reduction, reply.held_until) == (Decimal("81.00"), Decimal("9.00"), held_until)
    assert (hold.total, hold.prices, hold.code_id) == (Decimal("81.00"), [Decimal("40.50")] * 2, code.id)
    checkout = check_out(sale.terms.event_id, hold.user_id, hold.id)
    sale.askers = {checkout.command_id: "tk.reply.test"}
    decide(sale, checkout)
    decide(sale, settle(sale.terms.event_id, checkout.command_id))
    (order,) = sale.orders.values()
    assert (order.total, order.code_id) == (Decimal("81.00"), code.id)
    (late,) = sale.late_replies
    assert isinstance(late.reply, OrderCompleted)
    assert late.reply.parts == reply.parts
    for ticket in sale.new_tickets:
        # 40.50 = 34.03 and 19 % of it; of the 34.03 a tenth is the fee.
        assert (ticket.price, ticket.fee, ticket.tax) == (Decimal("40.50"), Decimal("3.40"), Decimal("6.47"))
        assert ticket.reduction == Decimal("4.50")


def test_a_code_that_is_applied_and_delivered_twice_counts_once() -> None:
    sale = a_sale()
    code = a_code(sale, uses_max=5)
    hold, id_ = a_hold(sale), a_command_id()
    first = apply(sale, hold, command_id=id_)
    assert apply(sale, hold, command_id=id_) == first
    assert (hold.total, sale.code_uses[code.id]) == (Decimal("81.00"), 1)


def test_a_hold_keeps_its_price_when_its_seats_are_repriced() -> None:
    sale = a_sale()
    a_code(sale)
    hold = a_hold(sale)
    for seat in sale.seats.values():
        seat.price = Decimal(99)
    assert repriced(apply(sale, hold)).total == Decimal("81.00")


@pytest.mark.parametrize("end", ["released", "expired", "payment died"])
def test_a_hold_that_comes_to_nothing_gives_its_use_back(end: str) -> None:
    sale, user = a_sale(), a_user()
    code = a_code(sale, uses_max=1, uses_per_user_max=1)
    hold = sale.holds[reserved(ask(sale, 0, user=user, code="SPRING")).hold_id]
    if end == "released":
        decide(sale, release(sale.terms.event_id, user, hold.id))
    elif end == "payment died":
        checkout = check_out(sale.terms.event_id, user, hold.id)
        decide(sale, checkout)
        decide(sale, cancel_payment(sale.terms.event_id, checkout.command_id))
    else:
        # As the next batch finds it: it has not counted since its time was over.
        is_saved_and_loaded(sale)
        the_time_is(sale, NOW + HOLD)
        sale.code_uses, sale.code_uses_of_users = {}, {}
        decide(sale, expire(sale.terms.event_id, hold.id))
    assert sale.code_uses.get(code.id, 0) == 0
    assert reserved(ask(sale, 1, user=user, code="SPRING"))


def test_a_paid_hold_is_a_use_for_good() -> None:
    sale, user = a_sale(), a_user()
    code = a_code(sale, uses_max=1)
    hold_id = reserved(ask(sale, 0, user=user, code="SPRING")).hold_id
    checkout = check_out(sale.terms.event_id, user, hold_id)
    decide(sale, checkout)
    decide(sale, settle(sale.terms.event_id, checkout.command_id))
    assert sale.code_uses[code.id] == 1
    assert refused_as(ask(sale, 1, code="SPRING")) == "code_used_up"


def test_the_first_of_one_user_does_not_use_up_the_first_of_another() -> None:
    sale = a_sale()
    a_code(sale, uses_per_user_max=1)
    assert reserved(ask(sale, 0, code="SPRING"))
    assert reserved(ask(sale, 1, code="SPRING"))


def test_a_plain_reservation_looks_at_no_code_and_has_parts_all_the_same() -> None:
    sale = a_sale()
    reply = reserved(ask(sale))
    hold = sale.holds[reply.hold_id]
    assert (hold.code_id, hold.tiers, hold.reductions) == (None, None, None)
    assert reply.parts is not None
    assert (reply.parts.face, reply.parts.fee, reply.parts.total) == (reply.total, 0, reply.total)


def test_codes_are_found_however_they_are_typed() -> None:
    sale = a_sale()
    a_code(sale, as_compared("fans-34hk 9qrt"))
    assert reserved(ask(sale, code="FANS-34hk9QRT")).total == Decimal("81.00")
