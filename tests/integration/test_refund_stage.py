"""Does the money of a refund go back exactly once, whatever the provider does and however long ago it was asked?

The real stage talks to the real simulator, and the simulator's log says what happened to the money.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from consumers.circuit_breaker import CircuitBreaker
from consumers.payments import stage
from consumers.payments.gateway import PaymentGateway
from consumers.payments.outcomes import Authorized, Captured, Refunded
from consumers.payments.stage import Resources, refund
from contracts.commands import AnyCommand, PaymentCanceled, PaymentRefunded
from contracts.domain_events import RefundDue
from contracts.ids import EventId, OrderId, RefundId
from contracts.settings import Settings
from ops.payment_simulator.faults import FaultName
from ops.payment_simulator.log_reader import IntentOnLog
from tests.eventually import eventually
from tests.simulated_payments import RunningSimulator

PAID, PART = Decimal("90.00"), Decimal("40.50")
PART_MINOR = 4050
# Longer than the read timeout of these tests.
LATE_MS = 800
FAULTS: tuple[FaultName, ...] = FaultName.__args__  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    simulator = RunningSimulator(tmp_path_factory.mktemp("payments"))
    yield simulator
    simulator.stop()


@pytest.fixture
async def simulator(running: RunningSimulator) -> RunningSimulator:
    await running.clear_faults()
    return running


class Told:
    """Takes the commands that would go to the event."""

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []

    async def send(self, command: AnyCommand) -> None:
        self.commands.append(command)


@pytest.fixture
async def resources(settings: Settings, pool: Any, simulator: RunningSimulator) -> AsyncIterator[Resources]:
    overrides = {"payment_api_url": simulator.url, "payment_read_timeout_seconds": 0.5}
    of_test = settings.model_copy(update=overrides)
    gateway = PaymentGateway(of_test, CircuitBreaker(failures=1000, open_seconds=0.1, successes=1))
    sender: Any = Told()
    yield Resources(of_test, pool, gateway, publisher=None, sender=sender, slots=asyncio.Semaphore(4))  # type: ignore[arg-type]
    await gateway.close()


@dataclass
class Payment:
    """An order that was paid, and what goes back of it."""

    resources: Resources
    simulator: RunningSimulator
    event_id: EventId = field(default_factory=lambda: EventId(uuid4()))
    order_id: OrderId = field(default_factory=lambda: OrderId(uuid4()))
    intent_id: str = ""

    async def pay(self, *, card: str = "pm_card_visa", capture: bool = True) -> "Payment":
        gateway, key = self.resources.gateway, str(self.order_id)
        created = await gateway.create(
            order_id=self.order_id, event_id=self.event_id, amount=PAID, currency="EUR", key=f"{key}:create"
        )
        self.intent_id = created.intent_id  # type: ignore[union-attr]
        assert await gateway.confirm(self.intent_id, payment_method=card, key=f"{key}:confirm") == Authorized()
        if capture:
            assert await gateway.capture(self.intent_id, key=f"{key}:capture") == Captured()
        return self

    def due(self, amount: Decimal = PART) -> RefundDue:
        refund_id = RefundId(uuid4())
        return RefundDue(
            order_id=self.order_id,
            intent_id=self.intent_id,
            provider_key=f"refund:{refund_id}",
            amount=amount,
            currency="EUR",
            refund_id=refund_id,
        )

    async def give_back(self, due: RefundDue) -> bool:
        """One delivery of the message."""
        return await refund(self.event_id, due, self.resources)

    async def is_given_back(self, due: RefundDue) -> None:
        """Delivered again and again, as from the ladder, until it is settled."""
        await eventually(lambda: self.give_back(due), within_seconds=20)

    @property
    def told(self) -> list[AnyCommand]:
        return self.resources.sender.commands  # type: ignore[attr-defined, no-any-return]

    @property
    def on_log(self) -> IntentOnLog:
        return self.simulator.money().intents[self.intent_id]


@pytest.fixture
async def paid(resources: Resources, simulator: RunningSimulator) -> Payment:
    return await Payment(resources, simulator).pay()


@pytest.fixture
async def authorized(resources: Resources, simulator: RunningSimulator) -> Payment:
    return await Payment(resources, simulator).pay(capture=False)


# ---- how much, and of what


async def test_a_part_goes_back_and_the_event_is_told(paid: Payment) -> None:
    due = paid.due()
    assert await paid.give_back(due)
    assert (paid.on_log.refunded_minor, paid.on_log.kept_minor) == (PART_MINOR, 4950)
    (command,) = paid.told
    assert isinstance(command, PaymentRefunded)
    assert (command.order_id, command.refund_id) == (paid.order_id, due.refund_id)


async def test_two_refunds_of_the_same_amount_are_two(paid: Payment) -> None:
    for due in (paid.due(), paid.due()):
        assert await paid.give_back(due)
    assert (paid.on_log.refunded_minor, paid.on_log.refund_count) == (2 * PART_MINOR, 2)


@pytest.mark.parametrize("amount", [PART, PAID])
async def test_what_is_only_set_aside_is_taken_first(authorized: Payment, amount: Decimal) -> None:
    assert await authorized.give_back(authorized.due(amount))
    assert authorized.on_log.captured_minor == 9000, "letting go of it would lose what is kept"
    assert authorized.on_log.refunded_minor == amount * 100


async def test_when_the_authorisation_is_gone_the_order_ends(resources: Resources, simulator: RunningSimulator) -> None:
    payment = await Payment(resources, simulator).pay(card="pm_card_captureFails", capture=False)
    assert await payment.give_back(payment.due())
    (command,) = payment.told
    assert isinstance(command, PaymentCanceled)
    assert payment.on_log.captured_minor == 0


# ---- once


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_refund_is_given_once_whatever_the_provider_does(paid: Payment, fault: FaultName) -> None:
    due = paid.due()
    await paid.simulator.script("refund", fault, ms=LATE_MS if fault in ("delay", "apply_late") else 0)
    await paid.is_given_back(due)
    assert await paid.simulator.fired() == [1]
    assert (paid.on_log.refunded_minor, paid.on_log.refund_count) == (PART_MINOR, 1)


@pytest.mark.parametrize("fault", ["500_before", "drop_request", "outage"])
async def test_without_the_providers_list_nothing_is_asked(paid: Payment, fault: FaultName) -> None:
    await paid.simulator.script("list", fault, times=None)
    assert not await paid.give_back(paid.due())
    await paid.simulator.clear_faults()
    assert paid.on_log.refund_count == 0


async def test_ten_deliveries_at_once_give_back_once(paid: Payment) -> None:
    due = paid.due()
    await asyncio.gather(*(paid.give_back(due) for _ in range(10)))
    await paid.is_given_back(due)
    assert paid.on_log.refund_count == 1


async def test_when_the_provider_has_forgotten_the_key_its_list_remembers(paid: Payment) -> None:
    due = paid.due()
    assert await paid.give_back(due)
    await a_day_passes(paid)
    assert await paid.give_back(due)
    assert paid.on_log.refund_count == 1
    assert len(paid.told) == 2, "the event may have missed it the first time"


async def test_without_the_list_a_forgotten_key_pays_twice_and_it_is_seen(
    paid: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the list is not looked at, and a day passes."""
    monkeypatch.setattr(paid.resources.gateway, "list_refunds", an_empty_list)
    due = paid.due()
    assert await paid.give_back(due)
    await a_day_passes(paid)
    assert await paid.give_back(due)
    assert (paid.on_log.refund_count, paid.on_log.refunded_minor) == (2, 2 * PART_MINOR)


async def test_with_a_key_that_is_not_kept_it_is_paid_twice_and_it_is_seen(
    paid: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: every delivery asks with a key of its own, and nobody looks at the list."""
    monkeypatch.setattr(paid.resources.gateway, "list_refunds", an_empty_list)
    due = paid.due()
    for key in ("one", "two"):
        assert await paid.give_back(due.model_copy(update={"provider_key": f"{key}:{uuid4()}"}))
    assert paid.on_log.refund_count == 2


async def test_what_the_bank_has_sent_back_is_owed_again(paid: Payment) -> None:
    due = paid.due()
    assert await paid.give_back(due)
    await the_bank_sends_it_back(paid)
    assert paid.on_log.refunded_minor == 0
    assert await paid.give_back(due)
    assert paid.on_log.refunded_minor == PART_MINOR


# ---- what cannot be given back


async def test_what_the_provider_refuses_is_written_down_and_asked_for_again(paid: Payment) -> None:
    assert await paid.give_back(paid.due(PAID - 1))
    too_much = paid.due()
    assert not await paid.give_back(too_much)
    assert await breaks_of(paid) == [("refund_refused", False)]
    assert not await paid.give_back(too_much)
    assert await breaks_of(paid) == [("refund_refused", False)], "once while it is open"
    await the_bank_sends_it_back(paid)
    assert await paid.give_back(too_much)
    assert await breaks_of(paid) == [("refund_refused", True)]


async def test_what_somebody_has_given_back_by_hand_is_back(paid: Payment) -> None:
    said = await paid.resources.gateway.refund(
        paid.intent_id, amount=PAID, currency="EUR", key=uuid4().hex, mark="by hand"
    )
    assert said == Refunded()
    assert await paid.give_back(paid.due(PAID))
    assert (paid.on_log.refunded_minor, paid.on_log.refund_count) == (9000, 1)


async def test_after_so_many_errors_it_is_left_for_another_day(paid: Payment) -> None:
    due = paid.due()
    await paid.simulator.script("refund", "500_before", times=None)
    for _ in range(stage.REFUND_KEYS_MAX + 1):
        assert not await paid.give_back(due)
    await paid.simulator.clear_faults()
    assert not await paid.give_back(due)
    await a_day_passes(paid)
    assert await paid.give_back(due)
    assert paid.on_log.refund_count == 1


async def an_empty_list(_intent_id: str) -> tuple[Any, ...]:
    return ()


async def a_day_passes(payment: Payment) -> None:
    assert (await payment.simulator.control("DELETE", "keys"))["forgotten"] > 0


async def the_bank_sends_it_back(payment: Payment) -> None:
    said = await payment.resources.gateway._ask("get", "/v1/refunds", {"payment_intent": payment.intent_id})
    await payment.simulator.control("POST", f"fail_refund/{said.thing['data'][0]['id']}")  # type: ignore[union-attr]


async def breaks_of(payment: Payment) -> list[tuple[str, bool]]:
    """The kinds of differences written down for it, and whether each is closed."""
    records = await payment.resources.pool.fetch(
        "SELECT kind, repaired_at IS NOT NULL AS closed FROM breaks WHERE intent_id = $1", payment.intent_id
    )
    return [(record["kind"], record["closed"]) for record in records]
