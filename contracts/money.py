"""How is an amount written in the minor units that payment providers count in?

Amounts are `Decimal` everywhere in our code; only the provider and the ledger count in whole minor units. Nothing here
rounds: an amount that does not fit the currency is a mistake of whoever computed it, and money must not hide mistakes.
"""

from decimal import Decimal

# https://docs.stripe.com/currencies: everything not named here has two decimals.
ZERO_DECIMAL_CURRENCIES = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)
THREE_DECIMAL_CURRENCIES = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

# Counted in hundredths for compatibility, although the currency has no hundredths: the amount must be whole.
WHOLE_AMOUNTS_IN_HUNDREDTHS = frozenset({"ISK", "UGX"})

# Far above any order, and its minor units still fit a 64 bit column.
AMOUNT_DIGITS_MAX = 16


class UnusableAmount(ValueError):
    """The amount cannot be written in whole minor units of that currency."""


def decimals_of(currency: str) -> int:
    """How many decimals the provider counts for this ISO 4217 code, upper or lower case."""
    code = currency.upper()
    if len(code) != 3 or not code.isascii() or not code.isalpha():
        raise UnusableAmount(f"{currency!r} is not a currency code of three letters")
    if code in ZERO_DECIMAL_CURRENCIES:
        return 0
    return 3 if code in THREE_DECIMAL_CURRENCIES else 2


def to_minor_units(amount: Decimal, currency: str) -> int:
    """The amount in minor units (12.50 EUR is 1250, 1250 JPY is 1250); raises UnusableAmount instead of rounding."""
    if not isinstance(amount, Decimal):
        raise UnusableAmount(f"amounts are Decimal, not {type(amount).__name__}")
    if not amount.is_finite() or (amount and abs(amount.adjusted()) >= AMOUNT_DIGITS_MAX):
        raise UnusableAmount(f"{amount} is not an amount of money")
    # As a fraction, because every Decimal operation rounds to the context's precision without a word.
    numerator, denominator = amount.as_integer_ratio()
    units_in_one: int = 10 ** decimals_of(currency)
    minor, rest = divmod(numerator * units_in_one, denominator)
    if rest or not _is_payable(minor, currency):
        raise UnusableAmount(f"{amount} {currency.upper()} is not a whole number of its smallest payable unit")
    return minor


def from_minor_units(minor: int, currency: str) -> Decimal:
    """The amount of that many minor units, with all its decimals (1250 of EUR is 12.50)."""
    digits = tuple(int(digit) for digit in str(abs(minor)))
    return Decimal((int(minor < 0), digits, -decimals_of(currency)))


def _is_payable(minor: int, currency: str) -> bool:
    code = currency.upper()
    if code in WHOLE_AMOUNTS_IN_HUNDREDTHS:
        return minor % 100 == 0
    # Card networks settle these in hundredths, so the provider refuses a last digit other than nought.
    return code not in THREE_DECIMAL_CURRENCIES or minor % 10 == 0
