"""What does a door hear over HTTP, who may ask, and does a device without a network come to the same?"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from typer.testing import CliRunner

from contracts.door_list import ListBroken, read_door_list
from contracts.ids import TicketId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from db.sessions import create_session
from ops.command import app
from ops.stack import Stack
from tests.builders import OnSale, settings_of
from tests.doors import DoorOf, an_account, buy_tickets, now
from tests.faults.tcp_proxy import TcpProxy
from tests.ingress_process import an_ingress, environment_of

PASSWORD = "for this evening"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(stack: Stack) -> AsyncIterator[str]:
    """An ingress for this file alone: one address asks for everybody here."""
    async with an_ingress(settings_of(stack, rate_limit_multiplier=1000.0)) as running:
        yield running


class Asker:
    """Somebody with a session, or with none."""

    def __init__(self, http: aiohttp.ClientSession, cookie: str = "") -> None:
        self.http, self.cookie = http, cookie

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The status and what came back: JSON, or bytes of anything else."""
        named = {"cookie": f"session={self.cookie}"} if self.cookie else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, path, json=body, headers=named) as response:
            raw = await response.read()
            self.etag = response.headers.get("etag", "")
            is_json = response.content_type.endswith("json") and raw
            return response.status, json.loads(raw) if is_json else raw

    async def scan(self, door: DoorOf, code: str, **fields: Any) -> tuple[int, Any]:
        """A scan at this event's door."""
        body = {"eventId": str(door.sale.event_id), "code": code, "nonce": str(uuid4()), "gate": "North", **fields}
        return await self.send("POST", "/api/checkin", body)


class People:
    """Whoever is needed."""

    def __init__(self, http: aiohttp.ClientSession, redis: Redis, pool: Any) -> None:
        self.http, self._redis, self._pool = http, redis, pool

    async def __call__(self, role: Any) -> Asker:
        user_id = await an_account(self._pool, role)
        return Asker(self.http, await create_session(self._redis, user_id=user_id, role=role, seconds=600))

    async def log_in(self, email: str) -> tuple[int, Asker]:
        async with self.http.post("/api/auth/login", json={"email": email, "password": PASSWORD}) as response:
            cookie = response.cookies.get("session")
            return response.status, Asker(self.http, cookie.value if cookie else "")


@pytest.fixture
async def people(url: str, redis: Redis, pool: Any) -> AsyncIterator[People]:
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield People(http, redis, pool)


@pytest.fixture
async def door(sale: OnSale) -> DoorOf:
    return await DoorOf.open(sale)


@pytest.fixture
async def ticket(sale: OnSale) -> TicketId:
    return (await buy_tickets(sale, [0]))[0]


# ---- who may


async def test_only_scanners_and_administrators_are_at_the_door(door: DoorOf, ticket: TicketId, people: People) -> None:
    listed = f"/api/events/{door.sale.event_id}/checkin-list"
    batch = {
        "eventId": str(door.sale.event_id),
        "scans": [{"code": "x", "nonce": str(uuid4()), "gate": "N", "scannedAt": now().isoformat(), "admitted": False}],
    }
    for asker, status in [
        (Asker(people.http), 401),
        (await people("user"), 403),
        (await people("scanner"), 200),
        (await people("admin"), 200),
    ]:
        assert (await asker.scan(door, "forged"))[0] == status
        assert (await asker.send("POST", "/api/checkin/batch", batch))[0] == status
        assert (await asker.send("GET", listed))[0] == status
    assert await door.used_at(ticket) is None


async def test_a_scanner_sees_nothing_of_orders_and_of_the_house(door: DoorOf, sale: OnSale, people: People) -> None:
    buyer = await an_account(sale.pool, "user")
    ticket = (await buy_tickets(sale, [0], buyer))[0]
    order = await sale.pool.fetchval("SELECT order_id FROM tickets WHERE id = $1", ticket)
    scanner = await people("scanner")
    assert (await scanner.send("GET", f"/api/orders/{order}"))[0] == 404
    assert (await scanner.send("GET", "/api/orders"))[1]["orders"] == []
    for path in (f"/api/admin/events/{sale.event_id}/checkins", "/api/admin/scanners"):
        assert (await scanner.send("GET", path))[0] == 403
    assert (await scanner.send("POST", "/api/admin/scanners", {"email": "eve@example.org", "password": PASSWORD}))[
        0
    ] == 403


async def test_an_organiser_makes_and_ends_a_scanner(door: DoorOf, ticket: TicketId, people: People) -> None:
    admin, email = await people("admin"), f"{uuid4().hex}@example.org"
    wanted = {"email": email, "password": PASSWORD, "name": "North gate"}
    status, made = await admin.send("POST", "/api/admin/scanners", wanted)
    assert (status, made["role"], made["email"]) == (201, "scanner", email)
    assert (await admin.send("POST", "/api/admin/scanners", wanted))[0] == 200, "sent again it changes nothing"
    status, scanner = await people.log_in(email)
    assert status == 200
    assert (await admin.send("POST", "/api/admin/scanners", wanted))[0] == 200
    assert (await scanner.scan(door, "forged"))[0] == 200, "nobody is sent home by a request that was sent again"
    assert email in [one["email"] for one in (await admin.send("GET", "/api/admin/scanners"))[1]["scanners"]]

    assert (await admin.send("DELETE", f"/api/admin/scanners/{made['id']}"))[0] == 204
    assert (await scanner.scan(door, door.code(ticket)))[0] == 401, "its session is over"
    again = (await people.log_in(email))[1]
    assert (await again.scan(door, door.code(ticket)))[0] == 403, "and the next one is a buyer's"
    assert (await admin.send("DELETE", f"/api/admin/scanners/{made['id']}"))[0] == 404

    deeds = await door.sale.pool.fetch(
        "SELECT action, before->>'role' AS before, after->>'role' AS after FROM audit_log WHERE subject = $1 ORDER BY id",
        f"user {email}",
    )
    assert [tuple(deed) for deed in deeds] == [("make_scanner", None, "scanner"), ("end_scanner", "scanner", "user")]


async def test_somebody_with_an_account_keeps_it_and_logs_in_again(people: People) -> None:
    admin, email = await people("admin"), f"{uuid4().hex}@example.org"
    async with people.http.post(
        "/api/auth/register", json={"email": email, "password": PASSWORD, "name": "Ann"}
    ) as response:
        before = Asker(people.http, response.cookies["session"].value)
    status, made = await admin.send("POST", "/api/admin/scanners", {"email": email, "password": "another password"})
    assert (status, made["name"], made["role"]) == (200, "Ann", "scanner")
    assert (await before.send("GET", "/api/auth/me"))[0] == 401
    status, scanner = await people.log_in(email)
    assert (status, (await scanner.send("GET", "/api/auth/me"))[1]["role"]) == (200, "scanner")


async def test_what_makes_no_scanner(people: People, pool: Any) -> None:
    admin = await people("admin")
    status, said = await admin.send("POST", "/api/admin/scanners", {"email": f"{uuid4().hex}@example.org"})
    assert (status, said["errors"][0]["pointer"]) == (422, "/password")
    other = await an_account(pool, "admin")
    status, said = await admin.send("POST", "/api/admin/scanners", {"email": f"{other}@example.org"})
    assert (status, said["code"]) == (409, "email_taken"), "nobody loses the administrator's role in passing"


# ---- one scan


async def test_the_same_scan_gets_the_same_answer_and_another_code_is_refused(
    door: DoorOf, ticket: TicketId, people: People
) -> None:
    scanner, nonce = await people("scanner"), str(uuid4())
    first = await scanner.scan(door, door.code(ticket), nonce=nonce)
    assert (first[0], first[1]["result"], first[1]["admit"]) == (200, "valid", True)
    await door.pass_on(ticket)
    assert await scanner.scan(door, door.code(ticket), nonce=nonce) == first
    assert (await scanner.scan(door, "other", nonce=nonce))[1]["code"] == "idempotency_key_reused"
    assert (await scanner.scan(door, door.code(ticket)))[1]["result"] == "transferred"


@pytest.mark.parametrize(
    ("field", "value"),
    [("nonce", "1"), ("gate", ""), ("gate", "x" * 41), ("code", ""), ("code", "x" * 201), ("scannedAt", 1700000000)],
)
async def test_what_is_no_scan_is_refused(door: DoorOf, people: People, field: str, value: Any) -> None:
    body = {"eventId": str(door.sale.event_id), "code": "forged", "nonce": str(uuid4()), "gate": "North", field: value}
    status, said = await (await people("scanner")).send("POST", "/api/checkin", body)
    assert status == 422
    assert said["errors"][0]["pointer"] == f"/{field}"


async def test_an_event_that_is_not_there(door: DoorOf, people: People) -> None:
    scanner = await people("scanner")
    assert (await scanner.scan(door, "forged", eventId=str(uuid4())))[1]["code"] == "event_unknown"
    assert (await scanner.send("GET", f"/api/events/{uuid4()}/checkin-list"))[0] == 404
    admin = await people("admin")
    assert (await admin.send("GET", f"/api/admin/events/{uuid4()}/checkins"))[0] == 404


async def test_a_door_goes_on_without_redis_and_rabbitmq(
    door: DoorOf, sale: OnSale, settings: Settings, redis: Redis
) -> None:
    first, second = await buy_tickets(sale, [0, 1])
    async with a_line(settings.redis_url) as to_redis, a_line(settings.rabbitmq_url) as to_rabbitmq:
        over = {
            "redis_url": through(to_redis, settings.redis_url),
            "rabbitmq_url": through(to_rabbitmq, settings.rabbitmq_url),
        }
        async with an_ingress(settings, **over) as url, aiohttp.ClientSession(url) as http:
            cookie = await create_session(redis, user_id=door.scanner, role="scanner", seconds=60)
            scanner = Asker(http, cookie)
            assert (await scanner.scan(door, door.code(first)))[1]["admit"]
            for line in (to_redis, to_rabbitmq):
                line.refuse()
                line.cut()
            assert to_redis.fired, "or nothing was cut"
            assert to_rabbitmq.fired
            assert (await scanner.scan(door, door.code(second)))[1]["admit"]
            assert (await scanner.scan(door, door.code(second)))[1]["result"] == "already_used"


def a_line(url: str) -> TcpProxy:
    parts = urlsplit(url)
    return TcpProxy(parts.hostname or "", parts.port or 0)


def through(line: TcpProxy, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{line.port}").geturl()


# ---- the list


async def test_a_list_is_checked_with_the_public_key_alone_and_asked_for_again_cheaply(
    door: DoorOf, sale: OnSale, people: People
) -> None:
    first, second, third = await buy_tickets(sale, [0, 1, 2])
    await door.scan(door.code(second))
    await door.end(third, "refunded")
    scanner, path = await people("scanner"), f"/api/events/{sale.event_id}/checkin-list"
    status, packed = await scanner.send("GET", path)
    assert status == 200
    public_keys = SigningKeys.of(sale.settings).public_keys
    read = read_door_list(packed, public_keys)
    assert {id_: str(ticket.status) for id_, ticket in read.tickets.items()} == {
        first: "valid",
        second: "already_used",
        third: "refunded",
    }
    assert read.judge(door.code(first), now()).result == "valid"
    with pytest.raises(ListBroken):
        read_door_list(packed[:-9] + bytes([packed[-9] ^ 1]) + packed[-8:], public_keys)

    etag = scanner.etag
    assert etag == f'"{read.head.version}"'
    assert (await scanner.send("GET", path, if_none_match=etag))[0] == 304
    assert (await scanner.send("GET", path))[1] == packed, "the same version is the same bytes"


@pytest.mark.parametrize(
    "change", ["scan", "pass_on", "refund", "offer", "withdraw", "buy", "cancel", "rotate", "rename"]
)
async def test_every_change_is_another_version(
    door: DoorOf, sale: OnSale, ticket: TicketId, people: People, change: str
) -> None:
    offer = await door.offer_to_others(ticket) if change == "withdraw" else None
    scanner, path = await people("scanner"), f"/api/events/{sale.event_id}/checkin-list"
    before = (await scanner.send("GET", path), scanner.etag)[1]
    if change == "scan":
        await door.scan(door.code(ticket))
    elif change == "pass_on":
        await door.pass_on(ticket)
    elif change == "refund":
        await door.end(ticket, "refunded")
    elif change == "offer":
        await door.offer_to_others(ticket)
    elif change == "withdraw":
        await sale.pool.execute("UPDATE resales SET status = 'withdrawn', ended_at = now() WHERE id = $1", offer)
    elif change == "buy":
        await buy_tickets(sale, [1])
    else:
        changes = {"cancel": "status = 'cancelled'", "rotate": "rotating_codes = true", "rename": "name = 'Another'"}
        await sale.pool.execute(f"UPDATE events SET {changes[change]} WHERE id = $1", sale.event_id)  # noqa: S608
    status, packed = await scanner.send("GET", path, if_none_match=before)
    assert status == 200, "what was not asked for is not the same any more"
    read_door_list(packed, SigningKeys.of(sale.settings).public_keys)


# ---- a device without a network


async def boxoffice(settings: Settings, *arguments: str, password: str = "") -> tuple[int, str]:
    """The command's exit code and what it said; in a thread, because it has a loop of its own."""
    environment = environment_of(settings) | {"DOOR_PASSWORD": password}
    said = await asyncio.to_thread(CliRunner().invoke, app, [*arguments], env=environment)
    return said.exit_code, said.output


async def test_two_devices_without_a_network_let_the_same_ticket_in_and_are_told_of_it(
    door: DoorOf, sale: OnSale, people: People, settings: Settings, url: str, tmp_path: Path
) -> None:
    first, second = await buy_tickets(sale, [0, 1])
    email = f"{uuid4().hex}@example.org"
    code, said = await boxoffice(settings, "admin", "scanner", "create", "--email", email)
    assert (code, "may scan now" in said) == (0, True), said
    password = said.partition("Password: ")[2].split()[0]

    as_scanner = ("--email", email, "--server", url)
    north, south = str(tmp_path / "north"), str(tmp_path / "south")
    for file in (north, south):
        code, said = await boxoffice(settings, "door", "list", str(sale.event_id), file, *as_scanner, password=password)
        assert (code, "2 tickets" in said) == (0, True), said

    code, said = await boxoffice(settings, "door", "scan", north, door.code(first), "--gate", "North")
    assert (code, said.startswith("ADMIT")) == (0, True), said
    assert "Stalls A 1" in said
    code, said = await boxoffice(settings, "door", "scan", north, door.code(first), "--gate", "North")
    assert (code, said.startswith("REFUSE already_used")) == (1, True), said
    assert (await boxoffice(settings, "door", "scan", south, door.code(first), "--gate", "South"))[0] == 0
    assert (await boxoffice(settings, "door", "scan", south, door.code(second), "--gate", "South"))[0] == 0

    # The second one comes back to the network first.
    code, said = await boxoffice(settings, "door", "upload", south, *as_scanner, password=password)
    assert (code, "2 scans uploaded, 0 conflicts" in said) == (0, True), said
    code, said = await boxoffice(settings, "door", "upload", north, *as_scanner, password=password)
    assert (code, "2 scans uploaded, 1 conflicts" in said) == (0, True), said
    assert "also at South" in said
    assert "0 scans uploaded" in (await boxoffice(settings, "door", "upload", north, *as_scanner, password=password))[1]

    figures = (await (await people("admin")).send("GET", f"/api/admin/events/{sale.event_id}/checkins"))[1]
    assert (figures["tickets"], figures["checkedIn"], figures["conflictCount"]) == (2, 2, 1)
    conflict = figures["conflicts"][0]
    assert (conflict["gate"], conflict["firstGate"]) == ("South", "North")

    assert (await boxoffice(settings, "admin", "scanner", "end", "--email", email))[0] == 0
    code, said = await boxoffice(settings, "door", "upload", south, *as_scanner, password=password)
    assert (code, "403" in said) == (0, False), "nothing was left to upload"
    code, said = await boxoffice(settings, "door", "list", str(sale.event_id), south, *as_scanner, password=password)
    assert (code, "forbidden" in said) == (2, True), said
