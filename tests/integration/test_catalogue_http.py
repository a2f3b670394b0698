"""Does the catalogue answer over HTTP as its contract says: pages, copies that are still good, and who may write?"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from contracts.ids import UserId
from contracts.settings import Settings
from db.sessions import Role, create_session
from ops.stack import Stack
from tests.builders import settings_of
from tests.ingress_process import a_free_port, an_ingress
from tests.integration.test_catalogue import a_word

NOW = datetime.now(UTC).replace(microsecond=0)
SECTIONS = [
    {"name": "Stalls", "rows": 2, "seatsPerRow": 3, "price": "45.00", "accessible": {"A": [1]}},
    {"name": "Floor", "type": "general_admission", "capacity": 4, "price": "30.00"},
]

# Of a price without fees and taxes, and the only one of its section.
ALL_FACE: dict[str, Any] = {"fee": "0.00", "tax": "0.00", "tiers": []}


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: Any

    @property
    def pointers(self) -> list[str]:
        """What a problem points at."""
        return [error["pointer"] for error in self.body["errors"]]


class Client:
    """Somebody who asks."""

    def __init__(self, http: aiohttp.ClientSession, cookie: str = "") -> None:
        self._http = http
        self._headers = {"cookie": f"session={cookie}"} if cookie else {}

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; a header If-Match is written if_match."""
        named = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.request(method, path, json=body, headers=named) as response:
            text = await response.read()
            return Answer(response.status, json.loads(text) if text else None, response.headers)

    async def get(self, path: str, **headers: str) -> Answer:
        """Read something."""
        return await self.send("GET", path, **headers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(stack: Stack) -> AsyncIterator[str]:
    """An ingress for this file alone: one address asks for everybody here."""
    async with an_ingress(settings_of(stack, rate_limit_multiplier=1000.0)) as running:
        yield running


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


@pytest.fixture
def anyone(http: aiohttp.ClientSession) -> Client:
    """Who has no account."""
    return Client(http)


async def a_client(http: aiohttp.ClientSession, redis: Redis, role: Role) -> Client:
    return Client(http, await create_session(redis, user_id=UserId(uuid4()), role=role, seconds=60))


@pytest.fixture
async def admin(http: aiohttp.ClientSession, redis: Redis) -> Client:
    """An organiser."""
    return await a_client(http, redis, "admin")


def a_house(**fields: Any) -> dict[str, Any]:
    return {
        "name": "Grand Hall",
        "city": "Berlin",
        "timeZone": "Europe/Berlin",
        "sectionConfig": {"sections": SECTIONS},
        **fields,
    }


def a_concert(venue_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": "A concert",
        "venueId": venue_id,
        "eventDate": (NOW + timedelta(days=60)).isoformat(),
        "onSaleDate": (NOW + timedelta(days=10)).isoformat(),
        **fields,
    }


@pytest.fixture
async def venue_id(admin: Client) -> str:
    made = await admin.send("POST", "/api/venues", a_house())
    assert made.status == 201, made
    return made.body["id"]


async def an_event_of(admin: Client, venue_id: str, **fields: Any) -> str:
    made = await admin.send("POST", "/api/events", a_concert(venue_id, **fields))
    assert made.status == 201, made
    return made.body["id"]


# ---- finding


async def test_a_new_event_is_found_at_once(admin: Client, anyone: Client, venue_id: str) -> None:
    word = a_word()
    assert (await anyone.get(f"/api/events?q={word}")).body == {"events": [], "nextCursor": None}
    event_id = await an_event_of(admin, venue_id, name=word, artist="Ann", category="Rock", ticketLimit=4)
    found = (await anyone.get(f"/api/events?q={word}")).body
    assert found["nextCursor"] is None
    (event,) = found["events"]
    dates = {name: datetime.fromisoformat(event.pop(name)) for name in ("eventDate", "onSaleDate", "offSaleDate")}
    assert dates["eventDate"] == dates["offSaleDate"] == NOW + timedelta(days=60)
    assert event == {
        "id": event_id,
        "name": word,
        "artist": "Ann",
        "category": "rock",
        "venue": {
            "id": venue_id,
            "name": "Grand Hall",
            "city": "Berlin",
            "country": "",
            "timeZone": "Europe/Berlin",
        },
        "status": "upcoming",
        "highDemand": False,
        "currency": "EUR",
        "priceMin": "30.00",
        "priceMax": "45.00",
        "ticketLimit": 4,
        "capacity": 10,
    }


async def test_pages_are_turned_with_the_cursor(admin: Client, anyone: Client, venue_id: str) -> None:
    word = a_word()
    made = [await an_event_of(admin, venue_id, name=word) for _ in range(5)]
    for sort in ("date", "-price", "name", "relevance"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await anyone.get(f"/api/events?q={word}&sort={sort}&limit=2{cursor}")).body
            seen += [event["id"] for event in page["events"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        assert sorted(seen) == sorted(made), sort


async def test_a_cursor_belongs_to_its_query(admin: Client, anyone: Client, venue_id: str) -> None:
    word = a_word()
    for _ in range(2):
        await an_event_of(admin, venue_id, name=word)
    cursor = (await anyone.get(f"/api/events?q={word}&limit=1")).body["nextCursor"]
    assert (await anyone.get(f"/api/events?q={word}&limit=5&cursor={cursor}")).status == 200
    for query in (f"q={word}x", f"q={word}&city=Berlin", f"q={word}&sort=date", ""):
        refused = await anyone.get(f"/api/events?{query}&cursor={cursor}")
        assert (refused.status, refused.pointers) == (422, ["/cursor"]), query
    for forged in ("x", "W10", cursor[:-4], "bnVsbA", "\u00fc"):
        assert (await anyone.get(f"/api/events?q={word}&cursor={forged}")).status == 422, forged


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=x", "/limit"),
        ("sort=cheapest", "/sort"),
        ("sort=relevance", ""),
        ("near=52.5", "/near"),
        ("near=91,0", "/near"),
        ("near=1,181", "/near"),
        ("near=nan,0", "/near"),
        ("near=1,1&radiusKm=501", "/radiusKm"),
        ("near=1,1&radiusKm=nan", "/radiusKm"),
        ("radiusKm=5", ""),
        ("dateFrom=2026-01-01T00:00:00", "/dateFrom"),
        ("dateFrom=1700000000", "/dateFrom"),
        ("dateTo=0001-01-01T00:00:00%2B14:00", "/dateTo"),
        ("dateTo=9999-12-31T23:59:59-14:00", "/dateTo"),
        ("priceMin=-1", "/priceMin"),
        ("priceMax=Infinity", "/priceMax"),
        ("priceMax=1e9", "/priceMax"),
        ("status=open", "/status"),
        ("venueId=1", "/venueId"),
        ("colour=red", "/colour"),
        ("city=a&city=b", "/city"),
        ("q=" + "x" * 201, "/q"),
        ("cursor=" + "x" * 2001, "/cursor"),
    ],
)
async def test_a_query_that_makes_no_sense_is_told_where(anyone: Client, query: str, pointer: str) -> None:
    refused = await anyone.get(f"/api/events?{query}")
    assert (refused.status, refused.body["code"], refused.pointers) == (422, "invalid_request", [pointer])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "q=",
        "q=%20",
        "q=%21%26%7C%28%29%3A%2A%27%5C",
        "q=" + "a%20" * 50,
        "city=&artist=&category=",
        "near=52.52,13.405",
    ],
)
async def test_a_query_that_finds_little_is_no_mistake(anyone: Client, query: str) -> None:
    assert (await anyone.get(f"/api/events?{query}")).status == 200


async def test_a_copy_that_is_still_good_is_not_sent_again(admin: Client, anyone: Client, venue_id: str) -> None:
    word = a_word()
    event_id = await an_event_of(admin, venue_id, name=word)
    for path in (f"/api/events?q={word}", f"/api/events/{event_id}", "/api/venues?limit=1", f"/api/venues/{venue_id}"):
        first = await anyone.get(path)
        assert first.headers["cache-control"].startswith("public, max-age="), path
        again = await anyone.get(path, if_none_match=first.headers["etag"])
        assert (again.status, again.body) == (304, None), path
    await admin.send("PUT", f"/api/events/{event_id}", a_concert(venue_id, name=word, artist="Zed"))
    changed = await anyone.get(f"/api/events/{event_id}", if_none_match=first.headers["etag"])
    assert (changed.status, changed.body["artist"]) == (200, "Zed")


async def test_what_is_not_there_is_404(anyone: Client) -> None:
    assert (await anyone.get(f"/api/events/{uuid4()}")).body["code"] == "event_unknown"
    assert (await anyone.get(f"/api/venues/{uuid4()}")).body["code"] == "venue_unknown"


async def test_the_catalogue_is_read_without_redis(settings: Settings, admin: Client, venue_id: str) -> None:
    word = a_word()
    event_id = await an_event_of(admin, venue_id, name=word)
    away = f"redis://127.0.0.1:{a_free_port()}/0"
    async with an_ingress(settings, redis_url=away) as lonely, aiohttp.ClientSession(lonely) as http:
        alone = Client(http)
        answers = await asyncio.gather(*(alone.get(f"/api/events?q={word}") for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert {event["id"] for answer in answers for event in answer.body["events"]} == {event_id}
        assert (await alone.get(f"/api/events/{event_id}")).status == 200
        assert (await alone.get(f"/api/venues/{venue_id}")).status == 200


# ---- writing events


async def test_an_event_has_all_its_seats(admin: Client, anyone: Client, venue_id: str, pool: Any) -> None:
    made = await admin.send("POST", "/api/events", a_concert(venue_id, description="One night.", highDemand=True))
    event_id = made.body["id"]
    assert (made.status, made.body) == (201, {"id": event_id, "version": 1, "capacity": 10})
    assert (made.headers["location"], made.headers["etag"]) == (f"/api/events/{event_id}", '"1"')
    kinds = await pool.fetch("SELECT kind, count(*) FROM seats WHERE event_id = $1 GROUP BY 1 ORDER BY 1", event_id)
    assert [tuple(record) for record in kinds] == [("accessible", 1), ("seat", 5), ("standing", 4)]
    shown = await anyone.get(made.headers["location"])
    assert shown.body["sections"] == [
        {"name": "Stalls", "type": "seated", "price": "45.00", "capacity": 6, "accessibleCount": 1} | ALL_FACE,
        {"name": "Floor", "type": "general_admission", "price": "30.00", "capacity": 4, "accessibleCount": 0}
        | ALL_FACE,
    ]
    assert (shown.body["description"], shown.body["highDemand"], shown.body["version"]) == ("One night.", True, 1)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "x" * 256}, "/name"),
        ({"name": "a\u0007b"}, "/name"),
        ({"venueId": str(uuid4())}, "/venueId"),
        ({"ticketLimit": 0}, "/ticketLimit"),
        ({"ticketLimit": 21}, "/ticketLimit"),
        ({"ticketLimit": "6"}, "/ticketLimit"),
        ({"currency": "eur"}, "/currency"),
        ({"eventDate": "2027-01-01T20:00:00"}, "/eventDate"),
        ({"eventDate": 1800000000}, "/eventDate"),
        ({"eventDate": "9999-12-31T23:59:59-14:00"}, "/eventDate"),
        ({"onSaleDate": (NOW + timedelta(days=61)).isoformat()}, "/onSaleDate"),
        ({"offSaleDate": (NOW + timedelta(days=10)).isoformat()}, "/offSaleDate"),
        ({"status": "on_sale"}, "/status"),
        ({"highDemand": "yes"}, "/highDemand"),
    ],
)
async def test_an_event_that_cannot_be_is_told_why(admin: Client, venue_id: str, fields: Any, pointer: str) -> None:
    refused = await admin.send("POST", "/api/events", a_concert(venue_id, **fields))
    assert (refused.status, refused.pointers) == (422, [pointer])


async def test_a_price_that_cannot_be_paid_in_that_currency_is_refused(admin: Client) -> None:
    sections = [{"name": "A", "rows": 1, "seatsPerRow": 1, "price": "12.50"}]
    made = await admin.send("POST", "/api/venues", a_house(sectionConfig={"sections": sections}))
    refused = await admin.send("POST", "/api/events", a_concert(made.body["id"], currency="JPY"))
    assert (refused.status, refused.pointers) == (422, ["/currency"])
    assert (await admin.send("POST", "/api/events", a_concert(made.body["id"], currency="CHF"))).status == 201


async def test_a_retry_finds_what_it_has_made(admin: Client, venue_id: str, pool: Any) -> None:
    word = a_word()
    body, key = a_concert(venue_id, name=word), uuid4().hex
    first = await admin.send("POST", "/api/events", body, idempotency_key=key)
    await admin.send("PUT", f"/api/events/{first.body['id']}", {**body, "artist": "Zed"})
    again = await admin.send("POST", "/api/events", body, idempotency_key=key)
    assert (again.status, again.body) == (first.status, first.body)
    assert (again.headers["location"], again.headers["etag"]) == (first.headers["location"], first.headers["etag"])
    other = await admin.send("POST", "/api/events", {**body, "artist": "Ann"}, idempotency_key=key)
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")
    assert await pool.fetchval("SELECT count(*) FROM events WHERE name = $1", word) == 1


async def test_of_equal_posts_at_once_one_makes_the_event(admin: Client, venue_id: str, pool: Any) -> None:
    word = a_word()
    body, key = a_concert(venue_id, name=word), uuid4().hex
    racing = (admin.send("POST", "/api/events", body, idempotency_key=key) for _ in range(8))
    answers = await asyncio.gather(*racing)
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert await pool.fetchval("SELECT count(*) FROM events WHERE name = $1", word) == 1
    # The control: without the key each of them makes one.
    unkeyed = await asyncio.gather(*(admin.send("POST", "/api/events", body) for _ in range(3)))
    assert len({answer.body["id"] for answer in unkeyed}) == 3


async def test_a_key_is_its_users_own(http: aiohttp.ClientSession, redis: Redis, admin: Client, venue_id: str) -> None:
    body, key = a_concert(venue_id), uuid4().hex
    first = await admin.send("POST", "/api/events", body, idempotency_key=key)
    colleague = await a_client(http, redis, "admin")
    second = await colleague.send("POST", "/api/events", {**body, "artist": "Ann"}, idempotency_key=key)
    assert (second.status, second.body["id"] != first.body["id"]) == (201, True)


async def test_a_change_is_seen_at_once_everywhere(admin: Client, anyone: Client, venue_id: str) -> None:
    word = a_word()
    event_id = await an_event_of(admin, venue_id, name=word)
    seen = await anyone.get(f"/api/events/{event_id}")
    await anyone.get(f"/api/events?q={word}")
    changed = await admin.send(
        "PUT", f"/api/events/{event_id}", a_concert(venue_id, name=word, artist="Zed"), if_match=seen.headers["etag"]
    )
    assert (changed.status, changed.body["version"], changed.body["artist"]) == (200, 2, "Zed")
    shown = await anyone.get(f"/api/events/{event_id}")
    assert (shown.body, shown.headers["etag"]) == (changed.body, changed.headers["etag"])
    assert (await anyone.get(f"/api/events?q={word}")).body["events"][0]["artist"] == "Zed"
    await admin.send("PUT", f"/api/venues/{venue_id}", a_house(name="Lesser Hall"))
    assert (await anyone.get(f"/api/events?q={word}")).body["events"][0]["venue"]["name"] == "Lesser Hall"
    assert (await anyone.get(f"/api/events/{event_id}")).body["venue"]["name"] == "Lesser Hall"
    assert (await anyone.get(f"/api/venues/{venue_id}")).body["name"] == "Lesser Hall"


async def test_who_has_not_seen_the_last_change_cannot_overwrite_it(admin: Client, venue_id: str) -> None:
    event_id = await an_event_of(admin, venue_id)
    path, body = f"/api/events/{event_id}", a_concert(venue_id)
    assert (await admin.send("PUT", path, body, if_match='"1"')).status == 200
    for stale in ('"1"', '"1-abc"', '"x"', "rubbish", '"1", "3"'):
        refused = await admin.send("PUT", path, body, if_match=stale)
        assert (refused.status, refused.body["code"]) == (412, "changed_meanwhile"), stale
    for number, good in enumerate(('"{}"', '"{}-abc-gzip"', 'W/"{}"', '"{0}", "{0}-abc"', "*"), start=2):
        assert (await admin.send("PUT", path, body, if_match=good.format(number))).status == 200, good
    assert (await admin.send("PUT", path, body)).body["version"] == 8, "without If-Match it is taken as it is"
    unknown = await admin.send("PUT", f"/api/events/{uuid4()}", body)
    assert (unknown.status, unknown.body["code"]) == (404, "event_unknown")


async def test_of_two_who_change_the_same_version_one_wins(admin: Client, venue_id: str) -> None:
    event_id = await an_event_of(admin, venue_id)
    racing = (
        admin.send("PUT", f"/api/events/{event_id}", a_concert(venue_id, artist=f"A{n}"), if_match='"1"')
        for n in range(6)
    )
    assert sorted(answer.status for answer in await asyncio.gather(*racing)) == [200] + [412] * 5


async def test_what_can_no_longer_be_changed_is_named(admin: Client, venue_id: str, pool: Any) -> None:
    other = (await admin.send("POST", "/api/venues", a_house())).body["id"]
    body = a_concert(venue_id)
    event_id = await an_event_of(admin, venue_id)
    path = f"/api/events/{event_id}"
    refused = await admin.send("PUT", path, {**body, "venueId": other, "currency": "USD", "name": "New"})
    assert (refused.status, refused.body["code"]) == (409, "not_changeable")
    assert refused.pointers == ["/currency", "/venueId"]
    later = {**body, "onSaleDate": (NOW + timedelta(days=11)).isoformat()}
    assert (await admin.send("PUT", path, later)).status == 200
    begun = a_concert(venue_id, onSaleDate=(NOW - timedelta(days=1)).isoformat())
    assert (await admin.send("PUT", path, begun)).status == 200
    assert (await admin.send("PUT", path, later)).pointers == ["/onSaleDate"]
    assert (await admin.send("PUT", path, {**begun, "name": "Still"})).status == 200
    for status in ("completed", "cancelled"):
        await pool.execute("UPDATE events SET status = $2 WHERE id = $1", event_id, status)
        assert (await admin.send("PUT", path, {**begun, "name": "No"})).pointers == ["/name"]


# ---- writing venues


async def test_a_venue_is_shown_with_its_map(admin: Client, anyone: Client) -> None:
    sections = [*SECTIONS, {**SECTIONS[0], "name": "Box", "place": {"x": 100, "y": 50, "width": 60, "height": 40}}]
    drawn = a_house(latitude=52.5, longitude=13.4, address="1 Road", sectionConfig={"sections": sections})
    made = await admin.send("POST", "/api/venues", drawn)
    assert (made.status, made.body["version"], made.body["capacity"]) == (201, 1, 16)
    shown = (await anyone.get(made.headers["location"])).body
    assert (shown["latitude"], shown["longitude"], shown["address"], shown["capacity"]) == (52.5, 13.4, "1 Road", 16)
    stalls, floor, box = shown["sectionConfig"]["sections"]
    assert stalls["place"] is not None
    assert floor["place"]["y"] > stalls["place"]["y"]
    assert (box["place"]["x"], box["place"]["y"]) == (100, 50)
    rows = {lines["section"]: lines["rows"] for lines in shown["rowLines"]}
    assert (len(rows["Stalls"]), rows["Floor"]) == (2, [])
    assert rows["Box"] == [[[80, 40], [120, 40], 0], [[80, 60], [120, 60], 0]]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"timeZone": "Mars/Olympus"}, "/timeZone"),
        ({"timeZone": "../UTC"}, "/timeZone"),
        ({"latitude": 91.0, "longitude": 0.0}, "/latitude"),
        ({"latitude": 1.0}, "/longitude"),
        ({"longitude": 1.0}, "/longitude"),
        ({"sectionConfig": {"sections": []}}, "/sectionConfig/sections"),
        ({"sectionConfig": {"sections": [*SECTIONS, {"name": "A", "price": "1"}]}}, "/sectionConfig/sections/2"),
        ({"capacity": 5}, "/capacity"),
        ({"name": ""}, "/name"),
    ],
)
async def test_a_venue_that_cannot_be_is_told_why(admin: Client, fields: Any, pointer: str) -> None:
    refused = await admin.send("POST", "/api/venues", a_house(**fields))
    assert (refused.status, refused.pointers) == (422, [pointer])


async def test_venues_take_keys_and_versions_like_events(admin: Client) -> None:
    key, word = uuid4().hex, a_word()
    racing = (admin.send("POST", "/api/venues", a_house(name=word), idempotency_key=key) for _ in range(5))
    answers = await asyncio.gather(*racing)
    assert {(answer.status, answer.body["id"]) for answer in answers} == {(201, answers[0].body["id"])}
    other = await admin.send("POST", "/api/venues", a_house(name="Other"), idempotency_key=key)
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")
    path = f"/api/venues/{answers[0].body['id']}"
    seen = await admin.get(path)
    assert (await admin.send("PUT", path, a_house(name=word), if_match=seen.headers["etag"])).body["version"] == 2
    assert (await admin.send("PUT", path, a_house(name=word), if_match=seen.headers["etag"])).status == 412
    assert (await admin.send("PUT", f"/api/venues/{uuid4()}", a_house())).body["code"] == "venue_unknown"


async def test_venues_are_paged(admin: Client, anyone: Client) -> None:
    city = a_word()
    made = [(await admin.send("POST", "/api/venues", a_house(city=city))).body["id"] for _ in range(3)]
    first = (await anyone.get(f"/api/venues?city={city.upper()}&limit=2")).body
    rest = (await anyone.get(f"/api/venues?city={city.upper()}&limit=2&cursor={first['nextCursor']}")).body
    assert [venue["id"] for venue in (*first["venues"], *rest["venues"])] == sorted(made)
    assert rest["nextCursor"] is None
    assert (await anyone.get(f"/api/venues?city=x&cursor={first['nextCursor']}")).pointers == ["/cursor"]


# ---- who may


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("thing", ["events", "venues"])
async def test_only_organisers_write(
    http: aiohttp.ClientSession, redis: Redis, anyone: Client, venue_id: str, method: str, thing: str
) -> None:
    path = f"/api/{thing}" if method == "POST" else f"/api/{thing}/{venue_id}"
    body = a_house() if thing == "venues" else a_concert(venue_id)
    assert (await anyone.send(method, path, body)).status == 401
    user = await a_client(http, redis, "user")
    refused = await user.send(method, path, body)
    assert (refused.status, refused.body["code"]) == (403, "forbidden")
