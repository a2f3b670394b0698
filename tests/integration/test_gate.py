"""The gate on a real Redis: who passes, how often, in how many round trips, and what happens without Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from contracts.ids import UserId
from contracts.settings import Settings
from db.rate_limits import REQUESTS_PER_MINUTE, Bucket, bucket_key, limits
from db.redis import address_tag, user_tag
from db.sessions import Role, create_session, destroy_session, read_cookie, session_key
from ingress.gate import REDIS_TIMEOUT_SECONDS, Asker, Budget, Gate, Refused, rate_limit_line
from tests.eventually import eventually
from tests.faults.tcp_proxy import TcpProxy


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[Gate]:
    opened = Gate(settings.model_copy(update={"rate_limit_multiplier": 1.0}))
    yield opened
    await opened.close()


def an_address() -> str:
    return f"test-{uuid4()}"


async def a_session(redis: Redis, *, role: Role = "user", seconds: int = 60) -> str:
    return await create_session(redis, user_id=UserId(uuid4()), role=role, seconds=seconds)


async def passes(gate: Gate, cookie: str, bucket: Bucket, *, times: int) -> list[Asker | Refused]:
    return list(await asyncio.gather(*(gate.admit(cookie, bucket) for _ in range(times))))


def admitted_count(answers: list[Asker | Refused]) -> int:
    return sum(isinstance(answer, Asker) for answer in answers)


async def test_a_session_tells_who_is_asking(gate: Gate, redis: Redis) -> None:
    user_id = UserId(uuid4())
    cookie = await create_session(redis, user_id=user_id, role="admin", seconds=60)
    asker = await gate.admit(cookie, Bucket.OTHER)
    assert isinstance(asker, Asker)
    assert (asker.user_id, asker.role) == (user_id, "admin")
    assert asker.budget.limit == asker.budget.remaining + 1 == 100


async def test_redis_does_not_hold_what_opens_the_session(redis: Redis) -> None:
    cookie = await a_session(redis)
    session = read_cookie(cookie)
    assert session is not None
    key = session_key(user_tag(session.user_id), session)
    stored = await redis.get(key)
    assert stored is not None
    secret = cookie.partition(".")[2]
    assert secret not in key
    assert secret.encode() not in stored
    assert 0 < await redis.ttl(key) <= 60


@pytest.mark.parametrize("cookie", [None, "", "x", "." * 76, f"{'0' * 32}.{'A' * 42}", f"{'0' * 32}.{'A' * 43}\n"])
async def test_what_is_no_session_of_ours_is_nobody(gate: Gate, cookie: str | None) -> None:
    assert await gate.admit(cookie, Bucket.OTHER) == Refused("unauthenticated")
    assert gate.coalescer.item_count == 0


async def test_a_session_that_has_ended_is_nobody(gate: Gate, redis: Redis) -> None:
    cookie = await a_session(redis)
    session = read_cookie(cookie)
    assert session is not None
    await destroy_session(redis, session)
    assert await gate.admit(cookie, Bucket.OTHER) == Refused("unauthenticated")


async def test_a_guessed_secret_spends_nothing_of_the_users(gate: Gate, redis: Redis) -> None:
    cookie = await a_session(redis)
    guess = cookie.partition(".")[0] + "." + "A" * 43
    assert admitted_count(await passes(gate, guess, Bucket.CHECKOUT, times=50)) == 0
    assert admitted_count(await passes(gate, cookie, Bucket.CHECKOUT, times=50)) == 5


@pytest.mark.parametrize("bucket", [Bucket.RESERVE, Bucket.CHECKOUT, Bucket.JOIN])
async def test_a_bucket_holds_what_the_seed_says(gate: Gate, redis: Redis, bucket: Bucket) -> None:
    answers = await passes(gate, await a_session(redis), bucket, times=60)
    limit = REQUESTS_PER_MINUTE[bucket]
    assert admitted_count(answers) == limit
    assert [answer.budget.remaining for answer in answers if isinstance(answer, Asker)] == list(reversed(range(limit)))


async def test_a_higher_limit_lets_the_same_requests_pass(settings: Settings, redis: Redis) -> None:
    # The control of the test before: it is the limit that refused them.
    gate = Gate(settings.model_copy(update={"rate_limit_multiplier": 1000.0}))
    assert admitted_count(await passes(gate, await a_session(redis), Bucket.CHECKOUT, times=60)) == 60
    await gate.close()


async def test_who_is_over_the_limit_is_told_when_to_come_back(gate: Gate, redis: Redis) -> None:
    answers = await passes(gate, await a_session(redis), Bucket.RESERVE, times=21)
    refused = answers[-1]
    assert isinstance(refused, Refused)
    assert refused.reason == "rate_limited"
    assert 1 <= refused.retry_after_seconds <= 3  # a token grows back in three seconds
    assert refused.budget == Budget(Bucket.RESERVE, 20, 0, refused.retry_after_seconds)


async def test_tokens_grow_back_one_by_one(gate: Gate, redis: Redis) -> None:
    cookie = await a_session(redis)
    await passes(gate, cookie, Bucket.CHECKOUT, times=5)
    session = read_cookie(cookie)
    assert session is not None
    # A token's time passes: the bucket is full again that much sooner.
    key = bucket_key(user_tag(session.user_id), Bucket.CHECKOUT)
    full_at = int(await redis.get(key) or 0)
    await redis.set(key, full_at - limits(1.0)[Bucket.CHECKOUT].token_microseconds)
    assert admitted_count(await passes(gate, cookie, Bucket.CHECKOUT, times=5)) == 1


async def test_an_empty_bucket_is_not_kept_for_ever(gate: Gate, redis: Redis) -> None:
    cookie = await a_session(redis)
    await passes(gate, cookie, Bucket.CHECKOUT, times=10)
    session = read_cookie(cookie)
    assert session is not None
    assert 0 < await redis.pttl(bucket_key(user_tag(session.user_id), Bucket.CHECKOUT)) <= 60_000


async def test_watching_does_not_eat_the_right_to_buy(gate: Gate, redis: Redis) -> None:
    cookie = await a_session(redis)
    await passes(gate, cookie, Bucket.OTHER, times=150)
    assert admitted_count(await passes(gate, cookie, Bucket.RESERVE, times=1)) == 1


async def test_one_user_does_not_use_up_anothers(gate: Gate, redis: Redis) -> None:
    await passes(gate, await a_session(redis), Bucket.CHECKOUT, times=50)
    assert admitted_count(await passes(gate, await a_session(redis), Bucket.CHECKOUT, times=1)) == 1


async def test_a_second_session_is_no_second_bucket(gate: Gate, redis: Redis) -> None:
    user_id = UserId(uuid4())
    first, second = [await create_session(redis, user_id=user_id, role="user", seconds=60) for _ in range(2)]
    assert admitted_count(await passes(gate, first, Bucket.CHECKOUT, times=5)) == 5
    assert admitted_count(await passes(gate, second, Bucket.CHECKOUT, times=5)) == 0


async def test_the_anonymous_are_counted_by_address(gate: Gate) -> None:
    mine, other = an_address(), an_address()
    answers = [await gate.admit_address(mine, Bucket.AUTH) for _ in range(11)]
    assert [isinstance(answer, Budget) for answer in answers] == [True] * 10 + [False]
    assert isinstance(await gate.admit_address(other, Bucket.AUTH), Budget)


async def test_many_requests_share_few_trips(gate: Gate, redis: Redis) -> None:
    cookies = [await a_session(redis) for _ in range(20)]
    answers = await asyncio.gather(*(gate.admit(cookie, Bucket.OTHER) for cookie in cookies * 20))
    assert all(isinstance(answer, Asker) for answer in answers)
    # Everybody gets their own answer, whoever else was on the trip.
    askers = [answer for answer in answers if isinstance(answer, Asker)]
    assert [asker.session for asker in askers] == [read_cookie(cookie) for cookie in cookies * 20]
    assert gate.coalescer.batch_count <= 3


def test_all_keys_of_a_request_live_on_one_node() -> None:
    cookie = f"{uuid4().hex}.{'A' * 43}"
    session = read_cookie(cookie)
    assert session is not None
    tag = user_tag(session.user_id)
    keys = [session_key(tag, session), *(bucket_key(tag, bucket) for bucket in Bucket)]
    assert {key_slot(key.encode()) for key in keys} == {key_slot(f"u:{session.user_id}".encode())}
    # A tag ends at the first brace, and the colons of an IPv6 address are no brace.
    assert key_slot(bucket_key(address_tag("2001:db8::1"), Bucket.AUTH).encode()) == key_slot(b"ip:2001:db8::1")


async def test_a_redis_that_has_forgotten_the_script_is_taught_again(gate: Gate, redis: Redis) -> None:
    cookie = await a_session(redis)
    await passes(gate, cookie, Bucket.RESERVE, times=5)
    await redis.script_flush()
    assert admitted_count(await passes(gate, cookie, Bucket.RESERVE, times=30)) == 15


async def test_without_redis_the_answer_is_unavailable_at_once(settings: Settings) -> None:
    gate = Gate(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    started = time.monotonic()
    answers = await asyncio.gather(*(gate.admit(f"{'0' * 32}.{'A' * 43}", Bucket.OTHER) for _ in range(1000)))
    assert set(answers) == {Refused("unavailable", 5)}
    assert time.monotonic() - started < 2
    await gate.close()


@asynccontextmanager
async def a_gate_behind_a_proxy(settings: Settings) -> AsyncIterator[tuple[Gate, TcpProxy]]:
    server = urlsplit(settings.redis_url)
    async with TcpProxy(server.hostname or "127.0.0.1", server.port or 6379) as proxy:
        path = f"redis://127.0.0.1:{proxy.port}{server.path}"
        gate = Gate(settings.model_copy(update={"redis_url": path, "gate_batch_max": 16, "rate_limit_multiplier": 1.0}))
        yield gate, proxy
        await gate.close()


def away(proxy: TcpProxy) -> None:
    proxy.refuse()
    proxy.cut()


async def test_a_frozen_redis_costs_one_wait_for_all(settings: Settings, redis: Redis) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        cookie, stranger = await a_session(redis), await a_session(redis)
        assert admitted_count(await passes(gate, cookie, Bucket.RESERVE, times=1)) == 1

        proxy.black_hole()
        started = time.monotonic()
        # Thirteen batches, of which only the first waits.
        answers = await passes(gate, stranger, Bucket.OTHER, times=200)
        assert set(answers) == {Refused("unavailable", 5)}
        assert 0.2 < time.monotonic() - started < 1
        assert proxy.fired

        proxy.forward()
        assert await eventually(lambda: _passes_again(gate, stranger))
        # The late answers of the first batch were not taken for those of another request.
        other = await a_session(redis, role="admin")
        asker = await gate.admit(other, Bucket.OTHER)
        assert isinstance(asker, Asker)
        assert (asker.session, asker.role) == (read_cookie(other), "admin")


async def with_a_loop_that_is_busy_meanwhile(gate: Gate, cookie: str) -> Asker | Refused:
    """The answer to a request during which this process did something else for longer than it waits for Redis."""
    await gate.admit(cookie, Bucket.OTHER)  # connected
    asked = asyncio.create_task(gate.admit(cookie, Bucket.OTHER))
    while gate.coalescer.item_count < 2:  # noqa: ASYNC110 -- any longer wait and the answer is there
        await asyncio.sleep(0)
    time.sleep(REDIS_TIMEOUT_SECONDS + 0.2)  # noqa: ASYNC251 -- as a large document that is being encoded does
    return await asked


async def test_a_busy_loop_does_not_take_redis_for_away(gate: Gate, redis: Redis) -> None:
    assert isinstance(await with_a_loop_that_is_busy_meanwhile(gate, await a_session(redis)), Asker)
    assert not gate.is_alone


async def test_one_that_trusts_its_clock_alone_does(gate: Gate, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr("ingress.gate.OURSELVES_LATE_SECONDS", float("inf"))
    await with_a_loop_that_is_busy_meanwhile(gate, await a_session(redis))
    assert gate.is_alone


async def test_a_redis_that_comes_back_is_noticed(settings: Settings, redis: Redis) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        await gate.admit(await a_session(redis), Bucket.OTHER)
        away(proxy)
        stranger = await a_session(redis)
        assert await gate.admit(stranger, Bucket.OTHER) == Refused("unavailable", 5)
        assert gate.is_alone
        proxy.forward()
        assert await eventually(lambda: _passes_again(gate, stranger))
        assert not gate.is_alone


@pytest.mark.parametrize("role", ["user", "admin"])
async def test_who_was_known_goes_on_without_redis_as_often_as_before(
    settings: Settings, redis: Redis, role: Role
) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        cookie = await a_session(redis, role=role)
        known = await gate.admit(cookie, Bucket.OTHER)
        assert isinstance(known, Asker)
        away(proxy)
        answers = await passes(gate, cookie, Bucket.CHECKOUT, times=8)
        askers = [answer for answer in answers if isinstance(answer, Asker)]
        assert {(asker.user_id, asker.role, asker.session) for asker in askers} == {
            (known.user_id, role, known.session)
        }
        assert [asker.budget.remaining for asker in askers] == [4, 3, 2, 1, 0]
        refused = answers[-1]
        assert isinstance(refused, Refused)
        assert refused.reason == "rate_limited"
        # Watching eats nothing of the right to buy here either.
        assert admitted_count(await passes(gate, cookie, Bucket.OTHER, times=200)) == 100
        assert admitted_count(await passes(gate, cookie, Bucket.RESERVE, times=200)) == 20


async def test_a_second_session_is_no_second_bucket_without_redis(settings: Settings, redis: Redis) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        user_id = UserId(uuid4())
        first, second = [await create_session(redis, user_id=user_id, role="user", seconds=60) for _ in range(2)]
        await asyncio.gather(gate.admit(first, Bucket.OTHER), gate.admit(second, Bucket.OTHER))
        away(proxy)
        assert admitted_count(await passes(gate, first, Bucket.CHECKOUT, times=5)) == 5
        assert admitted_count(await passes(gate, second, Bucket.CHECKOUT, times=5)) == 0


async def test_a_guess_is_not_known_because_its_user_is(settings: Settings, redis: Redis) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        cookie = await a_session(redis)
        other = await a_session(redis)
        await asyncio.gather(gate.admit(cookie, Bucket.OTHER), gate.admit(other, Bucket.OTHER))
        away(proxy)
        # Somebody else's user with one's own secret is nobody either.
        for guess in (
            cookie.partition(".")[0] + "." + "A" * 43,
            other.partition(".")[0] + "." + cookie.partition(".")[2],
        ):
            assert await gate.admit(guess, Bucket.OTHER) == Refused("unavailable", 5)


async def test_what_redis_has_forgotten_is_over_as_soon_as_redis_is_back(settings: Settings, redis: Redis) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        cookie = await a_session(redis)
        session = read_cookie(cookie)
        assert session is not None
        await gate.admit(cookie, Bucket.OTHER)
        away(proxy)
        # Logged out elsewhere, where Redis can be reached.
        await destroy_session(redis, session)
        assert isinstance(await gate.admit(cookie, Bucket.OTHER), Asker)
        proxy.forward()
        assert await eventually(lambda: _is_nobody(gate, cookie))
        # And it stays over when Redis goes away again.
        away(proxy)
        assert await gate.admit(cookie, Bucket.OTHER) == Refused("unavailable", 5)


async def test_a_session_that_ends_here_does_not_go_on_without_redis(settings: Settings, redis: Redis) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        cookie, other = await a_session(redis), await a_session(redis)
        session = read_cookie(cookie)
        assert session is not None
        await asyncio.gather(gate.admit(cookie, Bucket.OTHER), gate.admit(other, Bucket.OTHER))
        gate.end(session)
        # Redis had vouched for it just before, and the answer came just after.
        assert isinstance(await gate.admit(cookie, Bucket.OTHER), Asker)
        away(proxy)
        assert await gate.admit(cookie, Bucket.OTHER) == Refused("unavailable", 5)
        assert isinstance(await gate.admit(other, Bucket.OTHER), Asker)


async def test_addresses_are_limited_without_redis_too(settings: Settings) -> None:
    async with a_gate_behind_a_proxy(settings) as (gate, proxy):
        away(proxy)
        mine, other = an_address(), an_address()
        answers = [await gate.admit_address(mine, Bucket.AUTH) for _ in range(11)]
        assert [isinstance(answer, Budget) for answer in answers] == [True] * 10 + [False]
        assert answers[0] == Budget(Bucket.AUTH, 10, 9, 6)
        assert isinstance(await gate.admit_address(other, Bucket.AUTH), Budget)


async def test_readers_are_limited_without_asking_redis(gate: Gate) -> None:
    mine, other = an_address(), an_address()
    answers = [gate.admit_reader(mine) for _ in range(601)]
    assert [isinstance(answer, Budget) for answer in answers] == [True] * 600 + [False]
    assert isinstance(gate.admit_reader(other), Budget)
    # Reading is one thing, logging in another.
    assert isinstance(await gate.admit_address(mine, Bucket.AUTH), Budget)
    assert gate.coalescer.item_count == 1


def test_the_headers_say_what_is_left() -> None:
    name, value = rate_limit_line(Budget(Bucket.RESERVE, 20, 19, 3))
    assert b"%b: %b" % (name, value) == b'ratelimit: "reserve";r=19;t=3\r\nratelimit-policy: "reserve";q=20;w=60'


async def _passes_again(gate: Gate, cookie: str) -> bool:
    return isinstance(await gate.admit(cookie, Bucket.OTHER), Asker)


async def _is_nobody(gate: Gate, cookie: str) -> bool:
    return await gate.admit(cookie, Bucket.OTHER) == Refused("unauthenticated")
