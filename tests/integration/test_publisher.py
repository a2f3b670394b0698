"""Does a publisher tell the ways in which a broker can say no apart?"""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import aio_pika
import pytest

from consumers.broker import BrokerBusy, ConfirmedPublisher, QueueFull, Refused, Unroutable, persistent_message
from contracts import topology
from contracts.settings import Settings
from tests.broker_probe import BrokerProbe


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        yield probe


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[ConfirmedPublisher]:
    async with ConfirmedPublisher(settings, "courier", name="test publishes") as opened:
        yield opened


def a_message(message_id: str | None = None) -> aio_pika.Message:
    return persistent_message(b"{}", type="test", message_id=message_id or str(uuid4()))


async def test_a_confirmed_message_is_in_the_queue_and_outlives_a_restart(
    broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    key = f"test.{uuid4()}"
    queue = await broker.make_queue(f"tk.test.{key}", bound_to=(topology.DOMAIN_EVENTS, key))
    await publisher.publish(a_message("one"), exchange=topology.DOMAIN_EVENTS, routing_key=key)
    found = await broker.take(queue)
    assert found is not None
    assert (found.message_id, found.type, found.delivery_mode) == ("one", "test", aio_pika.DeliveryMode.PERSISTENT)


async def test_a_full_queue_says_no(broker: BrokerProbe, publisher: ConfirmedPublisher) -> None:
    key = f"test.{uuid4()}"
    await broker.make_queue(
        f"tk.test.{key}",
        arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
        bound_to=(topology.DOMAIN_EVENTS, key),
    )
    await publisher.publish(a_message(), exchange=topology.DOMAIN_EVENTS, routing_key=key)
    with pytest.raises(QueueFull):
        await publisher.publish(a_message(), exchange=topology.DOMAIN_EVENTS, routing_key=key)


async def test_a_key_that_nothing_is_bound_to_is_unroutable(publisher: ConfirmedPublisher) -> None:
    with pytest.raises(Unroutable):
        await publisher.publish(a_message(), exchange=topology.DOMAIN_EVENTS, routing_key="nowhere")


async def test_two_messages_of_one_id_are_not_taken_for_each_other(
    broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    key = f"test.{uuid4()}"
    queue = await broker.make_queue(f"tk.test.{key}", bound_to=(topology.DOMAIN_EVENTS, key))
    keys = [key, "nowhere"] * 10
    outcomes = await asyncio.gather(
        *(publisher.publish(a_message("same"), exchange=topology.DOMAIN_EVENTS, routing_key=k) for k in keys),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable] * 10
    assert await broker.ready_count(queue) == 10


async def test_messages_published_together_arrive_in_their_order(
    broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    key = f"test.{uuid4()}"
    queue = await broker.make_queue(f"tk.test.{key}", bound_to=(topology.DOMAIN_EVENTS, key))
    names = [str(number) for number in range(100)]
    await asyncio.gather(
        *(publisher.publish(a_message(n), exchange=topology.DOMAIN_EVENTS, routing_key=key) for n in names)
    )
    found = [await broker.take(queue) for _ in names]
    assert [message.message_id for message in found if message] == names


@pytest.mark.parametrize("exchange", [topology.TELEMETRY, "tk.no.such.exchange"])
async def test_a_refusal_costs_the_channel_and_not_the_publisher(
    broker: BrokerProbe, publisher: ConfirmedPublisher, exchange: str
) -> None:
    key = f"test.{uuid4()}"
    queue = await broker.make_queue(f"tk.test.{key}", bound_to=(topology.DOMAIN_EVENTS, key))
    with pytest.raises(Refused):
        await publisher.publish(a_message(), exchange=exchange, routing_key=key)
    await publisher.publish(a_message(), exchange=topology.DOMAIN_EVENTS, routing_key=key)
    assert await broker.ready_count(queue) == 1


async def test_a_closed_publisher_is_busy(settings: Settings) -> None:
    publisher = await ConfirmedPublisher(settings, "courier", name="test publishes").open()
    await publisher.close()
    with pytest.raises(BrokerBusy):
        await publisher.publish(a_message(), exchange=topology.DOMAIN_EVENTS, routing_key="nowhere")


async def test_no_confirm_in_time_is_not_a_no(broker: BrokerProbe, publisher: ConfirmedPublisher) -> None:
    key = f"test.{uuid4()}"
    await broker.make_queue(f"tk.test.{key}", bound_to=(topology.DOMAIN_EVENTS, key))
    with pytest.raises(BrokerBusy):
        await publisher.publish(
            a_message(), exchange=topology.DOMAIN_EVENTS, routing_key=key, timeout_seconds=0.000_001
        )
    await publisher.publish(a_message(), exchange=topology.DOMAIN_EVENTS, routing_key=key)
