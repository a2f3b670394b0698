"""Which seats does an event have, where are they, and what becomes of them while we look?

What anybody may watch. For a page of seats: load the map once, then the availability, then follow the stream from its
version on.
"""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.availability_cache import Availability
from db.seat_views import SaleStatus
from ingress.client_address import client_address
from ingress.gate import Bucket, admit_reader
from ingress.http_cache import cached_json
from ingress.operation import Access, Content, operation
from ingress.query import QueryModel, read_query
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, problem
from ingress.seat_documents import SeatList, SeatMap
from ingress.seat_socket import open_socket
from ingress.seat_stream import EVENT_STREAM, last_event_id, open_stream
from ingress.seat_views import WatchedEvent

live_seats = Blueprint("live_seats", url_prefix="/api/events/<event_id:uuid>")

# Prices are in it, and nobody tells a browser that one has changed.
MAP_SECONDS, MAP_STALE_SECONDS = 10, 60
LIST_SECONDS = AVAILABILITY_SECONDS = 1

STREAM_REFUSALS = (
    RejectionCode.EVENT_UNKNOWN,
    ProblemCode.TOO_MANY_STREAMS,
    ProblemCode.BUSY,
    ProblemCode.UNAVAILABLE,
)


class StreamQuery(QueryModel):
    """Where to go on from: the last version that is known."""

    after: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class SeatsFrame(Value):
    """`seats`: what has changed from version `previous` to `version`: the seatIndex of each seat, under what it is now
    (`a` available, `h` held, `s` sold, `w` withheld). Apply it when previous ≤ yours < version; leave it when version ≤
    yours; otherwise load the availability again."""

    version: int
    previous: int
    changes: dict[Literal["a", "h", "s", "w"], list[int]]


class ResyncFrame(Value):
    """`resync`: load the availability, again if it is older than `version`, and go on from its version."""

    version: int


class SaleFrame(Value):
    """`sale`: how the sale stands from now on."""

    status: SaleStatus


FRAMES = (SeatsFrame, ResyncFrame, SaleFrame)


@live_seats.get("/seats")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: SeatList},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    cached=True,
)
async def list_seats(request: Request, event_id: UUID) -> HTTPResponse:
    """Every seat of an event, by section and row, with what it costs, everything included, and whether it can be had."""
    admit_reader(request)
    document = await (await _watched(request, event_id)).seat_list()
    return cached_json(
        request, document.body, etag=document.etag, gzipped=document.gzipped, max_age_seconds=LIST_SECONDS
    )


@live_seats.get("/map")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: SeatMap},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    cached=True,
)
async def show_map(request: Request, event_id: UUID) -> HTTPResponse:
    """The house: its sections, rows and seats, their prices and where they are. It stays as it is while the event sells,
    unless its organiser changes prices or an owner resells a seat: ask again with its ETag."""
    admit_reader(request)
    document = await (await _watched(request, event_id)).map()
    return cached_json(
        request,
        document.body,
        etag=document.etag,
        gzipped=document.gzipped,
        max_age_seconds=MAP_SECONDS,
        stale_while_revalidate_seconds=MAP_STALE_SECONDS,
    )


@live_seats.get("/availability")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: Availability},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    cached=True,
)
async def show_availability(request: Request, event_id: UUID) -> HTTPResponse:
    """One character for each seat, by its seatIndex, and the version they are true for."""
    admit_reader(request)
    document = await resources_of(request).seat_views.availability(EventId(event_id))
    if document is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    return cached_json(
        request, document.body, etag=document.etag, gzipped=document.gzipped, max_age_seconds=AVAILABILITY_SECONDS
    )


@live_seats.get("/seats/stream")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    query=StreamQuery,
    answers={
        HTTPStatus.OK: Content(
            EVENT_STREAM,
            "Server-Sent Events: `seats`, `resync` and `sale`. Come back with Last-Event-ID, as EventSource does by itself.",
            FRAMES,
        )
    },
    refusals=STREAM_REFUSALS,
)
async def stream_seats(request: Request, event_id: UUID) -> None:
    """Follow the seats of an event as they change, as Server-Sent Events."""
    admit_reader(request)
    after = read_query(request, StreamQuery).after
    event = await _watched(request, event_id)
    address = _take_place(request)
    places = resources_of(request).seat_views.places
    known = last_event_id(request)
    try:
        await open_stream(
            request,
            event.audience,
            after=after if known is None else known,
            on_gone=lambda: places.leave(address),
        )
    except BaseException:
        places.leave(address)
        raise


@live_seats.get("/seats/socket")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    query=StreamQuery,
    answers={
        HTTPStatus.SWITCHING_PROTOCOLS: Content(
            "application/json",
            "The frames of the stream as JSON text messages, the event's name as their `type`, and `heartbeat` ones. A client"
            ' may say once, as {"after": version}, what it knows.',
            FRAMES,
        )
    },
    refusals=(*STREAM_REFUSALS, ProblemCode.CROSS_SITE_REQUEST, ProblemCode.MALFORMED_REQUEST),
)
async def watch_seats(request: Request, event_id: UUID) -> None:
    """Follow the seats of an event as they change, over a WebSocket."""
    # The page it comes from was checked before the request was routed (ingress/cors.py).
    admit_reader(request)
    after = read_query(request, StreamQuery).after
    event = await _watched(request, event_id)
    address = _take_place(request)
    places = resources_of(request).seat_views.places
    try:
        await open_socket(request, event.audience, after=after, on_gone=lambda: places.leave(address))
    except BaseException:
        places.leave(address)
        raise


async def _watched(request: Request, event_id: UUID) -> WatchedEvent:
    """The event; raises Refusal when there is none."""
    event = await resources_of(request).seat_views.find(EventId(event_id))
    if event is None:
        raise Refusal(problem(RejectionCode.EVENT_UNKNOWN))
    return event


def _take_place(request: Request) -> str:
    """A place for one more stream, under the address that is returned; raises Refusal."""
    if request.app.ctx.draining:
        # Whoever was sent away a moment ago must not come back here.
        raise Refusal(problem(ProblemCode.UNAVAILABLE))
    address = client_address(request)
    resources_of(request).seat_views.places.take(address)
    return address
