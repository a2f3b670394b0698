"""May a parked message go back where it came from, and who may carry it?

A stage's message goes onto the retry ladder under its queue's name, which brings it back to that queue only. What the relay
could not deliver goes where it was to go. A command goes to its event, sent by whom the engine believes such a command: that
is why the operator's own user cannot send any of them, and why what was refused because of its sender is refused again.
"""

from dataclasses import dataclass
from typing import Any

import aio_pika

from consumers.broker import persistent_message
from contracts import topology, wire
from contracts.commands import PEOPLES_COMMANDS, AnyCommand
from contracts.settings import BrokerUser
from ops.parking.parked import Parked

COMMAND_QUEUES = "tk.cmd."
WORK_QUEUES = frozenset(
    {
        topology.PAYMENTS_QUEUE,
        topology.NOTIFICATIONS_QUEUE,
        topology.WEBHOOKS_QUEUE,
        topology.CLEANUP_QUEUE,
        topology.ANALYTICS_QUEUE,
    }
)
SHORTEST_DELAY_SECONDS = topology.RETRY_DELAYS_SECONDS[0]


class NoWayBack(Exception):
    """The message cannot go back, or should not; the message of this says why."""


@dataclass(frozen=True, kw_only=True)
class WayBack:
    """Who publishes what, and where."""

    user: BrokerUser
    exchange: str
    routing_key: str
    message: aio_pika.Message


def way_back(
    parked: Parked, *, even_late: bool = False, checks_users: bool = True, delay_seconds: int = SHORTEST_DELAY_SECONDS
) -> WayBack:
    """How this message goes back; raises NoWayBack.

    `even_late`: people's commands too, without their deadline. `checks_users`: the broker vouches for who sent what.
    """
    if parked.origin_exchange:
        return _back(parked, "courier", parked.origin_exchange, parked.origin_key)
    if parked.origin_queue.startswith(COMMAND_QUEUES):
        return _command_back(parked, even_late=even_late, checks_users=checks_users)
    if parked.origin_queue in WORK_QUEUES:
        _decoded(wire.decode_domain_event, parked)
        return _back(parked, "courier", topology.retry_exchange(delay_seconds), parked.origin_queue)
    raise NoWayBack(f"it came from {parked.origin}, which is no queue of ours")


def _command_back(parked: Parked, *, even_late: bool, checks_users: bool) -> WayBack:
    commands = _decoded(wire.decode_commands, parked)
    kinds = {_sender_of(command) for command in commands}
    user = kinds.pop()
    if kinds:
        raise NoWayBack("it has commands of people and of our own stages in it, which nobody sends together")
    if parked.sender and checks_users and parked.sender != user:
        raise NoWayBack(f"{parked.sender} sent it, and only {user} may: it would be believed now")
    if checks_users and parked.parked_by != "worker":
        raise NoWayBack(f"{parked.parked_by or 'nobody we know'} parked it, not the engine: it may be a forgery")
    if user == "courier":
        return _back(parked, user, topology.COMMANDS, topology.command_routing_key(commands[0].event_id))
    if not even_late:
        raise NoWayBack(
            "somebody asked for this, was told that it was not processed, and may have asked again since: nobody waits for it"
            " (--even-late carries it out all the same)"
        )
    late = [command.model_copy(update={"deadline_at": None}) for command in commands]
    body = wire.encode_commands(late)
    return _back(parked, user, topology.COMMANDS, topology.command_routing_key(late[0].event_id), body=body)


def _sender_of(command: AnyCommand) -> BrokerUser:
    return "ingress" if isinstance(command, PEOPLES_COMMANDS) else "courier"


def _decoded(decode: Any, parked: Parked) -> Any:
    try:
        return decode(parked.body)
    except wire.UnreadableMessage as problem:
        raise NoWayBack(f"this version cannot read it either, and would park it again: {problem}") from None


def _back(parked: Parked, user: BrokerUser, exchange: str, routing_key: str, *, body: bytes | None = None) -> WayBack:
    message = persistent_message(
        parked.body if body is None else body,
        type=parked.type,
        message_id=parked.message_id,
        correlation_id=parked.correlation_id,
        headers=parked.headers_of_its_own,
    )
    return WayBack(user=user, exchange=exchange, routing_key=routing_key, message=message)
