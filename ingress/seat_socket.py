"""How does a client follow an event's seats over a WebSocket?

The same news as in the stream, each a JSON text message. The client may say once, as {"after": version}, what it knows.
"""

from http import HTTPStatus
from typing import Any

from pydantic import NonNegativeInt, ValidationError
from sanic import Request
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from ingress.request_body import RequestModel
from ingress.responses import ProblemCode, Refusal, problem
from ingress.seat_audience import Audience, News
from ingress.taken_connection import OnGone, TakenConnection, take_connection

MESSAGE_BYTES_MAX = 1024


class KnownVersion(RequestModel):
    """What a client may say: up to where it knows the seats."""

    after: NonNegativeInt


class SeatSocket(TakenConnection):
    """One listener. The framing is the websockets library's; our frames are written past it, ready-made."""

    def __init__(self, websocket: ServerProtocol, audience: Audience) -> None:
        super().__init__()
        self._websocket = websocket
        self._audience = audience
        self._has_spoken = False

    def data_received(self, data: bytes) -> None:
        """What the client sends: its version, answers to our pings, or its farewell."""
        self._websocket.receive_data(data)
        for frame in self._websocket.events_received():
            if isinstance(frame, Frame) and frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._hear_client(frame)
        self._send_what_is_due()

    def eof_received(self) -> None:
        """The client sends no more; the transport closes by itself."""

    def end(self) -> None:
        """Say that we go away, and close."""
        self._close(CloseCode.GOING_AWAY)
        self._transport.close()

    def _encoded(self, news: News) -> bytes:
        return news.as_frame

    def _hear_client(self, frame: Frame) -> None:
        if self._has_spoken or not frame.fin or frame.opcode is not Opcode.TEXT:
            self._close(CloseCode.POLICY_VIOLATION, "one text message, in one piece")
            return
        self._has_spoken = True
        try:
            known = KnownVersion.model_validate_json(bytes(frame.data))
        except ValidationError:
            self._close(CloseCode.POLICY_VIOLATION, 'say {"after": version}')
            return
        self._audience.catch_up(self, after=known.after)

    def _close(self, code: CloseCode, reason: str = "") -> None:
        self._websocket.fail(code, reason)
        self._send_what_is_due()

    def _send_what_is_due(self) -> None:
        for data in self._websocket.data_to_send():
            if data:
                self._write(data)
        if self._websocket.close_expected():
            self._transport.close()


async def open_socket(request: Request, audience: Audience, *, after: int | None, on_gone: OnGone) -> None:
    """Upgrade, and let the client listen from now on. Raises Refusal for what is no handshake, RequestCancelled."""
    websocket = ServerProtocol(max_size=MESSAGE_BYTES_MAX)
    headers = _accepted(websocket, request)
    connection = SeatSocket(websocket, audience)

    def gone() -> None:
        audience.leave(connection)
        on_gone()

    await take_connection(
        request,
        connection,
        status=HTTPStatus.SWITCHING_PROTOCOLS,
        headers=headers,
        content_type=None,
        on_gone=gone,
    )
    audience.join(connection, after=after)


def _accepted(websocket: ServerProtocol, request: Request) -> dict[str, str]:
    """The headers of the answer that accepts this handshake; raises Refusal."""
    websocket.receive_data(request.head + b"\r\n\r\n")
    events: list[Any] = websocket.events_received()
    if len(events) == 1 and isinstance(events[0], Handshake):
        response = websocket.accept(events[0])
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            websocket.send_response(response)
            # The head is written with our own headers; the library need only believe that it was sent.
            websocket.data_to_send()
            return {name.lower(): value for name, value in response.headers.raw_items() if name.lower() != "date"}
    raise Refusal(problem(ProblemCode.MALFORMED_REQUEST, "This address is a WebSocket: send its handshake (RFC 6455)."))
