"""Is money written in minor units exactly, or not at all?"""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import UnusableAmount, decimals_of, from_minor_units, to_minor_units


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.50", "EUR", 1250),
        ("12.5", "eur", 1250),
        ("0.01", "USD", 1),
        ("1250", "JPY", 1250),
        ("1250.00", "JPY", 1250),
        ("1.230", "KWD", 1230),
        ("500", "ISK", 50000),
        ("0", "EUR", 0),
        ("-3.20", "EUR", -320),
        ("1E+2", "EUR", 10000),
    ],
)
def test_amounts_become_minor_units(amount: str, currency: str, minor: int) -> None:
    assert to_minor_units(Decimal(amount), currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("0.005", "EUR"),
        ("10.5", "JPY"),
        ("1.234", "KWD"),
        ("500.50", "ISK"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        ("1E+16", "EUR"),
        ("1", "EURO"),
        ("1", "E1R"),
        ("0.00000000000000000000000000000000000000000000001", "EUR"),
        ("9999999999999999.00000000000000000000000000000000001", "EUR"),
    ],
)
def test_amounts_that_do_not_fit_are_refused_instead_of_rounded(amount: str, currency: str) -> None:
    with pytest.raises(UnusableAmount):
        to_minor_units(Decimal(amount), currency)


def test_a_float_is_refused() -> None:
    with pytest.raises(UnusableAmount, match="not float"):
        to_minor_units(12.5, "EUR")  # type: ignore[arg-type]  # the point of the test


def test_minor_units_keep_all_decimals_of_the_currency() -> None:
    assert str(from_minor_units(1250, "EUR")) == "12.50"
    assert str(from_minor_units(1250, "JPY")) == "1250"
    assert str(from_minor_units(10, "KWD")) == "0.010"


@given(st.integers(-(10**12), 10**12), st.sampled_from(["EUR", "USD", "JPY", "KWD", "ISK"]))
def test_there_and_back_is_the_same(whole: int, currency: str) -> None:
    minor = whole * {"KWD": 10, "ISK": 100}.get(currency, 1)
    amount = from_minor_units(minor, currency)
    assert to_minor_units(amount, currency) == minor
    assert -amount.as_tuple().exponent == decimals_of(currency)  # type: ignore[operator]  # finite, so an int
