"""How does somebody wait for seats of a sold-out event?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import SEATS_PER_COMMAND_MAX, JoinWaitingList, LeaveWaitingList
from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.replies import WaitingListJoined, WaitingListLeft
from contracts.value import Value
from db.waiting_list_places import WaitingListPlace, find_place, list_places
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Bucket, admitted
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import json_response, problem

waiting_list = Blueprint("waiting_list", url_prefix="/api")

LISTED_MAX = 100


class JoinListRequest(RequestModel):
    """So many seats, in any section or in this one; with `accessible`, places for wheelchairs and the seats beside them."""

    seat_count: Annotated[int, Field(ge=1, le=SEATS_PER_COMMAND_MAX)]
    section: Annotated[str, Field(max_length=50)] = ""
    accessible: bool = False


class WaitingListPlaces(Value):
    """The asker's places on all lists, the newest first."""

    places: tuple[WaitingListPlace, ...]


@waiting_list.post("/events/<event_id:uuid>/waiting-list")
@operation(
    access=Access.USER,
    bucket=Bucket.OTHER,
    body=JoinListRequest,
    answers={HTTPStatus.CREATED: WaitingListJoined, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        RejectionCode.EVENT_UNKNOWN,
        RejectionCode.EVENT_CANCELLED,
        RejectionCode.SALE_NOT_OPEN,
        RejectionCode.SALE_CLOSED,
        RejectionCode.TICKET_LIMIT_EXCEEDED,
        RejectionCode.WAITING_LIST_NOT_NEEDED,
    ),
    asks=True,
    examples={"two anywhere": {"seatCount": 2}, "one in the stalls": {"seatCount": 1, "section": "Stalls"}},
)
async def join_waiting_list(request: Request, event_id: UUID) -> HTTPResponse:
    """Be offered seats when some are freed: they are then held for you for half an hour, and a mail says so."""
    asker = await admitted(request, Bucket.OTHER)
    wanted = read_json(request, JoinListRequest)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    command = JoinWaitingList(
        event_id=EventId(event_id),
        seat_count=wanted.seat_count,
        section=wanted.section,
        accessible=wanted.accessible,
        **ask_fields(request, user_id=asker.user_id, route="join_waiting_list", deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )


@waiting_list.delete("/events/<event_id:uuid>/waiting-list")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: WaitingListLeft, HTTPStatus.ACCEPTED: Pending},
    refusals=(RejectionCode.EVENT_UNKNOWN, RejectionCode.NOT_ON_WAITING_LIST, RejectionCode.HOLD_IN_PAYMENT),
    asks=True,
)
async def leave_waiting_list(request: Request, event_id: UUID) -> HTTPResponse:
    """Wait no longer; seats that were offered go to whoever is next."""
    asker = await admitted(request, Bucket.OTHER)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    command = LeaveWaitingList(
        event_id=EventId(event_id),
        **ask_fields(request, user_id=asker.user_id, route="leave_waiting_list", deadline_seconds=deadline_seconds),
    )
    return await answer(request, command, user_id=asker.user_id, accepted=HTTPStatus.OK, wait_seconds=deadline_seconds)


@waiting_list.get("/events/<event_id:uuid>/waiting-list")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: WaitingListPlace},
    refusals=(RejectionCode.NOT_ON_WAITING_LIST,),
)
async def show_own_place(request: Request, event_id: UUID) -> HTTPResponse:
    """How many people are ahead, or the hold that was offered and until when."""
    asker = await admitted(request, Bucket.OTHER)
    place = await find_place(resources_of(request).pool, EventId(event_id), asker.user_id)
    return problem(RejectionCode.NOT_ON_WAITING_LIST) if place is None else json_response(place)


@waiting_list.get("/waiting-list")
@operation(access=Access.USER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: WaitingListPlaces})
async def list_own_places(request: Request) -> HTTPResponse:
    """The asker's places on all lists."""
    asker = await admitted(request, Bucket.OTHER)
    found = await list_places(resources_of(request).pool, asker.user_id, limit=LISTED_MAX)
    return json_response(WaitingListPlaces(places=tuple(found)))
