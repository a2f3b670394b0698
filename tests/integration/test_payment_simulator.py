"""Is the payment simulator as strict as Stripe, and does it never forget what it answered?

The official stripe library talks to the real process.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import stripe

from tests.eventually import eventually
from tests.simulated_payments import RunningSimulator

CREATE = {"amount": "1200", "currency": "eur", "capture_method": "manual"}
INTENTS = "/v1/payment_intents"
VISA = {"payment_method": "pm_card_visa"}


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
def own_simulator(tmp_path: Path) -> Iterator[RunningSimulator]:
    """For tests that kill it."""
    simulator = RunningSimulator(tmp_path)
    yield simulator
    simulator.stop()


@pytest.fixture
async def client(simulator: RunningSimulator) -> AsyncIterator[stripe.StripeClient]:
    transport = stripe.AIOHTTPClient(timeout=5)
    yield a_client(simulator, transport)
    await transport.close_async()  # type: ignore[no-untyped-call]  # untyped library


def a_client(simulator: RunningSimulator, transport: stripe.HTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient(
        "sk_test_of_the_tests", base_addresses={"api": simulator.url}, http_client=transport, max_network_retries=0
    )


async def an_intent(client: stripe.StripeClient, **parameters: Any) -> stripe.PaymentIntent:
    defaults = {"amount": 1200, "currency": "eur", "capture_method": "manual", "metadata": {"order_id": str(uuid4())}}
    return await client.v1.payment_intents.create_async({**defaults, **parameters})  # type: ignore[typeddict-item]


async def in_state(client: stripe.StripeClient, simulator: RunningSimulator, state: str) -> stripe.PaymentIntent:
    """An intent brought to that state by the ways a real one takes."""
    api = client.v1.payment_intents
    intent = await an_intent(client)
    if state == "requires_confirmation":
        return await an_intent(client, payment_method="pm_card_visa")
    if state == "requires_action":
        return await api.confirm_async(intent.id, {"payment_method": "pm_card_threeDSecure2Required"})
    if state in ("requires_capture", "succeeded"):
        intent = await api.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    if state == "succeeded":
        intent = await api.capture_async(intent.id)
    if state == "canceled":
        intent = await api.cancel_async(intent.id)
    return intent


async def created(simulator: RunningSimulator, key: str | None = None) -> str:
    _, body, _ = await simulator.post(INTENTS, CREATE, key)
    return str(json.loads(body)["id"])


async def test_a_payment_from_creation_to_refund(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    api = client.v1.payment_intents
    intent = await an_intent(client)
    assert intent.status == "requires_payment_method"
    intent = await api.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 1200, 0)
    intent = await api.capture_async(intent.id)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("succeeded", 0, 1200)
    await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 500})
    refund = await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert (refund.amount, refund.status) == (700, "succeeded")
    assert (await client.v1.refunds.retrieve_async(refund.id)).amount == 700
    assert [one.amount for one in (await client.v1.refunds.list_async({"payment_intent": intent.id})).data] == [
        700,
        500,
    ]
    intent = await api.retrieve_async(intent.id, {"expand": ["latest_charge"]})
    assert isinstance(intent.latest_charge, stripe.Charge)
    assert (intent.latest_charge.amount_refunded, intent.latest_charge.refunded) == (1200, True)
    on_log = simulator.money().intents[intent.id]
    assert (on_log.captured_minor, on_log.refunded_minor, on_log.capture_count, on_log.refund_count) == (
        1200,
        1200,
        1,
        2,
    )


async def test_a_part_is_captured_and_the_rest_given_back(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    intent = await in_state(client, simulator, "requires_capture")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 1201})
    assert refused.value.code == "amount_too_large"
    intent = await client.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 1000})
    assert (intent.amount_received, intent.amount_capturable) == (1000, 0)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 1001})


async def test_refunds_never_exceed_what_was_captured(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    intent = await in_state(client, simulator, "succeeded")
    asked = (client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 500}) for _ in range(5))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, stripe.Refund) for answer in answers) == 2
    refusals = [answer.code for answer in answers if isinstance(answer, stripe.InvalidRequestError)]
    assert refusals == ["amount_too_large"] * 3
    assert simulator.money().intents[intent.id].refunded_minor == 1000


@pytest.mark.parametrize("state", ["requires_payment_method", "requires_capture", "canceled"])
async def test_nothing_uncaptured_is_refunded(
    client: stripe.StripeClient, simulator: RunningSimulator, state: str
) -> None:
    intent = await in_state(client, simulator, state)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({"payment_intent": intent.id})


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        ("requires_payment_method", {"confirm", "cancel"}),
        ("requires_confirmation", {"confirm", "cancel"}),
        ("requires_action", {"confirm", "cancel"}),
        ("requires_capture", {"capture", "cancel"}),
        ("succeeded", set()),
        ("canceled", set()),
    ],
)
async def test_each_state_allows_what_stripe_allows(
    client: stripe.StripeClient, simulator: RunningSimulator, state: str, allowed: set[str]
) -> None:
    api = client.v1.payment_intents
    verbs: dict[str, Callable[[str], Awaitable[stripe.PaymentIntent]]] = {
        "confirm": lambda intent_id: api.confirm_async(intent_id, {"payment_method": "pm_card_visa"}),
        "capture": api.capture_async,
        "cancel": api.cancel_async,
    }
    for verb, ask in verbs.items():
        intent = await in_state(client, simulator, state)
        assert intent.status == state
        if verb in allowed:
            assert (await ask(intent.id)).status != state
            continue
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await ask(intent.id)
        assert refused.value.code == "payment_intent_unexpected_state"
        assert (await api.retrieve_async(intent.id)).status == state


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
async def test_declined_cards(client: stripe.StripeClient, card: str, code: str, decline_code: str) -> None:
    intent = await an_intent(client)
    with pytest.raises(stripe.CardError) as declined:
        await client.v1.payment_intents.confirm_async(intent.id, {"payment_method": card})
    assert (declined.value.http_status, declined.value.code) == (402, code)
    assert declined.value.error is not None
    assert declined.value.error.decline_code == decline_code
    intent = await client.v1.payment_intents.retrieve_async(intent.id)
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error is not None
    # The same intent takes another card.
    assert (await client.v1.payment_intents.confirm_async(intent.id, VISA)).status == "requires_capture"  # type: ignore[arg-type]


async def test_an_action_at_the_bank(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    intent = await in_state(client, simulator, "requires_action")
    assert intent.next_action is not None
    await simulator.control("POST", f"complete_action/{intent.id}")
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == "requires_capture"
    with pytest.raises(aiohttp.ClientResponseError):
        await simulator.control("POST", f"complete_action/{intent.id}")


async def test_an_authorisation_that_is_gone_at_capture(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    intent = await an_intent(client, payment_method="pm_card_captureFails", confirm=True)
    assert intent.status == "requires_capture"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.capture_async(intent.id)
    assert refused.value.code == "capture_charge_authorization_expired"
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == "canceled"
    assert simulator.money().intents[intent.id].captured_minor == 0


async def test_automatic_capture_takes_the_money_at_once(client: stripe.StripeClient) -> None:
    intent = await an_intent(client, capture_method="automatic", payment_method="pm_card_visa", confirm=True)
    assert (intent.status, intent.amount_received) == ("succeeded", 1200)


async def test_an_authorisation_expires_by_command(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    intent = await in_state(client, simulator, "requires_capture")
    await simulator.control("POST", f"expire/{intent.id}")
    intent = await client.v1.payment_intents.retrieve_async(intent.id)
    assert (intent.status, intent.cancellation_reason) == ("canceled", "automatic")


async def test_an_authorisation_expires_in_its_time_even_across_a_restart(tmp_path: Path) -> None:
    simulator = RunningSimulator(tmp_path, "--authorization-seconds", "1")
    try:
        intent_id = await created(simulator)
        await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA)
        simulator.kill()
        simulator.start()
        await eventually(lambda: simulator.money().intents[intent_id].state == "canceled")
    finally:
        simulator.stop()


async def test_lists_come_in_pages_newest_first(client: stripe.StripeClient) -> None:
    made = [(await an_intent(client)).id for _ in range(7)]
    since = (await client.v1.payment_intents.retrieve_async(made[0])).created
    page = await client.v1.payment_intents.list_async({"limit": 3, "created": {"gte": since}})
    listed = [intent.id async for intent in page.auto_paging_iter()]
    assert [one for one in listed if one in made] == made[::-1]
    assert page.has_more
    assert (await client.v1.payment_intents.list_async({"created": {"lt": since - 3600}})).data == []


async def test_search_finds_the_intents_of_an_order(client: stripe.StripeClient) -> None:
    order_id = str(uuid4())
    wanted = [(await an_intent(client, metadata={"order_id": order_id, "event_id": "e"})).id for _ in range(2)]
    await an_intent(client)
    found = await client.v1.payment_intents.search_async({"query": f"metadata['order_id']:'{order_id}'"})
    assert [intent.id for intent in found.data] == wanted[::-1]


async def test_unknown_things_are_404(client: stripe.StripeClient) -> None:
    for ask in (client.v1.payment_intents.retrieve_async, client.v1.payment_intents.capture_async):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await ask("pi_none")
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


# Idempotency.


async def test_the_same_key_replays_the_same_bytes(simulator: RunningSimulator) -> None:
    key = str(uuid4())
    first = await simulator.post(INTENTS, CREATE, key)
    await simulator.post(f"{INTENTS}/{json.loads(first[1])['id']}/confirm", VISA)
    again = await simulator.post(INTENTS, dict(reversed(CREATE.items())), key)
    assert again[:2] == first[:2]
    assert "Idempotent-Replayed" not in first[2]
    assert again[2]["Idempotent-Replayed"] == "true"


async def test_without_a_key_the_same_request_makes_two(simulator: RunningSimulator) -> None:
    """The negative control: it is the key that prevents the second intent."""
    assert await created(simulator) != await created(simulator)


async def test_refusals_that_executed_are_replayed(simulator: RunningSimulator) -> None:
    intent_id, key = await created(simulator), str(uuid4())
    declined = await simulator.post(f"{INTENTS}/{intent_id}/confirm", {"payment_method": "pm_card_chargeDeclined"}, key)
    again = await simulator.post(f"{INTENTS}/{intent_id}/confirm", {"payment_method": "pm_card_chargeDeclined"}, key)
    assert declined[0] == 402
    assert again[:2] == declined[:2]
    capture_key = str(uuid4())
    wrong = await simulator.post(f"{INTENTS}/{intent_id}/capture", {}, capture_key)
    await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA)
    assert (await simulator.post(f"{INTENTS}/{intent_id}/capture", {}, capture_key))[:2] == wrong[:2]


@pytest.mark.parametrize("path", [INTENTS, "/v1/refunds"])
async def test_other_parameters_under_the_same_key_are_refused(simulator: RunningSimulator, path: str) -> None:
    key = str(uuid4())
    await simulator.post(INTENTS, CREATE, key)
    status, body, _ = await simulator.post(path, {**CREATE, "amount": "1201"}, key)
    assert status == 400
    assert json.loads(body)["error"]["type"] == "idempotency_error"


async def test_a_key_whose_first_request_still_runs_is_in_use(simulator: RunningSimulator) -> None:
    key = str(uuid4())
    await simulator.script("create", "delay", ms=1000)
    first = asyncio.create_task(simulator.post(INTENTS, CREATE, key))

    async def in_use() -> bool:
        return bool((await simulator.control("GET", "state"))["keys_in_use"])

    await eventually(in_use)
    status, body, _ = await simulator.post(INTENTS, CREATE, key)
    assert (status, json.loads(body)["error"]["code"]) == (409, "idempotency_key_in_use")
    assert (await simulator.post(INTENTS, CREATE, key))[0] == 409
    assert (await first)[0] == 200
    assert (await simulator.post(INTENTS, CREATE, key))[:2] == (await first)[:2]


async def test_what_never_executed_is_not_stored(simulator: RunningSimulator) -> None:
    key = str(uuid4())
    await simulator.script("create", "429")
    await simulator.script("create", "409_in_use")
    await simulator.script("create", "outage")
    statuses = [(await simulator.post(INTENTS, CREATE, key))[0] for _ in range(3)]
    assert statuses == [429, 409, 503]
    assert (await simulator.post(INTENTS, CREATE, key, headers={}))[0] == 401
    assert (await simulator.post(INTENTS, {**CREATE, "amount": "12.5"}, key))[0] == 400
    assert (await simulator.post(INTENTS, {**CREATE, "surprise": "1"}, key))[0] == 400
    assert (await simulator.post(f"{INTENTS}/pi_none/capture", {}, key))[0] == 404
    status, _, headers = await simulator.post(INTENTS, CREATE, key)
    assert status == 200
    assert "Idempotent-Replayed" not in headers
    assert await simulator.fired() == [1, 1, 1]


@pytest.mark.parametrize("fault", ["500_before", "500_after_effect"])
async def test_a_500_is_stored_once_execution_began(simulator: RunningSimulator, fault: str) -> None:
    intent_id, key = await created(simulator), str(uuid4())
    await simulator.script("confirm", fault)
    first = await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA, key)
    again = await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA, key)
    assert first[0] == 500
    assert again[:2] == first[:2]
    assert await simulator.fired() == [1]
    expected = "requires_capture" if fault == "500_after_effect" else "requires_payment_method"
    assert simulator.money().intents[intent_id].state == expected


# Scripted faults.


@pytest.mark.parametrize(
    ("fault", "details", "happened"),
    [("drop_request", {}, False), ("drop_reply", {}, True), ("apply_late", {"ms": 300}, True)],
)
async def test_dropped_connections(
    simulator: RunningSimulator, fault: str, details: dict[str, int], happened: bool
) -> None:
    intent_id, key = await created(simulator), str(uuid4())
    await simulator.script("confirm", fault, **details)
    with pytest.raises(aiohttp.ClientError):
        await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA, key)
    assert await simulator.fired() == [1]
    if fault == "apply_late":
        assert simulator.money().intents[intent_id].state == "requires_payment_method"
    if happened:
        await eventually(lambda: simulator.money().intents[intent_id].state == "requires_capture")
    else:
        assert simulator.money().intents[intent_id].state == "requires_payment_method"
    await eventually(lambda: _answers(simulator, f"{INTENTS}/{intent_id}/confirm", key))
    _, _, headers = await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA, key)
    assert headers["Idempotent-Replayed"] == "true"


async def _answers(simulator: RunningSimulator, path: str, key: str) -> bool:
    return (await simulator.post(path, VISA, key))[0] == 200


async def test_a_late_effect_may_come_too_late(simulator: RunningSimulator) -> None:
    intent_id = await created(simulator)
    await simulator.script("confirm", "apply_late", ms=300)
    with pytest.raises(aiohttp.ClientError):
        await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA, str(uuid4()))
    assert (await simulator.post(f"{INTENTS}/{intent_id}/cancel", {}))[0] == 200

    async def nothing_runs() -> bool:
        return not (await simulator.control("GET", "state"))["keys_in_use"]

    await eventually(nothing_runs)
    assert simulator.money().intents[intent_id].state == "canceled"
    assert simulator.money().intents[intent_id].authorized_minor == 0


async def test_a_delayed_effect_happens_although_the_caller_left(simulator: RunningSimulator) -> None:
    intent_id = await created(simulator)
    await simulator.script("confirm", "delay", ms=300)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA, str(uuid4()))
    await eventually(lambda: simulator.money().intents[intent_id].state == "requires_capture")


@pytest.mark.parametrize("operation", ["create", "confirm", "capture", "cancel", "refund", "get", "list", "*"])
async def test_faults_strike_their_operation_only(
    client: stripe.StripeClient, simulator: RunningSimulator, operation: str
) -> None:
    await simulator.script(operation, "outage", times=None)
    struck = {name for name, answer in (await _one_of_each(client)).items() if answer == 503}
    assert struck == (
        {"create", "confirm", "capture", "cancel", "refund", "get", "list"} if operation == "*" else {operation}
    )
    assert await simulator.fired() == [len(struck)]


async def _one_of_each(client: stripe.StripeClient) -> dict[str, int]:
    api, refunds = client.v1.payment_intents, client.v1.refunds
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: an_intent(client),
        "confirm": lambda: api.confirm_async("pi_none"),
        "capture": lambda: api.capture_async("pi_none"),
        "cancel": lambda: api.cancel_async("pi_none"),
        "refund": lambda: refunds.create_async({"payment_intent": "pi_none"}),
        "get": lambda: api.retrieve_async("pi_none"),
        "list": lambda: api.list_async(),
    }
    answers = {}
    for name, call in calls.items():
        try:
            await call()
            answers[name] = 200
        except stripe.StripeError as problem:
            answers[name] = problem.http_status or 0
    return answers


async def test_faults_strike_the_orders_they_name(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    unlucky, lucky = str(uuid4()), str(uuid4())
    await simulator.script("*", "429", times=None, metadata={"order_id": unlucky})
    intent = await an_intent(client, metadata={"order_id": lucky})
    assert (await client.v1.payment_intents.cancel_async(intent.id)).status == "canceled"
    with pytest.raises(stripe.RateLimitError):
        await an_intent(client, metadata={"order_id": unlucky})
    await simulator.clear_faults()
    intent = await an_intent(client, metadata={"order_id": unlucky})
    await simulator.script("capture", "429", times=None, metadata={"order_id": unlucky})
    with pytest.raises(stripe.RateLimitError):
        await client.v1.payment_intents.capture_async(intent.id)


async def test_a_fault_strikes_as_often_as_asked(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    await simulator.script("get", "500_before", times=2)
    intent = await an_intent(client)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await client.v1.payment_intents.retrieve_async(intent.id)
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).id == intent.id
    assert await simulator.fired() == [2]


async def test_a_misspelt_fault_is_refused(simulator: RunningSimulator) -> None:
    for operation, fault, details in (
        ("confirm", "drop", {}),
        ("pay", "drop_reply", {}),
        ("confirm", "delay", {}),
        ("confirm", "429", {"time": 3}),
    ):
        with pytest.raises(aiohttp.ClientResponseError):
            await simulator.script(operation, fault, **details)


async def test_faults_cannot_be_scripted_unless_allowed(tmp_path: Path) -> None:
    simulator = RunningSimulator(tmp_path, control=False)
    try:
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            await simulator.script("confirm", "drop_reply")
    finally:
        simulator.stop()


# Durability.


async def test_keys_survive_a_power_cut(own_simulator: RunningSimulator) -> None:
    key, refund_key = str(uuid4()), str(uuid4())
    first = await own_simulator.post(INTENTS, {**CREATE, "confirm": "true", **VISA}, key)
    intent_id = json.loads(first[1])["id"]
    await own_simulator.post(f"{INTENTS}/{intent_id}/capture", {})
    refund = await own_simulator.post("/v1/refunds", {"payment_intent": intent_id, "amount": "200"}, refund_key)
    own_simulator.kill()
    own_simulator.start()
    again = await own_simulator.post(INTENTS, {**CREATE, "confirm": "true", **VISA}, key)
    refund_again = await own_simulator.post("/v1/refunds", {"payment_intent": intent_id, "amount": "200"}, refund_key)
    assert again[:2] == first[:2]
    assert refund_again[:2] == refund[:2]
    assert own_simulator.money().intents[intent_id].refunded_minor == 200
    assert (await own_simulator.post("/v1/refunds", {"payment_intent": intent_id, "amount": "1001"}))[0] == 400


async def test_a_power_cut_under_load_loses_nothing_that_was_answered(own_simulator: RunningSimulator) -> None:
    answered: dict[str, bytes] = {}

    async def a_buyer() -> None:
        while True:
            key = str(uuid4())
            _, answered[key], _ = await own_simulator.post(INTENTS, {**CREATE, "confirm": "true", **VISA}, key)

    buyers = [asyncio.create_task(a_buyer()) for _ in range(16)]
    await eventually(lambda: len(answered) > 200)
    own_simulator.kill()
    ends = await asyncio.gather(*buyers, return_exceptions=True)
    assert all(isinstance(end, aiohttp.ClientError) for end in ends)
    own_simulator.start()
    on_log = own_simulator.money()
    assert {on_log.intents[json.loads(body)["id"]].state for body in answered.values()} == {"requires_capture"}
    for key, body in list(answered.items())[-50:]:
        assert (await own_simulator.post(INTENTS, {**CREATE, "confirm": "true", **VISA}, key))[1] == body


async def test_a_torn_last_line_is_cut_off(own_simulator: RunningSimulator) -> None:
    intent_id = await created(own_simulator)
    own_simulator.kill()
    whole = own_simulator.log.read_bytes()
    own_simulator.log.write_bytes(whole + whole[: len(whole) // 2])
    own_simulator.start()
    await own_simulator.post(f"{INTENTS}/{intent_id}/confirm", VISA)
    assert own_simulator.money().intents[intent_id].state == "requires_capture"


async def test_a_spoilt_log_is_not_used(own_simulator: RunningSimulator) -> None:
    """The negative control of the torn line: only the last one may be unreadable."""
    await created(own_simulator)
    own_simulator.kill()
    own_simulator.log.write_bytes(b'{"torn\n' + own_simulator.log.read_bytes())
    with pytest.raises(AssertionError, match="did not start"):
        own_simulator.start()


def test_two_simulators_never_share_a_log(own_simulator: RunningSimulator, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="did not start"):
        RunningSimulator(tmp_path)
