"""Does every buyer get the mail about an order, and see it once?"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from consumers.notifications import HANDLERS, Resources, send_cancellations, send_confirmations
from consumers.runtime import Stage, TryAgain
from contracts import wire
from contracts.domain_events import ConfirmedSeat, OrderConfirmation, OrderNotice, OrdersCancelled, OrdersConfirmed
from contracts.ids import EventId, OrderId, UserId
from contracts.settings import Settings
from db import failpoints
from db.postgres import Pool
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually
from tests.mail_server import MailServer, serving
from tests.written_events import write_event, write_order


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with serving(MailServer()) as server:
        yield server


@pytest.fixture
def resources(settings: Settings, pool: Pool, mails: MailServer) -> Resources:
    return Resources(settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{mails.port}"}), pool)


def a_confirmation(order_id: OrderId, user_id: UserId) -> OrderConfirmation:
    return OrderConfirmation(
        order_id=order_id,
        user_id=user_id,
        total=Decimal("90.00"),
        currency="EUR",
        seats=(ConfirmedSeat(section="A", row="1", seat="7"), ConfirmedSeat(section="A", row="1", seat="8")),
        timestamp=datetime.now(UTC),
    )


async def confirmed_orders(pool: Pool, count: int) -> tuple[OrdersConfirmed, list[str]]:
    """A message about so many orders, and their buyers' addresses."""
    event_id = await write_event(pool, name="Night <of> Nights")
    written = [await write_order(pool, event_id) for _ in range(count)]
    orders = tuple(a_confirmation(order_id, user_id) for order_id, user_id, _ in written)
    return OrdersConfirmed(event_id=event_id, orders=orders), [address for _, _, address in written]


async def test_a_confirmation_says_what_was_bought(pool: Pool, mails: MailServer, resources: Resources) -> None:
    confirmed, (address,) = await confirmed_orders(pool, 1)
    await send_confirmations(confirmed, resources)
    (letter,) = mails.to(address)
    plain, page = letter.get_body(("plain",)), letter.get_body(("html",))
    assert plain is not None
    assert page is not None
    text, html = plain.get_content(), page.get_content()
    order_id = confirmed.orders[0].order_id
    for told in ("Night <of> Nights", "Hall <One>", "Section A, row 1, seat 7", "90.00 EUR", str(order_id), "(UTC)"):
        assert told in text
    assert "Night &lt;of&gt; Nights" in html, "what people have named is shown, never run"
    assert "<of>" not in html
    assert str(order_id) in letter["Message-ID"]
    assert letter["From"] == resources.settings.mail_sender


async def test_a_message_delivered_again_sends_nothing_new(pool: Pool, mails: MailServer, resources: Resources) -> None:
    confirmed, addresses = await confirmed_orders(pool, 3)
    await send_confirmations(confirmed, resources)
    await send_confirmations(confirmed, resources)
    assert mails.addresses == Counter(addresses)


async def test_a_crash_after_the_mail_was_accepted_sends_it_under_the_same_id(
    pool: Pool, mails: MailServer, resources: Resources
) -> None:
    confirmed, (address,) = await confirmed_orders(pool, 1)
    failpoints.arm("notifications.after_send=raise(crash)")
    try:
        with pytest.raises(failpoints.InjectedFailure):
            await send_confirmations(confirmed, resources)
    finally:
        failpoints.disarm()
    await send_confirmations(confirmed, resources)
    first, second = mails.to(address)
    assert first["Message-ID"] == second["Message-ID"], "mail systems show one of them"


async def test_an_address_that_is_refused_neither_blocks_nor_repeats_the_others(
    pool: Pool, mails: MailServer, resources: Resources
) -> None:
    confirmed, addresses = await confirmed_orders(pool, 4)
    mails.refused.add(addresses[1])
    with pytest.raises(TryAgain) as raised:
        await send_confirmations(confirmed, resources)
    left = raised.value.remaining
    assert isinstance(left, OrdersConfirmed)
    assert [order.order_id for order in left.orders] == [confirmed.orders[1].order_id]
    assert addresses[1] not in str(raised.value), "an address has no place in a header"
    mails.refused.clear()
    await send_confirmations(left, resources)
    assert mails.addresses == Counter(addresses)


async def test_a_server_that_hangs_up_over_one_mail_still_gets_the_others(
    pool: Pool, mails: MailServer, resources: Resources
) -> None:
    confirmed, addresses = await confirmed_orders(pool, 3)
    mails.dropped.add(addresses[0])
    with pytest.raises(TryAgain):
        await send_confirmations(confirmed, resources)
    assert mails.addresses == Counter(addresses[1:])


async def test_a_server_that_is_down_costs_a_few_tries_and_no_mail(
    pool: Pool, settings: Settings, unused_tcp_port: int
) -> None:
    confirmed, addresses = await confirmed_orders(pool, 20)
    resources = Resources(settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{unused_tcp_port}"}), pool)
    with pytest.raises(TryAgain) as raised:
        await send_confirmations(confirmed, resources)
    left = raised.value.remaining
    assert isinstance(left, OrdersConfirmed)
    assert {order.order_id for order in left.orders} == {order.order_id for order in confirmed.orders}
    async with serving(MailServer(port=unused_tcp_port)) as mails:
        await send_confirmations(left, resources)
    assert mails.addresses == Counter(addresses)


async def test_an_order_that_is_not_in_the_database_waits_alone(
    pool: Pool, mails: MailServer, resources: Resources
) -> None:
    confirmed, addresses = await confirmed_orders(pool, 2)
    unknown = a_confirmation(OrderId(uuid4()), UserId(uuid4()))
    with pytest.raises(TryAgain) as raised:
        await send_confirmations(confirmed.model_copy(update={"orders": (unknown, *confirmed.orders)}), resources)
    assert isinstance(raised.value.remaining, OrdersConfirmed)
    assert raised.value.remaining.orders == (unknown,)
    assert mails.addresses == Counter(addresses)


async def test_a_cancellation_is_a_mail_of_its_own(pool: Pool, mails: MailServer, resources: Resources) -> None:
    event_id: EventId = await write_event(pool)
    order_id, user_id, address = await write_order(pool, event_id)
    confirmed = OrdersConfirmed(event_id=event_id, orders=(a_confirmation(order_id, user_id),))
    notice = OrderNotice(order_id=order_id, user_id=user_id, reason="the seats were gone\r\nBcc: everybody")
    cancelled = OrdersCancelled(event_id=event_id, orders=(notice,))
    await send_confirmations(confirmed, resources)
    await send_cancellations(cancelled, resources)
    await send_cancellations(cancelled, resources)
    first, second = mails.to(address)
    assert first["Message-ID"] != second["Message-ID"]
    assert "cancelled" in second["Subject"]
    body = second.get_body(("plain",))
    assert body is not None
    assert "the seats were gone" in body.get_content()
    assert second["Bcc"] is None


async def test_messages_from_the_queue_become_mails(
    settings: Settings, pool: Pool, mails: MailServer, resources: Resources
) -> None:
    confirmed, addresses = await confirmed_orders(pool, 2)
    async with BrokerProbe(settings) as broker:
        queue = await broker.make_work_queue()
        await broker.put(queue, wire.encode_domain_event(confirmed))
        await broker.put(queue, wire.encode_domain_event(confirmed))
        # One at a time: two deliveries of one message at the same moment may both send, under one Message-ID.
        stage = Stage(name="notifications", queue=queue, user="worker", prefetch=1, handlers=HANDLERS)
        work = asyncio.create_task(stage.run(resources))
        await eventually(lambda: mails.addresses == Counter(addresses))
        stage.stop()
        await work
        assert await broker.ready_count(queue) in (0, 1)
    assert mails.addresses == Counter(addresses)
