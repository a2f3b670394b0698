"""Which systems are told what has happened, and until when is it tried?

Two halves. The stage takes what happened from its queue and writes it down for every endpoint that wants it, numbered, once. The
sender posts what is due: at least once, signed, in order as far as the other side answers, tried again over three days.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from prometheus_client import Counter

from consumers.runtime import Handler, Stage, run_stage
from contracts import topology
from contracts.domain_events import AnyDomainEvent, NoticesDue, OrdersCancelled, OrdersConfirmed
from contracts.public_addresses import is_public_address
from contracts.settings import Settings
from contracts.webhook_signatures import signature_header
from contracts.webhooks import facts_of
from db import webhooks as records
from db.failpoints import failpoint
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool, transaction
from db.webhooks import DueMessage

log = logging.getLogger(__name__)

# After each attempt that failed, the pause before the next: three days in all, as Standard Webhooks advises.
PAUSES_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
TIMEOUT_SECONDS = 15.0
# Longer than an attempt can take.
LEASE_SECONDS = 60.0
PER_ENDPOINT_MAX = 20
CONNECTIONS_MAX = 20
LOOK_AGAIN_SECONDS = 1.0
KEPT_DAYS = 30
FORGET_EVERY_SECONDS = 3600.0

SENT = Counter("boxoffice_webhook_attempts_total", "Webhook messages posted, by how it ended", ["end"])
GIVEN_UP = Counter("boxoffice_webhooks_given_up_total", "Webhook messages that were tried for three days in vain")


@dataclass(frozen=True)
class Resources:
    """What webhooks work with."""

    settings: Settings
    pool: Pool


async def write_down(message: OrdersConfirmed | OrdersCancelled | NoticesDue, resources: Resources) -> None:
    """Number what happened for every endpoint that wants it; delivered again, it is known already."""
    facts = list(facts_of(message))
    async with transaction(resources.pool) as tx:
        await records.tell(tx, message.event_id, facts, at=datetime.now(UTC).isoformat())
    await failpoint("webhooks.after_written")


HANDLERS: dict[type[AnyDomainEvent], Handler[Resources]] = {
    OrdersConfirmed: write_down,
    OrdersCancelled: write_down,
    NoticesDue: write_down,
}


def stage(settings: Settings) -> Stage[Resources]:
    """The webhooks queue and what is done with its messages."""
    return Stage(
        name="webhooks",
        queue=topology.WEBHOOKS_QUEUE,
        user="worker",
        prefetch=settings.stage_prefetch,
        handlers=HANDLERS,
    )


class Sender:
    """Posts what is due."""

    def __init__(self, resources: Resources, pauses_seconds: Sequence[float] = PAUSES_SECONDS) -> None:
        self._resources = resources
        self._pauses = pauses_seconds
        # Organisers name the addresses: ours must not be made to call what only we can reach.
        resolver = None if resources.settings.environment == "development" else PublicOnly()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, resolver=resolver),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Give the connections up."""
        await self._http.close()

    async def run_once(self) -> int:
        """Post everything that is due, of each endpoint in order; returns how many messages that were."""
        due = await records.take_due(self._resources.pool, per_endpoint=PER_ENDPOINT_MAX, lease_seconds=LEASE_SECONDS)
        by_endpoint: dict[object, list[DueMessage]] = {}
        for message in sorted(due, key=lambda one: one.sequence):
            by_endpoint.setdefault(message.endpoint_id, []).append(message)
        await asyncio.gather(*(self._post_all(messages) for messages in by_endpoint.values()))
        return len(due)

    async def _post_all(self, messages: Sequence[DueMessage]) -> None:
        for position, message in enumerate(messages):
            if not await self._post(message):
                # It does not answer: the others need not wait for its timeout one by one. They keep their turn.
                for left in messages[position + 1 :]:
                    await records.put_back(self._resources.pool, left, again_in_seconds=self._pauses[0])
                return

    async def _post(self, message: DueMessage) -> bool:
        """One attempt; False when the endpoint should be left alone for now."""
        status, problem, took_ms = await self._ask(message)
        await failpoint("webhooks.after_post")
        pool = self._resources.pool
        await records.record_attempt(pool, message, http_status=status, problem=problem, took_ms=took_ms)
        if status is not None and 200 <= status < 300:
            SENT.labels("delivered").inc()
            await records.settle_message(pool, message, "delivered")
            return True
        SENT.labels("failed").inc()
        if status == HTTPStatus.GONE:
            await records.disable_endpoint(pool, message.endpoint_id, "it answered 410 Gone")
            log.warning("webhook_endpoint_gone", extra={"endpointId": str(message.endpoint_id)})
        await self._try_later(message)
        return False

    async def _try_later(self, message: DueMessage) -> None:
        if message.attempt_count > len(self._pauses):
            await records.settle_message(self._resources.pool, message, "failed")
            GIVEN_UP.inc()
            log.error("webhook_given_up", extra={"endpointId": str(message.endpoint_id), "sequence": message.sequence})
            return
        pause = self._pauses[message.attempt_count - 1]
        await records.settle_message(self._resources.pool, message, "pending", again_in_seconds=pause)

    async def _ask(self, message: DueMessage) -> tuple[int | None, str, int]:
        """The answer's status, or why there was none; and how long it took, in milliseconds."""
        body, timestamp = message.body.encode(), int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "Boxoffice-Webhooks/1",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-sequence": str(message.sequence),
            "webhook-signature": signature_header(
                [message.secret, message.secret_before], message_id=message.id, timestamp=timestamp, body=body
            ),
        }
        began = time.monotonic()
        status: int | None = None
        problem = ""
        try:
            # A redirect would be followed with our signature to wherever it points.
            async with self._http.post(message.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            problem = type(failure).__name__
        return status, problem, int((time.monotonic() - began) * 1000)


class PublicOnly(AbstractResolver):
    """Names that lead into networks of our own lead nowhere."""

    def __init__(self) -> None:
        self._resolver = DefaultResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """The public addresses of that name; OSError when it has none."""
        found = [one for one in await self._resolver.resolve(host, port, family) if is_public_address(one["host"])]
        if not found:
            raise OSError(f"{host} has no public address")
        return found

    async def close(self) -> None:
        """Nothing is left open."""
        await self._resolver.close()


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Write down and send until told to stop."""
    pool = await open_pool(settings, application_name="boxoffice webhooks", size=4)
    try:
        resources = Resources(settings, pool)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_stage(stage(settings), resources, stopping))
            tasks.create_task(_send(resources, stopping))
    finally:
        await pool.close()


async def _send(resources: Resources, stopping: asyncio.Event) -> None:
    sender = Sender(resources)
    forget_at = time.monotonic() + FORGET_EVERY_SECONDS
    try:
        while not stopping.is_set():
            sent = 0
            try:
                sent = await sender.run_once()
                if time.monotonic() >= forget_at:
                    forget_at += FORGET_EVERY_SECONDS
                    await records.forget_old(resources.pool, days=KEPT_DAYS)
            except TRANSIENT_ERRORS as problem:
                log.warning("webhooks_not_sent", extra={"reason": repr(problem)})
            if not sent:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_AGAIN_SECONDS)
    finally:
        await sender.close()
