"""Where in whose trace are we?

A trace follows one request through every process that has to do with it; each piece of work in it is a span. Off by default
(`Settings.otlp_url`): then `span` gives one shared context that does nothing, and no package of OpenTelemetry is imported. Only
what is traced says so to the next one: a message of a request that nobody traces carries nothing.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

from contracts.settings import Settings

# How long the end of a process waits for what is still to be sent.
FLUSH_SECONDS = 2.0

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """A piece of work of a trace that is being recorded."""

    @property
    def traceparent(self) -> str:
        """How others name it (W3C Trace Context)."""
        ...

    def rename(self, name: str) -> None:
        """What it is called, once that is known."""
        ...

    def note(self, attributes: Attributes) -> None:
        """What is known of it by now."""
        ...

    def end(self, problem: BaseException | str | None = None) -> None:
        """It is over; well, unless there was a problem, whose type is told and not its text."""
        ...


class Tracing(Protocol):
    """What records spans and sends them on: `db.telemetry.otlp`, which is imported only where it is wanted."""

    def begin(
        self, name: str, *, kind: Kind, parent: str | None, links: Sequence[str], attributes: Attributes, is_root: bool
    ) -> Span | None:
        """See `begin_span`."""
        ...

    def within(self, begun: Span | None) -> AbstractContextManager[Span | None]:
        """Make it the current span of this task meanwhile, and end it then."""
        ...

    def make_current(self, begun: Span | None) -> None:
        """From here on this is the current span of this task; None: there is none."""
        ...

    def current_traceparent(self) -> str | None:
        """See the function of this name."""
        ...

    def close(self) -> None:
        """Send what is left; may take as long as the collector does not answer."""
        ...


_tracing: Tracing | None = None
_NOTHING: AbstractContextManager[None] = nullcontext()


def set_up_traces(settings: Settings, *, role: str) -> None:
    """Trace from here on, if the settings name a collector; call it once the process has its loop. Requests are chosen where
    they come in; whoever is further down goes on with what was chosen there."""
    global _tracing
    if not settings.otlp_url:
        return
    from db.telemetry.otlp import OtlpTracing

    _tracing = OtlpTracing(settings.otlp_url, role=role, ratio=settings.trace_ratio if role == "ingress" else 1.0)


async def send_traces(within_seconds: float = FLUSH_SECONDS) -> None:
    """The process is about to end: send what is left, but wait for a collector that does not answer no longer than this."""
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is None:
        return
    # A daemon: nothing waits for it when time is up.
    sender = threading.Thread(target=tracing.close, name="traces out", daemon=True)
    sender.start()
    await asyncio.to_thread(sender.join, within_seconds)


def is_tracing() -> bool:
    """Whether anything may be traced; for work that is worth sparing otherwise."""
    return _tracing is not None


def current_traceparent() -> str | None:
    """What to tell whoever goes on with this; None where this is not traced."""
    return None if _tracing is None else _tracing.current_traceparent()


def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Attributes | None = None,
    is_root: bool = False,
) -> AbstractContextManager[Span | None]:
    """A piece of work, as long as the block lasts; what happens in it belongs to it. Gives None where nothing is traced."""
    tracing = _tracing
    if tracing is None:
        return _NOTHING
    begun = tracing.begin(name, kind=kind, parent=parent, links=links, attributes=attributes or {}, is_root=is_root)
    return _NOTHING if begun is None else tracing.within(begun)


def begin_span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Attributes | None = None,
    is_root: bool = False,
) -> Span | None:
    """A piece of work that is no block: whoever begins it ends it.

    It belongs to `parent`, else to the current span; where neither is traced there is none (None), unless it `is_root`: then
    it begins a trace of its own. `links` are other spans it has to do with.
    """
    tracing = _tracing
    if tracing is None:
        return None
    return tracing.begin(name, kind=kind, parent=parent, links=links, attributes=attributes or {}, is_root=is_root)


def make_current(begun: Span | None) -> None:
    """What this task does from here on belongs to that span: for a task that does one thing after the other."""
    if _tracing is not None:
        _tracing.make_current(begun)


def about_messages(
    *, exchange: str, routing_key: str, operation: Literal["send", "process"], count: int = 1
) -> dict[str, str | int | float | bool]:
    """The attributes of a span about messages, by the semantic conventions: the exchange is the destination."""
    about: dict[str, str | int | float | bool] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": operation,
        "messaging.destination.name": exchange,
        "messaging.rabbitmq.destination.routing_key": routing_key,
    }
    if count > 1:
        about["messaging.batch.message_count"] = count
    return about
