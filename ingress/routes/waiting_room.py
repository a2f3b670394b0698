"""How does somebody wait for their turn, and how does anybody check that it was fair?

Join, ask for your position as often as you are told to, claim when it is your turn, buy. The order is what the server gave
out or a draw decided; a token only names a place in it.
"""

import logging
import math
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId
from contracts.receipts import Receipt
from contracts.value import Value
from contracts.waiting_line import Snapshot
from contracts.waiting_room import KeptEntry, PlaceId, PlaceState
from contracts.waiting_room_proof import RoomProof
from db.challenges import spend
from db.sessions import SessionId, read_cookie
from db.waiting_room import Refused, Standing
from db.waiting_room_records import Challenge, RoomRecord, read_log
from ingress.client_address import client_address
from ingress.gate import Asker, Bucket, admit_reader, admitted, session_cookie
from ingress.http_cache import cached_json, entity_tag
from ingress.operation import Access, Content, operation
from ingress.proof_of_work import Spendable
from ingress.query import QueryModel, read_query
from ingress.request_body import RequestModel, read_json
from ingress.resources import IngressResources, resources_of
from ingress.responses import ProblemCode, Refusal, json_response, problem
from ingress.waiting_room_conduct import Arrival, network_of
from ingress.waiting_room_positions import PlaceAnswer, Told, position_response, refusal_of, retry_after
from ingress.waiting_room_stream import EVENT_STREAM, FRAMES, is_near_the_head
from ingress.waiting_room_tokens import Lease, NewSecret, ShownPlace, new_place_id, read_secret, secret_for

log = logging.getLogger(__name__)

waiting_room = Blueprint("waiting_room", url_prefix="/api/queue/<event_id:uuid>")

SNAPSHOT_SECONDS = 1
LOG_PAGE = 1_000
# A full page of the log never changes again.
FULL_PAGE_SECONDS = 3600
# There is no registered type for lines of JSON; this one every client can read.
JSON_LINES = "text/plain; charset=utf-8"

_NO_ROOM = (ProblemCode.NO_WAITING_ROOM, ProblemCode.ROOM_RESTORING, ProblemCode.ROOM_CLOSED)
_YOURS = (ProblemCode.PLACE_UNKNOWN, *_NO_ROOM)
_HASH = r"^[0-9a-f]{64}$"
_A_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_POSITION = operation(
    access=Access.OWNER,
    answers={HTTPStatus.OK: PlaceAnswer},
    refusals=(*_YOURS, ProblemCode.TOO_EARLY, ProblemCode.BUSY),
    headers={"Retry-After": "pollAfterSeconds, rounded up"},
)
_SETS_THE_PLACE = {"Set-Cookie": "The place, HttpOnly, one for each event; programs may send it as Waiting-Room-Place."}
_SETS_THE_PASS = {"Set-Cookie": "The pass, HttpOnly, one for each event; programs may send it as Waiting-Room-Pass."}


class JoinRequest(RequestModel):
    """Nothing need be said. Whoever wants to prove later that they were there sends a commitment of their own."""

    commitment: (
        Annotated[str, Field(pattern=_HASH, description="SHA-256, as hex, of 32 random bytes that your device keeps")]
        | None
    ) = None
    solution: (
        Annotated[
            str,
            Field(max_length=4096, description="of the room's challenge, as ALTCHA encodes it; where one is asked for"),
        ]
        | None
    ) = None


class ClaimRequest(RequestModel):
    """The secret whose hash you joined with; it may be left out where it came in the cookie."""

    secret: Annotated[str, Field(pattern=_HASH)] | None = Field(None, repr=False, description="the 32 bytes as hex")


class LogQuery(QueryModel):
    """Which part of the log?"""

    after: Annotated[int, Field(ge=-1, lt=2**63)] = Field(-1, description="the index of the last entry you have")


class JoinedPlace(Value):
    """Your place. Your account has one, on every device."""

    place: PlaceAnswer
    place_token: str = Field(
        description="what names your place: in the cookie too; programs send it as Waiting-Room-Place"
    )
    secret: str | None = Field(
        None, description="32 bytes as hex, handed out this once, if you sent no commitment; needed to claim your turn"
    )


class GivenPass(Value):
    """You may buy now."""

    place: PlaceAnswer
    pass_token: str = Field(
        description="what lets you reserve: in the cookie too; programs send it as Waiting-Room-Pass"
    )
    expires_at: AwareDatetime = Field(
        description="claim again for a new one if what you hold has made your time longer"
    )


class RoomChallenge(Value):
    """What has to be done before joining; `challenge` is null where nothing has."""

    challenge: dict[str, Any] | None = Field(
        description="as ALTCHA's widget and libraries read it (proof of work, version 2)"
    )
    wait_seconds: float = Field(
        description='instead of solving it: wait so long, and send the base64 of {"challenge": …} as the solution'
    )


@waiting_room.post("/join")
@operation(
    access=Access.USER,
    bucket=Bucket.JOIN,
    body=JoinRequest,
    answers={HTTPStatus.CREATED: JoinedPlace, HTTPStatus.OK: JoinedPlace},
    refusals=(
        *_NO_ROOM,
        ProblemCode.CHALLENGE_REQUIRED,
        ProblemCode.CHALLENGE_FAILED,
        ProblemCode.CHALLENGE_SPENT,
    ),
    headers=_SETS_THE_PLACE,
    examples={"nothing to say": {}, "a secret of your own": {"commitment": _A_HASH}},
)
async def join_waiting_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Take a place in the line, or in the draw before a sale. Whoever has one gets that one, on whatever device, and after a
    missed turn comes back to the head of the line, once."""
    asker = await admitted(request, Bucket.JOIN)
    wanted = read_json(request, JoinRequest)
    event, resources = EventId(event_id), resources_of(request)
    room = await resources.room_desk.snapshots.get(event)
    shown = _found_place(request, event, asker.session)
    if shown is None and room.record is not None and room.record.challenge is Challenge.PROOF_OF_WORK:
        await _require_met_challenge(resources, event, asker, wanted.solution)
    own = secret_for(wanted.commitment, shown)
    standing = await resources.room_desk.rooms.join(event, asker.user_id, new_place_id(), own.commitment)
    if isinstance(standing, Refused):
        raise refusal_of(standing)
    if standing.is_new:
        network = network_of(client_address(request))
        resources.room_desk.conduct.note(event, Arrival(standing.place_id, asker.user_id, network))
    return await _joined(resources, event, asker, standing, own)


@waiting_room.get("/position")
@_POSITION
async def show_position(request: Request, event_id: UUID) -> HTTPResponse:
    """Where you stand, and when to ask again. Asking is also what shows that you are still there."""
    return position_response(await _position(request, EventId(event_id)))


@waiting_room.get("/status")
@_POSITION
async def show_status(request: Request, event_id: UUID) -> HTTPResponse:
    """The same as position: `admitted` says whether you may buy."""
    return position_response(await _position(request, EventId(event_id)))


@waiting_room.post("/claim")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=ClaimRequest,
    answers={HTTPStatus.OK: GivenPass},
    refusals=(*_YOURS, ProblemCode.NOT_YOUR_TURN, ProblemCode.PLACE_GONE, ProblemCode.SECRET_WRONG),
    headers=_SETS_THE_PASS,
    examples={"the secret is in the cookie": {}, "a secret of your own": {"secret": _A_HASH}},
)
async def claim_turn(request: Request, event_id: UUID) -> HTTPResponse:
    """Take your turn: from now on you may buy, until `expiresAt`. Claiming again gives a new pass, and no more time."""
    asker = await admitted(request, Bucket.OTHER)
    wanted = read_json(request, ClaimRequest)
    event, desk = EventId(event_id), resources_of(request).room_desk
    shown = _shown_place(request, event, asker.session)
    if not shown.is_possessed(None if wanted.secret is None else read_secret(wanted.secret)):
        return problem(ProblemCode.SECRET_WRONG)
    standing = await desk.rooms.claim(event, shown.place_id, asker.user_id)
    if isinstance(standing, Refused):
        raise refusal_of(standing)
    told = await desk.positions.tell(event, standing)
    if standing.state is not PlaceState.ACTIVE or standing.until_ms is None:
        return _not_claimed(told)
    log.info("turn_claimed", extra={"eventId": str(event), "userId": str(asker.user_id), "ticket": standing.ticket})
    lease = Lease(standing.now_ms, standing.until_ms)
    return _passed(resources_of(request), event, asker, shown, told, lease)


@waiting_room.delete("")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: PlaceAnswer},
    refusals=_YOURS,
    headers={"Set-Cookie": "Takes place and pass away."},
)
async def leave_waiting_room(request: Request, event_id: UUID) -> HTTPResponse:
    """Give your place up, or your turn; somebody else gets it at once. What you hold stays yours until it runs out."""
    asker = await admitted(request, Bucket.OTHER)
    event, desk = EventId(event_id), resources_of(request).room_desk
    shown = _shown_place(request, event, asker.session)
    standing = await desk.rooms.leave(event, shown.place_id, asker.user_id)
    if isinstance(standing, Refused):
        raise refusal_of(standing)
    response = json_response((await desk.positions.tell(event, standing)).answer)
    for cookie in desk.tokens.farewell_cookies(event):
        response.headers.add("set-cookie", cookie)
    return response


@waiting_room.get("/snapshot")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: Snapshot},
    refusals=_NO_ROOM,
    cached=True,
)
async def show_snapshot(request: Request, event_id: UUID) -> HTTPResponse:
    """How the room stands: one document a second, from which whoever knows their ticket finds their position: between two
    `points`, each a rank and the ticket that stands there."""
    admit_reader(request)
    room = await resources_of(request).room_desk.snapshots.get(EventId(event_id))
    return cached_json(
        request, room.document.body, etag=room.document.tag, gzipped=room.gzipped, max_age_seconds=SNAPSHOT_SECONDS
    )


@waiting_room.get("/stream")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={
        HTTPStatus.OK: Content(
            EVENT_STREAM,
            "Server-Sent Events for the head of the line: `place` and `room`. It ends when your place does.",
            FRAMES,
        )
    },
    refusals=(
        *_YOURS,
        ProblemCode.NOT_NEAR_THE_HEAD,
        ProblemCode.PLACE_GONE,
        ProblemCode.TOO_MANY_STREAMS,
        ProblemCode.UNAVAILABLE,
    ),
)
async def stream_place(request: Request, event_id: UUID) -> HTTPResponse | None:
    """Hear of your turn at once, near the head of the line: before you, 2,000 people or a minute."""
    asker = await admitted(request, Bucket.OTHER)
    event, resources = EventId(event_id), resources_of(request)
    shown = _shown_place(request, event, asker.session)
    answer = (await resources.room_desk.positions.ask_exactly(event, shown.place_id, asker.user_id)).answer
    if answer.state is PlaceState.GONE:
        return problem(ProblemCode.PLACE_GONE, answer.gone or "")
    if not is_near_the_head(answer):
        return problem(ProblemCode.NOT_NEAR_THE_HEAD, headers=retry_after(answer))
    address = _take_stream(request)
    places = resources.seat_views.places
    try:
        await resources.room_desk.streams.open(
            request, event, shown.place_id, asker.user_id, answer, on_gone=lambda: places.leave(address)
        )
    except BaseException:
        places.leave(address)
        raise
    return None


@waiting_room.get("/receipt")
@operation(access=Access.OWNER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: Receipt}, refusals=_YOURS)
async def show_receipt(request: Request, event_id: UUID) -> HTTPResponse:
    """What shows later that you were there: your ticket of the door and your commitment, signed by us. Keep it."""
    asker = await admitted(request, Bucket.OTHER)
    event, resources = EventId(event_id), resources_of(request)
    shown = _shown_place(request, event, asker.session)
    standing = await resources.room_desk.rooms.poll(event, shown.place_id, asker.user_id)
    if isinstance(standing, Refused):
        raise refusal_of(standing)
    entry = await _entry_at(resources, event, standing.log_index, standing.place_id)
    if entry is None:
        return problem(ProblemCode.ROOM_RESTORING)
    receipt = Receipt(
        event_id=event, ticket=entry.ticket, commitment=entry.commitment, log_index=entry.index, signature=""
    )
    return json_response(receipt.signed_with(resources.room_desk.tokens.keys.receipt_key))


@waiting_room.get("/proof")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: RoomProof},
    refusals=(ProblemCode.NO_WAITING_ROOM,),
    cached=True,
)
async def show_proof(request: Request, event_id: UUID) -> HTTPResponse:
    """What anybody can check the draw by: announced before anybody joins, who is in it before the beacon speaks, and the
    secret afterwards. With the log it verifies without us: `boxoffice waitingroom verify`."""
    admit_reader(request)
    record = await _record(request, EventId(event_id))
    proof = RoomProof(
        event_id=record.event_id,
        event_name=record.event_name,
        public_keys=resources_of(request).room_desk.tokens.keys.public_keys,
        announcement=record.announcement,
        frozen=record.frozen,
        revelation=record.revelation,
    )
    body = proof.model_dump_json().encode()
    return cached_json(request, body, etag=entity_tag(body), max_age_seconds=SNAPSHOT_SECONDS)


@waiting_room.get("/proof/log")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    query=LogQuery,
    answers={
        HTTPStatus.OK: Content("text/plain", "Entries of the log, a line of JSON each, oldest first, at most 1,000.")
    },
    refusals=(ProblemCode.NO_WAITING_ROOM,),
    headers={"Link": 'rel="next": the page after this one; none behind the last'},
    cached=True,
)
async def read_proof_log(request: Request, event_id: UUID) -> HTTPResponse:
    """Everything that happened in the room, by ticket: who joined, was let in, claimed, left. Never places or people."""
    admit_reader(request)
    after = read_query(request, LogQuery).after
    record = await _record(request, EventId(event_id))
    entries = await read_log(resources_of(request).pool, record.event_id, after_index=after, count=LOG_PAGE)
    body = b"".join(_public_line(entry) for entry in entries)
    is_full = len(entries) == LOG_PAGE
    seconds = FULL_PAGE_SECONDS if is_full else SNAPSHOT_SECONDS
    response = cached_json(request, body, etag=entity_tag(body), max_age_seconds=seconds)
    if response.status == HTTPStatus.OK:
        response.content_type = JSON_LINES
    if is_full:
        response.headers["link"] = f'<{request.path}?after={entries[-1].index}>; rel="next"'
    return response


@waiting_room.get("/challenge")
@operation(access=Access.USER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: RoomChallenge}, refusals=_NO_ROOM)
async def get_challenge(request: Request, event_id: UUID) -> HTTPResponse:
    """What has to be done before joining: a little work for your device, or a little patience. It is for you and this event,
    good for half an hour, and counts once."""
    asker = await admitted(request, Bucket.OTHER)
    event, resources = EventId(event_id), resources_of(request)
    desk = resources.room_desk
    room = await desk.snapshots.get(event)
    wait_seconds = resources.settings.challenge_wait_seconds
    if room.record is None or room.record.challenge is not Challenge.PROOF_OF_WORK:
        return json_response(RoomChallenge(challenge=None, wait_seconds=0))
    now_ms = desk.snapshots.now_ms()
    risk = await desk.conduct.risk(event, asker.user_id, network_of(client_address(request)), now_ms=now_ms)
    challenge = desk.challenges.make(event, desk.tokens.account(asker.user_id), risk=risk, now_ms=now_ms)
    return json_response(RoomChallenge(challenge=challenge, wait_seconds=wait_seconds))


# ---- whose place it is


async def _position(request: Request, event: EventId) -> PlaceAnswer:
    """Answered by what was signed at the door: a hundred thousand who wait ask Redis nothing about their sessions."""
    resources = resources_of(request)
    cookie = session_cookie(request, resources.gate.cookie_name)
    session = read_cookie(cookie) if cookie else None
    if session is None:
        raise Refusal(problem(ProblemCode.UNAUTHENTICATED))
    shown = _shown_place(request, event, session)
    return await resources.room_desk.positions.ask(event, shown, session.user_id)


def _found_place(request: Request, event: EventId, session: SessionId) -> ShownPlace | None:
    desk = resources_of(request).room_desk
    return desk.tokens.find_place(request, event, session, desk.snapshots.now_ms())


def _shown_place(request: Request, event: EventId, session: SessionId) -> ShownPlace:
    """The place that the request shows; raises Refusal for none, and for what is not this asker's, which look the same."""
    shown = _found_place(request, event, session)
    if shown is None:
        raise Refusal(problem(ProblemCode.PLACE_UNKNOWN))
    return shown


def _take_stream(request: Request) -> str:
    """A place for one more stream, under the address that is returned; raises Refusal."""
    if request.app.ctx.draining:
        raise Refusal(problem(ProblemCode.UNAVAILABLE))
    address = client_address(request)
    resources_of(request).seat_views.places.take(address)
    return address


# ---- what is handed out


async def _joined(
    resources: IngressResources, event: EventId, asker: Asker, standing: Standing, own: NewSecret
) -> HTTPResponse:
    desk = resources.room_desk
    told = await desk.positions.tell(event, standing)
    token = desk.tokens.place(
        event,
        asker.session,
        place_id=standing.place_id,
        ticket=told.answer.ticket or 0,
        commitment=own.commitment,
        epoch=standing.epoch,
        now_ms=standing.now_ms,
    )
    secret = None if own.secret is None else own.secret.hex()
    status = HTTPStatus.CREATED if standing.is_new else HTTPStatus.OK
    headers = {"set-cookie": desk.tokens.place_cookie(event, token, own.secret), **retry_after(told.answer)}
    return json_response(JoinedPlace(place=told.answer, place_token=token, secret=secret), status, headers)


def _passed(
    resources: IngressResources, event: EventId, asker: Asker, shown: ShownPlace, told: Told, lease: Lease
) -> HTTPResponse:
    tokens = resources.room_desk.tokens
    token = tokens.pass_for(shown.token, event, asker.session, epoch=told.epoch, lease=lease)
    seconds = math.ceil((lease.until_ms - lease.now_ms) / 1000)
    until = told.answer.until
    assert until is not None  # noqa: S101 -- whoever is active has a lease, and a lease has an end
    given = GivenPass(place=told.answer, pass_token=token, expires_at=until)
    return json_response(given, headers={"set-cookie": tokens.pass_cookie(event, token, seconds=seconds)})


def _not_claimed(told: Told) -> HTTPResponse:
    if told.answer.state is PlaceState.GONE:
        return problem(ProblemCode.PLACE_GONE, told.answer.gone or "")
    return problem(ProblemCode.NOT_YOUR_TURN, headers=retry_after(told.answer))


async def _require_met_challenge(
    resources: IngressResources, event: EventId, asker: Asker, solution: str | None
) -> None:
    """Raises Refusal unless the room's challenge comes with the request, met, and for the first time."""
    if solution is None:
        raise Refusal(problem(ProblemCode.CHALLENGE_REQUIRED))
    desk = resources.room_desk
    account = desk.tokens.account(asker.user_id)
    met = desk.challenges.met(solution, event, account, now_ms=desk.snapshots.now_ms())
    if not isinstance(met, Spendable):
        raise Refusal(problem(met))
    if not await spend(resources.redis, event, met.nonce, seconds=met.seconds):
        raise Refusal(problem(ProblemCode.CHALLENGE_SPENT))


# ---- what is published


async def _record(request: Request, event: EventId) -> RoomRecord:
    record = await resources_of(request).room_desk.snapshots.record(event)
    if record is None:
        raise Refusal(problem(ProblemCode.NO_WAITING_ROOM))
    return record


async def _entry_at(resources: IngressResources, event: EventId, index: int, place_id: PlaceId) -> KeptEntry | None:
    """What the log says at that index, of that place: in Redis, or where Redis has forgotten it, in PostgreSQL."""
    found = await resources.room_desk.rooms.read_log(event, after_index=index - 1, count=1)
    if not found or found[0].index != index:
        found = await read_log(resources.pool, event, after_index=index - 1, count=1)
    return next((entry for entry in found if (entry.index, entry.place_id) == (index, place_id)), None)


def _public_line(entry: KeptEntry) -> bytes:
    return entry.model_dump_json(exclude={"place_id", "user_id"}).encode() + b"\n"
