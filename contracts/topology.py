"""Which exchanges, queues, limits and users does the broker have?

This file is the source; `rabbitmq/definitions.json` is written from it and a test holds the two together. Type and
single-active-consumer are queue arguments (RabbitMQ takes them no other way); every limit is a policy, so that an
operator can change it while it sells. Only what RabbitMQ 3.10 to 4.3 all accept is used.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from contracts.ids import EventId

VHOST = "tk"
QueueType = Literal["quorum", "classic"]

COMMANDS = "tk.cmd"
COMMANDS_COLD = "tk.cmd.cold"
REPLIES = "tk.reply"
DOMAIN_EVENTS = "tk.evt"
HOLDS = "tk.hold"
SEAT_CHANGES = "tk.seats"
TELEMETRY = "tk.tel"
PARKING_EXCHANGE = "tk.dlx"

PAYMENTS_QUEUE = "tk.work.payments"
NOTIFICATIONS_QUEUE = "tk.work.notifications"
WEBHOOKS_QUEUE = "tk.work.webhooks"
CLEANUP_QUEUE = "tk.work.cleanup"
ANALYTICS_QUEUE = "tk.tel.analytics"
PARKING_QUEUE = "tk.parking"

LANE_COUNT = 32
RETRY_DELAYS_SECONDS = (5, 30, 300)
RETRY_ATTEMPTS_MAX = 5
DEFAULT_HOLD_SECONDS = 600
PARKED_FOR_MS = 14 * 24 * 3600 * 1000

PAYMENT_EVENTS_KEY = "payment"
ORDER_EVENTS_KEY = "order"
HOLD_EXPIRED_KEY = "expired"
SALES_KEY = "sales"


def lane_of(event_id: EventId) -> int:
    """Which of the 32 shared lanes carries an event that has no queue of its own: stable across processes and years."""
    return hashlib.blake2b(event_id.bytes, digest_size=2).digest()[0] % LANE_COUNT


def lane_queue(lane: int) -> str:
    """The shared queue of one lane."""
    return f"tk.cmd.s{lane:02d}"


def event_queue(event_id: EventId) -> str:
    """The queue of an event on sale."""
    return f"tk.cmd.e.{event_id}"


def command_routing_key(event_id: EventId) -> str:
    """Where a command goes: to the event's own queue if there is one, else through the alternate exchange to its lane."""
    return f"s{lane_of(event_id):02d}.e{event_id}"


def hold_wait_queue(hold_seconds: int) -> str:
    """Where armed holds wait; one queue per duration, because mixed TTLs would block each other at the head."""
    return f"tk.hold.wait.{hold_seconds}s"


def hold_arm_key(hold_seconds: int) -> str:
    """The key that puts a message into the wait queue of that duration."""
    return f"arm.{hold_seconds}s"


def retry_exchange(delay_seconds: int) -> str:
    """Publish here with a queue's own name as key, and the message is back in that queue, and only there, after the delay."""
    return f"tk.retry.{delay_seconds}s"


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["direct", "topic", "fanout"]
    alternate: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What is declared with it."""
        return {"alternate-exchange": self.alternate} if self.alternate else {}


@dataclass(frozen=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """Messages with this key go from the exchange to the queue."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True)
class Policy:
    """Limits for all queues whose name fits."""

    name: str
    pattern: str
    definition: dict[str, Any]


@dataclass(frozen=True)
class User:
    """Who may configure, write and read what (regular expressions over exchange and queue names)."""

    name: str
    configure: str
    write: str
    read: str
    tags: tuple[str, ...] = ()


EXCHANGES = (
    Exchange(COMMANDS, "direct", alternate=COMMANDS_COLD),
    Exchange(COMMANDS_COLD, "topic"),
    Exchange(REPLIES, "direct"),
    Exchange(DOMAIN_EVENTS, "direct"),
    Exchange(HOLDS, "direct"),
    Exchange(SEAT_CHANGES, "topic"),
    Exchange(TELEMETRY, "topic"),
    Exchange(PARKING_EXCHANGE, "topic"),
    *(Exchange(retry_exchange(delay), "fanout") for delay in RETRY_DELAYS_SECONDS),
)


def command_queue_arguments(*, queue_type: QueueType = "quorum", single_active_consumer: bool = True) -> dict[str, Any]:
    """How every queue of commands is declared, hot or cold."""
    arguments: dict[str, Any] = {"x-queue-type": queue_type}
    if single_active_consumer:
        # One consumer is handed the work at a time. It saves wasted effort; it excludes nobody: the fence does that.
        arguments["x-single-active-consumer"] = True
    return arguments


def wait_queue(hold_seconds: int) -> Queue:
    """The wait queue of one hold duration; the TTL is an argument because it is the queue's name and meaning."""
    return Queue(hold_wait_queue(hold_seconds), {"x-queue-type": "quorum", "x-message-ttl": hold_seconds * 1000})


QUEUES = (
    *(Queue(lane_queue(lane), command_queue_arguments()) for lane in range(LANE_COUNT)),
    *(
        Queue(name, {"x-queue-type": "quorum"})
        for name in (PAYMENTS_QUEUE, NOTIFICATIONS_QUEUE, WEBHOOKS_QUEUE, CLEANUP_QUEUE)
    ),
    wait_queue(DEFAULT_HOLD_SECONDS),
    *(
        Queue(retry_exchange(delay), {"x-queue-type": "quorum", "x-message-ttl": delay * 1000})
        for delay in RETRY_DELAYS_SECONDS
    ),
    Queue(ANALYTICS_QUEUE, {"x-queue-type": "classic"}),
    Queue(PARKING_QUEUE, {"x-queue-type": "quorum"}),
)

BINDINGS = (
    *(Binding(COMMANDS_COLD, lane_queue(lane), f"s{lane:02d}.*") for lane in range(LANE_COUNT)),
    Binding(DOMAIN_EVENTS, PAYMENTS_QUEUE, PAYMENT_EVENTS_KEY),
    Binding(DOMAIN_EVENTS, NOTIFICATIONS_QUEUE, ORDER_EVENTS_KEY),
    Binding(DOMAIN_EVENTS, WEBHOOKS_QUEUE, ORDER_EVENTS_KEY),
    Binding(HOLDS, hold_wait_queue(DEFAULT_HOLD_SECONDS), hold_arm_key(DEFAULT_HOLD_SECONDS)),
    Binding(HOLDS, CLEANUP_QUEUE, HOLD_EXPIRED_KEY),
    Binding(TELEMETRY, ANALYTICS_QUEUE, "#"),
    Binding(PARKING_EXCHANGE, PARKING_QUEUE, "#"),
    *(Binding(retry_exchange(delay), retry_exchange(delay), "") for delay in RETRY_DELAYS_SECONDS),
)

_DEAD_LETTER_SAFELY = {"dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}

POLICIES = (
    # No dead-lettering and no TTL here: in an overload, expired commands would flood the parking lot.
    Policy(
        "commands",
        r"^tk\.cmd\.(e\.|s[0-9][0-9]$)",
        {"max-length": 1000, "overflow": "reject-publish", "delivery-limit": 5},
    ),
    Policy("replies", r"^tk\.reply\.", {"max-length": 10_000, "overflow": "drop-head"}),
    Policy("seat-views", r"^tk\.seats\.", {"max-length": 10_000, "overflow": "drop-head"}),
    Policy(
        "work",
        r"^tk\.work\.",
        {
            "max-length": 1_000_000,
            "delivery-limit": 10,
            "dead-letter-exchange": PARKING_EXCHANGE,
            **_DEAD_LETTER_SAFELY,
        },
    ),
    Policy(
        "hold-wait",
        r"^tk\.hold\.wait\.",
        {
            "max-length": 1_000_000,
            "dead-letter-exchange": HOLDS,
            "dead-letter-routing-key": HOLD_EXPIRED_KEY,
            **_DEAD_LETTER_SAFELY,
        },
    ),
    # The default exchange routes by queue name, and the key is the queue the message came from: it alone sees it again.
    Policy("retry", r"^tk\.retry\.", {"max-length": 100_000, "dead-letter-exchange": "", **_DEAD_LETTER_SAFELY}),
    Policy("analytics", r"^tk\.tel\.", {"max-length": 100_000, "overflow": "drop-head"}),
    Policy(
        "parking",
        r"^tk\.parking$",
        {
            "max-length": 100_000,
            "message-ttl": PARKED_FOR_MS,
            "overflow": "reject-publish",
            # Looking at a message counts as a delivery, and since 4.0 the twentieth would be its last: nobody looks this often.
            "delivery-limit": 1_000_000_000,
        },
    ),
)

USERS = (
    User(
        "ingress",
        configure=r"^tk\.(reply|seats)\..+$",
        write=r"^(tk\.cmd|tk\.(reply|seats)\..+)$",
        read=r"^(tk\.(reply|seats)|tk\.(reply|seats)\..+)$",
    ),
    User(
        "worker",  # commands, notifications, webhooks, analytics: may answer, may not ask
        configure="^$",
        write=r"^tk\.(reply|seats|tel|dlx|retry\.[0-9]+s)$",
        read=r"^tk\.(cmd\.(e\..+|s[0-9][0-9])|work\.(notifications|webhooks)|tel\.analytics)$",
    ),
    User(
        "courier",  # relay, payments, cleanup: carries commands back to the events
        configure="^$",
        write=r"^tk\.(cmd|evt|hold|reply|dlx|retry\.[0-9]+s)$",
        read=r"^tk\.work\.(payments|cleanup)$",
    ),
    User("lifecycle", configure=r"^tk\..+$", write=r"^(tk\..+|amq\.default)$", read=r"^tk\..+$"),
    User("operator", configure="^$", write="^$", read="^tk\\..+$", tags=("monitoring",)),
)


def definitions() -> dict[str, Any]:
    """What a fresh broker loads: the content of `rabbitmq/definitions.json`, with the demo passwords."""
    return {
        "vhosts": [{"name": VHOST}],
        "users": [
            {
                "name": user.name,
                "password_hash": _demo_password_hash(user.name),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": list(user.tags),
            }
            for user in USERS
        ],
        "permissions": [
            {"user": user.name, "vhost": VHOST, "configure": user.configure, "write": user.write, "read": user.read}
            for user in USERS
        ],
        "policies": [
            {
                "vhost": VHOST,
                "name": policy.name,
                "pattern": policy.pattern,
                "apply-to": "queues",
                "priority": 0,
                "definition": policy.definition,
            }
            for policy in POLICIES
        ],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": VHOST,
                "type": exchange.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": exchange.arguments,
            }
            for exchange in EXCHANGES
        ],
        "queues": [
            {"name": queue.name, "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": queue.arguments}
            for queue in QUEUES
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": VHOST,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": {},
            }
            for binding in BINDINGS
        ],
    }


def _demo_password_hash(user: str) -> str:
    """RabbitMQ's salted SHA-256 of `demo-<user>`, with a fixed salt so that the file does not change by itself."""
    salt = hashlib.sha256(user.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + f"demo-{user}".encode()).digest()).decode()
