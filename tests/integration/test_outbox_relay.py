"""Does everything we owe the broker get there, and nothing stand in its way?"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from aio_pika.abc import AbstractIncomingMessage

from consumers.broker import ConfirmedPublisher
from consumers.outbox_relay import ORIGIN_EXCHANGE_HEADER, ORIGIN_KEY_HEADER, Relay, Wakeup
from contracts import topology, wire
from contracts.domain_events import (
    CapturesDue,
    DueHold,
    HoldsArmed,
    OrdersCancelled,
    OrdersConfirmed,
    PaymentsRequested,
    RefundsDue,
    SalesCounted,
    VoidsDue,
)
from contracts.ids import HoldId
from contracts.settings import Settings
from db import failpoints
from db.outbox import OUTBOX_CHANNEL, OutboxMessage, outbox_message, record_messages
from db.postgres import Pool, transaction
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        yield probe


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[ConfirmedPublisher]:
    async with ConfirmedPublisher(settings, "courier", name="test relays") as opened:
        yield opened


@pytest.fixture
def relay(settings: Settings, pool: Pool, publisher: ConfirmedPublisher) -> Relay:
    return Relay(settings, pool, publisher)


def a_message(key: str, *, exchange: str = topology.DOMAIN_EVENTS, **fields: Any) -> OutboxMessage:
    return OutboxMessage(exchange=exchange, routing_key=key, type="test", body=b'{"test": true}', **fields)


async def record(pool: Pool, *messages: OutboxMessage) -> None:
    async with transaction(pool) as tx:
        await record_messages(tx, messages)


async def owed_count(pool: Pool, *messages: OutboxMessage) -> int:
    ids = [message.message_id for message in messages]
    count: int = await pool.fetchval("SELECT count(*) FROM outbox WHERE message_id = ANY($1::uuid[])", ids)
    return count


async def relayed(relay: Relay, pool: Pool, *messages: OutboxMessage) -> bool:
    """One more round; true once none of these is owed any longer. Other tests' messages may be in the same outbox."""
    await relay.run_once()
    return await owed_count(pool, *messages) == 0


async def everything_in(broker: BrokerProbe, queue: str) -> list[AbstractIncomingMessage]:
    found = []
    while message := await broker.take(queue):
        found.append(message)
    return found


async def bound_queue(broker: BrokerProbe, key: str, **arguments: Any) -> str:
    return await broker.make_queue(f"tk.test.{key}", arguments=arguments, bound_to=(topology.DOMAIN_EVENTS, key))


async def test_what_is_owed_is_published_and_then_owed_no_longer(pool: Pool, broker: BrokerProbe, relay: Relay) -> None:
    key = f"test.{uuid4()}"
    queue = await bound_queue(broker, key)
    message = a_message(key, traceparent="00-1-2-01")
    await record(pool, message)
    await eventually(lambda: relayed(relay, pool, message))
    found = await broker.wait_for(queue)
    assert (found.message_id, found.type, found.body) == (str(message.message_id), "test", message.body)
    assert found.headers[wire.TRACEPARENT_HEADER] == "00-1-2-01"
    assert found.delivery_mode == 2


async def test_what_was_rolled_back_is_not_owed(pool: Pool) -> None:
    message = a_message(f"test.{uuid4()}")
    with pytest.raises(ZeroDivisionError):
        async with transaction(pool) as tx:
            await record_messages(tx, [message])
            raise ZeroDivisionError
    assert await owed_count(pool, message) == 0


async def test_a_message_nobody_wants_is_parked_with_its_reason_and_the_others_pass_it(
    settings: Settings, pool: Pool, broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    key, nowhere = f"test.{uuid4()}", f"nowhere.{uuid4()}"
    queue = await bound_queue(broker, key)
    type_ = f"test-{uuid4()}"
    parked = await broker.make_parking_copy(f"outbox.{type_}")
    poison = OutboxMessage(exchange=topology.DOMAIN_EVENTS, routing_key=nowhere, type=type_, body=b"{}")
    good = [a_message(key) for _ in range(5)]
    relay = Relay(settings, pool, publisher, park_after_failures=2)
    await record(pool, poison, *good)
    await eventually(lambda: relayed(relay, pool, *good))
    assert await broker.ready_count(queue) == 5
    await eventually(lambda: relayed(relay, pool, poison), within_seconds=20)
    found = await broker.wait_for(parked)
    assert found.headers[ORIGIN_EXCHANGE_HEADER] == topology.DOMAIN_EVENTS
    assert found.headers[ORIGIN_KEY_HEADER] == nowhere
    assert "no queue is bound" in str(found.headers[wire.REASON_HEADER])


async def test_a_message_that_closes_the_channel_takes_no_other_with_it(
    settings: Settings, pool: Pool, broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    key = f"test.{uuid4()}"
    queue = await bound_queue(broker, key)
    poison = a_message(key, exchange=f"tk.no.such.{uuid4()}")
    good = [a_message(key) for _ in range(5)]
    relay = Relay(settings, pool, publisher, park_after_failures=2)
    await record(pool, *good[:2], poison, *good[2:])
    await eventually(lambda: relayed(relay, pool, poison, *good), within_seconds=20)
    # At least once: those that were on their way when the channel closed may have come twice.
    arrived = {found.message_id for found in await everything_in(broker, queue)}
    assert arrived == {str(message.message_id) for message in good}


async def test_a_full_queue_keeps_its_messages_owed_and_the_others_pass_them(
    pool: Pool, broker: BrokerProbe, relay: Relay
) -> None:
    full_key, key = f"test.{uuid4()}", f"test.{uuid4()}"
    full = await bound_queue(broker, full_key, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    await bound_queue(broker, key)
    stuck = [a_message(full_key) for _ in range(3)]
    good = [a_message(key) for _ in range(3)]
    await record(pool, *stuck, *good)
    await eventually(lambda: relayed(relay, pool, *good))
    assert await owed_count(pool, *stuck) == 2

    async def worked_off() -> bool:
        await broker.take(full)
        return await relayed(relay, pool, *stuck)

    await eventually(worked_off, within_seconds=20)


async def test_a_crash_after_publishing_publishes_again(pool: Pool, broker: BrokerProbe, relay: Relay) -> None:
    key = f"test.{uuid4()}"
    queue = await bound_queue(broker, key)

    async def crashed_over() -> OutboxMessage | None:
        """A message that the relay has published and not deleted; None when another test's relay was there first."""
        message = a_message(key)
        await record(pool, message)
        try:
            await relay.run_once()
        except failpoints.InjectedFailure:
            return message if await owed_count(pool, message) else None
        return None

    failpoints.arm("relay.after_publish=raise(crash)")
    try:
        message = await eventually(crashed_over)
        assert message is not None
    finally:
        failpoints.disarm()
    await eventually(lambda: relayed(relay, pool, message))
    copies = [found.message_id for found in await everything_in(broker, queue)]
    assert copies.count(str(message.message_id)) >= 2


async def test_two_relays_share_the_work(
    settings: Settings, pool: Pool, broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    key = f"test.{uuid4()}"
    queue = await bound_queue(broker, key)
    messages = [a_message(key) for _ in range(40)]
    small = settings.model_copy(update={"relay_batch_max": 7})
    relays = [Relay(small, pool, publisher) for _ in range(2)]
    await record(pool, *messages)

    async def both() -> bool:
        done = [await relay.run_once() for relay in relays]
        return not any(done) and await owed_count(pool, *messages) == 0

    await eventually(both, within_seconds=20)
    assert {found.message_id for found in await everything_in(broker, queue)} == {str(m.message_id) for m in messages}


async def test_recording_wakes_whoever_listens(settings: Settings, pool: Pool) -> None:
    wakeup = Wakeup(settings, OUTBOX_CHANNEL)
    try:
        await wakeup.listen()
        await record(pool, a_message(f"test.{uuid4()}", exchange=topology.TELEMETRY))
        await eventually(wakeup.happened.is_set)
    finally:
        await wakeup.close()
        await pool.execute("DELETE FROM outbox WHERE exchange = $1", topology.TELEMETRY)


EVENT_ID = uuid4()


@pytest.mark.parametrize(
    ("domain_event", "way"),
    [
        (
            HoldsArmed(event_id=EVENT_ID, holds=(DueHold(hold_id=HoldId(uuid4()), held_until=datetime.now(UTC)),)),
            (topology.HOLDS, "arm.600s"),
        ),
        (PaymentsRequested(event_id=EVENT_ID, payments=()), (topology.DOMAIN_EVENTS, "payment")),
        (CapturesDue(event_id=EVENT_ID, payments=()), (topology.DOMAIN_EVENTS, "payment")),
        (VoidsDue(event_id=EVENT_ID, payments=()), (topology.DOMAIN_EVENTS, "payment")),
        (RefundsDue(event_id=EVENT_ID, payments=()), (topology.DOMAIN_EVENTS, "payment")),
        (OrdersConfirmed(event_id=EVENT_ID, orders=()), (topology.DOMAIN_EVENTS, "order")),
        (OrdersCancelled(event_id=EVENT_ID, orders=()), (topology.DOMAIN_EVENTS, "order")),
    ],
)
def test_every_domain_event_that_is_owed_has_a_way_that_is_bound(domain_event: Any, way: tuple[str, str]) -> None:
    message = outbox_message(domain_event, hold_seconds=600)
    assert (message.exchange, message.routing_key) == way
    assert way in {(binding.exchange, binding.routing_key) for binding in topology.BINDINGS}
    assert wire.decode_domain_event(message.body) == domain_event


def test_what_may_be_lost_is_not_owed() -> None:
    counted = SalesCounted(event_id=EVENT_ID, minute_at=datetime.now(UTC), revenue=0, currency="EUR")
    with pytest.raises(ValueError, match="at most once"):
        outbox_message(counted, hold_seconds=600)
