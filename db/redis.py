"""How do we talk to Redis?

Two ways. `open_redis` is redis-py's client, for the odd command. `ScriptCalls` runs one script for many requests in one
round trip over a connection of its own: at 256 calls a trip redis-py's pipeline costs 18 µs of our CPU a call, this 3 µs.
"""

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, cast
from uuid import UUID
from weakref import ref

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.exceptions import NoScriptError, RedisError

from contracts.settings import Settings
from db.telemetry.pools import Fill, PoolFigures, ReadFill

POOLS = PoolFigures("redis", "Redis")

# What may pass if it is tried again; asyncio's TimeoutError is the built-in one, redis-py's own is a RedisError.
REDIS_AWAY: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)

# Sessions are made and ended at most as often as passwords are hashed; a handful of connections is plenty.
CONNECTIONS_MAX = 8
TIMEOUT_SECONDS = 1.0


def user_tag(user_id: UUID) -> str:
    """The hash tag of everything of a user: it keeps the user's keys on one node of a Redis Cluster."""
    return f"{{u:{user_id}}}"


def address_tag(address: str) -> str:
    """The hash tag of somebody who is known by an address only."""
    return f"{{ip:{address}}}"


def open_redis(settings: Settings) -> Redis:
    """A client that connects when it is first used; close it with `aclose()`."""
    pool: Any = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=CONNECTIONS_MAX,
        timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
    )
    POOLS.watch(_while_there(pool, _fill_of))
    return Redis.from_pool(pool)


def _fill_of(pool: Any) -> Fill:
    # redis-py has no public way to ask.
    in_use = len(pool._in_use_connections)
    return Fill(in_use + len(pool._available_connections), in_use, pool.max_connections)


def _while_there(pool: Any, fill_of: Callable[[Any], Fill]) -> ReadFill:
    """How full it is, without keeping it alive: nobody has to say that a client is closed for good."""
    held = ref(pool)

    def read() -> Fill | None:
        there = held()
        return None if there is None else fill_of(there)

    return read


class Script:
    """The text of `db/lua/<name>.lua` and the digest Redis knows it by."""

    def __init__(self, name: str) -> None:
        self.text = resources.files("db").joinpath("lua", f"{name}.lua").read_bytes()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class ScriptCalls:
    """One script, called many times in one round trip, on one connection: one batch at a time, so give it a Coalescer."""

    def __init__(self, settings: Settings, script: Script) -> None:
        self._script = script
        self._settings = settings
        self._connection: Connection | None = None
        POOLS.watch(_while_there(self, ScriptCalls._fill))

    def _fill(self) -> Fill:
        # Its own as long as it is open, busy or not.
        open_count = int(self._connection is not None)
        return Fill(open_count, open_count, 1)

    async def run(self, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        """The answer to each call, in order. A call is the number of keys, the keys and the arguments.

        Raises one of REDIS_AWAY; being cancelled (a timeout around it) is fine too. Either way the connection is given
        up, because answers that nobody read would be taken for those of the next batch.
        """
        try:
            answers = await self._round_trip(calls)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                return await self._load_and_repeat(calls, answers)
            return answers
        except RuntimeError as lost:
            # What uvloop says of a connection that went away while nobody was looking.
            await self.close()
            raise ConnectionError(str(lost)) from lost
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; the next `run` connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _round_trip(self, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        connection = self._connection or await self._connect()
        digest = self._script.digest
        pack: Any = hiredis.pack_command  # its stub knows tuples of length one only
        packed = [pack(("EVALSHA", digest, *call)) for call in calls]
        await connection.send_packed_command(packed, check_health=False)
        # Errors come back as values here: one bad call must not leave its neighbours' answers unread.
        return [await _read_answer(connection) for _ in calls]

    async def _load_and_repeat(self, calls: Sequence[Sequence[str | int]], answers: list[Any]) -> list[Any]:
        """Redis was restarted and forgot the script: load it, and repeat only the calls it did not run."""
        connection = cast(Connection, self._connection)
        await connection.send_command("SCRIPT", "LOAD", self._script.text)
        await connection.read_response()
        missed = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        for place, answer in zip(missed, await self._round_trip([calls[place] for place in missed]), strict=True):
            answers[place] = answer
        return answers

    async def _connect(self) -> Connection:
        # redis-py's own socket timeout is off: it would start a timer for every answer; the caller bounds the batch.
        pool: Any = BlockingConnectionPool.from_url(self._settings.redis_url, socket_timeout=None)
        connection: Any = pool.make_connection()
        await connection.connect()
        self._connection = connection
        return cast(Connection, connection)


async def _read_answer(connection: Connection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except NoScriptError as unknown:
        return unknown
