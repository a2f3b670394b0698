"""A presale over HTTP: an organiser gives codes out, a fan buys with one, and everybody can see what was paid for what."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.acceptance.conftest import Answer, Buyer
from tests.acceptance.sessions import log_in_as_admin
from tests.builders import OnSale

HOUSE = {
    "name": "The Paper Mill",
    "city": "Berlin",
    "sectionConfig": {
        "sections": [
            {
                "name": "Stalls",
                "rows": 2,
                "seatsPerRow": 5,
                "price": "60.00",
                "tiers": [{"name": "Student", "price": "30.00"}],
            }
        ]
    },
}


async def a_presale(organiser: Buyer) -> str:
    """An event that only who has a code may buy for."""
    now = datetime.now(UTC)
    venue = await organiser.send("POST", "/api/venues", HOUSE)
    body = {
        "name": "A night for fans",
        "venueId": venue.body["id"],
        "eventDate": (now + timedelta(days=30)).isoformat(),
        "onSaleDate": (now + timedelta(days=1)).isoformat(),
        "presaleDate": (now - timedelta(minutes=1)).isoformat(),
        "feeRate": "0.1",
        "taxRate": "0.19",
        "highDemand": True,
    }
    made = await organiser.send("POST", "/api/events", body)
    assert made.status == 201, made
    return str(made.body["id"])


def paid_for_it(answer: Answer) -> tuple[Any, ...]:
    """The parts of a price, checked to add up."""
    parts = answer.body["parts"]
    assert sum(round(100 * float(parts[name])) for name in ("face", "fee", "tax")) == round(100 * float(parts["total"]))
    return parts["face"], parts["fee"], parts["tax"], parts["reduction"], parts["total"]


async def test_a_fan_buys_in_the_presale_and_sees_what_was_paid_for(buyers: Any, system_pool: Any) -> None:
    organiser, fan, other = [await buyers() for _ in range(3)]
    await log_in_as_admin(organiser, system_pool)
    event_id = await a_presale(organiser)
    codes = f"/api/admin/events/{event_id}/codes"
    fans = {"count": 2, "prefix": "FANS", "opensPresale": True, "percentOff": "10"}
    made = await organiser.send("POST", codes, fans)
    code = made.body["codes"][0]["code"]
    section = (await other.send("GET", f"/api/events/{event_id}")).body["sections"][0]
    assert (section["price"], section["fee"], section["tax"]) == ("60.00", "5.04", "9.58")
    seat_list = (await fan.send("GET", f"/api/events/{event_id}/seats")).body
    seat_ids = [seat["id"] for seat in seat_list["sections"][0]["rows"][0]["seats"][:2]]

    async def reserve(who: Buyer, **fields: Any) -> Answer:
        return await who.send("POST", "/api/seats/reserve", {"eventId": event_id, "seatIds": seat_ids, **fields})

    hold = await reserve(fan, tiers=["Student", ""], code=f" {code.lower()} ")
    assert hold.status == 201, hold
    # 30 and 60, a tenth off: 27.00 = 20.42 + 2.27 + 4.31, and 54.00 = 40.84 + 4.54 + 8.62.
    assert paid_for_it(hold) == ("61.26", "6.81", "12.93", "9.00", "81.00")
    free = {"seatIds": [seat["id"] for seat in seat_list["sections"][0]["rows"][1]["seats"][:1]]}
    for fields, expected in (({}, (403, "code_needed")), ({"code": "FANS-GUESSED"}, (422, "code_unknown"))):
        refused = await reserve(other, **free, **fields)
        assert (refused.status, refused.body["code"]) == expected
    gone = await reserve(other, code=made.body["codes"][1]["code"])
    assert (gone.status, gone.body["code"]) == (409, "seats_unavailable")
    paid = await fan.send(
        "POST",
        "/api/checkout",
        {"eventId": event_id, "holdId": hold.body["holdId"], "paymentMethod": "pm_card_visa"},
    )
    assert paid.status == 201, paid
    assert paid_for_it(paid) == paid_for_it(hold)
    assert [ticket["seat"]["price"] for ticket in paid.body["tickets"]] == ["27.00", "54.00"]
    used = {
        one["code"]: (one["useCount"], one["paidCount"]) for one in (await organiser.send("GET", codes)).body["codes"]
    }
    assert sorted(used.values()) == [(0, 0), (1, 1)]
    assert used[code] == (1, 1)


async def test_a_code_makes_a_hold_cheaper_and_its_use_is_counted(
    event: OnSale, buyer: Buyer, buyers: Any, system_pool: Any
) -> None:
    organiser, stranger = await buyers(), await buyers()
    await log_in_as_admin(organiser, system_pool)
    codes = f"/api/admin/events/{event.event_id}/codes"
    spring = {"code": "SPRING", "amountOff": "5.00", "usesMax": 1}
    assert (await organiser.send("POST", codes, spring)).status == 201
    hold = await buyer.reserve(event, 0, 1)
    assert paid_for_it(hold) == ("90.00", "0.00", "0.00", "0.00", "90.00")

    async def apply(who: Buyer, hold: Answer, **headers: str) -> Answer:
        wanted = {"eventId": str(event.event_id), "holdId": hold.body["holdId"], "code": "spring"}
        return await who.send("POST", "/api/seats/code", wanted, **headers)

    assert (await apply(stranger, hold)).body["code"] == "hold_unknown"
    key = uuid4().hex
    cheaper = await apply(buyer, hold, idempotency_key=key)
    assert (cheaper.status, cheaper.body["reduction"]) == (200, "10.00")
    assert paid_for_it(cheaper) == ("80.00", "0.00", "0.00", "10.00", "80.00")
    assert (await apply(buyer, hold, idempotency_key=key)).body == cheaper.body
    assert (await apply(buyer, hold)).body["code"] == "code_already_applied"
    late = await stranger.reserve(event, 2)
    refused = await apply(stranger, late)
    assert (refused.status, refused.body["code"]) == (409, "code_used_up")
    paid = await buyer.check_out(event, hold)
    assert (paid.status, paid.body["total"]) == (201, "80.00")
    await event.ledger_agrees_with_seats()
