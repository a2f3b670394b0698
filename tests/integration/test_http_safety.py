"""What the front door lets in, and what it says to whoever stays outside: HTTP to the letter, other sites, headers, limits."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from sanic import Sanic

from contracts.settings import Settings
from ingress.app import create_app
from ingress.cors import ALLOWED_HEADERS, EXPOSED_HEADERS
from ingress.operation import Content, operation_of
from ingress.security_headers import SECURITY_HEADERS
from tests.eventually import eventually
from tests.faults.tcp_proxy import TcpProxy
from tests.ingress_process import an_ingress

IngressWith = Callable[..., Awaitable[str]]

# The ingress with Sanic's own reader of HTTP, to see that it is ours that refuses.
WITH_SANICS_READER = (
    "-c",
    "import ingress.__main__ as program\n"
    "from sanic.server.protocols.websocket_protocol import WebSocketProtocol\n"
    "program.StrictProtocol = WebSocketProtocol\n"
    "program.main()\n",
)
# The ingress with a mistake in it.
WITH_A_BUG = (
    "-c",
    "import ingress.__main__ as program\n"
    "create = program.create_process\n"
    "def create_process(settings):\n"
    "    app = create(settings)\n"
    "    app.add_route(lambda request: 1 / 0, '/bug', name='bug')\n"
    "    return app\n"
    "program.create_process = create_process\n"
    "program.main()\n",
)

NEXT = b"GET /live?second HTTP/1.1\r\nHost: a\r\n\r\n"


# ---- the routes, as they are


def all_routes() -> list[tuple[str, str, Any]]:
    """Every method and path there is, with something in place of each parameter, and the route."""
    app = create_app(Settings())
    Sanic.unregister_app(app)  # another test may want one too
    found = []
    for route in app.router.routes:
        path = "/" + re.sub(r"<[^>]*:(\w+)>", lambda kind: _sample(kind[1]), route.path.lstrip("/"))
        found += [(method, path, route) for method in sorted(route.methods)]
    return sorted(found, key=lambda one: one[:2])


def _sample(kind: str) -> str:
    # Always the same one: workers that run tests in parallel must agree on their names.
    return {"uuid": "0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11", "int": "1"}.get(kind, "x")


def is_stream(route: Any) -> bool:
    described = operation_of(route.handler)
    contents = described.answers.values() if described else ()
    return route.extra.websocket or any(isinstance(one, Content) and one.frames for one in contents)


ROUTES = all_routes()
UNSAFE_ROUTES = [(method, path) for method, path, _ in ROUTES if method not in ("GET", "HEAD")]
READ_ROUTES = [path for method, path, route in ROUTES if method == "GET" and not is_stream(route)]


# ---- raw requests


async def answers_to(url: str, request: bytes) -> bytes:
    """All that comes back until the connection is closed."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def problem_in(answer: bytes) -> tuple[int, str]:
    """Status and code of the only answer in there; it closes the connection and is careful."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1, answer
    assert b"\r\nconnection: close\r\n" in head
    assert b"\r\ncontent-type: application/problem+json" in head
    for name, value in SECURITY_HEADERS.items():
        assert f"\r\n{name}: {value}".encode() in head, name
    found = json.loads(body)
    assert found["status"] == int(head[9:12])
    return found["status"], found["code"]


def a_get(*headers: bytes, line: bytes = b"GET /live HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *headers, b"", b""])


def a_post(*headers: bytes, body: bytes = b"") -> bytes:
    line = b"POST /api/auth/logout HTTP/1.1"
    return b"\r\n".join([line, b"Host: a", b"Content-Type: application/json", *headers, b"", body])


HOST = b"Host: a"
CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"

MALFORMED = {
    "a blank before the colon": a_post(b"Transfer-Encoding : chunked", body=CHUNKED),
    "a blank before another colon": a_get(b"Host : a"),
    "a tab before the colon": a_post(b"Content-Length\t: 2", body=b"{}"),
    "a folded line": a_get(HOST, b"X-Long: a", b" b"),
    "a folded transfer encoding": a_post(b"Transfer-Encoding:", b" chunked", body=CHUNKED),
    "a blank before the first header": a_get(b" Host: a"),
    "a bare CR in a value": a_get(HOST, b"X-A: b\rContent-Length: 5"),
    "a bare LF in a value": a_get(HOST, b"X-A: b\nContent-Length: 5"),
    "NUL in a value": a_get(HOST, b"X-A: b\0c"),
    "a control character in a value": a_get(HOST, b"X-A: b\x08c"),
    "DEL in a value": a_get(HOST, b"X-A: b\x7fc"),
    "no colon": a_get(HOST, b"X-A"),
    "no name": a_get(HOST, b": b"),
    "a name with a slash": a_get(HOST, b"X/A: b"),
    "a name beyond ASCII": a_get(HOST, "X-Ä: b".encode()),
    "both kinds of length": a_post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "both kinds of length, the other way round": a_post(
        b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"
    ),
    "two lengths": a_post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"),
    "a list of lengths": a_post(b"Content-Length: 2, 2", body=b"{}"),
    "a length with a plus": a_post(b"Content-Length: +2", body=b"{}"),
    "a length below nothing": a_post(b"Content-Length: -2", body=b"{}"),
    "a length with an underscore": a_post(b"Content-Length: 0_2", body=b"{}"),
    "a hexadecimal length": a_post(b"Content-Length: 0x2", body=b"{}"),
    "a length in other digits": a_post("Content-Length: ٢".encode(), body=b"{}"),
    "an empty length": a_post(b"Content-Length:", body=b""),
    "no host": a_get(),
    "two hosts": a_get(HOST, HOST),
    "an empty host": a_get(b"Host:"),
    "a host with a path": a_get(b"Host: a/b"),
    "a host with a user": a_get(b"Host: b@a"),
    "a host with a blank": a_get(b"Host: a b"),
    "a host with no port": a_get(b"Host: a:"),
    "two hosts in HTTP/1.0": a_get(HOST, HOST, line=b"GET /live HTTP/1.0"),
    "an absolute target": a_get(HOST, line=b"GET http://a/live HTTP/1.1"),
    "an asterisk": a_get(HOST, line=b"OPTIONS * HTTP/1.1"),
    "a fragment": a_get(HOST, line=b"GET /live#a HTTP/1.1"),
    "no slash": a_get(HOST, line=b"GET live HTTP/1.1"),
    "a target beyond ASCII": a_get(HOST, line="GET /ä HTTP/1.1".encode()),
    "two blanks": a_get(HOST, line=b"GET  /live HTTP/1.1"),
    "a tab between": a_get(HOST, line=b"GET\t/live HTTP/1.1"),
    "a blank behind": a_get(HOST, line=b"GET /live HTTP/1.1 "),
    "HTTP/0.9": a_get(line=b"GET /live"),
    "HTTP/1.2": a_get(HOST, line=b"GET /live HTTP/1.2"),
    "HTTP/2": a_get(HOST, line=b"GET /live HTTP/2.0"),
    "an empty line before": b"\r\n" + a_get(HOST),
    "no HTTP": b"GARBAGE\r\n\r\n",
}

REFUSED_OTHERWISE = {
    "chunks": (a_post(b"Transfer-Encoding: chunked", body=CHUNKED), 411, "length_required"),
    "hexadecimal chunks": (
        a_post(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n"),
        411,
        "length_required",
    ),
    "chunks in capitals": (a_post(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKED), 411, "length_required"),
    "another coding": (a_post(b"Transfer-Encoding: identity", body=b"{}"), 411, "length_required"),
    "two codings": (a_post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED), 411, "length_required"),
    "chunks in a GET": (a_get(HOST, b"Transfer-Encoding: chunked") + CHUNKED, 411, "length_required"),
    "chunks in HTTP/1.0": (
        a_get(b"Transfer-Encoding: chunked", line=b"POST /api/auth/logout HTTP/1.0") + CHUNKED,
        411,
        "length_required",
    ),
    "too many headers": (a_get(HOST, *[b"X-A: b"] * 64), 431, "headers_too_large"),
    "a long header": (a_get(HOST, b"X-A: " + b"b" * 9000), 431, "headers_too_large"),
    "a head that does not end": (b"GET /live HTTP/1.1\r\nX-A: " + b"b" * 20_000, 431, "headers_too_large"),
    "a long address": (a_get(HOST, line=b"GET /live?" + b"a" * 2048 + b" HTTP/1.1"), 414, "uri_too_long"),
    "an unknown method": (a_get(HOST, line=b"BREW /live HTTP/1.1"), 501, "method_unknown"),
    "a method in small letters": (a_get(HOST, line=b"get /live HTTP/1.1"), 501, "method_unknown"),
    "a large body": (a_post(b"Content-Length: 65537", body=b" " * 65537), 413, "body_too_large"),
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http_to_the_letter_is_refused_with_all_that_follows(
    ingress_url: str, request_bytes: bytes
) -> None:
    assert problem_in(await answers_to(ingress_url, request_bytes + NEXT)) == (400, "malformed_request")


@pytest.mark.parametrize(("request_bytes", "status", "code"), REFUSED_OTHERWISE.values(), ids=REFUSED_OTHERWISE)
async def test_what_we_do_not_take_is_refused_with_all_that_follows(
    ingress_url: str, request_bytes: bytes, status: int, code: str
) -> None:
    assert problem_in(await answers_to(ingress_url, request_bytes + NEXT)) == (status, code)


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(a_get(b"Host:a"), id="no blank behind the colon"),
        pytest.param(a_get(b"Host: \t a \t"), id="much blank around the value"),
        pytest.param(a_get(b"hOsT: a"), id="a name in any case"),
        pytest.param(a_get(b"Host: [::1]:8400"), id="a host on IPv6"),
        pytest.param(a_get(HOST, "X-A: ä\tb".encode()), id="a value beyond ASCII"),
        pytest.param(a_get(HOST, b"X-A:"), id="no value"),
        pytest.param(a_get(HOST, b"X-!#$%&'*+.^_`|~: b"), id="a name of odd characters"),
        pytest.param(a_get(HOST, *[b"X-A: b"] * 63), id="many headers"),
        pytest.param(a_get(HOST, b"X-A: " + b"b" * 8000), id="a long header"),
        pytest.param(a_get(HOST, line=b"GET /live?" + b"a" * 2000 + b" HTTP/1.1"), id="a long address"),
        pytest.param(a_post(b"Content-Length: 2 ", body=b"{}"), id="a body"),
        pytest.param(a_post(b"Content-Length: 65536", body=b" " * 65536), id="as large a body as there may be"),
    ],
)
async def test_what_is_http_is_answered_and_so_is_what_follows(ingress_url: str, request_bytes: bytes) -> None:
    closing = a_get(HOST, b"Connection: close")
    answer = await answers_to(ingress_url, request_bytes + NEXT + closing)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"204"] * 3


async def test_http_1_0_needs_no_host(ingress_url: str) -> None:
    answer = await answers_to(ingress_url, a_get(line=b"GET /live HTTP/1.0"))
    assert answer.startswith(b"HTTP/1.1 204")


@pytest.mark.parametrize("name", ["a blank before the colon", "a length in other digits", "hexadecimal chunks"])
async def test_it_is_our_reader_that_refuses(settings: Settings, name: str) -> None:
    request_bytes = MALFORMED.get(name) or REFUSED_OTHERWISE[name][0]
    async with an_ingress(settings, arguments=WITH_SANICS_READER) as url:
        answer = await answers_to(url, request_bytes + NEXT + a_get(HOST, b"Connection: close"))
    # Sanic answers the request and goes on reading: where the next one begins is what a proxy may see otherwise.
    assert answer.startswith(b"HTTP/1.1 204")
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) > 1


# ---- slow clients


async def drip(url: str, request: bytes, *, every_seconds: float, within_seconds: float) -> bytes:
    """Send it byte by byte; what came back until the connection was closed or time was up."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    reading = asyncio.create_task(reader.read())
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    for byte in request:
        if reading.done() or loop.time() > deadline:
            break
        writer.write(bytes([byte]))
        await asyncio.wait([reading], timeout=every_seconds)
    if not reading.done():
        await asyncio.wait([reading], timeout=max(0.0, deadline - loop.time()))
    writer.close()
    return reading.result() if reading.done() else b""


SLOW = {
    "the head": a_get(HOST, b"X-A: " + b"b" * 400),
    "the body": a_post(b"Content-Length: 400") + b" " * 400,
    "a body that nobody wants": a_get(HOST, b"Content-Length: 400", line=b"GET /no/such/path HTTP/1.1") + b" " * 400,
}


@pytest.mark.parametrize("name", SLOW)
async def test_who_sends_byte_by_byte_is_cut_off(settings: Settings, name: str) -> None:
    head, separator, body = SLOW[name].partition(b"\r\n\r\n")
    async with an_ingress(settings, request_timeout_seconds=0.6) as url:
        if name == "the head":
            answer = await drip(url, head + separator, every_seconds=0.05, within_seconds=10)
        else:
            answer = await drip_body(url, head + separator, body)
    assert answer.startswith(b"HTTP/1.1 404" if name == "a body that nobody wants" else b"HTTP/1.1 408")
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1


async def drip_body(url: str, head: bytes, body: bytes) -> bytes:
    """The head at once, then the body byte by byte."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head)
    reading = asyncio.create_task(reader.read())
    for byte in body:
        if reading.done():
            break
        writer.write(bytes([byte]))
        await asyncio.wait([reading], timeout=0.05)
    assert reading.done(), "still reading after 20 s"
    writer.close()
    return reading.result()


async def test_sanic_alone_would_wait_for_ever(settings: Settings) -> None:
    async with an_ingress(settings, arguments=WITH_SANICS_READER, request_timeout_seconds=0.6) as url:
        assert await drip(url, SLOW["the head"], every_seconds=0.05, within_seconds=3) == b""


async def test_who_is_a_little_slow_is_answered(settings: Settings) -> None:
    async with an_ingress(settings, request_timeout_seconds=10) as url:
        request = a_post(b"Content-Length: 2", b"Connection: close", body=b"{}")
        answer = await drip(url, request, every_seconds=0.01, within_seconds=10)
    assert answer.startswith(b"HTTP/1.1 204")


# ---- headers of every answer


def assert_careful(
    answer: aiohttp.ClientResponse, *, but: Sequence[str] = ("cache-control", "content-security-policy")
) -> None:
    """The helmet set, once each. What a page or a cached answer says instead of ours is its own."""
    for name, value in SECURITY_HEADERS.items():
        found = answer.headers.getall(name)
        assert len(found) == 1, (answer.method, answer.url, answer.status, name, found)
        assert name in but or found == [value], (answer.method, answer.url, name)
    assert not {"server", "x-powered-by", "strict-transport-security"} & {name.lower() for name in answer.headers}
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


@asynccontextmanager
async def a_client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with a cookie jar and an address of its own, because limits are kept by address."""
    address = f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(url, connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        yield client


@pytest.fixture
async def client(ingress_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with a_client(ingress_url) as opened:
        yield opened


@pytest.mark.parametrize(("method", "path"), [one[:2] for one in ROUTES], ids=str)
async def test_every_route_answers_carefully(client: aiohttp.ClientSession, method: str, path: str) -> None:
    async with client.request(method, path) as answer:
        assert answer.status < 500
        assert_careful(answer)


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("GET", "/no/such/path", {}, 404),
        ("DELETE", "/api/auth/me", {}, 405),
        ("TRACE", "/api/auth/me", {}, 405),
        ("OPTIONS", "/api/auth/login", {}, 405),
        ("POST", "/api/auth/login", {"data": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/api/auth/login", {"json": {"a": 1}}, 422),
        ("POST", "/api/auth/login", {"data": b"a=b", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/api/auth/login", {"json": {}, "headers": {"expect": "the unexpected"}}, 400),
        ("GET", "/live", {}, 204),
    ],
)
async def test_every_kind_of_no_is_careful(
    client: aiohttp.ClientSession, method: str, path: str, arguments: Any, status: int
) -> None:
    answer = await client.request(method, path, **arguments)
    assert answer.status == status
    assert_careful(answer, but=())


async def test_a_mistake_of_ours_is_told_carefully_and_says_nothing_of_it(settings: Settings) -> None:
    async with an_ingress(settings, arguments=WITH_A_BUG) as url, a_client(url) as client:
        answer = await client.get("/bug")
        assert answer.status == 500
        assert_careful(answer, but=())
        text = await answer.text()
        assert json.loads(text)["code"] == "internal_error"
        assert "ZeroDivision" not in text


async def test_an_answer_without_news_is_careful(client: aiohttp.ClientSession) -> None:
    first = await client.get("/api/events")
    second = await client.get("/api/events", headers={"if-none-match": first.headers["etag"]})
    assert (first.status, second.status) == (200, 304)
    for answer in (first, second):
        assert_careful(answer, but=("cache-control",))
        assert answer.headers.getall("cache-control") == [first.headers["cache-control"]]


async def test_only_an_https_site_insists_on_https(ingress_with: IngressWith) -> None:
    url = await ingress_with(public_url="https://tickets.example")
    async with a_client(url) as client:
        answers = [await client.get("/live"), await client.get("/no/such/path"), await client.post("/live")]
    for answer in answers:
        assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
    raw = await answers_to(url, b"GARBAGE\r\n\r\n")
    assert b"\r\nstrict-transport-security: max-age=31536000; includeSubDomains" in raw


@pytest.mark.parametrize("path", READ_ROUTES, ids=str)
async def test_head_is_get_without_a_body(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as got, client.head(path) as head:
        assert head.status == got.status
        names = [name for name in got.headers if name.lower() not in ("ratelimit", "content-length")]
        assert [name for name in head.headers if name.lower() not in ("ratelimit", "content-length")] == names
        assert await head.read() == b""
    if path not in ("/metrics", "/health"):  # whose bodies are never twice the same
        assert head.headers.get("content-length") == got.headers.get("content-length")


async def test_the_connection_lives_on_after_a_head(ingress_url: str) -> None:
    raw = await answers_to(ingress_url, a_get(HOST, line=b"HEAD /docs HTTP/1.1") + a_get(HOST, b"Connection: close"))
    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"200", b"204"]
    assert b"<html" not in raw


# ---- other sites


FOREIGN = {
    "another site": {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    "a site that hides": {"origin": "null"},
    "a browser that says so": {"sec-fetch-site": "cross-site"},
    "a sibling": {"origin": "https://shop.tickets.example", "sec-fetch-site": "same-site"},
    "a sibling, in a browser that sends no origin": {"sec-fetch-site": "same-site"},
    "the same host on another port": {"origin": "http://127.0.0.1:1"},
    "the same host encrypted": {"origin": "https://127.0.0.1"},
    "two stories": {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
}
OF_FORMS = [
    "text/plain",
    "Text/Plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
]
NO_JSON = [*OF_FORMS, "text/json", "application/octet-stream", ""]


@pytest.mark.parametrize(("method", "path"), UNSAFE_ROUTES, ids=str)
async def test_no_other_site_acts_for_a_user(client: aiohttp.ClientSession, method: str, path: str) -> None:
    for who, headers in FOREIGN.items():
        for body in ({"json": {}}, {}):
            answer = await client.request(method, path, headers=headers, **body)
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (403, "cross_site_request"), who
            # Nothing has happened, not even a request that counts.
            assert "ratelimit" not in answer.headers
            assert_careful(answer, but=())


@pytest.mark.parametrize(("method", "path"), UNSAFE_ROUTES, ids=str)
async def test_no_form_acts_for_a_user(client: aiohttp.ClientSession, method: str, path: str) -> None:
    for content_type in NO_JSON:
        for body in (b"{}", b"") if content_type in OF_FORMS else (b"{}",):
            answer = await client.request(method, path, data=body, headers={"content-type": content_type})
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (415, "unsupported_media_type"), content_type
            assert "ratelimit" not in answer.headers


@pytest.mark.parametrize(("method", "path"), UNSAFE_ROUTES, ids=str)
async def test_our_own_pages_and_programs_may(
    client: aiohttp.ClientSession, ingress_url: str, method: str, path: str
) -> None:
    # The control of the two tests before.
    for headers in ({}, {"origin": ingress_url, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        answer = await client.request(method, path, json={}, headers=headers)
        assert answer.status not in (403, 415), await answer.text()


async def test_a_refused_page_may_keep_its_connection(ingress_url: str) -> None:
    foreign = a_post(b"Origin: https://evil.example", b"Content-Length: 2", body=b"{}")
    answer = await answers_to(ingress_url, foreign + a_get(HOST, b"Connection: close"))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"403", b"204"]


async def test_no_other_site_opens_a_socket(client: aiohttp.ClientSession, ingress_url: str) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    path = f"/api/events/{uuid4()}/seats/socket"
    foreign = await client.get(path, headers={**upgrade, "origin": "https://evil.example"})
    assert (foreign.status, (await foreign.json(content_type=None))["code"]) == (403, "cross_site_request")
    assert (await client.get(path, headers={**upgrade, "origin": ingress_url})).status != 403


# ---- sites that are named


SHOP, TOOL = "https://shop.example.com", "http://127.0.0.1:5173"


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of an ingress that answers pages of two other origins."""
    async with an_ingress(settings, cors_origins=f"{SHOP}, {TOOL}") as url, a_client(url) as client:
        yield client


async def test_a_named_origin_is_told_what_it_may(shared: aiohttp.ClientSession) -> None:
    for origin in (SHOP, TOOL):
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,idempotency-key",
            "sec-fetch-site": "cross-site",
        }
        answer = await shared.options("/api/seats/reserve", headers=headers)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == ALLOWED_HEADERS
        assert answer.headers["access-control-max-age"] == "600"
        assert answer.headers["vary"] == "Origin"


async def test_a_named_origin_may_ask_and_read(shared: aiohttp.ClientSession) -> None:
    headers = {"origin": SHOP, "sec-fetch-site": "cross-site"}
    email = f"{secrets.token_hex(8)}@example.org"
    made = await shared.post(
        "/api/auth/register", json={"email": email, "password": "correct horse", "name": "Ann"}, headers=headers
    )
    refused = await shared.post("/api/auth/login", json={}, headers=headers)
    me = await shared.get("/api/auth/me", headers=headers)
    assert (made.status, refused.status, me.status) == (201, 422, 200)
    for answer in (made, refused, me):
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-expose-headers"] == EXPOSED_HEADERS
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    form = await shared.post("/api/auth/logout", data=b"a=b", headers={**headers, "content-type": "text/plain"})
    assert form.status == 415


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.example.com.evil.example",
        "http://shop.example.com",
        f"{SHOP}:8443",
        "null",
        "https://evil.example",
    ],
)
async def test_another_origin_may_not(shared: aiohttp.ClientSession, origin: str) -> None:
    preflight = await shared.options(
        "/api/seats/reserve", headers={"origin": origin, "access-control-request-method": "POST"}
    )
    posted = await shared.post("/api/auth/logout", headers={"origin": origin})
    read = await shared.get("/api/events", headers={"origin": origin})
    assert (preflight.status, posted.status, read.status) == (403, 403, 200)
    for answer in (preflight, posted, read):
        assert "access-control-allow-origin" not in answer.headers
        assert "Origin" in answer.headers.getall("vary")


async def test_where_nobody_is_named_nobody_is_told_anything(client: aiohttp.ClientSession) -> None:
    headers = {"origin": SHOP, "access-control-request-method": "POST"}
    answers = [await client.options("/api/seats/reserve", headers=headers), await client.get("/live", headers=headers)]
    for answer in answers:
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
        assert "Origin" not in answer.headers.get("vary", "")


# ---- how much is left, and for whom


async def test_every_answer_behind_a_bucket_says_what_is_left(client: aiohttp.ClientSession) -> None:
    email = f"{secrets.token_hex(8)}@example.org"
    made = await client.post("/api/auth/register", json={"email": email, "password": "correct horse", "name": "Ann"})
    me = await client.get("/api/auth/me")
    unknown = await client.get(f"/api/orders/{uuid4()}")
    wrong = await client.post("/api/seats/reserve", json={"seatIds": 1})
    unread = await client.post("/api/seats/reserve", data=b"{", headers={"content-type": "application/json"})
    events = await client.get("/api/events")
    found = [
        (answer.status, answer.headers.getall("ratelimit-policy"), answer.headers.getall("ratelimit"))
        for answer in (made, me, unknown, wrong, unread, events)
    ]
    assert [(status, *policy) for status, policy, _ in found] == [
        (201, '"auth";q=10;w=60'),
        (200, '"other";q=100;w=60'),
        (404, '"other";q=100;w=60'),
        (422, '"reserve";q=20;w=60'),
        (400, '"reserve";q=20;w=60'),
        (200, '"browse";q=600;w=60'),
    ]
    left = [re.fullmatch(r'"\w+";r=(\d+);t=\d+', value) for _, _, [value] in found]
    assert [int(one[1]) for one in left if one] == [9, 99, 98, 19, 18, 599]
    assert "ratelimit" not in (await client.get("/live")).headers


async def test_reading_eats_nothing_of_the_right_to_log_in(client: aiohttp.ClientSession) -> None:
    async def is_refused() -> aiohttp.ClientResponse | None:
        answers = await asyncio.gather(*(client.get(f"/api/events/{uuid4()}") for _ in range(60)))
        return next((answer for answer in answers if answer.status == 429), None)

    refused = await eventually(is_refused, within_seconds=30)
    assert refused is not None
    assert_careful(refused, but=())
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"browse";r=0;t=1'
    login = await client.post("/api/auth/login", json={"email": "a@b.example", "password": "x"})
    assert login.status == 401


async def guess(client: aiohttp.ClientSession, forwarded: str, *, times: int) -> list[int]:
    headers = {"x-forwarded-for": forwarded}
    body = {"email": "a@b.example", "password": "x"}
    return [(await client.post("/api/auth/login", json=body, headers=headers)).status for _ in range(times)]


async def test_behind_a_proxy_of_ours_each_client_has_a_bucket(ingress_with: IngressWith) -> None:
    url = await ingress_with(bcrypt_cost=4, trusted_proxies="127.0.0.0/8")
    mine = f"203.0.113.{secrets.randbelow(256)}"
    prefix = f"2001:db8:{secrets.randbelow(65536):x}:12"
    async with a_client(url) as proxy:
        assert await guess(proxy, mine, times=11) == [401] * 10 + [429]
        # What the client itself wrote stands further left, and moves it nowhere.
        assert await guess(proxy, f"198.51.100.7, {mine}", times=1) == [429]
        # A neighbour is somebody else; another address of the same customer is not.
        assert await guess(proxy, f"198.51.100.{secrets.randbelow(256)}", times=1) == [401]
        assert await guess(proxy, f"{prefix}01::1", times=11) == [401] * 10 + [429]
        assert await guess(proxy, f"{prefix}ff::2", times=1) == [429]
    async with a_client(url) as another_proxy:
        assert await guess(another_proxy, mine, times=1) == [429]


async def test_nobody_else_is_believed(ingress_with: IngressWith) -> None:
    url = await ingress_with(bcrypt_cost=4, trusted_proxies="10.0.0.0/8")
    async with a_client(url) as client:
        statuses = [(await guess(client, f"203.0.113.{number}", times=1))[0] for number in range(11)]
    assert statuses == [401] * 10 + [429]


# ---- without Redis


async def _is_unwell(client: aiohttp.ClientSession) -> bool:
    """What was found out a moment ago is believed for a second."""
    async with client.get("/health") as answer:
        return answer.status == 503


async def test_losing_redis_costs_new_logins_and_nothing_else(settings: Settings) -> None:
    host, _, rest = settings.redis_url.removeprefix("redis://").partition(":")
    port, _, database = rest.partition("/")
    async with TcpProxy(host, int(port)) as proxy:
        redis_url = f"redis://127.0.0.1:{proxy.port}/{database}"
        async with an_ingress(settings, redis_url=redis_url) as url, a_client(url) as known, a_client(url) as stranger:
            await known.post(
                "/api/auth/register",
                json={"email": f"{secrets.token_hex(8)}@example.org", "password": "correct horse", "name": "Ann"},
            )
            assert (await known.get("/api/auth/me")).status == 200
            proxy.refuse()
            proxy.cut()

            me = await known.get("/api/auth/me")
            assert me.status == 200, await me.text()
            assert (me.status, me.headers["ratelimit"][:11]) == (200, '"other";r=9')
            assert (await stranger.get("/api/events")).status == 200
            assert (await stranger.get("/api/auth/me")).status == 401
            unknown = await stranger.get("/api/auth/me", headers={"cookie": f"session={'0' * 32}.{'A' * 43}"})
            assert unknown.status == 503
            body = {"email": "a@b.example", "password": "x"}
            logins = [await stranger.post("/api/auth/login", json=body) for _ in range(11)]
            assert [answer.status for answer in logins] == [503] * 10 + [429]
            assert {answer.headers["retry-after"] for answer in logins[:10]} == {"5"}
            assert (await known.get("/ready")).status == 204
            await eventually(lambda: _is_unwell(known))
            # An end that Redis did not hear of is not promised, but kept here.
            assert (await known.post("/api/auth/logout")).status == 503
            assert (await known.get("/api/auth/me")).status == 503
