"""What does each call that changes something do to the provider's books?

`OPERATIONS` is the table of contents. Each finds its answer without awaiting, so no other call comes between.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.payment_simulator import intents, refunds
from ops.payment_simulator.answers import Answer, missing, yes
from ops.payment_simulator.forms import Form
from ops.payment_simulator.intents import Intent
from ops.payment_simulator.provider import Provider
from ops.payment_simulator.refunds import Refund


@dataclass(frozen=True, slots=True)
class Effect:
    """The answer, and what has to be written down with it."""

    answer: Answer
    intent: Intent | None = None
    refund: Refund | None = None


Operate = Callable[[Provider, str | None, Form], Effect]


def create(provider: Provider, _: str | None, form: Form) -> Effect:
    """A new intent, confirmed at once if it was asked for."""
    intent = provider.new_intent(form)
    if form["confirm"]:
        return Effect(intents.confirm(intent, None, _now()), intent)
    return Effect(yes(intents.as_json(intent)), intent)


def confirm(provider: Provider, intent_id: str | None, form: Form) -> Effect:
    """Ask the card."""
    intent = provider.intents[intent_id or ""]
    return Effect(intents.confirm(intent, form.get("payment_method"), _now()), intent)


def capture(provider: Provider, intent_id: str | None, form: Form) -> Effect:
    """Take the money that was authorised."""
    intent = provider.intents[intent_id or ""]
    return Effect(intents.capture(intent, form.get("amount_to_capture"), _now()), intent)


def cancel(provider: Provider, intent_id: str | None, form: Form) -> Effect:
    """End an intent before its money is taken."""
    intent = provider.intents[intent_id or ""]
    return Effect(intents.cancel(intent, form.get("cancellation_reason"), _now()), intent)


def refund(provider: Provider, intent_id: str | None, form: Form) -> Effect:
    """Give money back."""
    intent = provider.intents[intent_id or ""]
    given = refunds.give_back(intent, form.get("amount"), f"re_{secrets.token_hex(12)}", dict(form), _now())
    if isinstance(given, Answer):
        return Effect(given, intent)
    return Effect(refunds.as_answer(given), intent, given)


OPERATIONS: dict[str, Operate] = {
    "create": create,
    "confirm": confirm,
    "capture": capture,
    "cancel": cancel,
    "refund": refund,
}


def find_target(provider: Provider, operation: str, intent_id: str | None, form: Form) -> str | Answer | None:
    """The intent an operation is about: the one in the path, for a refund the one in the form, for a creation none."""
    if operation == "create":
        return None
    wanted = form["payment_intent"] if operation == "refund" else intent_id
    return wanted if wanted in provider.intents else missing("payment_intent", str(wanted))


def _now() -> int:
    return int(time.time())
