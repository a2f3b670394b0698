"""What is in a price: how much of it is the fee, how much is tax, and what had been taken off before?

Prices are what a buyer pays, everything included, so the parts are taken out of a price and never put on top of it. All of
them are whole units of the currency, and they always sum to the price: what rounding leaves over is in `face`.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from contracts.money import WHOLE_AMOUNTS_IN_HUNDREDTHS, decimals_of
from contracts.value import Amount, Value

_CENT = Decimal("0.01")
# With two places, as the database has all amounts.
_NOTHING = Decimal("0.00")


class PriceParts(Value):
    """What was paid: face + fee + tax = total. `reduction` is what a code had taken off: without it, it would have been
    total + reduction."""

    face: Amount
    fee: Amount
    tax: Amount
    reduction: Amount
    total: Amount


@cache
def smallest_unit(currency: str) -> Decimal:
    """The smallest step of a price in this currency: 0.01 EUR, 1 JPY. Two places are the most an `Amount` has, and card
    networks settle the currencies of three in hundredths anyway; krónur and Uganda shillings are paid whole."""
    whole = decimals_of(currency) == 0 or currency.upper() in WHOLE_AMOUNTS_IN_HUNDREDTHS
    return Decimal(1) if whole else _CENT


def parts_of(
    price: Decimal, *, fee_rate: Decimal, tax_rate: Decimal, currency: str, reduction: Decimal = _NOTHING
) -> PriceParts:
    """The parts of what one seat costs, everything included. Tax is price - price / (1 + tax_rate), the fee is fee_rate of
    what remains, both rounded half up to the currency's smallest unit. Shares are from 0 to below 1, the price is not
    negative."""
    fee, tax = fee_and_tax(price, fee_rate=fee_rate, tax_rate=tax_rate, currency=currency)
    # Made of amounts that were checked when they came in; a hot batch makes hundreds.
    return PriceParts.model_construct(face=price - fee - tax, fee=fee, tax=tax, reduction=reduction, total=price)


def fee_and_tax(price: Decimal, *, fee_rate: Decimal, tax_rate: Decimal, currency: str) -> tuple[Decimal, Decimal]:
    """Of a price, the fee and the tax (`parts_of`); nothing is computed for an event that has neither."""
    if not fee_rate and not tax_rate:
        return _NOTHING, _NOTHING
    unit = smallest_unit(currency)
    tax = _rounded(price - price / (1 + tax_rate), unit)
    # A price that is no whole number of units could otherwise be all fee, and a unit more.
    fee = min(_rounded((price - tax) * fee_rate, unit), price - tax)
    return fee, tax


def sum_of(parts: Iterable[PriceParts]) -> PriceParts:
    """The parts of several seats together. Sums of rounded parts: the same as what stands on each ticket."""
    each = list(parts)
    return PriceParts.model_construct(
        face=sum((one.face for one in each), _NOTHING),
        fee=sum((one.fee for one in each), _NOTHING),
        tax=sum((one.tax for one in each), _NOTHING),
        reduction=sum((one.reduction for one in each), _NOTHING),
        total=sum((one.total for one in each), _NOTHING),
    )


def _rounded(amount: Decimal, unit: Decimal) -> Decimal:
    return amount.quantize(unit, ROUND_HALF_UP).quantize(_CENT)
