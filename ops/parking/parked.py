"""What does a parked message say of itself: what it is, where it came from, why it is here, since when?"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from consumers.outbox_relay import ORIGIN_EXCHANGE_HEADER, ORIGIN_KEY_HEADER
from contracts import wire

# What the broker and the parking lot have added: a message that goes back goes without.
_HEADERS_OF_THE_LOT = frozenset(
    {
        wire.REASON_HEADER,
        wire.PARKED_AT_HEADER,
        wire.SENDER_HEADER,
        wire.ORIGIN_QUEUE_HEADER,
        wire.ATTEMPT_HEADER,  # the ladder begins anew
        ORIGIN_EXCHANGE_HEADER,
        ORIGIN_KEY_HEADER,
    }
)
_BROKERS_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A message in the parking lot."""

    id: str
    type: str
    reason: str
    # Where it came from: the queue of a consumer, or for the relay's the exchange and the key it should have gone to.
    origin_queue: str
    origin_exchange: str
    origin_key: str
    parked_at: datetime | None
    # Whom the broker vouches for as having parked it, and who had sent it if that was what was wrong.
    parked_by: str
    sender: str
    attempt: int
    body: bytes
    correlation_id: str | None
    message_id: str | None
    headers: Mapping[str, Any]

    @property
    def origin(self) -> str:
        """Where it came from, in one word."""
        return self.origin_queue or self.origin_exchange or "unknown"

    @property
    def headers_of_its_own(self) -> dict[str, Any]:
        """Those it had before it came to grief."""
        return {
            name: value
            for name, value in self.headers.items()
            if name not in _HEADERS_OF_THE_LOT and not name.startswith(_BROKERS_HEADERS)
        }


def read_parked(message: AbstractIncomingMessage) -> Parked:
    """What the message says of itself. Whatever was parked by the broker, because it was delivered too often, has told less."""
    headers = dict(message.headers)
    death = _last_death(headers.get("x-death"))
    parked_at_ms = headers.get(wire.PARKED_AT_HEADER)
    died_at = death.get("time")
    attempt = headers.get(wire.ATTEMPT_HEADER, 1)
    return Parked(
        id=message.message_id or f"body-{hashlib.sha256(message.body).hexdigest()[:12]}",
        type=message.type or "",
        reason=str(headers.get(wire.REASON_HEADER) or _reason_of(death)),
        origin_queue=str(headers.get(wire.ORIGIN_QUEUE_HEADER) or death.get("queue") or ""),
        origin_exchange=str(headers.get(ORIGIN_EXCHANGE_HEADER) or ""),
        origin_key=str(headers.get(ORIGIN_KEY_HEADER) or ""),
        parked_at=(
            datetime.fromtimestamp(parked_at_ms / 1000, UTC)
            if isinstance(parked_at_ms, int)
            else died_at
            if isinstance(died_at, datetime)
            else None
        ),
        parked_by=message.user_id or "",
        sender=str(headers.get(wire.SENDER_HEADER) or ""),
        attempt=attempt if isinstance(attempt, int) else 1,
        body=message.body,
        correlation_id=message.correlation_id,
        message_id=message.message_id,
        headers=headers,
    )


def _last_death(deaths: object) -> Mapping[str, Any]:
    """What the broker wrote when it dead-lettered the message; the newest stands first."""
    if isinstance(deaths, Sequence) and deaths and isinstance(deaths[0], Mapping):
        return deaths[0]
    return {}


def _reason_of(death: Mapping[str, Any]) -> str:
    if death.get("reason") == "delivery_limit":
        return "delivered again and again, and never acknowledged"
    return f"dead-lettered: {death['reason']}" if "reason" in death else "not said"
