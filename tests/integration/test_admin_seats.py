"""What does an organiser hear over HTTP when he does something with seats, and what do buyers see of it?"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from consumers.broker import ConfirmedPublisher, connect, url_for
from consumers.event_commands.drain import QueueDrain
from consumers.event_commands.replies import Replies
from consumers.lifecycle import close_event_queue, open_event_queue
from contracts import topology
from contracts.settings import Settings
from db import users
from db.sessions import Role, create_session
from ingress.routes import admin_seats
from ops.stack import Stack
from tests.builders import OnSale, a_user, settings_of
from tests.conftest import AnEvent, IngressWith
from tests.eventually import eventually
from tests.ingress_process import an_ingress

PATIENT = {"reserve_deadline_seconds": 8.0, "checkout_deadline_seconds": 8.0}
HOUSE = (
    {"name": "Stalls", "rows": 3, "seatsPerRow": 10, "price": "45.00"},
    {"name": "Floor", "type": "general_admission", "capacity": 20, "price": "30.00"},
)


@dataclass
class Heard:
    """An answer."""

    status: int
    body: Any
    etag: str = ""

    @property
    def code(self) -> str:
        """Of a "no"."""
        return str(self.body.get("code", ""))


@dataclass
class Person:
    """Somebody with a session, at one ingress."""

    http: aiohttp.ClientSession
    sale: OnSale

    async def post(self, path: str, body: Any, **headers: str) -> Heard:
        """Ask for something to be done."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(path, json=body, headers=named) as response:
            return Heard(response.status, await response.json(content_type=None))

    async def get(self, what: str = "", **headers: str) -> Heard:
        """Look at the event."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(f"/api/events/{self.sale.event_id}{what}", headers=named) as response:
            body = await response.json(content_type=None) if response.status == 200 else None
            return Heard(response.status, body, response.headers.get("etag", ""))

    async def seats(self, what: str, body: Any, **headers: str) -> Heard:
        """Do something with the seats of the event."""
        return await self.post(f"/api/admin/events/{self.sale.event_id}/seats/{what}", body, **headers)

    async def reserve(self, *seats: int) -> Heard:
        """These seats, by their place in the map."""
        body = {"eventId": str(self.sale.event_id), "seatIds": [str(self.sale.seats[seat]) for seat in seats]}
        return await self.post("/api/seats/reserve", body)

    def ids(self, *seats: int) -> list[str]:
        """The ids of these seats."""
        return [str(self.sale.seats[seat]) for seat in seats]


@dataclass
class BoxOffice:
    """An event, whoever carries its commands out, and two people at the ingress."""

    sale: OnSale
    organiser: Person
    buyer: Person


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def patient_url(stack: Stack) -> AsyncIterator[str]:
    """An ingress that gives a busy machine time: no test here is about that."""
    async with an_ingress(settings_of(stack), **PATIENT) as url:
        yield url


@pytest.fixture
async def office(settings: Settings, an_event: AnEvent, patient_url: str, redis: Redis) -> AsyncIterator[BoxOffice]:
    """An event whose own queue is drained, and nobody else's: other tests count on silence in the lanes."""
    sale = await an_event(sections=HOUSE, redis_timeout_seconds=10.0)
    async with (
        _Drained(settings, sale),
        a_person(patient_url, redis, sale, "admin") as organiser,
        a_person(patient_url, redis, sale, "user") as buyer,
    ):
        yield BoxOffice(sale, organiser, buyer)


@asynccontextmanager
async def a_person(url: str, redis: Redis, sale: OnSale, role: Role) -> AsyncIterator[Person]:
    """Somebody who is logged in."""
    cookie = await create_session(redis, user_id=a_user(), role=role, seconds=600)
    async with aiohttp.ClientSession(url, headers={"cookie": f"session={cookie}"}) as http:
        yield Person(http, sale)


class _Drained:
    """The event's own queue, and an engine that carries out what comes through it."""

    def __init__(self, settings: Settings, sale: OnSale) -> None:
        self._settings, self._sale = settings, sale
        self._running = AsyncExitStack()

    async def __aenter__(self) -> None:
        enter = self._running.enter_async_context
        self._lifecycle = await enter(await connect(self._settings, "lifecycle", name="test opens"))
        async with self._lifecycle.channel() as channel:
            await open_event_queue(channel, self._sale.event_id, self._settings)
        worker = await enter(await aio_pika.connect(url_for(self._settings, "worker", name="test takes")))
        replies = await enter(Replies(self._settings))
        parking = await enter(ConfirmedPublisher(self._settings, "worker", name="test parks"))
        queue = topology.event_queue(self._sale.event_id)
        self._drain = QueueDrain(queue, self._sale.engine, replies, parking)
        await self._drain.start(worker)

    async def __aexit__(self, *_: object) -> None:
        await self._drain.stop()
        async with self._lifecycle.channel() as channel:
            await close_event_queue(channel, self._sale.event_id, consumed_until_gone=True)
        await self._running.aclose()


# ---- keeping back, and putting on sale again


async def test_a_row_is_withheld_and_comes_back(office: BoxOffice) -> None:
    organiser, buyer = office.organiser, office.buyer
    row = {"section": "Stalls", "row": "A"}
    assert (await buyer.reserve(0)).status == 201
    withheld = await organiser.seats("withhold", {**row, "reason": "for the band"})
    assert (withheld.status, withheld.body) == (200, {"type": "seats_withheld", "seatCount": 9})
    refused = await buyer.reserve(1)
    assert (refused.status, refused.code) == (409, "seats_unavailable")

    async def seen() -> bool:
        return (await buyer.get("/availability")).body["seats"].startswith("hwwwwwwwww" + "a" * 20)

    await eventually(seen, within_seconds=5)
    returned = await organiser.seats("return", {"section": "Stalls"})
    assert (returned.status, returned.body["seatCount"]) == (200, 9)
    assert (await buyer.reserve(1)).status == 201


async def test_a_retry_under_its_key_is_answered_as_the_first_time(office: BoxOffice) -> None:
    """Although by then nothing in the row is available any more, or something else is."""
    organiser = office.organiser
    row, key = {"section": "Stalls", "row": "B"}, uuid4().hex
    first = await organiser.seats("withhold", row, idempotency_key=key)
    again = await organiser.seats("withhold", row, idempotency_key=key)
    assert (first.status, first.body["seatCount"]) == (200, 10)
    assert (again.status, again.body) == (first.status, first.body)
    await organiser.seats("return", {"seatIds": organiser.ids(10, 11)})
    assert (await organiser.seats("withhold", row, idempotency_key=key)).body == first.body
    assert (await organiser.get("/availability")).body["availableCount"] == 42, "nothing was done again"
    other = await organiser.seats("withhold", {"section": "Stalls"}, idempotency_key=key)
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    fresh = await organiser.seats("withhold", row)
    assert (fresh.status, fresh.body["seatCount"]) == (200, 2)
    none_left = await organiser.seats("withhold", row)
    assert (none_left.status, none_left.code, len(none_left.body["seatIds"])) == (409, "seats_unavailable", 10)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"section": "Stalls", "seatIds": [str(uuid4())]}, ""),
        ({"row": "A"}, ""),
        ({"seatIds": ["3f0c1d2e-5b6a-4c7d-8e9f-0a1b2c3d4e5f"] * 2}, ""),
        ({"seatIds": [str(uuid4()) for _ in range(1001)]}, "/seatIds"),
        ({"section": "Balcony"}, "/section"),
        ({"section": "Stalls", "row": "Z"}, "/row"),
        ({"section": "Stalls", "reason": "x" * 501}, "/reason"),
    ],
)
async def test_what_is_asked_wrongly_is_pointed_at(a_house: "Person", body: Any, pointer: str) -> None:
    refused = await a_house.seats("withhold", body)
    assert (refused.status, refused.code) == (422, "invalid_request")
    assert [error["pointer"] for error in refused.body["errors"]] == [pointer]


@pytest.fixture
async def a_house(an_event: AnEvent, patient_url: str, redis: Redis) -> AsyncIterator[Person]:
    """An organiser at an ingress behind which nobody carries anything out."""
    async with a_person(patient_url, redis, await an_event(sections=HOUSE), "admin") as organiser:
        yield organiser


async def test_of_an_event_that_is_not_there_nothing_is_known(a_house: Person) -> None:
    refused = await a_house.post(f"/api/admin/events/{uuid4()}/seats/withhold", {"section": "Stalls"})
    assert (refused.status, refused.code) == (404, "event_unknown")


async def test_whoever_has_no_account_gets_no_tickets(a_house: Person) -> None:
    refused = await a_house.seats("give", {"email": f"{uuid4().hex}@example.org", "seatIds": a_house.ids(0)})
    assert (refused.status, refused.code) == (422, "account_unknown")


@pytest.mark.parametrize(("section", "instead"), [("Stalls", "name a row"), ("Floor", "by seatIds")])
async def test_more_seats_than_can_be_done_at_once_are_refused_with_the_way_out(
    an_event: AnEvent, patient_url: str, redis: Redis, section: str, instead: str
) -> None:
    sections = (
        {"name": "Stalls", "rows": 101, "seatsPerRow": 50, "price": "45.00"},
        {"name": "Floor", "type": "general_admission", "capacity": 5050, "price": "30.00"},
    )
    sale = await an_event(sections=sections)
    async with a_person(patient_url, redis, sale, "admin") as organiser:
        refused = await organiser.seats("price", {"section": section, "price": "60.00"})
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/section")
    assert instead in refused.body["errors"][0]["message"]


# ---- prices


async def test_new_prices_are_seen_by_everybody_within_two_seconds(
    office: BoxOffice, ingress_with: IngressWith, redis: Redis
) -> None:
    """At every ingress process, whichever of them the organiser has asked."""
    async with a_person(await ingress_with(**PATIENT), redis, office.sale, "user") as elsewhere:
        await _are_seen(office, (office.buyer, elsewhere))


async def _are_seen(office: BoxOffice, viewers: tuple[Person, Person]) -> None:
    before = [await _shown(viewer) for viewer in viewers]
    assert [prices for prices, _ in before] == [("45.00", "45.00", "45.00", "30.00", "45.00")] * 2
    held = await office.buyer.reserve(0)
    changed = await office.organiser.seats("price", {"section": "Stalls", "row": "A", "price": "60"})
    assert (changed.status, changed.body) == (
        200,
        {"type": "prices_changed", "seatCount": 10, "unchangedCount": 0},
    )
    for viewer, (_, tags) in zip(viewers, before, strict=True):

        async def sees_it(viewer: Person = viewer) -> Any:
            shown = await _shown(viewer)
            return shown if shown[0] == ("60.00", "60.00", "45.00", "30.00", "60.00") else None

        _, new_tags = await eventually(sees_it, within_seconds=2)
        assert all(new != old for new, old in zip(new_tags, tags, strict=True))
        assert (await viewer.get("/map", if_none_match=tags[0])).status == 200
        assert (await viewer.get("/map", if_none_match=new_tags[0])).status == 304
    assert held.body["total"] == "45.00"
    assert (await office.buyer.reserve(1)).body["total"] == "60.00"


async def _shown(viewer: Person) -> tuple[tuple[str, ...], list[str]]:
    """What the first row costs in the map and in the list of seats, what the second does, and the lowest and highest price
    of the catalogue; with the tags of all three."""
    map_, listed, card = await viewer.get("/map"), await viewer.get("/seats"), await viewer.get()
    drawn, row = map_.body["sections"][0]["rows"], listed.body["sections"][0]["rows"][0]
    prices = (drawn[0]["seats"][5]["price"], row["seats"][5]["price"], drawn[1]["seats"][0]["price"])
    return (*prices, card.body["priceMin"], card.body["priceMax"]), [map_.etag, listed.etag, card.etag]


async def test_a_price_that_nobody_was_told_of_is_seen_all_the_same(office: BoxOffice) -> None:
    """The message may be lost, and no gap in the ledger's numbers shows that: the event's version does."""
    await _shown(office.buyer)
    command = admin_seats.ChangePrices(
        command_id=uuid4(),
        event_id=office.sale.event_id,
        user_id=a_user(),
        seat_ids=tuple(office.sale.seats[:10]),
        price="60.00",  # type: ignore[arg-type]
    )
    await office.sale.run(command)  # and nothing is sent

    async def sees_it() -> bool:
        return (await _shown(office.buyer))[0][:2] == ("60.00", "60.00")

    await eventually(sees_it, within_seconds=6)


async def test_a_price_the_currency_does_not_have_is_refused(office: BoxOffice) -> None:
    await office.sale.pool.execute("UPDATE events SET currency = 'JPY' WHERE id = $1", office.sale.event_id)
    refused = await office.organiser.seats("price", {"section": "Stalls", "price": "12.50"})
    assert (refused.status, refused.code) == (422, "price_not_payable")


# ---- for nothing


async def test_complimentary_tickets_are_their_owners_at_once(office: BoxOffice) -> None:
    guest = await users.create_user(
        office.sale.pool, email=f"{uuid4().hex}@example.org", password_hash="none", name="Ann"
    )
    assert guest is not None
    await office.organiser.seats("withhold", {"section": "Stalls", "row": "A"})
    body = {"email": guest.email.upper(), "seatIds": office.organiser.ids(0, 1), "reason": "she sings"}
    key = uuid4().hex
    given = await office.organiser.seats("give", body, idempotency_key=key)
    assert (given.status, given.body["total"], len(given.body["tickets"])) == (201, "0.00", 2)
    assert (await office.organiser.seats("give", body, idempotency_key=key)).body == given.body
    owners = await office.sale.pool.fetch(
        "SELECT user_id FROM tickets WHERE event_id = $1 AND order_id = $2",
        *(office.sale.event_id, given.body["orderId"]),
    )
    assert {owner["user_id"] for owner in owners} == {guest.id}
    await office.sale.ledger_agrees_with_seats()


async def test_a_free_checkout_is_answered_over_http_without_a_payment_stage(office: BoxOffice) -> None:
    """Nobody carries payments out here: were the provider asked, the answer would be 202."""
    buyer = office.buyer
    await office.organiser.seats("price", {"section": "Stalls", "row": "A", "price": "0"})
    held = await buyer.reserve(0, 1)
    body = {"eventId": str(office.sale.event_id), "holdId": held.body["holdId"], "paymentMethod": "pm_card_visa"}
    paid = await buyer.post("/api/checkout", body)
    assert (paid.status, paid.body["total"], len(paid.body["tickets"])) == (201, "0.00", 2)
    await office.sale.ledger_agrees_with_seats()


async def test_before_the_sale_opens_too(a_house: Person, an_event: AnEvent) -> None:
    """Then there is no queue of its own: the command goes to a lane, which nobody drains here, and is not refused."""
    sale = await an_event(sections=HOUSE, opens_in=timedelta(days=1))
    early = Person(a_house.http, sale)
    asked = await early.seats("withhold", {"section": "Stalls"}, prefer="respond-async")
    assert (asked.status, asked.body["status"]) == (202, "pending")
