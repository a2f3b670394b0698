"""Which traces does a batch belong to?

To none, mostly, and then nothing is done about it. Where commands of it are traced, the batch is a span that is linked with
each of them, and with the steps of its transaction beneath it; and each of them has a span in its own trace, linked with the
batch, which whatever comes of the command belongs to. A batch of one traced command is in that command's trace altogether.
"""

from collections.abc import Sequence

from consumers.event_commands.engine import Engine
from consumers.event_commands.outcome import Asked, Outcome
from contracts import topology
from contracts.ids import CommandId, EventId
from contracts.replies import Rejected
from db.telemetry.traces import Span, about_messages, begin_span, is_tracing, span


async def run_batch(engine: Engine, queue: str, event_id: EventId, asked: Sequence[Asked]) -> Outcome:
    """The engine's `run_batch`, traced as far as the commands are."""
    traced = [one.command.traceparent for one in asked if one.command.traceparent] if is_tracing() else []
    if not traced:
        return await engine.run_batch(event_id, asked)
    about = about_messages(exchange=topology.COMMANDS, routing_key=queue, operation="process", count=len(asked))
    with span(
        f"commands {queue}",
        kind="consumer",
        parent=traced[0] if len(traced) == 1 else None,
        links=traced,
        attributes={**about, "boxoffice.event_id": str(event_id)},
        is_root=True,
    ) as batch:
        if batch is None:
            return await engine.run_batch(event_id, asked)
        return await _run_linked(engine, event_id, asked, batch)


async def _run_linked(engine: Engine, event_id: EventId, asked: Sequence[Asked], batch: Span) -> Outcome:
    spans: dict[CommandId, Span] = {}
    asked = [_with_span(one, batch, spans) if one.command.traceparent else one for one in asked]
    try:
        outcome = await engine.run_batch(event_id, asked)
    except BaseException as problem:
        for begun in spans.values():
            begun.end(problem)
        raise
    for answer in outcome.answered:
        begun_for = spans.get(answer.asked.command.command_id)
        if begun_for is not None:
            reply = answer.reply
            begun_for.note({"boxoffice.answer": reply.code.value if isinstance(reply, Rejected) else reply.type})
    for begun in spans.values():
        begun.end()
    outcome.traceparent = batch.traceparent
    return outcome


def _with_span(asked: Asked, batch: Span, spans: dict[CommandId, Span]) -> Asked:
    """The same, but what comes of it belongs to its span here."""
    command = asked.command
    about = {
        **about_messages(
            exchange=topology.COMMANDS,
            routing_key=topology.command_routing_key(command.event_id),
            operation="process",
        ),
        "boxoffice.correlation_id": str(command.correlation_id or ""),
    }
    begun = begin_span(
        f"process {command.type}",
        kind="consumer",
        parent=command.traceparent,
        links=[batch.traceparent],
        attributes=about,
    )
    if begun is None:
        return asked
    # The same command may be asked twice in a batch; the first of them is shown, and neither is left open.
    earlier = spans.setdefault(command.command_id, begun)
    if earlier is not begun:
        begun.end()
    return Asked(command.model_copy(update={"traceparent": begun.traceparent}), asked.reply_to)
