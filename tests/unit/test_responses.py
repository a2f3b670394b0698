"""One table from every "no" to its status, and answers that say enough."""

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
from sanic import HTTPResponse

from contracts.ids import HoldId, OrderId, SeatId
from contracts.rejections import WHAT_TO_DO, RejectionCode
from contracts.replies import Rejected, SeatsReleased
from ingress.responses import (
    RETRY_AFTER,
    STATUS_OF_PROBLEM,
    STATUS_OF_REJECTION,
    WHAT_TO_DO_ABOUT,
    Answer,
    ProblemCode,
    empty_response,
    json_response,
    problem,
    reply_response,
)
from ingress.security_headers import SECURITY_HEADERS, EncodedHeaders, security_headers

EVERY_CODE = [*RejectionCode, *ProblemCode]


def content_of(response: HTTPResponse) -> Any:
    return json.loads(response.body or b"")


def test_every_no_has_a_status_and_an_advice() -> None:
    assert set(STATUS_OF_REJECTION) == set(RejectionCode)
    assert set(STATUS_OF_PROBLEM) == set(ProblemCode) == set(WHAT_TO_DO_ABOUT)
    assert all(status >= HTTPStatus.BAD_REQUEST for status in (STATUS_OF_REJECTION | STATUS_OF_PROBLEM).values())


def test_no_code_means_two_things() -> None:
    assert len({code.value for code in EVERY_CODE}) == len(EVERY_CODE)


@pytest.mark.parametrize("code", EVERY_CODE)
def test_a_problem_is_one_of_rfc_9457(code: RejectionCode | ProblemCode) -> None:
    response = problem(code)
    content = content_of(response)
    assert response.content_type == "application/problem+json"
    assert content["type"] == f"/problems/{code.value}"
    assert content["code"] == code.value
    assert content["status"] == response.status
    assert content["title"]
    assert content["whatToDo"].endswith(".")


@pytest.mark.parametrize("code", EVERY_CODE)
def test_whoever_may_try_again_is_told_when(code: RejectionCode | ProblemCode) -> None:
    response = problem(code)
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        assert code in RETRY_AFTER
    assert ("retry-after" in response.headers) == (code in RETRY_AFTER)
    if code in RETRY_AFTER:
        assert 1 <= int(response.headers["retry-after"]) <= 5


def test_busy_clients_are_not_sent_back_all_at_once() -> None:
    assert {problem(ProblemCode.BUSY).headers["retry-after"] for _ in range(200)} == {"1", "2", "3"}


def test_a_401_names_a_challenge() -> None:
    assert problem(ProblemCode.UNAUTHENTICATED).headers["www-authenticate"] == "Cookie"


def test_a_problem_says_more_where_there_is_more() -> None:
    response = problem(ProblemCode.RATE_LIMITED, "twenty a minute", headers={"retry-after": "3"}, waiting=[1, "ä"])
    assert content_of(response)["detail"] == "twenty a minute"
    assert content_of(response)["waiting"] == [1, "ä"]
    assert response.headers["retry-after"] == "3"


def test_problems_do_not_share_their_members() -> None:
    problem(ProblemCode.NOT_FOUND, "the first", extra=1)
    assert set(content_of(problem(ProblemCode.NOT_FOUND))) == {"type", "title", "status", "code", "whatToDo"}


def test_a_rejection_becomes_its_problem() -> None:
    seat_ids = (SeatId(uuid4()), SeatId(uuid4()))
    held_until = datetime(2031, 1, 1, tzinfo=UTC)
    order_id = OrderId(uuid4())
    rejected = Rejected(
        code=RejectionCode.SEATS_UNAVAILABLE, seat_ids=seat_ids, order_id=order_id, held_until=held_until, detail="gone"
    )
    response = reply_response(rejected, accepted=HTTPStatus.CREATED)
    content = content_of(response)
    assert response.status == HTTPStatus.CONFLICT
    assert content["seatIds"] == [str(seat_id) for seat_id in seat_ids]
    assert content["orderId"] == str(order_id)
    assert datetime.fromisoformat(content["heldUntil"]) == held_until
    assert content["detail"] == "gone"
    assert content["whatToDo"] == WHAT_TO_DO[RejectionCode.SEATS_UNAVAILABLE]


def test_any_other_reply_is_the_answer() -> None:
    hold_id = HoldId(uuid4())
    response = reply_response(SeatsReleased(hold_id=hold_id), accepted=HTTPStatus.OK, headers={"x-a": "b"})
    assert (response.status, response.content_type) == (HTTPStatus.OK, "application/json")
    assert content_of(response) == {"type": "seats_released", "holdId": str(hold_id)}
    assert response.headers["x-a"] == "b"


def test_bytes_are_taken_as_they_are() -> None:
    assert json_response(b'{"a":1}').body == b'{"a":1}'


def test_headers_given_to_an_answer_are_not_written_into() -> None:
    headers = {"location": "/api/commands/1"}
    json_response(b"{}", HTTPStatus.ACCEPTED, headers).headers["x-more"] = "1"
    assert headers == {"location": "/api/commands/1"}


def test_a_line_break_in_a_header_begins_no_other_header() -> None:
    answer = Answer(b"", 200, {"location": "/a\r\nset-cookie: session=b"}, "application/json")
    lines = dict(answer.processed_headers)
    assert lines[b"location"] == b"/aset-cookie: session=b"


def test_an_answer_without_content_has_no_content_type() -> None:
    assert dict(empty_response().processed_headers) == {}


def test_the_security_headers_are_written_once_each() -> None:
    pairs = EncodedHeaders(SECURITY_HEADERS).without({})
    lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs).decode().splitlines()
    assert sorted(lines) == sorted(f"{name}: {value}" for name, value in SECURITY_HEADERS.items())


def test_a_header_of_the_answer_replaces_the_constant_one() -> None:
    pairs = EncodedHeaders(SECURITY_HEADERS).without({"cache-control": "max-age=60"})
    lines = b"\r\n".join(b"%b: %b" % pair for pair in pairs).split(b"\r\n")
    names = [line.partition(b":")[0].decode() for line in lines]
    assert sorted(names) == sorted(SECURITY_HEADERS.keys() - {"cache-control"})


@pytest.mark.parametrize(("public_url", "insists"), [("https://tickets.example", True), ("http://127.0.0.1:1", False)])
def test_only_an_encrypted_site_insists_on_encryption(public_url: str, insists: bool) -> None:
    assert ("strict-transport-security" in security_headers(public_url)) == insists
