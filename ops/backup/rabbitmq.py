"""What is kept of the broker, and what of it must never come back?

Definitions are kept: users, permissions, policies, exchanges, queues. Messages are not. What a buyer was waiting for when the
broker was lost he hears as "unknown, ask again"; what is owed to anybody stands in the outbox, in the database. A message that
outlived its database speaks of orders that no longer are, and one of them would take money: it is thrown away.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from consumers.broker import connect
from consumers.lifecycle import declare_topology
from contracts import topology
from contracts.settings import Settings
from ops.backup.problem import BackupProblem
from ops.stack import Stack, StackProblem

OURS, LIVE = "rabbitmq-topology.json", "rabbitmq-definitions.json"
# Made and emptied by ingress processes that live; no other connection may even look into them.
OF_PROCESSES = ("tk.reply.", "tk.seats.")
TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True)
class Exported:
    """What was written, the broker's version, and what an operator should know about it."""

    paths: tuple[Path, ...]
    version: str
    note: str | None


async def export(settings: Settings, stack: Stack, folder: Path) -> Exported:
    """Write what the broker is told (ours), and what it says it has (live), as far as we may see it."""
    ours = folder / OURS
    ours.write_text(json.dumps(topology.definitions(), indent=2) + "\n", encoding="utf-8")
    version = await _version(settings)
    try:
        live = await _live_definitions(settings, stack)
    except (BackupProblem, StackProblem) as problem:
        return Exported((ours,), version, f"live broker definitions were not exported: {problem}")
    path = folder / LIVE
    path.touch(mode=0o600)
    path.write_text(live, encoding="utf-8")
    return Exported((path, ours), version, None)


def check_definitions(path: Path) -> None:
    """Raises BackupProblem when it does not read as a broker's definitions."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as problem:
        raise BackupProblem(f"{path.name} is not JSON: {problem}") from problem
    if not isinstance(found, dict) or not {"queues", "exchanges", "bindings"} <= found.keys():
        raise BackupProblem(f"{path.name} has no queues, exchanges and bindings")


async def _live_definitions(settings: Settings, stack: Stack) -> str:
    """All of the broker's definitions, users included: rabbitmqctl's of a private broker, else the management API's."""
    if stack.process("rabbitmq") is not None:
        return stack.rabbitmqctl("export_definitions", "-", "--silent")
    status, body = await _ask(settings, "/api/definitions", user=urlsplit(settings.rabbitmq_url).username)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise BackupProblem("it needs an administrator of the broker; ours are in definitions.json all the same")
    if status != HTTPStatus.OK:
        raise BackupProblem(f"the management API answers {status}")
    return body


async def _version(settings: Settings) -> str:
    try:
        status, body = await _ask(settings, "/api/overview")
    except BackupProblem:
        return "unknown"
    return str(json.loads(body).get("rabbitmq_version", "unknown")) if status == HTTPStatus.OK else "unknown"


async def _ask(settings: Settings, path: str, *, user: str | None = None) -> tuple[int, str]:
    parts = urlsplit(settings.rabbitmq_url)
    auth = aiohttp.BasicAuth("operator", settings.rabbitmq_operator_password)
    if user is not None and parts.password is not None:
        auth = aiohttp.BasicAuth(user, parts.password)
    try:
        async with (
            aiohttp.ClientSession(auth=auth, timeout=TIMEOUT) as http,
            http.get(f"{settings.rabbitmq_management_url}{path}") as response,
        ):
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError) as problem:
        raise BackupProblem(
            f"the management API of RabbitMQ cannot be reached: {problem or repr(problem)}"
        ) from problem


async def find_queues(settings: Settings) -> list[str]:
    """Queues in which messages outlive their sender: every one of ours but the parking lot, whose messages are evidence."""
    status, body = await _ask(settings, f"/api/queues/{quote(topology.VHOST, safe='')}?columns=name")
    if status == HTTPStatus.NOT_FOUND:
        return []
    if status != HTTPStatus.OK:
        raise BackupProblem(f"the management API of RabbitMQ answers {status} when asked for its queues")
    names = [str(queue["name"]) for queue in json.loads(body)]
    return sorted(name for name in names if name != topology.PARKING_QUEUE and not name.startswith(OF_PROCESSES))


async def count_messages(settings: Settings, queues: Sequence[str], *, throw_away: bool) -> int:
    """How many messages wait in these queues; with `throw_away`, waited."""
    count = 0
    try:
        connection = await connect(settings, "lifecycle", name="boxoffice restore")
        async with connection:
            for name in queues:
                # On a channel of its own: a queue that has gone meanwhile closes the channel it is asked for on.
                async with connection.channel() as channel:
                    with suppress(ChannelNotFoundEntity):
                        queue = await channel.declare_queue(name, passive=True)
                        count += queue.declaration_result.message_count or 0
                        if throw_away:
                            await queue.purge()
    except (AMQPError, OSError, TimeoutError) as problem:
        raise BackupProblem(f"RabbitMQ cannot be reached: {problem or repr(problem)}") from problem
    return count


async def bring_about(settings: Settings) -> None:
    """Declare what the code says the broker must have; raises BackupProblem."""
    try:
        await declare_topology(settings)
    except (AMQPError, OSError, TimeoutError) as problem:
        raise BackupProblem(f"RabbitMQ cannot be reached: {problem or repr(problem)}") from problem
