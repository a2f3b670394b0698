"""Does anything that is somebody's own end up in a log, when all goes well and when nothing does?

Every secret and every personal thing that passes through the API gets a text of its own here, a canary; then the logs of all
our processes, at their most talkative, are searched for them.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import aiohttp
import pytest

from contracts import topology
from contracts.ids import TransferId
from contracts.signing_keys import SigningKeys
from contracts.transfer_tokens import transfer_token
from db.telemetry.logs import JsonFormatter
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually
from tests.faults.processes import IngressProcess
from tests.faults.world import INGRESS_SETTINGS, Event, World, environment_of
from tests.ingress_process import a_free_port

EMAIL_DOMAIN = "canaries.example"
SECRET_SETTINGS = (
    "signing_key",
    "payment_api_key",
    "rabbitmq_ingress_password",
    "rabbitmq_worker_password",
    "rabbitmq_courier_password",
    "rabbitmq_lifecycle_password",
)


@dataclass
class Canaries:
    """What must not be found, by what it is."""

    texts: list[tuple[str, str]] = field(default_factory=list)

    def new(self, what: str, *, form: str = "{}") -> str:
        """Another one; `form` makes a value of it that passes for what it is."""
        return form.format(self.note(what, f"canary{uuid4().hex}"))

    def note(self, what: str, text: str) -> str:
        """One that we did not choose ourselves."""
        self.texts.append((what, text))
        return text

    def found_in(self, log: str) -> dict[str, str]:
        """Which of them are in there, with the first line of each. A log writes a text as it is, or as JSON or an address
        would."""
        found = {}
        for what, text in self.texts:
            spellings = {text, json.dumps(text)[1:-1], quote(text), text.lower()}
            lines = [line for line in log.splitlines() if any(spelling in line for spelling in spellings)]
            if lines:
                found[what] = lines[0][:1000]
        return found


@dataclass
class Client:
    """Somebody at the API, with headers that are nobody's business either."""

    http: aiohttp.ClientSession
    canaries: Canaries

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request, as JSON or as it is; the answer's status and body."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {
            "content-type": "application/json",
            "authorization": f"Bearer {self.canaries.new('authorization')}",
        }
        async with self.http.request(
            method, path, data=None if body is None else sent, headers=headers, allow_redirects=False
        ) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if response.content_type.endswith("json") and raw else raw

    async def register(self, who: str) -> dict[str, str]:
        """An account, and a session of it."""
        canaries = self.canaries
        account = {
            "email": canaries.new(f"e-mail of {who}", form="{}@" + EMAIL_DOMAIN),
            "password": canaries.new(f"password of {who}"),
            "name": canaries.new(f"name of {who}"),
        }
        status, _ = await self.send("POST", "/api/auth/register", account)
        assert status == 201
        self.note_session(who)
        return account

    async def log_in(self, who: str, account: Mapping[str, str]) -> None:
        """Another session."""
        status, _ = await self.send("POST", "/api/auth/login", {name: account[name] for name in ("email", "password")})
        assert status == 200
        self.note_session(f"{who} again")

    def note_session(self, who: str) -> None:
        (cookie,) = [cookie for cookie in self.http.cookie_jar if cookie.key == "session"]
        # The part behind the user's tag is the secret one.
        self.canaries.note(f"session of {who}", cookie.value[-20:])


@dataclass
class Office:
    """An ingress and consumers of this test's own, at their most talkative, and what they have written."""

    world: World
    url: str
    log_files: list[Path]
    canaries: Canaries
    began_at: dict[Path, int]
    clients: AsyncExitStack

    async def a_client(self) -> Client:
        http = aiohttp.ClientSession(self.url, cookie_jar=aiohttp.CookieJar(unsafe=True))
        return Client(await self.clients.enter_async_context(http), self.canaries)

    def log(self) -> str:
        """Everything that our processes have written since the test began."""
        parts = []
        for file in self.log_files:
            with file.open("rb") as opened:
                opened.seek(self.began_at.get(file, 0))
                parts.append(opened.read().decode(errors="replace"))
        return "\n".join(parts)

    def says(self, action: str) -> bool:
        return f'"action":"{action}"' in self.log()


@pytest.fixture
async def office(world: World, tmp_path: Path) -> AsyncIterator[Office]:
    """See Office."""
    port, consumers_log = a_free_port(), world.stack.log_file("consumers")
    url = f"http://127.0.0.1:{port}"
    environment = environment_of(
        world.stack,
        **INGRESS_SETTINGS,
        http_port=str(port),
        public_url=url,
        log_level="debug",
        bcrypt_cost="4",
    )
    process = IngressProcess(environment, tmp_path / "ingress.log")
    try:
        world.start_consumers(log_level="debug", public_url=url)
        async with AsyncExitStack() as clients:
            yield Office(
                world,
                url,
                [tmp_path / "ingress.log", consumers_log],
                Canaries(),
                {consumers_log: consumers_log.stat().st_size if consumers_log.exists() else 0},
                clients,
            )
    finally:
        process.close()


async def test_nothing_that_is_somebodys_own_is_in_a_log(office: Office) -> None:
    world, canaries = office.world, office.canaries
    for name in SECRET_SETTINGS:
        canaries.note(name, getattr(world.settings, name))
    event = await world.an_event(seats=8)
    await eventually(lambda: is_ready(office), within_seconds=30)
    ann, bob, staff = [await office.a_client() for _ in range(3)]
    await ann.register("Ann")
    of_bob = await bob.register("Bob")
    of_staff = await staff.register("the scanner")
    async with BrokerProbe(world.settings) as broker:
        parked = [
            await broker.make_parking_copy(queue)
            for queue in (topology.NOTIFICATIONS_QUEUE, topology.event_queue(event.sale.event_id))
        ]
        tickets = await a_purchase(ann, event)
        await odd_requests(ann, await office.a_client())
        await a_ticket_changes_hands(office, ann, bob, of_bob["email"], tickets[0])
        await a_ticket_is_scanned(office, staff, of_staff, ann, event, tickets[1])
        await a_webhook_is_made(office, staff, event)
        await unreadable_messages(office, broker, event)
        await servers_go_away(office, ann, event)
        headers = [dict((await broker.wait_for(queue, within_seconds=15)).headers) for queue in parked]
    # What has to be in there, or nothing was looked for in the right place.
    for action in ("checkout_completed", "mail_not_sent", "delivery_parked", "message_parked", "server_away"):
        await eventually(lambda action=action: office.says(action), within_seconds=20)
    assert canaries.found_in(office.log()) == {}
    assert canaries.found_in(repr(headers)) == {}


def test_a_line_that_tells_is_found() -> None:
    """The negative control: a canary in a field, in an error's text, in an address."""
    canaries = Canaries()
    email = canaries.new("e-mail", form="{}@" + EMAIL_DOMAIN)
    canaries.note("a name", "Zoë Ødegård")
    assert canaries.found_in(a_line(user_id=str(uuid4()))) == {}
    assert canaries.found_in(a_line(email=email)).keys() == {"e-mail"}
    assert canaries.found_in(a_line(path=f"/reset?who={quote(email)}")).keys() == {"e-mail"}
    assert canaries.found_in(a_line(name="Zoë Ødegård")).keys() == {"a name"}
    assert canaries.found_in(json.dumps({"name": "Zoë Ødegård"})).keys() == {"a name"}


def a_line(**fields: str) -> str:
    record = logging.makeLogRecord({"name": "test", "msg": "told", "levelno": 20, "levelname": "INFO", **fields})
    return JsonFormatter().format(record)


# ---- what happens to the canaries


async def is_ready(office: Office) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{office.url}/ready") as response:
            return response.ok
    except aiohttp.ClientError:
        return False


async def a_purchase(ann: Client, event: Event) -> list[str]:
    """Two tickets: a wrong card first, then a good one; both under keys that are nobody's business."""
    canaries = ann.canaries
    wanted = {"eventId": str(event.id), "seatIds": [str(seat) for seat in event.seats[:2]]}
    status, hold = await ann.send("POST", "/api/seats/reserve", wanted, idempotency_key=canaries.new("a key"))
    assert status == 201, hold
    paying = {"eventId": str(event.id), "holdId": hold["holdId"]}
    card = canaries.new("an unknown card's token", form="pm_{}")
    status, refused = await ann.send("POST", "/api/checkout", {**paying, "paymentMethod": card})
    assert status == 402, refused
    key = canaries.new("another key")
    good = {**paying, "paymentMethod": "pm_card_visa"}
    status, bought = await ann.send("POST", "/api/checkout", good, idempotency_key=key)
    assert status == 201, bought
    assert (await ann.send("POST", "/api/checkout", paying, idempotency_key=key))[0] == 422
    return [ticket["ticketId"] for ticket in bought["tickets"]]


async def odd_requests(ann: Client, nobody: Client) -> None:
    """What cannot be read, and what cannot be found."""
    canaries = ann.canaries
    body = canaries.new("a body that breaks off", form='{{"email": "{}')
    assert (await ann.send("POST", "/api/auth/login", body.encode()))[0] == 400
    body = canaries.new("a member that nobody knows", form='{{"{}": 1, "email": "a@b.example", "password": "x"}}')
    assert (await ann.send("POST", "/api/auth/login", body.encode()))[0] == 422
    asked = canaries.new("a query", form="/api/events?cursor={}&search=x")
    assert (await ann.send("GET", asked))[0] == 422
    assert (await ann.send("GET", canaries.new("a path", form="/api/nothing/{}")))[0] == 404
    assert (await nobody.send("GET", "/api/orders", cookie=canaries.new("a cookie", form="session={}")))[0] == 401
    wrong = {"email": canaries.new("a stranger", form="{}@" + EMAIL_DOMAIN), "password": canaries.new("a guess")}
    assert (await ann.send("POST", "/api/auth/login", wrong))[0] == 401
    assert (await ann.send("GET", "/live", x_odd=canaries.new("a header that is too long") * 300))[0] == 431


async def a_ticket_changes_hands(office: Office, ann: Client, bob: Client, email: str, ticket_id: str) -> None:
    """Offered to an address that nobody knows, then to Bob, who takes it with the secret of his mail."""
    canaries = office.canaries
    stranger = {"email": canaries.new("a transfer's address", form="{}@" + EMAIL_DOMAIN)}
    status, offered = await ann.send("POST", f"/api/tickets/{ticket_id}/transfer", stranger)
    assert status == 201, offered
    assert (await ann.send("DELETE", f"/api/transfers/{offered['transferId']}"))[0] == 200
    status, offered = await ann.send("POST", f"/api/tickets/{ticket_id}/transfer", {"email": email})
    assert status == 201, offered
    keys = SigningKeys.of(office.world.settings)
    secret = canaries.note("a transfer's secret", transfer_token(keys, TransferId(UUID(offered["transferId"]))))
    status, taken = await bob.send("POST", f"/api/transfers/{offered['transferId']}/accept", {"token": secret})
    assert status == 200, taken


async def a_ticket_is_scanned(
    office: Office, staff: Client, account: Mapping[str, str], ann: Client, event: Event, ticket_id: str
) -> None:
    """By somebody who works at the door, and once by somebody who does not."""
    await office.world.fetch("UPDATE users SET role = 'admin' WHERE email = $1", account["email"].lower())
    await staff.log_in("the scanner", account)
    _, shown = await ann.send("GET", f"/api/tickets/{ticket_id}/code")
    code = office.canaries.note("a ticket's code", shown["code"])
    scan = {"eventId": str(event.id), "code": code, "nonce": str(uuid4()), "gate": "North"}
    assert (await ann.send("POST", "/api/checkin", scan))[0] == 403
    status, admitted = await staff.send("POST", "/api/checkin", scan)
    assert (status, admitted["result"]) == (200, "valid"), admitted


async def a_webhook_is_made(office: Office, staff: Client, event: Event) -> None:
    """To an address where nobody answers."""
    address = office.canaries.new("a webhook's address", form="http://127.0.0.1:9/{}")
    wanted = {"url": address, "types": ["order.completed"], "eventId": str(event.id)}
    status, made = await staff.send("POST", "/api/admin/webhooks", wanted)
    assert status == 201, made
    office.canaries.note("a webhook's secret", made["secret"])
    webhook = f"/api/admin/webhooks/{made['endpoint']['id']}"
    status, tested = await staff.send("POST", f"{webhook}/test")
    assert status < 300, tested


async def unreadable_messages(office: Office, broker: BrokerProbe, event: Event) -> None:
    """To a stage and to the engine."""
    told = office.canaries.new("a message to a stage", form='{{"type": "orders_confirmed", "eventId": "{}"}}')
    await broker.put(topology.NOTIFICATIONS_QUEUE, told.encode(), type="orders_confirmed", message_id=str(uuid4()))
    asked = office.canaries.new(
        "a message to the engine", form='{{"commands": [{{"type": "reserve_seats", "userId": "{}"}}]}}'
    )
    await broker.put(topology.event_queue(event.sale.event_id), asked.encode(), message_id=str(uuid4()))


async def servers_go_away(office: Office, ann: Client, event: Event) -> None:
    """First the mail server, while somebody buys; then PostgreSQL, while somebody registers."""
    world, canaries = office.world, office.canaries
    await world.strike(world.stack.kill, "mail")
    wanted = {"eventId": str(event.id), "seatIds": [str(event.seats[3])]}
    status, hold = await ann.send("POST", "/api/seats/reserve", wanted)
    assert status == 201, hold
    paying = {"eventId": str(event.id), "holdId": hold["holdId"], "paymentMethod": "pm_card_visa"}
    assert (await ann.send("POST", "/api/checkout", paying))[0] == 201
    await eventually(lambda: office.says("mail_not_sent"), within_seconds=20)
    await world.strike(world.stack.kill, "postgres")
    account = {
        "email": canaries.new("an e-mail in an outage", form="{}@" + EMAIL_DOMAIN),
        "password": canaries.new("a password in an outage"),
        "name": canaries.new("a name in an outage"),
    }
    newcomer = await office.a_client()
    assert (await newcomer.send("POST", "/api/auth/register", account))[0] == 503
    assert (await ann.send("POST", "/api/seats/reserve", wanted, prefer="respond-async"))[0] in (202, 409, 503)
    await asyncio.to_thread(world.stack.start, "postgres")
    await asyncio.to_thread(world.stack.start, "mail")
