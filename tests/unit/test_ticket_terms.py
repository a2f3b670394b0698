"""Is an owner shown what the sale would grant, and nothing else?"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from contracts.ticket_terms import EventPolicy, terms_of

NOW = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)
GENEROUS = EventPolicy(
    event_date=NOW + timedelta(days=10),
    off_sale_date=NOW + timedelta(days=9),
    cancelled=False,
    transfers=True,
    resales=True,
    refund_until=NOW + timedelta(days=5),
    refund_fee_rate=Decimal("0.1"),
)


def granted(policy: EventPolicy = GENEROUS, *, in_hand: bool = True, bought: bool = True) -> str:
    terms = terms_of(policy, now=NOW, in_hand=in_hand, bought=bought)
    may = {"R": terms.refundable, "T": terms.transferable, "S": terms.resellable}
    return "".join(letter for letter, is_granted in may.items() if is_granted)


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({}, "RTS"),
        ({"cancelled": True}, ""),
        ({"transfers": False}, "RS"),
        ({"resales": False}, "RT"),
        ({"refund_until": None}, "TS"),
        ({"refund_until": NOW}, "TS"),
        ({"off_sale_date": NOW}, "RT"),
        ({"event_date": NOW}, "RS"),
    ],
)
def test_the_policy_decides(changed: dict[str, Any], left: str) -> None:
    assert granted(replace(GENEROUS, **changed)) == left


def test_what_is_not_in_his_hand_nobody_gives_away() -> None:
    assert granted(in_hand=False) == ""


def test_for_money_only_goes_what_he_paid_for() -> None:
    assert granted(bought=False) == "T"
