"""How does an organiser cancel an event, and see its money go back?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import CancelEvent
from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.replies import EventCancelled
from db.cancellations import CancellationProgress, find_progress
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, json_response, problem
from ingress.texts import Line

admin_cancellation = Blueprint("admin_cancellation", url_prefix="/api/admin/events/<event_id:uuid>")


class CancelRequest(RequestModel):
    """Why. The buyers are told."""

    reason: Annotated[Line, Field(max_length=500)] = ""


@admin_cancellation.post("/cancel")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=CancelRequest,
    answers={HTTPStatus.OK: EventCancelled, HTTPStatus.ACCEPTED: Pending},
    refusals=(RejectionCode.EVENT_UNKNOWN, RejectionCode.EVENT_CANCELLED),
    asks=True,
    examples={"a storm": {"reason": "The open-air stage is closed because of a storm."}},
)
async def cancel_event(request: Request, event_id: UUID) -> HTTPResponse:
    """Cancel an event for good. From the answer on nothing of it is sold, and everybody has all their money back without
    asking; `GET …/cancellation` says how far that has come."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, CancelRequest)
    resources = resources_of(request)
    deadline_seconds = resources.settings.checkout_deadline_seconds
    command = CancelEvent(
        event_id=EventId(event_id),
        reason=wanted.reason,
        **ask_fields(
            request, user_id=asker.user_id, route=f"cancel_event:{event_id}", deadline_seconds=deadline_seconds
        ),
    )
    answered = await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.OK, wait_seconds=deadline_seconds
    )
    # Whatever the answer: where it is not known yet, it may have happened.
    await resources.read_cache.forget_all()
    return answered


@admin_cancellation.get("/cancellation")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: CancellationProgress},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def show_cancellation(request: Request, event_id: UUID) -> HTTPResponse:
    """How much of the money of a cancelled event has gone back."""
    await admitted_admin(request, Bucket.OTHER)
    progress = await find_progress(resources_of(request).pool, EventId(event_id))
    return json_response(progress) if progress is not None else problem(ProblemCode.NOT_FOUND, "it was not cancelled")
