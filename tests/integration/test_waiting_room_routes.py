"""The waiting room over HTTP: one place each, a turn nobody can take for another, and a proof for everybody."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp
import altcha
import pytest
from redis.asyncio import Redis

from contracts.beacon import BeaconSource
from contracts.ids import EventId, UserId
from contracts.receipts import Receipt
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_line import Pace, Snapshot
from contracts.waiting_room import LogEntry, LogKind, Phase
from contracts.waiting_room_proof import RoomProof
from db.redis import REDIS_AWAY, open_redis
from db.sessions import Role, create_session
from db.waiting_room import WaitingRooms
from db.waiting_room_observations import RoomPulse, WaitingRoomObservations
from db.waiting_room_records import (
    Challenge,
    DemotionMode,
    NewRoomTerms,
    append_log,
    find_room,
    make_room,
    set_terms,
)
from ingress.proof_of_work import unsolved
from ingress.waiting_room_snapshots import FRESH_SECONDS, RoomSnapshots
from tests.conftest import AnEvent, IngressWith
from tests.eventually import eventually
from tests.faults.tcp_proxy import TcpProxy
from tests.waiting_rooms import Person, Room, a_room


@dataclass
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Any


@dataclass
class Visitor:
    """Somebody with an account, in one browser."""

    http: aiohttp.ClientSession
    user_id: UserId
    room: Room

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request about this room, or to an absolute path."""
        url = path if path.startswith("/api") else f"/api/queue/{self.room.event_id}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, url, json=body, headers=named) as response:
            raw = await response.read()
            is_json = response.content_type.endswith("json")
            return Answer(response.status, json.loads(raw) if is_json and raw else raw, response.headers)

    async def join(self, **body: Any) -> Answer:
        return await self.ask("POST", "/join", body)

    async def position(self) -> Answer:
        return await self.ask("GET", "/position")

    async def claim(self, **body: Any) -> Answer:
        return await self.ask("POST", "/claim", body)

    def cookies(self) -> dict[str, str]:
        """Every cookie, by name."""
        return {cookie.key: cookie.value for cookie in self.http.cookie_jar}

    def take_cookie(self, kind: str, value: str) -> None:
        """Have a cookie that was not given to us."""
        self.http.cookie_jar.update_cookies({f"{kind}_{self.room.event_id.hex}": value}, self.http._base_url)  # type: ignore[arg-type]


AVisitor = Callable[..., Awaitable[Visitor]]


@pytest.fixture
async def rooms(settings: Settings) -> AsyncIterator[WaitingRooms]:
    opened = WaitingRooms(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def room(rooms: WaitingRooms, redis: Redis) -> Room:
    return await a_room(rooms, redis)


@pytest.fixture
async def a_visitor(ingress_url: str, redis: Redis, room: Room) -> AsyncIterator[AVisitor]:
    """A factory of visitors; `user_id` for another browser of somebody."""
    opened: list[aiohttp.ClientSession] = []

    async def make(
        user_id: UserId | None = None, *, url: str = ingress_url, role: Role = "user", room: Room = room
    ) -> Visitor:
        user = user_id or UserId(uuid4())
        http = aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True))
        opened.append(http)
        session = await create_session(redis, user_id=user, role=role, seconds=600)
        http.cookie_jar.update_cookies({"session": session}, http._base_url)  # type: ignore[arg-type]
        return Visitor(http, user, room)

    yield make
    for http in opened:
        await http.close()


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


NO_PLACE = (404, "place_unknown")


# ---- a place, and a turn


async def test_an_account_has_one_place_on_every_device(a_visitor: AVisitor) -> None:
    phone = await a_visitor()
    laptop = await a_visitor(phone.user_id)
    first, again, other = await phone.join(), await phone.join(), await laptop.join()
    assert [answer.status for answer in (first, again, other)] == [201, 200, 200]
    tickets = {answer.body["place"]["ticket"] for answer in (first, again, other)}
    assert tickets == {1}
    # The token is of the session; the same browser keeps its secret.
    assert first.body["placeToken"] != other.body["placeToken"]
    assert first.body["secret"] == again.body["secret"] != other.body["secret"]
    assert (await laptop.position()).body["outlook"]["position"] == 1


async def test_somebody_waits_takes_their_turn_and_has_a_pass(a_visitor: AVisitor, room: Room) -> None:
    ann, ben = await a_visitor(), await a_visitor()
    await ann.join()
    await ben.join()
    assert (await ben.position()).body["outlook"]["peopleAhead"] == 1
    too_soon = await ann.claim()
    assert refusal(too_soon) == (409, "not_your_turn") and "retry-after" in too_soon.headers
    await eventually(lambda: ticks(room))
    given = await ann.claim()
    assert given.status == 200 and given.body["place"]["admitted"] is True
    assert given.body["passToken"] == ann.cookies()[f"pass_{room.event_id.hex}"]
    again = await ann.claim()
    assert again.body["expiresAt"] == given.body["expiresAt"], "claiming again gives no more time"
    status = (await ann.ask("GET", "/status")).body
    assert (status["admitted"], status["state"]) == (True, "active")


async def ticks(room: Room) -> bool:
    """A round of the leader in which somebody came in."""
    return (await room.rooms.tick(room.event_id, room.fence)).admitted > 0


async def test_leaving_gives_the_place_up_and_a_new_one_is_at_the_end(a_visitor: AVisitor, room: Room) -> None:
    ann, ben = await a_visitor(), await a_visitor()
    await ann.join()
    await ben.join()
    left = await ann.ask("DELETE", "")
    assert (left.status, left.body["state"], left.body["gone"]) == (200, "gone", "left")
    assert not [name for name in ann.cookies() if room.event_id.hex in name]
    assert refusal(await ann.position()) == NO_PLACE
    assert (await ann.join()).body["place"]["outlook"]["peopleAhead"] == 1


async def test_a_room_that_drains_takes_nobody_new(a_visitor: AVisitor, room: Room) -> None:
    ann, ben = await a_visitor(), await a_visitor()
    await ann.join()
    await room.enter_phase(Phase.DRAINING)
    assert refusal(await ben.join()) == (409, "room_closed")
    assert (await ann.join()).status == 200, "whoever has a place keeps it"


async def test_an_event_without_a_room_says_so(a_visitor: AVisitor, rooms: WaitingRooms, redis: Redis) -> None:
    nowhere = Room(rooms, redis)
    visitor = await a_visitor(room=nowhere)
    for answer in (await visitor.join(), await visitor.ask("GET", "/snapshot"), await visitor.ask("GET", "/proof")):
        assert refusal(answer) == (404, "no_waiting_room")


async def test_before_the_draw_there_is_no_position(a_visitor: AVisitor, rooms: WaitingRooms, redis: Redis) -> None:
    ann = await a_visitor(room=await a_room(rooms, redis, Phase.PRE))
    place = (await ann.join()).body["place"]
    assert (place["inDraw"], place["ticket"], place["outlook"]) == (True, None, None)


# ---- skipping, sharing, replaying, forging


async def test_nobody_uses_anothers_place(a_visitor: AVisitor, room: Room) -> None:
    ann, thief = await a_visitor(), await a_visitor()
    joined = await ann.join()
    token = joined.body["placeToken"]
    thief.take_cookie("place", f"{token}~{joined.body['secret']}")
    for method, path, body in STEPS:
        assert refusal(await thief.ask(method, path, body)) == NO_PLACE
        assert refusal(await thief.ask(method, path, body, waiting_room_place=token)) == NO_PLACE
    # The negative control: the same steps with the same token in its owner's hands.
    assert [(await ann.ask(method, path, body)).status for method, path, body in STEPS] == [200, 409, 200, 200]


STEPS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/position", None),
    ("POST", "/claim", {}),
    ("GET", "/receipt", None),
    ("DELETE", "", None),
)


async def test_a_token_is_of_the_session_it_was_given_to(a_visitor: AVisitor) -> None:
    phone = await a_visitor()
    laptop = await a_visitor(phone.user_id)
    token = (await phone.join()).body["placeToken"]
    assert refusal(await laptop.ask("GET", "/position", waiting_room_place=token)) == NO_PLACE
    assert (await phone.ask("GET", "/position", waiting_room_place=token)).status == 200


async def test_a_token_is_of_its_event(a_visitor: AVisitor, rooms: WaitingRooms, redis: Redis) -> None:
    here = await a_visitor()
    token = (await here.join()).body["placeToken"]
    there = Visitor(here.http, here.user_id, await a_room(rooms, redis))
    assert refusal(await there.ask("GET", "/position", waiting_room_place=token)) == NO_PLACE


async def test_a_forged_token_names_nothing(a_visitor: AVisitor) -> None:
    ann = await a_visitor()
    token = (await ann.join()).body["placeToken"]
    payload, _, signature = token.partition(".")
    flipped = "A" if token[10] != "A" else "B"
    for forged in (f"{token[:10]}{flipped}{token[11:]}", payload, f"{payload}.{'A' * 47}", f"{token}=", "x" * 5000):
        assert refusal(await ann.ask("GET", "/position", waiting_room_place=forged)) == NO_PLACE, forged
    assert signature and (await ann.ask("GET", "/position", waiting_room_place=token)).status == 200


async def test_a_turn_is_claimed_with_the_secret_of_the_device(a_visitor: AVisitor, room: Room) -> None:
    ann = await a_visitor()
    secret = secrets.token_bytes(32)
    joined = await ann.join(commitment=hashlib.sha256(secret).hexdigest())
    assert joined.body["secret"] is None, "we never saw it"
    await eventually(lambda: ticks(room))
    assert refusal(await ann.claim()) == (403, "secret_wrong")
    assert refusal(await ann.claim(secret="ab" * 32)) == (403, "secret_wrong")
    assert (await ann.claim(secret=secret.hex())).status == 200


async def test_a_place_of_before_is_not_replayed(a_visitor: AVisitor, room: Room) -> None:
    ann = await a_visitor()
    old = (await ann.join()).body
    await ann.ask("DELETE", "")
    new = (await ann.join()).body
    assert refusal(
        await ann.ask("POST", "/claim", {"secret": old["secret"]}, waiting_room_place=old["placeToken"])
    ) == (NO_PLACE)
    assert (await ann.ask("GET", "/position", waiting_room_place=new["placeToken"])).status == 200


async def test_nobody_without_a_session_waits(a_visitor: AVisitor) -> None:
    ann = await a_visitor()
    token = (await ann.join()).body["placeToken"]
    ann.http.cookie_jar.clear()
    for method, path, body in (("POST", "/join", {}), *STEPS):
        assert (await ann.ask(method, path, body, waiting_room_place=token)).status == 401


# ---- how often, and from what


async def test_who_asks_too_soon_hears_the_same_again(a_visitor: AVisitor, room: Room) -> None:
    ann, ben = await a_visitor(), await a_visitor()
    await ann.join()
    told = (await ben.join()).body["place"]
    await ann.ask("DELETE", "")
    early = await ben.position()
    assert early.body["outlook"] == told["outlook"], "Redis was not asked: somebody has left in between"
    assert 0 < early.body["pollAfterSeconds"] <= told["pollAfterSeconds"]
    assert int(early.headers["retry-after"]) >= early.body["pollAfterSeconds"]


async def test_who_does_not_listen_is_refused(a_visitor: AVisitor) -> None:
    ann = await a_visitor()
    await ann.join()
    answers = [await ann.position() for _ in range(21)]
    assert [answer.status for answer in answers] == [200] * 20 + [429]
    assert refusal(answers[-1]) == (429, "too_early") and "retry-after" in answers[-1].headers


async def test_everybody_gets_the_same_snapshot(a_visitor: AVisitor, room: Room) -> None:
    await room.people(30)
    ann = await a_visitor()
    answers = await asyncio.gather(*(ann.ask("GET", "/snapshot") for _ in range(40)))
    assert len({answer.headers["etag"] for answer in answers}) <= 2, "one a second"
    answer = answers[0]
    assert answer.headers["cache-control"] == "public, max-age=1"
    snapshot = Snapshot.model_validate(answer.body)
    assert (snapshot.waiting, snapshot.rank_of(20)) == (30, 19)
    same = await ann.ask("GET", "/snapshot", if_none_match=answers[-1].headers["etag"])
    assert same.status in (200, 304)


async def test_far_back_in_a_long_line_the_snapshot_is_enough(
    a_visitor: AVisitor, room: Room, ingress_with: IngressWith, redis: Redis
) -> None:
    await asyncio.gather(*(room.join(Person()) for _ in range(2_050)))
    # The line moves so fast that one may ask again in three seconds.
    pace = Pace(admitted_per_second=(5_000.0,) * 10, intended_per_second=5_000.0)
    await WaitingRoomObservations(redis).publish_pulse(room.event_id, RoomPulse(at_ms=0, pace=pace))
    visitor = await a_visitor(url=await ingress_with(room_exact_max=100))
    place = (await visitor.join()).body["place"]
    before_us = await room.line()
    place_id, key = before_us[-1], f"wr:{{{room.event_id}}}:hb"
    await redis.zadd(key, {place_id: 1})

    async def heard_of() -> bool:
        # Sooner than it was told to, the visitor would hear the same again, and then be refused.
        await asyncio.sleep(1)
        answer = await visitor.position()
        assert answer.body["outlook"]["position"] <= place["outlook"]["position"]
        return await redis.zscore(key, place_id) > 1 and answer.body["total"] == 2_051

    await eventually(heard_of, within_seconds=15)


async def test_while_redis_is_away_what_was_heard_last_is_shown_and_nobody_waits_for_it(
    settings: Settings, pool: Any, room: Room
) -> None:
    server = urlsplit(settings.redis_url)
    async with TcpProxy(server.hostname or "", server.port or 0) as proxy:
        through = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{proxy.port}/0"})
        rooms, client = WaitingRooms(through), open_redis(through)
        snapshots = RoomSnapshots(pool, rooms, WaitingRoomObservations(client))
        seen = await snapshots.find(room.event_id)
        proxy.refuse()
        proxy.cut()

        async def is_stale() -> bool:
            return time.monotonic() - asked_at > FRESH_SECONDS and await snapshots.find(room.event_id) is seen

        asked_at = time.monotonic()
        await eventually(is_stale)
        with pytest.raises(REDIS_AWAY):
            await snapshots.find(EventId(uuid4()))
        proxy.forward()

        async def is_fresh() -> bool:
            return await snapshots.find(room.event_id) is not seen

        await eventually(is_fresh)
        await rooms.close()
        await client.aclose()


# ---- the head of the line


@dataclass
class Heard:
    """A stream, frame by frame."""

    response: aiohttp.ClientResponse
    frames: list[tuple[str, Any]] = field(default_factory=list)

    async def until(self, condition: Callable[[str, Any], bool]) -> Any:
        """The first frame that is so."""
        async with asyncio.timeout(15):
            name = ""
            async for line in self.response.content:
                text = line.decode().strip()
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    data = json.loads(text.removeprefix("data: "))
                    self.frames.append((name, data))
                    if condition(name, data):
                        return data
        raise AssertionError(f"the stream ended: {self.frames}")


async def test_the_head_of_the_line_hears_of_its_turn_at_once(a_visitor: AVisitor, room: Room) -> None:
    ann = await a_visitor()
    await ann.join()
    async with ann.http.get(f"/api/queue/{room.event_id}/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        heard = Heard(response)
        await heard.until(lambda name, data: name == "place" and data["outlook"]["position"] == 1)
        await heard.until(lambda name, data: name == "room" and data["phase"] == "open")
        await room.enter_phase(Phase.PAUSED)
        await heard.until(lambda name, data: name == "room" and data["phase"] == "paused")
        await room.enter_phase(Phase.OPEN)
        await eventually(lambda: ticks(room))
        await heard.until(lambda name, data: name == "place" and data["state"] == "ready")
        assert (await ann.claim()).status == 200


async def test_who_waits_hears_that_all_is_sold(a_visitor: AVisitor, room: Room) -> None:
    ann = await a_visitor()
    await ann.join()
    async with ann.http.get(f"/api/queue/{room.event_id}/stream") as response:
        heard = Heard(response)
        await heard.until(lambda name, _: name == "room")
        await room.enter_phase(Phase.SOLD_OUT)
        gone = await heard.until(lambda name, data: name == "place" and data["state"] == "gone")
        assert gone["gone"] == "sold_out"
        assert (await response.content.read()).strip() == b"", "there is nothing more to hear"
    refused = await ann.ask("GET", "/stream")
    assert (*refusal(refused), refused.body["detail"]) == (410, "place_gone", "sold_out")


async def test_the_others_are_told_to_poll(a_visitor: AVisitor, room: Room) -> None:
    await asyncio.gather(*(room.join(Person()) for _ in range(2_001)))
    ann = await a_visitor()
    await ann.join()
    refused = await ann.ask("GET", "/stream")
    assert refusal(refused) == (409, "not_near_the_head") and "retry-after" in refused.headers


# ---- what is published


TERMS = NewRoomTerms(
    capacity=10,
    rate_per_second=1000.0,
    gather_seconds=1800.0,
    beacon=BeaconSource.OFFLINE,
    public_keys=SigningKeys.of(Settings()).public_keys,
)


@pytest.fixture
async def recorded(an_event: AnEvent, pool: Any, rooms: WaitingRooms, redis: Redis) -> Room:
    """A room that is written down too, of an event whose sale begins in an hour; its cohort is gathering."""
    sale = await an_event(opens_in=timedelta(hours=1))
    assert await make_room(pool, sale.event_id, TERMS) is not None
    made = await a_room(rooms, redis, Phase.PRE)
    return await move_to(sale.event_id, made, redis)


async def move_to(event_id: EventId, room: Room, redis: Redis) -> Room:
    """The same room, of that event."""
    async for key in redis.scan_iter(f"wr:{{{room.event_id}}}:*", count=1000):
        await redis.rename(key, key.decode().replace(str(room.event_id), str(event_id)))
    room.event_id = event_id
    return room


async def test_a_receipt_says_where_the_log_has_us_and_anybody_can_check_it(
    a_visitor: AVisitor, recorded: Room
) -> None:
    ann = await a_visitor(room=recorded)
    await recorded.people(3)
    secret = secrets.token_bytes(32)
    await ann.join(commitment=hashlib.sha256(secret).hexdigest())
    receipt = Receipt.model_validate((await ann.ask("GET", "/receipt")).body)
    proof = RoomProof.model_validate((await ann.ask("GET", "/proof")).body)
    assert receipt.is_signed_by(proof.public_keys[0])
    entry = (await recorded.log())[receipt.log_index]
    assert (entry.kind, entry.ticket, entry.commitment) == (LogKind.JOINED, 4, receipt.commitment)
    assert receipt.commitment == hashlib.sha256(secret).hexdigest()


async def test_the_proof_says_beforehand_what_we_are_bound_to(a_visitor: AVisitor, recorded: Room, pool: Any) -> None:
    ann = await a_visitor(room=recorded)
    answer = await ann.ask("GET", "/proof")
    proof = RoomProof.model_validate(answer.body)
    room = await find_room(pool, recorded.event_id)
    assert room is not None and room.server_secret is not None
    assert proof.announcement is not None and proof.frozen is None and proof.revelation is None
    assert proof.announcement.secret_commitment == hashlib.sha256(room.server_secret).hexdigest()
    assert room.server_secret.hex() not in json.dumps(answer.body)
    assert (await ann.ask("GET", "/proof", if_none_match=answer.headers["etag"])).status == 304


async def test_the_log_is_public_and_names_neither_places_nor_people(
    a_visitor: AVisitor, recorded: Room, pool: Any
) -> None:
    ann = await a_visitor(room=recorded)
    people = await asyncio.gather(*(recorded.join(Person()) for _ in range(1_100)))
    log = await recorded.log()
    await append_log(pool, recorded.event_id, log)
    first = await ann.ask("GET", "/proof/log")
    assert first.headers["content-type"] == "text/plain; charset=utf-8"
    assert "max-age=3600" in first.headers["cache-control"]
    link = first.headers["link"]
    assert link.endswith('>; rel="next"')
    second = await ann.ask("GET", link[1:].partition(">")[0])
    lines = [*first.body.splitlines(), *second.body.splitlines()]
    assert "link" not in second.headers and "max-age=1" in second.headers["cache-control"]
    assert [LogEntry.model_validate_json(line) for line in lines] == [
        LogEntry(**entry.model_dump(exclude={"place_id", "user_id"}, by_alias=False)) for entry in log
    ]
    person = people[0][0]
    assert person.place_id in {entry.place_id for entry in log}, "the log that is kept does name them"
    assert not any(str(word).encode() in first.body for word in (person.place_id, person.user_id, "placeId", "userId"))


# ---- the challenge at the door


@pytest.fixture
async def guarded(recorded: Room, pool: Any) -> Room:
    """A room that asks for a challenge."""
    assert await set_terms(pool, recorded.event_id, challenge=Challenge.PROOF_OF_WORK) is None
    return recorded


def solved(challenge: dict[str, Any]) -> str:
    read = altcha.Challenge.from_dict(challenge)
    solution = altcha.solve_challenge(read)
    assert solution is not None
    return altcha.Payload(read, solution).to_base64()


async def test_a_guarded_room_wants_its_challenge_met_once(
    a_visitor: AVisitor, guarded: Room, ingress_with: IngressWith
) -> None:
    url = await ingress_with(challenge_tries_max=4)
    ann, ben = await a_visitor(room=guarded, url=url), await a_visitor(room=guarded, url=url)
    assert refusal(await ann.join()) == (403, "challenge_required")
    challenge = (await ann.ask("GET", "/challenge")).body["challenge"]
    assert refusal(await ann.join(solution=unsolved(challenge))) == (422, "challenge_failed")
    payload = solved(challenge)
    assert refusal(await ben.join(solution=payload)) == (422, "challenge_failed"), "it is Ann's"
    assert (await ann.join(solution=payload)).status == 201
    assert (await ann.join()).status == 200, "whoever shows a place has been through that"
    phone = await a_visitor(ann.user_id, room=guarded, url=url)
    assert refusal(await phone.join(solution=payload)) == (409, "challenge_spent")


async def test_patience_will_do_instead_of_work(a_visitor: AVisitor, guarded: Room, ingress_with: IngressWith) -> None:
    url = await ingress_with(challenge_wait_seconds=0)
    ann = await a_visitor(room=guarded, url=url)
    given = (await ann.ask("GET", "/challenge")).body
    assert given["waitSeconds"] == 0
    assert (await ann.join(solution=unsolved(given["challenge"]))).status == 201


async def test_a_room_that_asks_for_nothing_says_so(a_visitor: AVisitor) -> None:
    assert (await (await a_visitor()).ask("GET", "/challenge")).body == {"challenge": None, "waitSeconds": 0.0}


# ---- conduct


@pytest.mark.parametrize("demotion", DemotionMode)
async def test_a_crowd_from_one_network_is_demoted_only_where_the_operator_wants_it(
    a_visitor: AVisitor, recorded: Room, pool: Any, ingress_with: IngressWith, demotion: DemotionMode
) -> None:
    assert await set_terms(pool, recorded.event_id, demotion=demotion) is None
    url = await ingress_with(trusted_proxies="127.0.0.1")
    crowd = [await a_visitor(room=recorded, url=url) for _ in range(22)]
    stranger = await a_visitor(room=recorded, url=url)
    for visitor in crowd:
        joined = await visitor.ask("POST", "/join", {}, x_forwarded_for=f"192.0.2.{crowd.index(visitor)}")
        assert joined.status == 201
    assert (await stranger.ask("POST", "/join", {}, x_forwarded_for="198.51.100.7")).status == 201

    async def demoted() -> list[int]:
        return [entry.ticket for entry in await recorded.log() if entry.kind is LogKind.DEMOTED]

    if demotion is DemotionMode.DEMOTE:
        tickets = await eventually(demoted, within_seconds=10)
        assert 23 not in tickets
        details = {entry.detail for entry in await recorded.log() if entry.kind is LogKind.DEMOTED}
        assert details == {"many_from_one_network"}
    else:
        key = f"wr:{{{recorded.event_id}}}:from10:192.0.2.0/24"

        async def counted() -> bool:
            return int(await recorded.redis.get(key) or 0) == 22

        await eventually(counted, within_seconds=10)
        assert await demoted() == []


# ---- the operator


@pytest.fixture
async def operator(a_visitor: AVisitor, recorded: Room) -> Visitor:
    return await a_visitor(room=recorded, role="admin")


def admin_path(event_id: UUID, word: str = "") -> str:
    return f"/api/admin/events/{event_id}/waiting-room{word}"


async def test_an_operator_sees_and_changes_the_terms(operator: Visitor, recorded: Room) -> None:
    path = admin_path(recorded.event_id)
    seen = await operator.ask("GET", path)
    assert (seen.status, seen.body["kind"], seen.body["snapshot"]["phase"]) == (200, "scheduled", "pre")
    assert seen.body["facts"]["capacity"] == "10" and "server" not in json.dumps(seen.body)
    wanted = {"capacity": 7, "ratePerSecond": 2.5, "challenge": "proof_of_work", "demotion": "demote"}
    changed = await operator.ask("PUT", path, wanted, if_match=seen.headers["etag"])
    assert changed.status == 200 and changed.body | wanted == changed.body
    late = await operator.ask("PUT", path, wanted, if_match=seen.headers["etag"])
    assert refusal(late) == (412, "changed_meanwhile")


@pytest.mark.parametrize(
    ("word", "phase"), [("pause", "paused"), ("resume", "open"), ("drain", "draining"), ("end", "ended")]
)
async def test_an_operator_asks_for_a_phase_and_says_why(
    operator: Visitor, recorded: Room, word: str, phase: str
) -> None:
    asked = await operator.ask("POST", admin_path(recorded.event_id, f"/{word}"), {"because": "the test says so"})
    assert (asked.status, asked.body["wantedPhase"], asked.body["wantedBecause"]) == (200, phase, "the test says so")


async def test_an_operator_opens_a_room_for_any_event(operator: Visitor, an_event: AnEvent, pool: Any) -> None:
    sale = await an_event()
    path = admin_path(sale.event_id)
    assert refusal(await operator.ask("GET", path)) == (404, "no_waiting_room")
    opened = await operator.ask("POST", f"{path}/open", {"because": "more came than we thought"})
    assert (opened.status, opened.body["kind"], opened.body["wantedPhase"]) == (200, "unscheduled", "open")
    assert await pool.fetchval("SELECT high_demand FROM events WHERE id = $1", sale.event_id)
    nowhere = await operator.ask("POST", admin_path(uuid4(), "/open"), {"because": "why not"})
    assert refusal(nowhere) == (404, "event_unknown")


async def test_nobody_else_runs_a_room(a_visitor: AVisitor, recorded: Room) -> None:
    ann = await a_visitor(room=recorded)
    for method, word, body in (("GET", "", None), ("PUT", "", {}), ("POST", "/pause", {"because": "I say so"})):
        assert refusal(await ann.ask(method, admin_path(recorded.event_id, word), body)) == (403, "forbidden")
