"""Is every system told everything it asked for, signed, numbered without gaps, and again until it has heard?"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web

from consumers.webhooks import LEASE_SECONDS, Resources, Sender, write_down
from contracts.domain_events import Notice, NoticesDue, OrderConfirmation, OrdersConfirmed
from contracts.ids import EventId, OrderId
from contracts.settings import Settings
from contracts.webhook_signatures import is_genuine, new_secret
from db import failpoints
from db import webhooks as records
from db.postgres import transaction
from db.sessions import create_session
from tests.builders import a_user
from tests.conftest import AnEvent, IngressWith

NO_PAUSE = (0.0, 0.0)


@dataclass
class Receiver:
    """A system of an organiser's: what it heard, and what it answers."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 204)

    @property
    def sequences(self) -> list[int]:
        return [json.loads(body)["sequence"] for _, body in self.heard]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    listening = Receiver()
    app = web.Application()
    app.router.add_post("/hook", listening.hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    listening.url = f"http://{host}:{port}/hook"
    yield listening
    await runner.cleanup()


@dataclass
class Endpoint:
    """An endpoint of one event, so that tests that run beside each other do not hear each other."""

    id: UUID
    secret: str
    event_id: EventId
    resources: Resources

    async def told(self, *messages: Any) -> None:
        for message in messages:
            await write_down(message, self.resources)

    async def send(self, times: int = 1, pauses: tuple[float, ...] = NO_PAUSE) -> None:
        for _ in range(times):
            sender = Sender(self.resources, pauses)
            try:
                await sender.run_once()
            finally:
                await sender.close()

    async def messages(self) -> list[Any]:
        return await records.list_messages(self.resources.pool, self.id, after=0, limit=1000)

    async def status(self) -> str:
        found = await records.find_endpoint(self.resources.pool, self.id)
        assert found is not None
        return found.status


MakeEndpoint = Callable[..., Any]


@pytest.fixture
async def an_endpoint(
    settings: Settings, pool: Any, an_event: AnEvent, receiver: Receiver
) -> AsyncIterator[MakeEndpoint]:
    made: list[UUID] = []

    async def make(*types: str, event_id: EventId | None = None) -> Endpoint:
        event = event_id or (await an_event(seats=10)).event_id
        id_, secret = uuid4(), new_secret()
        async with transaction(pool) as tx:
            await records.insert_endpoint(
                tx, id_, url=receiver.url, types=types, event_id=event, secret=secret, by=a_user()
            )
        made.append(id_)
        return Endpoint(id_, secret, event, Resources(settings, pool))

    yield make
    async with transaction(pool) as tx:
        for id_ in made:
            await records.delete_endpoint(tx, id_)


def an_order(event_id: EventId, *order_ids: UUID) -> OrdersConfirmed:
    """Orders that were completed."""
    return OrdersConfirmed(
        event_id=event_id,
        orders=tuple(
            OrderConfirmation(
                order_id=OrderId(order_id),
                user_id=a_user(),
                total=Decimal("45.00"),
                currency="EUR",
                seats=(),
                timestamp=datetime.now(UTC),
            )
            for order_id in order_ids
        ),
    )


async def test_a_message_is_signed_numbered_and_says_what_happened(
    an_endpoint: MakeEndpoint, receiver: Receiver
) -> None:
    endpoint = await an_endpoint()
    order_id = uuid4()
    await endpoint.told(an_order(endpoint.event_id, order_id))
    await endpoint.send()
    [(headers, body)] = receiver.heard
    told = json.loads(body)
    assert (told["type"], told["sequence"], told["data"]["orderId"]) == ("order.completed", 1, str(order_id))
    assert (told["data"]["eventId"], told["data"]["total"]) == (str(endpoint.event_id), "45.00")
    assert "@" not in body.decode(), "no address leaves the house"
    signed = {
        "message_id": headers["webhook-id"],
        "timestamp": headers["webhook-timestamp"],
        "body": body,
        "header": headers["webhook-signature"],
        "now": time.time(),
    }
    assert is_genuine(endpoint.secret, **signed)
    assert not is_genuine(new_secret(), **signed)
    [message] = await endpoint.messages()
    assert (message.status, message.attempt_count) == ("delivered", 1)


async def test_what_is_delivered_to_us_twice_is_told_once(an_endpoint: MakeEndpoint, receiver: Receiver) -> None:
    endpoint = await an_endpoint()
    message = an_order(endpoint.event_id, uuid4(), uuid4())
    await endpoint.told(message, message)
    await endpoint.send(2)
    assert receiver.sequences == [1, 2]


async def test_numbers_have_no_gaps_however_many_write_at_once(an_endpoint: MakeEndpoint, receiver: Receiver) -> None:
    endpoint = await an_endpoint()
    orders = [an_order(endpoint.event_id, uuid4()) for _ in range(30)]
    await asyncio.gather(*(endpoint.told(order) for order in (*orders, *orders[:10])))
    assert [message.sequence for message in await endpoint.messages()] == list(range(1, 31))
    await endpoint.send(3)
    assert receiver.sequences == list(range(1, 31)), "in order, when the other side answers"


async def test_an_endpoint_hears_only_the_types_and_the_event_it_wants(
    an_endpoint: MakeEndpoint, receiver: Receiver
) -> None:
    endpoint = await an_endpoint("refund.started")
    elsewhere = await an_endpoint()
    refund = Notice(kind="refund_started", subject_id=uuid4(), user_id=a_user(), amount=Decimal("10.00"))
    await endpoint.told(
        an_order(endpoint.event_id, uuid4()),
        NoticesDue(event_id=endpoint.event_id, notices=(refund,)),
        an_order(elsewhere.event_id, uuid4()),
    )
    assert [message.type for message in await endpoint.messages()] == ["refund.started"]
    assert [message.type for message in await elsewhere.messages()] == ["order.completed"]


async def test_who_does_not_answer_is_asked_again_and_then_given_up(
    an_endpoint: MakeEndpoint, receiver: Receiver
) -> None:
    endpoint = await an_endpoint()
    receiver.answers = [500, 503, 500]
    await endpoint.told(an_order(endpoint.event_id, uuid4()))
    await endpoint.send(4)
    [message] = await endpoint.messages()
    assert (message.status, message.attempt_count, len(receiver.heard)) == ("failed", 3, 3)
    attempts = await records.list_attempts(endpoint.resources.pool, endpoint.id, 1)
    assert [attempt.http_status for attempt in attempts] == [500, 503, 500]
    assert {json.loads(body)["sequence"] for _, body in receiver.heard} == {1}
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1, "the same message, under the same id"


async def test_a_pause_is_kept_and_those_behind_wait_without_losing_an_attempt(
    an_endpoint: MakeEndpoint, receiver: Receiver
) -> None:
    endpoint = await an_endpoint()
    receiver.answers = [500]
    await endpoint.told(an_order(endpoint.event_id, *(uuid4() for _ in range(5))))
    await endpoint.send(2, pauses=(3600.0,))
    assert len(receiver.heard) == 1
    assert [message.attempt_count for message in await endpoint.messages()] == [1, 0, 0, 0, 0]


async def test_gone_means_gone(an_endpoint: MakeEndpoint, receiver: Receiver) -> None:
    endpoint = await an_endpoint()
    receiver.answers = [410]
    await endpoint.told(an_order(endpoint.event_id, uuid4(), uuid4()))
    await endpoint.send(3)
    assert (await endpoint.status(), len(receiver.heard)) == ("disabled", 1)


async def test_a_redirect_is_not_followed(an_endpoint: MakeEndpoint, receiver: Receiver) -> None:
    endpoint = await an_endpoint()
    receiver.answers = [302]
    await endpoint.told(an_order(endpoint.event_id, uuid4()))
    await endpoint.send(1, pauses=(3600.0,))
    assert (await endpoint.messages())[0].status == "pending"


async def test_a_sender_that_died_leaves_its_message_to_the_next(an_endpoint: MakeEndpoint, receiver: Receiver) -> None:
    endpoint = await an_endpoint()
    await endpoint.told(an_order(endpoint.event_id, uuid4()))
    pool = endpoint.resources.pool
    taken = await records.take_due(pool, per_endpoint=100, lease_seconds=LEASE_SECONDS)
    assert [message.sequence for message in taken if message.endpoint_id == endpoint.id] == [1]
    await endpoint.send()
    assert receiver.heard == [], "it is in somebody's hands"
    await pool.execute("UPDATE webhook_messages SET next_attempt_at = now() WHERE endpoint_id = $1", endpoint.id)
    await endpoint.send()
    assert receiver.sequences == [1]
    # The one that was thought dead comes back with its old news: the newer attempt has decided.
    [late] = [message for message in taken if message.endpoint_id == endpoint.id]
    await records.settle_message(pool, late, "failed")
    assert (await endpoint.messages())[0].status == "delivered"


# ---- as an organiser, over HTTP


@pytest.fixture
async def organiser(settings: Settings, pool: Any, redis: Any, ingress_with: IngressWith) -> AsyncIterator[Any]:
    """An HTTP client with an administrator's session."""
    url = await ingress_with(rate_limit_multiplier=1000.0)
    session = await create_session(redis, user_id=a_user(), role="admin", seconds=600)
    async with aiohttp.ClientSession(url, headers={"cookie": f"session={session}"}) as client:
        yield client


async def ask(client: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with client.request(method, f"/api/admin/webhooks{path}", json=body) as response:
        text = await response.read()
        return response.status, json.loads(text) if text else None


async def test_an_organiser_makes_tries_replays_and_removes_an_endpoint(
    organiser: Any, settings: Settings, pool: Any, receiver: Receiver, an_event: AnEvent
) -> None:
    event_id = (await an_event(seats=10)).event_id
    status, made = await ask(organiser, "POST", "/", {"url": receiver.url, "eventId": str(event_id)})
    assert status == 201
    endpoint = Endpoint(UUID(made["endpoint"]["id"]), made["secret"], event_id, Resources(settings, pool))
    assert (await ask(organiser, "POST", f"/{endpoint.id}/test"))[0] == 202
    await endpoint.told(an_order(event_id, uuid4()), an_order(event_id, uuid4()))
    await endpoint.send()
    assert receiver.sequences == [1, 2, 3]
    # The receiver says it has lost number 2.
    assert await ask(organiser, "POST", f"/{endpoint.id}/replay", {"fromSequence": 2, "toSequence": 2}) == (
        202,
        {"messageCount": 1},
    )
    await endpoint.send()
    assert receiver.sequences == [1, 2, 3, 2]
    assert receiver.heard[1][0]["webhook-id"] == receiver.heard[3][0]["webhook-id"]
    _, page = await ask(organiser, "GET", f"/{endpoint.id}/messages?after=1")
    assert [message["sequence"] for message in page["messages"]] == [2, 3]
    _, log = await ask(organiser, "GET", f"/{endpoint.id}/messages/3/attempts")
    assert [attempt["httpStatus"] for attempt in log["attempts"]] == [204]
    _, renewed = await ask(organiser, "POST", f"/{endpoint.id}/secret")
    await endpoint.told(an_order(event_id, uuid4()))
    await endpoint.send()
    headers, body = receiver.heard[-1]
    for secret in (endpoint.secret, renewed["secret"]):
        assert is_genuine(
            secret,
            message_id=headers["webhook-id"],
            timestamp=headers["webhook-timestamp"],
            body=body,
            header=headers["webhook-signature"],
            now=time.time(),
        )
    paused = {"url": receiver.url, "eventId": str(event_id), "status": "paused"}
    assert (await ask(organiser, "PUT", f"/{endpoint.id}", paused))[1]["status"] == "paused"
    await endpoint.told(an_order(event_id, uuid4()))
    await endpoint.send()
    assert len(receiver.heard) == 5, "what happens meanwhile is numbered and waits"
    assert (await ask(organiser, "PUT", f"/{endpoint.id}", {**paused, "status": "active"}))[0] == 200
    await endpoint.send()
    assert receiver.sequences[-1] == 5
    assert (await ask(organiser, "DELETE", f"/{endpoint.id}"))[0] == 204
    assert (await ask(organiser, "GET", f"/{endpoint.id}"))[0] == 404
    noted = await pool.fetch(
        "SELECT action, before::text, after::text FROM audit_log WHERE subject = $1 ORDER BY id",
        f"webhook {endpoint.id}",
    )
    assert [entry["action"] for entry in noted] == [
        "make_webhook",
        "test_webhook",
        "replay_webhook",
        "change_webhook_secret",
        "change_webhook",
        "change_webhook",
        "delete_webhook",
    ]
    assert "whsec_" not in json.dumps([dict(entry) for entry in noted])


async def test_an_address_we_would_not_call_is_refused_with_the_reason(organiser: Any) -> None:
    status, said = await ask(organiser, "POST", "/", {"url": "ftp://example.com/hook"})
    assert (status, said["errors"][0]["pointer"]) == (422, "/url")


@pytest.fixture
def crash() -> Iterator[Callable[[str], None]]:
    """Arms a failpoint that raises, for this test alone."""

    def at(name: str) -> None:
        failpoints.arm(f"{name}=1*raise")

    yield at
    failpoints.disarm()


async def test_a_message_written_down_before_a_crash_is_not_written_again(
    an_endpoint: MakeEndpoint, receiver: Receiver, crash: Callable[[str], None]
) -> None:
    endpoint = await an_endpoint()
    message = an_order(endpoint.event_id, uuid4())
    crash("webhooks.after_written")
    with pytest.raises(failpoints.InjectedFailure):
        await endpoint.told(message)
    await endpoint.told(message)
    assert [one.sequence for one in await endpoint.messages()] == [1]


async def test_a_message_posted_before_a_crash_is_posted_again_under_its_id(
    an_endpoint: MakeEndpoint, receiver: Receiver, crash: Callable[[str], None]
) -> None:
    endpoint = await an_endpoint()
    await endpoint.told(an_order(endpoint.event_id, uuid4()))
    crash("webhooks.after_post")
    with pytest.raises(failpoints.InjectedFailure):
        await endpoint.send()
    assert (await endpoint.messages())[0].status == "pending", "the lease keeps it for us until it is over"
    await endpoint.resources.pool.execute(
        "UPDATE webhook_messages SET next_attempt_at = now() WHERE endpoint_id = $1", endpoint.id
    )
    await endpoint.send()
    assert (await endpoint.messages())[0].status == "delivered"
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    assert len(receiver.heard) == 2
