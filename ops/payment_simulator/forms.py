"""Does a request say what its endpoint expects?

A request that fails here never began to execute, so nothing is stored under its key.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from ops.payment_simulator.answers import Answer, invalid
from ops.payment_simulator.cards import CARDS

AMOUNT_MAX = 99_999_999  # eight digits, as the provider's own limit

# Parameters real clients send and that change nothing here.
IGNORED = frozenset(
    {
        "automatic_payment_methods",
        "confirmation_method",
        "expand",
        "off_session",
        "payment_method_types",
        "receipt_email",
        "return_url",
        "statement_descriptor_suffix",
    }
)
EXPECTED = {
    "create": frozenset(
        {"amount", "currency", "capture_method", "metadata", "payment_method", "confirm", "description"}
    ),
    "confirm": frozenset({"payment_method"}),
    "capture": frozenset({"amount_to_capture"}),
    "cancel": frozenset({"cancellation_reason"}),
    "refund": frozenset({"payment_intent", "amount", "metadata", "reason"}),
}
METADATA = re.compile(r"metadata\[([^\[\]]{1,40})\]\Z")

Form = Mapping[str, Any]


def read_form(operation: str, body: bytes) -> Form | Answer:
    """The parameters by name, `metadata` as a dict and amounts as int; or the refusal."""
    form: dict[str, Any] = {"metadata": {}}
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        if entry := METADATA.match(name):
            form["metadata"][entry[1]] = value
            continue
        base = name.partition("[")[0]
        if base not in EXPECTED[operation]:
            if base in IGNORED:
                continue
            return invalid(f"Received unknown parameter: {base}", param=base, code="parameter_unknown")
        form[base] = value
    return _check(operation, form)


def _check(operation: str, form: dict[str, Any]) -> Form | Answer:
    for name in ("amount", "amount_to_capture"):
        if name not in form:
            continue
        amount = _amount(form[name])
        if amount is None:
            return invalid(f"Invalid integer: {form[name]}", param=name, code="parameter_invalid_integer")
        form[name] = amount
    card = form.get("payment_method")
    if card is not None and card not in CARDS:
        return invalid(f"No such PaymentMethod: '{card}'", param="payment_method", code="resource_missing")
    if operation == "create":
        return _check_create(form)
    if operation == "refund" and "payment_intent" not in form:
        return _required("payment_intent")
    return form


def _check_create(form: dict[str, Any]) -> Form | Answer:
    for name in ("amount", "currency"):
        if name not in form:
            return _required(name)
    if not re.fullmatch(r"[A-Za-z]{3}", form["currency"]):
        return invalid(f"Invalid currency: {form['currency']}", param="currency")
    form["currency"] = form["currency"].lower()
    if form.setdefault("capture_method", "automatic") not in ("manual", "automatic", "automatic_async"):
        return invalid("Invalid capture_method: must be manual or automatic", param="capture_method")
    if form["capture_method"] == "automatic_async":
        form["capture_method"] = "automatic"
    form["confirm"] = form.get("confirm") == "true"
    return form


def _required(name: str) -> Answer:
    return invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")


def _amount(text: str) -> int | None:
    if not re.fullmatch(r"[0-9]{1,8}", text):
        return None
    amount = int(text)
    return amount if 1 <= amount <= AMOUNT_MAX else None
