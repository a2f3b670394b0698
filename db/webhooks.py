"""Whom do we tell what has happened, and have they heard it?

An endpoint's messages are numbered without gaps, in the transaction that writes them: a receiver that sees a number missing asks
for it again, and one that has them all can prove it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID, uuid4

from pydantic import AwareDatetime, Field
from pydantic_core import to_json

from contracts.ids import EventId, UserId
from contracts.value import Value
from contracts.webhooks import Fact, WebhookType
from db.named_queries import queries
from db.postgres import Pool, Transaction, changed_count, columns

_sql = queries("webhooks")

EndpointStatus = Literal["active", "paused", "disabled"]


class WebhookEndpoint(Value):
    """Where a system of the organiser listens."""

    id: UUID
    url: str
    types: tuple[WebhookType, ...] = Field(description="empty: all")
    event_id: EventId | None = Field(description="null: of all events")
    status: EndpointStatus
    disabled_because: str
    last_sequence: int = Field(
        description="number of the newest message; a receiver that has it and no gap has missed nothing"
    )
    pending_count: int
    failed_count: int
    has_two_secrets: bool = Field(description="the secret is being changed: messages carry a signature of each")
    created_at: AwareDatetime
    version: int


class WebhookMessage(Value):
    """A message to an endpoint and how far it has come."""

    sequence: int
    id: str
    type: WebhookType
    body: str = Field(description="exactly what is sent")
    status: Literal["pending", "delivered", "failed"]
    attempt_count: int
    next_attempt_at: AwareDatetime
    created_at: AwareDatetime
    delivered_at: AwareDatetime | None


class WebhookAttempt(Value):
    """One attempt to deliver a message, and what the other side said."""

    sequence: int
    number: int
    at: AwareDatetime
    http_status: int | None
    problem: str
    took_ms: int


class StoredEndpoint(NamedTuple):
    """What an endpoint is changed from."""

    url: str
    types: list[str]
    event_id: EventId | None
    status: EndpointStatus
    disabled_because: str
    secret: str
    secret_before: str
    version: int


@dataclass(frozen=True)
class DueMessage:
    """A message in the hands of one sender until its lease ends."""

    endpoint_id: UUID
    sequence: int
    id: str
    type: str
    body: str
    attempt_count: int
    url: str
    secret: str
    secret_before: str


async def insert_endpoint(
    tx: Transaction,
    endpoint_id: UUID,
    *,
    url: str,
    types: Sequence[str],
    event_id: EventId | None,
    secret: str,
    by: UserId,
) -> None:
    """A new endpoint; asyncpg.ForeignKeyViolationError when there is no such event."""
    await tx.execute(_sql.insert_endpoint, endpoint_id, url, list(types), event_id, secret, by)


async def list_endpoints(pool: Pool) -> list[WebhookEndpoint]:
    """All endpoints, the oldest first."""
    return [WebhookEndpoint(**record) for record in await pool.fetch(_sql.list_endpoints, None)]


async def find_endpoint(pool: Pool | Transaction, endpoint_id: UUID) -> WebhookEndpoint | None:
    """One endpoint."""
    record = await pool.fetchrow(_sql.list_endpoints, endpoint_id)
    return None if record is None else WebhookEndpoint(**record)


async def lock_endpoint(tx: Transaction, endpoint_id: UUID) -> StoredEndpoint | None:
    """The endpoint, which nobody else changes or numbers meanwhile."""
    record = await tx.fetchrow(_sql.lock_endpoint, endpoint_id)
    return None if record is None else StoredEndpoint(**record)


async def update_endpoint(tx: Transaction, endpoint_id: UUID, changed: StoredEndpoint) -> None:
    """Save it; its version goes up."""
    await tx.execute(
        _sql.update_endpoint,
        endpoint_id,
        changed.url,
        changed.types,
        changed.event_id,
        changed.status,
        changed.secret,
        changed.secret_before,
    )


async def delete_endpoint(tx: Transaction, endpoint_id: UUID) -> None:
    """It and all its messages are gone."""
    await tx.execute(_sql.delete_endpoint, endpoint_id)


async def tell(tx: Transaction, event_id: EventId, facts: Sequence[Fact], *, at: str) -> int:
    """Write these facts down for every endpoint that wants them, each once; returns how many messages that makes. `at` is the
    time the messages carry, ISO 8601."""
    count = 0
    types = list({fact.type.value for fact in facts})
    for listener in await tx.fetch(_sql.find_listeners, event_id, types):
        wanted = [fact for fact in facts if not listener["types"] or fact.type.value in listener["types"]]
        count += await _number(tx, listener["id"], listener["last_sequence"], wanted, at)
    return count


async def tell_one(tx: Transaction, endpoint_id: UUID, last_sequence: int, fact: Fact, *, at: str) -> None:
    """Write a fact down for this endpoint, whose record is locked."""
    await _number(tx, endpoint_id, last_sequence, [fact], at)


async def _number(tx: Transaction, endpoint_id: UUID, last_sequence: int, facts: Sequence[Fact], at: str) -> int:
    told = {record["source"] for record in await tx.fetch(_sql.find_told, endpoint_id, [fact.source for fact in facts])}
    fresh = list({fact.source: fact for fact in facts if fact.source not in told}.values())
    if not fresh:
        return 0
    rows = [_row(fact, last_sequence + number, at) for number, fact in enumerate(fresh, 1)]
    await tx.execute(_sql.insert_messages, endpoint_id, *columns(rows))
    return len(rows)


def _row(fact: Fact, sequence: int, at: str) -> tuple[str, int, str, str, str]:
    # The same for ever and from everybody: a receiver that gets it twice sees that.
    id_ = f"msg_{uuid4().hex}"
    body = {"type": fact.type.value, "timestamp": at, "sequence": sequence, "data": dict(fact.data)}
    return fact.source, sequence, id_, fact.type.value, to_json(body).decode()


async def take_due(pool: Pool, *, per_endpoint: int, lease_seconds: float) -> list[DueMessage]:
    """The messages whose turn it is, in our hands until the lease ends; each counts as an attempt."""
    records = await pool.fetch(_sql.take_due, per_endpoint, lease_seconds)
    return [DueMessage(**record) for record in records]


async def record_attempt(
    pool: Pool, message: DueMessage, *, http_status: int | None, problem: str, took_ms: int
) -> None:
    """What the other side said."""
    await pool.execute(
        _sql.record_attempt,
        message.endpoint_id,
        message.sequence,
        message.attempt_count,
        http_status,
        problem,
        took_ms,
    )


async def settle_message(
    pool: Pool, message: DueMessage, status: Literal["pending", "delivered", "failed"], *, again_in_seconds: float = 0.0
) -> None:
    """How it ended, or when it is tried again."""
    await pool.execute(
        _sql.settle_message, message.endpoint_id, message.sequence, message.attempt_count, status, again_in_seconds
    )


async def put_back(pool: Pool, message: DueMessage, *, again_in_seconds: float) -> None:
    """It was taken and not tried."""
    await pool.execute(_sql.put_back, message.endpoint_id, message.sequence, message.attempt_count, again_in_seconds)


async def disable_endpoint(pool: Pool, endpoint_id: UUID, because: str) -> None:
    """Tell it nothing any more; what is pending stays, for when somebody enables it again."""
    await pool.execute(_sql.disable_endpoint, endpoint_id, because)


async def list_messages(pool: Pool, endpoint_id: UUID, *, after: int, limit: int) -> list[WebhookMessage]:
    """The messages with a number above `after`, in order."""
    return [WebhookMessage(**record) for record in await pool.fetch(_sql.list_messages, endpoint_id, after, limit)]


async def list_attempts(pool: Pool, endpoint_id: UUID, sequence: int) -> list[WebhookAttempt]:
    """Every attempt to deliver this message since it was last replayed."""
    return [WebhookAttempt(**record) for record in await pool.fetch(_sql.list_attempts, endpoint_id, sequence)]


async def replay(tx: Transaction, endpoint_id: UUID, *, first: int, last: int) -> int:
    """Send these again, in order, as if for the first time; returns how many there are."""
    await tx.execute(_sql.forget_attempts, endpoint_id, first, last)
    return changed_count(await tx.execute(_sql.replay_messages, endpoint_id, first, last))


async def forget_old(pool: Pool, *, days: int) -> None:
    """Drop what was settled so long ago; the numbers go on."""
    await pool.execute(_sql.forget_old, days)
