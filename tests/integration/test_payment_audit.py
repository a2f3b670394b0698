"""Does the hourly audit see every difference between the provider's books and ours, and repair what is safe to repair?"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from consumers.broker import ConfirmedPublisher
from consumers.command_sender import CommandSender
from consumers.payments.gateway import PaymentGateway
from consumers.payments.outcomes import Authorized, Captured, ProviderPayment
from consumers.payments.reconciler import compare, count_unknown, finish_silent
from consumers.payments.stage import Resources
from contracts.commands import AnyCommand, PaymentRefunded
from contracts.ids import EventId, OrderId
from contracts.settings import Settings
from tests.builders import OnSale, a_user, check_out, settle
from tests.sale_on_paper import payment_refunded, refund
from tests.simulated_payments import RunningSimulator

AMOUNT = Decimal("90.00")
YEAR_SECONDS = 365 * 24 * 3600.0


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """The provider, with books of its own."""
    running = RunningSimulator(tmp_path_factory.mktemp("payments"))
    yield running
    running.stop()


@pytest.fixture
async def resources(settings: Settings, pool: Any, simulator: RunningSimulator) -> AsyncIterator[Resources]:
    """What the reconciler works with, on that provider."""
    gateway = PaymentGateway(settings.model_copy(update={"payment_api_url": simulator.url}))
    async with ConfirmedPublisher(settings, "courier", name="audit test") as publisher:
        yield Resources(
            settings=settings,
            pool=pool,
            gateway=gateway,
            publisher=publisher,
            sender=CommandSender(publisher),
            slots=asyncio.Semaphore(4),
        )
    await gateway.close()


async def an_intent(resources: Resources, *, capture: bool, order_id: OrderId | None = None) -> str:
    """Money set aside, or taken, for an order of this id."""
    key, gateway = uuid4().hex, resources.gateway
    created = await gateway.create(
        order_id=order_id or OrderId(uuid4()),
        event_id=EventId(uuid4()),
        amount=AMOUNT,
        currency="EUR",
        key=f"{key}:create",
    )
    intent_id: str = created.intent_id  # type: ignore[union-attr]
    assert await gateway.confirm(intent_id, payment_method="pm_card_visa", key=f"{key}:confirm") == Authorized()
    if capture:
        assert await gateway.capture(intent_id, key=f"{key}:capture") == Captured()
    return intent_id


async def listed(resources: Resources, intent_id: str) -> ProviderPayment:
    """The intent as the provider lists it now."""
    now = datetime.now(UTC)
    payments = resources.gateway.list_between(now - timedelta(hours=1), now + timedelta(minutes=1))
    return next(payment for payment in [one async for one in payments] if payment.intent_id == intent_id)


async def breaks_of(resources: Resources, intent_id: str) -> list[tuple[str, bool]]:
    """The kinds of differences written down for it, and whether each was repaired."""
    records = await resources.pool.fetch(
        "SELECT kind, repaired_at IS NOT NULL AS repaired FROM breaks WHERE intent_id = $1", intent_id
    )
    return [(record["kind"], record["repaired"]) for record in records]


async def test_money_taken_for_no_order_is_given_back_once(resources: Resources, simulator: RunningSimulator) -> None:
    intent_id = await an_intent(resources, capture=True)
    assert await compare([await listed(resources, intent_id)], resources) == 1
    assert await breaks_of(resources, intent_id) == [("captured_without_order", True)]
    assert await compare([await listed(resources, intent_id)], resources) == 0, "what was given back is no difference"
    assert simulator.money().intents[intent_id].refunded_minor == 9000


async def test_money_set_aside_for_no_order_is_let_go(resources: Resources, simulator: RunningSimulator) -> None:
    intent_id = await an_intent(resources, capture=False)
    assert await compare([await listed(resources, intent_id)], resources) == 1
    assert await breaks_of(resources, intent_id) == [("authorized_without_order", True)]
    assert simulator.money().intents[intent_id].state == "canceled"


async def test_a_wrong_amount_is_written_down_and_left_to_a_person(
    resources: Resources, sale: OnSale, simulator: RunningSimulator
) -> None:
    order_id = await sale.buy(a_user(), sale.seats[:2])
    intent_id = await an_intent(resources, capture=True, order_id=order_id)
    await sale.pool.execute(
        "UPDATE payments SET intent_id = $2, amount = 89, status = 'captured' WHERE order_id = $1", order_id, intent_id
    )
    counted = breaks_counted("amount_differs")
    for _ in range(2):
        assert await compare([await listed(resources, intent_id)], resources) == 1
    assert await breaks_of(resources, intent_id) == [("amount_differs", False)], "once while it is open"
    assert breaks_counted("amount_differs") == counted + 1, "and counted once"
    assert simulator.money().intents[intent_id].refunded_minor == 0


def breaks_counted(kind: str) -> float:
    return REGISTRY.get_sample_value("boxoffice_payment_breaks_total", {"kind": kind}) or 0.0


async def test_what_is_not_known_is_shown(resources: Resources, sale: OnSale) -> None:
    # Older than whatever else the tests leave in the shared database.
    long_ago = resources.settings.model_copy(update={"payment_unknown_seconds": 5 * YEAR_SECONDS})
    among_the_oldest = replace(resources, settings=long_ago)

    async def shown() -> tuple[float | None, float]:
        await count_unknown(among_the_oldest)
        oldest = REGISTRY.get_sample_value("boxoffice_payments_unknown_oldest_seconds") or 0.0
        return REGISTRY.get_sample_value("boxoffice_payments_unknown"), oldest // YEAR_SECONDS

    assert await shown() == (0, 0)
    user, waiting = a_user(), []
    for seats in (sale.seats[:1], sale.seats[1:2]):
        hold = await sale.hold(user, seats)
        command = check_out(sale.event_id, user, hold.hold_id)
        await sale.run(command)
        waiting.append(command.command_id)
    await sale.pool.execute(
        "UPDATE orders SET created_at = now() - make_interval(secs => $2) WHERE id = ANY($1)",
        waiting,
        6.5 * YEAR_SECONDS,
    )
    assert await shown() == (2, 6)
    await sale.pool.execute("UPDATE payments SET status = 'action_needed' WHERE order_id = $1", waiting[0])
    assert await shown() == (1, 6), "of the other we know that its buyer has something to do"
    await sale.run(settle(sale.event_id, waiting[1]))
    assert await shown() == (0, 0)


async def test_a_payment_that_agrees_is_no_difference(resources: Resources, sale: OnSale) -> None:
    order_id = await sale.buy(a_user(), sale.seats[:2])
    intent_id = await an_intent(resources, capture=True, order_id=order_id)
    await sale.pool.execute(
        "UPDATE payments SET intent_id = $2, status = 'captured' WHERE order_id = $1", order_id, intent_id
    )
    assert await compare([await listed(resources, intent_id)], resources) == 0
    assert await breaks_of(resources, intent_id) == []


# ---- what goes back


async def a_paid_order(resources: Resources, sale: OnSale) -> tuple[OrderId, str]:
    """Two seats, sold and paid for at that provider."""
    order_id = await sale.buy(a_user(), sale.seats[:2])
    intent_id = await an_intent(resources, capture=True, order_id=order_id)
    await sale.pool.execute(
        "UPDATE payments SET intent_id = $2, status = 'captured' WHERE order_id = $1", order_id, intent_id
    )
    return order_id, intent_id


async def asked_for(sale: OnSale, order_id: OrderId, *, ticket_count: int = 1) -> UUID:
    """So many tickets of it are being refunded."""
    tickets = await sale.pool.fetch("SELECT id FROM tickets WHERE order_id = $1 ORDER BY id", order_id)
    command = refund(sale.event_id, order_id, ticket_ids=tuple(one["id"] for one in tickets[:ticket_count]))
    await sale.run(command)
    return UUID(str(command.command_id))


async def is_long_ago(sale: OnSale) -> None:
    await sale.pool.execute(
        "UPDATE refunds SET touched_at = now() - interval '1 hour',"
        " refunded_at = refunded_at - interval '1 hour' WHERE event_id = $1",
        sale.event_id,
    )


async def test_a_refund_that_fell_silent_is_taken_up(
    resources: Resources, sale: OnSale, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[AnyCommand] = []

    async def send(command: AnyCommand) -> None:
        told.append(command)

    monkeypatch.setattr(resources.sender, "send", send)
    order_id, intent_id = await a_paid_order(resources, sale)
    refund_id = await asked_for(sale, order_id)
    await finish_silent(resources)
    assert simulator.money().intents[intent_id].refund_count == 0, "it is not silent yet"
    for _ in range(2):
        await is_long_ago(sale)
        await finish_silent(resources)
    assert simulator.money().intents[intent_id].refunded_minor == 4500
    mine = [command for command in told if command.event_id == sale.event_id]
    assert [(command.type, command.refund_id) for command in mine if isinstance(command, PaymentRefunded)] == [
        ("payment_refunded", refund_id)
    ] * 2
    assert simulator.money().intents[intent_id].refund_count == 1


async def test_money_on_its_way_back_is_no_difference_before_and_after_it_has_arrived(
    resources: Resources, sale: OnSale
) -> None:
    order_id, intent_id = await a_paid_order(resources, sale)
    await asked_for(sale, order_id)
    assert await compare([await listed(resources, intent_id)], resources) == 0
    await resources.gateway.refund(intent_id, amount=AMOUNT / 2, currency="EUR", key=uuid4().hex, mark="it")
    assert await compare([await listed(resources, intent_id)], resources) == 0


async def test_a_refund_that_the_provider_does_not_have_is_written_down(resources: Resources, sale: OnSale) -> None:
    order_id, intent_id = await a_paid_order(resources, sale)
    refund_id = await asked_for(sale, order_id)
    await sale.run(payment_refunded(sale.event_id, order_id, refund_id))
    assert await compare([await listed(resources, intent_id)], resources) == 0, "it may be younger than the list"
    await is_long_ago(sale)
    assert await compare([await listed(resources, intent_id)], resources) == 1
    assert await breaks_of(resources, intent_id) == [("refund_missing", False)]


async def test_what_was_given_back_twice_is_written_down(resources: Resources, sale: OnSale) -> None:
    order_id, intent_id = await a_paid_order(resources, sale)
    await sale.run(payment_refunded(sale.event_id, order_id, await asked_for(sale, order_id)))
    await is_long_ago(sale)
    for key in ("one", "two"):
        await resources.gateway.refund(intent_id, amount=AMOUNT / 2, currency="EUR", key=f"{intent_id}:{key}", mark=key)
    assert await compare([await listed(resources, intent_id)], resources) == 1
    assert await breaks_of(resources, intent_id) == [("order_not_paid", False)]


async def test_an_order_that_is_refunded_but_for_a_fee_is_no_difference(resources: Resources, sale: OnSale) -> None:
    order_id, intent_id = await a_paid_order(resources, sale)
    policy = "UPDATE events SET refund_until = now() + interval '1 day', refund_fee_rate = 0.1 WHERE id = $1"
    await sale.pool.execute(policy, sale.event_id)
    user_id = await sale.pool.fetchval("SELECT user_id FROM orders WHERE id = $1", order_id)
    command = refund(sale.event_id, order_id, user_id=user_id, as_organiser=False)
    await sale.run(command)
    await resources.gateway.refund(intent_id, amount=Decimal("81.00"), currency="EUR", key=intent_id, mark="it")
    await sale.run(payment_refunded(sale.event_id, order_id, command.command_id))
    await is_long_ago(sale)
    assert await sale.status_of("orders", order_id) == "refunded"
    assert await compare([await listed(resources, intent_id)], resources) == 0
