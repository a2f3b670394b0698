"""How does a route keep a client's connection for itself, long after its request is over?

A stream that stays with Sanic costs a task, a request and a protocol for each listener, is cut by the response timeout, and
is waited for when the process leaves. So Sanic sends nothing and is made to let go: it believes that it has answered and
that there is no connection left to close, and what the client sends next comes to a protocol of ours.
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from sanic import Request
from sanic.exceptions import RequestCancelled
from sanic.headers import format_http1_response
from sanic.http import Stage

from ingress import request_context
from ingress.request_metrics import count_answer
from ingress.responses import Answer
from ingress.seat_audience import News

# What a listener may be behind; whoever reads more slowly is cut off, and comes back with Last-Event-ID.
BUFFERED_BYTES_MAX = 64 * 1024
# A peer that vanished without a word acknowledges nothing: the kernel gives it up after this.
UNACKNOWLEDGED_MS_MAX = 30_000


class TakenConnection(asyncio.Protocol):
    """A connection that is ours. A kind of stream says how news look on it, and what it does with what comes in."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._on_gone: Any = None

    def taken(self, transport: asyncio.Transport, on_gone: "OnGone") -> None:
        """From now on; `on_gone` is called once, when the connection is no more."""
        self._transport, self._on_gone = transport, on_gone

    def hear(self, news: News) -> None:
        """Send it, or cut off a listener who does not read what was sent before."""
        self._write(self._encoded(news))

    def end(self) -> None:
        """Close, once everything is sent."""
        self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client has gone, or we have sent it away."""
        self._on_gone()

    def _encoded(self, news: News) -> bytes:
        raise NotImplementedError

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > BUFFERED_BYTES_MAX:
            transport.abort()
            return
        transport.write(data)


class OnGone(Protocol):
    """Called when a taken connection is no more."""

    def __call__(self) -> None: ...


async def take_connection(
    request: Request,
    connection: TakenConnection,
    *,
    status: int,
    headers: Mapping[str, str],
    content_type: str | None,
    on_gone: OnGone,
) -> None:
    """Answer with that head and hand the connection over; the route returns nothing afterwards.

    Raises RequestCancelled when the client has gone already; `on_gone` is then not called.
    """
    http: Any = request.stream
    ours = http.protocol
    transport = ours.transport
    if transport is None or transport.is_closing():
        raise RequestCancelled
    answer = await request.respond(Answer(None, status, dict(headers), content_type))
    # From here on nothing waits, so no byte and no farewell of the client can be lost between the two protocols.
    transport.write(format_http1_response(status, answer.processed_headers))
    count_answer(request, status, None)
    request_context.end(request, status, None)
    http.stage, http.keep_alive, http.response_func = Stage.IDLE, False, None
    ours.transport = None
    ours.connections.discard(ours)
    _give_up_the_vanished(transport)
    connection.taken(transport, on_gone)
    transport.set_protocol(connection)
    # receive_more may have been waiting for more than there is; nobody else resumes it now.
    transport.resume_reading()
    if ours.recv_buffer:
        connection.data_received(bytes(ours.recv_buffer))


def _give_up_the_vanished(transport: asyncio.Transport) -> None:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    with suppress(OSError, AttributeError):
        if option is not None:
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, UNACKNOWLEDGED_MS_MAX)
