"""Does somebody who watches see what somebody else buys, and hear "no" without waiting for the sale?"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ops.stack import Stack
from tests.acceptance.conftest import Buyer
from tests.builders import OnSale
from tests.eventually import eventually

# Generous: what is measured beside it is what the README tells.
SEEN_WITHIN_SECONDS = 2.0


@asynccontextmanager
async def watching(buyer: Buyer, event: OnSale) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """The frames of the event's stream, as they come."""
    frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def read(response: aiohttp.ClientResponse) -> None:
        name = ""
        async for line in response.content:
            field, _, value = line.decode().strip().partition(": ")
            name = value if field == "event" else name
            if field == "data":
                frames.put_nowait({"type": name, **json.loads(value)})

    async with buyer.http.get(f"/api/events/{event.event_id}/seats/stream") as response:
        assert response.status == 200
        reading = asyncio.create_task(read(response))
        try:
            assert (await frames.get())["type"] == "resync"
            yield frames
        finally:
            reading.cancel()


async def the_next_seats(frames: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(SEEN_WITHIN_SECONDS):
        while (frame := await frames.get())["type"] != "seats":
            pass
        return frame


async def test_a_purchase_is_watched_from_hold_to_sale(buyers: Any, event: OnSale) -> None:
    buyer, watcher = await buyers(), await buyers()
    async with watching(watcher, event) as frames:
        hold = await buyer.reserve(event, 3, 4)
        held = await the_next_seats(frames)
        assert held["changes"] == {"h": [3, 4]}
        assert (await buyer.check_out(event, hold)).status == 201
        sold = await the_next_seats(frames)
        assert (sold["previous"], sold["changes"]) == (held["version"], {"s": [3, 4]})
    seen = (await watcher.send("GET", f"/api/events/{event.event_id}/availability")).body
    assert (seen["seats"][3:5], seen["version"]) == ("ss", sold["version"])


async def test_a_change_is_seen_in_time(buyers: Any, event: OnSale) -> None:
    buyer, watcher = await buyers(), await buyers()
    lags = []
    async with watching(watcher, event) as frames:
        for seat in range(5):
            hold = await buyer.reserve(event, seat)
            answered_at = time.perf_counter()
            assert hold.status == 201
            assert (await the_next_seats(frames))["changes"] == {"h": [seat]}
            lags.append(time.perf_counter() - answered_at)
            mine = {"eventId": str(event.event_id), "holdId": hold.body["holdId"]}
            assert (await buyer.send("DELETE", "/api/seats/release", mine)).status == 200
            assert (await the_next_seats(frames))["changes"] == {"a": [seat]}
    assert max(lags) < SEEN_WITHIN_SECONDS


async def test_whoever_gives_seats_back_may_have_them_again_at_once(buyer: Buyer, event: OnSale) -> None:
    for _ in range(10):
        hold = await buyer.reserve(event, 9)
        assert hold.status == 201, hold.body
        mine = {"eventId": str(event.event_id), "holdId": hold.body["holdId"]}
        assert (await buyer.send("DELETE", "/api/seats/release", mine)).status == 200


async def test_the_early_no_and_the_sales_no_are_the_same_bytes(
    buyers: Any, event: OnSale, running_system: Stack
) -> None:
    quick, late = await buyers(), await buyers()
    await quick.reserve(event, 5)
    url = running_system.environment()["BOXOFFICE_PUBLIC_URL"]

    async def refused_early_count() -> float:
        async with aiohttp.ClientSession(url) as http, http.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("boxoffice_early_refusals_total "))

    async def is_refused_early() -> bool:
        before = await refused_early_count()
        assert (await late.reserve(event, 5)).status == 409
        return await refused_early_count() > before

    await eventually(is_refused_early)
    early = await late.reserve(event, 4, 5)
    by_the_sale = await late.reserve(event, 4, 5, idempotency_key="asks the sale itself")
    assert early.body["code"] == "seats_unavailable"
    assert (early.status, early.body, early.headers["content-type"]) == (
        by_the_sale.status,
        by_the_sale.body,
        by_the_sale.headers["content-type"],
    )


async def test_a_retry_finds_its_own_hold(buyer: Buyer, event: OnSale) -> None:
    first = await buyer.reserve(event, 7, idempotency_key="mine")

    async def is_seen() -> bool:
        seen = (await buyer.send("GET", f"/api/events/{event.event_id}/availability")).body
        return bool(seen["seats"][7] == "h")

    await eventually(is_seen)
    assert (await buyer.reserve(event, 7, idempotency_key="mine")).body == first.body
