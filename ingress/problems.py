"""Which noes can a route give, and how do they look?

Its own, and those that follow from what it is: whoever counts requests can say "too many", whoever reads a body can say
that it cannot be read. For the documentation and the tests; the noes themselves are made in `responses`.
"""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Any

from pydantic import AwareDatetime, Field

from contracts.ids import OrderId, SeatId
from contracts.rejections import WHAT_TO_DO, RejectionCode
from contracts.value import Value
from ingress.operation import Access, Operation
from ingress.responses import (
    RETRY_AFTER,
    STATUS_OF_PROBLEM,
    STATUS_OF_REJECTION,
    WHAT_TO_DO_ABOUT,
    Code,
    ProblemCode,
)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

STATUS_OF: dict[Code, HTTPStatus] = dict(
    chain[tuple[Code, HTTPStatus]](STATUS_OF_REJECTION.items(), STATUS_OF_PROBLEM.items())
)
ADVICE: dict[Code, str] = dict(chain[tuple[Code, str]](WHAT_TO_DO.items(), WHAT_TO_DO_ABOUT.items()))

# Whatever is asked, and however: of these an operation need say nothing.
ALWAYS = (
    ProblemCode.MALFORMED_REQUEST,
    ProblemCode.URI_TOO_LONG,
    ProblemCode.HEADERS_TOO_LARGE,
    ProblemCode.INTERNAL_ERROR,
    ProblemCode.UNAVAILABLE,
)
COUNTED = (ProblemCode.RATE_LIMITED, ProblemCode.BUSY)
WITH_BODY = (
    ProblemCode.INVALID_JSON,
    ProblemCode.INVALID_REQUEST,
    ProblemCode.REQUEST_TIMEOUT,
    ProblemCode.LENGTH_REQUIRED,
    ProblemCode.BODY_TOO_LARGE,
)
# An unsafe request without a body of its own (logout) may still be sent one.
UNSAFE = (ProblemCode.CROSS_SITE_REQUEST, ProblemCode.UNSUPPORTED_MEDIA_TYPE)
KEYED = (ProblemCode.INVALID_REQUEST, RejectionCode.IDEMPOTENCY_KEY_REUSED)
# What the sale, and the way there, can say to any command of a buyer.
ASKED = (
    ProblemCode.INVALID_REQUEST,
    ProblemCode.NOT_ON_SALE,
    ProblemCode.BUSY,
    RejectionCode.EVENT_UNKNOWN,
    RejectionCode.IDEMPOTENCY_KEY_REUSED,
    RejectionCode.STILL_IN_PROGRESS,
    RejectionCode.DEADLINE_PASSED,
    RejectionCode.NOT_PROCESSED,
)


def _empty(member: Any) -> bool:
    return not member


class Mistake(Value):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="which member of the body or parameter, as a JSON Pointer; empty for the whole")
    message: str


class Problem(Value):
    """A "no" (RFC 9457). Decide by `code`: it is stable; the texts are for people and may change."""

    type: str = Field(description="where this code is explained, relative to this server")
    title: str
    status: int
    code: str
    what_to_do: str
    detail: str = Field("", exclude_if=_empty, description="what was the matter this time, where there is more to say")
    errors: tuple[Mistake, ...] = Field(
        (), exclude_if=_empty, description="with invalid_request: what is wrong, at most 20"
    )
    seat_ids: tuple[SeatId, ...] = Field((), exclude_if=_empty, description="the seats the refusal speaks of")
    order_id: OrderId | None = Field(None, exclude_if=_empty, description="the order the refusal speaks of")
    held_until: AwareDatetime | None = Field(
        None, exclude_if=_empty, description="how long the seats are held all the same"
    )


def codes_of(operation: Operation, *, method: str, path: str) -> list[Code]:
    """Every code a request to this route can be answered with, by status and then in the order they were named."""
    found = dict.fromkeys([*operation.refusals, *_that_follow(operation, method=method, path=path)])
    return sorted(found, key=lambda code: STATUS_OF[code])


def retry_makes_sense(code: Code) -> bool:
    """Whether the answer says after how many seconds."""
    return code in RETRY_AFTER or STATUS_OF[code] in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def table_of_codes() -> dict[str, dict[str, Any]]:
    """Every code there is: its status, what a client should do, and whether Retry-After says when."""
    return {
        code.value: {"status": int(status), "whatToDo": ADVICE[code], "retryAfter": retry_makes_sense(code)}
        for code, status in sorted(STATUS_OF.items(), key=lambda item: (item[1], item[0]))
    }


def _that_follow(operation: Operation, *, method: str, path: str) -> Iterator[Code]:
    yield from ALWAYS
    if operation.bucket is not None:
        yield from COUNTED
    if operation.access is not Access.ANYONE:
        yield ProblemCode.UNAUTHENTICATED
    if operation.access in (Access.SCANNER, Access.ADMIN):
        yield ProblemCode.FORBIDDEN
    if operation.body is not None:
        yield from WITH_BODY
    if method not in SAFE_METHODS:
        yield from UNSAFE
    if operation.query is not None:
        yield ProblemCode.INVALID_REQUEST
    if "<" in path:
        yield ProblemCode.NOT_FOUND
    if operation.guarded:
        yield ProblemCode.CHANGED_MEANWHILE
    if operation.keyed:
        yield from KEYED
    if operation.asks:
        yield from ASKED
