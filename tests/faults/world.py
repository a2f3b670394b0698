"""What is there to sell, who buys, and how does the sale stand when everything has come to rest?"""

import asyncio
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID, uuid4

import aio_pika
import aiohttp
from redis.asyncio import Redis

from contracts import topology
from contracts.ids import SeatId
from contracts.settings import PREFIX, Settings
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool
from db.redis import REDIS_AWAY
from db.sessions import create_session
from db.users import User, create_user
from ops.payment_simulator.log_reader import IntentOnLog, read_money_log
from ops.stack import Stack
from ops.verify import simulator_log_path, verify_event
from tests.builders import OnSale, an_event_on_sale, settings_of
from tests.eventually import eventually
from tests.faults.processes import OurProcess, WarmConsumers
from tests.seat_history import Kind, Operation, Outcome, find_contradiction

GOOD_CARD = "pm_card_visa"
BAD_CARD = "pm_card_chargeDeclined"
CARD_THAT_FAILS_AT_CAPTURE = "pm_card_captureFails"

# What every server of these tests is told: nobody is held up for asking often, and what takes minutes takes seconds.
INGRESS_SETTINGS = {
    "rate_limit_multiplier": "1000",
    "reserve_deadline_seconds": "1.0",
    "checkout_deadline_seconds": "3.0",
    "heartbeat_seconds": "2",
}
CONSUMERS_SETTINGS = {
    "metrics_port": "0",
    "payment_unknown_seconds": "1.0",
    "payment_read_timeout_seconds": "0.5",
    "payment_breaker_seconds": "1.0",
    "redis_breaker_seconds": "1.0",
    "relay_poll_seconds": "0.5",
    "lifecycle_poll_seconds": "0.5",
    "sweep_seconds": "1.0",
    # A shopper goes on reserving while no payment gets through: how many holds that makes is not what is tested.
    "live_holds_max": "1000",
    "idle_transaction_timeout_seconds": "2.0",
    # A hold of one test must not run out in the middle of another and be a hit of its failpoint.
    "decline_grace_seconds": "600",
    "heartbeat_seconds": "2",
}

# Nobody in these tests waits longer than this for an answer that settles something.
OUTCOME_WITHIN_SECONDS = 40.0
RETRY_PAUSE_SECONDS = 0.1
REQUEST_SECONDS_MAX = 10.0

# Answers after which the same request is worth repeating under its key.
ASK_AGAIN_CODES = frozenset({"still_in_progress", "deadline_passed", "busy", "unavailable", "not_on_sale"})


def environment_of(stack: Stack, **settings: str) -> dict[str, str]:
    """The environment of a process of ours on this stack."""
    others = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    return {**others, **stack.environment(), **{f"{PREFIX}{name.upper()}": value for name, value in settings.items()}}


@dataclass(frozen=True)
class Answer:
    """What the API said, byte for byte."""

    status: int
    raw: bytes
    headers: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw) if self.raw else {}

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))

    @property
    def is_outcome(self) -> bool:
        """It says how it ended; anything else is to be asked again."""
        return self.status not in (202, 401, 429) and self.code not in ASK_AGAIN_CODES

    def __str__(self) -> str:
        return f"{self.status} {self.raw.decode()[:300]}"


@dataclass
class Event:
    """An event on sale, and what its buyers did to each seat and saw of it."""

    sale: OnSale
    history: defaultdict[SeatId, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    # By hold, when its payment was first asked for; and the holds of which it is noted how that ended.
    paid_for_since: dict[str, float] = field(default_factory=dict)
    payments_noted: set[str] = field(default_factory=set)

    @property
    def id(self) -> UUID:
        return self.sale.event_id

    @property
    def seats(self) -> list[SeatId]:
        return self.sale.seats

    def note_payment(self, hold: "HeldSeats", answer: Answer) -> None:
        """However often it was asked for: a payment happens once."""
        kind: dict[str, Kind] = {"": "buy", "order_cancelled": "release"}
        if answer.code in kind and hold.id not in self.payments_noted:
            self.payments_noted.add(hold.id)
            self.note(hold.seats, kind[answer.code], hold.id, "done", self.paid_for_since[hold.id])

    def note(self, seats: Sequence[SeatId], kind: Kind, who: str, outcome: Outcome, call_at: float) -> None:
        for seat in seats:
            self.history[seat].append(Operation(call_at, time.monotonic(), kind, who, outcome))


@dataclass
class Buyer:
    """Somebody with an account, a session and patience."""

    world: "World"
    event: Event
    user: User
    http: aiohttp.ClientSession
    cookie: str = ""
    # Every answer there was, in order: what a test says about how often and how it was answered.
    answers: list[Answer] = field(default_factory=list)

    async def sign_in(self) -> None:
        """A session, or a new one after Redis has forgotten the old."""
        self.cookie = await create_session(self.world.redis, user_id=self.user.id, role="user", seconds=3600)

    async def ask_once(self, method: str, path: str, body: Mapping[str, Any], key: str, **headers: str) -> Answer:
        """One request; raises aiohttp.ClientError or TimeoutError when there is no answer."""
        headers |= {"cookie": f"session={self.cookie}", "idempotency-key": key}
        async with self.http.request(method, path, json=body, headers=headers) as response:
            answer = Answer(response.status, await response.read(), {k.lower(): v for k, v in response.headers.items()})
        self.answers.append(answer)
        return answer

    async def ask(self, method: str, path: str, body: dict[str, Any], key: str) -> Answer:
        """The outcome: asked for under the same key until there is one."""
        give_up_at = time.monotonic() + OUTCOME_WITHIN_SECONDS
        answer: Answer | None = None
        while time.monotonic() < give_up_at:
            try:
                answer = await self.ask_once(method, path, body, key)
            except (aiohttp.ClientError, TimeoutError):
                answer = None
            if answer is not None and answer.is_outcome:
                return answer
            if answer is not None and answer.status == 401:
                with suppress(*REDIS_AWAY):
                    await self.sign_in()
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
        raise AssertionError(f"no outcome within {OUTCOME_WITHIN_SECONDS:.0f} s; the last answer was {answer}")

    async def reserve(self, seats: Sequence[SeatId], *, key: str = "") -> Answer:
        """Ask for these seats until the outcome is known."""
        key, call_at = key or str(uuid4()), time.monotonic()
        body = {"eventId": str(self.event.id), "seatIds": [str(seat) for seat in seats]}
        try:
            answer = await self.ask("POST", "/api/seats/reserve", body, key)
        except BaseException:
            self.event.note(seats, "hold", key, "unknown", call_at)
            raise
        who = answer.body.get("holdId", key)
        if answer.status == 201 or answer.code == "seats_unavailable":
            self.event.note(seats, "hold", who, "done" if answer.status == 201 else "refused", call_at)
        return answer

    async def hold(self, seats: Sequence[SeatId]) -> "HeldSeats":
        """A reservation that must succeed."""
        answer = await self.reserve(seats)
        assert answer.status == 201, answer
        return HeldSeats(answer.body["holdId"], tuple(seats))

    async def check_out_once(self, hold: "HeldSeats", *, payment_method: str = GOOD_CARD, key: str = "") -> Answer:
        """One request to pay for the hold."""
        return await self.ask_once("POST", "/api/checkout", self._checkout(hold, payment_method), key or str(uuid4()))

    async def check_out(self, hold: "HeldSeats", *, payment_method: str = GOOD_CARD, key: str = "") -> Answer:
        """Pay for the hold, until the outcome is known."""
        since = self.event.paid_for_since.setdefault(hold.id, time.monotonic())
        try:
            answer = await self.ask("POST", "/api/checkout", self._checkout(hold, payment_method), key or str(uuid4()))
        except BaseException:
            self.event.note(hold.seats, "buy", hold.id, "unknown", since)
            raise
        self.event.note_payment(hold, answer)
        return answer

    async def mails(self) -> list[dict[str, Any]]:
        """What the buyer's mailbox shows."""
        url = f"http://127.0.0.1:{self.world.stack.ports['mailbox']}/mails.json"
        async with self.http.get(url, params={"to": self.user.email}) as response:
            return list((await response.json())["mails"])

    def _checkout(self, hold: "HeldSeats", payment_method: str) -> dict[str, Any]:
        return {"eventId": str(self.event.id), "holdId": hold.id, "paymentMethod": payment_method}


@dataclass(frozen=True)
class HeldSeats:
    """A hold as its buyer was told of it."""

    id: str
    seats: tuple[SeatId, ...]


class World:
    """Everything around one test: the stack's servers, our processes, the books and the provider."""

    def __init__(self, stack: Stack, warm: WarmConsumers, url: str) -> None:
        self.stack = stack
        self.settings: Settings = settings_of(stack)
        self.url = url
        self.consumers: OurProcess | None = None
        self._warm = warm
        self._events: list[Event] = []
        self._open = AsyncExitStack()
        self.pool: Pool
        self.redis: Redis

    async def __aenter__(self) -> Self:
        self.pool = await open_pool(self.settings, application_name="fault tests")
        self._open.callback(self.pool.terminate)
        self.redis = await self._open.enter_async_context(Redis.from_url(self.settings.redis_url))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill_consumers()
        await self._open.aclose()

    # ---- who and what

    async def an_event(self, seats: int = 12, **fields: Any) -> Event:
        """An event on sale."""
        event = Event(await an_event_on_sale(self.settings, self.pool, seats=seats, **fields))
        self._events.append(event)
        return event

    async def bury_the_dead(self) -> None:
        """End the leases of consumers that an earlier test has killed: whoever comes next would wait for them for two seconds,
        which is as long as a buyer waits for a reservation."""
        await self.pool.execute("DELETE FROM consumer_leases")

    async def forget_events(self) -> None:
        """Their sales were long ago: the next consumers need not open their queues."""
        ids = [event.id for event in self._events]
        await self.fetch(
            "UPDATE events SET on_sale_date = now() - interval '90 days', off_sale_date = now() - interval '60 days'"
            " WHERE id = ANY($1)",
            ids,
        )
        url = self.settings.rabbitmq_url_for("lifecycle")
        async with await aio_pika.connect(url) as connection, connection.channel() as channel:
            for event in self._events:
                await channel.queue_delete(topology.event_queue(event.sale.event_id))

    async def a_buyer(self, event: Event) -> Buyer:
        """Somebody new, signed in."""
        email = f"{uuid4().hex}@faults.example"
        user = await create_user(self.pool, email=email, password_hash="none", name="Fay Ult")
        assert user is not None
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        http = await self._open.enter_async_context(aiohttp.ClientSession(self.url, timeout=timeout))
        buyer = Buyer(self, event, user, http)
        await buyer.sign_in()
        return buyer

    # ---- our processes

    def start_consumers(self, failpoints: str = "", **settings: str) -> OurProcess:
        """Every role in one process; `failpoints` are armed in it, `settings` override those of these tests."""
        armed = {"failpoints": failpoints} if failpoints else {}
        environment = environment_of(self.stack, **{**CONSUMERS_SETTINGS, **armed, **settings})
        self.consumers = self._warm.start(environment)
        return self.consumers

    async def kill_consumers(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.consumers is not None:
            self.consumers.send(signal.SIGKILL)
            await eventually(lambda: not self.consumers or not self.consumers.is_alive())
            self.consumers = None

    async def consumers_died(self, process: OurProcess, within_seconds: float = 15.0) -> None:
        """The fault has fired: the process is gone."""
        await eventually(lambda: not process.is_alive(), within_seconds)

    async def ingress_is_ready(self) -> bool:
        """The API has found all its servers."""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/ready") as response:
                return response.ok
        except aiohttp.ClientError:
            return False

    async def strike(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """Do something to a server, while the event loop goes on."""
        return await asyncio.to_thread(act, *arguments)

    # ---- the provider

    async def script(self, operation: str, fault: str, **details: Any) -> None:
        """Make the provider's next such call go wrong; `times=None` for all of them."""
        await self._control("POST", "faults", {"operation": operation, "fault": fault, **details})

    async def fired(self) -> list[int]:
        """How often each scripted fault has struck."""
        return [fault["fired_count"] for fault in (await self._control("GET", "faults"))["data"]]

    async def clear_faults(self) -> None:
        await self._control("DELETE", "faults")

    async def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        url = f"{self.settings.payment_api_url}/control/{path}"
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.request(method, url, json=body) as response,
        ):
            return await response.json()

    def intents(self, order_id: str) -> tuple[IntentOnLog, ...]:
        """What the provider's log says about an order."""
        path = simulator_log_path(self.stack)
        return () if path is None else read_money_log(path).of_order(order_id)

    # ---- how it stands

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """Read the books; a server that is just coming back is waited for."""
        return await self.patiently(lambda: self.pool.fetch(sql, *arguments))

    async def patiently(self, ask: Callable[[], Awaitable[Any]], within_seconds: float = 15.0) -> Any:
        """The answer, as soon as PostgreSQL gives one."""
        give_up_at = time.monotonic() + within_seconds
        while True:
            try:
                return await ask()
            except TRANSIENT_ERRORS:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(RETRY_PAUSE_SECONDS)

    async def at_rest(self, event: Event, within_seconds: float = 30.0) -> None:
        """Nothing is under way any more: no order undecided, no message owed, no money set aside."""
        await eventually(lambda: self._is_at_rest(event), within_seconds)

    async def _is_at_rest(self, event: Event) -> bool:
        unsettled = await self.fetch(
            "SELECT o.id, o.status, p.status FROM orders o JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id"
            " WHERE o.event_id = $1 AND (o.status IN ('pending', 'voiding', 'refunding')"
            " OR (o.status = 'completed' AND p.status <> 'captured'))",
            event.id,
        )
        owed = await self.fetch("SELECT 1 FROM outbox LIMIT 1")
        going_back = await self.fetch(
            "SELECT 1 FROM refunds WHERE event_id = $1 AND status = 'requested'"
            " UNION ALL SELECT 1 FROM cancellations WHERE event_id = $1 AND finished_at IS NULL",
            event.id,
        )
        if unsettled or owed or going_back:
            return False
        orders = await self.fetch("SELECT id FROM orders WHERE event_id = $1", event.id)
        return not any(intent.is_authorized_only for order in orders for intent in self.intents(str(order["id"])))

    async def books_agree(self, event: Event) -> None:
        """Our books with each other and with the provider's."""
        path = simulator_log_path(self.stack)
        report = await self.patiently(lambda: verify_event(self.pool, event.sale.event_id, path))
        assert report.is_money_compared
        assert report.is_clean, [result for result in report.results if result.differences]

    async def histories_are_linearizable(self, event: Event) -> None:
        """What buyers saw of each seat makes sense, and ends where the database says it stands."""
        call_at = time.monotonic()
        statuses = {
            row["id"]: row["status"]
            for row in await self.fetch("SELECT id, status FROM seats WHERE event_id = $1", event.id)
        }
        for seat, history in event.history.items():
            read = Operation(call_at, time.monotonic(), "read", "the database", statuses[seat])
            assert (contradiction := find_contradiction([*history, read])) is None, contradiction

    async def everything_agrees(self, event: Event, within_seconds: float = 30.0) -> None:
        """Wait for rest, then hold everything against everything."""
        await self.at_rest(event, within_seconds)
        await self.books_agree(event)
        await self.histories_are_linearizable(event)

    async def order(self, order_id: str) -> Any:
        """An order and its payment as stored."""
        found = await self.fetch(
            "SELECT o.*, p.status AS payment_status FROM orders o"
            " JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id WHERE o.id = $1",
            UUID(order_id),
        )
        assert found, f"there is no order {order_id}"
        return found[0]
