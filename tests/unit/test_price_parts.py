"""Do the parts of a price always add up to it, whatever the currency and the rates?"""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codes import CODE_PATTERN, PREFIX_LENGTH_MAX, as_compared, made_up
from contracts.commands import CODE_LENGTH_MAX
from contracts.money import (
    THREE_DECIMAL_CURRENCIES,
    WHOLE_AMOUNTS_IN_HUNDREDTHS,
    ZERO_DECIMAL_CURRENCIES,
    to_minor_units,
)
from contracts.price_parts import PriceParts, parts_of, smallest_unit, sum_of

CURRENCIES = sorted(
    {"EUR", "USD", "GBP"} | ZERO_DECIMAL_CURRENCIES | THREE_DECIMAL_CURRENCIES | WHOLE_AMOUNTS_IN_HUNDREDTHS
)
NOTHING = Decimal(0)

rates = st.decimals(0, Decimal("0.9999"), places=4)
currencies = st.sampled_from(CURRENCIES)
units = st.integers(0, 9_999_999)


def parts(price: str, *, fee: str = "0", tax: str = "0", currency: str = "EUR") -> PriceParts:
    return parts_of(Decimal(price), fee_rate=Decimal(fee), tax_rate=Decimal(tax), currency=currency)


@pytest.mark.parametrize(
    ("price", "fee", "tax", "currency", "expected"),
    [
        ("60.00", "0.1", "0.19", "EUR", ("45.38", "5.04", "9.58")),
        ("60.00", "0", "0", "EUR", ("60.00", "0", "0")),
        ("60.00", "0.1", "0", "EUR", ("54.00", "6.00", "0")),
        ("0.01", "0.5", "0.5", "EUR", ("0.00", "0.01", "0")),
        ("0.00", "0.5", "0.5", "EUR", ("0", "0", "0")),
        ("6000", "0.1", "0.1", "JPY", ("4909", "546", "545")),
        ("6000", "0.1", "0.1", "ISK", ("4909", "546", "545")),
        ("6.00", "0.1", "0.1", "KWD", ("4.90", "0.55", "0.55")),
    ],
)
def test_the_parts_of_a_price(price: str, fee: str, tax: str, currency: str, expected: tuple[str, ...]) -> None:
    found = parts(price, fee=fee, tax=tax, currency=currency)
    assert (found.face, found.fee, found.tax) == tuple(map(Decimal, expected))
    assert found.total == Decimal(price)


@given(units, rates, rates, currencies)
def test_the_parts_add_up_and_can_be_paid_each(count: int, fee: Decimal, tax: Decimal, currency: str) -> None:
    price = count * smallest_unit(currency)
    found = parts_of(price, fee_rate=fee, tax_rate=tax, currency=currency)
    assert found.face + found.fee + found.tax == found.total == price
    assert min(found.face, found.fee, found.tax) >= 0
    for amount in (found.face, found.fee, found.tax):
        to_minor_units(amount, currency)  # raises where it is no whole number of units


@given(st.decimals(0, 99_999_999, places=2), rates, rates, currencies)
def test_even_of_a_price_that_nobody_can_pay_no_part_is_negative(
    price: Decimal, fee: Decimal, tax: Decimal, currency: str
) -> None:
    found = parts_of(price, fee_rate=fee, tax_rate=tax, currency=currency)
    assert found.face + found.fee + found.tax == price
    assert min(found.face, found.fee, found.tax) >= 0


@given(st.lists(units, max_size=6), rates, rates)
def test_the_parts_of_several_seats_are_the_sums_of_their_parts(counts: list[int], fee: Decimal, tax: Decimal) -> None:
    each = [
        parts_of(count * Decimal("0.01"), fee_rate=fee, tax_rate=tax, currency="EUR", reduction=Decimal("0.50"))
        for count in counts
    ]
    whole = sum_of(each)
    assert whole.face + whole.fee + whole.tax == whole.total == sum((one.total for one in each), NOTHING)
    assert whole.reduction == Decimal("0.50") * len(each)


def test_parts_are_read_as_they_are_written() -> None:
    written = parts("60.00", fee="0.1", tax="0.19")
    assert PriceParts.model_validate_json(written.model_dump_json()) == written


def test_codes_are_compared_in_upper_case_and_without_blanks() -> None:
    assert as_compared("  fans-34hk 9qrt\t") == "FANS-34HK9QRT"


def test_codes_are_made_up_that_can_be_stored_and_are_all_others() -> None:
    codes = [made_up("F" * PREFIX_LENGTH_MAX) for _ in range(1000)]
    assert len(set(codes)) == len(codes)
    assert {len(code) for code in codes} == {CODE_LENGTH_MAX}
    assert all(as_compared(code) == code for code in codes)
    assert all(re.fullmatch(CODE_PATTERN, code) for code in (*codes, made_up()))
