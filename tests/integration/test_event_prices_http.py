"""Does an organiser say over HTTP what an event costs, and who may have it before everybody, and is he held to it?"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from contracts.ids import UserId
from db.sessions import Role, create_session
from ops.stack import Stack
from tests.builders import settings_of
from tests.ingress_process import an_ingress

NOW = datetime.now(UTC).replace(microsecond=0)
SECTIONS = [
    {
        "name": "Stalls",
        "rows": 2,
        "seatsPerRow": 3,
        "price": "60",
        "tiers": [{"name": "Student", "price": "30"}, {"name": "Child", "price": "0.00"}],
    },
    {"name": "Floor", "type": "general_admission", "capacity": 4, "price": "30.00"},
]
TERMS: dict[str, Any] = {
    "feeRate": "0.1",
    "taxRate": "0.19",
    "refundUntil": (NOW + timedelta(days=50)).isoformat(),
    "refundFeeRate": "0.05",
    "presaleDate": (NOW + timedelta(days=5)).isoformat(),
    "transfers": False,
    "resales": False,
    "rotatingCodes": True,
}


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any

    @property
    def pointers(self) -> list[str]:
        """What a problem points at."""
        return [error["pointer"] for error in self.body["errors"]]


class Client:
    """Somebody who asks."""

    def __init__(self, http: aiohttp.ClientSession, cookie: str) -> None:
        self._http, self._cookie = http, cookie

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request."""
        named = {"cookie": f"session={self._cookie}"} | {n.replace("_", "-"): value for n, value in headers.items()}
        async with self._http.request(method, path, json=body, headers=named) as response:
            return Answer(response.status, await response.json(content_type=None))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(stack: Stack) -> AsyncIterator[str]:
    """An ingress for this file alone: one address asks for everybody here."""
    async with an_ingress(settings_of(stack, rate_limit_multiplier=1000.0)) as running:
        yield running


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


async def a_client(http: aiohttp.ClientSession, redis: Redis, role: Role) -> Client:
    return Client(http, await create_session(redis, user_id=UserId(uuid4()), role=role, seconds=60))


@pytest.fixture
async def admin(http: aiohttp.ClientSession, redis: Redis) -> Client:
    """An organiser."""
    return await a_client(http, redis, "admin")


async def a_venue(admin: Client, sections: Any = SECTIONS) -> str:
    made = await admin.send("POST", "/api/venues", {"name": "Hall", "sectionConfig": {"sections": sections}})
    assert made.status == 201, made
    return str(made.body["id"])


def a_concert(venue_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": "A concert",
        "venueId": venue_id,
        "eventDate": (NOW + timedelta(days=60)).isoformat(),
        "onSaleDate": (NOW + timedelta(days=10)).isoformat(),
        **fields,
    }


async def an_event(admin: Client, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Its path, and what it was made from."""
    body = a_concert(await a_venue(admin), **fields)
    made = await admin.send("POST", "/api/events", body)
    assert made.status == 201, made
    return f"/api/events/{made.body['id']}", body


# ---- what an event costs


async def test_the_terms_of_an_event_are_shown_with_the_parts_of_its_prices(admin: Client) -> None:
    path, _ = await an_event(admin, **TERMS)
    shown = (await admin.send("GET", path)).body
    assert {name: shown[name] for name in TERMS} == {
        **TERMS,
        "feeRate": "0.1000",
        "taxRate": "0.1900",
        "refundFeeRate": "0.0500",
        "presaleDate": TERMS["presaleDate"].replace("+00:00", "Z"),
        "refundUntil": TERMS["refundUntil"].replace("+00:00", "Z"),
    }
    stalls = shown["sections"][0]
    assert (stalls["price"], stalls["fee"], stalls["tax"]) == ("60.00", "5.04", "9.58")
    assert stalls["tiers"] == [
        {"name": "Student", "price": "30.00", "fee": "2.52", "tax": "4.79"},
        {"name": "Child", "price": "0.00", "fee": "0.00", "tax": "0.00"},
    ]
    for document in ("seats", "map"):
        answer = await admin.send("GET", f"{path}/{document}")
        tiers = [section["tiers"] for section in answer.body["sections"]]
        assert tiers == [[{"name": "Student", "price": "30.00"}, {"name": "Child", "price": "0.00"}], []]


async def test_a_request_that_knows_nothing_of_all_this_works_as_before(admin: Client) -> None:
    path, _ = await an_event(admin)
    shown = (await admin.send("GET", path)).body
    assert (shown["presaleDate"], shown["refundUntil"], shown["feeRate"]) == (None, None, "0.0000")
    assert (shown["transfers"], shown["resales"], shown["rotatingCodes"]) == (True, True, False)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"presaleDate": (NOW + timedelta(days=10)).isoformat()}, "/presaleDate"),
        ({"refundUntil": (NOW + timedelta(days=61)).isoformat()}, "/refundUntil"),
        ({"feeRate": "1"}, "/feeRate"),
        ({"feeRate": "-0.1"}, "/feeRate"),
        ({"taxRate": "0.12345"}, "/taxRate"),
        ({"refundFeeRate": "1.1"}, "/refundFeeRate"),
        ({"transfers": "yes"}, "/transfers"),
    ],
)
async def test_terms_that_make_no_sense_are_pointed_at(admin: Client, fields: dict[str, Any], pointer: str) -> None:
    answer = await admin.send("POST", "/api/events", a_concert(str(uuid4()), **fields))
    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_tiers_are_at_most_ten_and_each_once_and_payable(admin: Client) -> None:
    def stalls(*tiers: dict[str, str]) -> dict[str, Any]:
        section = {"name": "Stalls", "rows": 1, "seatsPerRow": 3, "price": "60", "tiers": list(tiers)}
        return {"name": "Hall", "sectionConfig": {"sections": [section]}}

    child = {"name": "Child", "price": "10.50"}
    twice = await admin.send("POST", "/api/venues", stalls(child, child))
    many = await admin.send("POST", "/api/venues", stalls(*({"name": f"T{n}", "price": "1"} for n in range(11))))
    assert (twice.status, many.status) == (422, 422)
    venue = await admin.send("POST", "/api/venues", stalls(child))
    refused = await admin.send("POST", "/api/events", a_concert(venue.body["id"], currency="JPY"))
    assert refused.pointers == ["/currency"]


async def test_once_a_presale_has_begun_its_terms_are_kept(admin: Client) -> None:
    begun = {**TERMS, "presaleDate": (NOW - timedelta(days=1)).isoformat()}
    path, body = await an_event(admin, **begun)

    async def put(**fields: Any) -> Answer:
        return await admin.send("PUT", path, {**body, **fields})

    for name, value in {"presaleDate": None, "feeRate": "0.2", "taxRate": "0"}.items():
        refused = await put(**{name: value})
        assert (refused.status, refused.pointers) == (409, [f"/{name}"])
    earlier = await put(refundUntil=(NOW + timedelta(days=49)).isoformat(), refundFeeRate="0.06")
    assert earlier.pointers == ["/refundFeeRate", "/refundUntil"]
    assert earlier.body["errors"][1]["message"] == "people have bought: it can only become later"
    assert (await put(refundUntil=None)).pointers == ["/refundUntil"]
    better = await put(refundUntil=(NOW + timedelta(days=55)).isoformat(), refundFeeRate="0", transfers=True)
    assert (better.status, better.body["refundFeeRate"], better.body["transfers"]) == (200, "0.0000", True)


async def test_before_anything_is_sold_all_terms_can_be_changed(admin: Client) -> None:
    path, body = await an_event(admin, **TERMS)
    changed = await admin.send(
        "PUT", path, {**body, "feeRate": "0.2", "taxRate": "0", "presaleDate": None, "refundUntil": None}
    )
    assert (changed.status, changed.body["feeRate"], changed.body["presaleDate"]) == (200, "0.2000", None)


# ---- codes


async def test_codes_are_given_out_listed_page_by_page_and_changed(admin: Client) -> None:
    path, _ = await an_event(admin)
    codes = f"/api/admin{path.removeprefix('/api')}/codes"
    fans = {"count": 3, "prefix": "fans", "opensPresale": True, "percentOff": "12.5", "sections": ["Stalls"]}
    made = await admin.send("POST", codes, fans, idempotency_key="one")
    assert made.status == 201, made
    assert (await admin.send("POST", codes, fans, idempotency_key="one")).body == made.body
    assert (await admin.send("POST", codes, {**fans, "count": 4}, idempotency_key="one")).status == 422
    spring = {"code": "Spring 27", "amountOff": "5", "usesMax": 10, "usesPerUserMax": 1}
    assert (await admin.send("POST", codes, spring)).body["codes"][0]["code"] == "SPRING27"
    assert (await admin.send("POST", codes, {**spring, "code": "SPRING 27"})).pointers == ["/code"]
    first = (await admin.send("GET", f"{codes}?limit=3")).body
    last = (await admin.send("GET", f"{codes}?limit=3&cursor={first['nextCursor']}")).body
    listed = [*first["codes"], *last["codes"]]
    assert [code["code"] for code in listed] == [*sorted(c["code"] for c in made.body["codes"]), "SPRING27"]
    assert last["nextCursor"] is None
    assert {(code["usesMax"], code["useCount"], code["percentOff"]) for code in listed[:3]} == {(1, 0, "12.50")}
    assert [c["code"] for c in (await admin.send("GET", f"{codes}?beginsWith=spr")).body["codes"]] == ["SPRING27"]
    changed = await admin.send("PUT", f"{codes}/{listed[3]['id']}", {"disabled": True, "usesMax": 20})
    assert (changed.status, changed.body["usesMax"], changed.body["usesPerUserMax"]) == (200, 20, None)
    assert changed.body["disabledAt"] is not None


@pytest.mark.parametrize(
    "body",
    [
        {"code": "SPRING"},
        {"code": "SPRING", "count": 2, "percentOff": "10"},
        {"percentOff": "10"},
        {"code": "A B", "percentOff": "10"},
        {"code": "GRÜN", "percentOff": "10"},
        {"code": "SPRING", "prefix": "A", "percentOff": "10"},
        {"code": "SPRING", "percentOff": "101"},
        {"code": "SPRING", "amountOff": "-1"},
        {"count": 10_001, "percentOff": "10"},
        {"count": 2, "usesMax": 2, "percentOff": "10"},
        {"count": 2, "prefix": "P" * 26, "percentOff": "10"},
        {"code": "SPRING", "percentOff": "10", "sections": ["Stalls", "Stalls"]},
        {"code": "SPRING", "percentOff": "10", "sections": ["Garden"]},
        {
            "code": "SPRING",
            "percentOff": "10",
            "validFrom": "2027-01-02T00:00:00Z",
            "validUntil": "2027-01-02T00:00:00Z",
        },
    ],
    ids=str,
)
async def test_a_code_that_makes_no_sense_is_refused(admin: Client, body: dict[str, Any]) -> None:
    path, _ = await an_event(admin)
    answer = await admin.send("POST", f"/api/admin{path.removeprefix('/api')}/codes", body)
    assert (answer.status, answer.body["code"]) == (422, "invalid_request"), answer


async def test_codes_are_an_organisers_and_of_their_event(
    admin: Client, http: aiohttp.ClientSession, redis: Redis
) -> None:
    path, _ = await an_event(admin)
    codes = f"/api/admin{path.removeprefix('/api')}/codes"
    buyer = await a_client(http, redis, "user")
    for method, where, body in (("GET", codes, None), ("POST", codes, {}), ("PUT", f"{codes}/{uuid4()}", {})):
        assert (await buyer.send(method, where, body)).status == 403
    assert (await admin.send("PUT", f"{codes}/{uuid4()}", {})).status == 404
    assert (await admin.send("GET", f"/api/admin/events/{uuid4()}/codes")).status == 404
    nowhere = await admin.send("POST", f"/api/admin/events/{uuid4()}/codes", {"count": 1, "opensPresale": True})
    assert nowhere.body["code"] == "event_unknown"


@pytest.mark.parametrize(
    "wanted",
    [
        {"bestAvailable": {"count": 2}, "tiers": ["Student"]},
        {"bestAvailable": {"count": 2}, "tiers": ["Student", "x" * 41]},
        {"bestAvailable": {"count": 2}, "code": "x" * 41},
    ],
    ids=str,
)
async def test_a_reservation_names_one_tier_for_each_seat(admin: Client, wanted: dict[str, Any]) -> None:
    answer = await admin.send("POST", "/api/seats/reserve", {"eventId": str(uuid4()), **wanted})
    assert (answer.status, answer.body["code"]) == (422, "invalid_request")
