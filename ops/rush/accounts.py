"""Who are the buyers, and how do they come by a session?"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import aiohttp
import bcrypt
from redis.asyncio import Redis

from contracts.ids import EventId, UserId
from contracts.settings import Settings
from db.demo import Person, insert_people
from db.postgres import Pool, transaction
from db.redis import REDIS_AWAY
from db.sessions import create_session

PASSWORD = "rush hour at the box office"  # noqa: S105 -- of accounts that exist for one rush

# Redis is let be for this long when it does not answer.
REDIS_PAUSE_SECONDS = 0.5

SIGN_IN_CONCURRENCY = 64


@dataclass
class Account:
    """Somebody who may own up to the event's ticket limit; `cookie` is empty while they are not signed in."""

    user_id: UserId
    email: str
    cookie: str = ""
    # Seats this account has bought.
    seat_count: int = 0


class Accounts:
    """The accounts of one rush. A buyer who has all they may buy goes on with the next."""

    def __init__(self, settings: Settings, redis: Redis, http: aiohttp.ClientSession, *, signs_in: bool) -> None:
        self._settings = settings
        self._redis = redis
        self._http = http
        self._signs_in = signs_in
        self._fresh: Iterator[Account] = iter(())
        self.cookie_name = "__Host-session" if settings.public_url.startswith("https://") else "session"

    async def create(self, pool: Pool, event_id: EventId, count: int, *, signed_in_count: int) -> None:
        """Write down `count` new users and sign the first of them in."""
        people = [
            Person(UserId(uuid4()), f"rush-{event_id.hex[:12]}-{number}@rush.example", f"Rush {number}")
            for number in range(count)
        ]
        # Nobody signs in with a password unless asked to: then one hash does for all.
        cost = self._settings.bcrypt_cost if self._signs_in else 4
        hashed = await asyncio.to_thread(bcrypt.hashpw, PASSWORD.encode(), bcrypt.gensalt(cost))
        async with transaction(pool) as tx:
            await insert_people(tx, people, password_hash=hashed.decode())
        accounts = [Account(person.id, person.email) for person in people]
        at_once = asyncio.Semaphore(SIGN_IN_CONCURRENCY)

        async def sign_in(account: Account) -> None:
            async with at_once:
                await self.sign_in(account)

        await asyncio.gather(*(sign_in(account) for account in accounts[:signed_in_count]))
        self._fresh = iter(accounts)

    def take(self) -> Account | None:
        """An account nobody has had, or None when there are no more."""
        return next(self._fresh, None)

    async def sign_in(self, account: Account) -> None:
        """Give the account a session, again if it lost the one it had; waits for as long as that takes."""
        while True:
            cookie = await (self._sign_in_by_password(account) if self._signs_in else self._sign_in_by_hand(account))
            if cookie:
                account.cookie = cookie
                return
            await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _sign_in_by_hand(self, account: Account) -> str:
        try:
            return await create_session(self._redis, user_id=account.user_id, role="user", seconds=3600)
        except REDIS_AWAY:
            return ""

    async def _sign_in_by_password(self, account: Account) -> str:
        body = {"email": account.email, "password": PASSWORD}
        try:
            async with self._http.post("/api/auth/login", json=body) as response:
                if response.status != 200:
                    await asyncio.sleep(float(response.headers.get("retry-after", "1")))
                    return ""
                return response.cookies[self.cookie_name].value
        except (aiohttp.ClientError, TimeoutError):
            return ""
