"""Does the steady asker keep its pace, count from when an answer was due, and read every answer to its end?"""

import asyncio
from itertools import repeat

import pytest
import uvloop

from ops.bench.load import Ask, Look
from ops.bench.steady import Tally, ask_steadily, besieged, callers_of, percentiles_of
from ops.stack import StackProblem
from tests.eventually import eventually
from tests.tiny_server import a_server


class Server:
    """Answers each request with the bytes that its path names."""

    def __init__(self, answers: dict[str, bytes], *, wait_seconds: float = 0.0) -> None:
        self.answers = answers
        self.wait_seconds = wait_seconds
        self.asked: list[str] = []
        self.connection_count = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if "Content-Length: " in head:
                await reader.readexactly(int(head.partition("Content-Length: ")[2].split("\r\n")[0]))
            self.asked.append(head)
            await asyncio.sleep(self.wait_seconds)
            writer.write(self.answers[head.split(" ")[1]])


def an_answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def test_a_window_asks_as_often_as_was_said_and_counts_what_came_back() -> None:
    async with a_server(Server({"/a": an_answer(200, b"x" * 300_000)}).answer) as url:
        tally = await ask_steadily(url, repeat(Look("/a")), per_second=100, seconds=0.3)
    assert dict(tally.statuses) == {200: 30}
    assert tally.body_bytes == 30 * 300_000
    assert not tally.errors


async def test_a_slow_server_is_asked_no_less() -> None:
    server = Server({"/a": an_answer(200)}, wait_seconds=0.2)
    async with a_server(server.answer) as url:
        tally = await ask_steadily(url, repeat(Look("/a")), per_second=100, seconds=0.1)
    assert server.connection_count == 10
    assert min(tally.waits_ms) >= 199


async def test_one_connection_serves_those_who_come_one_after_the_other() -> None:
    server = Server({"/a": an_answer(200, b"first"), "/b": b"HTTP/1.1 304 x\r\nETag: y\r\n\r\n"})
    async with a_server(server.answer) as url, callers_of(url) as callers:
        heard = [await callers.ask(Look("/a")), await callers.ask(Look("/b")), await callers.ask(Look("/a"))]
    assert [(one.status, one.body) for one in heard] == [(200, b"first"), (304, b""), (200, b"first")]
    assert server.connection_count == 1


async def test_a_request_carries_its_session_and_its_body() -> None:
    server = Server({"/api": an_answer(201)})
    async with a_server(server.answer) as url, callers_of(url) as callers:
        await callers.ask(Ask("/api", '{"a":1}', cookie="abc"))
    [head] = server.asked
    assert head.startswith("POST /api HTTP/1.1\r\n")
    assert "Cookie: session=abc\r\n" in head
    assert "Content-Length: 7\r\n" in head


async def test_an_answer_that_never_comes_is_an_error_and_not_a_time() -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with a_server(hang_up) as url:
        tally = await ask_steadily(url, repeat(Look("/a")), per_second=100, seconds=0.03)
    assert dict(tally.errors) == {"ConnectionResetError": 3}
    assert not tally.waits_ms


async def test_a_window_longer_than_what_there_is_to_ask_is_a_problem_and_not_a_lower_rate() -> None:
    async with a_server(Server({"/a": an_answer(200)}).answer) as url:
        with pytest.raises(StackProblem, match="nothing left to ask"):
            await ask_steadily(url, iter([Look("/a")]), per_second=100, seconds=0.05)


async def test_a_siege_lasts_as_long_as_the_block() -> None:
    server = Server({"/a": an_answer(401), "/b": an_answer(503)})
    async with a_server(server.answer) as url, besieged(url, [Look("/a"), Look("/b")], at_once=2) as tally:
        await eventually(lambda: tally.statuses[401] > 50)
        # Whoever is turned away does not hammer.
        assert tally.statuses[503] < tally.statuses[401]


def test_percentiles_are_of_answers_that_were_given() -> None:
    assert percentiles_of([float(wait) for wait in range(1, 101)]) == {50: 50, 90: 90, 95: 95, 99: 99, 100: 100}
    assert percentiles_of([7.0]) == dict.fromkeys((50, 90, 95, 99, 100), 7.0)


def test_a_window_in_which_nobody_was_answered_is_a_problem_and_not_a_zero() -> None:
    tally = Tally()
    tally.errors["ConnectionResetError"] = 3
    with pytest.raises(StackProblem, match="ConnectionResetError"):
        tally.answers(seconds=1)


async def test_it_asks_on_the_loop_that_the_bench_uses() -> None:
    async with a_server(Server({"/a": an_answer(200)}).answer) as url:
        asking = ask_steadily(url, repeat(Look("/a")), per_second=100, seconds=0.05)
        tally = await asyncio.to_thread(uvloop.run, asking)
    assert dict(tally.statuses) == {200: 5}


def test_tallies_add_up() -> None:
    one, other = Tally(), Tally()
    one.statuses[200], other.statuses[200], other.errors["TimeoutError"] = 2, 3, 1
    other.waits_ms, other.body_bytes = [5.0], 40
    one.add(other)
    assert one.answers(seconds=1).statuses == {200: 5}
    assert (one.errors["TimeoutError"], one.waits_ms, one.body_bytes) == (1, [5.0], 40)
