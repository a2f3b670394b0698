"""What does the broker's management API say of queues, and of who consumes them? Asked as the user `operator`, who only looks.

Its counts are up to five seconds old (collect_statistics_interval in rabbitmq.conf).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from contracts import topology
from contracts.settings import Settings

TIMEOUT_SECONDS = 5.0
_QUEUE_COLUMNS = (
    "name,state,messages_ready,messages_unacknowledged,consumers,head_message_timestamp,message_stats.ack_details.rate"
)


class ManagementAway(Exception):
    """The management API cannot be read; the message says where it was looked for, and why."""


@dataclass(frozen=True, kw_only=True)
class ConsumerSeen:
    """Who consumes a queue: its tag, the name of its connection, and whether the broker gives it messages."""

    queue: str
    tag: str
    connection: str
    is_active: bool


@dataclass(frozen=True, kw_only=True)
class QueueSeen:
    """A queue as the broker counts it; None is what it does not say."""

    name: str
    state: str
    ready_count: int | None
    unacknowledged_count: int | None
    acknowledged_per_second: float | None
    # When the message at the head was published, seconds since 1970: classic queues only, and only if messages say it.
    head_message_at: int | None
    consumers: tuple[ConsumerSeen, ...] = field(default=())


async def read_queues(settings: Settings) -> list[QueueSeen]:
    """Every queue of ours with its consumers; raises ManagementAway."""
    account = {"Authorization": aiohttp.encode_basic_auth("operator", settings.rabbitmq_operator_password)}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with aiohttp.ClientSession(headers=account, timeout=timeout, raise_for_status=True) as http:
            queues, consumers, connections = await asyncio.gather(
                _read(http, settings, f"queues/{topology.VHOST}?columns={_QUEUE_COLUMNS}&disable_stats=false"),
                _read(http, settings, f"consumers/{topology.VHOST}"),
                _read(http, settings, "connections?columns=name,user_provided_name"),
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        raise ManagementAway(
            f"the broker's management API at {settings.rabbitmq_management_url} does not answer:"
            f" {problem or type(problem).__name__} (BOXOFFICE_RABBITMQ_MANAGEMENT_URL, BOXOFFICE_RABBITMQ_OPERATOR_PASSWORD)"
        ) from problem
    names = {one["name"]: one.get("user_provided_name") or one["name"] for one in connections}
    seen = [_consumer(one, names) for one in consumers]
    return [_queue(one, tuple(who for who in seen if who.queue == one["name"])) for one in queues]


async def _read(http: aiohttp.ClientSession, settings: Settings, path: str) -> list[dict[str, Any]]:
    async with http.get(f"{settings.rabbitmq_management_url}/api/{path}") as response:
        return list(await response.json())


def _consumer(told: Mapping[str, Any], connections: Mapping[str, str]) -> ConsumerSeen:
    connection = told["channel_details"].get("connection_name", "")
    return ConsumerSeen(
        queue=told["queue"]["name"],
        tag=told["consumer_tag"],
        connection=connections.get(connection, connection),
        is_active=bool(told.get("active", True)),
    )


def _queue(told: Mapping[str, Any], consumers: tuple[ConsumerSeen, ...]) -> QueueSeen:
    rates = (told.get("message_stats") or {}).get("ack_details") or {}
    head = told.get("head_message_timestamp")
    return QueueSeen(
        name=told["name"],
        state=told.get("state") or "silent",
        ready_count=told.get("messages_ready"),
        unacknowledged_count=told.get("messages_unacknowledged"),
        acknowledged_per_second=rates.get("rate"),
        head_message_at=head if isinstance(head, int) else None,
        consumers=consumers,
    )
