"""What does the network do to this connection?

A proxy between a client and a server, whose misbehaviour a test switches at run time:

    async with TcpProxy("127.0.0.1", 5432) as proxy:
        pool = await asyncpg.create_pool(host="127.0.0.1", port=proxy.port)
        proxy.drop_reply_after(b"COMMIT")
        ...
        assert proxy.fired == 1  # or the test proved nothing

One fault at a time: each switch replaces the one before, for open connections and for new ones.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Final, Literal, Self

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65536
# Linger on, for zero seconds: closing then resets the connection instead of ending it politely.
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass
class Fault:
    """What is wrong at the moment; `times_left` None means until the next switch."""

    kind: Literal["none", "delay", "drop reply", "drop request"] = "none"
    delay_ms: float = 0
    pattern: bytes = b""
    times_left: int | None = None

    def strikes(self) -> bool:
        """Whether there is a strike left; takes one."""
        if self.times_left is None:
            return True
        self.times_left -= 1
        return self.times_left >= 0


@dataclass(eq=False)
class Link:
    """A client, the server it talks to, and what was seen of their conversation."""

    client_reader: asyncio.StreamReader
    client_writer: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server_writer: asyncio.StreamWriter
    # A pattern may arrive in two pieces: this is the end of the last one.
    request_tail: bytes = field(default=b"")
    reply_is_doomed: bool = False

    def request_contains(self, pattern: bytes, chunk: bytes) -> bool:
        seen = self.request_tail + chunk
        found = pattern in seen
        self.request_tail = b"" if found else seen[len(seen) - min(len(seen), len(pattern) - 1) :]
        return found

    def reset(self) -> None:
        _reset(self.client_writer)
        _reset(self.server_writer)


class TcpProxy:
    """Forwards to the target, until told otherwise. `fired` counts how often a fault did its harm."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.fired = 0
        self.port = 0
        self._target = (target_host, target_port)
        self._fault = Fault()
        self._bytes_may_pass = asyncio.Event()
        self._bytes_may_pass.set()
        self._listener: socket.socket | None = None
        self._links: set[Link] = set()
        self._conversations: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_listening()
        for link in self._links:
            link.reset()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def forward(self) -> None:
        """Behave."""
        self._switch_to(Fault())

    def delay(self, milliseconds: float) -> None:
        """Hand every piece of data on that much later, in both directions."""
        self._switch_to(Fault("delay", delay_ms=milliseconds))

    def black_hole(self) -> None:
        """Accept connections and bytes, deliver none: a partition. `forward` heals it and delivers what was held back."""
        self._switch_to(Fault())
        self._bytes_may_pass.clear()

    def refuse(self) -> None:
        """Refuse new connections, as if nothing listened; open ones live on, `cut` them too for a dead server.

        The kernel does the refusing, so `fired` does not count it; the client's ConnectionRefusedError is the proof.
        """
        self._switch_to(Fault())
        self._stop_listening()

    def cut(self) -> None:
        """Reset all open connections, once; `fired` counts each. New ones fare as before."""
        while self._links:
            self._links.pop().reset()
            self.fired += 1

    def drop_reply_after(self, pattern: bytes, *, times: int | None = 1) -> None:
        """Let the server answer a request that contains the pattern, then reset without delivering the answer.

        The first bytes from the server after the request count as its answer, so this is for protocols in which
        a client waits for each answer, as PostgreSQL's simple queries do.
        """
        self._switch_to(Fault("drop reply", pattern=pattern, times_left=times))

    def drop_request(self, pattern: bytes, *, times: int | None = 1) -> None:
        """Reset instead of forwarding a request that contains the pattern."""
        self._switch_to(Fault("drop request", pattern=pattern, times_left=times))

    def _switch_to(self, fault: Fault) -> None:
        self._fault = fault
        self._bytes_may_pass.set()
        for link in self._links:
            link.request_tail = b""
        if self._listener is None:
            self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server((HOST, self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client was gone before we looked
        conversation = asyncio.create_task(self._converse(client))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, client: socket.socket) -> None:
        client.setblocking(False)
        client_reader, client_writer = await asyncio.open_connection(sock=client)
        with contextlib.closing(client_writer):
            try:
                server_reader, server_writer = await asyncio.open_connection(*self._target)
            except OSError:
                _reset(client_writer)  # the target is down: that is all the client may learn
                return
            with contextlib.closing(server_writer):
                await self._carry(Link(client_reader, client_writer, server_reader, server_writer))

    async def _carry(self, link: Link) -> None:
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._carry_requests(link))
                both_ways.create_task(self._carry_replies(link))
        except* OSError:
            link.reset()  # one side went away without a word: so does the other
        finally:
            self._links.discard(link)

    async def _carry_requests(self, link: Link) -> None:
        while chunk := await link.client_reader.read(CHUNK_BYTES):
            await self._before_delivery()
            fault = self._fault
            is_hit = bool(fault.pattern) and link.request_contains(fault.pattern, chunk) and fault.strikes()
            if is_hit and fault.kind == "drop request":
                self.fired += 1
                link.reset()
                return
            link.reply_is_doomed |= is_hit
            await _deliver(chunk, link.server_writer)
        _end(link.server_writer)

    async def _carry_replies(self, link: Link) -> None:
        while chunk := await link.server_reader.read(CHUNK_BYTES):
            if link.reply_is_doomed:
                self.fired += 1
                link.reset()
                return
            await self._before_delivery()
            await _deliver(chunk, link.client_writer)
        _end(link.client_writer)

    async def _before_delivery(self) -> None:
        await self._until_bytes_may_pass()
        if self._fault.delay_ms:
            self.fired += 1
            await asyncio.sleep(self._fault.delay_ms / 1000)

    async def _until_bytes_may_pass(self) -> None:
        if not self._bytes_may_pass.is_set():
            self.fired += 1
            await self._bytes_may_pass.wait()


async def _deliver(chunk: bytes, writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        raise ConnectionResetError("the other side was reset while these bytes waited")
    writer.write(chunk)
    await writer.drain()


def _end(writer: asyncio.StreamWriter) -> None:
    # One side has said all it will say; the other may still be talking.
    if not writer.is_closing():
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
