"""Does a batch of several commands lead from each of their traces to what was done for them, and from there to each of them?"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from consumers.event_commands.outcome import Asked, Outcome
from consumers.event_commands.tracing import run_batch
from contracts import wire
from contracts.commands import AnyCommand
from db.telemetry import traces
from db.telemetry.otlp import OtlpTracing
from db.telemetry.traces import begin_span, current_traceparent, make_current, send_traces, span
from tests.builders import OnSale, a_user, check_out, reserve, settle
from tests.eventually import eventually
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, an_otlp_receiver

QUEUE = "tk.cmd.e.test"


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtlpReceiver]:
    """This process sends its traces here."""
    async with an_otlp_receiver() as receiver:
        monkeypatch.setattr(traces, "_tracing", OtlpTracing(receiver.url, role="commands", ratio=1.0))
        yield receiver
        await send_traces()


def traced(command: AnyCommand) -> AnyCommand:
    """The command as a request sends it that is traced."""
    return command.model_copy(update={"traceparent": f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"})


def named(traceparent: str | None) -> tuple[str, str]:
    """The trace id and the span id it names."""
    _, trace_id, span_id, _ = (traceparent or "").split("-")
    return trace_id, span_id


def trace_of(command: AnyCommand) -> tuple[str, str]:
    """The trace and the span a command came with."""
    return named(command.traceparent)


async def run(sale: OnSale, *commands: AnyCommand) -> Outcome:
    return await run_batch(sale.engine, QUEUE, sale.event_id, [Asked(command, "tk.reply.test") for command in commands])


async def all_sent(collector: OtlpReceiver) -> dict[str, list[ReceivedSpan]]:
    """Every span by its name, once the process has sent them."""
    await send_traces()
    found: dict[str, list[ReceivedSpan]] = {}
    for one in collector.spans:
        found.setdefault(one.name, []).append(one)
    return found


async def test_a_batch_is_linked_with_each_command_that_is_traced(sale: OnSale, collector: OtlpReceiver) -> None:
    first, second = (traced(reserve(sale.event_id, a_user(), [seat])) for seat in sale.seats[:2])
    unseen = reserve(sale.event_id, a_user(), [sale.seats[2]])
    outcome = await run(sale, first, unseen, second)
    assert [answer.reply.type for answer in outcome.answered] == ["seats_reserved"] * 3
    spans = await all_sent(collector)
    (batch,) = spans[f"commands {QUEUE}"]
    assert batch.links == {trace_of(first), trace_of(second)}
    assert (batch.parent_id, batch.attributes["messaging.batch.message_count"]) == ("", 3)
    asked = {(one.trace_id, one.parent_id): one for one in spans["process reserve_seats"]}
    assert asked.keys() == {trace_of(first), trace_of(second)}, "each in its own trace, and the third in none"
    for one in asked.values():
        assert one.links == {(batch.trace_id, batch.span_id)}
        assert one.attributes["boxoffice.answer"] == "seats_reserved"
    for name in ("redis.evalsha seat_lock", "postgres.query SELECT FOR UPDATE", "postgres.commit"):
        assert {one.parent_id for one in spans[name]} == {batch.span_id}
    assert named(outcome.traceparent) == (batch.trace_id, batch.span_id)


async def test_a_batch_that_nobody_traces_is_not_traced(sale: OnSale, collector: OtlpReceiver) -> None:
    assert (await run(sale, reserve(sale.event_id, a_user(), sale.seats[:1]))).traceparent is None
    assert await all_sent(collector) == {}


async def test_what_a_batch_owes_goes_on_in_the_trace_of_whose_it_is(
    sale: OnSale, collector: OtlpReceiver, pool: Any
) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:1])
    checkout = traced(check_out(sale.event_id, user, hold.hold_id))
    await run(sale, checkout)
    settled = traced(settle(sale.event_id, checkout.command_id))
    await run(sale, settled, reserve(sale.event_id, a_user(), sale.seats[1:2]))
    spans = await all_sent(collector)
    owed = await pool.fetch(
        "SELECT type, body, traceparent FROM outbox WHERE body LIKE $1 AND type <> 'cleanup_expired_holds'",
        f"%{checkout.command_id}%".encode(),
    )
    messages = {record["type"]: (wire.decode_domain_event(record["body"]), record["traceparent"]) for record in owed}
    for type_, of_command in (
        ("payments_requested", checkout),
        ("captures_due", settled),
        ("orders_confirmed", settled),
    ):
        message, traceparent = messages[type_]
        (part,) = message.orders if type_ == "orders_confirmed" else message.payments
        (process,) = [one for one in spans[f"process {of_command.type}"] if one.trace_id == trace_of(of_command)[0]]
        assert part.traceparent == traceparent
        assert named(traceparent) == (process.trace_id, process.span_id)
        # Whoever settles is a courier: it is still the request of who checked out.
        assert part.correlation_id == checkout.correlation_id


async def test_an_error_tells_its_type_and_not_its_text(collector: OtlpReceiver) -> None:
    with pytest.raises(ValueError, match="ann@"), span("work", is_root=True):
        raise ValueError("ann@example.org")
    (work,) = (await all_sent(collector))["work"]
    assert work.attributes == {"error.type": "ValueError"}
    assert "ann@example.org" not in repr(collector.spans)


async def test_a_span_belongs_to_the_one_around_it_in_every_task(collector: OtlpReceiver) -> None:
    async def beneath() -> str | None:
        with span("beneath"):
            return current_traceparent()

    make_current(begin_span("request", kind="server", is_root=True))
    request = named(current_traceparent())
    await asyncio.gather(beneath(), asyncio.create_task(beneath()))
    make_current(None)
    assert current_traceparent() is None
    assert await beneath() is None, "what belongs to nothing is not traced"
    spans = (await all_sent(collector))["beneath"]
    assert [(one.trace_id, one.parent_id) for one in spans] == [request, request]


@pytest.mark.parametrize("odd", ["", "00-1-2-01", f"00-{'0' * 32}-{'1' * 16}-01", "x" * 10_000])
async def test_what_is_no_traceparent_is_as_good_as_none(collector: OtlpReceiver, odd: str) -> None:
    assert begin_span("work", parent=odd) is None
    request = begin_span("request", parent=odd, is_root=True)
    assert request is not None
    request.end()


async def test_a_collector_that_is_away_costs_a_warning_and_the_end_of_the_process_little(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("db.telemetry.otlp.EXPORT_SECONDS", 0.2)
    monkeypatch.setattr(traces, "_tracing", OtlpTracing("http://127.0.0.1:9", role="commands", ratio=1.0))
    for _ in range(3):
        with span("work", is_root=True):
            pass
    began = datetime.now(UTC)
    await send_traces(within_seconds=0.5)
    assert (datetime.now(UTC) - began).total_seconds() < 2.0
    await eventually(lambda: "traces_not_sent" in caplog.messages)
    assert [message for message in caplog.messages if "Traceback" in message] == []
