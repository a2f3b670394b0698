"""Strict JSON: what is let through, what is refused, and what the client is told."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field

from ingress.request_body import RequestModel, parse_json
from ingress.responses import Refusal


class BestSeats(RequestModel):
    count: int = Field(ge=1, le=6)
    section: str | None = None


class Wish(RequestModel):
    event_id: UUID
    seat_ids: tuple[UUID, ...] = Field((), max_length=6)
    best_available: BestSeats | None = None


EVENT_ID = uuid4()


def body_of(**members: Any) -> bytes:
    return json.dumps({"eventId": str(EVENT_ID)} | members).encode()


def refusal_of(body: bytes) -> dict[str, Any]:
    with pytest.raises(Refusal) as refusal:
        parse_json(body, Wish)
    response = refusal.value.response
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.body or b"")
    assert problem["status"] == response.status
    return problem


def test_a_sound_body_becomes_the_model() -> None:
    seat_ids = (uuid4(), uuid4())
    wish = parse_json(body_of(seatIds=[str(seat_id) for seat_id in seat_ids]), Wish)
    assert (wish.event_id, wish.seat_ids) == (EVENT_ID, seat_ids)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b'{"eventId": NaN}', id="NaN"),
        pytest.param(b'{"eventId": -Infinity}', id="Infinity"),
        pytest.param(b'{"eventId": "a", "eventId": "a"}', id="a key twice"),
        pytest.param(b'{"eventId": "a", "event\\u0049d": "a"}', id="a key twice, once escaped"),
        pytest.param(b'{"bestAvailable": {"count": 1, "count": 6}}', id="a key twice, deeper"),
        pytest.param(b'{"eventId": "\\u0000"}', id="NUL"),
        pytest.param(b'{"eventId": "\\\\\\u0000"}', id="NUL after a backslash"),
        pytest.param(b'{"eventId": "\xff"}', id="not UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"eventId": "a"}', id="a byte order mark"),
        pytest.param(b'{"eventId": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"eventId": "a\nb"}', id="a raw line break"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 20_000 + b"1" + b"}" * 20_000, id="deep and closed"),
        pytest.param(b'{"eventId": ' + b"9" * 5000 + b"}", id="five thousand digits"),
    ],
)
def test_what_is_not_strict_json_is_invalid_json(body: bytes) -> None:
    problem = refusal_of(body)
    assert (problem["status"], problem["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"eventId": "not an id"}, "/eventId"),
        ({"eventId": 7}, "/eventId"),
        ({"seatIds": ["not an id"]}, "/seatIds/0"),
        ({"seatIds": [str(EVENT_ID)] * 7}, "/seatIds"),
        ({"seatIds": {}}, "/seatIds"),
        ({"bestAvailable": {"count": "3"}}, "/bestAvailable/count"),
        ({"bestAvailable": {"count": True}}, "/bestAvailable/count"),
        ({"bestAvailable": {"count": 1.5}}, "/bestAvailable/count"),
        ({"bestAvailable": {"count": 10**30}}, "/bestAvailable/count"),
        ({"event_id": str(EVENT_ID)}, "/event_id"),
        ({"userId": str(EVENT_ID)}, "/userId"),
        ({"a/b~c": 1}, "/a~1b~0c"),
    ],
)
def test_what_does_not_fit_the_model_is_pointed_at(members: dict[str, Any], pointer: str) -> None:
    problem = refusal_of(body_of(**members))
    assert (problem["status"], problem["code"]) == (422, "invalid_request")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert all(error["message"] for error in problem["errors"])


def test_a_number_beyond_all_floats_is_no_number_of_seats() -> None:
    problem = refusal_of(b'{"eventId": "%s", "bestAvailable": {"count": 1e999}}' % str(EVENT_ID).encode())
    assert problem["code"] in {"invalid_request", "invalid_json"}


def test_an_escaped_backslash_before_u0000_is_only_text() -> None:
    wish = parse_json(body_of(bestAvailable={"count": 2, "section": "\\u0000"}), Wish)
    assert wish.best_available is not None
    assert wish.best_available.section == "\\u0000"


def test_the_list_of_errors_is_bounded() -> None:
    problem = refusal_of(body_of(**{f"unknown{number}": 1 for number in range(500)}))
    assert len(problem["errors"]) == 20


def test_what_was_sent_is_not_sent_back() -> None:
    problem = refusal_of(body_of(seatIds=["4242-4242-4242-4242"]))
    assert "4242-4242" not in json.dumps(problem)
