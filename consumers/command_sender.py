"""How do payments send commands back to an event's queue?

Confirmed, and coalesced: while one message for an event is under way, later commands gather and leave together, so that a
busy provider costs the engine one batch and not a hundred.
"""

import time
from collections.abc import Sequence
from uuid import uuid4

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from consumers.broker import ConfirmedPublisher, QueueFull, persistent_message
from contracts import topology, wire
from contracts.commands import AnyCommand
from contracts.ids import EventId
from db.coalescer import Coalescer
from db.telemetry.traces import about_messages, current_traceparent, span

# A full queue is worked off within a second or two; after that the retry ladder is the better place to wait.
ATTEMPTS_MAX = 6


class CommandSender:
    """Sends commands of any event; safe to share between tasks."""

    def __init__(self, publisher: ConfirmedPublisher, *, batch_max: int = 256) -> None:
        self._publisher = publisher
        self._batch_max = batch_max
        self._by_event: dict[EventId, Coalescer[AnyCommand, None]] = {}

    async def send(self, command: AnyCommand) -> None:
        """Return once the broker has the command; raises PublishProblem."""
        sender = self._by_event.get(command.event_id)
        if sender is None:
            self._forget_idle()
            sender = self._by_event[command.event_id] = Coalescer(self._publish, batch_max=self._batch_max)
        about = about_messages(
            exchange=topology.COMMANDS, routing_key=topology.command_routing_key(command.event_id), operation="send"
        )
        with span(f"publish {topology.COMMANDS}", kind="producer", attributes=about):
            if traceparent := current_traceparent():
                command = command.model_copy(update={"traceparent": traceparent})
            await sender.ask(command)

    def _forget_idle(self) -> None:
        if len(self._by_event) > 1000:
            self._by_event = {event_id: sender for event_id, sender in self._by_event.items() if not sender.is_idle}

    async def _publish(self, commands: Sequence[AnyCommand]) -> Sequence[None]:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(QueueFull),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_attempt(ATTEMPTS_MAX),
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                await self._publisher.publish(
                    persistent_message(
                        wire.encode_commands(commands),
                        type=wire.COMMANDS_TYPE,
                        message_id=str(uuid4()),
                        headers={wire.COUNT_HEADER: len(commands), wire.ASKED_AT_HEADER: time.time_ns() // 1_000_000},
                    ),
                    exchange=topology.COMMANDS,
                    routing_key=topology.command_routing_key(commands[0].event_id),
                )
        return [None] * len(commands)
