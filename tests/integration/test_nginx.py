"""Whom does nginx ask, how often, what does it keep, and what does it say by itself?

The ingress processes are tiny servers that note what reaches them.
"""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import pytest

from ingress import responses
from ingress.responses import ProblemCode
from tests.eventually import eventually
from tests.ingress_process import a_free_port
from tests.nginx_process import Edit, an_nginx, as_it_is
from tests.tiny_server import a_server

PUBLIC = "/api/events/0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11"
PERSONAL = "/api/orders"
KEPT = {"cache-control": "public, max-age=30"}
SOMEBODY_ELSES_ADDRESS = "127.0.0.9"


@dataclass
class Seen:
    """A request as an ingress process got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Answering = Callable[[Seen], tuple[int, Mapping[str, str], bytes] | None]


@dataclass
class Ingress:
    """Answers as it is told, or hangs up when it is told nothing."""

    answering: Answering
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *lines = head.decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
            method, path, _ = line.split(" ")
            one = Seen(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
            self.seen.append(one)
            answer = self.answering(one)
            if answer is None:
                return
            status, own, body = answer
            whole = {"content-length": str(len(body)), "content-type": "application/json", **own}
            lines = [f"{name}: {value}" for name, value in whole.items()]
            writer.write("\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode())
            writer.write(b"" if method == "HEAD" else body)
            await writer.drain()


def hangs_up(_: Seen) -> None:
    return None


def ok(_: Seen) -> tuple[int, Mapping[str, str], bytes]:
    return 200, {}, b"{}"


@asynccontextmanager
async def behind_nginx(*answering: Answering | None, edit: Edit = as_it_is) -> AsyncIterator[tuple[str, list[Ingress]]]:
    """The address of an nginx before so many of them; None is one that has ended."""
    async with AsyncExitStack() as running:
        ports, all_of_them = {}, []
        for number, one in enumerate(answering, start=1):
            ports[f"ingress-{number}"] = a_free_port()
            if one is not None:
                ingress = Ingress(one)
                url = await running.enter_async_context(a_server(ingress.serve))
                ports[f"ingress-{number}"] = urlsplit(url).port or 0
                all_of_them.append(ingress)
        yield await running.enter_async_context(an_nginx(ports, edit=edit)), all_of_them


async def get(url: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession(auto_decompress=False) as http, http.get(url, headers=named) as response:
        return response.status, await response.read(), {k.lower(): v for k, v in response.headers.items()}


# ---- who is asked


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_changes_something_is_sent_once_even_if_its_answer_is_lost(method: str) -> None:
    async with behind_nginx(hangs_up, hangs_up) as (url, both), aiohttp.ClientSession(url) as http:
        for body in ({}, None):
            async with http.request(method, "/api/seats/release", json=body) as response:
                assert response.status == 502
                assert response.headers["retry-after"]
                assert (await response.json())["code"] == "unavailable"
        assert sum(len(ingress.seen) for ingress in both) == 2


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_without_that_rule_it_is_seen_twice(method: str) -> None:
    """The negative control: as reads are asked."""

    def without(text: str) -> str:
        return text.replace("proxy_next_upstream off;", "proxy_next_upstream error;")

    async with behind_nginx(hangs_up, hangs_up, edit=without) as (url, both), aiohttp.ClientSession(url) as http:
        async with http.request(method, "/api/seats/release") as response:
            assert response.status == 502
        assert sum(len(ingress.seen) for ingress in both) == 2


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_process_that_has_ended_is_passed_over(method: str) -> None:
    async with behind_nginx(None, ok) as (url, [alive]), aiohttp.ClientSession(url) as http:
        for number in range(6):
            async with http.request(method, "/api/orders", json={"number": number}) as response:
                assert response.status == 200
        bodies = [json.loads(seen.body) for seen in alive.seen]
        assert bodies == [{"number": number} for number in range(6)]


async def test_a_read_is_asked_of_another_process_when_one_hangs_up() -> None:
    async with behind_nginx(hangs_up, ok) as (url, _):
        assert [(await get(url + PERSONAL))[0] for _ in range(5)] == [200] * 5


# ---- what is kept


def by_cookie(seen: Seen) -> tuple[int, Mapping[str, str], bytes]:
    """An ingress with a mistake in it: calls public what depends on who asks."""
    return 200, KEPT, json.dumps(seen.headers.get("cookie") or seen.headers.get("authorization")).encode()


async def test_a_public_answer_is_shared_and_knows_nobody() -> None:
    async with behind_nginx(by_cookie) as (url, [ingress]):
        ann = await get(url + PUBLIC, cookie="session=ann", authorization="Basic ann")
        bob = await get(url + PUBLIC, cookie="session=bob")
        assert (ann[1], bob[1], len(ingress.seen)) == (b"null", b"null", 1)
        assert (ann[2]["x-cache"], bob[2]["x-cache"]) == ("MISS", "HIT")


async def test_without_the_rule_about_cookies_one_is_shown_what_is_anothers() -> None:
    """The negative control: the leak is seen."""

    def without(text: str) -> str:
        return text.replace("proxy_set_header Cookie $cookie_passed;", "")

    async with behind_nginx(by_cookie, edit=without) as (url, _):
        await get(url + PUBLIC, cookie="session=ann")
        assert (await get(url + PUBLIC, cookie="session=bob"))[1] == b'"session=ann"'


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PERSONAL, KEPT),
        (f"{PUBLIC}/waiting-list", KEPT),
        (f"{PUBLIC}/calendar.ics", KEPT),
        (PUBLIC, {**KEPT, "set-cookie": "session=ann"}),
        (PUBLIC, {"cache-control": "private, max-age=30"}),
        (PUBLIC, {"cache-control": "no-store"}),
        (PUBLIC, {}),
    ],
    ids=["orders", "waiting list", "calendar", "set-cookie", "private", "no-store", "nothing said"],
)
async def test_what_is_not_called_public_is_asked_for_each_time(path: str, headers: Mapping[str, str]) -> None:
    async with behind_nginx(lambda _: (200, headers, b"{}")) as (url, [ingress]):
        for _ in range(3):
            assert (await get(url + path))[0] == 200
        assert len(ingress.seen) == 3


async def test_each_coding_origin_and_query_has_an_answer_of_its_own() -> None:
    def coded(seen: Seen) -> tuple[int, Mapping[str, str], bytes]:
        body = f"{seen.path} {seen.headers.get('origin')}".encode()
        if seen.headers.get("accept-encoding") != "gzip":
            return 200, KEPT | {"etag": '"plain"', "vary": "Accept-Encoding, Origin"}, body
        return 200, KEPT | {"etag": '"packed"', "content-encoding": "gzip"}, gzip.compress(body)

    async with behind_nginx(coded) as (url, [ingress]):
        for _ in range(2):
            for coding in ("gzip, br", "deflate, gzip;q=0.5", "GZIP"):
                assert (await get(url + PUBLIC, accept_encoding=coding))[2]["etag"] == '"packed"'
            for coding in ("identity", "gzip;q=0", "br, gzip; q=0.0, deflate"):
                assert (await get(url + PUBLIC, accept_encoding=coding))[2]["etag"] == '"plain"'
        assert len(ingress.seen) == 2
        named = await get(f"{url}{PUBLIC}?limit=1", origin="https://shop.example", accept_encoding="identity")
        assert named[1] == f"{PUBLIC}?limit=1 https://shop.example".encode()
        assert (await get(url + PUBLIC, accept_encoding="identity", if_none_match='"plain"'))[0] == 304
        assert len(ingress.seen) == 3


async def test_limits_of_the_one_who_asked_first_are_not_told_to_all() -> None:
    of_one = {"ratelimit": '"browse";r=1;t=60', "ratelimit-policy": '"browse";q=600;w=60', "x-correlation-id": "hers"}
    async with behind_nginx(lambda _: (200, {**KEPT, **of_one}, b"{}")) as (url, _):
        assert not of_one.keys() & (await get(url + PUBLIC))[2].keys()
        assert of_one.keys() <= (await get(url + PERSONAL))[2].keys()


async def test_a_crowd_that_asks_at_once_is_one_question() -> None:
    async with behind_nginx(lambda _: (200, KEPT, b"{}")) as (url, [ingress]):
        answers = await asyncio.gather(*(get(f"{url}{PUBLIC}/availability") for _ in range(30)))
        assert ([status for status, *_ in answers], len(ingress.seen)) == ([200] * 30, 1)


async def test_an_old_event_page_will_do_while_nobody_answers_and_an_old_seat_map_will_not() -> None:
    answers = iter([(200, {"cache-control": "public, max-age=1"}, b"{}")] * 2)
    async with behind_nginx(lambda _: next(answers, None)) as (url, [ingress]):
        for path in (PUBLIC, f"{PUBLIC}/availability"):
            assert (await get(url + path))[0] == 200

        async def has_run_out() -> bool:
            return (await get(f"{url}{PUBLIC}/availability"))[0] == 502

        await eventually(has_run_out)
        assert len(ingress.seen) > 2
        assert (await get(url + PUBLIC))[0] == 200


# ---- what it says by itself


def problem_of(code: ProblemCode, status: int) -> dict[str, object]:
    return {**json.loads(responses._PROBLEMS[code]), "status": status}


@pytest.mark.parametrize("path", ["/metrics", "/ready"])
async def test_what_is_for_operators_stays_inside(path: str) -> None:
    async with behind_nginx(ok) as (url, [ingress]):
        status, body, headers = await get(url + path)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body) == problem_of(ProblemCode.NOT_FOUND, 404)
        assert ingress.seen == []


async def test_its_own_noes_are_those_of_the_ingress() -> None:
    async with behind_nginx(None) as (url, _):
        status, body, headers = await get(url + PERSONAL)
        assert json.loads(body) == problem_of(ProblemCode.UNAVAILABLE, 502)
        assert (status, headers["content-type"]) == (502, "application/problem+json")
        assert int(headers["retry-after"]) >= 1
        assert headers["cache-control"] == "no-store"
        too_long = await get(f"{url}/{'a' * 9000}")
        assert (too_long[0], json.loads(too_long[1])) == (414, problem_of(ProblemCode.URI_TOO_LONG, 414))


async def test_a_flood_from_one_address_is_held_back_and_others_are_served() -> None:
    def slower(text: str) -> str:
        return text.replace("rate=200r/s", "rate=1r/s").replace("burst=400", "burst=2")

    async with behind_nginx(ok, edit=slower) as (url, _):
        connector = aiohttp.TCPConnector(local_addr=(SOMEBODY_ELSES_ADDRESS, 0))
        async with aiohttp.ClientSession(url, connector=connector) as flood:
            statuses = []
            for _ in range(8):
                async with flood.get(PERSONAL) as response:
                    statuses.append(response.status)
                    last, headers = await response.json(), response.headers
        assert statuses == [200] * 3 + [429] * 5
        assert (last, headers["retry-after"]) == (problem_of(ProblemCode.RATE_LIMITED, 429), "1")
        assert (await get(url + PERSONAL))[0] == 200


async def test_an_answer_of_the_ingress_is_left_as_it_is() -> None:
    busy = b'{"code":"busy"}'
    async with behind_nginx(lambda _: (503, {"retry-after": "3"}, busy)) as (url, _):
        status, body, headers = await get(url + PERSONAL)
        assert (status, body, headers["retry-after"]) == (503, busy, "3")


async def test_nothing_a_client_says_about_where_it_is_or_what_to_trace_reaches_the_ingress() -> None:
    async with behind_nginx(ok) as (url, [ingress]):
        parts = urlsplit(url)
        lies = "X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6"
        lies += f"\r\ntraceparent: 00-{'6' * 32}-{'6' * 16}-01"
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, local_addr=(SOMEBODY_ELSES_ADDRESS, 0), family=socket.AF_INET
        )
        writer.write(f"GET {PERSONAL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lies}\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        writer.close()
        assert ingress.seen[0].headers["x-forwarded-for"] == SOMEBODY_ELSES_ADDRESS
        assert "6.6.6.6" not in str(ingress.seen[0].headers)
        assert "traceparent" not in ingress.seen[0].headers
