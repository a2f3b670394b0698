"""What does the provider's log say about money, order by order?

`boxoffice verify` holds our orders against this. It reads the log on its own, without the simulator's code, and counts
authorisations and captures itself: an oracle that shared the code under suspicion would share its mistakes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


class UnreadableMoneyLog(Exception):
    """A whole line of the log is not a record: nothing can be concluded from it."""


@dataclass(frozen=True, slots=True)
class IntentOnLog:
    """One payment as the provider knows it; amounts in minor units of `currency` (lower case)."""

    intent_id: str
    order_id: str | None
    amount_minor: int
    currency: str
    state: str
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    capture_count: int = 0
    refund_count: int = 0

    @property
    def kept_minor(self) -> int:
        """What the buyer has paid in the end."""
        return self.captured_minor - self.refunded_minor

    @property
    def is_authorized_only(self) -> bool:
        """Is money set aside on the buyer's card that was neither taken nor given back?"""
        return self.state == "requires_capture"


@dataclass(frozen=True, slots=True)
class MoneyLog:
    """Everything on the log, by intent id."""

    intents: Mapping[str, IntentOnLog]

    def of_order(self, order_id: str) -> tuple[IntentOnLog, ...]:
        return tuple(intent for intent in self.intents.values() if intent.order_id == order_id)

    def by_order(self) -> dict[str | None, tuple[IntentOnLog, ...]]:
        """All intents by order; those that name none are under None."""
        found: dict[str | None, tuple[IntentOnLog, ...]] = {}
        for intent in self.intents.values():
            found[intent.order_id] = (*found.get(intent.order_id, ()), intent)
        return found


def read_money_log(path: Path) -> MoneyLog:
    """The log as it stands, without a torn last line: that was never answered. Raises UnreadableMoneyLog."""
    intents: dict[str, IntentOnLog] = {}
    for record in _records(path):
        if "intent" not in record:
            continue
        snapshot = record["intent"]
        before = intents.get(snapshot["id"]) or _as_created(snapshot)
        intents[before.intent_id] = _after(before, snapshot)
    return MoneyLog(intents)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as problem:
                raise UnreadableMoneyLog(f"line {number} of {path.name} is not a record: {problem}") from problem


def _as_created(snapshot: dict[str, Any]) -> IntentOnLog:
    return IntentOnLog(
        intent_id=snapshot["id"],
        order_id=snapshot["metadata"].get("order_id"),
        amount_minor=snapshot["amount"],
        currency=snapshot["currency"],
        state=snapshot["status"],
    )


def _after(before: IntentOnLog, snapshot: dict[str, Any]) -> IntentOnLog:
    captured, refunded = snapshot["amount_received"], snapshot["amount_refunded"]
    return replace(
        before,
        state=snapshot["status"],
        authorized_minor=snapshot["amount_authorized"],
        captured_minor=captured,
        refunded_minor=refunded,
        capture_count=before.capture_count + (captured > before.captured_minor),
        refund_count=before.refund_count + (refunded > before.refunded_minor),
    )
