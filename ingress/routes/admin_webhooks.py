"""How does an organiser have another system told what happens, and see that it was?"""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid4

import asyncpg
from pydantic import Field, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId, UserId
from contracts.public_addresses import URL_LENGTH_MAX, why_not_callable
from contracts.rejections import RejectionCode
from contracts.value import Value
from contracts.webhook_signatures import new_secret
from contracts.webhooks import Fact, WebhookType
from db import webhooks as records
from db.audit_log import record_deed
from db.postgres import Transaction, transaction
from db.webhooks import StoredEndpoint, WebhookAttempt, WebhookEndpoint, WebhookMessage
from ingress.gate import Asker, Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, json_response, problem

admin_webhooks = Blueprint("admin_webhooks", url_prefix="/api/admin/webhooks")

PAGE_SIZE = 100
# More than this at once would keep its record locked for long; a receiver that missed more asks again.
REPLAYED_MAX = 10_000

Url = Annotated[str, Field(min_length=8, max_length=URL_LENGTH_MAX)]
_Types = Annotated[tuple[WebhookType, ...], Field(max_length=len(WebhookType))]


class EndpointRequest(RequestModel):
    """Where to post, and what: no types are all, no event is all of them."""

    url: Url
    types: _Types = ()
    event_id: UUID | None = None


class ChangeEndpointRequest(EndpointRequest):
    """The whole of what can be changed. A paused endpoint's messages wait, numbered, until it is active again; a disabled one is
    enabled by making it active."""

    status: Literal["active", "paused"] = "active"


class ReplayRequest(RequestModel):
    """From which number on, and up to which; without one, to the newest."""

    from_sequence: Annotated[int, Field(ge=1)]
    to_sequence: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.to_sequence is not None and self.to_sequence < self.from_sequence:
            raise ValueError("toSequence must not be before fromSequence")
        return self


class MessageQuery(QueryModel):
    """Which messages?"""

    after: int = Field(0, ge=0, description="sequence of the last message you have")


class EndpointMade(Value):
    """A new endpoint, or a new secret of one: shown this once."""

    endpoint: WebhookEndpoint
    secret: str = Field(description="whsec_ and base64, for any library of Standard Webhooks")


class EndpointList(Value):
    """All endpoints."""

    endpoints: tuple[WebhookEndpoint, ...]


class MessagePage(Value):
    """Messages in order of their number, and after which the next page begins."""

    messages: tuple[WebhookMessage, ...]
    next_after: int | None


class AttemptList(Value):
    """Every attempt to deliver a message since it was last replayed."""

    attempts: tuple[WebhookAttempt, ...]


class Replayed(Value):
    """So many messages are sent again, in order."""

    message_count: int


@admin_webhooks.get("/")
@operation(access=Access.ADMIN, bucket=Bucket.OTHER, answers={HTTPStatus.OK: EndpointList})
async def list_webhooks(request: Request) -> HTTPResponse:
    """Every endpoint, how many messages wait for it, and how many were given up."""
    await admitted_admin(request, Bucket.OTHER)
    return json_response(EndpointList(endpoints=tuple(await records.list_endpoints(resources_of(request).pool))))


@admin_webhooks.post("/")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=EndpointRequest,
    answers={HTTPStatus.CREATED: EndpointMade},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    examples={
        "orders and refunds": {
            "url": "https://shop.example.com/boxoffice",
            "types": ["order.completed", "refund.started"],
        }
    },
)
async def make_webhook(request: Request) -> HTTPResponse:
    """A new endpoint. Its secret is in this answer and nowhere else."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, EndpointRequest)
    _refuse_url(request, wanted.url)
    endpoint_id, secret = uuid4(), new_secret()
    try:
        async with transaction(resources_of(request).pool) as tx:
            await records.insert_endpoint(
                tx,
                endpoint_id,
                url=wanted.url,
                types=[one.value for one in wanted.types],
                event_id=None if wanted.event_id is None else EventId(wanted.event_id),
                secret=secret,
                by=asker.user_id,
            )
            await _note(tx, asker, "make_webhook", endpoint_id, before=None, after=wanted.model_dump(mode="json"))
            made = await _show(tx, endpoint_id)
    except asyncpg.ForeignKeyViolationError:
        return problem(RejectionCode.EVENT_UNKNOWN)
    return json_response(EndpointMade(endpoint=made, secret=secret), status=HTTPStatus.CREATED)


@admin_webhooks.get("/<webhook_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: WebhookEndpoint},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def show_webhook(request: Request, webhook_id: UUID) -> HTTPResponse:
    """One endpoint."""
    await admitted_admin(request, Bucket.OTHER)
    found = await records.find_endpoint(resources_of(request).pool, webhook_id)
    return problem(ProblemCode.NOT_FOUND) if found is None else json_response(found)


@admin_webhooks.put("/<webhook_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=ChangeEndpointRequest,
    answers={HTTPStatus.OK: WebhookEndpoint},
    refusals=(ProblemCode.NOT_FOUND, RejectionCode.EVENT_UNKNOWN),
    examples={"pause it": {"url": "https://shop.example.com/boxoffice", "status": "paused"}},
)
async def change_webhook(request: Request, webhook_id: UUID) -> HTTPResponse:
    """Change, pause, or enable an endpoint."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, ChangeEndpointRequest)
    _refuse_url(request, wanted.url)
    try:
        async with transaction(resources_of(request).pool) as tx:
            stored = await _lock(tx, webhook_id)
            changed = stored._replace(
                url=wanted.url,
                types=[one.value for one in wanted.types],
                event_id=None if wanted.event_id is None else EventId(wanted.event_id),
                status=wanted.status,
            )
            await records.update_endpoint(tx, webhook_id, changed)
            await _note(tx, asker, "change_webhook", webhook_id, before=_shown(stored), after=_shown(changed))
            shown = await _show(tx, webhook_id)
    except asyncpg.ForeignKeyViolationError:
        return problem(RejectionCode.EVENT_UNKNOWN)
    return json_response(shown)


@admin_webhooks.delete("/<webhook_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.NO_CONTENT: None},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def delete_webhook(request: Request, webhook_id: UUID) -> HTTPResponse:
    """Remove an endpoint with all its messages."""
    asker = await admitted_admin(request, Bucket.OTHER)
    async with transaction(resources_of(request).pool) as tx:
        stored = await _lock(tx, webhook_id)
        await records.delete_endpoint(tx, webhook_id)
        await _note(tx, asker, "delete_webhook", webhook_id, before=_shown(stored), after=None)
    return HTTPResponse(status=HTTPStatus.NO_CONTENT)


@admin_webhooks.post("/<webhook_id:uuid>/secret")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: EndpointMade},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def change_webhook_secret(request: Request, webhook_id: UUID) -> HTTPResponse:
    """A new secret. Until the next change, messages are signed with the old one as well, so that nothing is refused meanwhile."""
    asker = await admitted_admin(request, Bucket.OTHER)
    secret = new_secret()
    async with transaction(resources_of(request).pool) as tx:
        stored = await _lock(tx, webhook_id)
        changed = stored._replace(secret=secret, secret_before=stored.secret, status=_kept(stored))
        await records.update_endpoint(tx, webhook_id, changed)
        await _note(tx, asker, "change_webhook_secret", webhook_id, before=None, after=None)
        shown = await _show(tx, webhook_id)
    return json_response(EndpointMade(endpoint=shown, secret=secret))


@admin_webhooks.post("/<webhook_id:uuid>/test")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.ACCEPTED: WebhookEndpoint},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def test_webhook(request: Request, webhook_id: UUID) -> HTTPResponse:
    """Send a message of type endpoint.test, whatever types it wants; look at its messages for what came of it."""
    asker = await admitted_admin(request, Bucket.OTHER)
    async with transaction(resources_of(request).pool) as tx:
        await _lock(tx, webhook_id)
        endpoint = await _show(tx, webhook_id)
        fact = Fact(f"test:{uuid4()}", WebhookType.TEST, {"endpointId": str(webhook_id)})
        at = datetime.now(UTC).isoformat()
        await records.tell_one(tx, webhook_id, endpoint.last_sequence, fact, at=at)
        await _note(tx, asker, "test_webhook", webhook_id, before=None, after=None)
        endpoint = await _show(tx, webhook_id)
    return json_response(endpoint, status=HTTPStatus.ACCEPTED)


@admin_webhooks.get("/<webhook_id:uuid>/messages")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    query=MessageQuery,
    answers={HTTPStatus.OK: MessagePage},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def list_webhook_messages(request: Request, webhook_id: UUID) -> HTTPResponse:
    """The messages in order of their number, without gaps, with their bodies: whoever missed some can read them here."""
    await admitted_admin(request, Bucket.OTHER)
    pool = resources_of(request).pool
    if await records.find_endpoint(pool, webhook_id) is None:
        return problem(ProblemCode.NOT_FOUND)
    after = read_query(request, MessageQuery).after
    found = await records.list_messages(pool, webhook_id, after=after, limit=PAGE_SIZE)
    next_after = found[-1].sequence if len(found) == PAGE_SIZE else None
    return json_response(MessagePage(messages=tuple(found), next_after=next_after))


@admin_webhooks.get("/<webhook_id:uuid>/messages/<sequence:int>/attempts")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: AttemptList},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def list_webhook_attempts(request: Request, webhook_id: UUID, sequence: int) -> HTTPResponse:
    """What the other side said to a message, attempt by attempt."""
    await admitted_admin(request, Bucket.OTHER)
    pool = resources_of(request).pool
    if not 0 < sequence < 2**63 or not await records.list_messages(pool, webhook_id, after=sequence - 1, limit=1):
        return problem(ProblemCode.NOT_FOUND)
    return json_response(AttemptList(attempts=tuple(await records.list_attempts(pool, webhook_id, sequence))))


@admin_webhooks.post("/<webhook_id:uuid>/replay")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=ReplayRequest,
    answers={HTTPStatus.ACCEPTED: Replayed},
    refusals=(ProblemCode.NOT_FOUND,),
    examples={"everything since number 17": {"fromSequence": 17}},
)
async def replay_webhook(request: Request, webhook_id: UUID) -> HTTPResponse:
    """Send messages again, in order, under the ids and numbers they had: at most 10,000 at once."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, ReplayRequest)
    async with transaction(resources_of(request).pool) as tx:
        await _lock(tx, webhook_id)
        last = min(wanted.to_sequence or 2**62, wanted.from_sequence + REPLAYED_MAX - 1)
        if wanted.from_sequence >= 2**62:
            return json_response(Replayed(message_count=0), status=HTTPStatus.ACCEPTED)
        count = await records.replay(tx, webhook_id, first=wanted.from_sequence, last=last)
        await _note(tx, asker, "replay_webhook", webhook_id, before=None, after=wanted.model_dump(mode="json"))
    return json_response(Replayed(message_count=count), status=HTTPStatus.ACCEPTED)


def _refuse_url(request: Request, url: str) -> None:
    """Raises Refusal for an address we would not call."""
    is_development = resources_of(request).settings.environment == "development"
    reason = why_not_callable(url, is_development=is_development)
    if reason:
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=[{"pointer": "/url", "message": reason}]))


async def _lock(tx: Transaction, webhook_id: UUID) -> StoredEndpoint:
    stored = await records.lock_endpoint(tx, webhook_id)
    if stored is None:
        raise Refusal(problem(ProblemCode.NOT_FOUND))
    return stored


async def _show(tx: Transaction, webhook_id: UUID) -> WebhookEndpoint:
    found = await records.find_endpoint(tx, webhook_id)
    if found is None:
        raise Refusal(problem(ProblemCode.NOT_FOUND))
    return found


def _kept(stored: StoredEndpoint) -> Literal["active", "paused"]:
    # Whoever changes the secret of a disabled endpoint has mended it.
    return "paused" if stored.status == "paused" else "active"


def _shown(stored: StoredEndpoint) -> dict[str, Any]:
    """What may stand in the audit log: no secret."""
    return {
        "url": stored.url,
        "types": list(stored.types),
        "event_id": None if stored.event_id is None else str(stored.event_id),
        "status": stored.status,
    }


async def _note(
    tx: Transaction,
    asker: Asker,
    action: str,
    webhook_id: UUID,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    await record_deed(
        tx,
        user_id=UserId(asker.user_id),
        action=action,
        event_id=None,
        subject=f"webhook {webhook_id}",
        before=before,
        after=after,
    )
