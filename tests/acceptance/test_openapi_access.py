"""Who may do what? Every endpoint, asked by nobody, by a stranger, by the owner, by a scanner and by an administrator.

The table is the document's: what `x-access` promises is what the live server must keep. All that is said here by hand is
where the ids of a request come from.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from contracts.ids import TransferId
from contracts.signing_keys import SigningKeys
from contracts.transfer_tokens import transfer_token
from tests.acceptance.conftest import Buyer
from tests.acceptance.sessions import log_in_as, nobody
from tests.builders import OnSale
from tests.eventually import eventually

DOCUMENT = json.loads((Path(__file__).parents[2] / "contracts" / "openapi.json").read_text(encoding="utf-8"))
ASKERS = ("anonymous", "stranger", "owner", "scanner", "admin")


class Endpoint(NamedTuple):
    """An operation of the document."""

    path: str
    method: str
    operation: Mapping[str, Any]


ENDPOINTS = {
    operation["operationId"]: Endpoint(path, method.upper(), operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


class Heard(NamedTuple):
    """The status of an answer and, of a "no", its code."""

    status: int
    code: str


def is_let_in(heard: Heard) -> bool:
    return heard.code not in ("unauthenticated", "forbidden") and heard.status < 500


def finds_it(heard: Heard) -> bool:
    return is_let_in(heard) and heard.status != 404


def needs_a_session(heard: Heard) -> bool:
    return heard == (401, "unauthenticated")


def needs_a_role(heard: Heard) -> bool:
    return heard == (403, "forbidden")


def does_not_see_it(heard: Heard) -> bool:
    return heard.status == 404


Verdict = Callable[[Heard], bool]

# What each asker must hear, by the operation's access.
TABLE: dict[str, dict[str, Verdict]] = {
    "anyone": dict.fromkeys(ASKERS, finds_it),
    "user": {**dict.fromkeys(ASKERS, finds_it), "anonymous": needs_a_session},
    "owner": {
        "anonymous": needs_a_session,
        "stranger": does_not_see_it,
        "owner": finds_it,
        # No role opens a door to what buyers own.
        "scanner": does_not_see_it,
        "admin": does_not_see_it,
    },
    "scanner": {
        "anonymous": needs_a_session,
        "stranger": needs_a_role,
        "owner": needs_a_role,
        "scanner": is_let_in,
        "admin": is_let_in,
    },
    "admin": {
        "anonymous": needs_a_session,
        "stranger": needs_a_role,
        "owner": needs_a_role,
        # Whoever lets people in sees no orders and changes no event.
        "scanner": needs_a_role,
        "admin": is_let_in,
    },
}


@pytest.fixture
def world(buyers: Any, event: OnSale) -> "World":
    return World(buyers, event)


class World:
    """Somebody who owns something, and the five who ask for it."""

    def __init__(self, buyers: Any, event: OnSale) -> None:
        self._buyers, self._event = buyers, event
        self._seats = iter(range(len(event.seats)))

    async def complaints(self, endpoint: Endpoint, access: str) -> list[str]:
        """What the server said otherwise than that access promises."""
        found = []
        for name in ASKERS:
            owner = await self._buyers()
            heard = await self._ask(endpoint, await self._asker(name, owner), owner)
            if not TABLE[access][name](heard):
                found.append(
                    f"{name} heard {heard.status} {heard.code}, and {TABLE[access][name].__name__} is promised"
                )
        return found

    async def _asker(self, name: str, owner: Buyer) -> Buyer:
        if name == "anonymous":
            return nobody(await self._buyers())
        if name == "owner":
            return owner
        other: Buyer = await self._buyers()
        if name in ("scanner", "admin"):
            await log_in_as(name, other, self._event.pool)
        return other

    async def _ask(self, endpoint: Endpoint, asker: Buyer, owner: Buyer) -> Heard:
        ids = await self._ids(endpoint, owner)
        path = re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], endpoint.path)
        # An outcome that is older than a moment is found by its event.
        query = {"eventId": ids["eventId"]} if "commandId" in ids else {}
        body = example_of(endpoint, ids)
        async with asker.http.request(endpoint.method, path, params=query, json=body) as response:
            if response.content_type != "application/problem+json":
                return Heard(response.status, "")
            return Heard(response.status, (await response.json(content_type=None))["code"])

    async def _ids(self, endpoint: Endpoint, owner: Buyer) -> dict[str, str]:
        """The ids a request needs: of things of this owner, made for it."""
        venue_id = await self._event.pool.fetchval("SELECT venue_id FROM events WHERE id = $1", self._event.event_id)
        ids = {"eventId": str(self._event.event_id), "venueId": str(venue_id), "code": "busy"}
        if "{userId}" in endpoint.path:
            # Whoever it is about; nobody who asks.
            ids["userId"] = str(await self._event.pool.fetchval("SELECT id FROM users WHERE email = $1", owner.email))
        wanted = set(re.findall(r"\w+Id", f"{endpoint.path} {example_of(endpoint, {})}"))
        if wanted & {"holdId", "commandId", "orderId"}:
            hold = await owner.reserve(self._event, next(self._seats), idempotency_key=uuid4().hex)
            assert hold.status == 201, hold.body
            # The id of the command becomes the id of the hold.
            ids |= {"holdId": hold.body["holdId"], "commandId": hold.body["holdId"]}
        if "orderId" in wanted:
            order = await owner.check_out(self._event, hold)
            assert order.status == 201, order.body
            ids["orderId"] = order.body["orderId"]
        if "codeId" in wanted:
            ids["codeId"] = str(uuid4())
            await self._event.pool.execute(
                "INSERT INTO codes (event_id, id, code, opens_presale) VALUES ($1, $2, $3, true)",
                *(self._event.event_id, ids["codeId"], f"FANS-{uuid4().hex[:12].upper()}"),
            )
        if "webhookId" in wanted:
            ids |= {"webhookId": await self._a_webhook(), "sequence": "1"}
        if endpoint.path.endswith("}/waiting-list") and endpoint.method != "POST":
            # There are no places for wheelchairs, so this is a list one can stand on.
            joined = await owner.send("POST", endpoint.path.format(**ids), {"seatCount": 1, "accessible": True})
            assert joined.status == 201, joined.body
        if endpoint.path.startswith("/api/queue/"):
            await self._have_place(owner)
        if wanted & {"ticketId", "transferId", "resaleId"}:
            ids |= await self._ids_of_ticket(endpoint, wanted, owner)
        return ids

    async def _a_webhook(self) -> str:
        """An endpoint with one message."""
        id_, pool = str(uuid4()), self._event.pool
        await pool.execute(
            "INSERT INTO webhook_endpoints (id, url, secret, status, last_sequence, created_by)"
            " VALUES ($1, 'http://127.0.0.1:9/', 'whsec_bm9uZQ==', 'paused', 1, $1)",
            id_,
        )
        await pool.execute(
            "INSERT INTO webhook_messages (endpoint_id, sequence, source, id, type, body)"
            " VALUES ($1, 1, 'a test', 'msg_1', 'endpoint.test', '{}')",
            id_,
        )
        return id_

    async def _ids_of_ticket(self, endpoint: Endpoint, wanted: set[str], owner: Buyer) -> dict[str, str]:
        """A ticket, on offer if need be: by its owner, or to him where the endpoint is for whom it was offered to."""
        is_offered_to_owner = "token" in (example_of(endpoint, {}) or {})
        seller, taker = await self._buyers(), await self._buyers()
        seller, taker = (seller, owner) if is_offered_to_owner else (owner, taker)
        bought = await seller.check_out(self._event, await seller.reserve(self._event, next(self._seats)))
        assert bought.status == 201, bought.body
        ids: dict[str, str] = {"ticketId": bought.body["tickets"][0]["ticketId"]}
        ticket = f"/api/tickets/{ids['ticketId']}"
        if "transferId" in wanted:
            offered = await seller.send("POST", f"{ticket}/transfer", {"email": taker.email})
            ids["transferId"] = offered.body["transferId"]
            keys = SigningKeys.of(self._event.settings)
            ids["token"] = transfer_token(keys, TransferId(UUID(ids["transferId"])))
        if "resaleId" in wanted:
            offered = await seller.send("POST", f"{ticket}/resale", {"price": "45.00"})
            ids["resaleId"] = offered.body["resaleId"]
        return ids

    async def _have_place(self, owner: Buyer) -> None:
        """Let this owner wait for the event, which everybody wants from now on."""
        await self._event.pool.execute("UPDATE events SET high_demand = true WHERE id = $1", self._event.event_id)
        room = f"/api/queue/{self._event.event_id}"

        async def has_opened() -> bool:
            return (await owner.send("GET", f"{room}/proof")).status == 200 and (
                await owner.send("POST", f"{room}/join", {})
            ).status in (200, 201)

        await eventually(has_opened, within_seconds=30)


def example_of(endpoint: Endpoint, ids: Mapping[str, str]) -> Any:
    """The operation's first example, speaking of these ids."""
    if "requestBody" not in endpoint.operation:
        return None
    examples = endpoint.operation["requestBody"]["content"]["application/json"]["examples"]
    value = next(iter(examples.values()))["value"]
    return {key: ids.get(key, member) for key, member in value.items()}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_who_may(name: str, world: World) -> None:
    endpoint = ENDPOINTS[name]
    assert await world.complaints(endpoint, endpoint.operation["x-access"]) == []


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("listOwnOrders", "anyone"),  # it asks who is there, and the table says that it does not
        ("me", "admin"),  # it never asks for the role
        ("healthReport", "user"),  # it never asks for a session
        ("me", "owner"),  # it has nothing that could be somebody else's
        ("createVenue", "user"),  # it asks for a role
        ("showOwnOrder", "user"),  # it shows nobody what is another's
        ("checkIn", "admin"),  # it lets scanners in too
        ("checkIn", "user"),  # and nobody else
    ],
)
async def test_a_promise_that_is_not_kept_is_seen(name: str, promised: str, world: World) -> None:
    """The negative control: the server as it is, and a table that is wrong about one endpoint."""
    assert await world.complaints(ENDPOINTS[name], promised) != []


def test_every_access_is_in_the_table() -> None:
    assert {endpoint.operation["x-access"] for endpoint in ENDPOINTS.values()} == TABLE.keys()
    for endpoint in ENDPOINTS.values():
        assert bool(endpoint.operation["security"]) is (endpoint.operation["x-access"] != "anyone")
