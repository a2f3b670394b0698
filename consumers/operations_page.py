"""What does a consumer process tell those who watch it?

/live, /ready, /health and /metrics over HTTP, from the process's own event loop: an answer proves that the loop turns. It is
the first to begin and the last to end, and /ready says no from the moment the process is told to stop, while it still
finishes what it took.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aiohttp import web
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from consumers.broker import CONNECT_TIMEOUT_SECONDS, url_for
from consumers.circuit_breaker import BreakerState, all_breakers
from consumers.stuck_queues import queues_not_moving
from consumers.work_in_hand import work_by_name
from contracts.settings import BrokerUser, Settings
from contracts.value import Value
from db.redis import open_redis
from db.telemetry.health import (
    BreakerSeen,
    CheckStatus,
    Health,
    HealthReport,
    KeptSession,
    postgres_session,
    redis_answers,
)

log = logging.getLogger(__name__)

# Without Redis the sale goes on (ops/decisions/0006); these roles cannot do without, or need less, when they are alone.
INDISPENSABLE = frozenset({"postgres", "rabbitmq"})
INDISPENSABLE_ALONE = {"admissions": frozenset({"postgres", "redis"}), "verifier": frozenset({"postgres"})}

# As whom each role knows the broker; a process has the passwords of its own roles.
BROKER_USERS: dict[str, BrokerUser] = {
    "payments": "courier",
    "relay": "courier",
    "cleanup": "courier",
    "lifecycle": "lifecycle",
}

# The seed's names of the two it knows; the others are called after what they guard.
CHECK_OF_BREAKER = {"payment_provider": "payment_circuit_breaker", "redis_locks": "redis_circuit_breaker"}
STATUS_OF_BREAKER: dict[BreakerState, CheckStatus] = {
    BreakerState.CLOSED: "healthy",
    BreakerState.HALF_OPEN: "half_open",
    BreakerState.OPEN: "unhealthy",
}

# Probes are answered in milliseconds; what still hangs when we leave is no reason to stay.
SHUTDOWN_SECONDS = 1.0
BROKER_CLOSE_SECONDS = 2.0


class WorkShown(Value):
    """One kind of work: messages taken and not yet acknowledged, and when the last one came."""

    messages_in_hand: int
    last_message_at: datetime | None


class StuckQueueShown(Value):
    """A queue that does not move although it has messages."""

    queue: str
    event_id: str | None
    messages: int
    consumers: int
    seconds: float


class ConsumerReport(HealthReport):
    """The health of a consumer process, and what it is doing."""

    roles: tuple[str, ...]
    started_at: datetime
    work: dict[str, WorkShown]
    # Of lifecycle only, which alone looks at every queue; empty elsewhere.
    stuck_queues: tuple[StuckQueueShown, ...]
    paused_queues: tuple[str, ...]


@asynccontextmanager
async def operations_page(roles: Iterable[str], settings: Settings, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Serve it meanwhile. A port that is taken is another role's process on this machine: it costs us only this."""
    if settings.metrics_port == 0:
        yield
        return
    page = OperationsPage(tuple(roles), settings, stopping)
    try:
        await page.open()
    except OSError as problem:
        log.warning("operations_page_not_served", extra={"port": settings.metrics_port, "reason": str(problem)})
    try:
        yield
    finally:
        await page.close()


class OperationsPage:
    """One per process."""

    def __init__(self, roles: tuple[str, ...], settings: Settings, stopping: asyncio.Event) -> None:
        self._roles = roles
        self._settings = settings
        self._started_at = datetime.now(UTC)
        self._redis = open_redis(settings)
        postgres = postgres_session(settings, application_name="boxoffice health")
        broker = broker_session(settings, BROKER_USERS.get(roles[0], "worker"))
        self._health = Health(
            {
                "postgres": postgres.ask,
                "redis": lambda: redis_answers(self._redis),
                "rabbitmq": broker.ask,
            },
            indispensable=indispensable_for(roles),
            is_draining=stopping.is_set,
            breakers=breakers_seen,
            sessions=(postgres, broker),
        )
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    async def open(self) -> None:
        """Answer from now on; raises OSError when the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.metrics_host, self._settings.metrics_port).start()
        self._health.begin()

    async def close(self) -> None:
        """Answer nobody any more."""
        await self._runner.cleanup()
        await self._health.close()
        await self._redis.aclose()

    def _app(self) -> web.Application:
        app = web.Application()
        app.on_response_prepare.append(_say_little)
        app.add_routes(
            [
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/health", self._report),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=204 if await self._health.is_ready() else 503)

    async def _report(self, _: web.Request) -> web.Response:
        seen = await self._health.report()
        stuck, paused = queues_not_moving()
        report = ConsumerReport(
            status=seen.status,
            draining=seen.draining,
            servers=seen.servers,
            checks=seen.checks,
            roles=self._roles,
            started_at=self._started_at,
            work={
                name: WorkShown(messages_in_hand=work.message_count, last_message_at=_as_time(work.last_message_at))
                for name, work in work_by_name().items()
            },
            stuck_queues=tuple(
                StuckQueueShown(
                    queue=one.queue,
                    event_id=one.event_id,
                    messages=one.messages,
                    consumers=one.consumers,
                    seconds=round(one.seconds, 1),
                )
                for one in stuck
            ),
            paused_queues=paused,
        )
        return web.Response(
            status=200 if report.status == "ok" else 503,
            body=report.model_dump_json(),
            content_type="application/json",
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        await self._health.is_ready()
        # Beside the loop: with a thousand events on sale there is much to write, and commands must not wait for it.
        body = await asyncio.to_thread(generate_latest, REGISTRY)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _say_little(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "boxoffice"  # aiohttp would tell its version and that of Python


def indispensable_for(roles: tuple[str, ...]) -> frozenset[str]:
    """The servers without which a process of these roles is of no use."""
    return INDISPENSABLE_ALONE.get(roles[0], INDISPENSABLE) if len(roles) == 1 else INDISPENSABLE


def breakers_seen() -> list[BreakerSeen]:
    """The circuit breakers of this process as the report names them."""
    return [
        BreakerSeen(
            CHECK_OF_BREAKER.get(breaker.name, f"{breaker.name}_circuit_breaker"), STATUS_OF_BREAKER[breaker.state]
        )
        for breaker in all_breakers()
    ]


def broker_session(settings: Settings, user: BrokerUser) -> KeptSession[Any]:
    """Asks RabbitMQ for something that changes nothing."""

    async def connected() -> tuple[AbstractConnection, Any]:
        url = url_for(settings, user, name="health")
        connection = await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
        channel = await connection.channel(publisher_confirms=False)
        return connection, await channel.get_underlay_channel()

    async def answers(session: tuple[AbstractConnection, Any]) -> None:
        await session[1].basic_qos(prefetch_count=1)

    async def closed(session: tuple[AbstractConnection, Any]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(BROKER_CLOSE_SECONDS):
                await session[0].close()

    return KeptSession(connected, answers, closed)


def _as_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
