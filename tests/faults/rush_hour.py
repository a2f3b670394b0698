"""What do buyers notice while something is done to the processes that serve them?

Each buyer looks, reserves, and pays or gives back, with an Idempotency-Key every other time, and never asks again by himself:
what is not answered as it should be is lost, and counts. Only a connection that is closed while it lies idle is opened anew, as
every browser does; how often is counted apart.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
from redis.asyncio import Redis

from db.postgres import Pool
from db.sessions import create_session
from db.users import create_user
from tests.builders import OnSale

BUYERS = 10
PAUSE_SECONDS = 0.1
SETTLED_WITHIN_SECONDS = 30.0
REQUEST_SECONDS_MAX = 30.0
GOOD = {"look": {200}, "reserve": {201}, "pay": {200, 201}, "give back": {200}}
CUT = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@dataclass
class Figures:
    """Everything that was asked, and what came of it."""

    seconds: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    settled_later: int = 0
    idle_cuts: int = 0
    # When each reservation that succeeded was asked for.
    reserved_began_at: list[float] = field(default_factory=list)
    holds: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def p95_ms(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.95)] * 1000

    @property
    def longest_pause_seconds(self) -> float:
        """The longest time in which nobody was answered."""
        at = sorted(self.answered_at)
        return max(after - before for before, after in itertools.pairwise(at))

    def __str__(self) -> str:
        return (
            f"{sum(self.asked.values())} requests ({dict(self.asked)}), {len(self.lost)} lost, p95 {self.p95_ms:.0f} ms,"
            f" slowest {max(self.seconds) * 1000:.0f} ms, longest pause {self.longest_pause_seconds:.2f} s,"
            f" {self.settled_later} answered 202 first, {self.idle_cuts} idle connections cut"
        )


class RushHour:
    """Buyers of one event, who come through one address."""

    def __init__(self, url: str, event: OnSale, pool: Pool, redis: Redis) -> None:
        self.figures = Figures()
        self._url, self._event, self._pool, self._redis = url, event, pool, redis
        self._over = asyncio.Event()

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[Figures]:
        """They buy while the block lasts; afterwards everything that was asked has been answered."""
        cookies = [await self._cookie() for _ in range(BUYERS)]
        buying = [asyncio.create_task(self._buy(cookie, number)) for number, cookie in enumerate(cookies)]
        try:
            yield self.figures
        finally:
            self._over.set()
            await asyncio.gather(*buying)

    async def _cookie(self) -> str:
        user = await create_user(
            self._pool, email=f"{uuid4().hex}@rush.example", password_hash="none", name="Ann Hurry"
        )
        assert user is not None
        return await create_session(self._redis, user_id=user.id, role="user", seconds=3600)

    async def _buy(self, cookie: str, number: int) -> None:
        chance = random.Random(number)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        headers = {"cookie": f"session={cookie}"}
        async with aiohttp.ClientSession(self._url, timeout=timeout, headers=headers) as http:
            turn = 0
            while not self._over.is_set():
                turn += 1
                await self._one_turn(http, with_key=turn % 2 == 0, pays=turn % 4 < 2)
                await asyncio.sleep(PAUSE_SECONDS * chance.uniform(0.5, 1.5))

    async def _one_turn(self, http: aiohttp.ClientSession, *, with_key: bool, pays: bool) -> None:
        event_id = str(self._event.event_id)
        await self._ask(http, "look", "GET", f"/api/events/{event_id}/availability", None, "")
        wanted = {"eventId": event_id, "bestAvailable": {"count": 1}}
        hold = await self._ask(http, "reserve", "POST", "/api/seats/reserve", wanted, str(uuid4()) if with_key else "")
        if hold is None:
            return
        self.figures.holds.add(hold["holdId"])
        it = {"eventId": event_id, "holdId": hold["holdId"]}
        key = str(uuid4()) if with_key else ""
        if pays:
            order = await self._ask(http, "pay", "POST", "/api/checkout", {**it, "paymentMethod": "pm_card_visa"}, key)
            if order is not None:
                self.figures.orders.add(order["orderId"])
            return
        await self._ask(http, "give back", "DELETE", "/api/seats/release", it, key)

    async def _ask(
        self, http: aiohttp.ClientSession, what: str, method: str, path: str, body: Mapping[str, Any] | None, key: str
    ) -> dict[str, Any] | None:
        """What was answered; None when the request was lost."""
        headers = {"idempotency-key": key} if key else {}
        self.figures.asked[what] += 1
        began_at = time.monotonic()
        try:
            status, answer, location = await self._send(http, method, path, body, headers)
            if status == 202:
                self.figures.settled_later += 1
                status, answer = await self._settled(http, location)
        except (aiohttp.ClientError, TimeoutError) as problem:
            self.figures.lost.append(f"{what}: {problem!r}")
            return None
        now = time.monotonic()
        if status not in GOOD[what]:
            self.figures.lost.append(f"{what}: {status} {answer}")
            return None
        if what == "reserve":
            self.figures.reserved_began_at.append(began_at)
        self.figures.seconds.append(now - began_at)
        self.figures.answered_at.append(now)
        return answer

    async def _send(
        self, http: aiohttp.ClientSession, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any], str]:
        for is_last in (False, True):
            try:
                async with http.request(method, path, json=body, headers=headers) as response:
                    raw = await response.read()
                    location = response.headers.get("location", "")
                    with suppress(ValueError):
                        return response.status, json.loads(raw), location
                    return response.status, {"raw": raw.decode(errors="replace")}, location
            except CUT:
                # Not a byte of an answer, on a connection that was kept from before.
                if is_last:
                    raise
                self.figures.idle_cuts += 1
        raise AssertionError("not reached")

    async def _settled(self, http: aiohttp.ClientSession, location: str) -> tuple[int, dict[str, Any]]:
        give_up_at = time.monotonic() + SETTLED_WITHIN_SECONDS
        while True:
            status, answer, _ = await self._send(http, "GET", location, None, {})
            if status != 202 or time.monotonic() > give_up_at:
                return status, answer
            await asyncio.sleep(0.2)


@dataclass
class Listener:
    """Somebody who follows the seats over SSE, and comes back when sent away."""

    url: str
    event: OnSale
    version: int = 0
    frames: int = 0
    arrivals: int = 0
    resyncs: int = 0
    gaps: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener"]:
        """Listens while the block lasts."""
        task = asyncio.create_task(self._listen())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as http:
            self.version = await self._current(http)
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    await self._follow(http)
                await asyncio.sleep(0.2)

    async def _current(self, http: aiohttp.ClientSession) -> int:
        async with http.get(f"/api/events/{self.event.event_id}/availability") as response:
            return int((await response.json())["version"])

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        path = f"/api/events/{self.event.event_id}/seats/stream"
        async with http.get(path, headers={"last-event-id": str(self.version)}) as response:
            assert response.status == 200, await response.text()
            self.arrivals += 1
            name = ""
            async for line in response.content:
                text = line.decode().rstrip("\n")
                if text.startswith("event:"):
                    name = text.partition(":")[2].strip()
                elif text.startswith("data:"):
                    await self._hear(http, name, json.loads(text.partition(":")[2]))

    async def _hear(self, http: aiohttp.ClientSession, name: str, frame: Mapping[str, Any]) -> None:
        if name == "resync":
            self.resyncs += 1
            self.version = await self._current(http)
        elif name == "seats":
            self.frames += 1
            if frame["previous"] > self.version:
                self.gaps += 1
            self.version = max(self.version, frame["version"])
