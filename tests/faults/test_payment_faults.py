"""Does every order end well, whatever the payment provider does?

Well means: charged once and with tickets, or not charged and the seats free again. And a buyer is never told that a payment
failed while nobody knows.
"""

import asyncio
from uuid import uuid4

import pytest

from contracts.ids import command_id_of_key
from ops.payment_simulator.faults import FaultName
from tests.eventually import eventually
from tests.faults.world import (
    BAD_CARD,
    CARD_THAT_FAILS_AT_CAPTURE,
    Answer,
    Buyer,
    Event,
    HeldSeats,
    World,
)

# Longer than the read timeout of these tests, so that the caller has given up when it happens.
LATE_MS = 800
# Shorter than the read timeout: the payment is authorised, but only when the event has been cancelled.
CANCELLED_WITHIN_MS = 300
NOT_BROKEN = {"payment_breaker_failures": "1000"}

# By fault and operation, how the order may end: "sold" or "cancelled". Who cannot know whether a request may still arrive
# late has both.
ENDINGS: dict[FaultName, dict[str, set[str]]] = {
    "drop_request": {"create": {"sold"}, "confirm": {"sold"}, "capture": {"sold"}},
    "drop_reply": {"create": {"sold"}, "confirm": {"sold"}, "capture": {"sold"}},
    # The provider repeats the 500 under that key: what was not made cannot be made any more under it.
    "500_before": {"create": {"cancelled"}, "confirm": {"cancelled"}, "capture": {"sold"}},
    "500_after_effect": {"create": {"cancelled"}, "confirm": {"sold"}, "capture": {"sold"}},
    "delay": {"create": {"sold"}, "confirm": {"sold", "cancelled"}, "capture": {"sold"}},
    "apply_late": {"create": {"sold"}, "confirm": {"sold", "cancelled"}, "capture": {"sold"}},
    "429": {"create": {"sold"}, "confirm": {"sold"}, "capture": {"sold"}},
    "409_in_use": {"create": {"sold"}, "confirm": {"sold"}, "capture": {"sold"}},
    "outage": {"create": {"sold"}, "confirm": {"sold", "cancelled"}, "capture": {"sold"}},
}


def test_every_fault_of_the_simulator_is_tried() -> None:
    assert set(ENDINGS) == set(FaultName.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("operation", ["create", "confirm", "capture"])
async def test_an_order_ends_well_whatever_the_provider_does(world: World, operation: str) -> None:
    event = await world.an_event(seats=2 * len(ENDINGS))
    world.start_consumers(**NOT_BROKEN)
    answers = await asyncio.gather(
        *(buy_under(world, event, operation, fault, place) for place, fault in enumerate(ENDINGS))
    )
    await world.everything_agrees(event)
    assert await world.fired() == [1] * len(ENDINGS)
    for fault, answer in zip(ENDINGS, answers, strict=True):
        await ended_well(world, answer, ENDINGS[fault][operation], because=fault)


async def test_a_void_reaches_the_provider_whatever_it_does(world: World) -> None:
    """The event is cancelled while the buyer pays, and then the cancellation of the payment goes wrong."""
    events = [await world.an_event() for _ in ENDINGS]
    world.start_consumers(**NOT_BROKEN)
    voided = (cancelled_under(world, event, fault) for event, fault in zip(events, ENDINGS, strict=True))
    answers = await asyncio.gather(*voided)
    for event, answer, fault in zip(events, answers, ENDINGS, strict=True):
        await world.everything_agrees(event)
        await ended_well(world, answer, {"cancelled"}, because=fault)
    assert await world.fired() == [1] * 2 * len(ENDINGS)


async def test_an_unknown_outcome_is_never_told_as_a_failure(world: World) -> None:
    """The card is charged, no reply ever comes, and the buyer asks again and again."""
    event = await world.an_event()
    world.start_consumers(**NOT_BROKEN)
    buyer = await world.a_buyer(event)
    hold = await buyer.hold(event.seats[:2])
    told_before = len(buyer.answers)  # it may have been told to ask again: the consumers have just begun
    await world.script("confirm", "drop_reply", times=3)
    await world.script("get", "drop_request", times=None)
    paying = asyncio.create_task(buyer.check_out(hold))
    await eventually(lambda: any(answer.status == 202 for answer in buyer.answers[told_before:]), 10)
    await eventually(lambda: all_have_struck(world), 10)
    await world.clear_faults()
    answer = await paying
    assert answer.status == 201, answer
    while_waiting = {(one.status, one.code) for one in buyer.answers[told_before:-1]}
    assert while_waiting <= {(202, ""), (409, "still_in_progress")}
    await world.everything_agrees(event)
    await ended_well(world, answer, {"sold"})


async def test_an_outage_opens_the_breaker_and_keeps_the_holds(world: World) -> None:
    event = await world.an_event()
    world.start_consumers(payment_breaker_failures="3", payment_breaker_seconds="5")
    early, late = await world.a_buyer(event), await world.a_buyer(event)
    first, second = await early.hold(event.seats[:2]), await late.hold(event.seats[2:4])
    await world.script("*", "outage", times=None)
    paying = asyncio.create_task(early.check_out(first))
    await eventually(lambda: struck(world, 3), 10)
    refused = await late.check_out_once(second)
    assert (refused.status, refused.code) == (503, "payment_unavailable"), refused
    assert int(refused.headers["retry-after"]) > 0
    assert (await event.sale.status_of("holds", second.id)) == "active"
    await world.clear_faults()
    # Whoever had been asking when it began, and whoever was turned away, pay when it is over.
    assert (await paid_in_the_end(late, second)).status == 201
    assert (await paying).status in (201, 409, 503)
    await world.everything_agrees(event)


async def test_after_a_declined_card_another_one_pays(world: World) -> None:
    event = await world.an_event()
    world.start_consumers()
    buyer = await world.a_buyer(event)
    hold = await buyer.hold(event.seats[:2])
    declined = await buyer.check_out(hold, payment_method=BAD_CARD)
    assert (declined.status, declined.code) == (402, "payment_declined")
    answer = await buyer.check_out(hold)
    assert answer.body["orderId"] != declined.body["orderId"]
    await world.everything_agrees(event)
    await ended_well(world, answer, {"sold"})


async def test_an_authorisation_that_is_lost_before_capture_takes_the_tickets_back(world: World) -> None:
    event = await world.an_event()
    world.start_consumers()
    buyer = await world.a_buyer(event)
    answer = await buyer.check_out(await buyer.hold(event.seats[:2]), payment_method=CARD_THAT_FAILS_AT_CAPTURE)
    await eventually(lambda: has_status(world, answer, "cancelled"), 15)
    await world.at_rest(event)
    await world.books_agree(event)
    assert set((await event.sale.statuses()).values()) == {"available"}
    assert await world.fetch("SELECT 1 FROM tickets WHERE event_id = $1 AND status = 'valid'", event.id) == []


async def test_an_event_cancelled_while_the_buyer_pays_charges_nobody(world: World) -> None:
    event = await world.an_event()
    world.start_consumers()
    buyer = await world.a_buyer(event)
    hold = await buyer.hold(event.seats[:2])
    await world.script("confirm", "delay", ms=CANCELLED_WITHIN_MS)
    paying = asyncio.create_task(buyer.check_out(hold))
    await cancelled_in_the_middle(world, event)
    answer = await paying
    await world.everything_agrees(event)
    await ended_well(world, answer, {"cancelled"})


async def test_two_checkouts_of_one_hold_pay_once(world: World) -> None:
    event = await world.an_event()
    world.start_consumers()
    buyer = await world.a_buyer(event)
    hold = await buyer.hold(event.seats[:2])
    first, second = await asyncio.gather(buyer.check_out(hold), buyer.check_out(hold))
    assert first.raw == second.raw
    await world.everything_agrees(event)
    await ended_well(world, first, {"sold"})
    assert len(await world.fetch("SELECT 1 FROM orders WHERE event_id = $1", event.id)) == 1


async def test_one_key_ten_times_in_parallel_is_one_charge_and_one_answer(world: World) -> None:
    event = await world.an_event()
    world.start_consumers()
    buyer = await world.a_buyer(event)
    hold, key = await buyer.hold(event.seats[:2]), str(uuid4())
    answers = await asyncio.gather(*(buyer.check_out(hold, key=key) for _ in range(10)))
    assert {(answer.status, answer.raw) for answer in answers} == {(201, answers[0].raw)}
    other_body = await buyer.check_out(hold, payment_method="pm_card_mastercard", key=key)
    assert (other_body.status, other_body.code) == (422, "idempotency_key_reused")
    await world.everything_agrees(event)
    await ended_well(world, answers[0], {"sold"})


# ---- what buyers do and what must be true


async def buy_under(world: World, event: Event, operation: str, fault: FaultName, place: int) -> Answer:
    """Buy two seats while that call of this order goes wrong once."""
    buyer, key = await world.a_buyer(event), str(uuid4())
    await world.script(operation, fault, ms=LATE_MS, metadata=order_of(buyer, key))
    hold = await buyer.hold(event.seats[2 * place : 2 * place + 2])
    return await buyer.check_out(hold, key=key)


async def cancelled_under(world: World, event: Event, fault: FaultName) -> Answer:
    """Pay for an event that is cancelled meanwhile, and have the payment's cancellation go wrong once."""
    buyer, key = await world.a_buyer(event), str(uuid4())
    await world.script("confirm", "delay", ms=CANCELLED_WITHIN_MS, metadata=order_of(buyer, key))
    await world.script("cancel", fault, ms=LATE_MS, metadata=order_of(buyer, key))
    paying = asyncio.create_task(buyer.check_out(await buyer.hold(event.seats[:2]), key=key))
    await cancelled_in_the_middle(world, event)
    return await paying


def order_of(buyer: Buyer, key: str) -> dict[str, str]:
    """What the payment of this checkout will carry: the order's id follows from the key."""
    order_id = command_id_of_key(user_id=buyer.user.id, route="checkout", idempotency_key=key)
    return {"order_id": str(order_id)}


async def ended_well(world: World, answer: Answer, allowed: set[str], *, because: str = "") -> None:
    """The order came to one of these ends, and to all of it: money, tickets, seats and what the buyer was told."""
    order = await world.order(answer.body["orderId"])
    tickets = await world.fetch("SELECT 1 FROM tickets WHERE order_id = $1 AND status = 'valid'", order["id"])
    seats = await world.fetch(
        "SELECT 1 FROM seats WHERE event_id = $1 AND order_id = $2", order["event_id"], order["id"]
    )
    captures = sum(intent.capture_count for intent in world.intents(str(order["id"])))
    ending = {"completed": "sold", "cancelled": "cancelled"}[order["status"]]
    assert ending in allowed, (because, order)
    assert (answer.status == 201) == (ending == "sold"), (because, answer)
    assert (captures, len(tickets), len(seats)) == ((1, 2, 2) if ending == "sold" else (0, 0, 0)), because


async def cancelled_in_the_middle(world: World, event: Event) -> None:
    """The organiser cancels the event when the payment has begun."""
    await eventually(lambda: world.fetch("SELECT 1 FROM orders WHERE event_id = $1", event.id), 10)
    await world.fetch("UPDATE events SET status = 'cancelled' WHERE id = $1", event.id)


async def all_have_struck(world: World) -> bool:
    return all(times > 0 for times in await world.fired())


async def struck(world: World, times: int) -> bool:
    return sum(await world.fired()) >= times


async def has_status(world: World, answer: Answer, status: str) -> bool:
    return bool((await world.order(answer.body["orderId"]))["status"] == status)


async def paid_in_the_end(buyer: Buyer, hold: HeldSeats) -> Answer:
    """Ask with new keys, as somebody does who was told to try again shortly."""

    async def paid() -> Answer | None:
        answer = await buyer.check_out(hold)
        return None if answer.code == "payment_unavailable" else answer

    return await eventually(paid, 20)
