"""Refunds and cancellations over HTTP, with the payment provider at the other end."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from ops.stack import Stack
from ops.verify import simulator_log_path, verify_event
from tests.acceptance.conftest import Answer, Buyer
from tests.acceptance.sessions import log_in_as_admin
from tests.builders import OnSale
from tests.eventually import eventually


@pytest.fixture
async def organiser(buyers: Any, system_pool: Any) -> Buyer:
    somebody = await buyers()
    await log_in_as_admin(somebody, system_pool)
    return somebody


@pytest.fixture
async def event(event: OnSale) -> OnSale:
    """An event whose buyers may give tickets back for a tenth of the price."""
    sql = "UPDATE events SET refund_until = now() + interval '1 day', refund_fee_rate = 0.1 WHERE id = $1"
    await event.pool.execute(sql, event.event_id)
    return event


async def bought(buyer: Buyer, event: OnSale, *seats: int) -> Answer:
    hold = await buyer.reserve(event, *seats)
    assert hold.status == 201, hold.body
    order = await buyer.check_out(event, hold)
    assert order.status == 201, order.body
    return order


async def refund(buyer: Buyer, order: Answer, key: str = "", **body: Any) -> Answer:
    path = f"/api/orders/{order.body['orderId']}/refund"
    return await buyer.send("POST", path, body, idempotency_key=key or uuid4().hex)


async def order_is(buyer: Buyer, order: Answer, status: str) -> None:
    async def is_so() -> bool:
        shown = await buyer.send("GET", f"/api/orders/{order.body['orderId']}")
        return bool(shown.body["status"] == status)

    await eventually(is_so, within_seconds=20)


async def books_agree(event: OnSale, system: Stack) -> None:
    async def agree() -> bool:
        return (await verify_event(event.pool, event.event_id, simulator_log_path(system))).is_clean

    await eventually(agree, within_seconds=20)


async def test_a_ticket_and_then_the_rest_of_an_order_go_back(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    order = await bought(buyer, event, 0, 1)
    first = order.body["tickets"][0]["ticketId"]
    part = await refund(buyer, order, ticketIds=[first], reason="one of us is ill")
    assert part.status == 201, part.body
    assert (part.body["amount"], part.body["feeKept"], part.body["ticketIds"]) == ("40.50", "4.50", [first])
    again = await refund(buyer, order, ticketIds=[first])
    assert (again.status, again.body["code"]) == (410, "ticket_not_valid")
    rest = await refund(buyer, order)
    assert (rest.status, rest.body["amount"]) == (201, "40.50")
    await order_is(buyer, order, "refunded")
    over = await refund(buyer, order)
    assert (over.status, over.body["code"]) == (409, "order_not_refundable")
    assert set((await event.statuses()).values()) == {"available"}
    await books_agree(event, running_system)


async def test_ten_at_once_with_one_key_and_with_ten_are_one_refund(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    order, key = await bought(buyer, event, 0, 1), uuid4().hex
    with_one_key = await asyncio.gather(*(refund(buyer, order, key) for _ in range(10)))
    assert {answer.status for answer in with_one_key} == {201}
    assert len({answer.body["refundId"] for answer in with_one_key}) == 1
    with_ten = await asyncio.gather(*(refund(buyer, order) for _ in range(10)))
    assert {answer.body["code"] for answer in with_ten} == {"order_not_refundable"}
    other_body = await refund(buyer, order, key, reason="another one")
    assert (other_body.status, other_body.body["code"]) == (422, "idempotency_key_reused")
    await order_is(buyer, order, "refunded")
    await books_agree(event, running_system)


async def test_with_one_key_two_orders_are_two_refunds(buyer: Buyer, event: OnSale) -> None:
    one, two, key = await bought(buyer, event, 0), await bought(buyer, event, 1), uuid4().hex
    answers = [await refund(buyer, order, key) for order in (one, two)]
    assert [answer.body["orderId"] for answer in answers] == [one.body["orderId"], two.body["orderId"]]


async def test_nobody_asks_for_somebody_elses_money(buyers: Any, event: OnSale) -> None:
    owner, stranger = await buyers(), await buyers()
    order = await bought(owner, event, 0)
    unknown = Answer(0, {"orderId": str(uuid4())}, {})
    for asked in (order, unknown):
        answer = await refund(stranger, asked)
        assert (answer.status, answer.body["code"]) == (404, "order_unknown")
    path = f"/api/admin/orders/{order.body['orderId']}/refund"
    assert (await stranger.send("POST", path, {})).status == 403


async def test_an_organiser_refunds_any_order_without_a_fee(
    buyer: Buyer, organiser: Buyer, event: OnSale, running_system: Stack
) -> None:
    order = await bought(buyer, event, 0)
    path = f"/api/admin/orders/{order.body['orderId']}/refund"
    answer = await organiser.send("POST", path, {"reason": "a complaint"})
    assert (answer.status, answer.body["amount"], answer.body["feeKept"]) == (201, "45.00", "0.00")
    await order_is(buyer, order, "refunded")
    unknown = await organiser.send("POST", f"/api/admin/orders/{uuid4()}/refund", {})
    assert (unknown.status, unknown.body["code"]) == (404, "order_unknown")
    await books_agree(event, running_system)


async def test_an_event_is_cancelled_and_everybody_is_refunded(
    buyers: Any, organiser: Buyer, event: OnSale, running_system: Stack
) -> None:
    owners = [await buyers() for _ in range(3)]
    orders = [await bought(buyer, event, place) for place, buyer in enumerate(owners)]
    admin, shown = f"/api/admin/events/{event.event_id}", f"/api/events/{event.event_id}"
    assert (await owners[0].send("GET", shown)).body["status"] == "on_sale"
    assert (await organiser.send("GET", f"{admin}/cancellation")).status == 404
    cancelled = await organiser.send("POST", f"{admin}/cancel", {"reason": "a storm"})
    assert (cancelled.status, cancelled.body["ordersToRefund"]) == (200, 3)
    assert (await owners[0].send("GET", shown)).body["status"] == "cancelled", "at once, and not from a cache"
    refused = await owners[0].reserve(event, 10)
    assert refused.status in (409, 410), refused.body
    again = await organiser.send("POST", f"{admin}/cancel", {"reason": "a storm"})
    assert (again.status, again.body["code"]) == (410, "event_cancelled")
    for buyer, order in zip(owners, orders, strict=True):
        await order_is(buyer, order, "refunded")

    async def is_finished() -> Any:
        progress = (await organiser.send("GET", f"{admin}/cancellation")).body
        return progress if progress["finishedAt"] else None

    progress = await eventually(is_finished, within_seconds=20)
    assert (progress["ordersRefunded"], progress["amountRefunded"], progress["currency"]) == (3, "135.00", "EUR")
    assert (progress["ordersWaiting"], progress["ordersRefunding"], progress["reason"]) == (0, 0, "a storm")
    assert (await refund(owners[0], orders[0])).body["code"] == "event_cancelled"
    await books_agree(event, running_system)
