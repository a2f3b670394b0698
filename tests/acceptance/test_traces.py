"""Does one trace show a purchase, from the request to the mail, through every process and server?"""

from collections.abc import AsyncIterator

import pytest

from ops.stack import Stack
from tests.acceptance.conftest import Buyer, otlp_port_of
from tests.builders import OnSale
from tests.eventually import eventually
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, an_otlp_receiver

# As a client would send it: sampled.
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENTS_SPAN = "00f067aa0ba902b7"


@pytest.fixture
async def collector(running_system: Stack) -> AsyncIterator[OtlpReceiver]:
    """Where the running system sends what it traces."""
    async with an_otlp_receiver(otlp_port_of(running_system)) as receiver:
        yield receiver


async def test_a_purchase_is_one_trace(buyer: Buyer, event: OnSale, collector: OtlpReceiver) -> None:
    hold = await buyer.reserve(event, 0, 1)
    bought = await buyer.check_out(event, hold, traceparent=f"00-{TRACE}-{CLIENTS_SPAN}-01")
    assert bought.status == 201

    # Each process sends what it has traced in a rhythm of its own.
    last = {"POST /api/checkout", "capture payment", "mail confirmation", "publish tk.reply", "publish tk.evt"}
    await eventually(lambda: last <= {span.name for span in collector.of_trace(TRACE)}, within_seconds=20)
    trace = Trace(collector.of_trace(TRACE))

    request = trace.the("POST /api/checkout")
    assert request.parent_id == CLIENTS_SPAN, "the client's trace goes on"
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["boxoffice.correlation_id"] == bought.headers["x-correlation-id"]
    assert trace.path_to("process checkout") == ["POST /api/checkout", "checkout", "publish tk.cmd"]
    # The batch of one command is in the command's trace, with what it did at the servers; each of the two names the other.
    checkout, batch = trace.the("process checkout"), trace.batches()[0]
    assert batch.parent_id == checkout.parent_id
    assert (batch.trace_id, batch.span_id) in checkout.links
    assert (batch.trace_id, batch.parent_id) in batch.links
    steps = {span.name for span in trace.spans if span.parent_id == batch.span_id}
    assert {"postgres.query SELECT FOR UPDATE", "postgres.query UPDATE seats", "postgres.commit"} <= steps
    # What came of the checkout belongs to it: the payment, which calls the provider and tells the event.
    assert trace.the("authorize payment").parent_id == checkout.span_id
    payment = trace.the("authorize payment")
    calls = [span for span in trace.spans if span.parent_id == payment.span_id and span.name.startswith("provider ")]
    assert len(calls) == 2, "the intent is made and confirmed"
    settled = trace.the("process settle_payment")
    assert trace.path_to("process settle_payment")[-2:] == ["authorize payment", "publish tk.cmd"]
    # And what came of the sale belongs to that.
    assert trace.the("capture payment").parent_id == settled.span_id
    assert trace.the("mail confirmation").parent_id == settled.span_id
    assert any(span.name == "publish tk.reply" for span in trace.spans)
    assert {span.name for span in trace.spans if span.attributes.get("boxoffice.role") == "relay"} == {"publish tk.evt"}
    assert {span.service for span in trace.spans} == {"boxoffice-ingress", "boxoffice-all"}


async def test_a_reservation_shows_the_lock_in_redis(buyer: Buyer, event: OnSale, collector: OtlpReceiver) -> None:
    trace_id = TRACE[::-1]
    assert (await buyer.reserve(event, 2, traceparent=f"00-{trace_id}-{CLIENTS_SPAN}-01")).status == 201

    def lock() -> ReceivedSpan | None:
        return next((one for one in collector.of_trace(trace_id) if one.name == "redis.evalsha seat_lock"), None)

    found = await eventually(lock)
    assert found.attributes["db.system.name"] == "redis"
    batch = await eventually(lambda: Trace(collector.of_trace(trace_id)).batches())
    assert found.parent_id == batch[0].span_id
    assert batch[0].attributes["messaging.destination.name"] == "tk.cmd"


async def test_what_nobody_chose_is_not_traced(buyer: Buyer, event: OnSale, collector: OtlpReceiver) -> None:
    """The system of these tests traces none of a hundred requests of its own choice, and a client may say no."""
    assert (await buyer.reserve(event, 3)).status == 201
    assert (await buyer.reserve(event, 4, traceparent=f"00-{TRACE}-{CLIENTS_SPAN}-00")).status == 201
    last = "ff" * 16
    assert (await buyer.reserve(event, 5, traceparent=f"00-{last}-{CLIENTS_SPAN}-01")).status == 201
    await eventually(lambda: Trace(collector.of_trace(last)).batches())
    of_event = [span for span in collector.spans if span.attributes.get("boxoffice.event_id") == str(event.event_id)]
    assert {span.trace_id for span in of_event} == {last}


class Trace:
    """The spans of one trace."""

    def __init__(self, spans: list[ReceivedSpan]) -> None:
        self.spans = spans
        self._by_id = {span.span_id: span for span in spans}

    def the(self, name: str) -> ReceivedSpan:
        """The one span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def batches(self) -> list[ReceivedSpan]:
        """The engine's batches, the first one first."""
        return [span for span in self.spans if span.name.startswith("commands tk.cmd.")]

    def path_to(self, name: str) -> list[str]:
        """What is above that span, from the top."""
        path: list[str] = []
        above = self._by_id.get(self.the(name).parent_id)
        while above is not None:
            path.insert(0, above.name)
            above = self._by_id.get(above.parent_id)
        return path
