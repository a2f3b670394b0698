"""May this request pass, and who is asking?

The first line of a route is `asker = await admitted(request, Bucket.RESERVE)`. Session and rate limit are one script in
Redis; while one trip is under way later requests gather, and share the next. Redis away means that nobody can be known:
503, at once rather than after a wait.
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
from ingress.request_body import require_json_content_type
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, problem
from ingress.security_headers import is_https

__all__ = ["Asker", "Bucket", "Gate", "Refused", "admitted", "admitted_address", "refuse_cross_site"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# A healthy trip takes a few milliseconds, with the queue before it.
REDIS_TIMEOUT_SECONDS = 0.25
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
        self.public_origin = settings.public_url.rstrip("/")
        self._limits = limits(settings.rate_limit_multiplier)
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
        keys = (bucket_key(tag, bucket), session_key(tag, session))
        answer = await self._ask((2, *keys, limit.token_microseconds, limit.capacity))
        if isinstance(answer, Refused):
            return answer
        verdict, remaining, microseconds, stored = answer
        if verdict == NO_SESSION:
            return Refused("unauthenticated")
        if verdict == OVER_LIMIT:
            return _over(limit, microseconds)
        return Asker(session.user_id, role_of(stored), session, _budget(limit, remaining, microseconds))

    async def admit_address(self, address: str, bucket: Bucket) -> Budget | Refused:
        """Whether somebody at this address, who need not be anybody, may ask for one more thing of that kind."""
        limit = self._limits[bucket]
        key = bucket_key(address_tag(address), bucket)
        answer = await self._ask((1, key, limit.token_microseconds, limit.capacity))
        if isinstance(answer, Refused):
            return answer
        verdict, remaining, microseconds, _ = answer
        return _over(limit, microseconds) if verdict == OVER_LIMIT else _budget(limit, remaining, microseconds)

    async def close(self) -> None:
        """Give the connection up."""
        await self._calls.close()

    async def _ask(self, call: Sequence[str | int]) -> list[Any] | Refused:
        try:
            return await self.coalescer.ask(call)
        except CoalescerFull:
            return Refused("busy")
        except REDIS_AWAY:
            return Refused("unavailable", UNAVAILABLE_RETRY_SECONDS)

    async def _run(self, calls: Sequence[Sequence[str | int]]) -> Sequence[list[Any]]:
        if time.monotonic() < self._away_until:
            raise ConnectionError("Redis was away a moment ago")
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                return await self._calls.run(calls)
        except REDIS_AWAY:
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            raise


async def admitted(request: Request, bucket: Bucket) -> Asker:
    """Who is asking; raises Refusal when the request may not pass. The whole preamble of a route for users."""
    gate = resources_of(request).gate
    if request.method not in SAFE_METHODS:
        refuse_cross_site(request, gate.public_origin)
    answer = await gate.admit(session_cookie(request, gate.cookie_name), bucket)
    if isinstance(answer, Refused):
        raise _refusal(answer)
    return answer


async def admitted_address(request: Request, bucket: Bucket) -> Budget:
    """The same for routes that anybody may call, counted by the client's address; raises Refusal."""
    gate = resources_of(request).gate
    if request.method not in SAFE_METHODS:
        refuse_cross_site(request, gate.public_origin)
    # The peer of the connection: no header of a proxy is believed until one is configured.
    answer = await gate.admit_address(request.ip, bucket)
    if isinstance(answer, Refused):
        raise _refusal(answer)
    return answer


def refuse_cross_site(request: Request, public_origin: str) -> None:
    """Raises Refusal for an unsafe request that a browser sends on behalf of another site."""
    headers = request.headers
    if headers.getone("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refusal(problem(ProblemCode.CROSS_SITE_REQUEST))
    # Programs send no Origin; browsers always do with an unsafe method.
    if headers.getone("origin", public_origin) != public_origin:
        raise Refusal(problem(ProblemCode.CROSS_SITE_REQUEST))
    if request.body:
        require_json_content_type(request)


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


def _refusal(refused: Refused) -> Refusal:
    headers = {"retry-after": str(refused.retry_after_seconds)} if refused.retry_after_seconds else {}
    if refused.budget is not None:
        headers |= rate_limit_headers(refused.budget)
    return Refusal(problem(ProblemCode(refused.reason), headers=headers))


def rate_limit_headers(budget: Budget) -> dict[str, str]:
    """The headers of draft-ietf-httpapi-ratelimit-headers-10 (structured fields)."""
    name = budget.bucket.value
    return {
        "ratelimit-policy": f'"{name}";q={budget.limit};w={PERIOD_SECONDS}',
        "ratelimit": f'"{name}";r={budget.remaining};t={budget.reset_seconds}',
    }
