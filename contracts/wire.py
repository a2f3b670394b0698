"""How does a message look on the wire?

A body is JSON. A command message is always a batch, usually of one; a reply message carries all answers of one engine
batch to one asker. What is unreadable raises `UnreadableMessage`, and whoever reads it parks it.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from contracts.commands import AnyCommand
from contracts.domain_events import ANY_DOMAIN_EVENT, AnyDomainEvent
from contracts.replies import AddressedReply
from contracts.value import Value

WIRE_VERSION = 1

COMMANDS_TYPE = "tk.commands.v1"
REPLIES_TYPE = "tk.replies.v1"
CONTENT_TYPE = "application/json"

# Our own attempt counter: RabbitMQ 4 no longer interprets x-death on messages that are published again.
ATTEMPT_HEADER = "x-attempt"
ORIGIN_QUEUE_HEADER = "x-origin-queue"
REASON_HEADER = "x-reason"
# Of a parked message: since when, in milliseconds since 1970, and who had sent it, where that was what was wrong with it.
PARKED_AT_HEADER = "x-parked-at-ms"
SENDER_HEADER = "x-sender"
# When the oldest command of a message was asked, in milliseconds since 1970 by the asker's clock.
ASKED_AT_HEADER = "x-asked-at-ms"
# When what a message tells of was committed, likewise.
COMMITTED_AT_HEADER = "x-committed-at-ms"
COUNT_HEADER = "x-commands"  # for people: how many commands a message in the management UI carries
TRACEPARENT_HEADER = "traceparent"

MESSAGE_MAX_BYTES = 1024 * 1024


class UnreadableMessage(Exception):
    """The body is not a message of ours; the text says where it stops being one."""


class CommandBatch(Value):
    """One or more commands of one event, in the order they were asked."""

    version: Literal[1] = 1
    commands: tuple[AnyCommand, ...] = Field(min_length=1, max_length=1024)


class ReplyBatch(Value):
    """The answers one asker was waiting for."""

    version: Literal[1] = 1
    replies: tuple[AddressedReply, ...] = Field(min_length=1)


T = TypeVar("T")

_COMMANDS: TypeAdapter[CommandBatch] = TypeAdapter(CommandBatch)
_REPLIES: TypeAdapter[ReplyBatch] = TypeAdapter(ReplyBatch)


def encode_commands(commands: Iterable[AnyCommand]) -> bytes:
    """The body of a command message."""
    return _COMMANDS.dump_json(CommandBatch.model_construct(commands=tuple(commands)), by_alias=True, exclude_none=True)


def decode_commands(body: bytes) -> Sequence[AnyCommand]:
    """The commands in a body; raises UnreadableMessage."""
    return _decode(_COMMANDS, body).commands


def encode_replies(replies: Iterable[AddressedReply]) -> bytes:
    """The body of a reply message."""
    return _REPLIES.dump_json(ReplyBatch.model_construct(replies=tuple(replies)), by_alias=True, exclude_none=True)


def decode_replies(body: bytes) -> Sequence[AddressedReply]:
    """The replies in a body; raises UnreadableMessage."""
    return _decode(_REPLIES, body).replies


def encode_domain_event(domain_event: AnyDomainEvent) -> bytes:
    """The body of a domain event."""
    return domain_event.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_domain_event(body: bytes) -> AnyDomainEvent:
    """The domain event in a body; raises UnreadableMessage."""
    return _decode(ANY_DOMAIN_EVENT, body)


def _decode(adapter: TypeAdapter[T], body: bytes) -> T:
    if len(body) > MESSAGE_MAX_BYTES:
        raise UnreadableMessage(f"{len(body)} bytes, more than the {MESSAGE_MAX_BYTES} we read")
    try:
        return adapter.validate_json(body)
    except ValidationError as problems:
        first = problems.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UnreadableMessage(f"{where or 'body'}: {first['msg']}") from None
