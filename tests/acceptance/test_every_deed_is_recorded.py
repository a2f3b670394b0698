"""Does the audit log know of everything that an organiser can do?

The list of what he can do is the server's own: every operation that is for administrators and changes something. One that
leaves no entry, or that nobody has said here how to ask, is a complaint.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from sanic import Sanic

from contracts.settings import Settings
from ingress.app import create_app
from ingress.openapi import DescribedRoute, described_routes
from ingress.operation import Access
from ingress.problems import SAFE_METHODS
from tests.acceptance.conftest import Answer, Buyer
from tests.acceptance.sessions import log_in_as_admin
from tests.builders import OnSale

# What changes nothing that is an organiser's to change, and why.
NO_DEEDS = {
    "testWebhook": "it sends a message that says it is a test, and leaves everything as it is",
}


@pytest.fixture
def changing() -> dict[str, DescribedRoute]:
    """Every operation that changes something, by its name."""
    app = create_app(Settings())
    Sanic.unregister_app(app)  # another test may want one too
    app.router.finalize()
    return {route.name: route for route in described_routes(app) if route.method not in SAFE_METHODS}


@dataclass
class Office:
    """An organiser, an event of his and what he has made so far."""

    organiser: Buyer
    buyer: Buyer
    event: OnSale
    ids: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, Any] = field(default_factory=dict)

    async def ask(self, route: DescribedRoute, **changes: Any) -> Answer:
        """The operation with its first example, of the ids that are known by now, and these members."""
        example = next(iter(route.operation.examples.values()), None)
        body = None if example is None and not changes else {**(example or {}), **changes}
        answer = await self.organiser.send(route.method, route.template.format(**self.ids), body)
        self.bodies[route.name] = answer.body
        return answer

    async def deed_count(self) -> int:
        """How many entries of the log are this organiser's."""
        count: int = await self.event.pool.fetchval(
            "SELECT count(*) FROM audit_log AS entry JOIN users AS person ON person.id = entry.user_id WHERE email = $1",
            self.organiser.email,
        )
        return count

    async def complaint(self, route: DescribedRoute, **changes: Any) -> str | None:
        """What is wrong with that: it is refused, or nobody has written it down."""
        before = await self.deed_count()
        answer = await self.ask(route, **changes)
        if answer.status >= 300:
            return f"{route.name} was answered {answer.status}: {answer.body}"
        return f"{route.name} leaves no deed" if await self.deed_count() == before else None


@pytest.fixture
async def office(buyers: Any, event: OnSale) -> Office:
    organiser, buyer = await buyers(), await buyers()
    await log_in_as_admin(organiser, event.pool)
    venue_id = await event.pool.fetchval("SELECT venue_id FROM events WHERE id = $1", event.event_id)
    return Office(organiser, buyer, event, {"eventId": str(event.event_id), "venueId": str(venue_id)})


Members = dict[str, Any]


async def _nothing(_office: Office) -> Members:
    return {}


async def _of_the_venue(office: Office) -> Members:
    return {"venueId": office.ids["venueId"]}


async def _of_the_new_event(office: Office) -> Members:
    office.ids["eventId"] = office.bodies["createEvent"]["id"]
    return {"venueId": office.ids["venueId"]}


async def _of_the_event_on_sale(office: Office) -> Members:
    office.ids["eventId"] = str(office.event.event_id)
    return {}


async def _for_the_buyer(office: Office) -> Members:
    return {"email": office.buyer.email, "seatIds": [str(office.event.seats[20])]}


async def _with_an_order(office: Office) -> Members:
    hold = await office.buyer.reserve(office.event, 30)
    office.ids["orderId"] = (await office.buyer.check_out(office.event, hold)).body["orderId"]
    return {}


async def _with_a_code(office: Office) -> Members:
    listed = await office.organiser.send("GET", f"/api/admin/events/{office.ids['eventId']}/codes")
    office.ids["codeId"] = listed.body["codes"][0]["id"]
    return {}


async def _some_scanner(_office: Office) -> Members:
    return {"email": f"{uuid4().hex}@example.org"}


async def _with_a_scanner(office: Office) -> Members:
    office.ids["userId"] = office.bodies["appointScanner"]["id"]
    return {}


async def _with_a_webhook(office: Office) -> Members:
    made = office.bodies["makeWebhook"]
    office.ids["webhookId"] = made.get("id") or made["endpoint"]["id"]
    return {}


# How each is asked, in an order in which each finds what it needs; the last of them ends the event.
ASKED: dict[str, Callable[[Office], Awaitable[Members]]] = {
    "createVenue": _nothing,
    "replaceVenue": _nothing,
    "createEvent": _of_the_venue,
    "replaceEvent": _of_the_new_event,
    "makeEventCodes": _of_the_event_on_sale,
    "changeEventCode": _with_a_code,
    "withholdSeats": _nothing,
    "returnSeats": _nothing,
    "changePrices": _nothing,
    "giveSeats": _for_the_buyer,
    "refundAnyOrder": _with_an_order,
    "appointScanner": _some_scanner,
    "dismissScanner": _with_a_scanner,
    "makeWebhook": _nothing,
    "changeWebhook": _with_a_webhook,
    "changeWebhookSecret": _nothing,
    "replayWebhook": _nothing,
    "deleteWebhook": _nothing,
    "openRoom": _nothing,
    "setRoomTerms": _nothing,
    "pauseRoom": _nothing,
    "resumeRoom": _nothing,
    "drainRoom": _nothing,
    "endRoom": _nothing,
    "cancelEvent": _nothing,
}


async def test_whatever_an_organiser_does_is_written_down(changing: dict[str, DescribedRoute], office: Office) -> None:
    complaints = []
    operations = {name: route for name, route in changing.items() if route.operation.access is Access.ADMIN}
    for name, members in ASKED.items():
        if name not in operations:
            complaints.append(f"there is no {name} any more")
            continue
        complaint = await office.complaint(operations[name], **await members(office))
        complaints += [complaint] if complaint else []
    unknown = operations.keys() - ASKED.keys() - NO_DEEDS.keys()
    complaints += [f"say here how {name} is asked, or why it is no deed" for name in sorted(unknown)]
    assert complaints == []


async def test_a_change_that_nobody_writes_down_is_seen(changing: dict[str, DescribedRoute], office: Office) -> None:
    """The negative control: something that changes a lot, and is no organiser's deed."""
    wanted = {"eventId": office.ids["eventId"]}
    assert await office.complaint(changing["reserveSeats"], **wanted) == "reserveSeats leaves no deed"
