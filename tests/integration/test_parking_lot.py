"""Can an operator look at what is parked as often as he likes, send it back once it is repaired, and lose nothing?"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from consumers.broker import ConfirmedPublisher, persistent_message
from contracts import topology, wire
from contracts.domain_events import OrdersCancelled
from contracts.settings import Settings
from db import failpoints, inbox
from db.audit_log import Deed, DeedFilter, list_deeds
from db.postgres import Pool
from ops.command import app
from ops.parking import command, way_back
from ops.parking.lot import parking_lot
from ops.parking.way_back import WayBack
from tests.broker_probe import BrokerProbe
from tests.builders import a_user, reserve, settle
from tests.eventually import eventually
from tests.integration.test_runtime import DELAY_SECONDS, Desk, a_message, running, succeed

# More often than RabbitMQ 4 gives a message out by itself, which is twenty times.
LOOKS = 22

Boxoffice = Callable[..., Awaitable[Result]]


@pytest.fixture
def boxoffice(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Boxoffice:
    """`boxoffice parking …` on the tests' stack."""
    monkeypatch.setattr(command, "_settings", lambda: settings)
    monkeypatch.setenv("COLUMNS", "250")

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["parking", *words])

    return run


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        await probe.make_ladder(DELAY_SECONDS)
        yield probe


@pytest.fixture
async def work_queue(broker: BrokerProbe, monkeypatch: pytest.MonkeyPatch) -> str:
    """A queue of a stage of this test's own. Only an event's may be called like that, and this is none."""
    queue = await broker.make_work_queue()
    monkeypatch.setattr(way_back, "WORK_QUEUES", frozenset({queue}))
    monkeypatch.setattr(way_back, "COMMAND_QUEUES", "tk.cmd.s")
    return queue


async def ids_of(settings: Settings, origin: str, *, queue: str = topology.PARKING_QUEUE) -> list[str]:
    """What is parked from there, the oldest first."""
    async with parking_lot(settings, queue=queue) as lot:
        return [taken.parked.id for taken in await lot.take(limit=10_000) if taken.parked.origin == origin]


async def is_parked(settings: Settings, origin: str) -> list[str]:
    return await eventually(lambda: ids_of(settings, origin))


async def deeds_about(pool: Pool, message_id: str) -> list[Deed]:
    every = await list_deeds(pool, DeedFilter(), before_id=None, limit=100)
    return [deed for deed in every if deed.subject == f"parked message {message_id}"]


async def test_what_is_parked_is_listed_shown_repaired_and_sent_back(
    settings: Settings, pool: Pool, broker: BrokerProbe, work_queue: str, boxoffice: Boxoffice
) -> None:
    message, is_repaired = a_message(), False

    async def handle(_: OrdersCancelled) -> None:
        if not is_repaired:
            raise ValueError("cannot write to jane@example.org")

    desk = Desk(settings, handle)
    async with running(work_queue, desk):
        await broker.put(work_queue, wire.encode_domain_event(message), message_id=(id_ := str(uuid4())))
        assert await is_parked(settings, work_queue) == [id_]
        listed = await boxoffice("list", "--from", work_queue, "--limit", "10000")
        assert listed.exit_code == 0
        assert id_[:13] in listed.stdout
        assert "ValueError" in listed.stdout
        shown = await boxoffice("show", id_[:13])
        assert str(message.event_id) in shown.stdout
        assert "jane" not in listed.stdout + shown.stdout
        assert await ids_of(settings, work_queue) == [id_], "looking changes nothing"
        is_repaired = True
        replayed = await boxoffice("replay", id_)
        assert (replayed.exit_code, f"{id_} went back" in replayed.stdout) == (0, True), replayed.output
        await eventually(lambda: desk.seen == [message, message])
    assert await ids_of(settings, work_queue) == []
    (deed,) = await deeds_about(pool, id_)
    assert (deed.action, deed.user_name, deed.before["from"]) == ("replay_parked_message", None, work_queue)


async def test_what_cannot_be_read_stays_until_somebody_says_why_it_may_go(
    settings: Settings, pool: Pool, broker: BrokerProbe, work_queue: str, boxoffice: Boxoffice
) -> None:
    async with running(work_queue, Desk(settings, succeed)):
        await broker.put(work_queue, b"Jane Doe", message_id=(id_ := str(uuid4())))
        await is_parked(settings, work_queue)
    assert "Jane" not in (await boxoffice("show", id_)).stdout
    replayed = await boxoffice("replay", "--all", "--from", work_queue)
    assert replayed.exit_code == 1
    assert "cannot read it either" in replayed.output
    assert (await boxoffice("drop", id_)).exit_code == 2, "no reason"
    assert (await boxoffice("drop", id_, "--reason", " ")).exit_code == 1
    assert await ids_of(settings, work_queue) == [id_]
    dropped = await boxoffice("drop", id_, "--reason", "sent by a test")
    assert (dropped.exit_code, f"{id_} is gone" in dropped.stdout) == (0, True), dropped.output
    assert await ids_of(settings, work_queue) == []
    (deed,) = await deeds_about(pool, id_)
    assert (deed.action, deed.after) == ("drop_parked_message", {"reason": "sent by a test"})
    assert (await boxoffice("drop", id_, "--reason", "again")).exit_code == 1


async def test_a_crash_between_sending_it_back_and_letting_it_go_makes_two_of_it(
    settings: Settings, pool: Pool, broker: BrokerProbe, work_queue: str
) -> None:
    """And whoever handles them knows, by the id that it keeps, that he has handled the first."""
    handled, consumer = [], f"test-{uuid4()}"

    async def handle_once(message: OrdersCancelled) -> None:
        (notice,) = message.orders
        id_ = str(notice.order_id)
        if not await inbox.find_seen(pool, consumer=consumer, message_ids=[id_]):
            handled.append(id_)
            await inbox.record_seen(pool, consumer=consumer, message_id=id_)

    await park(settings, wire.encode_domain_event(a_message()), work_queue, id_ := str(uuid4()))
    failpoints.arm("parking.after_publish=1*raise(crashed)")
    try:
        with pytest.raises(failpoints.InjectedFailure):
            await send_back(settings, work_queue)
    finally:
        failpoints.disarm()
    assert await ids_of(settings, work_queue) == [id_], "it is still here"
    await send_back(settings, work_queue)
    assert await ids_of(settings, work_queue) == []
    desk = Desk(settings, handle_once)
    async with running(work_queue, desk):
        await eventually(lambda: len(desk.seen) == 2)
    assert len(handled) == 1


async def test_looking_again_and_again_loses_nothing(settings: Settings) -> None:
    origin = f"tk.test.{uuid4()}"
    async with ConfirmedPublisher(settings, "worker", name="test parks") as publisher:
        ids = [str(uuid4()) for _ in range(200)]
        await asyncio.gather(*(park(settings, b"{}", origin, id_, publisher=publisher) for id_ in ids))
    for _ in range(LOOKS):
        assert sorted(await ids_of(settings, origin)) == sorted(ids)
    async with parking_lot(settings) as lot:
        for taken in await lot.take(limit=10_000, wanted=lambda parked: parked.origin == origin):
            await lot.drop(taken)
    assert await ids_of(settings, origin) == []


async def test_without_its_policy_the_lot_would_lose_what_is_looked_at(settings: Settings, broker: BrokerProbe) -> None:
    """The negative control: a queue that gives a message out three times, as RabbitMQ 4 would twenty times."""
    queue = await broker.make_queue(f"tk.test.{uuid4()}", arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    await broker.put(queue, b"{}", headers={wire.ORIGIN_QUEUE_HEADER: "here"})
    for _ in range(4):
        assert len(await ids_of(settings, "here", queue=queue)) == 1
    assert await ids_of(settings, "here", queue=queue) == []


async def test_parked_commands_go_back_as_whom_the_engine_believes(settings: Settings, broker: BrokerProbe) -> None:
    event_id = uuid4()
    origin = topology.event_queue(event_id)  # type: ignore[arg-type]
    key = topology.command_routing_key(event_id)  # type: ignore[arg-type]
    queue = await broker.make_queue(f"tk.test.{uuid4()}", bound_to=(topology.COMMANDS, key))
    for command_ in (settle(event_id, uuid4()), reserve(event_id, a_user(), [uuid4()])):  # type: ignore[arg-type]
        await park(settings, wire.encode_commands([command_]), origin, str(uuid4()))
        await send_back(settings, origin, even_late=True)
    assert [(await broker.wait_for(queue)).user_id for _ in range(2)] == ["courier", "ingress"]


async def test_the_operator_cannot_send_any_of_it_back_as_himself(settings: Settings) -> None:
    way = WayBack(
        user="operator", exchange=topology.COMMANDS, routing_key="x", message=persistent_message(b"", type="x")
    )
    origin = f"tk.test.{uuid4()}"
    await park(settings, b"{}", origin, str(uuid4()))
    async with parking_lot(settings) as lot:
        (taken,) = await lot.take(limit=10_000, wanted=lambda parked: parked.origin == origin)
        with pytest.raises(Exception, match="ACCESS_REFUSED"):
            await lot.send_back(taken, way)
        await lot.drop(taken)


async def test_what_the_broker_parked_says_where_it_was(settings: Settings, broker: BrokerProbe) -> None:
    arguments: dict[str, Any] = {"x-dead-letter-exchange": topology.PARKING_EXCHANGE, "x-message-ttl": 1}
    queue = await broker.make_queue(f"tk.test.{uuid4()}", arguments=arguments)
    await broker.put(queue, json.dumps({"n": 1}).encode(), message_id=(id_ := str(uuid4())))
    assert await is_parked(settings, queue) == [id_]
    async with parking_lot(settings) as lot:
        (taken,) = await lot.take(limit=10_000, wanted=lambda parked: parked.id == id_)
        assert taken.parked.reason == "dead-lettered: expired"
        assert taken.parked.parked_at is not None
        await lot.drop(taken)


async def park(
    settings: Settings, body: bytes, origin: str, id_: str, *, publisher: ConfirmedPublisher | None = None
) -> None:
    """As the engine and the stages do it."""
    if publisher is None:
        async with ConfirmedPublisher(settings, "worker", name="test parks") as publisher:
            await park(settings, body, origin, id_, publisher=publisher)
        return
    headers: dict[str, str | int] = {wire.REASON_HEADER: "a test", wire.ORIGIN_QUEUE_HEADER: origin}
    message = persistent_message(body, type=wire.COMMANDS_TYPE, message_id=id_, headers=headers)
    await publisher.publish(message, exchange=topology.PARKING_EXCHANGE, routing_key=origin)


async def send_back(settings: Settings, origin: str, *, even_late: bool = False) -> None:
    """As the command does it, over a short ladder."""
    async with parking_lot(settings) as lot:
        for taken in await lot.take(limit=10_000, wanted=lambda parked: parked.origin == origin):
            way = way_back.way_back(taken.parked, even_late=even_late, delay_seconds=DELAY_SECONDS)
            await lot.send_back(taken, way)
