"""What can come of asking the payment provider?

A closed set of values. The caller may act on all of them but two: after `Unknown` and `Unavailable` nothing is known,
the state must be left as it is, and the intent is read later. No answer is not a no.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class IntentCreated:
    """The intent exists and no money has moved; when read later: no card has been tried yet."""

    intent_id: str


@dataclass(frozen=True, slots=True)
class Authorized:
    """The amount is set aside on the buyer's card."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank said no to this card. `code` is the bank's reason (insufficient_funds) or else the provider's."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ActionNeeded:
    """The buyer must do something at their bank first; the client needs the secret for it."""

    client_secret: str


@dataclass(frozen=True, slots=True)
class Captured:
    """The money was taken."""


@dataclass(frozen=True, slots=True)
class Canceled:
    """The intent is dead for ever and nothing was taken: only now may the seats go to somebody else."""


@dataclass(frozen=True, slots=True)
class Refunded:
    """The provider accepted to give the money back."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite no for another reason, such as the wrong state; nothing changed."""

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have happened or not, now or later. `key_is_spent`: the provider has answered this key with an error before, and
    will for a day; what that first request did can be looked up, and under this key nothing more will be done."""

    reason: str
    key_is_spent: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing was sent: the provider has been failing and is left alone for a while."""

    retry_after_seconds: float


IntentState = IntentCreated | Authorized | Declined | ActionNeeded | Captured | Canceled | Refunded
NoAnswer = Unknown | Unavailable
Outcome = IntentState | Refused | NoAnswer


@dataclass(frozen=True, slots=True)
class ProviderRefund:
    """Money that went back, or was to; one that is dead never arrived, and is not given again under its key."""

    mark: str | None
    amount: Decimal
    is_dead: bool


@dataclass(frozen=True, slots=True)
class ProviderPayment:
    """One intent as the provider lists it, for comparing its books with ours."""

    intent_id: str
    order_id: str | None
    amount: Decimal
    currency: str  # upper case, as in our orders
    captured: Decimal
    refunded: Decimal
    state: IntentState | Unknown
    created_at: datetime
