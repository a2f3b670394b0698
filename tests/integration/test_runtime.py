"""Does every delivery come to one of its three ends, whatever the handler does?"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from consumers.broker import PublishProblem
from consumers.delivery_figures import queue_label
from consumers.runtime import Stage, TryAgain, attempt_of
from contracts import topology, wire
from contracts.domain_events import OrderNotice, OrdersCancelled, SalesCounted
from contracts.settings import Settings
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually

DELAY_SECONDS = 1


def a_notice() -> OrderNotice:
    return OrderNotice(order_id=uuid4(), user_id=uuid4(), reason="a test")


def a_message(*notices: OrderNotice) -> OrdersCancelled:
    return OrdersCancelled(event_id=uuid4(), orders=notices or (a_notice(),))


@dataclass
class Desk:
    """What the handler of a test is given: it notes what it saw and then does as it is told."""

    settings: Settings
    then: Callable[[OrdersCancelled], Awaitable[None]]
    seen: list[OrdersCancelled] = field(default_factory=list)

    @property
    def seen_ids(self) -> list[UUID]:
        return [message.event_id for message in self.seen]


async def handle(message: OrdersCancelled, desk: Desk) -> None:
    desk.seen.append(message)
    await desk.then(message)


async def succeed(_: OrdersCancelled) -> None:
    return None


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        await probe.make_ladder(DELAY_SECONDS)
        yield probe


@asynccontextmanager
async def running(queue: str, desk: Desk, *, ladder: tuple[int, ...] = (DELAY_SECONDS,)) -> AsyncIterator[Stage[Desk]]:
    stage: Stage[Desk] = Stage(
        name="test", queue=queue, user="worker", prefetch=5, handlers={OrdersCancelled: handle}, ladder=ladder
    )
    work = asyncio.create_task(stage.run(desk))
    try:
        yield stage
    finally:
        stage.stop()
        await work


async def test_what_is_handled_is_gone(settings: Settings, broker: BrokerProbe) -> None:
    queue, desk, message = await broker.make_work_queue(), Desk(settings, succeed), a_message()
    await broker.put(queue, wire.encode_domain_event(message))
    async with running(queue, desk):
        await eventually(lambda: desk.seen == [message])
    assert await broker.ready_count(queue) == 0


async def test_a_passing_trouble_brings_the_message_back_to_its_own_queue_only(
    settings: Settings, broker: BrokerProbe
) -> None:
    queue, other_queue, message = await broker.make_work_queue(), await broker.make_work_queue(), a_message()

    async def fail_once(_: OrdersCancelled) -> None:
        if len(desk.seen) == 1:
            raise TryAgain("the weather")

    desk, bystander = Desk(settings, fail_once), Desk(settings, succeed)
    await broker.put(queue, wire.encode_domain_event(message), message_id="kept", headers={"traceparent": "00-1-2-01"})
    started_at = asyncio.get_running_loop().time()
    async with running(queue, desk), running(other_queue, bystander):
        await eventually(lambda: desk.seen == [message, message], within_seconds=15)
    assert asyncio.get_running_loop().time() - started_at >= DELAY_SECONDS
    assert bystander.seen == []
    assert await broker.ready_count(queue) == 0


async def test_a_retried_message_keeps_what_it_was_sent_with(settings: Settings, broker: BrokerProbe) -> None:
    queue = await broker.make_work_queue()

    async def fail(_: OrdersCancelled) -> None:
        raise ConnectionError("the database went away")

    async with running(queue, Desk(settings, fail)):
        await broker.put(
            queue,
            wire.encode_domain_event(a_message()),
            message_id="kept",
            correlation_id="kept too",
            type="orders_cancelled",
            headers={wire.TRACEPARENT_HEADER: "00-1-2-01"},
        )
        await eventually(lambda: broker_is_empty(broker, queue))
    back = await broker.wait_for(queue, within_seconds=15)
    assert (back.message_id, back.correlation_id, back.type) == ("kept", "kept too", "orders_cancelled")
    assert back.headers[wire.TRACEPARENT_HEADER] == "00-1-2-01"
    assert attempt_of(back.headers) == 2
    assert back.delivery_mode == 2


async def broker_is_empty(broker: BrokerProbe, queue: str) -> bool:
    return await broker.ready_count(queue) == 0


async def test_only_what_is_left_to_do_is_tried_again(settings: Settings, broker: BrokerProbe) -> None:
    done, undone = a_notice(), a_notice()
    message = a_message(done, undone)

    async def do_half(it: OrdersCancelled) -> None:
        if it.orders == (done, undone):
            raise TryAgain("half of it", remaining=it.model_copy(update={"orders": (undone,)}))

    queue, desk = await broker.make_work_queue(), Desk(settings, do_half)
    await broker.put(queue, wire.encode_domain_event(message))
    async with running(queue, desk):
        await eventually(lambda: len(desk.seen) == 2, within_seconds=15)
    assert desk.seen[1].orders == (undone,)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x00 no json", "unreadable"),
        (b'{"type": "never_heard_of"}', "unreadable"),
        (b"{}", "unreadable"),
        (
            wire.encode_domain_event(
                SalesCounted(
                    event_id=uuid4(),
                    minute_at="2026-01-01T00:00:00Z",
                    revenue=0,
                    currency="EUR",
                )
            ),
            "no handler",
        ),
    ],
)
async def test_poison_is_parked_and_its_neighbours_are_unharmed(
    settings: Settings, broker: BrokerProbe, body: bytes, reason: str
) -> None:
    queue, desk, before, after = await broker.make_work_queue(), Desk(settings, succeed), a_message(), a_message()
    parked = await broker.make_parking_copy(queue)
    for one in (wire.encode_domain_event(before), body, wire.encode_domain_event(after)):
        await broker.put(queue, one)
    async with running(queue, desk):
        found = await broker.wait_for(parked)
        await eventually(lambda: {before.event_id, after.event_id} == set(desk.seen_ids))
    assert found.body == body
    assert reason in str(found.headers[wire.REASON_HEADER])
    assert found.headers[wire.ORIGIN_QUEUE_HEADER] == queue
    assert found.headers[wire.ATTEMPT_HEADER] == 1
    assert await broker.ready_count(queue) == 0


async def test_a_bug_is_parked_at_once_with_its_reason(settings: Settings, broker: BrokerProbe) -> None:
    async def stumble(message: OrdersCancelled) -> None:
        if message == poison:
            raise ZeroDivisionError("what a bug")

    queue, desk, poison, good = await broker.make_work_queue(), Desk(settings, stumble), a_message(), a_message()
    parked = await broker.make_parking_copy(queue)
    await broker.put(queue, wire.encode_domain_event(poison))
    await broker.put(queue, wire.encode_domain_event(good))
    async with running(queue, desk):
        found = await broker.wait_for(parked)
        await eventually(lambda: good.event_id in desk.seen_ids)
    assert "what a bug" in str(found.headers[wire.REASON_HEADER])
    assert desk.seen_ids.count(poison.event_id) == 1, "a bug does not go away by itself"


async def test_what_was_tried_often_enough_is_parked(settings: Settings, broker: BrokerProbe) -> None:
    async def fail(_: OrdersCancelled) -> None:
        raise TryAgain("still the weather")

    queue = await broker.make_work_queue()
    parked = await broker.make_parking_copy(queue)
    last = {wire.ATTEMPT_HEADER: topology.RETRY_ATTEMPTS_MAX}
    async with running(queue, Desk(settings, fail)):
        await broker.put(queue, wire.encode_domain_event(a_message()), headers=last)
        found = await broker.wait_for(parked)
    assert "still the weather" in str(found.headers[wire.REASON_HEADER])
    assert found.headers[wire.ATTEMPT_HEADER] == topology.RETRY_ATTEMPTS_MAX


async def test_a_message_in_hand_at_a_crash_is_delivered_again(settings: Settings, broker: BrokerProbe) -> None:
    async def hang(_: OrdersCancelled) -> None:
        await asyncio.Event().wait()

    queue, message = await broker.make_work_queue(), a_message()
    await broker.put(queue, wire.encode_domain_event(message))
    crashing = Desk(settings, hang)
    stage: Stage[Desk] = Stage(name="test", queue=queue, user="worker", prefetch=5, handlers={OrdersCancelled: handle})
    work = asyncio.create_task(stage.run(crashing))
    await eventually(lambda: crashing.seen == [message])
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    desk = Desk(settings, succeed)
    async with running(queue, desk):
        await eventually(lambda: desk.seen == [message])


async def test_stopping_finishes_what_was_taken(settings: Settings, broker: BrokerProbe) -> None:
    may_go_on, messages = asyncio.Event(), [a_message() for _ in range(12)]

    async def wait(_: OrdersCancelled) -> None:
        await may_go_on.wait()

    queue, desk = await broker.make_work_queue(), Desk(settings, wait)
    for message in messages:
        await broker.put(queue, wire.encode_domain_event(message))
    async with running(queue, desk) as stage:
        await eventually(lambda: len(desk.seen) == 5)
        stage.stop()
        may_go_on.set()
    # What was taken is answered; the others are neither lost nor delivered twice.
    left = await broker.ready_count(queue)
    assert len(desk.seen) + left == len(messages)
    successor = Desk(settings, succeed)
    async with running(queue, successor):
        await eventually(lambda: len(successor.seen) == left)
    assert sorted([*desk.seen_ids, *successor.seen_ids]) == sorted(message.event_id for message in messages)


async def test_a_process_that_cannot_drain_in_time_gives_its_messages_back(
    settings: Settings, broker: BrokerProbe
) -> None:
    async def hang(_: OrdersCancelled) -> None:
        await asyncio.Event().wait()

    queue, message = await broker.make_work_queue(), a_message()
    desk = Desk(settings.model_copy(update={"drain_seconds": 0.1}), hang)
    await broker.put(queue, wire.encode_domain_event(message))
    async with running(queue, desk):
        await eventually(lambda: desk.seen == [message])
    back = await broker.wait_for(queue)
    assert back.redelivered


async def test_a_message_that_can_go_nowhere_stays_where_it_is(settings: Settings, broker: BrokerProbe) -> None:
    async def fail(_: OrdersCancelled) -> None:
        raise TryAgain("again")

    queue, desk, message = await broker.make_work_queue(), Desk(settings, fail), a_message()
    await broker.put(queue, wire.encode_domain_event(message))
    # A rung that does not exist: the broker takes the message from nobody.
    async with running(queue, desk, ladder=(99,)) as stage:
        await eventually(lambda: desk.seen)
        stage.stop()
    back = await broker.wait_for(queue)
    assert wire.decode_domain_event(back.body) == message


async def test_at_most_once_is_acknowledged_before_it_is_handled(settings: Settings, broker: BrokerProbe) -> None:
    async def hang(_: OrdersCancelled) -> None:
        await asyncio.Event().wait()

    queue, message = await broker.make_work_queue(), a_message()
    await broker.put(queue, wire.encode_domain_event(message))
    desk = Desk(settings.model_copy(update={"drain_seconds": 0.1}), hang)
    stage: Stage[Desk] = Stage(
        name="test",
        queue=queue,
        user="worker",
        prefetch=5,
        handlers={OrdersCancelled: handle},
        delivery="at_most_once",
    )
    work = asyncio.create_task(stage.run(desk))
    await eventually(lambda: desk.seen == [message])
    stage.stop()
    await work
    assert await broker.ready_count(queue) == 0, "it would be counted twice"


def test_every_publish_problem_is_tried_again() -> None:
    from consumers.runtime import TRANSIENT

    assert issubclass(PublishProblem, TRANSIENT)


@pytest.mark.parametrize(("headers", "attempt"), [({}, 1), ({"x-attempt": 3}, 3), ({"x-attempt": "many"}, 1)])
def test_the_first_delivery_is_the_first_attempt(headers: dict[str, object], attempt: int) -> None:
    assert attempt_of(headers) == attempt


async def test_what_comes_again_and_what_is_put_aside_is_counted(settings: Settings, broker: BrokerProbe) -> None:
    queue = await broker.make_work_queue()
    label = queue_label(queue)

    async def fail(_: OrdersCancelled) -> None:
        raise ValueError("a bug")

    parked, redelivered = (
        counted("boxoffice_messages_parked_total", label),
        counted("boxoffice_redeliveries_total", label),
    )
    await broker.put(queue, wire.encode_domain_event(a_message()))
    # Somebody takes it and goes away.
    taken = await (await (await broker.fresh_channel()).get_queue(queue, ensure=False)).get(timeout=5)
    assert taken is not None
    await taken.reject(requeue=True)
    async with running(queue, Desk(settings, fail)):
        await eventually(lambda: counted("boxoffice_messages_parked_total", label) == parked + 1)
    assert counted("boxoffice_redeliveries_total", label) == redelivered + 1


def counted(name: str, queue: str) -> float:
    return REGISTRY.get_sample_value(name, {"queue": queue}) or 0.0
