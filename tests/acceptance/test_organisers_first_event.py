"""From an organiser's first line to a buyer's seats, over HTTP alone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.ids import UserId
from contracts.settings import Settings
from db.sessions import create_session
from tests.acceptance.conftest import Buyer
from tests.eventually import eventually

HOUSE = {
    "name": "The Paper Mill",
    "city": "Berlin",
    "timeZone": "Europe/Berlin",
    "sectionConfig": {
        "sections": [
            {"name": "Stalls", "rows": 2, "seatsPerRow": 5, "price": "45.00"},
            {"name": "Floor", "type": "general_admission", "capacity": 20, "price": "30.00"},
        ]
    },
}


@pytest.fixture
async def organiser(system_settings: Settings) -> AsyncIterator[Buyer]:
    """Somebody who may write the catalogue."""
    async with Redis.from_url(system_settings.redis_url) as redis:
        cookie = await create_session(redis, user_id=UserId(uuid4()), role="admin", seconds=600)
    async with aiohttp.ClientSession(
        system_settings.public_url, headers={"cookie": f"session={cookie}"}, cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield Buyer(http, "organiser@example.org")


async def an_event(organiser: Buyer, *, name: str, opens_in: timedelta) -> str:
    now = datetime.now(UTC)
    venue = await organiser.send("POST", "/api/venues", HOUSE)
    body = {
        "name": name,
        "artist": "Metallica",
        "venueId": venue.body["id"],
        "eventDate": (now + timedelta(days=30)).isoformat(),
        "onSaleDate": (now + opens_in).isoformat(),
    }
    made = await organiser.send("POST", "/api/events", body)
    assert made.status == 201, made
    return str(made.body["id"])


async def test_what_an_organiser_puts_up_is_found_and_bought(organiser: Buyer, buyer: Buyer) -> None:
    event_id = await an_event(organiser, name="A night at the mill", opens_in=timedelta(minutes=-1))

    async def found() -> Any:
        page = await buyer.send("GET", "/api/events?q=metalica+berln+mill&status=on_sale&limit=100")
        return next((event for event in page.body["events"] if event["id"] == event_id), None)

    event = await eventually(found, within_seconds=20)
    assert (event["priceMin"], event["priceMax"], event["capacity"]) == ("30.00", "45.00", 30)
    wanted = {"eventId": event_id, "bestAvailable": {"count": 2, "section": "Floor"}}

    async def held() -> Any:
        answer = await buyer.send("POST", "/api/seats/reserve", wanted)
        return answer if answer.status == 201 else None

    hold = await eventually(held, within_seconds=20)
    assert hold.body["total"] == "60.00"
    paid = await buyer.send(
        "POST",
        "/api/checkout",
        {"eventId": event_id, "holdId": hold.body["holdId"], "paymentMethod": "pm_card_visa"},
    )
    assert (paid.status, len(paid.body["tickets"])) == (201, 2)


async def test_a_sale_that_opens_is_seen_before_the_copies_have_aged(organiser: Buyer, buyer: Buyer) -> None:
    # Copies are kept for a minute; lifecycle ends them when it opens the sale. Without that this would wait in vain.
    event_id = await an_event(organiser, name="Soon", opens_in=timedelta(seconds=4))
    assert (await buyer.send("GET", f"/api/events/{event_id}")).body["status"] == "upcoming"

    async def on_sale() -> bool:
        return bool((await buyer.send("GET", f"/api/events/{event_id}")).body["status"] == "on_sale")

    await eventually(on_sale, within_seconds=20)
