"""How does an organiser keep seats back, put them on sale again, reprice them, or give them away?"""

from http import HTTPStatus
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import (
    ORGANISERS_SEATS_MAX,
    AnyCommand,
    ChangePrices,
    GiveSeats,
    ReturnSeats,
    WithholdSeats,
)
from contracts.house import SectionName
from contracts.ids import EventId, SeatId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import OrderCompleted, PricesChanged, SeatsReturned, SeatsWithheld
from db.seat_blocks import SeatOfBlock, find_block, is_event
from db.users import find_user_by_email
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Asker, Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, problem
from ingress.routes.events import Price
from ingress.texts import EmailAddress, Line

admin_seats = Blueprint("admin_seats", url_prefix="/api/admin/events/<event_id:uuid>/seats")

# What fits into a request body; a section or a row may be more.
NAMED_MAX = 1000
GIVEN_MAX = 100

Reason = Annotated[Line, Field(max_length=500)]
_SeatIds = Annotated[tuple[UUID, ...], Field(max_length=NAMED_MAX, json_schema_extra={"uniqueItems": True})]
_ROW = {"section": "Stalls", "row": "A"}
_TWO_SEATS = ["3f0c1d2e-5b6a-4c7d-8e9f-0a1b2c3d4e5f", "4a1d2e3f-6c7b-4d8e-9fa0-1b2c3d4e5f60"]

Status = Literal["available", "withheld"]


class BlockRequest(RequestModel):
    """These seats, or a section, or a row of one."""

    seat_ids: _SeatIds = ()
    section: SectionName | None = None
    row: Annotated[str, Field(min_length=1, max_length=10)] | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if bool(self.seat_ids) == (self.section is not None):
            raise ValueError("give seatIds or section, one of the two")
        if self.row is not None and self.section is None:
            raise ValueError("row needs section")
        if len(set(self.seat_ids)) != len(self.seat_ids):
            raise ValueError("a seat is named twice")
        return self


class WithholdRequest(BlockRequest):
    """What is kept back from sale, and why. Of a section or row, whatever is available."""

    reason: Reason = ""


class ReturnRequest(BlockRequest):
    """What goes on sale again. Of a section or row, whatever is withheld."""


class PriceRequest(BlockRequest):
    """What these seats cost from now on, everything included."""

    price: Price


class GiveRequest(RequestModel):
    """Whose these seats are, and why."""

    email: EmailAddress
    seat_ids: Annotated[
        tuple[UUID, ...], Field(min_length=1, max_length=GIVEN_MAX, json_schema_extra={"uniqueItems": True})
    ]
    reason: Reason = ""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.seat_ids)) != len(self.seat_ids):
            raise ValueError("a seat is named twice")
        return self


_REFUSALS = (
    ProblemCode.INVALID_REQUEST,
    RejectionCode.EVENT_UNKNOWN,
    RejectionCode.EVENT_CANCELLED,
    RejectionCode.SEATS_UNKNOWN,
    RejectionCode.SEATS_UNAVAILABLE,
)


@admin_seats.post("/withhold")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=WithholdRequest,
    answers={HTTPStatus.OK: SeatsWithheld, HTTPStatus.ACCEPTED: Pending},
    refusals=_REFUSALS,
    asks=True,
    examples={
        "a row": {**_ROW, "reason": "for the band's guests"},
        "two seats": {"seatIds": _TWO_SEATS, "reason": "nothing can be seen from there"},
    },
)
async def withhold_seats(request: Request, event_id: UUID) -> HTTPResponse:
    """Keep seats back from sale, all or none: those of seatIds, or what is available of a section or row. A hold that is
    alive and a seat that is sold stand against it, and one that its owner offers to others does too."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, WithholdRequest)
    event = EventId(event_id)
    command = WithholdSeats(
        event_id=event,
        seat_ids=await _seats_meant(request, event, wanted, status="available"),
        reason=wanted.reason,
        **_ask(request, event, asker, "withhold"),
    )
    return await _answer(request, command, asker)


@admin_seats.post("/return")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=ReturnRequest,
    answers={HTTPStatus.OK: SeatsReturned, HTTPStatus.ACCEPTED: Pending},
    refusals=_REFUSALS,
    asks=True,
    examples={"a row": _ROW, "two seats": {"seatIds": _TWO_SEATS}},
)
async def return_seats(request: Request, event_id: UUID) -> HTTPResponse:
    """Put withheld seats on sale again, all or none: those of seatIds, or what is withheld of a section or row."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, ReturnRequest)
    event = EventId(event_id)
    command = ReturnSeats(
        event_id=event,
        seat_ids=await _seats_meant(request, event, wanted, status="withheld"),
        **_ask(request, event, asker, "return"),
    )
    return await _answer(request, command, asker)


@admin_seats.post("/price")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=PriceRequest,
    answers={HTTPStatus.OK: PricesChanged, HTTPStatus.ACCEPTED: Pending},
    refusals=(*_REFUSALS, RejectionCode.PRICE_NOT_PAYABLE),
    asks=True,
    examples={
        "a row": {**_ROW, "price": "60.00"},
        "a section": {"section": "Stalls", "price": "60.00"},
        "two seats": {"seatIds": _TWO_SEATS, "price": "60.00"},
    },
)
async def change_prices(request: Request, event_id: UUID) -> HTTPResponse:
    """Another price for seats that are not sold. Whoever holds one pays what he was told, a seat that its owner offers to
    others keeps what he asks; both cost the new price afterwards. Everybody sees it within two seconds."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, PriceRequest)
    event = EventId(event_id)
    command = ChangePrices(
        event_id=event,
        seat_ids=await _seats_meant(request, event, wanted, status=None),
        price=wanted.price,
        **_ask(request, event, asker, "price"),
    )
    answered = await _answer(request, command, asker)
    if answered.status in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
        # The engine has no part in what browsers of the catalogue are shown. If it has yet to decide, the copies that
        # are made meanwhile are old for a minute at most.
        await resources_of(request).read_cache.forget_all()
    return answered


@admin_seats.post("/give")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=GiveRequest,
    answers={HTTPStatus.CREATED: OrderCompleted, HTTPStatus.ACCEPTED: Pending},
    refusals=(*_REFUSALS, ProblemCode.ACCOUNT_UNKNOWN),
    asks=True,
    examples={"two seats": {"email": "ann@example.org", "seatIds": _TWO_SEATS, "reason": "she sings"}},
)
async def give_seats(request: Request, event_id: UUID) -> HTTPResponse:
    """Complimentary tickets: available or withheld seats, all or none, for whoever has an account with this address. Nothing
    is paid. The ticket limit is not asked; what is given counts when its owner buys more."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, GiveRequest)
    to = await find_user_by_email(resources_of(request).pool, wanted.email)
    if to is None:
        return problem(ProblemCode.ACCOUNT_UNKNOWN)
    event = EventId(event_id)
    command = GiveSeats(
        event_id=event,
        to_user_id=UserId(to.id),
        seat_ids=tuple(map(SeatId, wanted.seat_ids)),
        reason=wanted.reason,
        **_ask(request, event, asker, "give"),
    )
    return await _answer(request, command, asker, accepted=HTTPStatus.CREATED)


async def _seats_meant(
    request: Request, event_id: EventId, wanted: BlockRequest, *, status: Status | None
) -> tuple[SeatId, ...]:
    """The seats that the request names, or those of its section or row that stand like this; raises Refusal.

    Where none does, all of them: the sale then says why not, and to whoever repeats a request under its key what it said
    the first time.
    """
    if wanted.section is None:
        return tuple(map(SeatId, wanted.seat_ids))
    found = await _find(request, event_id, wanted, status)
    if len(found) > ORGANISERS_SEATS_MAX:
        raise _invalid("/section", _too_many(found[0]))
    found = found or await _find(request, event_id, wanted, None)
    if not found:
        raise await _no_such_block(request, event_id, wanted)
    return tuple(seat.id for seat in found[:ORGANISERS_SEATS_MAX])


async def _find(request: Request, event_id: EventId, wanted: BlockRequest, status: Status | None) -> list[SeatOfBlock]:
    # One more than may be, so that too many show.
    limit = ORGANISERS_SEATS_MAX + 1
    pool = resources_of(request).pool
    return await find_block(pool, event_id, wanted.section or "", wanted.row, status=status, limit=limit)


async def _no_such_block(request: Request, event_id: EventId, wanted: BlockRequest) -> Refusal:
    if not await is_event(resources_of(request).pool, event_id):
        return Refusal(problem(RejectionCode.EVENT_UNKNOWN))
    if wanted.row is not None:
        return _invalid("/row", "there is no such section, or no such row in it")
    return _invalid("/section", "there is no such section")


def _too_many(seat: SeatOfBlock) -> str:
    instead = "a row" if seat.kind != "standing" else f"up to {NAMED_MAX:,} of its places by seatIds"
    return f"more than the {ORGANISERS_SEATS_MAX:,} seats that can be done at once: name {instead}"


def _invalid(pointer: str, message: str) -> Refusal:
    return Refusal(problem(ProblemCode.INVALID_REQUEST, errors=[{"pointer": pointer, "message": message}]))


def _ask(request: Request, event_id: EventId, asker: Asker, route: str) -> dict[str, Any]:
    # An Idempotency-Key is one of this event: for another it is another command.
    return ask_fields(
        request,
        user_id=asker.user_id,
        route=f"{route} {event_id}",
        deadline_seconds=resources_of(request).settings.reserve_deadline_seconds,
    )


async def _answer(
    request: Request, command: AnyCommand, asker: Asker, *, accepted: HTTPStatus = HTTPStatus.OK
) -> HTTPResponse:
    wait_seconds = resources_of(request).settings.reserve_deadline_seconds
    return await answer(request, command, user_id=asker.user_id, accepted=accepted, wait_seconds=wait_seconds)
