"""What came of a command that was answered with 202?"""

from datetime import UTC, datetime
from http import HTTPStatus
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import CommandId, EventId
from contracts.rejections import RejectionCode
from contracts.replies import (
    AnyReply,
    HoldExtended,
    OrderCompleted,
    PaymentActionNeeded,
    PricesChanged,
    SeatsReleased,
    SeatsReserved,
    SeatsReturned,
    SeatsWithheld,
)
from db import command_outcomes
from ingress.asking import Pending, pending
from ingress.gate import Bucket, admitted
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.resources import resources_of
from ingress.responses import ProblemCode, problem, reply_response

commands = Blueprint("commands", url_prefix="/api")


class OutcomeQuery(QueryModel):
    """Of which event was it?"""

    event_id: UUID | None = Field(None, description="as it stands in Location; without it older outcomes are not found")


@commands.get("/commands/<command_id:uuid>")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    query=OutcomeQuery,
    answers={
        HTTPStatus.OK: (
            SeatsReleased,
            HoldExtended,
            PaymentActionNeeded,
            SeatsWithheld,
            SeatsReturned,
            PricesChanged,
        ),
        HTTPStatus.CREATED: (SeatsReserved, OrderCompleted),
        HTTPStatus.ACCEPTED: Pending,
    },
    # Whatever the command itself can be answered with.
    refusals=tuple(RejectionCode),
)
async def find_outcome(request: Request, command_id: UUID) -> HTTPResponse:
    """The command's own answer, with its own status, once there is one; 202 while it may still come."""
    asker = await admitted(request, Bucket.OTHER)
    query = read_query(request, OutcomeQuery)
    asked_event_id = EventId(query.event_id) if query.event_id is not None else None
    resources = resources_of(request)
    id_ = CommandId(command_id)
    late = await command_outcomes.find_late_reply(resources.redis, asker.user_id, id_)
    if late is not None:
        return _answered(late)
    note = await command_outcomes.find_note(resources.redis, asker.user_id, id_)
    event_id = note.event_id if note is not None else asked_event_id
    if event_id is None:
        return problem(ProblemCode.NOT_FOUND)
    result = await command_outcomes.find_result(resources.pool, event_id, asker.user_id, id_, is_own=note is not None)
    if result is not None:
        return _answered(result)
    if await command_outcomes.is_under_way(resources.pool, event_id, asker.user_id, id_):
        return pending(id_, location=str(request.url))
    if note is None:
        return problem(ProblemCode.NOT_FOUND)
    if note.too_late_at > datetime.now(UTC):
        return pending(id_, location=str(request.url))
    # Too late to have begun, and no trace of it: nothing happened, and nothing will.
    return problem(RejectionCode.DEADLINE_PASSED)


def _answered(reply: AnyReply) -> HTTPResponse:
    made_something = isinstance(reply, SeatsReserved | OrderCompleted)
    return reply_response(reply, accepted=HTTPStatus.CREATED if made_something else HTTPStatus.OK)
