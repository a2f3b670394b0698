"""What does each of the provider's test cards do?

The tokens and the codes are Stripe's own: https://docs.stripe.com/testing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """How a payment with this card goes. Without a decline code it is authorised."""

    decline_code: str | None = None
    error_code: str = "card_declined"
    message: str = "Your card was declined."
    asks_for_action: bool = False
    loses_authorization_at_capture: bool = False


CARDS = {
    "pm_card_visa": Card(),
    "pm_card_mastercard": Card(),
    "pm_card_chargeDeclined": Card(decline_code="generic_decline"),
    "pm_card_visa_chargeDeclined": Card(decline_code="generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": Card(
        decline_code="insufficient_funds", message="Your card has insufficient funds."
    ),
    "pm_card_chargeDeclinedExpiredCard": Card(
        decline_code="expired_card", error_code="expired_card", message="Your card has expired."
    ),
    "pm_card_threeDSecure2Required": Card(asks_for_action=True),
    # Not one of Stripe's: the bank takes the authorisation back before the money is fetched.
    "pm_card_captureFails": Card(loses_authorization_at_capture=True),
}
