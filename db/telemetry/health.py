"""Is this process alive, and can it do its work?

/live: restart me if this fails. /ready: send me work only while this says yes. /health: what an operator wants to see. All
three answer from one round of checks, which is asked at most once a second however many ask us, and every five seconds when
nobody does, so that the metrics know as well. Each server is asked on a connection kept for that: whether it answers must not
depend on how busy our own pools are.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import asyncpg
from prometheus_client import Counter, Gauge
from pydantic import Field
from redis.asyncio import Redis

from contracts.settings import Settings
from contracts.value import Value
from db.postgres import session_settings

# Half a second says "down" early enough and is far above what a busy server takes to say hello.
CHECK_TIMEOUT_SECONDS = 0.5
# Ten probes a second cost one round.
ROUND_IS_GOOD_FOR_SECONDS = 1.0
LOOK_EVERY_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 5.0

# Of several workers that share their metrics, the one that is worst off counts.
UP = Gauge("boxoffice_dependency_up", "1 while the server answers", ["dependency"], multiprocess_mode="livemin")
FAILURES = Counter("boxoffice_dependency_failures_total", "Checks that a server did not answer", ["dependency"])
READY = Gauge("boxoffice_ready", "1 while this process is of use", multiprocess_mode="livemin")

CheckStatus = Literal["healthy", "unhealthy", "half_open"]
Ask = Callable[[], Awaitable[object]]


class ServerState(Value):
    """A server we need: whether it answers, how fast, and what kind of error came instead."""

    ok: bool
    milliseconds: float | None = Field(None, exclude_if=lambda value: value is None)
    problem: str | None = Field(None, exclude_if=lambda value: value is None)


class HealthCheck(Value):
    """One thing that was looked at. `half_open`: a circuit breaker that lets a few calls through to see how they end."""

    name: str
    status: CheckStatus
    latency_ms: float


class HealthReport(Value):
    """Each server we need: whether it answers and how fast; and each circuit breaker of this process."""

    status: Literal["ok", "degraded"]
    draining: bool
    servers: dict[str, ServerState]
    checks: tuple[HealthCheck, ...]


class BreakerSeen(NamedTuple):
    """A circuit breaker as the report shows it."""

    name: str
    status: CheckStatus


class Health:
    """One per process: `begin()` it, and close it in the end."""

    def __init__(
        self,
        asks: Mapping[str, Ask],
        *,
        indispensable: Iterable[str],
        is_draining: Callable[[], bool],
        breakers: Callable[[], Iterable[BreakerSeen]] = tuple,
        sessions: Iterable["KeptSession[Any]"] = (),
    ) -> None:
        """`asks`: by the server's name, what raises when the server is not well. The process is of use while it is not
        draining and each `indispensable` server answers. `sessions` are closed with it."""
        self._asks = dict(asks)
        self._indispensable = frozenset(indispensable)
        self._is_draining = is_draining
        self._breakers = breakers
        self._sessions = tuple(sessions)
        self._round: asyncio.Task[dict[str, ServerState]] | None = None
        self._round_begun_at = 0.0
        self._watching: asyncio.Task[None] | None = None
        for name in self._asks:
            FAILURES.labels(name)

    @property
    def is_draining(self) -> bool:
        """Whether this process is on its way out."""
        return self._is_draining()

    async def is_ready(self) -> bool:
        """Whether to send work here."""
        if self._is_draining():
            READY.set(0)  # at once: nobody is asked any more
            return False
        states = await self._states()
        ready = all(states[name].ok for name in self._indispensable) and not self._is_draining()
        READY.set(ready)
        return ready

    async def report(self) -> HealthReport:
        """Everything, for people."""
        states = await self._states()
        breakers = [HealthCheck(name=one.name, status=one.status, latency_ms=0.0) for one in self._breakers()]
        checks = (*(_as_check(name, state) for name, state in states.items()), *breakers)
        draining = self._is_draining()
        well = not draining and all(check.status != "unhealthy" for check in checks)
        return HealthReport(status="ok" if well else "degraded", draining=draining, servers=states, checks=checks)

    def begin(self) -> None:
        """Look by itself from now on, so that the metrics know."""
        self._watching = asyncio.create_task(self._watch(), name="health")

    async def close(self) -> None:
        """Ask nothing more."""
        tasks = {task for task in (self._watching, self._round) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for session in self._sessions:
            await session.close()

    async def _watch(self) -> None:
        while True:
            await self.is_ready()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _states(self) -> dict[str, ServerState]:
        now = time.monotonic()
        if self._round is None or (self._round.done() and now - self._round_begun_at >= ROUND_IS_GOOD_FOR_SECONDS):
            self._round_begun_at = now
            self._round = asyncio.create_task(self._ask_all(), name="health")
        # Whoever asks may hang up; the others still want the answer.
        return await asyncio.shield(self._round)

    async def _ask_all(self) -> dict[str, ServerState]:
        states = await asyncio.gather(*(_state(ask) for ask in self._asks.values()))
        found = dict(zip(self._asks, states, strict=True))
        for name, state in found.items():
            UP.labels(name).set(state.ok)
            if not state.ok:
                FAILURES.labels(name).inc()
        return found


async def _state(ask: Ask) -> ServerState:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await ask()
    except Exception as problem:  # noqa: BLE001 -- whatever is wrong with it, it is not well
        # The kind only: messages of drivers name hosts and users.
        return ServerState(ok=False, problem=type(problem).__name__)
    return ServerState(ok=True, milliseconds=round((time.perf_counter() - started) * 1000, 2))


def _as_check(name: str, state: ServerState) -> HealthCheck:
    status: CheckStatus = "healthy" if state.ok else "unhealthy"
    return HealthCheck(name=name, status=status, latency_ms=state.milliseconds or 0.0)


Session = TypeVar("Session")


class KeptSession(Generic[Session]):
    """A connection for nothing but asking whether the server answers: made when it is first needed, and again after it has
    failed to answer."""

    def __init__(
        self,
        open_session: Callable[[], Awaitable[Session]],
        ask_session: Callable[[Session], Awaitable[object]],
        drop_session: Callable[[Session], Awaitable[object]],
    ) -> None:
        self._open = open_session
        self._ask = ask_session
        self._drop = drop_session
        self._session: asyncio.Task[Session] | None = None
        self._dropping: set[asyncio.Task[None]] = set()

    async def ask(self) -> None:
        """Raises whatever the server, or its absence, raises; may be cancelled."""
        if self._session is None:
            self._session = asyncio.create_task(self._opened())
        opening = self._session
        if not opening.done():
            # Making a connection may take longer than a check is given; the next check finds it made.
            await asyncio.wait({opening})
        try:
            await self._ask(opening.result())
        except BaseException:
            # Cancelled, too: an answer that comes late would be taken for that to the next question.
            self._give_up()
            raise

    async def close(self) -> None:
        """Disconnect."""
        self._give_up()
        if self._dropping:
            await asyncio.wait(self._dropping)

    async def _opened(self) -> Session:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            return await self._open()

    def _give_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.cancel()
            task = asyncio.create_task(self._dropped(session))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    async def _dropped(self, session: asyncio.Task[Session]) -> None:
        await asyncio.wait({session})
        if not session.cancelled() and session.exception() is None:
            with suppress(Exception):  # it is being thrown away; how it ends does not matter
                await self._drop(session.result())


def postgres_session(settings: Settings, *, application_name: str) -> KeptSession[Any]:
    """Asks PostgreSQL for nothing."""

    async def connected() -> Any:
        ours = session_settings(settings, application_name=application_name)
        return await asyncpg.connect(settings.postgres_url, timeout=CONNECT_TIMEOUT_SECONDS, server_settings=ours)

    async def answers(connection: Any) -> None:
        await connection.fetchval("SELECT 1")

    async def terminated(connection: Any) -> None:
        connection.terminate()

    return KeptSession(connected, answers, terminated)


async def redis_answers(redis: Redis) -> None:
    """Raises when it does not."""
    await redis.ping()
