"""How much of a payment may be given back?"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ops.payment_simulator.answers import Answer, invalid, yes
from ops.payment_simulator.intents import Intent


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back, in minor units; it never changes, unless the buyer's bank does not take it."""

    id: str
    created: int
    payment_intent: str
    charge: str | None
    amount: int
    currency: str
    metadata: dict[str, str]
    reason: str | None = None
    status: Literal["succeeded", "failed"] = "succeeded"

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def give_back(intent: Intent, amount: int | None, refund_id: str, terms: dict[str, Any], now: int) -> Refund | Answer:
    """The refund of that amount, or of all that is left; never more than was captured."""
    left = intent.amount_received - intent.amount_refunded
    if intent.amount_received == 0:
        return invalid(f"This PaymentIntent ({intent.id}) does not have a successful charge to refund.")
    if left == 0:
        return invalid(f"Charge {intent.latest_charge} has already been refunded.", code="charge_already_refunded")
    if amount is not None and amount > left:
        return invalid(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).",
            param="amount",
            code="amount_too_large",
        )
    wanted = left if amount is None else amount
    intent.amount_refunded += wanted
    return Refund(
        id=refund_id,
        created=now,
        payment_intent=intent.id,
        charge=intent.latest_charge,
        amount=wanted,
        currency=intent.currency,
        metadata=terms.get("metadata", {}),
        reason=terms.get("reason"),
    )


def fail(intent: Intent, refund: Refund) -> Refund:
    """The bank does not take it: the provider has the money again, and the refund is dead."""
    intent.amount_refunded -= refund.amount
    return replace(refund, status="failed")


def as_answer(refund: Refund) -> Answer:
    """The refund as the answer to a request."""
    return yes(as_json(refund))


def as_json(refund: Refund) -> dict[str, Any]:
    """The refund as the provider writes it."""
    return {"object": "refund", **refund.as_record()}
