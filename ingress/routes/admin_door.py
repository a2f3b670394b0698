"""How does an organiser see the doors, and who scans there?"""

import logging
from http import HTTPStatus
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId, UserId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.check_ins import DoorFigures, find_figures
from db.redis import REDIS_AWAY
from db.sessions import destroy_sessions_of
from db.users import User, end_scanner, list_scanners, make_scanner
from ingress.gate import Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import IngressResources, resources_of
from ingress.responses import ProblemCode, empty_response, json_response, problem
from ingress.routes.auth import NewPassword
from ingress.texts import EmailAddress, Name

admin_door = Blueprint("admin_door", url_prefix="/api/admin")

log = logging.getLogger(__name__)


class ScannerRequest(RequestModel):
    """Who is to scan."""

    email: EmailAddress
    password: NewPassword | None = Field(
        None, repr=False, description="of a new account; one that exists keeps its own"
    )
    name: Name = Field("Scanner", description="of a new account")


class ScannerList(Value):
    """Who may scan, besides the administrators."""

    scanners: tuple[User, ...]


@admin_door.get("/events/<event_id:uuid>/checkins")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: DoorFigures},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def show_check_ins(request: Request, event_id: UUID) -> HTTPResponse:
    """How many are in, what each gate has heard, and whom two doors let in with one ticket."""
    await admitted_admin(request, Bucket.OTHER)
    figures = await find_figures(resources_of(request).pool, EventId(event_id))
    return json_response(figures) if figures is not None else problem(RejectionCode.EVENT_UNKNOWN)


@admin_door.get("/scanners")
@operation(access=Access.ADMIN, bucket=Bucket.OTHER, answers={HTTPStatus.OK: ScannerList})
async def show_scanners(request: Request) -> HTTPResponse:
    """Who may scan, besides the administrators."""
    await admitted_admin(request, Bucket.OTHER)
    return json_response(ScannerList(scanners=tuple(await list_scanners(resources_of(request).pool))))


@admin_door.post("/scanners")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=ScannerRequest,
    answers={HTTPStatus.CREATED: User, HTTPStatus.OK: User},
    refusals=(ProblemCode.EMAIL_TAKEN,),
    examples={
        "somebody new": {"email": "door@example.org", "password": "for this evening", "name": "North gate"},
        "somebody with an account": {"email": "ann@example.org"},
    },
)
async def appoint_scanner(request: Request) -> HTTPResponse:
    """Let somebody scan at every event. 201: with a new account; 200: with theirs, into which they log in again. May be sent
    again as it is."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, ScannerRequest)
    resources = resources_of(request)
    password_hash = await resources.passwords.hash(wanted.password) if wanted.password is not None else None
    made = await make_scanner(
        resources.pool, email=wanted.email, password_hash=password_hash, name=wanted.name, made_by=asker.user_id
    )
    if made.user is None:
        errors = [{"pointer": "/password", "message": "there is no account of this address, and a new one needs one"}]
        return problem(ProblemCode.INVALID_REQUEST, errors=errors)
    if made.user.role == "admin":
        return problem(ProblemCode.EMAIL_TAKEN, "an administrator's: administrators may scan as they are")
    if made.is_new:
        return json_response(made.user, HTTPStatus.CREATED)
    if made.is_promoted:
        await _end_sessions(resources, made.user.id)
    return json_response(made.user)


@admin_door.delete("/scanners/<user_id:uuid>")
@operation(access=Access.ADMIN, bucket=Bucket.OTHER, answers={HTTPStatus.NO_CONTENT: None})
async def dismiss_scanner(request: Request, user_id: UUID) -> HTTPResponse:
    """Let a scanner scan no more, at once and on all devices. The account stays, as a buyer's."""
    asker = await admitted_admin(request, Bucket.OTHER)
    resources = resources_of(request)
    if await end_scanner(resources.pool, UserId(user_id), ended_by=asker.user_id) is None:
        return problem(ProblemCode.NOT_FOUND)
    await _end_sessions(resources, UserId(user_id))
    return empty_response()


async def _end_sessions(resources: IngressResources, user_id: UserId) -> None:
    # A session says which role it was begun with. Where Redis is away it lives on, and opens no door: a scan asks PostgreSQL.
    try:
        await destroy_sessions_of(resources.redis, user_id)
    except REDIS_AWAY as problem_:
        log.warning("the sessions of %s could not be ended: %r", user_id, problem_)
