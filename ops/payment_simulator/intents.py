"""What may be done to a payment intent, and what follows from it?

The states and who may leave them are Stripe's: https://docs.stripe.com/payments/paymentintents/lifecycle. Nothing here
knows a clock, a file or a connection. An intent changes in place; whoever calls writes the change down.
"""

from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from ops.payment_simulator.answers import Answer, error, invalid, yes
from ops.payment_simulator.cards import CARDS, Card

IntentStatus = Literal[
    "requires_payment_method", "requires_confirmation", "requires_action", "requires_capture", "succeeded", "canceled"
]

CONFIRMABLE = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
CANCELABLE = CONFIRMABLE | {"requires_capture"}


@dataclass(slots=True)
class Intent:
    """One payment, amounts in minor units, times in Unix seconds."""

    id: str
    client_secret: str
    created: int
    amount: int
    currency: str
    capture_method: Literal["manual", "automatic"]
    metadata: dict[str, str]
    description: str | None = None
    payment_method: str | None = None
    status: IntentStatus = "requires_payment_method"
    amount_authorized: int = 0
    amount_capturable: int = 0
    amount_received: int = 0
    amount_refunded: int = 0
    authorized_at: int | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    latest_charge: str | None = None
    last_payment_error: dict[str, str] | None = field(default=None)

    def as_record(self) -> dict[str, Any]:
        """Every field, as the log keeps it; `Intent(**record)` reads it back."""
        return asdict(self)


def confirm(intent: Intent, payment_method: str | None, now: int) -> Answer:
    """Try to authorise the payment with this card, or with the one the intent already has."""
    if intent.status not in CONFIRMABLE:
        return wrong_state(intent, "confirm")
    if payment_method is not None:
        intent.payment_method = payment_method
    if intent.payment_method is None:
        return error(
            HTTPStatus.BAD_REQUEST,
            "invalid_request_error",
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
            intent=as_json(intent),
        )
    card = CARDS[intent.payment_method]
    if card.decline_code is not None:
        return _decline(intent, card, card.decline_code)
    intent.last_payment_error = None
    if card.asks_for_action:
        intent.status = "requires_action"
        return yes(as_json(intent))
    authorize(intent, now)
    return yes(as_json(intent))


def authorize(intent: Intent, now: int) -> None:
    """The bank said yes: the amount is set aside, or taken at once when capture is automatic."""
    intent.status = "requires_capture"
    intent.latest_charge = f"ch_{intent.id.removeprefix('pi_')}"
    intent.authorized_at = now
    intent.amount_authorized = intent.amount
    intent.amount_capturable = intent.amount
    if intent.capture_method == "automatic":
        _take(intent, intent.amount)


def capture(intent: Intent, amount: int | None, now: int) -> Answer:
    """Take the amount, or all of it; what is left of the authorisation is given back."""
    if intent.status != "requires_capture":
        return wrong_state(intent, "capture")
    if amount is not None and amount > intent.amount_capturable:
        return invalid(
            "The amount_to_capture is more than what can be captured.",
            param="amount_to_capture",
            code="amount_too_large",
        )
    if intent.payment_method is not None and CARDS[intent.payment_method].loses_authorization_at_capture:
        expire(intent, now)
        return error(
            HTTPStatus.BAD_REQUEST,
            "invalid_request_error",
            "The authorization of this payment is gone.",
            code="capture_charge_authorization_expired",
            intent=as_json(intent),
        )
    _take(intent, intent.amount_capturable if amount is None else amount)
    return yes(as_json(intent))


def cancel(intent: Intent, reason: str | None, now: int) -> Answer:
    """Give the authorisation back; afterwards nothing can be done with the intent any more."""
    if intent.status not in CANCELABLE:
        return wrong_state(intent, "cancel")
    _end(intent, reason, now)
    return yes(as_json(intent))


def expire(intent: Intent, now: int) -> None:
    """The bank lets go of an authorisation that was not captured in time."""
    _end(intent, "automatic", now)


def wrong_state(intent: Intent, verb: str) -> Answer:
    """The intent cannot do that as it is."""
    message = f"You cannot {verb} this PaymentIntent because it has a status of {intent.status}."
    return error(
        HTTPStatus.BAD_REQUEST,
        "invalid_request_error",
        message,
        code="payment_intent_unexpected_state",
        intent=as_json(intent),
    )


def as_json(intent: Intent, *, with_charge: bool = False) -> dict[str, Any]:
    """The intent as the API shows it; with its charge in full when the request asked to expand it."""
    asks = intent.status == "requires_action"
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_capturable": intent.amount_capturable,
        "amount_received": intent.amount_received,
        "canceled_at": intent.canceled_at,
        "cancellation_reason": intent.cancellation_reason,
        "capture_method": intent.capture_method,
        "client_secret": intent.client_secret,
        "confirmation_method": "automatic",
        "created": intent.created,
        "currency": intent.currency,
        "description": intent.description,
        "last_payment_error": intent.last_payment_error,
        "latest_charge": _charge(intent) if with_charge else intent.latest_charge,
        "livemode": False,
        "metadata": intent.metadata,
        "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
        if asks
        else None,
        "payment_method": intent.payment_method,
        "payment_method_types": ["card"],
        "status": intent.status,
    }


def _charge(intent: Intent) -> dict[str, Any] | None:
    if intent.latest_charge is None:
        return None
    return {
        "id": intent.latest_charge,
        "object": "charge",
        "amount": intent.amount,
        "amount_captured": intent.amount_received,
        "amount_refunded": intent.amount_refunded,
        "captured": intent.amount_received > 0,
        "currency": intent.currency,
        "payment_intent": intent.id,
        # An authorisation that was given back shows as a refunded charge that was never captured.
        "refunded": intent.status == "canceled" or 0 < intent.amount_received == intent.amount_refunded,
        "status": "succeeded",
    }


def _decline(intent: Intent, card: Card, decline_code: str) -> Answer:
    intent.last_payment_error = {
        "type": "card_error",
        "code": card.error_code,
        "decline_code": decline_code,
        "message": card.message,
    }
    intent.status = "requires_payment_method"
    intent.payment_method = None
    return error(
        HTTPStatus.PAYMENT_REQUIRED,
        "card_error",
        card.message,
        code=card.error_code,
        decline_code=decline_code,
        intent=as_json(intent),
    )


def _take(intent: Intent, amount: int) -> None:
    intent.amount_received = amount
    intent.amount_capturable = 0
    intent.status = "succeeded"


def _end(intent: Intent, reason: str | None, now: int) -> None:
    intent.status = "canceled"
    intent.canceled_at = now
    intent.cancellation_reason = reason
    intent.amount_capturable = 0
