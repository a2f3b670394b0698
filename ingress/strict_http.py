"""Is this HTTP/1.1 as every other reader of it must read it too?

Sanic takes some requests that a proxy in front would cut into pieces elsewhere (`Transfer-Encoding : chunked`, chunks of
0x2 bytes, folded lines); whoever finds such a difference smuggles a request past the proxy, or into somebody else's
connection. Here the head of each request must match the grammar of RFC 9112 to the letter, and a body must come with its
Content-Length: what does not is answered with a problem, and the connection is closed, so nothing behind it is ever read.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from sanic import Request
from sanic.exceptions import BadRequest, ExpectationFailed
from sanic.http import Http, Stage
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

from ingress import request_context
from ingress.cors import HARMLESS_METHODS
from ingress.request_metrics import count_answer
from ingress.responses import ProblemCode, Refusal, problem

# A session cookie, an Idempotency-Key and what browsers add come to 2 KiB in some twenty lines.
HEAD_MAX_BYTES = 8192
END_OF_HEAD = b"\r\n\r\n"
HEADERS_MAX = 64
# The longest address of ours, a search with every filter, has some 500 characters.
TARGET_MAX_LENGTH = 2048

LENGTH_DIGITS_MAX = 9

# Those that a router could know. What is none of them is answered 501 rather than 405.
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"QUERY")

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# A path and a query: no absolute form, no asterisk, no fragment, nothing beyond ASCII.
_TARGET = rb"/[!-\"$-~]"
# No line folding, no blank before the colon, and in a value neither CR, LF, NUL nor another control character but TAB.
# `++` and `*+` never give back what they matched, so a hostile head takes as long as an honest one: 2 µs.
_HEAD = re.compile(
    rb"(?:%b) %b{0,%d}+ HTTP/1\.[01](?:\r\n%b++:[\t -~\x80-\xff]*+){0,%d}+"
    % (b"|".join(METHODS), _TARGET, TARGET_MAX_LENGTH - 1, _TOKEN, HEADERS_MAX)
)
_REQUEST_LINE = re.compile(rb"(%b+) (%b*) HTTP/1\.[01]" % (_TOKEN, _TARGET))
# For heads that have passed: name and value, without the blanks around it.
_FIELD = re.compile(r"([^:\r\n]++):[ \t]*+([^\r]*[^\r \t]|)")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


class TooSlow(BadRequest):
    """The request did not come in time. A BadRequest, because of those Sanic knows what to do at any stage."""

    status_code = 408


class StrictHttp(Http):
    """Sanic's handler of a connection, with a reader of heads that refuses what Sanic's lets through."""

    __slots__ = ("_deadline", "_receive_bytes")

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        self._receive_bytes: Callable[[], Awaitable[None]] = self._receive_more
        self._receive_more = self._receive_more_in_time
        self._deadline: float | None = None

    async def http1_request_header(self) -> None:
        """Read one head into `self.request`; raises Refusal. In place of Sanic's, whose two passes cost more than our one."""
        self._deadline = None
        end = self.recv_buffer.find(END_OF_HEAD, 0, HEAD_MAX_BYTES)
        if end < 0:
            end = await self._receive_head()
        head = bytes(self.recv_buffer[:end])
        if _HEAD.fullmatch(head) is None:
            raise Refusal(problem(_what_is_odd(head)))
        request = self._request_of(head)
        self.protocol.request_class._current.set(request)
        self._check_framing(request)
        # A sound request: Sanic reads its body from here on, and the connection may stay even if it is refused.
        del self.recv_buffer[: end + len(END_OF_HEAD)]
        self.request, request.stream = request, self
        request_context.begin(request)
        self.protocol.state["requests_count"] += 1
        if request.method not in HARMLESS_METHODS or self.upgrade_websocket:
            self.stage = Stage.HANDLER
            request.app.ctx.origins.check(request)

    def _request_of(self, head: bytes) -> Request:
        text = head.decode(errors="surrogateescape")
        line, _, lines = text.partition("\r\n")
        method, self.url, protocol = line.split(" ")
        request: Request = self.protocol.request_class(
            url_bytes=self.url.encode("ascii"),
            headers=cast(Any, _FIELD.findall(lines)),  # it makes a Header of them, in which names have no case
            head=head,
            version=protocol[5:],
            method=method,
            transport=cast(Any, self.protocol.transport),
            app=self.protocol.app,
        )
        return request

    def _check_framing(self, request: Request) -> None:
        """Where does this request end, and does the connection go on behind it? Raises Refusal unless it is clear."""
        headers = request.headers
        if not _is_one_host(request.version, headers.getall("host", ())):
            raise Refusal(problem(ProblemCode.MALFORMED_REQUEST))
        lengths = headers.getall("content-length", ())
        if "transfer-encoding" in headers:
            raise Refusal(problem(ProblemCode.MALFORMED_REQUEST if lengths else ProblemCode.LENGTH_REQUIRED))
        self.request_bytes_left = self.request_bytes = 0
        if lengths:
            if len(lengths) > 1 or not _is_length(lengths[0]):
                raise Refusal(problem(ProblemCode.MALFORMED_REQUEST))
            self._expect(headers.getone("expect", ""))
            self.request_body = cast(Any, True)  # as Sanic does
            self.request_bytes_left = self.request_bytes = int(lengths[0])
        connection = headers.getone("connection", "keep-alive" if request.version == "1.1" else "close")
        self.keep_alive = connection.lower() == "keep-alive"
        self.head_only = request.method == "HEAD"
        self.upgrade_websocket = headers.getone("upgrade", "").lower() == "websocket"

    def _expect(self, expectation: str) -> None:
        if expectation.lower() not in ("", "100-continue"):
            raise ExpectationFailed(expectation)
        self.expecting_continue = bool(expectation)

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Sanic's, and the answer is counted: whatever is answered begins here."""
        await super().http1_response_header(data, end_stream)
        # Sanic has noted when the head had been read; of a stream only the beginning has been sent.
        began_at = self.perft0 if self.stage is Stage.IDLE else None
        count_answer(self.request, self.response.status, began_at)
        request_context.end(self.request, self.response.status, began_at)

    async def _receive_head(self) -> int:
        """Where the head ends, once it is there."""
        buffer: bytearray = self.recv_buffer
        while (end := buffer.find(END_OF_HEAD, 0, HEAD_MAX_BYTES)) < 0:
            if len(buffer) >= HEAD_MAX_BYTES:
                raise Refusal(problem(ProblemCode.HEADERS_TOO_LARGE))
            await self._receive_more()
        return end

    def _receive_more_in_time(self) -> Awaitable[None]:
        """More bytes, but not for ever: Sanic's own timeout begins anew with each byte, so a byte now and then would do."""
        is_between_requests = self.stage is Stage.IDLE and not self.request_body  # keep-alive has a timeout of its own
        return self._receive_bytes() if is_between_requests else self._receive_the_rest()

    async def _receive_the_rest(self) -> None:
        protocol = self.protocol
        if self._deadline is None:
            self._deadline = protocol.loop.time() + protocol.request_timeout
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._receive_bytes()
        except TimeoutError:
            self.request_body = None
            self.keep_alive = False
            raise TooSlow("the request did not come in time") from None


class StrictProtocol(WebSocketProtocol):
    """Sanic's protocol with our reader."""

    HTTP_CLASS = StrictHttp


def _what_is_odd(head: bytes) -> ProblemCode:
    line, _, headers = head.partition(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(line)
    if request_line is None:
        return ProblemCode.MALFORMED_REQUEST
    if request_line[1] not in METHODS:
        return ProblemCode.METHOD_UNKNOWN
    if len(request_line[2]) > TARGET_MAX_LENGTH:
        return ProblemCode.URI_TOO_LONG
    return ProblemCode.HEADERS_TOO_LARGE if headers.count(b"\r\n") >= HEADERS_MAX else ProblemCode.MALFORMED_REQUEST


def _is_one_host(version: str, hosts: Sequence[str]) -> bool:
    if not hosts:
        return version == "1.0"
    return len(hosts) == 1 and _is_host(hosts[0])


@lru_cache(256)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _is_length(text: str) -> bool:
    # int() would take other scripts' digits and underscores; more than nine digits are a body nobody reads.
    return text.isascii() and text.isdigit() and len(text) <= LENGTH_DIGITS_MAX
