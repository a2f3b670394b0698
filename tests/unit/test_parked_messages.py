"""Which parked messages may go back, as whose, and what of them may be shown?"""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts import topology, wire
from contracts.commands import AnyCommand, OfferTransfer, SettlePayment
from contracts.domain_events import OrderNotice, OrdersCancelled
from ops.parking.parked import Parked
from ops.parking.shown_body import shown_body, shown_reason
from ops.parking.way_back import NoWayBack, way_back
from tests.builders import a_user, reserve, settle

EVENT = UUID(int=7)


def parked(body: bytes, **fields: Any) -> Parked:
    """A message of the engine's, unless the fields say otherwise."""
    usual: dict[str, Any] = {
        "id": "a",
        "type": wire.COMMANDS_TYPE,
        "reason": "a bug",
        "origin_queue": topology.event_queue(EVENT),  # type: ignore[arg-type]
        "origin_exchange": "",
        "origin_key": "",
        "parked_at": None,
        "parked_by": "worker",
        "sender": "",
        "attempt": 1,
        "correlation_id": None,
        "message_id": "a",
        "headers": {wire.REASON_HEADER: "a bug", wire.TRACEPARENT_HEADER: "00-1-2-01", "x-death": []},
    }
    return Parked(**{**usual, "body": body, **fields})


def of(*commands: AnyCommand, **fields: Any) -> Parked:
    return parked(wire.encode_commands(commands), **fields)


def of_a_stage(**fields: Any) -> Parked:
    cancelled = OrdersCancelled(event_id=uuid4(), orders=(OrderNotice(order_id=uuid4(), user_id=uuid4(), reason="x"),))
    return parked(
        wire.encode_domain_event(cancelled),
        **{"origin_queue": topology.NOTIFICATIONS_QUEUE, "type": cancelled.type, "parked_by": "worker", **fields},
    )


def test_what_couriers_sent_goes_back_as_the_couriers() -> None:
    way = way_back(of(settle(EVENT, uuid4())))  # type: ignore[arg-type]
    assert (way.user, way.exchange) == ("courier", topology.COMMANDS)
    assert way.routing_key == topology.command_routing_key(EVENT)  # type: ignore[arg-type]
    assert way.message.headers == {wire.TRACEPARENT_HEADER: "00-1-2-01"}, "nothing of the parking lot goes with it"
    assert way.message.message_id == "a"


def test_what_people_asked_is_not_done_behind_their_back() -> None:
    asked = of(reserve(EVENT, a_user(), [uuid4()]))  # type: ignore[arg-type]
    with pytest.raises(NoWayBack, match="--even-late"):
        way_back(asked)
    way = way_back(asked, even_late=True)
    assert way.user == "ingress"
    (command,) = wire.decode_commands(way.message.body)
    assert command.deadline_at is None, "else the engine would drop it"


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (of(settle(EVENT, uuid4()), sender="worker"), "only courier may"),  # type: ignore[arg-type]
        (of(settle(EVENT, uuid4()), sender="ingress"), "only courier may"),  # type: ignore[arg-type]
        (of(settle(EVENT, uuid4()), parked_by=""), "forgery"),  # type: ignore[arg-type]
        (of(settle(EVENT, uuid4()), parked_by="courier"), "forgery"),  # type: ignore[arg-type]
        (of(settle(EVENT, uuid4()), reserve(EVENT, a_user(), [uuid4()])), "nobody sends together"),  # type: ignore[arg-type]
        (parked(b"{"), "cannot read it either"),
        (parked(b"{}", origin_queue=topology.PAYMENTS_QUEUE), "cannot read it"),
        (of_a_stage(origin_queue="somebody.elses"), "no queue of ours"),
        (of_a_stage(origin_queue=""), "unknown"),
    ],
    ids=["forged", "forged by the ingress", "parked by nobody", "parked by a courier", "mixed", "unreadable", "unreadable work",
         "strange", "from nowhere"],
)  # fmt: skip
def test_what_should_not_go_back_stays(one: Parked, why: str) -> None:
    with pytest.raises(NoWayBack, match=why):
        way_back(one, even_late=True)


def test_who_runs_everything_under_one_user_is_not_asked_who_sent_it() -> None:
    assert way_back(of(settle(EVENT, uuid4()), parked_by=""), checks_users=False).user == "courier"  # type: ignore[arg-type]


def test_a_stages_message_goes_back_to_that_stage_only() -> None:
    way = way_back(of_a_stage())
    assert (way.user, way.exchange) == ("courier", topology.retry_exchange(5))
    assert way.routing_key == topology.NOTIFICATIONS_QUEUE, "tk.evt would give it to the webhooks as well"


def test_what_the_relay_could_not_deliver_goes_where_it_was_to_go() -> None:
    way = way_back(of_a_stage(origin_queue="", origin_exchange=topology.DOMAIN_EVENTS, origin_key="payment"))
    assert (way.user, way.exchange, way.routing_key) == ("courier", topology.DOMAIN_EVENTS, "payment")


def test_only_ids_numbers_times_and_kinds_are_shown() -> None:
    offer = OfferTransfer(
        command_id=uuid4(),
        event_id=EVENT,
        user_id=a_user(),
        ticket_id=uuid4(),
        to_email="jane@example.org",  # type: ignore[arg-type]
    )
    paid = SettlePayment(command_id=uuid4(), event_id=EVENT, order_id=uuid4(), intent_id="pi_123")  # type: ignore[arg-type]
    shown = shown_body(wire.encode_commands([offer, paid]))
    assert "jane" not in shown
    assert "(16 characters, not shown)" in shown
    for visible in (str(offer.ticket_id), str(EVENT), "offer_transfer", "settle_payment", "pi_123"):
        assert visible in shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"note": "call Jane"}',
        b'{"userId": "jane@example.org"}',
        b'{"type": "Jane Doe, 12 Long Street"}',
        b"Jane Doe",
        b'"Jane"',
    ],
)
def test_what_might_be_personal_is_not_shown(body: bytes) -> None:
    assert "jane" not in shown_body(body).lower()


def test_numbers_and_times_are_shown() -> None:
    body = {"seatCount": 3, "amount": "45.00", "heldUntil": "2026-05-01T10:00:00Z", "done": True, "tickets": [None]}
    assert json.loads(shown_body(json.dumps(body).encode())) == body


def test_a_reason_shows_no_address_and_no_values() -> None:
    reason = (
        'UniqueViolationError: duplicate key "users_email"\nDETAIL:  Key (email)=(jane@example.org) already exists.'
    )
    assert shown_reason(reason) == 'UniqueViolationError: duplicate key "users_email"'
    assert shown_reason("no mailbox for <jane@example.org>") == "no mailbox for <…@…>"
