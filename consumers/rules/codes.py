"""What does a code make of a price, where does it count, and until when?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

_NOTHING = Decimal(0)
_PERCENT = Decimal(100)


@dataclass(frozen=True, slots=True)
class Code:
    """What an organiser gives out: it opens the presale, makes seats cheaper, or both."""

    id: UUID
    code: str
    opens_presale: bool = False
    percent_off: Decimal = _NOTHING
    amount_off: Decimal = _NOTHING
    # A use is a hold that is alive or was paid; None: as many as there are.
    uses_max: int | None = None
    uses_per_user_max: int | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    # Empty: all.
    sections: Sequence[str] = ()
    disabled_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it counts just now, as far as time and its organiser are concerned."""
        return (
            self.disabled_at is None
            and (self.valid_from is None or self.valid_from <= now)
            and (self.valid_until is None or now < self.valid_until)
        )

    def counts_in(self, section: str) -> bool:
        """Whether it counts for the seats of that section."""
        return not self.sections or section in self.sections

    def taken_off(self, price: Decimal, *, unit: Decimal) -> Decimal:
        """What it takes off a price: first the percentage, then the amount, never more than there is. What remains to be paid
        is rounded down to whole units of the currency, so the buyer never pays for a rounding."""
        remains = price * (_PERCENT - self.percent_off) / _PERCENT - self.amount_off
        if remains == price:
            return _NOTHING
        remains = max(remains, _NOTHING)
        return price - (remains // unit) * unit
