"""Does the gateway tell a no from no answer, and does a repeat never pay twice?

The real gateway talks to the real simulator; the simulator's log says what happened to the money.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from consumers.circuit_breaker import BreakerState, CircuitBreaker
from consumers.payments.gateway import ListingInterrupted, PaymentGateway
from consumers.payments.outcomes import (
    ActionNeeded,
    Authorized,
    Canceled,
    Captured,
    Declined,
    IntentCreated,
    Refunded,
    Refused,
    Unavailable,
    Unknown,
)
from contracts.ids import EventId, OrderId
from contracts.money import UnusableAmount
from contracts.settings import Settings
from tests.eventually import eventually
from tests.simulated_payments import RunningSimulator

AMOUNT = Decimal("12.00")
READ_TIMEOUT_SECONDS = 0.5
VERBS = ("confirm", "capture", "cancel")

# What may end a call without an answer, and whether it took effect all the same.
SILENCES = [("drop_request", False), ("drop_reply", True), ("500_before", False), ("500_after_effect", True)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    simulator = RunningSimulator(tmp_path_factory.mktemp("payments"))
    yield simulator
    simulator.stop()


@pytest.fixture
async def simulator(running: RunningSimulator) -> RunningSimulator:
    await running.clear_faults()
    return running


@pytest.fixture
async def gateway(simulator: RunningSimulator) -> AsyncIterator[PaymentGateway]:
    gateway = a_gateway(simulator.url)
    yield gateway
    await gateway.close()


def a_gateway(url: str, *, failures: int = 1000) -> PaymentGateway:
    """Short timeouts, and a breaker that stays out of the way unless a test is about it."""
    settings = Settings(payment_api_url=url, payment_read_timeout_seconds=READ_TIMEOUT_SECONDS)
    return PaymentGateway(settings, CircuitBreaker(failures=failures, open_seconds=0.5, successes=2))


class Payment:
    """One order on its way through the gateway, with the keys its stage would have stored."""

    def __init__(self, gateway: PaymentGateway) -> None:
        self._gateway = gateway
        self.order_id = OrderId(uuid4())
        self.event_id = EventId(uuid4())
        self.provider_key = str(uuid4())
        self.intent_id = ""

    async def create(self) -> Any:
        said = await self._gateway.create(
            order_id=self.order_id,
            event_id=self.event_id,
            amount=AMOUNT,
            currency="EUR",
            key=f"{self.provider_key}:create",
        )
        if isinstance(said, IntentCreated):
            self.intent_id = said.intent_id
        return said

    async def confirm(self, card: str = "pm_card_visa") -> Any:
        return await self._gateway.confirm(self.intent_id, payment_method=card, key=f"{self.provider_key}:confirm")

    async def capture(self) -> Any:
        return await self._gateway.capture(self.intent_id, key=f"{self.provider_key}:capture")

    async def cancel(self) -> Any:
        return await self._gateway.cancel(self.intent_id, key=f"{self.provider_key}:cancel")

    async def refund(self, amount: Decimal = AMOUNT, key: str = "refund") -> Any:
        return await self._gateway.refund(
            self.intent_id, amount=amount, currency="EUR", key=f"{self.provider_key}:{key}", mark=key
        )

    async def read(self) -> Any:
        return await self._gateway.read(self.intent_id)


async def a_payment(gateway: PaymentGateway, *, ready_for: str = "confirm") -> Payment:
    payment = Payment(gateway)
    assert isinstance(await payment.create(), IntentCreated)
    if ready_for in ("capture", "cancel", "refund"):
        assert await payment.confirm() == Authorized()
    if ready_for == "refund":
        assert await payment.capture() == Captured()
    return payment


async def test_from_order_to_refund(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = Payment(gateway)
    assert await payment.create() == IntentCreated(payment.intent_id)
    assert await payment.read() == IntentCreated(payment.intent_id)
    assert await payment.confirm() == Authorized()
    assert await payment.read() == Authorized()
    assert await payment.capture() == Captured()
    assert await payment.read() == Captured()
    assert await payment.refund(Decimal("2.00"), "refund-1") == Refunded()
    assert await payment.read() == Captured()
    assert await payment.refund(Decimal("10.00"), "refund-2") == Refunded()
    assert await payment.read() == Refunded()
    (on_log,) = simulator.money().of_order(str(payment.order_id))
    assert (on_log.amount_minor, on_log.captured_minor, on_log.refunded_minor) == (1200, 1200, 1200)


async def test_every_call_repeated_with_its_key_happens_once(
    gateway: PaymentGateway, simulator: RunningSimulator
) -> None:
    payment = await a_payment(gateway, ready_for="refund")
    for call in (payment.confirm, payment.capture):
        assert await call() == Captured()
    # What was true when it was first asked for need not be true now: that is for the list to say.
    before = Unknown("answered_before", key_is_spent=True)
    assert [await payment.refund(Decimal("5.00")) for _ in range(3)] == [Refunded(), before, before]
    (on_log,) = simulator.money().of_order(str(payment.order_id))
    assert (on_log.capture_count, on_log.refund_count, on_log.refunded_minor) == (1, 1, 500)


async def test_a_refund_under_another_key_is_another_refund(
    gateway: PaymentGateway, simulator: RunningSimulator
) -> None:
    """The negative control of the test above."""
    payment = await a_payment(gateway, ready_for="refund")
    for key in ("one", "two"):
        assert await payment.refund(Decimal("5.00"), key) == Refunded()
    assert simulator.money().intents[payment.intent_id].refund_count == 2


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pm_card_chargeDeclined", "card_declined"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
    ],
)
async def test_a_declined_card(gateway: PaymentGateway, card: str, code: str) -> None:
    payment = await a_payment(gateway)
    declined = await payment.confirm(card)
    assert isinstance(declined, Declined)
    assert declined.code == code
    assert declined.message
    assert await payment.read() == declined
    assert await payment.confirm(card) == declined


async def test_an_action_at_the_bank(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway)
    needed = await payment.confirm("pm_card_threeDSecure2Required")
    assert isinstance(needed, ActionNeeded)
    assert needed.client_secret.startswith(payment.intent_id)
    assert await payment.read() == needed
    await simulator.control("POST", f"complete_action/{payment.intent_id}")
    assert await payment.read() == Authorized()


async def test_an_authorisation_that_is_gone_at_capture(gateway: PaymentGateway) -> None:
    payment = await a_payment(gateway)
    assert await payment.confirm("pm_card_captureFails") == Authorized()
    assert await payment.capture() == Canceled()
    assert await payment.read() == Canceled()


async def test_a_cancelled_intent_stays_dead(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway)
    assert await payment.cancel() == Canceled()
    assert await payment.cancel() == Canceled()
    assert await payment.confirm() == Canceled()
    assert await payment.capture() == Canceled()
    assert isinstance(await payment.refund(), Refused)
    assert simulator.money().intents[payment.intent_id].authorized_minor == 0


async def test_a_captured_intent_cannot_be_cancelled(gateway: PaymentGateway) -> None:
    payment = await a_payment(gateway, ready_for="refund")
    assert await payment.cancel() == Captured()


async def test_a_replayed_confirmation_tells_how_the_intent_stands_now(gateway: PaymentGateway) -> None:
    payment = await a_payment(gateway, ready_for="cancel")
    assert await payment.cancel() == Canceled()
    # The provider replays "requires_capture" from before the cancellation: believing it would sell unpaid seats.
    assert await payment.confirm() == Canceled()


async def test_definite_noes(gateway: PaymentGateway) -> None:
    payment = await a_payment(gateway)
    assert await payment.capture() == Refused("payment_intent_unexpected_state")
    assert isinstance(await payment.refund(), Refused)
    assert await payment.refund() == Unknown("answered_before", key_is_spent=True)
    paid = await a_payment(gateway, ready_for="refund")
    assert await paid.refund(Decimal("12.01")) == Refused("amount_too_large")
    paid.intent_id = "pi_none"
    assert await paid.read() == Refused("resource_missing")


async def test_an_intent_id_cannot_reach_another_address(gateway: PaymentGateway) -> None:
    assert isinstance(await gateway.read("../refunds?x="), Refused)


async def test_an_amount_that_does_not_fit_is_never_sent(gateway: PaymentGateway) -> None:
    with pytest.raises(UnusableAmount):
        await gateway.create(
            order_id=OrderId(uuid4()), event_id=EventId(uuid4()), amount=Decimal("0.001"), currency="EUR", key="k"
        )


async def test_a_key_used_for_something_else_settles_nothing(gateway: PaymentGateway) -> None:
    payment = await a_payment(gateway)
    assert await payment.confirm() == Authorized()
    assert await payment.confirm("pm_card_chargeDeclined") == Unknown("key_used_with_other_parameters")
    assert await payment.read() == Authorized()


# No answer is not an answer.


@pytest.mark.parametrize(("fault", "happened"), SILENCES)
@pytest.mark.parametrize("verb", VERBS)
async def test_silence_is_unknown_and_reading_settles_it(
    gateway: PaymentGateway, simulator: RunningSimulator, verb: str, fault: str, happened: bool
) -> None:
    payment = await a_payment(gateway, ready_for=verb)
    before = await payment.read()
    await simulator.script(verb, fault, times=None)
    assert isinstance(await getattr(payment, verb)(), Unknown)
    assert (await simulator.fired())[0] >= 1
    after = {"confirm": Authorized(), "capture": Captured(), "cancel": Canceled()}[verb]
    assert await payment.read() == (after if happened else before)


@pytest.mark.parametrize(("fault", "happened"), SILENCES)
async def test_silence_on_a_refund_never_gives_back_twice(
    gateway: PaymentGateway, simulator: RunningSimulator, fault: str, happened: bool
) -> None:
    payment = await a_payment(gateway, ready_for="refund")
    await simulator.script("refund", fault, times=None)
    assert isinstance(await payment.refund(), Unknown)
    await simulator.clear_faults()
    await payment.refund()
    expected = 0 if fault == "500_before" else 1
    assert simulator.money().intents[payment.intent_id].refund_count == expected


async def test_a_500_that_is_repeated_says_that_the_key_is_spent(
    gateway: PaymentGateway, simulator: RunningSimulator
) -> None:
    payment = await a_payment(gateway, ready_for="refund")
    await simulator.script("refund", "500_before")
    assert await payment.refund() == Unknown("status_500")
    assert await payment.refund() == Unknown("status_500", key_is_spent=True)


async def test_refunds_are_listed_with_their_marks(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway, ready_for="refund")
    for number in range(3):
        assert await payment.refund(Decimal("1.00"), f"refund-{number}") == Refunded()
    listed = await gateway.list_refunds(payment.intent_id)
    assert isinstance(listed, tuple)
    assert [(one.mark, one.amount, one.is_dead) for one in listed] == [
        (f"refund-{number}", Decimal("1.00"), False) for number in (2, 1, 0)
    ]
    assert await gateway.list_refunds((await a_payment(gateway)).intent_id) == ()


async def test_more_refunds_than_fit_on_a_page_are_all_listed(
    gateway: PaymentGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.payments.gateway.PAGE", 2)
    payment = await a_payment(gateway, ready_for="refund")
    for number in range(5):
        assert await payment.refund(Decimal("1.00"), f"refund-{number}") == Refunded()
    listed = await gateway.list_refunds(payment.intent_id)
    assert isinstance(listed, tuple)
    assert len({one.mark for one in listed}) == len(listed) == 5


async def test_without_the_list_there_is_no_knowing(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway, ready_for="refund")
    await simulator.script("list", "500_before", times=None)
    assert isinstance(await gateway.list_refunds(payment.intent_id), Unknown)


@pytest.mark.parametrize(("fault", "happened"), SILENCES)
async def test_silence_on_creation(
    gateway: PaymentGateway, simulator: RunningSimulator, fault: str, happened: bool
) -> None:
    payment = Payment(gateway)
    await simulator.script("create", fault, times=None)
    assert isinstance(await payment.create(), Unknown)
    found = await gateway.find_by_order(payment.order_id)
    assert isinstance(found, tuple)
    assert len(found) == int(happened)


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "429", "409_in_use"])
async def test_a_passing_silence_is_overcome_with_the_same_key(
    gateway: PaymentGateway, simulator: RunningSimulator, fault: str
) -> None:
    payment = await a_payment(gateway)
    await simulator.script("confirm", fault, times=2)
    assert await payment.confirm() == Authorized()
    assert await simulator.fired() == [2]


@pytest.mark.parametrize("fault", ["429", "409_in_use", "outage"])
async def test_busy_is_unknown_after_three_attempts_at_most(
    gateway: PaymentGateway, simulator: RunningSimulator, fault: str
) -> None:
    payment = await a_payment(gateway)
    await simulator.script("confirm", fault, times=None)
    assert isinstance(await payment.confirm(), Unknown)
    assert await simulator.fired() == [1 if fault == "outage" else 3]


async def test_a_500_is_not_asked_again(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway)
    await simulator.script("confirm", "500_before", times=None)
    assert await payment.confirm() == Unknown("status_500")
    assert await simulator.fired() == [1]


@pytest.mark.parametrize("fault", ["500_before", "outage", "drop_reply"])
async def test_reading_is_repeated_whatever_went_wrong(
    gateway: PaymentGateway, simulator: RunningSimulator, fault: str
) -> None:
    payment = await a_payment(gateway)
    await simulator.script("get", fault, times=2)
    assert await payment.read() == IntentCreated(payment.intent_id)


async def test_a_late_effect_is_found_by_reading_later(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway)
    await simulator.script("confirm", "apply_late", ms=3000)
    assert isinstance(await payment.confirm(), Unknown)
    assert await payment.read() == IntentCreated(payment.intent_id)

    async def is_authorized() -> bool:
        return bool(await payment.read() == Authorized())

    await eventually(is_authorized, within_seconds=10)


async def test_a_slow_provider_is_unknown(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    payment = await a_payment(gateway)
    await simulator.script("confirm", "delay", ms=3000)
    assert isinstance(await payment.confirm(), Unknown)
    assert await payment.read() == IntentCreated(payment.intent_id)


async def test_nobody_waits_longer_than_the_patience(
    gateway: PaymentGateway, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await a_payment(gateway)
    monkeypatch.setattr("consumers.payments.gateway.PATIENCE_SECONDS", 0.3)
    await simulator.script("confirm", "delay", ms=2000)
    assert await payment.confirm() == Unknown("timeout")


async def test_a_server_that_is_not_there(unused_tcp_port: int) -> None:
    gateway = a_gateway(f"http://127.0.0.1:{unused_tcp_port}")
    try:
        assert isinstance(await gateway.read("pi_any"), Unknown)
    finally:
        await gateway.close()


# The breaker.


async def test_the_breaker_opens_and_nothing_is_sent(simulator: RunningSimulator) -> None:
    gateway = a_gateway(simulator.url, failures=3)
    try:
        payment = await a_payment(gateway)
        await simulator.script("confirm", "drop_request", times=None)
        # Something was sent, so the breaker opening in the middle does not make it Unavailable.
        assert isinstance(await payment.confirm(), Unknown)
        assert gateway.breaker.state is BreakerState.OPEN
        said = await payment.confirm()
        assert isinstance(said, Unavailable)
        assert 0 < said.retry_after_seconds <= 0.5
        assert await simulator.fired() == [3]
        await simulator.clear_faults()
        await eventually(lambda: gateway.breaker.retry_after_seconds() == 0)
        assert await payment.confirm() == Authorized()
        assert await payment.capture() == Captured()
        assert all(gateway.breaker.allows() for _ in range(10))
    finally:
        await gateway.close()


async def test_noes_do_not_open_the_breaker(simulator: RunningSimulator) -> None:
    """The negative control: a provider that says no is well."""
    gateway = a_gateway(simulator.url, failures=1)
    try:
        payment = await a_payment(gateway)
        for _ in range(5):
            assert isinstance(await payment.confirm("pm_card_chargeDeclined"), Declined)
            assert isinstance(await payment.capture(), Refused)
        assert gateway.breaker.state is BreakerState.CLOSED
    finally:
        await gateway.close()


# Comparing books.


async def test_the_whole_list_is_read_page_by_page(gateway: PaymentGateway, simulator: RunningSimulator) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    made = await asyncio.gather(*(a_payment(gateway) for _ in range(101)))
    refunded = await a_payment(gateway, ready_for="refund")
    await refunded.refund(Decimal("2.50"))
    cancelled = await a_payment(gateway, ready_for="cancel")
    await cancelled.cancel()
    until = datetime.now(UTC) + timedelta(seconds=2)
    listed = {payment.intent_id: payment async for payment in gateway.list_between(since, until)}
    assert {payment.intent_id for payment in made} <= listed.keys()
    of_refunded = listed[refunded.intent_id]
    assert of_refunded.order_id == str(refunded.order_id)
    assert (of_refunded.amount, of_refunded.currency) == (AMOUNT, "EUR")
    assert (of_refunded.captured, of_refunded.refunded) == (AMOUNT, Decimal("2.50"))
    assert of_refunded.state == Captured()
    assert (listed[cancelled.intent_id].state, listed[cancelled.intent_id].refunded) == (Canceled(), Decimal(0))


async def test_an_interrupted_list_is_not_taken_for_the_whole(
    gateway: PaymentGateway, simulator: RunningSimulator
) -> None:
    await asyncio.gather(*(a_payment(gateway) for _ in range(101)))
    now = datetime.now(UTC)
    listing = gateway.list_between(now - timedelta(minutes=5), now + timedelta(seconds=2))
    await anext(listing)
    await simulator.script("list", "outage", times=None)
    with pytest.raises(ListingInterrupted):
        [payment async for payment in listing]


async def test_the_payments_of_an_order(gateway: PaymentGateway) -> None:
    payment = await a_payment(gateway, ready_for="capture")
    found = await gateway.find_by_order(payment.order_id)
    assert isinstance(found, tuple)
    assert [(one.intent_id, one.state) for one in found] == [(payment.intent_id, Authorized())]
    assert await gateway.find_by_order(OrderId(uuid4())) == ()
