"""May this request pass, and who is asking?

The first line of a route is `asker = await admitted(request, Bucket.RESERVE)`. Session and rate limit are one script in
Redis; while one trip is under way later requests gather, and share the next. While Redis is away this process goes on
alone: with buckets of its own, and with the sessions it remembers. Whoever it does not remember is answered 503, at once
rather than after a wait.
"""

import asyncio
import time
from collections.abc import Sequence
from math import ceil
from typing import Any, Literal, NamedTuple

from sanic import Request
from sanic.cookies.request import parse_cookie

from contracts.ids import UserId
from contracts.settings import Settings
from db.coalescer import Coalescer, CoalescerFull
from db.rate_limits import PERIOD_SECONDS, Bucket, Limit, bucket_key, limits
from db.redis import REDIS_AWAY, Script, ScriptCalls, address_tag, user_tag
from db.sessions import Role, SessionId, read_cookie, role_of, session_key
from ingress.client_address import TrustedProxies, client_address
from ingress.local_limits import LocalBuckets
from ingress.remembered_sessions import RememberedSessions
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, problem
from ingress.security_headers import is_https

__all__ = [
    "Asker",
    "Bucket",
    "Budget",
    "Gate",
    "Refused",
    "admit_reader",
    "admitted",
    "admitted_address",
    "admitted_admin",
    "admitted_newcomer",
    "admitted_scanner",
]

# A healthy trip takes a few milliseconds, with the queue before it.
REDIS_TIMEOUT_SECONDS = 0.25
# A wait that ends so much after its time was ended by a loop that did something else meanwhile.
OURSELVES_LATE_SECONDS = 0.02
# After a failure Redis is left alone for this long; without it every batch would wait for the timeout in turn.
REDIS_PAUSE_SECONDS = 0.5
UNAVAILABLE_RETRY_SECONDS = 5

# What the script answers first.
PASSED, OVER_LIMIT, NO_SESSION = 1, 0, -1


class Budget(NamedTuple):
    """What is left in a bucket: `remaining` of `limit` requests, all of them again in `reset_seconds`."""

    bucket: Bucket
    limit: int
    remaining: int
    reset_seconds: int


class Asker(NamedTuple):
    """Who is asking. Of the session only what ends it is kept; it goes no further than the ingress."""

    user_id: UserId
    role: Role
    session: SessionId
    budget: Budget


class Refused(NamedTuple):
    """The request may not pass, and why; try again after `retry_after_seconds`, if that helps."""

    reason: Literal["unauthenticated", "rate_limited", "busy", "unavailable"]
    retry_after_seconds: int = 0
    budget: Budget | None = None


class Gate:
    """Asks Redis about many requests at once."""

    def __init__(self, settings: Settings) -> None:
        https = is_https(settings.public_url)
        # The prefix makes browsers insist on Secure, Path=/ and no Domain, so no sibling site can plant a session.
        self.cookie_name = "__Host-session" if https else "session"
        self.proxies = TrustedProxies(settings.trusted_networks)
        self._limits = limits(settings.rate_limit_multiplier)
        self._readers = LocalBuckets(self._limits[Bucket.BROWSE])
        # In place of Redis's, while it is away.
        self._stand_ins = {bucket: LocalBuckets(limit) for bucket, limit in self._limits.items()}
        self._sessions = RememberedSessions()
        self._calls = ScriptCalls(settings, Script("gate"))
        self.coalescer: Coalescer[Sequence[str | int], list[Any]] = Coalescer(
            self._run, batch_max=settings.gate_batch_max
        )
        self._away_until = 0.0

    async def admit(self, cookie: str | None, bucket: Bucket) -> Asker | Refused:
        """Whether the user whose session cookie this is may ask for one more thing of that kind."""
        session = read_cookie(cookie) if cookie else None
        if session is None:
            return Refused("unauthenticated")
        limit = self._limits[bucket]
        tag = user_tag(session.user_id)
        bucket_at, session_at = bucket_key(tag, bucket), session_key(tag, session)
        answer = await self._ask((2, bucket_at, session_at, limit.token_microseconds, limit.capacity))
        if answer is None:
            return self._admit_remembered(session, session_at, bucket, bucket_at)
        if isinstance(answer, Refused):
            return answer
        verdict, remaining, microseconds, stored = answer
        if verdict == NO_SESSION:
            self._sessions.forget(session_at)
            return Refused("unauthenticated")
        role = role_of(stored)
        self._sessions.remember(session_at, role)
        if verdict == OVER_LIMIT:
            return _over(limit, microseconds)
        return Asker(session.user_id, role, session, _budget(limit, remaining, microseconds))

    async def admit_address(self, address: str, bucket: Bucket) -> Budget | Refused:
        """Whether somebody at this address, who need not be anybody, may ask for one more thing of that kind."""
        limit = self._limits[bucket]
        key = bucket_key(address_tag(address), bucket)
        answer = await self._ask((1, key, limit.token_microseconds, limit.capacity))
        if answer is None:
            return _take(self._stand_ins[bucket], key)
        if isinstance(answer, Refused):
            return answer
        verdict, remaining, microseconds, _ = answer
        return _over(limit, microseconds) if verdict == OVER_LIMIT else _budget(limit, remaining, microseconds)

    def admit_reader(self, address: str) -> Budget | Refused:
        """Whether somebody at this address may read one more of what everybody may; counted in this process."""
        return _take(self._readers, address)

    def end(self, session: SessionId) -> None:
        """This session ends: from now on it does not go on without Redis either."""
        self._sessions.end(session_key(user_tag(session.user_id), session))

    @property
    def is_alone(self) -> bool:
        """Whether Redis was away a moment ago."""
        return time.monotonic() < self._away_until

    async def close(self) -> None:
        """Give the connection up."""
        await self._calls.close()

    def _admit_remembered(self, session: SessionId, session_at: str, bucket: Bucket, bucket_at: str) -> Asker | Refused:
        role = self._sessions.find(session_at)
        if role is None:
            return Refused("unavailable", UNAVAILABLE_RETRY_SECONDS)
        budget = _take(self._stand_ins[bucket], bucket_at)
        return budget if isinstance(budget, Refused) else Asker(session.user_id, role, session, budget)

    async def _ask(self, call: Sequence[str | int]) -> list[Any] | Refused | None:
        """What Redis says; None while it is away."""
        try:
            return await self.coalescer.ask(call)
        except CoalescerFull:
            return Refused("busy")
        except REDIS_AWAY:
            return None

    async def _run(self, calls: Sequence[Sequence[str | int]]) -> Sequence[list[Any]]:
        if self.is_alone:
            raise ConnectionError("Redis was away a moment ago")
        try:
            answers = await self._run_in_time(calls)
        except REDIS_AWAY:
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            raise
        self._sessions.redis_answered()
        return answers

    async def _run_in_time(self, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        due_at = time.monotonic() + REDIS_TIMEOUT_SECONDS
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                return await self._calls.run(calls)
        except TimeoutError:
            if time.monotonic() - due_at < OURSELVES_LATE_SECONDS:
                raise
        # It was we who were late, with the first look at a large event say: Redis may have answered long ago. A process that
        # has just begun remembers nobody, and would send everybody away. A token more is taken, which is the smaller wrong.
        async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
            return await self._calls.run(calls)


async def admitted(request: Request, bucket: Bucket) -> Asker:
    """Who is asking; raises Refusal when the request may not pass. The whole preamble of a route for users."""
    gate = resources_of(request).gate
    answer = await gate.admit(session_cookie(request, gate.cookie_name), bucket)
    if isinstance(answer, Refused):
        raise _refusal(request, answer)
    request.ctx.rate_limit = rate_limit_line(answer.budget)
    return answer


async def admitted_address(request: Request, bucket: Bucket) -> Budget:
    """The same for routes that anybody may call, counted by the client's address; raises Refusal."""
    return _passed(request, await resources_of(request).gate.admit_address(client_address(request), bucket))


async def admitted_newcomer(request: Request) -> Budget:
    """The same for routes that start a session: without Redis there is none to be had, and no password is checked in vain."""
    budget = await admitted_address(request, Bucket.AUTH)
    if resources_of(request).gate.is_alone:
        raise Refusal(problem(ProblemCode.UNAVAILABLE))
    return budget


async def admitted_admin(request: Request, bucket: Bucket) -> Asker:
    """The same for routes of administrators; raises Refusal, `forbidden` for everybody else who is logged in."""
    asker = await admitted(request, bucket)
    if asker.role != "admin":
        raise Refusal(problem(ProblemCode.FORBIDDEN))
    return asker


async def admitted_scanner(request: Request, bucket: Bucket) -> Asker:
    """The same for routes of the door, for scanners and administrators; raises Refusal, `forbidden` for everybody else."""
    asker = await admitted(request, bucket)
    if asker.role not in ("scanner", "admin"):
        raise Refusal(problem(ProblemCode.FORBIDDEN))
    return asker


def admit_reader(request: Request) -> Budget:
    """The preamble of a route that anybody may read: counted by address, in this process; raises Refusal."""
    return _passed(request, resources_of(request).gate.admit_reader(client_address(request)))


def session_cookie(request: Request, cookie_name: str) -> str | None:
    """The session cookie that came with the request. Of two of one name, none is trusted."""
    header = request.headers.getone("cookie", "")
    # Our own client sends this one cookie alone; Sanic's parser, right for the rest, takes several times as long.
    name, _, value = header.partition("=")
    if name == cookie_name and ";" not in value and "," not in value:
        return value
    values = parse_cookie(header).get(cookie_name, []) if header else []
    return values[0] if len(values) == 1 else None


def _budget(limit: Limit, remaining: int, microseconds: int) -> Budget:
    return Budget(limit.bucket, limit.capacity, remaining, ceil(microseconds / 1_000_000))


def _over(limit: Limit, microseconds: int) -> Refused:
    wait_seconds = max(1, ceil(microseconds / 1_000_000))
    return Refused("rate_limited", wait_seconds, Budget(limit.bucket, limit.capacity, 0, wait_seconds))


def _take(buckets: LocalBuckets, asker: str) -> Budget | Refused:
    taken = buckets.take(asker)
    if not taken.passed:
        return _over(buckets.limit, taken.microseconds)
    return _budget(buckets.limit, taken.remaining, taken.microseconds)


def _passed(request: Request, answer: Budget | Refused) -> Budget:
    if isinstance(answer, Refused):
        raise _refusal(request, answer)
    request.ctx.rate_limit = rate_limit_line(answer)
    return answer


def _refusal(request: Request, refused: Refused) -> Refusal:
    if refused.budget is not None:
        request.ctx.rate_limit = rate_limit_line(refused.budget)
    headers = {"retry-after": str(refused.retry_after_seconds)} if refused.retry_after_seconds else {}
    return Refusal(problem(ProblemCode(refused.reason), headers=headers))


def rate_limit_line(budget: Budget) -> tuple[bytes, bytes]:
    """The two headers of draft-ietf-httpapi-ratelimit-headers-10, as the one pair that an answer writes most cheaply."""
    name, limit, remaining, reset_seconds = budget
    now = f'"{name}";r={remaining};t={reset_seconds}'
    return b"ratelimit", f'{now}\r\nratelimit-policy: "{name}";q={limit};w={PERIOD_SECONDS}'.encode()
