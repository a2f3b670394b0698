"""What do our processes say to each other, as AsyncAPI 3.0?

Made from the topology and the messages. Only who says what is written here (`SENDS`, `RECEIVES`): it is what the broker's
permissions allow, and a test holds the two together.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from contracts import topology, wire
from contracts.domain_events import DOMAIN_EVENT_TYPES
from contracts.json_schema import Schemas, example_of
from contracts.wire import CommandBatch, ReplyBatch

VERSION = "1.0.0"
BINDING_VERSION = "0.3.0"

DESCRIPTION = """\
Everything that changes a seat is a command on its event's queue; what came of it goes back to whoever asked, and to whoever
must do something about it. Bodies are JSON, camelCase, UTF-8, at most 1 MiB; the AMQP property `type` says which message it is.

Delivery is at least once: whoever receives must stand a repetition. A command carries its own id, and a repeated one finds
what it has done already. What cannot be read or done is parked in `tk.parking` with its reason, never dropped; what may work
later comes back over the retry ladder.

Additions (a member with a default, a new type of message beside the old ones) may come any time, and readers ignore members
they do not know. A change that would break a reader is a new message type; the old one is sent beside it for as long as a
reader of it runs.
"""

# Queues and exchanges of one kind are one channel, whose address has parameters.
EVENT_QUEUE = "tk.cmd.e.{eventId}"
LANE_QUEUE = "tk.cmd.s{lane}"
REPLY_QUEUE = "tk.reply.{process}.{epoch}"
SEATS_QUEUE = "tk.seats.{process}.{epoch}"

PARAMETERS: dict[str, dict[str, Any]] = {
    "eventId": {"description": "the event on sale whose queue it is"},
    "lane": {
        "description": "a stable hash of the event id",
        "enum": [f"{lane:02d}" for lane in range(topology.LANE_COUNT)],
    },
    "process": {"description": "the ingress process that listens"},
    "epoch": {"description": "its connection; a new one after each reconnect"},
}

COMMANDS_MESSAGE, REPLIES_MESSAGE, PARKED_MESSAGE = "Commands", "Replies", "Parked"
_PAYMENT_MESSAGES = ("PaymentsRequested", "CapturesDue", "VoidsDue", "RefundsDue")
_ORDER_MESSAGES = ("OrdersConfirmed", "OrdersCancelled", "NoticesDue")
_HOLD_MESSAGES = ("HoldsArmed",)


@dataclass(frozen=True)
class Part:
    """Who has to do with a channel: the role (a process), the broker's user it logs in as, and what is said there."""

    role: str
    user: str
    channel: str
    messages: tuple[str, ...]


SENDS = (
    Part("ingress", "ingress", topology.COMMANDS, (COMMANDS_MESSAGE,)),
    Part("payments", "courier", topology.COMMANDS, (COMMANDS_MESSAGE,)),
    Part("cleanup", "courier", topology.COMMANDS, (COMMANDS_MESSAGE,)),
    Part("commands", "worker", topology.REPLIES, (REPLIES_MESSAGE,)),
    Part("payments", "courier", topology.REPLIES, (REPLIES_MESSAGE,)),
    Part("commands", "worker", topology.SEAT_CHANGES, ("SeatsChanged",)),
    Part("commands", "worker", topology.TELEMETRY, ("SalesCounted",)),
    Part("relay", "courier", topology.DOMAIN_EVENTS, (*_PAYMENT_MESSAGES, *_ORDER_MESSAGES)),
    Part("relay", "courier", topology.HOLDS, _HOLD_MESSAGES),
    *(
        Part(role, user, topology.retry_exchange(delay), messages)
        for delay in topology.RETRY_DELAYS_SECONDS
        for role, user, messages in (
            ("payments", "courier", _PAYMENT_MESSAGES),
            ("cleanup", "courier", _HOLD_MESSAGES),
            ("notifications", "worker", _ORDER_MESSAGES),
        )
    ),
    Part("commands", "worker", topology.PARKING_EXCHANGE, (PARKED_MESSAGE,)),
    Part("relay", "courier", topology.PARKING_EXCHANGE, (PARKED_MESSAGE,)),
    Part("payments", "courier", topology.PARKING_EXCHANGE, (PARKED_MESSAGE,)),
    Part("cleanup", "courier", topology.PARKING_EXCHANGE, (PARKED_MESSAGE,)),
    Part("notifications", "worker", topology.PARKING_EXCHANGE, (PARKED_MESSAGE,)),
    Part("webhooks", "worker", topology.PARKING_EXCHANGE, (PARKED_MESSAGE,)),
)

RECEIVES = (
    Part("commands", "worker", EVENT_QUEUE, (COMMANDS_MESSAGE,)),
    Part("commands", "worker", LANE_QUEUE, (COMMANDS_MESSAGE,)),
    Part("ingress", "ingress", REPLY_QUEUE, (REPLIES_MESSAGE,)),
    Part("ingress", "ingress", SEATS_QUEUE, ("SeatsChanged",)),
    Part("payments", "courier", topology.PAYMENTS_QUEUE, _PAYMENT_MESSAGES),
    Part("notifications", "worker", topology.NOTIFICATIONS_QUEUE, _ORDER_MESSAGES),
    Part("webhooks", "worker", topology.WEBHOOKS_QUEUE, _ORDER_MESSAGES),
    Part("cleanup", "courier", topology.CLEANUP_QUEUE, _HOLD_MESSAGES),
    Part("analytics", "worker", topology.ANALYTICS_QUEUE, ("SalesCounted",)),
    Part("an operator", "operator", topology.PARKING_QUEUE, (PARKED_MESSAGE,)),
)


def asyncapi_document() -> dict[str, Any]:
    """The document: servers, channels, operations and messages of the broker."""
    schemas = Schemas(messages=[CommandBatch, ReplyBatch, *DOMAIN_EVENT_TYPES])
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Boxoffice, between its processes", "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": wire.CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "{host}",
                "pathname": f"/{topology.VHOST}",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ 3.10 to 4.3; BOXOFFICE_RABBITMQ_URL says where",
                "variables": {"host": {"default": "127.0.0.1:5672"}},
                "security": [{"$ref": "#/components/securitySchemes/user"}],
            }
        },
        "channels": {channel["x-key"]: _without_key(channel) for channel in (*_exchanges(), *_queues())},
        "operations": dict(_operations()),
        "components": {
            "messages": dict(_messages(schemas)),
            "schemas": schemas.components,
            "securitySchemes": {
                "user": {
                    "type": "userPassword",
                    "description": "; ".join(f"{user.name}: may write {user.write}" for user in topology.USERS),
                }
            },
        },
    }


# ---- channels


def _exchanges() -> Iterator[dict[str, Any]]:
    for exchange in topology.EXCHANGES:
        binding = {"name": exchange.name, "type": exchange.type, "durable": True, "autoDelete": False}
        keys = [found.routing_key for found in topology.BINDINGS if found.exchange == exchange.name]
        yield _channel(
            _named("exchange", exchange.name),
            exchange.name,
            _messages_at(exchange.name) or _messages_at(topology.COMMANDS),
            {"is": "routingKey", "exchange": {**binding, "vhost": topology.VHOST}},
            {"x-arguments": exchange.arguments, "x-routing-keys": sorted({*keys, *_KEYS.get(exchange.name, ())})},
        )


# Keys that are bound while the system runs.
_KEYS = {
    topology.COMMANDS: ("s<lane>.e<event id>",),
    topology.REPLIES: ("<name of the reply queue>",),
    topology.SEAT_CHANGES: ("<event id>",),
}


def _queues() -> Iterator[dict[str, Any]]:
    lasting = {"durable": True, "exclusive": False, "autoDelete": False}
    passing = {"durable": False, "exclusive": True, "autoDelete": True}
    commands = topology.command_queue_arguments()
    yield _queue(EVENT_QUEUE, lasting, commands, _messages_at(EVENT_QUEUE))
    yield _queue(LANE_QUEUE, lasting, commands, _messages_at(LANE_QUEUE))
    yield _queue(REPLY_QUEUE, passing, {}, _messages_at(REPLY_QUEUE))
    yield _queue(SEATS_QUEUE, passing, {}, _messages_at(SEATS_QUEUE))
    for queue in topology.QUEUES:
        if not re.fullmatch(r"tk\.cmd\.s\d\d", queue.name):
            yield _queue(
                queue.name, lasting, queue.arguments, _messages_at(queue.name) or _messages_waiting(queue.name)
            )


def _queue(
    address: str, properties: dict[str, bool], arguments: dict[str, Any], messages: Sequence[str]
) -> dict[str, Any]:
    policy = next(policy for policy in topology.POLICIES if re.search(policy.pattern, _an_address(address)))
    return _channel(
        _named("queue", address),
        address,
        messages,
        {"is": "queue", "queue": {"name": address, "vhost": topology.VHOST, **properties}},
        {"x-arguments": arguments, "x-policy": {"name": policy.name, **policy.definition}},
    )


def _channel(
    key: str, address: str, messages: Sequence[str], binding: dict[str, Any], extensions: dict[str, Any]
) -> dict[str, Any]:
    named = re.findall(r"\{(\w+)\}", address)
    return {
        "x-key": key,
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        **({"parameters": {name: PARAMETERS[name] for name in named}} if named else {}),
        "bindings": {"amqp": {**binding, "bindingVersion": BINDING_VERSION}},
        **extensions,
    }


def _without_key(channel: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in channel.items() if name != "x-key"}


def _messages_at(address: str) -> list[str]:
    """What is said or heard there, each once."""
    return list(
        dict.fromkeys(name for part in (*SENDS, *RECEIVES) if part.channel == address for name in part.messages)
    )


def _messages_waiting(queue: str) -> list[str]:
    """What nobody receives waits: it was sent to an exchange that is bound to the queue."""
    return [name for found in topology.BINDINGS if found.queue == queue for name in _messages_at(found.exchange)]


def _an_address(address: str) -> str:
    """An address with something in the place of its parameters."""
    return address.replace("{lane}", "00").replace("{", "").replace("}", "")


# ---- operations


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for action, kind, parts in (("send", "exchange", SENDS), ("receive", "queue", RECEIVES)):
        for part in parts:
            key = _named(kind, part.channel)
            yield (
                _named(f"{part.role}.{action}s", part.channel).replace(" ", ""),
                {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{key}"},
                    "messages": [{"$ref": f"#/channels/{key}/messages/{name}"} for name in part.messages],
                    "x-role": part.role,
                    "x-user": part.user,
                },
            )


def _named(kind: str, address: str) -> str:
    """A key that can stand in a reference as it is: `queue.tk.cmd.e.eventId`."""
    return f"{kind}.{address}".replace("{", "").replace("}", "")


# ---- messages

_OWN_HEADERS = {
    wire.TRACEPARENT_HEADER: {"type": "string", "description": "W3C trace context, where there is one"},
    wire.COUNT_HEADER: {"type": "integer", "minimum": 1, "description": "for people: how many commands it carries"},
    wire.ATTEMPT_HEADER: {"type": "integer", "minimum": 1, "description": "for the how-manieth time it is tried"},
    wire.ASKED_AT_HEADER: {"type": "integer", "description": "when its oldest command was asked, ms since 1970"},
    wire.COMMITTED_AT_HEADER: {"type": "integer", "description": "when what it tells of was committed, ms since 1970"},
}
_PARKED_HEADERS = {
    wire.REASON_HEADER: {"type": "string", "description": "why it was parked"},
    wire.ORIGIN_QUEUE_HEADER: {"type": "string", "description": "the queue it came from"},
}


def _messages(schemas: Schemas) -> Iterator[tuple[str, dict[str, Any]]]:
    yield COMMANDS_MESSAGE, _batch(CommandBatch, wire.COMMANDS_TYPE, "commands", schemas)
    yield REPLIES_MESSAGE, _batch(ReplyBatch, wire.REPLIES_TYPE, "replies", schemas)
    for kind in DOMAIN_EVENT_TYPES:
        type_ = kind.model_fields["type"].default
        example = {"name": type_, "payload": example_of(schemas.of(kind), schemas)}
        yield kind.__name__, _message(kind, type_, [example], schemas)
    yield (
        PARKED_MESSAGE,
        {
            "name": "parked",
            "summary": "Any of the messages, as it came, with the reason why it was put aside.",
            "contentType": wire.CONTENT_TYPE,
            "headers": {"type": "object", "properties": _PARKED_HEADERS, "required": [wire.REASON_HEADER]},
            "payload": {},
        },
    )


def _batch(kind: type[Any], type_: str, member: str, schemas: Schemas) -> dict[str, Any]:
    """A message of many: an example for each type of what it carries, and the asker it is for, in each of them."""
    item = schemas.resolved(schemas.of(kind))["properties"][member]["items"]
    resolved = schemas.resolved(item)
    union = resolved["properties"]["reply"] if member == "replies" else resolved
    examples = []
    for variant in union["oneOf"]:
        value = example_of(variant, schemas, also=("correlationId", "deadlineAt"))
        carried = {**example_of(item, schemas), "reply": value} if member == "replies" else value
        examples.append({"name": value["type"], "payload": {"version": wire.WIRE_VERSION, member: [carried]}})
    message = _message(kind, type_, examples, schemas)
    message["correlationId"] = {
        "description": "each of them carries its own",
        "location": f"$message.payload#/{member}/0/correlationId",
    }
    return message


def _message(kind: type[Any], type_: str, examples: Sequence[dict[str, Any]], schemas: Schemas) -> dict[str, Any]:
    return {
        "name": type_,
        "summary": (kind.__doc__ or "").partition("\n")[0],
        "contentType": wire.CONTENT_TYPE,
        "headers": {"type": "object", "properties": _OWN_HEADERS},
        "payload": schemas.of(kind),
        "bindings": {"amqp": {"messageType": type_, "bindingVersion": BINDING_VERSION}},
        "examples": list(examples),
    }
