"""How do traces reach a collector?

OpenTelemetry's SDK and its exporter for OTLP over HTTP, on a thread of their own. A collector that does not answer costs spans
and a warning now and then, never a sale.
"""

import logging
import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType

from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from db.telemetry.logs import bound_role
from db.telemetry.traces import Attributes, Kind, Span

log = logging.getLogger(__name__)

# An export is tried again until then, on a thread that nobody waits for.
EXPORT_SECONDS = 5.0
SCHEDULE_MILLISECONDS = 1000
WARN_EVERY_SECONDS = 60.0

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class OtlpTracing:
    """Records spans of this process and sends them to the collector."""

    def __init__(self, url: str, *, role: str, ratio: float) -> None:
        # Each of its complaints about a collector would be a line; ours says it once a minute.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        resource = Resource({"service.name": f"boxoffice-{role}", "service.namespace": "boxoffice"})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(Collector(exporter), schedule_delay_millis=SCHEDULE_MILLISECONDS)
        )
        self._tracer = self._provider.get_tracer("boxoffice")

    def begin(
        self, name: str, *, kind: Kind, parent: str | None, links: Sequence[str], attributes: Attributes, is_root: bool
    ) -> "OtlpSpan | None":
        """See `db.telemetry.traces.begin_span`."""
        above = _span_of(parent)
        if above is not None:
            context = set_span_in_context(above, Context())
        elif is_root:
            context = Context()
        else:
            above = get_current_span()
            context = set_span_in_context(above, Context())
        if above is not None and not above.get_span_context().trace_flags.sampled:
            return None
        begun = self._tracer.start_span(
            name,
            context,
            kind=_KINDS[kind],
            attributes=dict(attributes),
            links=[Link(linked.get_span_context()) for one in links if (linked := _span_of(one)) is not None],
        )
        if not begun.is_recording():
            return None
        if role := bound_role():
            begun.set_attribute("boxoffice.role", role)
        return OtlpSpan(begun)

    def within(self, begun: Span | None) -> AbstractContextManager[Span | None]:
        """See `db.telemetry.traces.span`."""
        return Within(begun)

    def make_current(self, begun: Span | None) -> None:
        """See `db.telemetry.traces.make_current`."""
        attach(set_span_in_context(begun.otel if isinstance(begun, OtlpSpan) else INVALID_SPAN))

    def current_traceparent(self) -> str | None:
        """See `db.telemetry.traces.current_traceparent`."""
        current = get_current_span()
        return _traceparent(current) if current.get_span_context().trace_flags.sampled else None

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class OtlpSpan:
    """A span of OpenTelemetry's, in our words."""

    __slots__ = ("otel",)

    def __init__(self, otel: OtelSpan) -> None:
        self.otel = otel

    @property
    def traceparent(self) -> str:
        """How others name it."""
        return _traceparent(self.otel)

    def note(self, attributes: Attributes) -> None:
        """What is known of it by now."""
        self.otel.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        """What it is called, once that is known."""
        self.otel.update_name(name)

    def end(self, problem: BaseException | str | None = None) -> None:
        """It is over."""
        if problem is not None:
            # Not its text, which may quote the data it was about.
            self.otel.set_attribute("error.type", problem if isinstance(problem, str) else type(problem).__name__)
            self.otel.set_status(Status(StatusCode.ERROR))
        self.otel.end()


class Within:
    """A span that is current as long as a block lasts."""

    __slots__ = ("_begun", "_token")

    def __init__(self, begun: Span | None) -> None:
        self._begun = begun
        self._token: Token[Context] | None = None

    def __enter__(self) -> Span | None:
        if isinstance(self._begun, OtlpSpan):
            self._token = attach(set_span_in_context(self._begun.otel))
        return self._begun

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)
        if self._begun is not None:
            self._begun.end(problem)


class Collector(SpanExporter):
    """The exporter, without its many words."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost_count = 0
        self._warned_at = -WARN_EVERY_SECONDS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send these; called on the exporter's own thread."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost_count += len(spans)
            self._warn()
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def _warn(self) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY_SECONDS:
            log.warning("traces_not_sent", extra={"lost_count": self._lost_count})
            self._warned_at, self._lost_count = now, 0


def _traceparent(span: OtelSpan) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _span_of(traceparent: str | None) -> OtelSpan | None:
    """The span of another process that this names; None where it names none."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return NonRecordingSpan(context) if context.is_valid else None
