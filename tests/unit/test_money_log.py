"""Does the reader of the provider's log see what the log says, and nothing more?"""

import json
from pathlib import Path
from typing import Any

import pytest

from ops.payment_simulator.log_reader import IntentOnLog, UnreadableMoneyLog, read_money_log


def a_record(
    status: str, *, intent_id: str = "pi_1", order_id: str | None = "order-1", **amounts: int
) -> dict[str, Any]:
    snapshot = {
        "id": intent_id,
        "amount": 1200,
        "currency": "eur",
        "status": status,
        "metadata": {"order_id": order_id} if order_id else {},
        "amount_authorized": 0,
        "amount_received": 0,
        "amount_refunded": 0,
        **amounts,
    }
    return {"at": 1.0, "operation": "any", "intent": snapshot}


def written(path: Path, *records: dict[str, Any], torn: str = "") -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + torn)
    return path


def test_a_payment_from_creation_to_refund(tmp_path: Path) -> None:
    log = written(
        tmp_path / "log",
        a_record("requires_payment_method"),
        a_record("requires_capture", amount_authorized=1200),
        a_record("succeeded", amount_authorized=1200, amount_received=1200),
        a_record("succeeded", amount_authorized=1200, amount_received=1200, amount_refunded=200),
        a_record("succeeded", amount_authorized=1200, amount_received=1200, amount_refunded=500),
    )
    assert read_money_log(log).of_order("order-1") == (
        IntentOnLog(
            intent_id="pi_1",
            order_id="order-1",
            amount_minor=1200,
            currency="eur",
            state="succeeded",
            authorized_minor=1200,
            captured_minor=1200,
            refunded_minor=500,
            capture_count=1,
            refund_count=2,
        ),
    )
    assert read_money_log(log).intents["pi_1"].kept_minor == 700


def test_a_second_capture_is_seen(tmp_path: Path) -> None:
    """The negative control of the oracle: a provider that took money twice must not look like one that took it once."""
    log = written(
        tmp_path / "log",
        a_record("requires_capture", amount_authorized=1200),
        a_record("succeeded", amount_authorized=1200, amount_received=1200),
        a_record("succeeded", amount_authorized=1200, amount_received=2400),
    )
    assert read_money_log(log).intents["pi_1"].capture_count == 2
    assert read_money_log(log).intents["pi_1"].captured_minor == 2400


def test_one_order_with_two_intents(tmp_path: Path) -> None:
    log = written(
        tmp_path / "log",
        a_record("canceled", intent_id="pi_1"),
        a_record("requires_capture", intent_id="pi_2", amount_authorized=1200),
        a_record("requires_capture", intent_id="pi_3", order_id=None),
    )
    by_order = read_money_log(log).by_order()
    assert [intent.intent_id for intent in by_order["order-1"]] == ["pi_1", "pi_2"]
    assert [intent.is_authorized_only for intent in by_order["order-1"]] == [False, True]
    assert [intent.intent_id for intent in by_order[None]] == ["pi_3"]


def test_an_automatic_capture_in_the_first_record_counts(tmp_path: Path) -> None:
    log = written(tmp_path / "log", a_record("succeeded", amount_authorized=1200, amount_received=1200))
    assert read_money_log(log).intents["pi_1"].capture_count == 1


def test_a_torn_last_line_was_never_answered(tmp_path: Path) -> None:
    log = written(tmp_path / "log", a_record("requires_capture"), torn='{"at":2.0,"intent":{"id":"pi_1","sta')
    assert read_money_log(log).intents["pi_1"].state == "requires_capture"


def test_a_torn_line_in_the_middle_spoils_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"at":1.0,"inte\n' + json.dumps(a_record("succeeded")) + "\n")
    with pytest.raises(UnreadableMoneyLog, match="line 1"):
        read_money_log(log)


def test_records_without_an_intent_move_no_money(tmp_path: Path) -> None:
    log = written(tmp_path / "log", {"at": 1.0, "operation": "create", "key": "k", "status": 500, "body": "{}"})
    assert read_money_log(log).intents == {}
