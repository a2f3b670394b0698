"""Can each broker user do what its processes need, and nothing else?"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused

from consumers.broker import url_for
from contracts import topology
from contracts.settings import BrokerUser, Settings
from tests.broker_probe import BrokerProbe


@asynccontextmanager
async def channel_of(settings: Settings, user: BrokerUser) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(url_for(settings, user, name=f"test {user}"), timeout=10)
    async with connection, connection.channel() as channel:
        yield channel


async def publish(settings: Settings, user: BrokerUser, exchange: str, routing_key: str) -> None:
    async with channel_of(settings, user) as channel:
        to = await channel.get_exchange(exchange, ensure=False)
        await to.publish(aio_pika.Message(b"{}"), routing_key, mandatory=False, timeout=5)


async def consume(settings: Settings, user: BrokerUser, queue: str) -> None:
    async with channel_of(settings, user) as channel:
        underlay = await channel.get_underlay_channel()
        await underlay.basic_consume(queue, _ignore, no_ack=False, timeout=5)


async def declare(settings: Settings, user: BrokerUser, queue: str) -> None:
    async with channel_of(settings, user) as channel:
        await channel.declare_queue(queue, exclusive=True, arguments={"x-queue-type": "classic"}, timeout=5)


async def _ignore(_: object) -> None:
    return None


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[str]:
    """A queue that looks like an event's."""
    async with BrokerProbe(settings) as probe:
        yield await probe.make_work_queue()


NOWHERE = "nowhere"  # a key that nothing is bound to: what is allowed is published and dropped


async def test_workers_answer_and_never_ask(settings: Settings) -> None:
    await publish(settings, "worker", topology.REPLIES, NOWHERE)
    with pytest.raises(ChannelAccessRefused):
        await publish(settings, "worker", topology.COMMANDS, NOWHERE)


@pytest.mark.parametrize("user", ["ingress", "worker", "courier", "operator"])
async def test_nobody_puts_a_message_into_a_queue_by_its_name(settings: Settings, queue: str, user: BrokerUser) -> None:
    await publish(settings, "lifecycle", "", queue)
    with pytest.raises(ChannelAccessRefused):
        await publish(settings, user, "", queue)


async def test_workers_consume_the_commands_that_ingress_sends(settings: Settings, queue: str) -> None:
    await publish(settings, "ingress", topology.COMMANDS, NOWHERE)
    await consume(settings, "worker", queue)
    with pytest.raises(ChannelAccessRefused):
        await consume(settings, "ingress", queue)
    with pytest.raises(ChannelAccessRefused):
        await consume(settings, "ingress", topology.lane_queue(0))


async def test_ingress_forges_no_replies(settings: Settings) -> None:
    await publish(settings, "worker", topology.REPLIES, NOWHERE)
    with pytest.raises(ChannelAccessRefused):
        await publish(settings, "ingress", topology.REPLIES, NOWHERE)
    with pytest.raises(ChannelAccessRefused):
        await publish(settings, "ingress", topology.DOMAIN_EVENTS, NOWHERE)


async def test_ingress_declares_queues_of_its_own_only(settings: Settings) -> None:
    await declare(settings, "ingress", f"tk.reply.test.{uuid4()}")
    for name in (topology.event_queue(uuid4()), f"tk.work.{uuid4()}", f"somebody.{uuid4()}"):  # type: ignore[arg-type]
        with pytest.raises(ChannelAccessRefused):
            await declare(settings, "ingress", name)


async def test_an_ingress_gets_replies_in_a_queue_of_its_own(settings: Settings) -> None:
    async with channel_of(settings, "ingress") as channel:
        name = f"tk.reply.test.{uuid4()}"
        mine = await channel.declare_queue(name, exclusive=True, arguments={"x-queue-type": "classic"}, timeout=5)
        await mine.bind(topology.REPLIES, name)
        await publish(settings, "worker", topology.REPLIES, name)
        assert (await mine.get(no_ack=True, timeout=5)) is not None


async def test_couriers_carry_commands_and_read_none(settings: Settings, queue: str) -> None:
    await publish(settings, "courier", topology.COMMANDS, NOWHERE)
    await consume(settings, "worker", queue)
    with pytest.raises(ChannelAccessRefused):
        await consume(settings, "courier", queue)


async def test_operators_look_and_change_nothing(settings: Settings, queue: str) -> None:
    async with channel_of(settings, "operator") as channel:
        seen = await channel.get_queue(queue, ensure=False)
        await publish(settings, "lifecycle", "", queue)
        assert (await seen.get(no_ack=False, timeout=5)) is not None
    for exchange in ("", *(exchange.name for exchange in topology.EXCHANGES)):
        with pytest.raises(ChannelAccessRefused):
            await publish(settings, "operator", exchange, NOWHERE)


@pytest.mark.parametrize("user", ["worker", "courier", "operator"])
async def test_only_the_lifecycle_declares(settings: Settings, user: BrokerUser) -> None:
    name = f"tk.test.{uuid4()}"
    await declare(settings, "lifecycle", name)
    with pytest.raises(ChannelAccessRefused):
        await declare(settings, user, name)
