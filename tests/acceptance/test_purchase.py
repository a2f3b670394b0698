"""Can somebody buy a ticket, and what do they hear when they cannot?"""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from ops.stack import Stack
from ops.verify import simulator_log_path, verify_event
from tests.acceptance.conftest import Buyer
from tests.builders import OnSale
from tests.eventually import eventually


async def test_a_buyer_reserves_pays_owns_the_tickets_and_gets_a_mail(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    hold = await buyer.reserve(event, 0, 1)
    assert (hold.status, hold.body["total"], len(hold.body["seats"])) == (201, "90.00", 2)
    bought = await buyer.check_out(event, hold)
    assert (bought.status, bought.body["type"], len(bought.body["tickets"])) == (201, "order_completed", 2)
    orders = (await buyer.send("GET", "/api/orders")).body["orders"]
    assert [(order["id"], order["status"]) for order in orders] == [(bought.body["orderId"], "completed")]
    details = (await buyer.send("GET", f"/api/orders/{bought.body['orderId']}")).body
    assert [(item["seatNumber"], item["ticketStatus"]) for item in details["items"]] == [("1", "valid"), ("2", "valid")]

    async def mails() -> Any:
        mailbox = f"http://127.0.0.1:{running_system.ports['mailbox']}"
        async with aiohttp.ClientSession(mailbox) as http, http.get(f"/mails.json?to={buyer.email}") as response:
            return (await response.json())["mails"]

    assert "A test of patience" in (await eventually(mails, within_seconds=15))[0]["subject"]
    await books_agree(event, running_system)


async def test_the_seat_list_shows_what_is_taken(buyer: Buyer, event: OnSale) -> None:
    await buyer.reserve(event, 3)

    async def taken() -> bool:
        seats = (await buyer.send("GET", f"/api/events/{event.event_id}/seats")).body
        rows = seats["sections"][0]["rows"]
        return seats["availableCount"] == 59 and rows[0]["seats"][3]["status"] == "held"

    await eventually(taken)


async def test_the_best_available_seats_are_together(buyer: Buyer, event: OnSale) -> None:
    body = {"eventId": str(event.event_id), "bestAvailable": {"count": 4, "section": "Stalls"}}
    hold = await buyer.send("POST", "/api/seats/reserve", body)
    assert [(seat["row"], seat["seatNumber"]) for seat in hold.body["seats"]] == [("A", n) for n in "1234"]


async def test_a_taken_seat_is_a_conflict_that_names_it(buyers: Any, event: OnSale) -> None:
    quick, late = await buyers(), await buyers()
    await quick.reserve(event, 5)
    refused = await late.reserve(event, 4, 5)
    assert (refused.status, refused.body["code"]) == (409, "seats_unavailable")
    assert refused.body["seatIds"] == [str(event.seats[5])]
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_declined_card_keeps_the_seats_and_another_card_buys_them(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    hold = await buyer.reserve(event, 6, 7)
    declined = await buyer.check_out(event, hold, "pm_card_chargeDeclined")
    assert (declined.status, declined.body["code"]) == (402, "payment_declined")
    assert (await buyer.check_out(event, hold)).status == 201
    await books_agree(event, running_system)


async def test_a_bank_that_wants_a_word_is_satisfied_and_the_checkout_repeated(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    hold, key = await buyer.reserve(event, 20), uuid4().hex
    first = await buyer.check_out(event, hold, "pm_card_threeDSecure2Required", idempotency_key=key)
    assert (first.status, first.body["type"]) == (202, "payment_action_needed")
    assert first.body["clientSecret"]
    order = (await buyer.send("GET", f"/api/orders/{first.body['orderId']}")).body
    assert (order["status"], order["paymentStatus"]) == ("pending", "action_needed")
    await the_bank_is_satisfied(event, order["id"], running_system)
    again = await buyer.check_out(event, hold, "pm_card_threeDSecure2Required", idempotency_key=key)
    assert (again.status, again.body["type"], again.body["orderId"]) == (201, "order_completed", order["id"])
    await books_agree(event, running_system)


async def test_money_that_cannot_be_collected_ends_the_order_and_frees_its_seats(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    hold = await buyer.reserve(event, 21, 22)
    sold = await buyer.check_out(event, hold, "pm_card_captureFails")
    assert sold.status == 201

    async def cancelled() -> bool:
        order = (await buyer.send("GET", f"/api/orders/{sold.body['orderId']}")).body
        return order["status"] == "cancelled" and {item["ticketStatus"] for item in order["items"]} == {"void"}

    await eventually(cancelled, within_seconds=30)

    async def reserved() -> bool:
        # The ingress hears of the seats a moment after the database has them free.
        return (await buyer.reserve(event, 21, 22)).status == 201

    await eventually(reserved)
    await books_agree(event, running_system)


async def test_the_same_key_ten_times_at_once_is_one_order_and_one_answer(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    hold = await buyer.reserve(event, 8)
    key = uuid4().hex

    async def pay_until_answered() -> Any:
        async def answer() -> Any:
            got = await buyer.check_out(event, hold, idempotency_key=key)
            return got if got.status == 201 else None

        return (await eventually(answer, within_seconds=20)).body

    answers = await asyncio.gather(*(pay_until_answered() for _ in range(10)))
    assert all(answer == answers[0] for answer in answers)
    await books_agree(event, running_system)


async def test_the_same_key_with_another_body_is_refused(buyer: Buyer, event: OnSale) -> None:
    hold = await buyer.reserve(event, 9)
    key = uuid4().hex
    assert (await buyer.check_out(event, hold, idempotency_key=key)).status == 201
    other = await buyer.check_out(event, hold, "pm_card_mastercard", idempotency_key=key)
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")


async def test_a_repeated_reservation_with_a_key_is_one_hold(buyer: Buyer, event: OnSale) -> None:
    key = uuid4().hex
    first, second = [await buyer.reserve(event, 10, idempotency_key=key) for _ in range(2)]
    assert first.body == second.body


async def test_release_and_extend(buyer: Buyer, event: OnSale) -> None:
    hold = await buyer.reserve(event, 11)
    mine = {"eventId": str(event.event_id), "holdId": hold.body["holdId"]}
    extended = await buyer.send("POST", "/api/seats/extend", mine)
    assert (extended.status, extended.body["heldUntil"] > hold.body["heldUntil"]) == (200, True)
    assert (await buyer.send("DELETE", "/api/seats/release", mine)).status == 200
    again = await buyer.check_out(event, hold)
    assert (again.status, again.body["code"]) == (410, "hold_released")


async def test_respond_async_is_answered_at_once_and_found_later(buyer: Buyer, event: OnSale) -> None:
    accepted = await buyer.reserve(event, 12, prefer="respond-async")
    assert accepted.status == 202

    async def outcome() -> Any:
        found = await buyer.send("GET", accepted.headers["location"])
        return found if found.status != 202 else None

    found = await eventually(outcome)
    assert (found.status, found.body["type"]) == (201, "seats_reserved")


async def test_a_refusal_that_came_when_nobody_waited_is_found_too(buyers: Any, event: OnSale) -> None:
    quick, late = await buyers(), await buyers()
    await quick.reserve(event, 13)
    accepted = await late.reserve(event, 13, prefer="respond-async")

    async def outcome() -> Any:
        found = await late.send("GET", accepted.headers["location"])
        return found if found.status != 202 else None

    found = await eventually(outcome)
    assert (found.status, found.body["code"]) == (409, "seats_unavailable")


async def test_somebody_elses_order_and_command_do_not_exist(buyers: Any, event: OnSale) -> None:
    owner, stranger = await buyers(), await buyers()
    hold = await owner.reserve(event, 14)
    order = await owner.check_out(event, hold)
    for path in (
        f"/api/orders/{order.body['orderId']}",
        f"/api/commands/{order.body['orderId']}?eventId={event.event_id}",
    ):
        assert (await owner.send("GET", path)).status in (200, 201)
        assert (await stranger.send("GET", path)).status == 404


async def test_what_came_of_a_release_is_told_to_its_asker_only(buyers: Any, event: OnSale) -> None:
    owner, stranger = await buyers(), await buyers()
    hold = await owner.reserve(event, 16)
    mine = {"eventId": str(event.event_id), "holdId": hold.body["holdId"]}
    accepted = await owner.send("DELETE", "/api/seats/release", mine, prefer="respond-async")

    async def outcome() -> Any:
        found = await owner.send("GET", accepted.headers["location"])
        return found if found.status == 200 else None

    assert (await eventually(outcome)).body["type"] == "seats_released"
    assert (await stranger.send("GET", accepted.headers["location"])).status == 404


async def test_without_a_session_nothing_is_sold(running_system: Stack, event: OnSale) -> None:
    url = running_system.environment()["BOXOFFICE_PUBLIC_URL"]
    async with aiohttp.ClientSession(url) as http:
        stranger = Buyer(http, "")
        refused = await stranger.reserve(event, 15)
        assert (refused.status, refused.body["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"seatIds": []}, ""),
        ({"seatIds": ["x"]}, "/seatIds/0"),
        ({"seatIds": [str(uuid4())] * 2}, ""),
        ({"seatIds": [str(uuid4()) for _ in range(7)]}, "/seatIds"),
        ({"bestAvailable": {"count": 0}}, "/bestAvailable/count"),
        ({"bestAvailable": {"count": 2}, "price": "0.01"}, "/price"),
    ],
)
async def test_what_cannot_be_meant_is_pointed_at(buyer: Buyer, event: OnSale, body: Any, pointer: str) -> None:
    refused = await buyer.send("POST", "/api/seats/reserve", {"eventId": str(event.event_id), **body})
    assert (refused.status, refused.body["code"]) == (422, "invalid_request")
    assert pointer in [error["pointer"] for error in refused.body["errors"]]


async def test_an_event_that_is_not_there_sells_nothing(buyer: Buyer) -> None:
    body = {"eventId": str(uuid4()), "bestAvailable": {"count": 1}}
    refused = await buyer.send("POST", "/api/seats/reserve", body)
    assert (refused.status, refused.body["code"]) == (404, "event_unknown")


async def test_sixty_four_clients_on_sixty_seats_with_six_each(
    buyers: Any, event: OnSale, running_system: Stack
) -> None:
    crowd = [await buyers() for _ in range(64)]

    async def buy(buyer: Buyer, number: int) -> int:
        seats = [(number * 7 + step * 11) % 60 for step in range(6)]
        hold = await buyer.reserve(event, *seats)
        if hold.status != 201:
            assert hold.body["code"] == "seats_unavailable"
            return 0
        order = await buyer.check_out(event, hold)
        return len(order.body["tickets"]) if order.status == 201 else 0

    sold = sum(await asyncio.gather(*(buy(buyer, number) for number, buyer in enumerate(crowd))))
    assert sold >= 6
    assert await event.seats_sold_twice() == 0
    statuses = list((await event.statuses()).values())
    assert statuses.count("sold") == sold
    await books_agree(event, running_system)


async def the_bank_is_satisfied(event: OnSale, order_id: str, system: Stack) -> None:
    """What the buyer does on the bank's page."""
    intent_id = await event.pool.fetchval(
        "SELECT intent_id FROM payments WHERE event_id = $1 AND order_id = $2", event.event_id, UUID(order_id)
    )
    simulator = system.environment()["BOXOFFICE_PAYMENT_API_URL"]
    async with aiohttp.ClientSession(simulator) as http, http.post(f"/control/complete_action/{intent_id}") as done:
        assert done.status == 200, await done.text()


async def books_agree(event: OnSale, system: Stack) -> None:
    """The ledger, the tables and the payment provider's own log tell one story."""
    report = await verify_event(event.pool, event.event_id, simulator_log_path(system))
    assert report.is_clean, report
