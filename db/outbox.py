"""Which messages do we owe the broker?

They are written in the transaction they tell of, so there is never a fact without its message nor a message without its
fact. The relay publishes them and then deletes them: at least once, in the order they were written unless one is refused.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from contracts import topology, wire
from contracts.domain_events import (
    AnyDomainEvent,
    CapturesDue,
    HoldsArmed,
    NoticesDue,
    OrdersCancelled,
    OrdersConfirmed,
    PaymentsRequested,
    RefundsDue,
    VoidsDue,
    only_request_of,
)
from db.named_queries import queries
from db.postgres import Transaction

OUTBOX_CHANNEL = "outbox"  # NOTIFY wakes the relay here

_KEYS: dict[type[AnyDomainEvent], str] = {
    PaymentsRequested: topology.PAYMENT_EVENTS_KEY,
    CapturesDue: topology.PAYMENT_EVENTS_KEY,
    VoidsDue: topology.PAYMENT_EVENTS_KEY,
    RefundsDue: topology.PAYMENT_EVENTS_KEY,
    OrdersConfirmed: topology.ORDER_EVENTS_KEY,
    OrdersCancelled: topology.ORDER_EVENTS_KEY,
    NoticesDue: topology.ORDER_EVENTS_KEY,
}

_sql = queries("outbox")


@dataclass(frozen=True, kw_only=True)
class OutboxMessage:
    """A message to be published once its transaction has committed."""

    exchange: str
    routing_key: str
    type: str
    body: bytes
    message_id: UUID = field(default_factory=uuid4)
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class OwedMessage(OutboxMessage):
    """A message in the outbox, in the hands of one relay until its transaction ends."""

    id: int
    created_at: datetime


@dataclass(frozen=True)
class Backlog:
    """What is owed and how long the oldest has been waiting; `message_count` stops at 10,000."""

    message_count: int
    oldest_seconds: float


def outbox_message(domain_event: AnyDomainEvent, *, hold_seconds: int) -> OutboxMessage:
    """The message that tells of this domain event, with its way; ValueError for those that are not owed to anybody. One that
    goes back to a single request is in that request's trace."""
    if isinstance(domain_event, HoldsArmed):
        exchange, routing_key = topology.HOLDS, topology.hold_arm_key(hold_seconds)
    elif type(domain_event) in _KEYS:
        exchange, routing_key = topology.DOMAIN_EVENTS, _KEYS[type(domain_event)]
    else:
        raise ValueError(
            f"{domain_event.type} is published after the commit, at most once; it has no place in the outbox"
        )
    part = only_request_of(domain_event)
    return OutboxMessage(
        exchange=exchange,
        routing_key=routing_key,
        type=domain_event.type,
        body=wire.encode_domain_event(domain_event),
        traceparent=None if part is None else part.traceparent,
    )


async def record_messages(tx: Transaction, messages: Sequence[OutboxMessage]) -> None:
    """Owe these messages from the moment the transaction commits, and wake the relay then."""
    if not messages:
        return
    await tx.execute(
        _sql.record_messages,
        [message.exchange for message in messages],
        [message.routing_key for message in messages],
        [message.type for message in messages],
        [message.message_id for message in messages],
        [message.body for message in messages],
        [message.traceparent for message in messages],
    )


async def take_messages(
    tx: Transaction, *, limit: int, except_ids: Collection[int] = (), except_destinations: Collection[str] = ()
) -> list[OwedMessage]:
    """The oldest messages nobody else has in hand, without these and those for these ("exchange key"); they are ours until
    the transaction ends."""
    records = await tx.fetch(_sql.take_messages, limit, list(except_ids), list(except_destinations))
    return [OwedMessage(**record) for record in records]


async def delete_messages(tx: Transaction, ids: Collection[int]) -> None:
    """These have been confirmed by the broker: nothing is owed any more."""
    if ids:
        await tx.execute(_sql.delete_messages, list(ids))


async def find_backlog(tx: Transaction) -> Backlog:
    """How far behind the relay is."""
    return Backlog(**await tx.fetchrow(_sql.find_backlog))
