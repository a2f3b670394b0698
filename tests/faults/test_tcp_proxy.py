"""Does the proxy do to a connection exactly what it was told, and can a test prove that it did?"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest

from tests.eventually import eventually
from tests.faults.tcp_proxy import HOST, TcpProxy

# Long enough to be sure that nothing comes, short enough to wait for.
SILENCE_SECONDS = 0.05


class EchoServer:
    """Answers each line with itself, and remembers which lines it has executed."""

    def __init__(self) -> None:
        self.executed: list[bytes] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                self.executed.append(line.strip())
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            pass  # being cut off is what this server is here for
        finally:
            writer.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: bytes) -> bytes:
        """The answer, or ConnectionResetError."""
        self.writer.write(line + b"\n")
        return (await asyncio.wait_for(self.reader.readline(), timeout=5)).strip()

    async def hears_nothing_after(self, line: bytes) -> bool:
        self.writer.write(line + b"\n")
        done, pending = await asyncio.wait({asyncio.create_task(self.reader.read(1))}, timeout=SILENCE_SECONDS)
        for reading in pending:
            reading.cancel()
        return not done


Connect = Callable[[TcpProxy], Awaitable[Client]]


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with EchoServer() as server:
        yield server


@pytest.fixture
async def proxy(server: EchoServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(HOST, server.port) as proxy:
        yield proxy


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open one more connection through a proxy."""
    clients: list[Client] = []

    async def connect(proxy: TcpProxy) -> Client:
        clients.append(Client(*await asyncio.open_connection(HOST, proxy.port)))
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.transport.abort()


@pytest.fixture
async def client(connect: Connect, proxy: TcpProxy) -> Client:
    return await connect(proxy)


async def test_it_forwards_until_told_otherwise(proxy: TcpProxy, client: Client) -> None:
    assert await client.ask(b"hello") == b"hello"
    assert await client.ask(b"x" * 50_000) == b"x" * 50_000
    assert proxy.fired == 0


async def test_it_passes_on_a_goodbye(client: Client) -> None:
    client.writer.write(b"last words\n")
    client.writer.write_eof()
    assert await asyncio.wait_for(client.reader.read(), timeout=5) == b"last words\n"


async def test_drop_reply_executes_the_request_and_loses_the_answer(
    proxy: TcpProxy, server: EchoServer, client: Client
) -> None:
    proxy.drop_reply_after(b"COMMIT")
    assert await client.ask(b"BEGIN") == b"BEGIN"
    with pytest.raises(ConnectionResetError):
        await client.ask(b"COMMIT")
    assert server.executed == [b"BEGIN", b"COMMIT"]
    assert proxy.fired == 1


async def test_drop_request_loses_the_request(proxy: TcpProxy, server: EchoServer, client: Client) -> None:
    proxy.drop_request(b"COMMIT")
    assert await client.ask(b"BEGIN") == b"BEGIN"
    with pytest.raises(ConnectionResetError):
        await client.ask(b"COMMIT")
    assert server.executed == [b"BEGIN"]
    assert proxy.fired == 1


async def test_a_counted_fault_strikes_so_often_and_then_no_more(
    proxy: TcpProxy, server: EchoServer, connect: Connect
) -> None:
    proxy.drop_reply_after(b"COMMIT", times=2)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await (await connect(proxy)).ask(b"COMMIT")
    survivor = await connect(proxy)
    assert await survivor.ask(b"COMMIT") == b"COMMIT"
    assert proxy.fired == 2
    assert server.executed == [b"COMMIT"] * 3


async def test_a_pattern_is_found_even_if_it_arrives_in_two_pieces(
    proxy: TcpProxy, server: EchoServer, client: Client
) -> None:
    proxy.drop_request(b"COMMIT")
    client.writer.write(b"one\nCOM")
    # The answer proves that the first piece went through by itself.
    assert await asyncio.wait_for(client.reader.readline(), timeout=5) == b"one\n"
    with pytest.raises(ConnectionResetError):
        await client.ask(b"MIT")
    assert server.executed == [b"one"]
    assert proxy.fired == 1


async def test_a_black_hole_swallows_everything_until_it_heals(
    proxy: TcpProxy, server: EchoServer, client: Client, connect: Connect
) -> None:
    assert await client.ask(b"before") == b"before"
    proxy.black_hole()
    newcomer = await connect(proxy)
    assert await client.hears_nothing_after(b"during")
    assert await newcomer.hears_nothing_after(b"newcomer")
    assert server.executed == [b"before"]
    assert proxy.fired == 2

    proxy.forward()
    await eventually(lambda: set(server.executed) == {b"before", b"during", b"newcomer"})
    assert await client.ask(b"after") == b"during"


async def test_cut_resets_every_open_connection_and_leaves_new_ones_alone(
    proxy: TcpProxy, client: Client, connect: Connect
) -> None:
    other = await connect(proxy)
    for open_one in (client, other):
        await open_one.ask(b"hello")
    proxy.cut()
    for open_one in (client, other):
        with pytest.raises(ConnectionResetError):
            await open_one.ask(b"are you there")
    assert proxy.fired == 2
    assert await (await connect(proxy)).ask(b"again") == b"again"


async def test_refuse_turns_new_connections_away_and_keeps_its_port(
    proxy: TcpProxy, client: Client, connect: Connect
) -> None:
    await client.ask(b"hello")
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    assert await client.ask(b"still here") == b"still here"
    proxy.forward()
    assert proxy.port == port
    assert await (await connect(proxy)).ask(b"back") == b"back"


async def test_delay_slows_both_directions(proxy: TcpProxy, client: Client) -> None:
    proxy.delay(30)
    started_at = time.monotonic()
    assert await client.ask(b"slow") == b"slow"
    assert time.monotonic() - started_at >= 0.06
    assert proxy.fired == 2


async def test_a_target_that_is_down_resets_the_client(connect: Connect) -> None:
    async with EchoServer() as server:
        port_of_the_dead = server.port
    async with TcpProxy(HOST, port_of_the_dead) as proxy:
        client = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await client.ask(b"anybody")
