"""How does a browser's EventSource follow an event's seats?

Server-Sent Events (WHATWG HTML 9.2). The answer has neither length nor chunks and lasts until the connection closes, so a
frame is the same bytes for every listener, and for HTTP/1.0 too.
"""

import random
from http import HTTPStatus

from sanic import Request

from ingress.seat_audience import Audience, News
from ingress.taken_connection import OnGone, TakenConnection, take_connection

EVENT_STREAM = "text/event-stream"
HEADERS = {
    "connection": "close",
    "x-accel-buffering": "no",  # nginx would keep frames back until its buffer is full
}
# Spread, so that all who were cut off together do not come back together.
RETRY_MS = (2000, 5000)


class SeatStream(TakenConnection):
    """One listener. What the client sends is not read."""

    def greet(self) -> None:
        """Tell the client how long to wait before it comes back."""
        self._write(b"retry: %d\n\n" % random.randint(*RETRY_MS))  # noqa: S311 -- spreads load, guards nothing

    def _encoded(self, news: News) -> bytes:
        return news.as_sse


async def open_stream(request: Request, audience: Audience, *, after: int | None, on_gone: OnGone) -> None:
    """Let the client listen from now on; `after` is the last version it knows. Raises RequestCancelled."""
    stream = SeatStream()

    def gone() -> None:
        audience.leave(stream)
        on_gone()

    await take_connection(
        request, stream, status=HTTPStatus.OK, headers=HEADERS, content_type=EVENT_STREAM, on_gone=gone
    )
    stream.greet()
    audience.join(stream, after=after)


def last_event_id(request: Request) -> int | None:
    """The version in Last-Event-ID; None when there is none that could be one of ours."""
    text = request.headers.getone("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
