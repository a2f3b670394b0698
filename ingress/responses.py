"""How is each answer put into HTTP?

One table from code to status. Every "no" is an RFC 9457 problem with a stable `code` and what to do next; every answer,
whatever it says, carries the security headers.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from sanic import HTTPResponse

from contracts.rejections import WHAT_TO_DO, RejectionCode
from contracts.replies import Rejected
from contracts.value import Value
from ingress.request_context import identity_line

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"


class ProblemCode(StrEnum):
    """The ways in which the ingress itself says no. With `RejectionCode`, every `code` a client can meet."""

    UNAUTHENTICATED = "unauthenticated"
    WRONG_CREDENTIALS = "wrong_credentials"
    FORBIDDEN = "forbidden"
    CROSS_SITE_REQUEST = "cross_site_request"
    MALFORMED_REQUEST = "malformed_request"
    REQUEST_TIMEOUT = "request_timeout"
    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    BODY_TOO_LARGE = "body_too_large"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    METHOD_UNKNOWN = "method_unknown"
    LENGTH_REQUIRED = "length_required"
    URI_TOO_LONG = "uri_too_long"
    HEADERS_TOO_LARGE = "headers_too_large"
    VENUE_UNKNOWN = "venue_unknown"
    ACCOUNT_UNKNOWN = "account_unknown"
    CHANGED_MEANWHILE = "changed_meanwhile"
    NOT_CHANGEABLE = "not_changeable"
    TOO_MANY_STREAMS = "too_many_streams"
    EMAIL_TAKEN = "email_taken"
    NOT_ON_SALE = "not_on_sale"
    NO_WAITING_ROOM = "no_waiting_room"
    ROOM_CLOSED = "room_closed"
    ROOM_RESTORING = "room_restoring"
    PLACE_UNKNOWN = "place_unknown"
    PLACE_GONE = "place_gone"
    NOT_YOUR_TURN = "not_your_turn"
    SECRET_WRONG = "secret_wrong"  # noqa: S105 -- a code, and no password
    NOT_NEAR_THE_HEAD = "not_near_the_head"
    TOO_EARLY = "too_early"
    CHALLENGE_REQUIRED = "challenge_required"
    CHALLENGE_FAILED = "challenge_failed"
    CHALLENGE_SPENT = "challenge_spent"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    INTERNAL_ERROR = "internal_error"


Code = RejectionCode | ProblemCode

STATUS_OF_REJECTION: dict[RejectionCode, HTTPStatus] = {
    # 404: the thing asked for is not there, or not yours, which must look the same.
    RejectionCode.EVENT_UNKNOWN: HTTPStatus.NOT_FOUND,
    RejectionCode.HOLD_UNKNOWN: HTTPStatus.NOT_FOUND,
    RejectionCode.ORDER_UNKNOWN: HTTPStatus.NOT_FOUND,
    RejectionCode.TICKET_UNKNOWN: HTTPStatus.NOT_FOUND,
    RejectionCode.TRANSFER_UNKNOWN: HTTPStatus.NOT_FOUND,
    RejectionCode.RESALE_UNKNOWN: HTTPStatus.NOT_FOUND,
    RejectionCode.NOT_ON_WAITING_LIST: HTTPStatus.NOT_FOUND,
    # 403: understood, and asking again in another way does not help.
    RejectionCode.SALE_NOT_OPEN: HTTPStatus.FORBIDDEN,
    RejectionCode.SALE_CLOSED: HTTPStatus.FORBIDDEN,
    RejectionCode.NOT_OFFERED: HTTPStatus.FORBIDDEN,
    RejectionCode.NOT_ADMITTED: HTTPStatus.FORBIDDEN,
    RejectionCode.CODE_NEEDED: HTTPStatus.FORBIDDEN,
    RejectionCode.TRANSFERS_CLOSED: HTTPStatus.FORBIDDEN,
    RejectionCode.REFUNDS_CLOSED: HTTPStatus.FORBIDDEN,
    RejectionCode.RESALES_CLOSED: HTTPStatus.FORBIDDEN,
    # 410: it was there, and will not come back.
    RejectionCode.EVENT_CANCELLED: HTTPStatus.GONE,
    RejectionCode.HOLD_EXPIRED: HTTPStatus.GONE,
    RejectionCode.HOLD_RELEASED: HTTPStatus.GONE,
    RejectionCode.TRANSFER_ENDED: HTTPStatus.GONE,
    RejectionCode.RESALE_ENDED: HTTPStatus.GONE,
    RejectionCode.TICKET_NOT_VALID: HTTPStatus.GONE,
    # 409: a sound request that the present state stands against; a changed choice or a changed state may pass. The ticket
    # limit is one of these: the same request passes once a hold is released.
    RejectionCode.SEATS_UNAVAILABLE: HTTPStatus.CONFLICT,
    RejectionCode.NOT_ENOUGH_SEATS: HTTPStatus.CONFLICT,
    RejectionCode.TICKET_LIMIT_EXCEEDED: HTTPStatus.CONFLICT,
    RejectionCode.TOO_MANY_HOLDS: HTTPStatus.CONFLICT,
    RejectionCode.HOLD_IN_PAYMENT: HTTPStatus.CONFLICT,
    RejectionCode.HOLD_ALREADY_PAID: HTTPStatus.CONFLICT,
    RejectionCode.HOLD_CEILING_REACHED: HTTPStatus.CONFLICT,
    RejectionCode.ORDER_CANCELLED: HTTPStatus.CONFLICT,
    RejectionCode.ORDER_NOT_REFUNDABLE: HTTPStatus.CONFLICT,
    RejectionCode.STILL_IN_PROGRESS: HTTPStatus.CONFLICT,
    RejectionCode.CODE_USED_UP: HTTPStatus.CONFLICT,
    RejectionCode.CODE_ALREADY_APPLIED: HTTPStatus.CONFLICT,
    RejectionCode.TICKET_CHECKED_IN: HTTPStatus.CONFLICT,
    RejectionCode.TICKET_ON_OFFER: HTTPStatus.CONFLICT,
    RejectionCode.RESALE_IN_CHECKOUT: HTTPStatus.CONFLICT,
    RejectionCode.WAITING_LIST_NOT_NEEDED: HTTPStatus.CONFLICT,
    # 422: the content itself is wrong and will stay so (the Idempotency-Key draft asks for 422 too).
    RejectionCode.SEATS_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.IDEMPOTENCY_KEY_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.CODE_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.TIER_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.TRANSFER_TO_YOURSELF: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.RESALE_PRICE_TOO_HIGH: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.PRICE_NOT_PAYABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    RejectionCode.PAYMENT_DECLINED: HTTPStatus.PAYMENT_REQUIRED,
    # 503: nothing happened, and the same request may pass in a moment.
    RejectionCode.PAYMENT_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    RejectionCode.DEADLINE_PASSED: HTTPStatus.SERVICE_UNAVAILABLE,
    RejectionCode.ADMISSION_UNKNOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    # 500: our mistake; it is parked with its reason.
    RejectionCode.NOT_PROCESSED: HTTPStatus.INTERNAL_SERVER_ERROR,
}

STATUS_OF_PROBLEM: dict[ProblemCode, HTTPStatus] = {
    ProblemCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ProblemCode.WRONG_CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    ProblemCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ProblemCode.CROSS_SITE_REQUEST: HTTPStatus.FORBIDDEN,
    ProblemCode.MALFORMED_REQUEST: HTTPStatus.BAD_REQUEST,
    ProblemCode.REQUEST_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    ProblemCode.INVALID_JSON: HTTPStatus.BAD_REQUEST,
    ProblemCode.INVALID_REQUEST: HTTPStatus.UNPROCESSABLE_ENTITY,
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ProblemCode.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ProblemCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ProblemCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ProblemCode.METHOD_UNKNOWN: HTTPStatus.NOT_IMPLEMENTED,
    ProblemCode.LENGTH_REQUIRED: HTTPStatus.LENGTH_REQUIRED,
    ProblemCode.URI_TOO_LONG: HTTPStatus.REQUEST_URI_TOO_LONG,
    ProblemCode.HEADERS_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ProblemCode.VENUE_UNKNOWN: HTTPStatus.NOT_FOUND,
    ProblemCode.ACCOUNT_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    ProblemCode.CHANGED_MEANWHILE: HTTPStatus.PRECONDITION_FAILED,
    ProblemCode.NOT_CHANGEABLE: HTTPStatus.CONFLICT,
    ProblemCode.TOO_MANY_STREAMS: HTTPStatus.TOO_MANY_REQUESTS,
    ProblemCode.EMAIL_TAKEN: HTTPStatus.CONFLICT,
    ProblemCode.NOT_ON_SALE: HTTPStatus.CONFLICT,
    ProblemCode.NO_WAITING_ROOM: HTTPStatus.NOT_FOUND,
    ProblemCode.ROOM_CLOSED: HTTPStatus.CONFLICT,
    ProblemCode.ROOM_RESTORING: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.PLACE_UNKNOWN: HTTPStatus.NOT_FOUND,
    ProblemCode.PLACE_GONE: HTTPStatus.GONE,
    ProblemCode.NOT_YOUR_TURN: HTTPStatus.CONFLICT,
    ProblemCode.SECRET_WRONG: HTTPStatus.FORBIDDEN,
    ProblemCode.NOT_NEAR_THE_HEAD: HTTPStatus.CONFLICT,
    ProblemCode.TOO_EARLY: HTTPStatus.TOO_MANY_REQUESTS,
    ProblemCode.CHALLENGE_REQUIRED: HTTPStatus.FORBIDDEN,
    ProblemCode.CHALLENGE_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ProblemCode.CHALLENGE_SPENT: HTTPStatus.CONFLICT,
    ProblemCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ProblemCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}

WHAT_TO_DO_ABOUT: dict[ProblemCode, str] = {
    ProblemCode.UNAUTHENTICATED: "Log in, then repeat the request with the session cookie.",
    ProblemCode.WRONG_CREDENTIALS: "Check the e-mail address and the password.",
    ProblemCode.FORBIDDEN: "Ask somebody who may.",
    ProblemCode.CROSS_SITE_REQUEST: "Send the request from our own site, or from a program that sends no Origin.",
    ProblemCode.MALFORMED_REQUEST: "Send HTTP/1.1 as RFC 9112 describes it.",
    ProblemCode.REQUEST_TIMEOUT: "Send the whole request at once.",
    ProblemCode.INVALID_JSON: "Send one JSON object in UTF-8, each key once, without NaN or Infinity.",
    ProblemCode.INVALID_REQUEST: "Correct the fields that `errors` points at.",
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: "Send the body with Content-Type: application/json.",
    ProblemCode.BODY_TOO_LARGE: "Send less.",
    ProblemCode.NOT_FOUND: "Check the address.",
    ProblemCode.METHOD_NOT_ALLOWED: "Use one of the methods in Allow.",
    ProblemCode.METHOD_UNKNOWN: "Use a method of RFC 9110.",
    ProblemCode.LENGTH_REQUIRED: "Send the body with Content-Length; Transfer-Encoding is not taken.",
    ProblemCode.URI_TOO_LONG: "Ask with fewer or shorter parameters.",
    ProblemCode.HEADERS_TOO_LARGE: "Send fewer or shorter headers.",
    ProblemCode.VENUE_UNKNOWN: "Check the venue id.",
    ProblemCode.ACCOUNT_UNKNOWN: "Check the e-mail address; whoever has it must register first.",
    ProblemCode.CHANGED_MEANWHILE: "Load it again and repeat your change with the new ETag in If-Match.",
    ProblemCode.NOT_CHANGEABLE: "Leave the named fields as they are; too much depends on them by now.",
    ProblemCode.TOO_MANY_STREAMS: "Close a stream of this address, or poll the availability instead.",
    ProblemCode.EMAIL_TAKEN: "Log in, or register with another address.",
    ProblemCode.NOT_ON_SALE: "Check the event's dates; nothing is sold for it now.",
    ProblemCode.NO_WAITING_ROOM: "Reserve seats directly; nobody has to wait for this event.",
    ProblemCode.ROOM_CLOSED: "Nobody can join or be let in now; look at the room's snapshot to see how it stands.",
    ProblemCode.ROOM_RESTORING: "Your place is kept and is being restored; ask again after Retry-After.",
    ProblemCode.PLACE_UNKNOWN: "Join the waiting room; if your account has a place already, you get that one.",
    ProblemCode.PLACE_GONE: "This place is over, and `detail` says why; join again for a new one while the room is open.",
    ProblemCode.NOT_YOUR_TURN: "Keep asking for your position, and claim when its state is `ready`.",
    ProblemCode.SECRET_WRONG: "Send the secret whose SHA-256 you joined with; if it is lost, join again on this device: the"
    " place stays yours.",
    ProblemCode.NOT_NEAR_THE_HEAD: "Ask for your position after Retry-After; streams are for the head of the line.",
    ProblemCode.TOO_EARLY: "Wait for Retry-After; asking more often changes nothing about your place.",
    ProblemCode.CHALLENGE_REQUIRED: "Get the room's challenge, solve it or wait as long as it says, and send it along.",
    ProblemCode.CHALLENGE_FAILED: "Get a new challenge; this one is not ours, not yours, not solved, or too old.",
    ProblemCode.CHALLENGE_SPENT: "Get a new challenge; each counts once.",
    ProblemCode.RATE_LIMITED: "Wait for Retry-After, then go on more slowly.",
    ProblemCode.BUSY: "Nothing happened; try again after Retry-After.",
    ProblemCode.UNAVAILABLE: "Nothing happened as far as we know; repeat with the same Idempotency-Key after Retry-After.",
    ProblemCode.INTERNAL_ERROR: "Our mistake. Repeat with the same Idempotency-Key; tell us if it persists.",
}


def _in_one_to_three_seconds() -> int:
    # Spread, so that those who were turned away together do not come back together.
    return random.randint(1, 3)  # noqa: S311 -- spreads load, guards nothing


# Seconds after which trying again makes sense, where that is known beforehand.
RETRY_AFTER: dict[Code, Callable[[], int]] = {
    RejectionCode.STILL_IN_PROGRESS: lambda: 1,
    RejectionCode.DEADLINE_PASSED: _in_one_to_three_seconds,
    RejectionCode.PAYMENT_UNAVAILABLE: lambda: 5,
    # Whoever has the seat in his hands pays within minutes, or loses it.
    RejectionCode.RESALE_IN_CHECKOUT: lambda: 5,
    # By then the engine asks the room again.
    RejectionCode.ADMISSION_UNKNOWN: lambda: 2,
    ProblemCode.ROOM_RESTORING: _in_one_to_three_seconds,
    ProblemCode.BUSY: _in_one_to_three_seconds,
    ProblemCode.UNAVAILABLE: lambda: 5,
}


class Answer(HTTPResponse):
    """Sanic's response with the security headers; use it, or the functions below, for everything that is answered."""

    __slots__ = ()

    @property
    def processed_headers(self) -> Iterator[tuple[bytes, bytes]]:
        """This answer's own headers, then those of every answer and those of this asker's limits (already encoded)."""
        own = self.headers
        if self.content_type is not None:
            own.setdefault("content-type", self.content_type)
        for name, value in own.items():
            text = str(value)
            # What cannot be printed may end the header and begin another: Sanic's sanitizer takes CR, LF and NUL out.
            safe = text if text.isprintable() else self._sanitize_header_value(text)
            yield name.encode("ascii"), safe.encode(errors="surrogateescape")
        if self.stream is not None:
            stream: Any = self.stream
            yield from _shared_lines(stream.request, own)

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        """Send it; a process that is on its way out lets go of the connection after this answer."""
        stream: Any = self.stream
        if stream is not None and stream.request.app.ctx.draining:
            stream.keep_alive = False
        await super().send(data, end_stream)


def _shared_lines(request: Any, own: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    everywhere = request.app.ctx
    yield from everywhere.security_headers.without(own)
    yield from everywhere.origins.lines_for(request)
    yield identity_line(request, is_shared=own.get("cache-control", "").startswith("public"))
    # Put there by the gate, for whatever is answered after it.
    rate_limit = getattr(request.ctx, "rate_limit", None)
    if rate_limit is not None:
        yield rate_limit


class Refusal(Exception):
    """The answer is this "no"; the error handler sends it. For helpers that a route calls in its first lines."""

    def __init__(self, response: HTTPResponse) -> None:
        super().__init__(response.status)
        self.response = response


def json_response(
    value: BaseModel | bytes, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> HTTPResponse:
    """A value, or JSON that is encoded already."""
    body = value if isinstance(value, bytes) else value.model_dump_json(by_alias=True).encode()
    return Answer(body, int(status), _copied(headers), JSON)


def empty_response(
    status: HTTPStatus = HTTPStatus.NO_CONTENT, headers: Mapping[str, str] | None = None
) -> HTTPResponse:
    """An answer that says all it has to say by its status."""
    return Answer(None, int(status), _copied(headers))


def problem(code: Code, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: Any) -> HTTPResponse:
    """The RFC 9457 problem of that code; `members` are extension members, camelCase, of plain JSON values."""
    own = dict(headers) if headers else {}
    if code in RETRY_AFTER:
        own.setdefault("retry-after", str(RETRY_AFTER[code]()))
    if _STATUSES[code] == HTTPStatus.UNAUTHORIZED:
        # RFC 9110 15.5.2 wants a challenge; there is no registered scheme for a session cookie.
        own.setdefault("www-authenticate", "Cookie")
    if detail:
        members["detail"] = detail
    body = _PROBLEMS[code]
    if members:
        body = body[:-1] + b"," + json.dumps(members, separators=(",", ":")).encode()[1:]
    return Answer(body, _STATUSES[code], own, PROBLEM_JSON)


def reply_response(reply: Value, *, accepted: HTTPStatus, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """What the sale answered: the value itself with the status `accepted`, or the problem of its rejection."""
    if not isinstance(reply, Rejected):
        return json_response(reply, accepted, headers)
    members: dict[str, Any] = {}
    if reply.seat_ids:
        members["seatIds"] = [str(seat_id) for seat_id in reply.seat_ids]
    if reply.order_id is not None:
        members["orderId"] = str(reply.order_id)
    if reply.held_until is not None:
        members["heldUntil"] = reply.held_until.isoformat()
    return problem(reply.code, reply.detail, headers=headers, **members)


def _copied(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    # Sanic writes the content length and more into the mapping it is given.
    return dict(headers) if headers else None


def _encoded_problem(code: Code, status: HTTPStatus, what_to_do: str) -> bytes:
    members = {
        "type": f"/problems/{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": int(status),
        "code": code,
        "whatToDo": what_to_do,
    }
    return json.dumps(members, separators=(",", ":")).encode()


# A sale that is fought over says the same few noes ten thousand times a second: their bytes are made once.
_STATUSES: dict[Code, int] = {
    code: int(status) for table in (STATUS_OF_REJECTION, STATUS_OF_PROBLEM) for code, status in table.items()
}
_PROBLEMS: dict[Code, bytes] = {
    **{code: _encoded_problem(code, status, WHAT_TO_DO[code]) for code, status in STATUS_OF_REJECTION.items()},
    **{code: _encoded_problem(code, status, WHAT_TO_DO_ABOUT[code]) for code, status in STATUS_OF_PROBLEM.items()},
}
