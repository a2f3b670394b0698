"""How does a code make a hold cheaper, and how does an organiser give codes out?"""

import re
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, Field, TypeAdapter, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.codes import CODE_PATTERN, PREFIX_LENGTH_MAX, as_compared
from contracts.commands import CODE_LENGTH_MAX, ApplyCode
from contracts.house import SECTIONS_MAX, SectionName
from contracts.ids import EventId, HoldId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import HoldRepriced
from contracts.value import Value
from db.codes import (
    Code,
    CodesNotMade,
    CodeTerms,
    CodeUse,
    Made,
    NewCode,
    change_code,
    list_codes,
    make_code,
    make_up_codes,
)
from db.postgres import Pool
from ingress.asking import Pending, answer, ask_fields
from ingress.creations import creation
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admitted, admitted_admin
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, json_response, problem
from ingress.routes.events import CalendarTime, Price

codes = Blueprint("codes", url_prefix="/api")
admin_codes = Blueprint("admin_codes", url_prefix="/api/admin/events/<event_id:uuid>/codes")

# Made in one transaction of some 200 ms, and answered in one megabyte.
CODES_AT_ONCE_MAX = 10_000
USES_MAX = 1_000_000


def _of_letters_and_digits(code: str) -> str:
    if not re.fullmatch(r"[A-Z0-9-]*", code):
        raise ValueError("letters A-Z, digits and hyphens")
    return code


TypedCode = Annotated[str, Field(min_length=1, max_length=CODE_LENGTH_MAX)]
_Compared = Annotated[str, AfterValidator(as_compared), AfterValidator(_of_letters_and_digits)]
_Uses = Annotated[int, Field(ge=1, le=USES_MAX)]
_PLACE: TypeAdapter[tuple[str]] = TypeAdapter(tuple[Annotated[str, Field(pattern=CODE_PATTERN)]])


class CodeRequest(RequestModel):
    """A hold, and the code that is to count for it."""

    event_id: UUID
    hold_id: UUID
    code: TypedCode


class CodeUseRequest(RequestModel):
    """How often and when a code may be used; what is null does not limit it. A use is a hold that is alive or was paid."""

    uses_max: _Uses | None = None
    uses_per_user_max: _Uses | None = None
    valid_from: CalendarTime | None = None
    valid_until: CalendarTime | None = Field(None, description="after validFrom")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.valid_from is not None and self.valid_until is not None and not self.valid_from < self.valid_until:
            raise ValueError("validUntil must be after validFrom")
        return self

    def use(self) -> CodeUse:
        """The same for the database."""
        return CodeUse(self.uses_max, self.uses_per_user_max, self.valid_from, self.valid_until)


class ChangeCodeRequest(CodeUseRequest):
    """The whole of what can be changed of a code. What was reserved with it stays as it is."""

    disabled: bool = False


class MakeCodesRequest(CodeUseRequest):
    """A code, or a batch of codes for one use each, that nobody can guess. It opens the presale, makes seats cheaper (first
    by the percentage, then by the amount), or both."""

    code: Annotated[_Compared, Field(min_length=3, max_length=CODE_LENGTH_MAX)] | None = Field(
        None, description="letters, digits and hyphens; compared in upper case, without blanks"
    )
    count: Annotated[int, Field(ge=1, le=CODES_AT_ONCE_MAX)] | None = Field(
        None, description="so many are made up, for one use each"
    )
    prefix: Annotated[_Compared, Field(max_length=PREFIX_LENGTH_MAX)] = Field(
        "", description="what the codes that are made up begin with, before a hyphen"
    )
    opens_presale: bool = False
    percent_off: Annotated[Decimal, Field(ge=0, le=100, max_digits=5, decimal_places=2)] = Decimal(0)
    amount_off: Price = Field(Decimal(0), description="off each seat, and never below nothing")
    sections: Annotated[
        tuple[SectionName, ...], Field(max_length=SECTIONS_MAX, json_schema_extra={"uniqueItems": True})
    ] = Field((), description="where it counts; nowhere else if there are any, everywhere if there are none")

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if (self.code is None) == (self.count is None):
            raise ValueError("give code or count, one of the two")
        if self.code is not None and not re.fullmatch(CODE_PATTERN, self.code):
            raise ValueError("a code has three characters or more, blanks not counted")
        if self.code is not None and self.prefix:
            raise ValueError("prefix is for codes that are made up")
        if self.count is not None and self.uses_max not in (None, 1):
            raise ValueError("codes that are made up are for one use each")
        return self

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.opens_presale or self.percent_off or self.amount_off):
            raise ValueError("a code opens the presale, or takes something off the price")
        if len(set(self.sections)) != len(self.sections):
            raise ValueError("a section is named twice")
        return self

    def terms(self) -> CodeTerms:
        """The same for the database."""
        return CodeTerms(
            uses_max=self.uses_max if self.count is None else 1,
            uses_per_user_max=self.uses_per_user_max,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            opens_presale=self.opens_presale,
            percent_off=self.percent_off,
            amount_off=self.amount_off,
            sections=self.sections,
        )


class CodesMade(Value):
    """These codes count from now on."""

    event_id: EventId
    codes: tuple[NewCode, ...]


class CodeQuery(QueryModel):
    """Which codes, page by page?"""

    begins_with: Annotated[_Compared, Field(max_length=CODE_LENGTH_MAX)] = Field(
        "", description="only codes that begin like this"
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str, Field(max_length=300)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )


class CodePage(Value):
    """Some codes in the order of the alphabet, and the cursor of the page that follows; null after the last."""

    codes: tuple[Code, ...]
    next_cursor: str | None


_FANS: Mapping[str, Any] = {"count": 100, "prefix": "FANS", "opensPresale": True}
_SPRING: Mapping[str, Any] = {
    "code": "SPRING27",
    "percentOff": "10",
    "usesMax": 500,
    "usesPerUserMax": 1,
    "validUntil": "2027-05-01T00:00:00Z",
}


@codes.post("/seats/code")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=CodeRequest,
    answers={HTTPStatus.OK: HoldRepriced, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        RejectionCode.EVENT_CANCELLED,
        RejectionCode.HOLD_UNKNOWN,
        RejectionCode.HOLD_EXPIRED,
        RejectionCode.HOLD_RELEASED,
        RejectionCode.HOLD_IN_PAYMENT,
        RejectionCode.HOLD_ALREADY_PAID,
        RejectionCode.CODE_UNKNOWN,
        RejectionCode.CODE_USED_UP,
        RejectionCode.CODE_ALREADY_APPLIED,
    ),
    asks=True,
    examples={
        "a hold": {
            "eventId": "0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11",
            "holdId": "6d3f2b1c-9f44-4d3e-a7f5-2f1b5a0c9e22",
            "code": "SPRING27",
        }
    },
)
async def apply_code(request: Request) -> HTTPResponse:
    """Make the seats of a hold cheaper by a code. A hold takes one code, and its time stays as it is."""
    asker = await admitted(request, Bucket.OTHER)
    wanted = read_json(request, CodeRequest)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    command = ApplyCode(
        event_id=EventId(wanted.event_id),
        hold_id=HoldId(wanted.hold_id),
        code=wanted.code,
        **ask_fields(request, user_id=asker.user_id, route="code", deadline_seconds=deadline_seconds),
    )
    return await answer(request, command, user_id=asker.user_id, accepted=HTTPStatus.OK, wait_seconds=deadline_seconds)


@admin_codes.get("")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    query=CodeQuery,
    answers={HTTPStatus.OK: CodePage},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def list_event_codes(request: Request, event_id: UUID) -> HTTPResponse:
    """The event's codes, and how often each has been used so far."""
    await admitted_admin(request, Bucket.OTHER)
    query = read_query(request, CodeQuery)
    after = "" if query.cursor is None else read_cursor(query, query.cursor, _PLACE)[0]
    pool = resources_of(request).pool
    # One more than wanted tells whether another page follows.
    found = await list_codes(
        pool, EventId(event_id), beginning_with=query.begins_with, after=after, limit=query.limit + 1
    )
    if found is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    page = tuple(found[: query.limit])
    next_cursor = write_cursor(query, (page[-1].code,)) if len(found) > query.limit else None
    return json_response(CodePage(codes=page, next_cursor=next_cursor))


@admin_codes.post("")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=MakeCodesRequest,
    answers={HTTPStatus.CREATED: CodesMade},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    keyed=True,
    examples={"a hundred for fans": _FANS, "ten per cent off": _SPRING},
)
async def make_event_codes(request: Request, event_id: UUID) -> HTTPResponse:
    """Give out a code, or a batch of codes for one use each: they count from now on."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, MakeCodesRequest)
    made = Made(*creation(request, user_id=asker.user_id, route=f"make_codes {event_id}"))
    recorded = await _make(resources_of(request).pool, EventId(event_id), made, wanted, by=asker.user_id)
    if isinstance(recorded, str):
        return _not_made(recorded)
    return json_response(CodesMade(event_id=EventId(event_id), codes=tuple(recorded)), HTTPStatus.CREATED)


@admin_codes.put("/<code_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=ChangeCodeRequest,
    answers={HTTPStatus.OK: Code},
    examples={"it counts no more": {"disabled": True}, "another hundred": {"usesMax": 600}},
)
async def change_event_code(request: Request, event_id: UUID, code_id: UUID) -> HTTPResponse:
    """Disable a code, or change how often and when it may be used: send the whole of that. What was reserved with it stays
    as it is."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, ChangeCodeRequest)
    pool = resources_of(request).pool
    changed = await change_code(
        pool, EventId(event_id), code_id, wanted.use(), disabled=wanted.disabled, by=asker.user_id
    )
    return problem(ProblemCode.NOT_FOUND) if changed is None else json_response(changed)


async def _make(
    pool: Pool, event_id: EventId, made: Made, wanted: MakeCodesRequest, *, by: UserId
) -> list[NewCode] | CodesNotMade:
    if wanted.code is not None:
        return await make_code(pool, event_id, made, wanted.code, wanted.terms(), by=by)
    count = wanted.count or 1
    return await make_up_codes(pool, event_id, made, wanted.terms(), count=count, prefix=wanted.prefix, by=by)


def _not_made(refused: CodesNotMade) -> HTTPResponse:
    if refused == "event_unknown":
        return problem(RejectionCode.EVENT_UNKNOWN)
    if refused == "key_reused":
        return problem(RejectionCode.IDEMPOTENCY_KEY_REUSED)
    pointer, message = {
        "sections_unknown": ("/sections", "the event has no such section"),
        "code_taken": ("/code", "the event has this code already"),
    }[refused]
    return problem(ProblemCode.INVALID_REQUEST, errors=[{"pointer": pointer, "message": message}])
