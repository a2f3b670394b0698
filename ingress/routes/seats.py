"""How does a buyer get hold of seats, keep them, and give them back?"""

from http import HTTPStatus
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import (
    CODE_LENGTH_MAX,
    SEATS_PER_COMMAND_MAX,
    BestAvailable,
    ExtendHold,
    ReleaseSeats,
    ReserveSeats,
)
from contracts.house import TIER_NAME_LENGTH_MAX
from contracts.ids import EventId, SeatId
from contracts.rejections import RejectionCode
from contracts.replies import HoldExtended, Rejected, SeatsReleased, SeatsReserved
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Asker, Bucket, admitted
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import reply_response
from ingress.waiting_room_pass import pass_of

seats = Blueprint("seats", url_prefix="/api")


# Whatever stands between a buyer and a hold of his.
_HOLD_REFUSALS = (
    RejectionCode.EVENT_CANCELLED,
    RejectionCode.HOLD_UNKNOWN,
    RejectionCode.HOLD_EXPIRED,
    RejectionCode.HOLD_RELEASED,
    RejectionCode.HOLD_IN_PAYMENT,
    RejectionCode.HOLD_ALREADY_PAID,
)
_AN_EVENT = "0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11"
_A_HOLD = {"eventId": _AN_EVENT, "holdId": "6d3f2b1c-9f44-4d3e-a7f5-2f1b5a0c9e22"}


class BestAvailableRequest(RequestModel):
    """So many seats, wherever they are best; with `accessible`, places for wheelchairs and the seats beside them."""

    count: Annotated[int, Field(ge=1, le=SEATS_PER_COMMAND_MAX)]
    section: Annotated[str, Field(max_length=50)] | None = None
    accessible: bool = False


class ReserveRequest(RequestModel):
    """These seats, or the best available: one of the two."""

    event_id: UUID
    seat_ids: Annotated[
        tuple[UUID, ...], Field(max_length=SEATS_PER_COMMAND_MAX, json_schema_extra={"uniqueItems": True})
    ] = ()
    best_available: BestAvailableRequest | None = None
    tiers: Annotated[
        tuple[Annotated[str, Field(max_length=TIER_NAME_LENGTH_MAX)], ...], Field(max_length=SEATS_PER_COMMAND_MAX)
    ] = Field((), description='the price tier of each seat, in their order; "" for the usual price, as without tiers')
    code: Annotated[str, Field(max_length=CODE_LENGTH_MAX)] = Field(
        "", description="opens a presale, or makes the seats cheaper"
    )

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if bool(self.seat_ids) == bool(self.best_available):
            raise ValueError("give seatIds or bestAvailable, one of the two")
        if len(set(self.seat_ids)) != len(self.seat_ids):
            raise ValueError("a seat is named twice")
        seat_count = self.best_available.count if self.best_available is not None else len(self.seat_ids)
        if self.tiers and len(self.tiers) != seat_count:
            raise ValueError("tiers names one tier for each seat, or there are none")
        return self


class HoldRequest(RequestModel):
    """A hold of an event."""

    event_id: UUID
    hold_id: UUID


@seats.post("/seats/reserve")
@operation(
    access=Access.USER,
    bucket=Bucket.RESERVE,
    body=ReserveRequest,
    answers={HTTPStatus.CREATED: SeatsReserved, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        RejectionCode.EVENT_UNKNOWN,
        RejectionCode.SALE_NOT_OPEN,
        RejectionCode.SALE_CLOSED,
        RejectionCode.EVENT_CANCELLED,
        RejectionCode.NOT_ADMITTED,
        RejectionCode.ADMISSION_UNKNOWN,
        RejectionCode.SEATS_UNKNOWN,
        RejectionCode.SEATS_UNAVAILABLE,
        RejectionCode.NOT_ENOUGH_SEATS,
        RejectionCode.TICKET_LIMIT_EXCEEDED,
        RejectionCode.TOO_MANY_HOLDS,
        RejectionCode.TIER_UNKNOWN,
        RejectionCode.CODE_NEEDED,
        RejectionCode.CODE_UNKNOWN,
        RejectionCode.CODE_USED_UP,
    ),
    asks=True,
    examples={
        "the best two": {"eventId": _AN_EVENT, "bestAvailable": {"count": 2}},
        "these two": {
            "eventId": _AN_EVENT,
            "seatIds": ["3f0c1d2e-5b6a-4c7d-8e9f-0a1b2c3d4e5f", "4a1d2e3f-6c7b-4d8e-9fa0-1b2c3d4e5f60"],
        },
        "a student's and a usual one, in the presale": {
            "eventId": _AN_EVENT,
            "bestAvailable": {"count": 2, "section": "Stalls"},
            "tiers": ["Student", ""],
            "code": "FANS-34HK-9QRT-AAX7",
        },
    },
)
async def reserve_seats(request: Request) -> HTTPResponse:
    """Set seats aside for ten minutes. An event with a waiting room asks for the pass of a turn that was claimed there."""
    asker = await admitted(request, Bucket.RESERVE)
    wanted = read_json(request, ReserveRequest)
    await _look_at_pass(request, EventId(wanted.event_id), asker)
    rejected = _early_no(request, wanted)
    if rejected is not None:
        return reply_response(rejected, accepted=HTTPStatus.CREATED)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    command = ReserveSeats(
        event_id=EventId(wanted.event_id),
        seat_ids=tuple(map(SeatId, wanted.seat_ids)),
        best_available=_best_available(wanted.best_available),
        tiers=wanted.tiers,
        code=wanted.code,
        **ask_fields(request, user_id=asker.user_id, route="reserve", deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )


@seats.delete("/seats/release", ignore_body=False)
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=HoldRequest,
    answers={HTTPStatus.OK: SeatsReleased, HTTPStatus.ACCEPTED: Pending},
    refusals=_HOLD_REFUSALS,
    asks=True,
    examples={"a hold": _A_HOLD},
)
async def release_seats(request: Request) -> HTTPResponse:
    """Give a hold back."""
    return await _ask_about_hold(request, ReleaseSeats, route="release")


@seats.post("/seats/extend")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=HoldRequest,
    answers={HTTPStatus.OK: HoldExtended, HTTPStatus.ACCEPTED: Pending},
    refusals=(*_HOLD_REFUSALS, RejectionCode.HOLD_CEILING_REACHED),
    asks=True,
    examples={"a hold": _A_HOLD},
)
async def extend_hold(request: Request) -> HTTPResponse:
    """Ask for more time."""
    return await _ask_about_hold(request, ExtendHold, route="extend")


async def _look_at_pass(request: Request, event_id: EventId, asker: Asker) -> None:
    """Raises Refusal for whoever wants seats of an event with a waiting room and has no pass: a crowd that has not been let
    in costs the sale's queue nothing. Only as far as this process knows the event; the sale asks the room in any case."""
    views = resources_of(request).seat_views
    event = views.live(event_id)
    if event is not None and event.needs_pass(views.now()):
        await pass_of(request, event_id, asker)


def _early_no(request: Request, wanted: ReserveRequest) -> Rejected | None:
    """The sale's "no", where it is certain already: ten thousand who want a hundred seats cost its queue nothing.

    Never for a retry: whoever repeats a request under its key must hear of the hold it made.
    """
    headers = request.headers
    if "idempotency-key" in headers or "respond-async" in headers.getone("prefer", ""):
        return None
    return resources_of(request).seat_views.early_no(
        EventId(wanted.event_id), tuple(map(SeatId, wanted.seat_ids)), _best_available(wanted.best_available)
    )


async def _ask_about_hold(request: Request, kind: type[ReleaseSeats] | type[ExtendHold], *, route: str) -> HTTPResponse:
    asker = await admitted(request, Bucket.OTHER)
    wanted = read_json(request, HoldRequest)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    command = kind(
        event_id=wanted.event_id,
        hold_id=wanted.hold_id,
        **ask_fields(request, user_id=asker.user_id, route=route, deadline_seconds=deadline_seconds),
    )
    return await answer(request, command, user_id=asker.user_id, accepted=HTTPStatus.OK, wait_seconds=deadline_seconds)


def _best_available(wanted: BestAvailableRequest | None) -> BestAvailable | None:
    return None if wanted is None else BestAvailable(**dict(wanted))
