"""Does the money of what came after a backup go where it belongs: back to the buyer once, and nowhere by guessing?"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from consumers.broker import ConfirmedPublisher
from consumers.command_sender import CommandSender
from consumers.payments import reconciler
from consumers.payments.after_restore import Comparison, Difference, compare_since, mend
from consumers.payments.gateway import ListingInterrupted, PaymentGateway
from consumers.payments.outcomes import Authorized, Captured
from consumers.payments.stage import Resources
from consumers.payments.stage import refund as give_it_back
from contracts.commands import AnyCommand, RefundOrder
from contracts.domain_events import RefundDue
from contracts.ids import EventId, OrderId, RefundId
from contracts.settings import Settings
from db import backups
from db.payments import close_break
from db.postgres import open_pool
from tests.admissions_world import a_database_of_its_own
from tests.builders import OnSale, a_user, check_out
from tests.eventually import eventually
from tests.sale_on_paper import refund
from tests.simulated_payments import RunningSimulator

AMOUNT = Decimal("90.00")
SNAPSHOT_AT = datetime.now(UTC)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """The provider, with books of its own."""
    running = RunningSimulator(tmp_path_factory.mktemp("payments"))
    yield running
    running.stop()


@pytest.fixture
async def resources(settings: Settings, pool: Any, simulator: RunningSimulator) -> AsyncIterator[Resources]:
    """What a restore works with, on that provider."""
    patient = settings.model_copy(update={"payment_api_url": simulator.url, "payment_breaker_failures": 100})
    gateway = PaymentGateway(patient)
    async with ConfirmedPublisher(settings, "courier", name="restore test") as publisher:
        yield Resources(
            settings=settings,
            pool=pool,
            gateway=gateway,
            publisher=publisher,
            sender=CommandSender(publisher),
            slots=asyncio.Semaphore(4),
        )
    await gateway.close()
    await simulator.control("DELETE", "faults")


async def an_intent(resources: Resources, order_id: OrderId | None = None, *, until: str = "captured") -> str:
    """A payment at the provider, brought so far, for an order of this id."""
    key, gateway = uuid4().hex, resources.gateway
    created = await gateway.create(
        order_id=order_id or OrderId(uuid4()),
        event_id=EventId(uuid4()),
        amount=AMOUNT,
        currency="EUR",
        key=f"{key}:create",
    )
    intent_id: str = created.intent_id  # type: ignore[union-attr]
    if until != "created":
        assert await gateway.confirm(intent_id, payment_method="pm_card_visa", key=f"{key}:confirm") == Authorized()
    if until == "captured":
        assert await gateway.capture(intent_id, key=f"{key}:capture") == Captured()
    return intent_id


async def compared(resources: Resources) -> Comparison:
    return await compare_since(SNAPSHOT_AT, datetime.now(UTC) + timedelta(minutes=1), resources)


async def difference_of(resources: Resources, intent_id: str) -> Difference | None:
    found = [one for one in (await compared(resources)).differences if one.payment.intent_id == intent_id]
    assert len(found) <= 1
    return found[0] if found else None


async def breaks_of(resources: Resources, intent_id: str) -> list[tuple[str, bool]]:
    records = await resources.pool.fetch(
        "SELECT kind, repaired_at IS NOT NULL AS repaired FROM breaks WHERE intent_id = $1", intent_id
    )
    return [(record["kind"], record["repaired"]) for record in records]


async def a_paid_order(resources: Resources, sale: OnSale) -> tuple[OrderId, str]:
    """Two seats, sold and paid for at that provider."""
    order_id = await sale.buy(a_user(), sale.seats[:2])
    intent_id = await an_intent(resources, order_id)
    await sale.pool.execute(
        "UPDATE payments SET intent_id = $2, status = 'captured' WHERE order_id = $1", order_id, intent_id
    )
    return order_id, intent_id


@pytest.mark.parametrize(
    ("until", "kind", "state", "refunded_minor"),
    [
        ("captured", "order_lost", "succeeded", 9000),
        ("authorized", "authorization_lost", "canceled", 0),
        ("created", "intent_lost", "canceled", 0),
    ],
)
async def test_what_was_begun_for_a_lost_order_ends_with_the_money_at_the_buyers(
    resources: Resources, simulator: RunningSimulator, until: str, kind: str, state: str, refunded_minor: int
) -> None:
    intent_id = await an_intent(resources, until=until)
    difference = await difference_of(resources, intent_id)
    assert difference is not None
    assert difference.kind == kind
    untouched = simulator.money().intents[intent_id]
    assert (untouched.refunded_minor, untouched.state != "canceled") == (0, True), "looking changes nothing"
    # Twice from the same list, as two operators would who do not know of each other.
    for _ in range(2):
        assert [one.is_mended for one in await mend([difference], resources)] == [True]
    intent = simulator.money().intents[intent_id]
    assert (intent.state, intent.refunded_minor, intent.refund_count) == (state, refunded_minor, refunded_minor // 9000)
    assert await difference_of(resources, intent_id) is None
    assert set(await breaks_of(resources, intent_id)) == {(kind, True)}


async def test_a_provider_that_does_not_answer_leaves_it_open_and_is_asked_again(
    resources: Resources, simulator: RunningSimulator
) -> None:
    intent_id = await an_intent(resources)
    difference = await difference_of(resources, intent_id)
    assert difference is not None
    await simulator.script("refund", "500_after_effect", times=1)
    assert [one.is_mended for one in await mend([difference], resources)] == [False]
    assert await breaks_of(resources, intent_id) == [("order_lost", False)]
    # The 500 had its effect: the money is back, and is not given a second time.
    assert [one.is_mended for one in await mend([difference], resources)] == [True]
    assert simulator.money().intents[intent_id].refund_count == 1


async def test_a_list_that_breaks_off_is_no_list(resources: Resources, simulator: RunningSimulator) -> None:
    await simulator.script("list", "outage", times=None)
    with pytest.raises(ListingInterrupted):
        await compared(resources)


async def test_a_payment_that_agrees_is_no_difference(resources: Resources, sale: OnSale) -> None:
    _, intent_id = await a_paid_order(resources, sale)
    assert await difference_of(resources, intent_id) is None


async def test_payments_that_are_not_ours_are_left_alone(resources: Resources, simulator: RunningSimulator) -> None:
    """The account is somebody else's, too: what names no order, or not as we do, is not ours to give back."""
    before = (await compared(resources)).foreign_count
    key = uuid4().hex
    parameters = {
        "amount": 500,
        "currency": "eur",
        "payment_method_types": ["card"],
        "metadata": {"order_id": "shop 7"},
    }
    said = await resources.gateway._ask("post", "/v1/payment_intents", parameters, key)
    comparison = await compared(resources)
    assert comparison.foreign_count == before + 1
    assert said.thing["id"] not in {one.payment.intent_id for one in comparison.differences}  # type: ignore[union-attr]


async def test_an_order_being_paid_for_learns_of_its_payment_and_is_not_given_back(
    resources: Resources, sale: OnSale
) -> None:
    """The backup was taken after the order was made and before the provider's id of it was stored."""
    user_id = a_user()
    hold = await sale.hold(user_id, sale.seats[:2])
    checkout = check_out(sale.event_id, user_id, hold.hold_id)
    await sale.run(checkout)
    intent_id = await an_intent(resources, OrderId(checkout.command_id))
    difference = await difference_of(resources, intent_id)
    assert difference is not None
    assert difference.kind == "payment_unknown_to_us"
    assert [one.is_mended for one in await mend([difference], resources)] == [True]
    stored = await sale.pool.fetchval("SELECT intent_id FROM payments WHERE order_id = $1", checkout.command_id)
    assert stored == intent_id
    assert await difference_of(resources, intent_id) is None


async def test_an_order_given_back_since_is_given_back_in_our_books_and_not_paid_twice(
    resources: Resources, sale: OnSale, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[AnyCommand] = []

    async def send(command: AnyCommand) -> None:
        told.append(command)

    monkeypatch.setattr(resources.sender, "send", send)
    order_id, intent_id = await a_paid_order(resources, sale)
    refund_id = uuid4()
    await resources.gateway.refund(
        intent_id, amount=AMOUNT, currency="EUR", key=f"refund:{refund_id}", mark=str(refund_id)
    )
    difference = await difference_of(resources, intent_id)
    assert difference is not None
    assert difference.kind == "refund_lost"
    assert [one.is_mended for one in await mend([difference], resources)] == [True]
    (command,) = told
    assert isinstance(command, RefundOrder)
    assert (command.command_id, command.order_id, command.as_organiser) == (refund_id, order_id, True)
    await sale.run(command)
    assert await sale.status_of("orders", order_id) == "refunding"
    assert await difference_of(resources, intent_id) is None, "under the provider's name for it, it is ours again"
    assert simulator.money().intents[intent_id].refund_count == 1


async def test_a_part_that_went_back_is_left_to_a_person(
    resources: Resources, sale: OnSale, simulator: RunningSimulator
) -> None:
    _, intent_id = await a_paid_order(resources, sale)
    await resources.gateway.refund(intent_id, amount=AMOUNT / 2, currency="EUR", key=uuid4().hex, mark=str(uuid4()))
    difference = await difference_of(resources, intent_id)
    assert difference is not None
    assert (difference.kind, difference.amount) == ("refund_in_part", AMOUNT / 2)
    assert [one.is_mended for one in await mend([difference], resources)] == [False]
    assert await breaks_of(resources, intent_id) == [("refund_in_part", False)]
    assert simulator.money().intents[intent_id].refunded_minor == 4500


async def test_what_may_have_gone_back_already_is_not_given_before_a_person_has_said(
    resources: Resources, sale: OnSale, simulator: RunningSimulator
) -> None:
    """The buyer sees his ticket valid again, and asks for its money a second time."""
    order_id, intent_id = await a_paid_order(resources, sale)
    await resources.gateway.refund(intent_id, amount=AMOUNT / 2, currency="EUR", key=uuid4().hex, mark=str(uuid4()))
    difference = await difference_of(resources, intent_id)
    assert difference is not None
    await mend([difference], resources)
    due = RefundDue(
        order_id=order_id,
        intent_id=intent_id,
        provider_key=uuid4().hex,
        amount=AMOUNT / 2,
        currency="EUR",
        refund_id=RefundId(uuid4()),
    )
    assert await give_it_back(sale.event_id, due, resources) is False
    assert ("refund_refused", False) in await breaks_of(resources, intent_id)
    assert simulator.money().intents[intent_id].refunded_minor == 4500
    # Negative control: it is the open break that keeps it.
    await close_break(resources.pool, "refund_in_part", intent_id)
    assert await give_it_back(sale.event_id, due, resources) is True
    assert simulator.money().intents[intent_id].refunded_minor == 9000


async def test_a_refund_that_we_know_is_no_difference(resources: Resources, sale: OnSale) -> None:
    order_id, intent_id = await a_paid_order(resources, sale)
    tickets = await sale.pool.fetch("SELECT id FROM tickets WHERE order_id = $1 ORDER BY id", order_id)
    command = refund(sale.event_id, order_id, ticket_ids=(tickets[0]["id"],))
    await sale.run(command)
    mark = str(command.command_id)
    await resources.gateway.refund(intent_id, amount=AMOUNT / 2, currency="EUR", key=f"refund:{mark}", mark=mark)
    assert await difference_of(resources, intent_id) is None


async def test_nothing_is_asked_of_the_provider_until_somebody_has_looked(
    settings: Settings, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Books that came back are old: the reconciler of a copy would give real buyers' money back."""
    rounds = 0

    async def finish_silent(_: Resources) -> int:
        nonlocal rounds
        rounds += 1
        return 0

    monkeypatch.setattr(reconciler, "finish_silent", finish_silent)
    async with a_database_of_its_own(settings) as own:
        hurried = own.model_copy(update={"payment_unknown_seconds": 0.03, "payment_api_url": simulator.url})
        connection = await asyncpg.connect(own.postgres_url)
        await backups.record_restore(connection, datetime.now(UTC))
        gateway = PaymentGateway(hurried)
        async with await open_pool(own, application_name="restore test", size=2) as pool:
            resources = Resources(hurried, pool, gateway, None, None, asyncio.Semaphore(1))  # type: ignore[arg-type]
            stopping, asked = asyncio.Event(), asyncio.Event()
            find_open_restore = reconciler.find_open_restore

            async def find(pool: Any) -> datetime | None:
                asked.set()
                return await find_open_restore(pool)

            monkeypatch.setattr(reconciler, "find_open_restore", find)
            running = asyncio.create_task(reconciler.run(resources, stopping))
            for _ in range(3):
                await asyncio.wait_for(asked.wait(), 10)
                asked.clear()
            assert rounds == 0
            await backups.close_restores(pool)
            await eventually(lambda: rounds > 0, 10)
            stopping.set()
            await running
        await connection.close()
        await gateway.close()
