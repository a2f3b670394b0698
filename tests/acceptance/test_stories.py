"""The whole of what we are for, over HTTP alone: a buyer's story and an organiser's, and the books agree after each."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from contracts.ids import EventId
from ops.stack import Stack
from ops.verify import simulator_log_path, verify_event
from tests.acceptance.conftest import Answer, Buyer
from tests.acceptance.sessions import log_in_as_admin
from tests.eventually import eventually

CARD = "pm_card_visa"


@pytest.fixture
async def organiser(buyers: Any, system_pool: Any) -> Buyer:
    """Somebody who runs the shop."""
    somebody = await buyers()
    await log_in_as_admin(somebody, system_pool)
    return somebody


async def yes(asked: Any, *statuses: int) -> Any:
    """What was answered, which must be a yes."""
    answer: Answer = await asked
    assert answer.status in (statuses or (200, 201)), (answer.status, answer.body)
    return answer.body


async def an_event(organiser: Buyer, **fields: Any) -> str:
    """A hall with twelve seats and an event in it, as the organiser makes them."""
    sections = [
        {
            "name": "Stalls",
            "rows": 2,
            "seatsPerRow": 5,
            "price": "50.00",
            "tiers": [{"name": "Child", "price": "20.00"}],
        },
        {"name": "Box", "rows": 1, "seatsPerRow": 2, "price": "90.00"},
    ]
    house = {
        "name": f"The Playhouse {uuid4().hex[:8]}",
        "city": "Leuven",
        "timeZone": "Europe/Brussels",
        "sectionConfig": {"sections": sections},
    }
    venue = await yes(organiser.send("POST", "/api/venues", house))
    now = datetime.now(UTC)
    body = {
        "name": f"An evening {uuid4().hex[:8]}",
        "artist": "The Understudies",
        "venueId": venue["id"],
        "eventDate": (now + timedelta(days=30)).isoformat(),
        "onSaleDate": (now - timedelta(minutes=1)).isoformat(),
        "feeRate": "0.10",
        "taxRate": "0.06",
        "refundUntil": (now + timedelta(days=20)).isoformat(),
        "refundFeeRate": "0.05",
        **fields,
    }
    made = await yes(organiser.send("POST", "/api/events", body))
    return str(made["id"])


async def is_on_sale(buyer: Buyer, event_id: str) -> None:
    async def is_so() -> bool:
        return bool((await buyer.send("GET", f"/api/events/{event_id}")).body["status"] == "on_sale")

    await eventually(is_so, within_seconds=20)


async def hold(buyer: Buyer, event_id: str, count: int, **fields: Any) -> Any:
    """The best seats there are, as soon as the ingress knows of them."""
    wanted = {
        "eventId": event_id,
        "bestAvailable": {"count": count, "section": fields.pop("section", "Stalls")},
        **fields,
    }

    async def held() -> Any:
        answer = await buyer.send("POST", "/api/seats/reserve", wanted)
        assert answer.status in (201, 409, 503), answer.body
        return answer.body if answer.status == 201 else None

    return await eventually(held, within_seconds=20)


async def pay(buyer: Buyer, event_id: str, hold_id: str) -> Any:
    body = {"eventId": event_id, "holdId": hold_id, "paymentMethod": CARD}
    return await yes(buyer.send("POST", "/api/checkout", body), 201)


async def mail_to(buyer: Buyer, system: Stack, words: str) -> str:
    """The text of the mail that has these words in its subject."""

    async def arrived() -> Any:
        mailbox = f"http://127.0.0.1:{system.ports['mailbox']}"
        async with aiohttp.ClientSession(mailbox) as http, http.get(f"/mails.json?to={buyer.email}") as response:
            mails = (await response.json())["mails"]
        return next((mail["text"] for mail in mails if words in mail["subject"].lower()), None)

    return str(await eventually(arrived, within_seconds=20))


async def order_is(buyer: Buyer, order_id: str, status: str) -> Any:
    async def so() -> Any:
        order = (await buyer.send("GET", f"/api/orders/{order_id}")).body
        return order if order["status"] == status else None

    return await eventually(so, within_seconds=30)


async def books_agree(event_id: str, pool: Any, system: Stack, organiser: Buyer) -> None:
    """Ours with each other and with the provider's, and the report with both."""

    async def settled() -> bool:
        owed = await pool.fetchval(
            "SELECT count(*) FROM refunds WHERE event_id = $1 AND status = 'requested'", UUID(event_id)
        )
        paid = await pool.fetchval(
            "SELECT count(*) FROM payments p JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id"
            " WHERE p.event_id = $1 AND o.status = 'completed' AND p.status = 'authorized'",
            UUID(event_id),
        )
        return bool(owed == 0 and paid == 0)

    await eventually(settled, within_seconds=30)
    report = await verify_event(pool, EventId(UUID(event_id)), simulator_log_path(system))
    assert report.is_money_compared
    assert report.is_clean, [result for result in report.results if result.differences]
    books = await yes(organiser.send("GET", f"/api/admin/events/{event_id}/report"))
    assert books["agrees"], books["differences"]


async def scan(door: Buyer, event_id: str, code: str, gate: str = "North") -> Any:
    body = {"eventId": event_id, "code": code, "nonce": str(uuid4()), "gate": gate}
    return await yes(door.send("POST", "/api/checkin", body))


async def code_of(buyer: Buyer, ticket_id: str) -> str:
    return str((await yes(buyer.send("GET", f"/api/tickets/{ticket_id}/code")))["code"])


@pytest.mark.timeout(240)
async def test_a_buyer_finds_waits_chooses_pays_transfers_resells_refunds_and_enters(
    buyers: Any, organiser: Buyer, running_system: Stack, system_pool: Any
) -> None:
    ann, ben, cleo, door = await buyers(), await buyers(), await buyers(), await buyers()
    event_id = await an_event(organiser, highDemand=True, ticketLimit=4)

    # Find it.
    name = (await yes(ann.send("GET", f"/api/events/{event_id}")))["name"]
    found = await yes(ann.send("GET", f"/api/events?q={name.replace(' ', '+')}"))
    assert [event["id"] for event in found["events"]] == [event_id]

    # Wait for a turn, and claim it.
    async def let_in(buyer: Buyer) -> None:
        async def joined() -> bool:
            return (await buyer.send("POST", f"/api/queue/{event_id}/join", {})).status in (200, 201)

        async def claimed() -> bool:
            return (await buyer.send("POST", f"/api/queue/{event_id}/claim", {})).status == 200

        await eventually(joined, within_seconds=30)
        await eventually(claimed, within_seconds=60)

    early = {"eventId": event_id, "bestAvailable": {"count": 1}}
    assert (await ann.send("POST", "/api/seats/reserve", early)).status in (403, 503)
    await let_in(ann)

    # Choose, two at the usual price and one for a child, and pay.
    held = await hold(ann, event_id, 3, tiers=["", "", "Child"])
    assert held["total"] == "120.00"
    bought = await pay(ann, event_id, held["holdId"])
    first, second, third = (ticket["ticketId"] for ticket in bought["tickets"])
    order = await yes(ann.send("GET", f"/api/orders/{bought['orderId']}"))
    parts = order["parts"]
    assert Decimal(parts["face"]) + Decimal(parts["fee"]) + Decimal(parts["tax"]) == Decimal("120.00")
    assert "evening" in await mail_to(ann, running_system, "ticket")
    picture = await ann.send("GET", f"/api/tickets/{first}.svg")
    assert (picture.status, picture.headers["content-type"].split(";")[0]) == (200, "image/svg+xml")

    # Pass one on: the mail's link takes it, and the old code is dead.
    old_code = await code_of(ann, first)
    offered = await yes(ann.send("POST", f"/api/tickets/{first}/transfer", {"email": ben.email}))
    link = re.search(r"token=([\w-]+)", await mail_to(ben, running_system, "ticket"))
    assert link is not None
    await yes(ben.send("POST", f"/api/transfers/{offered['transferId']}/accept", {"token": link[1]}))
    assert (await ann.send("GET", f"/api/tickets/{first}/code")).status == 404

    # Sell one on, for less; who buys it goes through the ordinary path, and the seller is paid back.
    resale = await yes(ann.send("POST", f"/api/tickets/{second}/resale", {"price": "40.00"}))
    assert resale["price"] == "40.00"
    seat_id = next(item["seatId"] for item in order["items"] if item["ticketId"] == second)
    await let_in(cleo)

    async def taken_on() -> Any:
        answer = await cleo.send("POST", "/api/seats/reserve", {"eventId": event_id, "seatIds": [seat_id]})
        return answer.body if answer.status == 201 else None

    second_hand = await eventually(taken_on, within_seconds=20)
    assert second_hand["total"] == "40.00"
    cleos = (await pay(cleo, event_id, second_hand["holdId"]))["tickets"][0]["ticketId"]

    # Give the child's one back, for the event's fee.
    refund = await yes(ann.send("POST", f"/api/orders/{bought['orderId']}/refund", {"ticketIds": [third]}))
    assert (refund["amount"], refund["feeKept"]) == ("19.00", "1.00")

    # Enter: the new owners do, once, and nobody else.
    appointed = {"email": door.email}
    await yes(organiser.send("POST", "/api/admin/scanners", appointed))
    await yes(door.send("POST", "/api/auth/login", {"email": door.email, "password": "correct horse battery"}))
    bens = await code_of(ben, first)
    assert [(await scan(door, event_id, code))["result"] for code in (old_code, bens, bens)] == [
        "transferred",
        "valid",
        "already_used",
    ]
    assert (await scan(door, event_id, await code_of(cleo, cleos)))["result"] == "valid"
    assert (await scan(door, event_id, "nonsense"))["result"] == "forged"

    async def money_is_back() -> Any:
        refunds = (await ann.send("GET", f"/api/orders/{bought['orderId']}")).body["refunds"]
        back = sorted((one["kind"], one["amount"]) for one in refunds if one["status"] == "refunded")
        return back == [("buyer", "19.00"), ("resale", "40.00")]

    await eventually(money_is_back, within_seconds=30)
    await books_agree(event_id, system_pool, running_system, organiser)


@pytest.mark.timeout(240)
async def test_an_organiser_makes_presells_sells_withholds_reprices_cancels_and_reconciles(
    buyers: Any, organiser: Buyer, running_system: Stack, system_pool: Any
) -> None:
    fan, late, guest = await buyers(), await buyers(), await buyers()
    now = datetime.now(UTC)
    event_id = await an_event(
        organiser,
        presaleDate=(now - timedelta(minutes=1)).isoformat(),
        onSaleDate=(now + timedelta(seconds=12)).isoformat(),
    )
    admin = f"/api/admin/events/{event_id}"

    # Presell: only to those who were sent a code, and as often as it may be used.
    code = {"code": "FANS-ONLY", "opensPresale": True, "percentOff": "10.00", "usesMax": 1}
    await yes(organiser.send("POST", f"{admin}/codes", code))
    wanted = {"eventId": event_id, "bestAvailable": {"count": 2, "section": "Stalls"}}
    refused = await fan.send("POST", "/api/seats/reserve", wanted)
    assert (refused.status, refused.body["code"]) == (403, "code_needed")
    presold = await hold(fan, event_id, 2, code="fans-only")
    assert presold["total"] == "90.00"
    used_up = await late.send("POST", "/api/seats/reserve", {**wanted, "code": "FANS-ONLY"})
    assert (used_up.status, used_up.body["code"]) == (409, "code_used_up")
    fans_order = (await pay(fan, event_id, presold["holdId"]))["orderId"]

    # Sell, withhold, reprice, give away.
    await yes(organiser.send("POST", f"{admin}/seats/withhold", {"section": "Box", "reason": "for the mayor"}))
    await is_on_sale(late, event_id)
    await yes(organiser.send("POST", f"{admin}/seats/price", {"section": "Stalls", "row": "B", "price": "30.00"}))

    async def cheaper() -> Any:
        rows = (await late.send("GET", f"/api/events/{event_id}/seats")).body["sections"][0]["rows"]
        return {seat["price"] for seat in rows[1]["seats"]} == {"30.00"} and rows[1]["seats"]

    seats = await eventually(cheaper, within_seconds=20)
    body = {"eventId": event_id, "seatIds": [seat["id"] for seat in seats[:2]]}
    held = await yes(late.send("POST", "/api/seats/reserve", body))
    assert held["total"] == "60.00"
    lates_order = (await pay(late, event_id, held["holdId"]))["orderId"]
    box = (await late.send("GET", f"/api/events/{event_id}/seats")).body["sections"][1]["rows"][0]["seats"]
    given = {"email": guest.email, "seatIds": [box[0]["id"]], "reason": "the mayor"}
    await yes(organiser.send("POST", f"{admin}/seats/give", given))
    assert len((await yes(guest.send("GET", "/api/tickets")))["tickets"]) == 1
    stats = await yes(organiser.send("GET", f"{admin}/stats"))
    assert stats["eventId"] == event_id
    csv = await organiser.send("GET", f"{admin}/attendees.csv")
    assert csv.status == 200
    assert guest.email.encode() in csv.body
    await books_agree(event_id, system_pool, running_system, organiser)

    # Cancel: from here on nothing sells, and everybody has their money back.
    pending = await yes(late.send("POST", "/api/seats/reserve", {"eventId": event_id, "seatIds": [seats[3]["id"]]}))
    cancelled = await yes(organiser.send("POST", f"{admin}/cancel", {"reason": "the roof leaks"}))
    assert cancelled["ordersToRefund"] == 3
    body = {"eventId": event_id, "holdId": pending["holdId"], "paymentMethod": CARD}
    assert (await late.send("POST", "/api/checkout", body)).body["code"] == "event_cancelled"

    async def finished() -> Any:
        progress = (await organiser.send("GET", f"{admin}/cancellation")).body
        return progress if progress["finishedAt"] is not None else None

    progress = await eventually(finished, within_seconds=40)
    assert (progress["ordersRefunded"], progress["amountRefunded"]) == (3, "150.00")
    for buyer, order_id, amount in ((fan, fans_order, "90.00"), (late, lates_order, "60.00")):
        order = await order_is(buyer, order_id, "refunded")
        assert [(one["kind"], one["amount"]) for one in order["refunds"]] == [("cancellation", amount)]
        assert "cancelled" in (await mail_to(buyer, running_system, "cancelled")).lower()

    # Reconcile.
    await books_agree(event_id, system_pool, running_system, organiser)
    books = await yes(organiser.send("GET", f"{admin}/report"))
    assert Decimal(books["payoutDue"]) == 0
    deeds = await yes(organiser.send("GET", f"/api/admin/audit?eventId={event_id}"))
    done = {deed["action"] for deed in deeds["deeds"]}
    assert {"create_event", "withhold_seats", "change_prices", "give_seats", "cancel_event"} <= done
