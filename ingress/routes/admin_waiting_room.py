"""How does an operator run a waiting room?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.beacon import BeaconSource
from contracts.ids import EventId, UserId
from contracts.rejections import RejectionCode
from contracts.value import Value
from contracts.waiting_line import Snapshot
from contracts.waiting_room import Phase
from db.catalogue import find_details
from db.waiting_room_records import (
    Challenge,
    DemotionMode,
    NewRoomTerms,
    NotChanged,
    RoomKind,
    RoomRecord,
    WantedPhase,
    find_room,
    make_room,
    set_terms,
    want_phase,
)
from ingress.gate import Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import IngressResources, resources_of
from ingress.responses import ProblemCode, Refusal, json_response, problem
from ingress.texts import Name
from ingress.versions import expected_version, version_tag

admin_waiting_room = Blueprint("admin_waiting_room", url_prefix="/api/admin/events/<event_id:uuid>/waiting-room")

_A_REASON = {"because": "the payment provider asked for a break"}
_SOME_TERMS = {"capacity": 500, "ratePerSecond": 20.0, "challenge": "proof_of_work", "demotion": "observe"}


class TermsRequest(RequestModel):
    """How a room is run from now on: the whole of it."""

    capacity: Annotated[int, Field(ge=1, le=1_000_000, description="how many may be buying at once")]
    rate_per_second: Annotated[float, Field(gt=0, le=100_000, description="how many a second are to come in")]
    challenge: Annotated[Challenge, Field(strict=False)]
    demotion: Annotated[
        DemotionMode,
        Field(strict=False, description="whether suspicious conduct is only noted, or drawn behind all others"),
    ]


class PhaseRequest(RequestModel):
    """Why. It is written into the room's public log."""

    because: Name


class RoomState(Value):
    """A room as it is written down, and as it stands."""

    event_id: EventId
    kind: RoomKind
    pre_at: AwareDatetime = Field(description="from when one may join")
    opens_at: AwareDatetime = Field(description="when the draw is held, or the line begins to move")
    capacity: int
    rate_per_second: float
    challenge: Challenge
    demotion: DemotionMode
    wanted_phase: Phase | None = Field(description="asked for, and not yet brought about by the room's leader")
    wanted_because: str
    announced_at: AwareDatetime
    ended_at: AwareDatetime | None
    version: int
    snapshot: Snapshot | None = Field(description="how it stands; null while nobody can join or be let in")
    facts: dict[str, str] = Field(
        description="what Redis has written of it, as it is: settings, counters, the leader's fence"
    )


@admin_waiting_room.get("")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: RoomState},
    refusals=(ProblemCode.NO_WAITING_ROOM,),
    headers={"etag": "its version and a hash of the answer"},
)
async def show_room(request: Request, event_id: UUID) -> HTTPResponse:
    """The room as it is written down, and as it stands this second."""
    await admitted_admin(request, Bucket.OTHER)
    return await _state(resources_of(request), EventId(event_id))


@admin_waiting_room.put("")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=TermsRequest,
    answers={HTTPStatus.OK: RoomState},
    refusals=(ProblemCode.NO_WAITING_ROOM, ProblemCode.ROOM_CLOSED, ProblemCode.CHANGED_MEANWHILE),
    guarded=True,
    headers={"etag": "its version and a hash of the answer"},
    examples={"five hundred at once": _SOME_TERMS},
)
async def set_room_terms(request: Request, event_id: UUID) -> HTTPResponse:
    """How many come in, and what is asked of them at the door: send all of it, and the ETag you have seen in If-Match. It is
    in force within seconds; who is in stays in."""
    asker = await admitted_admin(request, Bucket.OTHER)
    expected = expected_version(request)
    wanted = read_json(request, TermsRequest)
    refused = await set_terms(
        resources_of(request).pool,
        EventId(event_id),
        capacity=wanted.capacity,
        rate_per_second=wanted.rate_per_second,
        challenge=wanted.challenge,
        demotion=wanted.demotion,
        if_version=expected,
        by=asker.user_id,
    )
    _require_changed(refused)
    return await _state(resources_of(request), EventId(event_id))


_PHASE = operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=PhaseRequest,
    answers={HTTPStatus.OK: RoomState},
    refusals=(ProblemCode.NO_WAITING_ROOM, ProblemCode.ROOM_CLOSED),
    headers={"etag": "its version and a hash of the answer"},
    examples={"a reason": _A_REASON},
)


@admin_waiting_room.post("/open")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=PhaseRequest,
    answers={HTTPStatus.OK: RoomState},
    refusals=(RejectionCode.EVENT_UNKNOWN, ProblemCode.NOT_ON_SALE, ProblemCode.ROOM_CLOSED),
    headers={"etag": "its version and a hash of the answer"},
    examples={"a reason": {"because": "more people came than we thought"}},
)
async def open_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Let people in: from now on, if the event has no waiting room yet; again, after a pause. Nobody reserves seats of this
    event any more who has not been let in."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, PhaseRequest)
    event, resources = EventId(event_id), resources_of(request)
    await _made_room(resources, event, asker.user_id)
    return await _ask_for(resources, event, Phase.OPEN, wanted.because, asker.user_id)


@admin_waiting_room.post("/pause")
@_PHASE
async def pause_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Let nobody in for now. Who is in goes on buying, and the line stays as it is."""
    return await _change_phase(request, EventId(event_id), Phase.PAUSED)


@admin_waiting_room.post("/resume")
@_PHASE
async def resume_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Let people in again, slowly at first; after a loss of Redis too, without waiting for the leases of before."""
    return await _change_phase(request, EventId(event_id), Phase.OPEN)


@admin_waiting_room.post("/drain")
@_PHASE
async def drain_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Serve who is in line, and let nobody join any more."""
    return await _change_phase(request, EventId(event_id), Phase.DRAINING)


@admin_waiting_room.post("/end")
@_PHASE
async def end_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Take the waiting room away, for good: everybody may reserve at once, whoever is in line is told so."""
    return await _change_phase(request, EventId(event_id), Phase.ENDED)


async def _change_phase(request: Request, event: EventId, phase: WantedPhase) -> HTTPResponse:
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, PhaseRequest)
    return await _ask_for(resources_of(request), event, phase, wanted.because, asker.user_id)


async def _ask_for(
    resources: IngressResources, event: EventId, phase: WantedPhase, because: str, by: UserId
) -> HTTPResponse:
    _require_changed(await want_phase(resources.pool, event, phase, because, by=by))
    return await _state(resources, event)


async def _made_room(resources: IngressResources, event: EventId, by: UserId) -> RoomRecord:
    """The event's room, made now if it has none; raises Refusal."""
    settings = resources.settings
    terms = NewRoomTerms(
        capacity=settings.room_capacity,
        rate_per_second=settings.room_rate_per_second,
        gather_seconds=settings.room_gather_seconds,
        beacon=BeaconSource(settings.beacon),
        public_keys=resources.room_desk.tokens.keys.public_keys,
    )
    before = await find_room(resources.pool, event)
    room = before or await make_room(resources.pool, event, terms, by=by)
    if room is None:
        is_known = await find_details(resources.pool, event) is not None
        raise Refusal(problem(ProblemCode.NOT_ON_SALE if is_known else RejectionCode.EVENT_UNKNOWN))
    if before is None:
        # The event is of high demand from now on, and whoever looks at it must see that.
        await resources.read_cache.forget_all()
    return room


def _require_changed(refused: NotChanged | None) -> None:
    if refused is not None:
        codes = {
            "unknown": ProblemCode.NO_WAITING_ROOM,
            "ended": ProblemCode.ROOM_CLOSED,
            "changed_meanwhile": ProblemCode.CHANGED_MEANWHILE,
        }
        raise Refusal(problem(codes[refused]))


async def _state(resources: IngressResources, event: EventId) -> HTTPResponse:
    room = await find_room(resources.pool, event)
    if room is None:
        return problem(ProblemCode.NO_WAITING_ROOM)
    desk = resources.room_desk
    desk.snapshots.forget(event)
    known = await desk.snapshots.find(event)
    snapshot = None if known is None else known.snapshot
    body = _written(room, snapshot, await desk.rooms.facts(event)).model_dump_json().encode()
    return json_response(body, headers={"etag": version_tag(room.version, body)})


def _written(room: RoomRecord, snapshot: Snapshot | None, facts: dict[str, str]) -> RoomState:
    return RoomState(
        event_id=room.event_id,
        kind=room.kind,
        pre_at=room.pre_at,
        opens_at=room.opens_at,
        capacity=room.capacity,
        rate_per_second=room.rate_per_second,
        challenge=room.challenge,
        demotion=room.demotion,
        wanted_phase=room.wanted_phase,
        wanted_because=room.wanted_because,
        announced_at=room.announced_at,
        ended_at=room.ended_at,
        version=room.version,
        snapshot=snapshot,
        facts=facts,
    )
