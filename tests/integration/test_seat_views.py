"""A live ingress beside a real broker: does it follow what the engine does, and does it own to it when it does not?"""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import aiohttp
import pytest
from redis.asyncio import Redis

from consumers.event_commands.replies import Replies
from contracts import topology, wire
from contracts.domain_events import SeatChange, SeatsChanged
from contracts.ids import EventId, VenueId
from contracts.settings import Settings
from db.availability_cache import Availability, AvailabilityCache
from db.events import create_event
from db.postgres import transaction
from db.sessions import create_session
from db.venues import create_venue
from ingress.seat_documents import SeatList, SeatMap
from tests.broker_probe import BrokerProbe
from tests.builders import OnSale, a_user, extend, release, reserve
from tests.conftest import AnEvent, IngressWith
from tests.eventually import eventually
from tests.faults.tcp_proxy import TcpProxy
from tests.ingress_process import a_free_port, start_ingress

# Nobody carries commands out here, so whoever is passed on to the sale waits for this long and is told to look later.
DEADLINE_SECONDS = 0.3


@dataclass
class Heard:
    """What a client has heard, in one shape for both kinds of stream."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    comments: int = 0
    is_over: bool = False

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == type_]


@asynccontextmanager
async def an_event_source(http: aiohttp.ClientSession, path: str, **headers: str) -> AsyncIterator[Heard]:
    """A client that follows a stream of Server-Sent Events."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.get(path, headers=named) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        heard = Heard()
        reading = asyncio.create_task(_read_events(response, heard))
        try:
            yield heard
        finally:
            reading.cancel()


async def _read_events(response: aiohttp.ClientResponse, heard: Heard) -> None:
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(":")
        if line == b"\n" and "data" in fields:
            heard.frames.append({"type": fields["event"], **json.loads(fields["data"])})
            fields = {}
        elif line.startswith(b":"):
            heard.comments += 1
        elif name == "id":
            heard.ids.append(value.strip())
        elif name != "retry":
            fields[name] = value.strip()
    heard.is_over = True


@dataclass
class Shop:
    """An event, whoever carries its commands out, and an ingress that shows it."""

    sale: OnSale
    http: aiohttp.ClientSession
    replies: Replies

    @property
    def path(self) -> str:
        return f"/api/events/{self.sale.event_id}"

    async def hold(self, *seats: int, told: bool = True) -> Any:
        """Somebody takes these seats; with `told` False, nobody hears of it."""
        outcome = await self.sale.run(reserve(self.sale.event_id, a_user(), [self.sale.seats[seat] for seat in seats]))
        if told:
            await self.replies.send(self.sale.event_id, outcome)
        return outcome.answered[0].reply

    async def get(self, what: str, **headers: str) -> Any:
        async with self.http.get(f"{self.path}/{what}", headers=headers) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def reserve(self, *seats: int, **headers: str) -> tuple[int, dict[str, Any]]:
        """Ask the ingress for these seats."""
        body = {"eventId": str(self.sale.event_id), "seatIds": [str(self.sale.seats[seat]) for seat in seats]}
        return await self.post(body, **headers)

    async def post(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post("/api/seats/reserve", json=body, headers=named) as response:
            return response.status, await response.json(content_type=None)

    async def is_live(self) -> bool:
        """Whether the ingress follows the event (what it is asked first is read from elsewhere)."""
        return await self.metric("boxoffice_seat_views") > 0

    async def metric(self, name: str) -> float:
        async with self.http.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@asynccontextmanager
async def a_shop(settings: Settings, sale: OnSale, url: str) -> AsyncIterator[Shop]:
    """That event as that ingress shows it, to somebody who is logged in."""
    async with Redis.from_url(settings.redis_url) as redis:
        cookie = await create_session(redis, user_id=a_user(), role="user", seconds=600)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(url, headers={"cookie": f"session={cookie}"}, connector=connector) as http,
        Replies(settings) as replies,
    ):
        yield Shop(sale, http, replies)


@pytest.fixture
async def shop(settings: Settings, sale: OnSale, ingress_with: IngressWith) -> AsyncIterator[Shop]:
    """An event of 60 seats in an ingress of its own."""
    url = await ingress_with(reserve_deadline_seconds=DEADLINE_SECONDS, stream_heartbeat_seconds=0.2)
    async with a_shop(settings, sale, url) as opened:
        yield opened


# ---- the stream


async def test_a_change_reaches_the_stream_and_the_socket(shop: Shop) -> None:
    async with an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await eventually(lambda: heard.of("resync"))
        assert heard.frames[0] == {"type": "resync", "version": 0}
        async with shop.http.ws_connect(f"{shop.path}/seats/socket") as client:
            assert await client.receive_json(timeout=5) == {"type": "resync", "version": 0}
            await shop.hold(3, 4)
            frame = {"type": "seats", "version": 2, "previous": 0, "changes": {"h": [3, 4]}}
            await eventually(lambda: heard.of("seats") == [frame], within_seconds=2)
            assert await _next_of(client, "seats") == frame
    assert heard.ids == ["2"]


async def _next_of(client: aiohttp.ClientWebSocketResponse, type_: str) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            frame: dict[str, Any] = await client.receive_json()
            if frame["type"] == type_:
                return frame


async def test_what_came_of_a_held_seat_is_told_in_few_frames_and_each_seat_once(shop: Shop) -> None:
    async with an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await eventually(lambda: heard.of("resync"))
        for seat in range(20):
            await shop.hold(seat)
        await eventually(lambda: heard.of("seats") and heard.of("seats")[-1]["version"] == 20)
    frames = heard.of("seats")
    assert [frame["previous"] for frame in frames] == [0, *(frame["version"] for frame in frames[:-1])]
    assert sorted(seat for frame in frames for seat in frame["changes"]["h"]) == list(range(20))


async def test_whoever_comes_back_hears_what_was_said_meanwhile(shop: Shop) -> None:
    stream = f"{shop.path}/seats/stream"
    async with an_event_source(shop.http, stream) as first:
        await eventually(lambda: first.of("resync"))
        await shop.hold(0)
        await eventually(lambda: first.ids == ["1"])
        await shop.hold(1)
        await eventually(lambda: first.ids == ["1", "2"])
    async with an_event_source(shop.http, stream, last_event_id="1") as again:
        await eventually(lambda: again.ids)
        assert again.frames == [{"type": "seats", "version": 2, "previous": 1, "changes": {"h": [1]}}]
    async with an_event_source(shop.http, f"{stream}?after=2") as up_to_date:
        await shop.hold(2)
        await eventually(lambda: up_to_date.ids)
        assert [frame["version"] for frame in up_to_date.frames] == [3]
    for elsewhere in ("99", "nonsense"):
        async with an_event_source(shop.http, stream, last_event_id=elsewhere) as lost:
            await eventually(lambda lost=lost: lost.frames)
            assert lost.frames[0] == {"type": "resync", "version": 3}


async def test_silence_is_broken_by_heartbeats(shop: Shop) -> None:
    async with (
        an_event_source(shop.http, f"{shop.path}/seats/stream") as heard,
        shop.http.ws_connect(f"{shop.path}/seats/socket") as client,
    ):
        await eventually(lambda: heard.comments >= 2)
        assert await _next_of(client, "heartbeat") == {"type": "heartbeat"}


async def test_the_sale_is_told_of(shop: Shop) -> None:
    async with an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await eventually(lambda: heard.of("resync"))
        await shop.sale.pool.execute("UPDATE events SET status = 'on_sale' WHERE id = $1", shop.sale.event_id)
        await eventually(lambda: heard.of("sale") == [{"type": "sale", "status": "on_sale"}], within_seconds=10)


# ---- what was not heard


async def test_a_gap_is_owned_to_and_closed(shop: Shop) -> None:
    async with an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await eventually(lambda: heard.of("resync"))
        await shop.hold(7, told=False)
        await shop.hold(8)
        await eventually(lambda: {"type": "resync", "version": 2} in heard.frames, within_seconds=10)
        assert (await shop.get("availability"))["seats"][7:9] == "hh"
        await shop.hold(9)
        await eventually(lambda: heard.ids == ["3"])


async def test_a_last_message_that_was_lost_is_missed_after_two_looks(shop: Shop) -> None:
    async with an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await eventually(lambda: heard.of("resync"))
        await shop.hold(7, told=False)
        await eventually(lambda: {"type": "resync", "version": 1} in heard.frames, within_seconds=15)


async def test_without_the_broker_nothing_is_refused_early_and_with_it_all_is_told_again(
    settings: Settings, sale: OnSale, ingress_with: IngressWith
) -> None:
    broker = urlsplit(settings.rabbitmq_url)
    async with TcpProxy(broker.hostname or "", broker.port or 0) as proxy:
        through_proxy = settings.rabbitmq_url.replace(f":{broker.port}", f":{proxy.port}")
        url = await ingress_with(
            rabbitmq_url=through_proxy, reserve_deadline_seconds=DEADLINE_SECONDS, stream_heartbeat_seconds=0.2
        )
        async with (
            a_shop(settings, sale, url) as shop,
            an_event_source(shop.http, f"{shop.path}/seats/stream") as heard,
        ):
            await shop.hold(5)
            await eventually(lambda: heard.of("seats"))
            assert (await shop.reserve(5))[1]["code"] == "seats_unavailable"
            proxy.refuse()
            proxy.cut()
            await eventually(lambda: _is_passed_on(shop, 5))
            await shop.hold(6)
            # Read from the database, where it is at most a second old.
            await eventually(lambda: _shows_held(shop, 6))
            assert len(heard.of("resync")) == 1
            proxy.forward()
            await eventually(lambda: {"type": "resync", "version": 2} in heard.frames, within_seconds=15)
            assert (await shop.reserve(6))[1]["code"] == "seats_unavailable"
            assert proxy.fired


async def _is_passed_on(shop: Shop, seat: int) -> bool:
    return (await shop.reserve(seat))[1].get("code") == "unavailable"


async def _shows_held(shop: Shop, seat: int) -> bool:
    seats = (await shop.get("seats"))["sections"][0]["rows"][seat // 10]["seats"]
    return bool(seats[seat % 10]["status"] == "held")


# ---- the early no


async def test_a_taken_seat_is_refused_without_asking_the_sale(shop: Shop) -> None:
    first = await shop.reserve(0, 1)
    assert first[0] == 202  # nobody knew the event yet, and nobody carries anything out
    await eventually(shop.is_live)
    await shop.hold(1, 2)
    await eventually(lambda: _availability_is(shop, {1: "h", 2: "h"}))
    status, refused = await shop.reserve(0, 2, 1)
    assert (status, refused["code"]) == (409, "seats_unavailable")
    assert refused["seatIds"] == [str(shop.sale.seats[2]), str(shop.sale.seats[1])]
    assert await shop.metric("boxoffice_early_refusals_total") == 1


async def _availability_is(shop: Shop, expected: dict[int, str]) -> bool:
    seats = (await shop.get("availability"))["seats"]
    return all(seats[index] == character for index, character in expected.items())


async def test_a_retry_with_its_key_and_whoever_wants_to_hear_later_are_passed_on(shop: Shop) -> None:
    await shop.get("seats")
    await shop.hold(1)
    await eventually(lambda: _availability_is(shop, {1: "h"}))
    assert (await shop.reserve(1))[0] == 409
    assert (await shop.reserve(1, idempotency_key=uuid4().hex))[0] == 202
    assert (await shop.reserve(1, prefer="respond-async"))[0] == 202


async def test_free_and_unknown_seats_are_the_sales_to_answer_for(shop: Shop) -> None:
    await shop.get("seats")
    await shop.hold(1)
    await eventually(lambda: _availability_is(shop, {1: "h"}))
    assert (await shop.reserve(2))[0] == 202
    body = {"eventId": str(shop.sale.event_id), "seatIds": [str(shop.sale.seats[1]), str(uuid4())]}
    assert (await shop.post(body))[0] == 202


async def test_a_hold_that_is_over_keeps_nobody_away_though_nobody_sweeps(
    settings: Settings, an_event: AnEvent, ingress_with: IngressWith
) -> None:
    sale = await an_event(hold_seconds=1)
    url = await ingress_with(reserve_deadline_seconds=DEADLINE_SECONDS)
    async with a_shop(settings, sale, url) as shop:
        await shop.get("seats")
        await shop.hold(1)
        await eventually(lambda: _availability_is(shop, {1: "h"}))
        # The seat's character stays: only the ledger changes what a version shows.
        assert await eventually(lambda: _is_asked(shop, 1), within_seconds=5)
        assert await _availability_is(shop, {1: "h"})


async def _is_asked(shop: Shop, seat: int) -> bool:
    return (await shop.reserve(seat))[0] == 202


async def test_an_extended_hold_is_known_to_last(
    settings: Settings, an_event: AnEvent, ingress_with: IngressWith
) -> None:
    sale = await an_event(hold_seconds=2)
    url = await ingress_with(reserve_deadline_seconds=DEADLINE_SECONDS)
    async with a_shop(settings, sale, url) as shop:
        await shop.get("seats")
        user_id = a_user()
        taken = await sale.run(reserve(sale.event_id, user_id, [sale.seats[1]]))
        await shop.replies.send(sale.event_id, taken)
        hold = taken.answered[0].reply
        await eventually(lambda: datetime.now(UTC) > hold.held_until - timedelta(seconds=1))
        longer = await sale.run(extend(sale.event_id, user_id, hold.hold_id))
        await shop.replies.send(sale.event_id, longer)
        await eventually(lambda: datetime.now(UTC) > hold.held_until)
        assert (await shop.reserve(1))[0] == 409
        await eventually(lambda: _is_asked(shop, 1), within_seconds=5)


async def test_the_best_available_are_refused_when_nothing_is_left(
    settings: Settings, an_event: AnEvent, ingress_with: IngressWith
) -> None:
    sale = await an_event(seats=6)
    url = await ingress_with(reserve_deadline_seconds=DEADLINE_SECONDS)
    async with a_shop(settings, sale, url) as shop:
        await shop.get("seats")
        hold = await shop.hold(0, 1, 2, 3, 4)
        await eventually(lambda: _availability_is(shop, {4: "h"}))
        best = {"eventId": str(sale.event_id), "bestAvailable": {"count": 2}}
        status, refused = await shop.post(best)
        assert (status, refused["code"]) == (409, "not_enough_seats")
        assert (await shop.post({**best, "bestAvailable": {"count": 1}}))[0] == 202
        owner = await sale.pool.fetchval("SELECT user_id FROM holds WHERE id = $1", hold.hold_id)
        await shop.replies.send(sale.event_id, await sale.run(release(sale.event_id, owner, hold.hold_id)))
        await eventually(lambda: _availability_is(shop, {4: "a"}))
        assert (await shop.post(best))[0] == 202


async def test_before_the_sale_nothing_is_refused_early(
    settings: Settings, an_event: AnEvent, ingress_with: IngressWith
) -> None:
    sale = await an_event(opens_in=timedelta(hours=1))
    url = await ingress_with(reserve_deadline_seconds=DEADLINE_SECONDS)
    async with a_shop(settings, sale, url) as shop:
        await sale.pool.execute("UPDATE seats SET status = 'withheld' WHERE event_id = $1", sale.event_id)
        await shop.get("seats")
        assert (await shop.reserve(0))[0] == 202


# ---- caps, origins, farewells


async def test_an_address_has_so_many_streams_and_gets_them_back(shop: Shop, ingress_with: IngressWith) -> None:
    url = await ingress_with(streams_per_address_max=2)
    async with aiohttp.ClientSession(url) as http:
        stream, web_socket = f"{shop.path}/seats/stream", f"{shop.path}/seats/socket"
        async with an_event_source(http, stream):
            async with http.ws_connect(web_socket):
                assert await _status_of(http, stream) == (429, "too_many_streams")
                with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
                    await http.ws_connect(web_socket)
            await eventually(lambda: _opens(http, stream))


async def test_a_process_has_so_many_streams(shop: Shop, ingress_with: IngressWith) -> None:
    url = await ingress_with(streams_max=1)
    async with aiohttp.ClientSession(url) as http:
        async with an_event_source(http, f"{shop.path}/seats/stream"):
            assert await _status_of(http, f"{shop.path}/seats/stream") == (503, "busy")
        await eventually(lambda: _opens(http, f"{shop.path}/seats/stream"))


async def _status_of(http: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with http.get(path) as response:
        return response.status, (await response.json(content_type=None))["code"]


async def _opens(http: aiohttp.ClientSession, path: str) -> bool:
    async with http.get(path) as response:
        return response.status == 200


async def test_a_page_of_another_site_may_not_open_a_socket(shop: Shop, ingress_with: IngressWith) -> None:
    url = await ingress_with(cors_origins="https://shop.example")
    async with aiohttp.ClientSession(url) as http:
        web_socket = f"{shop.path}/seats/socket"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await http.ws_connect(web_socket, origin="https://evil.example")
        for origin in (url, "https://shop.example", None):
            async with http.ws_connect(web_socket, origin=origin) as opened:
                assert (await opened.receive_json(timeout=5))["type"] == "resync"


async def test_a_socket_says_what_it_knows_once_and_briefly(shop: Shop) -> None:
    await shop.get("seats")
    path = f"{shop.path}/seats/socket?after=0"
    async with an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await shop.hold(0)
        await eventually(lambda: heard.ids)
    async with shop.http.ws_connect(path) as client:
        assert (await _next_of(client, "seats"))["version"] == 1
        await client.send_json({"after": 0})
        assert (await _next_of(client, "seats"))["version"] == 1
        await client.send_json({"after": 0})
        assert await _close_code(client) == 1008
    for text, code in (("x" * 1025, 1009), ("{}", 1008), ('{"after": -1}', 1008)):
        async with shop.http.ws_connect(path) as client:
            await client.send_str(text)
            assert await _close_code(client) == code
    async with shop.http.get(path) as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (400, "malformed_request")
    await eventually(lambda: _stream_count_is(shop, 0))


async def _close_code(client: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(5):
        async for _ in client:
            pass
    return client.close_code


async def test_a_listener_who_does_not_read_is_cut_off_and_the_others_are_not(
    settings: Settings, an_event: AnEvent, ingress_with: IngressWith
) -> None:
    sale = await an_event(seats=2000, seats_per_row=100)
    url = await ingress_with(stream_interval_seconds=0)
    async with a_shop(settings, sale, url) as shop, an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        with await a_deaf_client(url, f"{shop.path}/seats/stream"):
            await eventually(lambda: _stream_count_is(shop, 2))
            told_count = await _tell_until_cut(settings, shop)
            # Whoever listens has heard it all, one frame after the other.
            await eventually(lambda: heard.of("seats") and heard.of("seats")[-1]["version"] == told_count * 2000)
    assert told_count > 1


async def a_deaf_client(url: str, path: str) -> socket.socket:
    """Somebody who asks for a stream and does not read it."""
    parts = urlsplit(url)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, (parts.hostname, parts.port))
    await loop.sock_sendall(deaf, f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    return deaf


async def _tell_until_cut(settings: Settings, shop: Shop) -> int:
    """Whole houses are held and freed until one stream is left; returns how often."""
    told_count = 0
    async with BrokerProbe(settings) as probe:
        exchange = await probe.channel.get_exchange(topology.SEAT_CHANGES, ensure=False)
        while not await _stream_count_is(shop, 1):
            body = _whole_house(shop.sale, told_count, "held" if told_count % 2 == 0 else "available")
            await exchange.publish(aio_pika.Message(body), str(shop.sale.event_id))
            told_count += 1
            assert told_count < 2000, "nobody was cut off"
    return told_count


def _whole_house(sale: OnSale, told_count: int, status: str) -> bytes:
    first = told_count * len(sale.seats) + 1
    changes = tuple(SeatChange(seat_id, index, status) for index, seat_id in enumerate(sale.seats))
    return wire.encode_domain_event(
        SeatsChanged(event_id=sale.event_id, first_seq=first, last_seq=first + len(changes) - 1, changes=changes)
    )


async def _stream_count_is(shop: Shop, count: int) -> bool:
    return await shop.metric("boxoffice_seat_streams") == count


async def test_a_client_of_http_1_0_gets_the_same_bytes_and_head_is_no_stream(shop: Shop) -> None:
    host, port = str(shop.http._base_url.host), int(shop.http._base_url.port or 0)  # type: ignore[union-attr]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {shop.path}/seats/stream HTTP/1.0\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b"transfer-encoding" not in head
    assert b"content-security-policy" in head
    assert (await reader.readline()).startswith(b"retry: ")
    writer.close()
    async with shop.http.head(f"{shop.path}/seats/stream") as response:
        assert response.status == 405


async def test_a_process_that_leaves_ends_its_streams_at_once(settings: Settings, shop: Shop) -> None:
    ours = settings.model_copy(update={"http_port": a_free_port(), "drain_seconds": 15.0})
    process = await start_ingress(ours)
    try:
        url = f"http://127.0.0.1:{ours.http_port}"
        async with aiohttp.ClientSession(url) as http:
            await eventually(lambda: _is_there(http), within_seconds=30)
            async with an_event_source(http, f"{shop.path}/seats/stream") as heard:
                client = await http.ws_connect(f"{shop.path}/seats/socket")
                await eventually(lambda: heard.of("resync"))
                process.send_signal(signal.SIGTERM)
                assert await _close_code(client) == 1001
                await eventually(lambda: heard.is_over, within_seconds=2)
                async with asyncio.timeout(8):
                    await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _is_there(http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get("/live") as response:
            return response.status < 500
    except aiohttp.ClientError:
        return False


async def test_no_more_events_are_followed_than_allowed_but_for_those_that_are_watched(
    settings: Settings, an_event: AnEvent, ingress_with: IngressWith
) -> None:
    url = await ingress_with(seat_views_max=2)
    watched, *others = [await an_event(seats=2, seats_per_row=2) for _ in range(4)]
    async with a_shop(settings, watched, url) as shop, an_event_source(shop.http, f"{shop.path}/seats/stream") as heard:
        await eventually(lambda: heard.of("resync"))
        for other in others:
            async with shop.http.get(f"/api/events/{other.event_id}/seats") as response:
                assert response.status == 200
        assert await shop.metric("boxoffice_seat_views") == 2
        await shop.hold(0)
        await eventually(lambda: heard.ids == ["1"])


# ---- documents


async def test_the_documents_are_what_their_models_say_and_agree(
    settings: Settings, pool: Any, ingress_url: str
) -> None:
    event_id = await an_event_with_a_floor(pool)
    async with aiohttp.ClientSession(ingress_url) as http:
        listed = SeatList.model_validate(await _json_of(http, f"/api/events/{event_id}/seats"))
        drawn = SeatMap.model_validate(await _json_of(http, f"/api/events/{event_id}/map"))
        availability = Availability.model_validate(await _json_of(http, f"/api/events/{event_id}/availability"))
    seats = [seat for section in listed.sections for row in section.rows for seat in row.seats]
    assert [seat.seat_index for seat in seats] == list(range(6))
    assert [seat.kind for seat in seats][:2] == ["accessible", "companion"]
    assert availability.seats == "a" * 56
    assert listed.available_count == availability.available_count == 56
    stalls, floor = listed.sections
    assert (stalls.type, stalls.available_count, stalls.price) == ("seated", 6, Decimal("45.00"))
    assert (floor.type, floor.rows, floor.capacity, floor.available_count) == ("general_admission", (), 50, 50)
    assert (floor.first_seat_index, floor.price) == (6, Decimal("30.00"))
    assert [seat.id for section in drawn.sections for row in section.rows for seat in row.seats] == [
        s.id for s in seats
    ]
    assert [row.first_seat_index for row in drawn.sections[0].rows] == [0, 3]
    assert all(row.start is not None and row.end is not None for row in drawn.sections[0].rows)
    assert drawn.sections[1].place is not None


async def an_event_with_a_floor(pool: Any) -> EventId:
    stalls = {
        "name": "Stalls",
        "rows": 2,
        "seatsPerRow": 3,
        "price": "45.00",
        "accessible": {"A": [1]},
        "companion": {"A": [2]},
    }
    floor = {"name": "Floor", "type": "general_admission", "capacity": 50, "price": "30.00"}
    now, event_id, venue_id = datetime.now(UTC), EventId(uuid4()), VenueId(uuid4())
    async with transaction(pool) as tx:
        await create_venue(tx, venue_id=venue_id, name="The Test", section_config={"sections": [stalls, floor]})
        await create_event(
            tx,
            event_id=event_id,
            venue_id=venue_id,
            name="Standing up",
            event_date=now + timedelta(days=30),
            on_sale_date=now - timedelta(hours=1),
        )
    return event_id


async def _json_of(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.parametrize("what", ["seats", "map", "availability"])
async def test_who_has_it_is_not_sent_it_again_until_it_changes(shop: Shop, what: str) -> None:
    path = f"{shop.path}/{what}"
    await shop.get("seats")
    async with shop.http.get(path) as first:
        tag = first.headers["etag"]
    async with shop.http.get(path, headers={"if-none-match": tag}) as again:
        assert (again.status, await again.read()) == (304, b"")
    await shop.hold(0)

    async def is_new() -> bool:
        async with shop.http.get(path, headers={"if-none-match": tag}) as answer:
            return answer.status == 200

    if what == "map":
        assert not await is_new()
    else:
        await eventually(is_new)


@pytest.mark.parametrize("what", ["seats", "map", "availability", "seats/stream"])
async def test_an_event_that_is_not_there_is_unknown(ingress_url: str, what: str) -> None:
    async with aiohttp.ClientSession(ingress_url) as http:
        assert await _status_of(http, f"/api/events/{uuid4()}/{what}") == (404, "event_unknown")


# ---- the cache


async def test_an_availability_is_kept_as_long_as_its_sale_allows(pool: Any, redis: Redis, an_event: AnEvent) -> None:
    seconds = {"on_sale": 5, "sold_out": 60, "cancelled": 60}
    sale = await an_event(seats=3, seats_per_row=3)
    key = f"availability:{{{sale.event_id}}}"
    for status, expected in seconds.items():
        await sale.pool.execute("UPDATE events SET status = $2 WHERE id = $1", sale.event_id, status)
        await redis.delete(key)
        found = await AvailabilityCache(pool, redis).find(sale.event_id)
        assert found is not None
        assert (found.status, found.seats) == (status, "aaa")
        assert expected - 1 <= await redis.ttl(key) <= expected


async def test_not_yet_on_sale_does_not_outlive_the_opening(pool: Any, redis: Redis, an_event: AnEvent) -> None:
    soon = await an_event(seats=3, seats_per_row=3, opens_in=timedelta(seconds=9))
    later = await an_event(seats=3, seats_per_row=3, opens_in=timedelta(hours=9))
    for sale, most in ((soon, 9), (later, 30)):
        await AvailabilityCache(pool, redis).find(sale.event_id)
        assert most - 5 <= await redis.ttl(f"availability:{{{sale.event_id}}}") <= most


async def test_a_hundred_who_ask_at_once_are_answered_by_one_reading_and_redis_is_no_need(
    pool: Any, sale: OnSale
) -> None:
    class Counted:
        def __init__(self) -> None:
            self.count = 0

        async def fetchrow(self, *arguments: Any) -> Any:
            self.count += 1
            return await pool.fetchrow(*arguments)

    counted = Counted()
    async with Redis.from_url(f"redis://127.0.0.1:{a_free_port()}/0") as nobody:
        cache = AvailabilityCache(counted, nobody)
        found = await asyncio.gather(*(cache.find(sale.event_id) for _ in range(100)))
    assert counted.count == 1
    assert {one.seats for one in found if one is not None} == {"a" * 60}
