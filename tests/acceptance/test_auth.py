"""Accounts and sessions over HTTP, as a browser, a program and an attacker see them."""

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from ingress.security_headers import SECURITY_HEADERS

IngressWith = Callable[..., Awaitable[str]]
Client = aiohttp.ClientSession

PASSWORD = "correct horse battery"


@asynccontextmanager
async def a_client(url: str) -> AsyncIterator[Client]:
    """A client with a cookie jar and an address of its own, because limits are kept by address."""
    address = f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(url, connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        yield client


@pytest.fixture
async def client(ingress_url: str) -> AsyncIterator[Client]:
    async with a_client(ingress_url) as opened:
        yield opened


def an_email() -> str:
    return f"{secrets.token_hex(8)}@example.org"


async def register(client: Client, **changes: Any) -> aiohttp.ClientResponse:
    return await client.post(
        "/api/auth/register", json={"email": an_email(), "password": PASSWORD, "name": "Ann"} | changes
    )


async def login(client: Client, email: str, password: str = PASSWORD) -> aiohttp.ClientResponse:
    return await client.post("/api/auth/login", json={"email": email, "password": password})


async def me(client: Client) -> int:
    return (await client.get("/api/auth/me")).status


def session_cookie_of(response: aiohttp.ClientResponse) -> Any:
    cookie: SimpleCookie = SimpleCookie()
    for header in response.headers.getall("set-cookie"):
        cookie.load(header)
    return cookie["session"]


async def code_of(response: aiohttp.ClientResponse) -> tuple[int, str]:
    assert response.content_type == "application/problem+json"
    problem = await response.json(content_type=None)
    assert problem["status"] == response.status
    return response.status, problem["code"]


async def test_a_buyer_registers_is_known_and_leaves(client: Client) -> None:
    email = an_email()
    registered = await register(client, email=email.upper(), name=" Ann ")
    assert registered.status == 201
    user = await registered.json()
    assert set(user) == {"id", "email", "name", "role", "createdAt"}
    assert (user["email"], user["name"], user["role"]) == (email, "Ann", "user")

    known = await client.get("/api/auth/me")
    assert (known.status, await known.json()) == (200, user)

    assert (await client.post("/api/auth/logout")).status == 204
    assert await me(client) == 401


async def test_a_buyer_comes_back(client: Client, ingress_url: str) -> None:
    email = an_email()
    user = await (await register(client, email=email)).json()
    async with a_client(ingress_url) as elsewhere:
        answer = await login(elsewhere, email.upper())
        assert (answer.status, await answer.json()) == (200, user)
        assert await me(elsewhere) == 200
        # One end of a session is not the end of another.
        await client.post("/api/auth/logout")
        assert await me(elsewhere) == 200


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: Client) -> None:
    cookie = session_cookie_of(await register(client))
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["max-age"] == str(24 * 3600)
    assert cookie["domain"] == ""
    assert cookie["secure"] == ""  # this stack speaks plain http


async def test_an_https_site_sets_a_host_cookie_and_insists_on_https(ingress_with: IngressWith) -> None:
    url = await ingress_with(bcrypt_cost=4, public_url="https://tickets.example")
    async with a_client(url) as client:
        answer = await register(client)
        header = answer.headers["set-cookie"]
        assert header.startswith("__Host-session=")
        assert "; Secure" in header
        assert "; Path=/;" in header
        assert "Domain" not in header
        assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
        value = header.partition(";")[0]
        assert (await client.get("/api/auth/me", headers={"cookie": value})).status == 200
        unprefixed = value.removeprefix("__Host-")
        assert (await client.get("/api/auth/me", headers={"cookie": unprefixed})).status == 401


async def test_every_login_is_a_new_session_and_the_old_one_is_dead(client: Client, ingress_url: str) -> None:
    email = an_email()
    before = session_cookie_of(await register(client, email=email)).value
    after = session_cookie_of(await login(client, email)).value
    assert before != after
    async with a_client(ingress_url) as thief:
        stolen = await thief.get("/api/auth/me", headers={"cookie": f"session={before}"})
        assert await code_of(stolen) == (401, "unauthenticated")
    assert await me(client) == 200


async def test_a_planted_session_never_becomes_a_logged_in_one(client: Client, ingress_url: str) -> None:
    victim_email = an_email()
    async with a_client(ingress_url) as victim, a_client(ingress_url) as attacker:
        await register(victim, email=victim_email)
        planted = session_cookie_of(await register(attacker)).value
        answer = await client.post(
            "/api/auth/login",
            json={"email": victim_email, "password": PASSWORD},
            headers={"cookie": f"session={planted}"},
        )
        assert answer.status == 200
        assert session_cookie_of(answer).value != planted
        assert await me(attacker) == 401


async def test_two_cookies_of_one_name_are_no_session(client: Client) -> None:
    value = session_cookie_of(await register(client)).value
    client.cookie_jar.clear()
    for header, status in (
        (f"session={value}", 200),
        (f"theme=dark; session={value}", 200),
        (f"session={value}; session={value}", 401),
        (f"session=x; session={value}", 401),
    ):
        assert (await client.get("/api/auth/me", headers={"cookie": header})).status == status, header


async def test_logging_out_twice_is_answered_alike(client: Client) -> None:
    await register(client)
    first = await client.post("/api/auth/logout")
    second = await client.post("/api/auth/logout")
    assert first.status == second.status == 204
    assert first.headers["set-cookie"] == second.headers["set-cookie"]


async def test_an_address_has_one_account(client: Client) -> None:
    email = an_email()
    assert (await register(client, email=email)).status == 201
    assert await code_of(await register(client, email=email.upper())) == (409, "email_taken")


async def test_of_two_registrations_at_once_one_wins(ingress_url: str) -> None:
    email = an_email()
    async with a_client(ingress_url) as one, a_client(ingress_url) as other:
        answers = await asyncio.gather(*(register(client, email=email) for client in (one, other) * 3))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 5


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"email": "no address"}, "/email"),
        ({"email": f"{'x' * 250}@example.org"}, "/email"),
        ({"email": "a@b\u0131.example"}, "/email"),
        ({"password": "seven77"}, "/password"),
        ({"password": "x" * 73}, "/password"),
        ({"password": "é" * 37}, "/password"),
        ({"name": "  "}, "/name"),
        ({"name": "x" * 256}, "/name"),
        ({"role": "admin"}, "/role"),
        ({"id": "5f2d6f1e-6f0a-5c0e-9a64-2a9f2b1f7c11"}, "/id"),
        ({"passwordHash": "x"}, "/passwordHash"),
        ({"name": None}, "/name"),
    ],
)
async def test_what_an_account_cannot_be_is_pointed_at(client: Client, changes: dict[str, Any], pointer: str) -> None:
    answer = await register(client, **changes)
    problem = await answer.json(content_type=None)
    assert (answer.status, problem["code"]) == (422, "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert PASSWORD not in await answer.text()


async def test_a_wrong_password_and_an_unknown_address_look_the_same(client: Client) -> None:
    email = an_email()
    await register(client, email=email)
    client.cookie_jar.clear()
    answers = [
        await login(client, email, "wrong"),
        await login(client, an_email(), "wrong"),
        await login(client, email, "x" * 100),
        await login(client, email, ""),
        await login(client, "no address", PASSWORD),
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({await answer.text() for answer in answers}) == 1
    assert len({frozenset(answer.headers) for answer in answers}) == 1
    assert await code_of(answers[0]) == (401, "wrong_credentials")


async def test_a_wrong_password_and_an_unknown_address_take_the_same_time(ingress_with: IngressWith) -> None:
    # A cost at which skipping the hash would show: 20 ms of some 25.
    url = await ingress_with(bcrypt_cost=9, rate_limit_multiplier=1000.0)
    async with a_client(url) as client:
        email = an_email()
        await register(client, email=email)

        async def seconds(address: str) -> float:
            started = time.perf_counter()
            await login(client, address, "wrong")
            return time.perf_counter() - started

        pairs = [(await seconds(email), await seconds(an_email())) for _ in range(15)]
    known, unknown = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert 0.5 < unknown / known < 2


async def test_a_login_storm_is_turned_away_politely(ingress_with: IngressWith) -> None:
    url = await ingress_with(
        bcrypt_cost=11, password_hash_slots=1, password_hash_waiting_max=2, rate_limit_multiplier=1000.0
    )
    async with a_client(url) as client:
        answers = await asyncio.gather(*(login(client, an_email(), "wrong") for _ in range(30)))
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {401, 503}
        busy = answers[statuses.index(503)]
        assert await code_of(busy) == (503, "busy")
        assert busy.headers["retry-after"] in {"1", "2", "3"}


async def test_guessing_is_limited_by_address(client: Client, ingress_url: str) -> None:
    answers = [await login(client, an_email(), "wrong") for _ in range(11)]
    assert [answer.status for answer in answers] == [401] * 10 + [429]
    refused = answers[-1]
    assert await code_of(refused) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 6
    assert refused.headers["ratelimit-policy"] == '"auth";q=10;w=60'
    assert refused.headers["ratelimit"].startswith('"auth";r=0;t=')
    # No header of the client's moves it to another bucket.
    for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
        again = await client.post("/api/auth/login", json={"email": "a", "password": "b"}, headers={name: "192.0.2.1"})
        assert again.status == 429
    async with a_client(ingress_url) as neighbour:
        assert (await login(neighbour, an_email(), "wrong")).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/logout", "/api/auth/register"])
async def test_another_site_cannot_act_for_the_user(client: Client, path: str, headers: dict[str, str]) -> None:
    answer = await client.post(path, json={}, headers=headers)
    assert await code_of(answer) == (403, "cross_site_request")


async def test_our_own_pages_may(client: Client, ingress_url: str) -> None:
    email = an_email()
    await register(client, email=email)
    answer = await client.post(
        "/api/auth/login",
        json={"email": email, "password": PASSWORD},
        headers={"sec-fetch-site": "same-origin", "origin": ingress_url},
    )
    assert answer.status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_form_is_no_json(client: Client, content_type: str) -> None:
    headers = {"content-type": content_type}
    for path in ("/api/auth/login", "/api/auth/logout"):
        answer = await client.post(path, data=b'{"email": "a@b.example", "password": "x"}', headers=headers)
        assert await code_of(answer) == (415, "unsupported_media_type")


async def test_json_with_a_charset_is_json(client: Client) -> None:
    headers = {"content-type": "application/json; charset=UTF-8"}
    answer = await client.post("/api/auth/login", data=b'{"email": "a@b.example", "password": "x"}', headers=headers)
    assert answer.status == 401


async def test_every_answer_is_careful(client: Client) -> None:
    answers = [
        await client.get("/live"),
        await client.get("/metrics"),
        await register(client),
        await client.get("/api/auth/me"),
        await client.post("/api/auth/logout"),
        await client.get("/api/auth/me"),
        await client.get("/no/such/path"),
        await client.delete("/api/auth/me"),
        await client.request("BREW", "/api/auth/me"),
        await client.options("/api/auth/login"),
        await client.post("/api/auth/login", data=b"{", headers={"content-type": "application/json"}),
        await client.post("/api/auth/login", data=b" " * 70_000, headers={"content-type": "application/json"}),
        await client.get("/live", headers={"x-long": "x" * 9000}),
        await client.post("/api/auth/login", json={}, headers={"expect": "the unexpected"}),
    ]
    for answer in answers:
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers.getall(name) == [value], (answer.url, answer.status, name)
        assert "server" not in answer.headers


async def test_every_error_is_a_problem_with_a_code(client: Client) -> None:
    assert await code_of(await client.get("/no/such/path")) == (404, "not_found")
    wrong_method = await client.delete("/api/auth/me")
    assert await code_of(wrong_method) == (405, "method_not_allowed")
    assert wrong_method.headers["allow"] == "GET, HEAD"
    assert await code_of(await client.get("/api/auth/me")) == (401, "unauthenticated")
    json_type = {"content-type": "application/json"}
    too_large = await client.post("/api/auth/login", data=b" " * 70_000, headers=json_type)
    assert await code_of(too_large) == (413, "body_too_large")
    twice = await client.post("/api/auth/login", data=b'{"email":"a","email":"b","password":"c"}', headers=json_type)
    assert await code_of(twice) == (400, "invalid_json")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(ingress_url: str, request_bytes: bytes) -> None:
    host, _, port = ingress_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in answer
    assert b'"code":"malformed_request"' in answer
    assert b"x-content-type-options: nosniff" in answer


async def test_a_lost_session_store_logs_out_and_breaks_nothing(client: Client, redis: Redis) -> None:
    cookie = session_cookie_of(await register(client)).value
    user_hex = cookie.partition(".")[0]
    keys = [key async for key in redis.scan_iter("session:*") if user_hex in key.decode().replace("-", "")]
    assert len(keys) == 1
    await redis.delete(*keys)
    assert await code_of(await client.get("/api/auth/me")) == (401, "unauthenticated")
    assert (await register(client)).status == 201


async def test_without_redis_nobody_can_be_known(ingress_with: IngressWith) -> None:
    url = await ingress_with(bcrypt_cost=4, redis_url="redis://127.0.0.1:1/0")
    async with a_client(url) as client:
        for answer in (
            await client.get("/api/auth/me", headers={"cookie": f"session={'0' * 32}.{'A' * 43}"}),
            await login(client, an_email()),
        ):
            assert await code_of(answer) == (503, "unavailable")
            assert answer.headers["retry-after"] == "5"
        assert (await client.get("/live")).status == 204
        # Those who were known before go on, so requests stay welcome.
        assert (await client.get("/ready")).status == 204
        health = await client.get("/health")
        assert health.status == 503
        servers = (await health.json())["servers"]
        assert servers["postgres"]["ok"]
        assert not servers["redis"]["ok"]
