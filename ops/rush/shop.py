"""How does a polite client ask, until it knows the answer?

No answer is not an answer: a lost connection, a 202 and "still in progress" are followed up under the same
Idempotency-Key until the outcome is known. 429 and 503 are waited out for as long as they ask for, and a little longer.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from ops.rush.accounts import Account, Accounts
from ops.rush.tally import Tally

# Longer than the longest deadline of the API (a checkout is answered, if only with 202, after 10 s).
REQUEST_SECONDS_MAX = 30.0
RETRY_AFTER_MAX = 10.0
LOST_PAUSE_SECONDS = 0.3
POLL_SECONDS = 0.25

STILL_IN_PROGRESS = "still_in_progress"
NOT_PROCESSED = "not_processed"
DEADLINE_PASSED = "deadline_passed"
NOT_OPEN = frozenset({"sale_not_open", "not_on_sale"})


class RushOver(Exception):
    """The rush ended while somebody was waiting; what they asked for may or may not have happened."""


class Answer(NamedTuple):
    """What the API has finally said."""

    status: int
    body: Mapping[str, Any]

    @property
    def code(self) -> str:
        """Why not, if not."""
        return str(self.body.get("code", ""))


class Shop:
    """The API as the buyers of one rush use it, over a bounded number of connections."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        accounts: Accounts,
        tally: Tally,
        *,
        connections_max: int,
        chance: random.Random,
    ) -> None:
        self._http = http
        self._accounts = accounts
        self._tally = tally
        # Bounded here, so that waiting for a connection of ours does not count as the server's time.
        self._connections = asyncio.Semaphore(connections_max)
        self._chance = chance
        self.over = asyncio.Event()

    async def ask(self, step: str, method: str, path: str, body: Mapping[str, Any], account: Account) -> Answer:
        """One intent, followed up until its outcome is known; raises RushOver."""
        key = str(uuid4())
        begun_at: float | None = None  # when the request was sent that led to the answer
        while True:
            if self.over.is_set():
                raise RushOver
            if not account.cookie:
                await self._accounts.sign_in(account)
            answer, retry_after, location, sent_at = await self._send(method, path, body, account, key)
            begun_at = sent_at if begun_at is None else begun_at
            if answer is not None and answer.status == 202 and location:
                answer = await self._poll(location, account)
            if answer is not None and self._is_outcome(answer):
                self._tally.took(step, time.monotonic() - begun_at)
                return answer
            if answer is not None and answer.status == 401:
                account.cookie = ""
                self._tally.sign_in_count += 1
                continue
            if answer is not None and answer.status in (429, 503):
                begun_at = None  # turned away at the door: nothing had begun
            await self.pause(retry_after)

    async def look(self, path: str) -> Any:
        """What anybody may read; raises aiohttp.ClientError when there is no answer or no 200."""
        async with self._connections, self._http.get(path) as response:
            response.raise_for_status()
            return json.loads(await response.read())

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the rush is over: then raises RushOver."""
        try:
            async with asyncio.timeout(seconds):
                await self.over.wait()
        except TimeoutError:
            return
        raise RushOver

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, account: Account, key: str
    ) -> tuple[Answer | None, float, str, float]:
        """The answer (None: there was none), when to ask again, where to look instead, and when it was sent."""
        headers = {
            "cookie": f"{self._accounts.cookie_name}={account.cookie}",
            "content-type": "application/json",
            "idempotency-key": key,
        }
        data = None if body is None else json.dumps(body)
        sent_at = time.monotonic()
        try:
            async with self._connections:
                sent_at = time.monotonic()
                async with self._http.request(method, path, data=data, headers=headers) as response:
                    answer = Answer(response.status, _read(await response.read()))
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._tally.unknown_count += 1
            return None, self._spread(LOST_PAUSE_SECONDS), "", sent_at
        if answer.status in (429, 503):
            self._tally.refused[answer.status] += 1
        retry_after = min(_seconds(response.headers.get("retry-after")), RETRY_AFTER_MAX)
        return answer, self._spread(retry_after), response.headers.get("location", ""), sent_at

    async def _poll(self, location: str, account: Account) -> Answer | None:
        """What became of an accepted command; None when nothing did, or nobody knows: it has to be asked again."""
        self._tally.polled_count += 1
        while True:
            await self.pause(self._spread(POLL_SECONDS))
            answer, retry_after, _, _ = await self._send("GET", location, None, account, str(uuid4()))
            if answer is not None and answer.status not in (202, 429, 503):
                return None if answer.status == 404 else answer
            if answer is not None and answer.code == DEADLINE_PASSED:
                return None
            if answer is None or answer.status != 202:
                await self.pause(retry_after)

    def _is_outcome(self, answer: Answer) -> bool:
        if answer.status < 500:
            waits = answer.code == STILL_IN_PROGRESS or answer.code in NOT_OPEN
            return answer.status not in (202, 401, 429) and not waits
        if answer.code == NOT_PROCESSED:
            return True  # put aside for an operator: it will not happen any more under this key
        if answer.status != 503:
            self._tally.errors[answer.code or str(answer.status)] += 1
        return False

    def _spread(self, seconds: float) -> float:
        # Those who were turned away together must not come back together.
        return seconds * self._chance.uniform(1.0, 1.5)


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
