"""Is everything as it was when three ingress processes stand behind nginx, and when one of them dies?"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from contracts.settings import Settings
from db.sessions import create_session
from db.users import create_user
from ops.stack import Stack
from ops.stack.readiness import http_status
from tests.acceptance.conftest import Buyer
from tests.builders import OnSale, settings_of
from tests.eventually import eventually
from tests.ingress_process import a_free_port, start_ingress
from tests.nginx_process import an_nginx

SEEN_WITHIN_SECONDS = 2.0
LOGINS_A_MINUTE = 5
AT_HOME, AT_WORK = "127.0.0.8", "127.0.0.9"
POST = b"POST /api/seats/reserve HTTP/1.1\r\nHost: boxoffice.example\r\nContent-Type: application/json\r\n"
GET = b"GET /api/orders HTTP/1.1\r\nHost: boxoffice.example\r\n"


@dataclass
class Front:
    """nginx's address, and the processes behind it."""

    url: str
    processes: list[asyncio.subprocess.Process]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def front(running_system: Stack) -> AsyncIterator[Front]:
    """Three ingress processes of the running system, with strict limits, and nginx in front."""
    settings = settings_of(running_system, trusted_proxies="127.0.0.1/32", rate_limit_multiplier=LOGINS_A_MINUTE / 10)
    ports = {f"ingress-{number}": a_free_port() for number in (1, 2, 3)}
    processes = [await start_ingress(settings.model_copy(update={"http_port": port})) for port in ports.values()]
    async with AsyncExitStack() as running:
        for process in processes:
            running.push_async_callback(_ended, process)
        for port in ports.values():
            await eventually(lambda port=port: asyncio.to_thread(_is_ready, port), within_seconds=60)
        yield Front(await running.enter_async_context(an_nginx(ports)), processes)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


def _is_ready(port: int) -> bool:
    return http_status("127.0.0.1", port, "/ready") == 204


ABuyer = Callable[[], Awaitable[Buyer]]


@pytest.fixture
async def a_buyer(front: Front, system_settings: Settings, system_pool: Any) -> AsyncIterator[ABuyer]:
    """A factory of signed-in buyers who come through nginx."""
    async with AsyncExitStack() as opened, Redis.from_url(system_settings.redis_url) as redis:

        async def make() -> Buyer:
            email = f"{uuid4().hex}@nginx.example"
            user = await create_user(system_pool, email=email, password_hash="none", name="Ann")
            assert user is not None
            cookie = await create_session(redis, user_id=user.id, role="user", seconds=600)
            http = aiohttp.ClientSession(front.url, headers={"cookie": f"session={cookie}"})
            return Buyer(await opened.enter_async_context(http), email)

        yield make


async def test_a_purchase_goes_through(a_buyer: ABuyer, event: OnSale) -> None:
    buyer = await a_buyer()
    hold = await buyer.reserve(event, 1, 2)
    assert hold.status == 201, hold.body
    assert (await buyer.check_out(event, hold, idempotency_key=str(uuid4()))).status == 201
    assert len((await buyer.send("GET", "/api/tickets")).body["tickets"]) == 2


async def test_frames_of_streams_and_sockets_arrive_at_once(a_buyer: ABuyer, event: OnSale) -> None:
    buyer, seats = await a_buyer(), f"/api/events/{event.event_id}/seats"
    async with (
        buyer.http.get(f"{seats}/stream") as stream,
        buyer.http.ws_connect(f"{seats}/socket") as web_socket,
    ):
        assert stream.status == 200
        assert (await buyer.reserve(event, 7)).status == 201
        async with asyncio.timeout(SEEN_WITHIN_SECONDS):
            while b'"h":[7]' not in await stream.content.readline():
                pass
            while '"h":[7]' not in await web_socket.receive_str():
                pass


async def test_what_is_public_is_shared_and_what_is_personal_never(a_buyer: ABuyer, event: OnSale) -> None:
    ann, bob = await a_buyer(), await a_buyer()
    public = [await one.send("GET", f"/api/events/{event.event_id}") for one in (ann, bob)]
    assert [answer.headers["x-cache"] for answer in public] == ["MISS", "HIT"]
    assert public[0].body == public[1].body
    personal = [await one.send("GET", "/api/auth/me") for one in (ann, bob)]
    assert [answer.body["email"] for answer in personal] == [ann.email, bob.email]
    assert not [answer for answer in personal if "x-cache" in answer.headers]


async def test_each_client_has_limits_of_its_own_wherever_it_says_it_is(front: Front) -> None:
    async def log_in(address: str, **headers: str) -> int:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        wrong = {"email": "nobody@nginx.example", "password": "a wrong password"}
        async with (
            aiohttp.ClientSession(front.url, connector=connector) as http,
            http.post("/api/auth/login", json=wrong, headers=headers) as response,
        ):
            return response.status

    assert [await log_in(AT_HOME) for _ in range(LOGINS_A_MINUTE)] == [401] * LOGINS_A_MINUTE
    assert await log_in(AT_HOME) == 429
    assert await log_in(AT_HOME, **{"X-Forwarded-For": AT_WORK}) == 429
    assert await log_in(AT_WORK) == 401


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 0_2\r\n\r\n{}", 400),
        (POST + b"Content-Length: +2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 70000\r\n\r\n{}", 413),
        (GET + b"X-A: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (GET + b"Host: another.example\r\n\r\n", 400),
        (GET + b"X A: b\r\n\r\n", 400),
        (GET + b"X-A: a\r\n b\r\n\r\n", 400),
        (GET + b"X-A: a\0b\r\n\r\n", 400),
        (b"GET /api/orders\r\n\r\n", 400),
        # And what is sound, to show that it is this that is refused: nobody is signed in.
        (POST + b"Content-Length: 2\r\n\r\n{}", 401),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 401),
    ],
    ids=[
        *("length and chunks", "space before the colon", "0x2 chunk", "+2 chunk", "unknown coding", "two lengths"),
        *("0_2 length", "+2 length", "large body", "long header", "two hosts", "space in a name", "folded", "NUL"),
        *("HTTP/0.9", "sound", "sound chunks"),
    ],
)
async def test_what_two_readers_could_read_differently_is_refused(front: Front, raw: bytes, status: int) -> None:
    parts = urlsplit(front.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(raw)
    answer = b""
    async with asyncio.timeout(10):
        while not answer.endswith(b"}") and (more := await reader.read(65536)):
            answer += more
    writer.close()
    if answer.startswith(b"HTTP/1.1"):  # 0.9 has no status
        assert int(answer.split()[1]) == status
    assert json.loads(answer[answer.index(b"{") :])["status"] == status


async def test_when_one_dies_reads_go_on_and_no_command_is_sent_twice(
    front: Front, a_buyer: ABuyer, event: OnSale
) -> None:
    buyers = [await a_buyer() for _ in range(6)]
    statuses: Counter[tuple[str, int]] = Counter()
    asked = asyncio.Event()

    async def read(buyer: Buyer) -> None:
        for _ in range(12):
            statuses["read", (await buyer.send("GET", "/api/auth/me")).status] += 1

    async def reserve(buyer: Buyer, first_seat: int) -> None:
        for seat in range(first_seat, first_seat + 4):  # without a key: nobody could tell a repetition
            statuses["reserve", (await buyer.reserve(event, seat)).status] += 1
            asked.set()

    everything = [read(buyer) for buyer in buyers] + [reserve(buyer, 20 + 4 * n) for n, buyer in enumerate(buyers)]
    under_way = asyncio.gather(*everything)
    await asked.wait()
    front.processes[0].kill()
    await under_way
    assert {status for what, status in statuses if what == "read"} == {200}
    assert {status for what, status in statuses if what == "reserve"} <= {201, 502}
    holds = await event.pool.fetchval("SELECT count(*) FROM holds WHERE event_id = $1", event.event_id)
    lost = statuses["reserve", 502]
    assert 24 - lost <= holds <= 24
