"""What does a client hear when a command has been asked?

The one place where the outcomes of an ask become answers: the sale's reply, a polite no, or "not known yet, look here".
"""

import hashlib
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal

from sanic import HTTPResponse, Request

from contracts.commands import AnyCommand
from contracts.ids import CommandId, UserId, command_id_of_key
from contracts.replies import PaymentActionNeeded
from contracts.value import Value
from db import command_outcomes
from db.command_outcomes import CommandNote
from ingress.command_bus import Busy, NotOnSale, OutcomeUnknown, Unavailable
from ingress.request_context import ask_id
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, json_response, problem, reply_response

IDEMPOTENCY_KEY_LENGTH_MAX = 255
# A reply that was sent just before the deadline is still on its way.
REPLY_GRACE_SECONDS = 0.25
# After the deadline a command is no longer begun; one that had been begun is over after the statement timeouts.
BEGUN_FOR_SECONDS = 15


class Pending(Value):
    """Not known yet; look at `Location` in a moment."""

    command_id: CommandId
    status: Literal["pending"] = "pending"


def ask_fields(request: Request, *, user_id: UserId, route: str, deadline_seconds: float) -> dict[str, Any]:
    """The fields every buyer's command has. With an Idempotency-Key the command's id follows from it, so a retry is the
    same command, and the hash of the body tells a retry from a reuse; raises Refusal for a key that is none."""
    key = idempotency_key(request)
    fields: dict[str, Any] = {
        "deadline_at": datetime.now(UTC) + timedelta(seconds=deadline_seconds),
        "user_id": user_id,
    }
    if key is None:
        # Nobody can ask for the same command again, so one id does for both.
        id_ = ask_id(request)
        return {"command_id": id_, "correlation_id": id_, **fields}
    return fields | {
        "correlation_id": ask_id(request),
        "command_id": command_id_of_key(user_id=user_id, route=route, idempotency_key=key),
        "request_hash": hashlib.sha256(request.body).hexdigest(),
    }


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key that came with the request, if one did; raises Refusal for a key that is none."""
    key: str | None = request.headers.getone("idempotency-key", None)
    if key is not None and (not 0 < len(key) <= IDEMPOTENCY_KEY_LENGTH_MAX or not key.isprintable()):
        errors = [
            {"pointer": "", "message": f"Idempotency-Key: 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} printable characters"}
        ]
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=errors))
    return key


async def answer(
    request: Request, command: AnyCommand, *, user_id: UserId, accepted: HTTPStatus, wait_seconds: float
) -> HTTPResponse:
    """Ask, and put into HTTP what comes of it."""
    bus = resources_of(request).command_bus
    try:
        if "respond-async" in request.headers.getone("prefer", ""):
            await bus.tell(command, user_id=user_id)
            return await _look_later(request, command, user_id)
        reply = await bus.ask(command, user_id=user_id, wait_seconds=wait_seconds + REPLY_GRACE_SECONDS)
        if isinstance(reply, PaymentActionNeeded):
            return reply_response(reply, accepted=HTTPStatus.ACCEPTED, headers={"location": _location(command)})
        return reply_response(reply, accepted=accepted)
    except NotOnSale:
        return problem(ProblemCode.NOT_ON_SALE)
    except Busy:
        return problem(ProblemCode.BUSY)
    except Unavailable:
        return problem(ProblemCode.UNAVAILABLE)
    except OutcomeUnknown:
        return await _look_later(request, command, user_id)


async def _look_later(request: Request, command: AnyCommand, user_id: UserId) -> HTTPResponse:
    """202: where the outcome will be. Never "failed": that would be a guess."""
    deadline = command.deadline_at or datetime.now(UTC)
    note = CommandNote(
        event_id=command.event_id, type=command.type, too_late_at=deadline + timedelta(seconds=BEGUN_FOR_SECONDS)
    )
    await command_outcomes.record_asked(resources_of(request).redis, user_id, command.command_id, note)
    return pending(command.command_id, location=_location(command))


def _location(command: AnyCommand) -> str:
    return f"/api/commands/{command.command_id}?eventId={command.event_id}"


def pending(command_id: CommandId, *, location: str) -> HTTPResponse:
    """Not known yet; look at `location` in a moment."""
    return json_response(
        Pending(command_id=command_id), HTTPStatus.ACCEPTED, {"location": location, "retry-after": "1"}
    )
