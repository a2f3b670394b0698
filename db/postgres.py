"""How do we talk to PostgreSQL?

One pool per process. Each session carries timeouts, so that a frozen or runaway process loses its locks in seconds: that
is the fence's other half.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import asyncpg
from prometheus_client import Histogram

from contracts.settings import Settings
from db.named_queries import noun_of
from db.telemetry.pools import Fill, PoolFigures

# What may pass if it is tried again: the statement was fine, the moment was not.
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut in the middle of an answer
    ConnectionError,
    TimeoutError,
    OSError,
)

# A connection inside `transaction(pool)`; pass it to whatever takes part. (asyncpg has no types of its own.)
Transaction: TypeAlias = Any
Pool: TypeAlias = Any


# Each of the engine's statements has one good plan: by index, record by record. On tables that were analysed when they
# were empty, and grow by thousands of records a second, the planner chooses to read them whole; 5 ms a batch, measured.
BY_INDEX = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


QUERY_SECONDS = Histogram(
    "postgres_query_duration_seconds",
    "Time of a statement, waiting for locks included, by the file of db/sql it stands in",
    ["query_type"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
POOLS = PoolFigures("postgres", "PostgreSQL")
OTHER_QUERIES = "other"
# What asyncpg says around a transaction. A commit waits for the disk, so it is shown by itself.
_TRANSACTION_WORDS = {"BEGIN": "begin", "COMMIT": "commit", "ROLLBACK": "rollback"}
# Savepoints have numbers in them; there are some hundred statements of ours.
OBSERVERS_MAX = 2000


async def open_pool(
    settings: Settings,
    *,
    application_name: str,
    size: int | None = None,
    planner: Mapping[str, str] | None = None,
) -> Pool:
    """A pool of at most `size` connections; raises OSError or asyncpg's errors when PostgreSQL is not there."""
    pool = await asyncpg.create_pool(
        settings.postgres_url,
        connection_class=TimedConnection,
        min_size=1,
        max_size=size or settings.postgres_pool_max,
        timeout=5.0,
        command_timeout=settings.statement_timeout_seconds + 5,
        reset=_nothing_to_reset,
        server_settings={**session_settings(settings, application_name=application_name), **(planner or {})},
    )
    POOLS.watch(lambda: None if pool.is_closing() else _fill_of(pool))
    return pool


def _fill_of(pool: Pool) -> Fill:
    size = pool.get_size()
    return Fill(size, size - pool.get_idle_size(), pool.get_max_size())


class TimedConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection whose statements are timed: 2 µs each, less than half of what asyncpg's own query loggers cost. What is read
    through a cursor is not, because its time is the reader's."""

    __slots__ = ()

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """See asyncpg; without arguments it goes another way there."""
        if args:
            return cast(str, await super().execute(query, *args, timeout=timeout))
        began_at = time.perf_counter()
        try:
            return cast(str, await super().execute(query, timeout=timeout))
        finally:
            _observe(query, time.perf_counter() - began_at)

    async def _execute(self, query: str, *args: Any, **options: Any) -> Any:
        began_at = time.perf_counter()
        try:
            return await super()._execute(query, *args, **options)
        finally:
            _observe(query, time.perf_counter() - began_at)

    async def _executemany(self, query: str, *args: Any, **options: Any) -> Any:
        began_at = time.perf_counter()
        try:
            return await super()._executemany(query, *args, **options)
        finally:
            _observe(query, time.perf_counter() - began_at)


# By the text of a statement, so that nothing is looked up twice. Texts that are made as they are needed do not come in here.
_observers: dict[str, Callable[[float], None]] = {}


def _observe(query: str, seconds: float) -> None:
    observe = _observers.get(query)
    if observe is None:
        noun = noun_of(query) or _TRANSACTION_WORDS.get(query.partition(" ")[0].rstrip(";"))
        observe = QUERY_SECONDS.labels(noun or OTHER_QUERIES).observe
        if noun is not None and len(_observers) < OBSERVERS_MAX:
            _observers[query] = observe
    observe(seconds)


async def _nothing_to_reset(_connection: Any) -> None:
    """Nobody of ours leaves anything behind in a session that is not the transaction's own, so the round trip that would
    clear it away after every use is spared."""


def session_settings(settings: Settings, *, application_name: str) -> dict[str, str]:
    """What every session of ours is told, in PostgreSQL's own words."""
    return {
        "application_name": application_name,
        "statement_timeout": _milliseconds(settings.statement_timeout_seconds),
        "lock_timeout": _milliseconds(settings.lock_timeout_seconds),
        "idle_in_transaction_session_timeout": _milliseconds(settings.idle_transaction_timeout_seconds),
        "tcp_user_timeout": _milliseconds(10.0),
        # Plans are made for the values at hand once and kept: our statements have one good plan each.
        "jit": "off",
        "timezone": "UTC",
    }


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Transaction]:
    """One READ COMMITTED transaction: each statement sees what was committed before it, so what is read under the fence
    is the truth. (Under REPEATABLE READ the snapshot would be older than the lock: peers oversold that way.)"""
    async with pool.acquire(timeout=5.0) as connection, connection.transaction(isolation="read_committed"):
        yield connection


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Records of equal length, turned on their side: one array for each column, as `unnest` takes them. At least one record."""
    return [list(column) for column in zip(*rows, strict=True)]


def array_literal(values: Iterable[object]) -> str:
    """`{1,2}`, of ids and numbers: how an array travels inside an array, because arrays of arrays must be rectangular."""
    return "{" + ",".join(map(str, values)) + "}"


def changed_count(command_tag: str) -> int:
    """How many records a statement changed, by what PostgreSQL says of it: 3 of `UPDATE 3`."""
    return int(command_tag.rpartition(" ")[2])


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))
