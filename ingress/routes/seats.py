"""Which seats are there, and how does a buyer get hold of some?"""

from http import HTTPStatus
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import SEATS_PER_COMMAND_MAX, BestAvailable, ExtendHold, ReleaseSeats, ReserveSeats
from contracts.ids import EventId, SeatId
from contracts.rejections import RejectionCode
from ingress.asking import answer, ask_fields
from ingress.gate import Bucket, admitted
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import json_response, problem

seats = Blueprint("seats", url_prefix="/api")


class BestAvailableRequest(RequestModel):
    """So many seats, wherever they are best."""

    count: Annotated[int, Field(ge=1, le=SEATS_PER_COMMAND_MAX)]
    section: Annotated[str, Field(max_length=50)] | None = None


class ReserveRequest(RequestModel):
    """These seats, or the best available: one of the two."""

    event_id: UUID
    seat_ids: Annotated[tuple[UUID, ...], Field(max_length=SEATS_PER_COMMAND_MAX)] = ()
    best_available: BestAvailableRequest | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if bool(self.seat_ids) == bool(self.best_available):
            raise ValueError("give seatIds or bestAvailable, one of the two")
        if len(set(self.seat_ids)) != len(self.seat_ids):
            raise ValueError("a seat is named twice")
        return self


class HoldRequest(RequestModel):
    """A hold of an event."""

    event_id: UUID
    hold_id: UUID


@seats.post("/seats/reserve")
async def reserve_seats(request: Request) -> HTTPResponse:
    """Set seats aside for ten minutes."""
    asker = await admitted(request, Bucket.RESERVE)
    wanted = read_json(request, ReserveRequest)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    command = ReserveSeats(
        event_id=EventId(wanted.event_id),
        seat_ids=tuple(map(SeatId, wanted.seat_ids)),
        best_available=_best_available(wanted.best_available),
        **ask_fields(request, user_id=asker.user_id, route="reserve", deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )


@seats.delete("/seats/release", ignore_body=False)
async def release_seats(request: Request) -> HTTPResponse:
    """Give a hold back."""
    return await _ask_about_hold(request, ReleaseSeats, route="release")


@seats.post("/seats/extend")
async def extend_hold(request: Request) -> HTTPResponse:
    """Ask for more time."""
    return await _ask_about_hold(request, ExtendHold, route="extend")


@seats.get("/events/<event_id:uuid>/seats")
async def list_seats(request: Request, event_id: UUID) -> HTTPResponse:
    """Every seat of an event, by section and row, with what it costs and whether it can be had."""
    body = await resources_of(request).seat_lists.find(event_id)
    if body is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    return json_response(body, headers={"cache-control": "public, max-age=1"})


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
    return None if wanted is None else BestAvailable(count=wanted.count, section=wanted.section)
