"""What does a route take, what does it answer, and who may ask?

Said once, above the handler; the OpenAPI document, the page of it, the matrix of who may do what and the fuzzer of the
tests are all made from it.

    @seats.post("/seats/reserve")
    @operation(
        access=Access.USER,
        bucket=Bucket.RESERVE,
        body=ReserveRequest,
        answers={HTTPStatus.CREATED: SeatsReserved, HTTPStatus.ACCEPTED: Pending},
        refusals=(RejectionCode.SEATS_UNAVAILABLE, ...),
    )
    async def reserve_seats(request: Request) -> HTTPResponse:
        \"\"\"Set seats aside for ten minutes.\"\"\"
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel

from db.rate_limits import Bucket
from ingress.responses import Code

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Access(StrEnum):
    """Who may ask. Whoever may not is answered 401 (nobody), 404 (not the owner) or 403 (no administrator, or no scanner)."""

    ANYONE = "anyone"
    USER = "user"
    OWNER = "owner"
    SCANNER = "scanner"
    ADMIN = "admin"


@dataclass(frozen=True)
class Content:
    """A body that is no JSON of one model: its media type, what is in it, and, of a stream, the frames that come in it."""

    media_type: str
    description: str
    frames: tuple[type[BaseModel], ...] = ()


# What an answer of some status carries: JSON of a model or of one of several, something else, or nothing.
Body = type[BaseModel] | tuple[type[BaseModel], ...] | Content | None


@dataclass(frozen=True)
class Operation:
    """A route's side of the contract. What the gate, the parser and the bus can answer need not be named: they are added
    from `access`, `bucket`, `body` and `asks`."""

    access: Access
    bucket: Bucket | None
    answers: Mapping[HTTPStatus, Body]
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    refusals: Sequence[Code] = ()
    # True for routes that send a command and wait: they may also answer 202, and 503 when the sale is busy.
    asks: bool = False
    # True where the answer has an ETag and If-None-Match is answered 304.
    cached: bool = False
    # True where If-Match is honoured.
    guarded: bool = False
    # True where an Idempotency-Key is honoured; routes that ask a command do so anyway.
    keyed: bool = False
    # Headers of the answers that say yes, beyond those that follow from the fields above, and what each says.
    headers: Mapping[str, str] = field(default_factory=dict)
    # Example bodies of the request, by a word for each; the tests send them.
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def operation(
    *,
    access: Access,
    answers: Mapping[HTTPStatus, Body],
    bucket: Bucket | None = None,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    refusals: Sequence[Code] = (),
    asks: bool = False,
    cached: bool = False,
    guarded: bool = False,
    keyed: bool = False,
    headers: Mapping[str, str] | None = None,
    examples: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Handler], Handler]:
    """Attach an Operation to a route's handler; put it below the route decorator."""
    described = Operation(
        access=access,
        bucket=bucket,
        answers=answers,
        body=body,
        query=query,
        refusals=refusals,
        asks=asks,
        cached=cached,
        guarded=guarded,
        keyed=keyed,
        headers=headers or {},
        examples=examples or {},
    )

    def attach(handler: Handler) -> Handler:
        handler.operation = described  # type: ignore[attr-defined]
        return handler

    return attach


def operation_of(handler: Callable[..., Any]) -> Operation | None:
    """What was attached to this handler, if anything was."""
    found: Operation | None = getattr(handler, "operation", None)
    return found
