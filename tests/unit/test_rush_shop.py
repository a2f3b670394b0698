"""Does a buyer of the rush find out what happened, however the answer comes, without asking for anything twice?"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from contracts.ids import UserId
from contracts.settings import Settings
from ops.rush import shop as shop_module
from ops.rush.accounts import Account, Accounts
from ops.rush.seat_map import SeatMap
from ops.rush.shop import Answer, RushOver, Shop
from ops.rush.tally import RESERVE, Tally

HELD = {"type": "seats_reserved", "holdId": str(uuid4())}

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SignedInByHand(Accounts):
    """Sessions without Redis: a new cookie each time."""

    async def _sign_in_by_hand(self, account: Account) -> str:
        return f"session-{account.email}-{uuid4()}"


class ScriptedApi:
    """Answers with what it was told to, and remembers the keys and cookies it was asked with."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.keys: list[str] = []
        self.cookies: list[str] = []
        self.paths: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.method != "GET":
            self.keys.append(request.headers["idempotency-key"])
        self.cookies.append(request.headers["cookie"])
        return await self.replies.pop(0)(request)


def says(status: int, body: Any = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=json.dumps(body), headers=named, content_type="application/json")

    return reply


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
async def shop(api: ScriptedApi, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setattr(shop_module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(shop_module, "LOST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(shop_module, "RETRY_AFTER_MAX", 0.001)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as http:
        accounts = SignedInByHand(Settings(), None, http, signs_in=False)  # type: ignore[arg-type]
        yield Shop(http, accounts, tally, connections_max=4, chance=random.Random(1))


async def reserve(shop: Shop) -> Answer:
    account = Account(UserId(uuid4()), "buyer@rush.example")
    return await shop.ask(RESERVE, "POST", "/api/seats/reserve", {"eventId": "e"}, account)


async def test_a_yes_and_a_no_are_both_outcomes(shop: Shop, api: ScriptedApi, tally: Tally) -> None:
    api.replies = [says(201, HELD), says(409, {"code": "seats_unavailable"})]

    assert (await reserve(shop)).body == HELD
    assert (await reserve(shop)).code == "seats_unavailable"
    assert len(tally.seconds[RESERVE]) == 2
    assert api.keys[0] != api.keys[1]


async def test_being_turned_away_is_waited_out_under_the_same_key(shop: Shop, api: ScriptedApi, tally: Tally) -> None:
    api.replies = [says(503, {"code": "busy"}, retry_after="2"), says(429, {}, retry_after="9"), says(201, HELD)]

    assert (await reserve(shop)).status == 201
    assert len(set(api.keys)) == 1
    assert tally.refused == {503: 1, 429: 1}
    assert len(tally.seconds[RESERVE]) == 1


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(shop: Shop, api: ScriptedApi, tally: Tally) -> None:
    api.replies = [hangs_up, says(201, HELD)]

    assert (await reserve(shop)).status == 201
    assert len(set(api.keys)) == 1
    assert tally.unknown_count == 1


async def test_accepted_is_followed_up_where_it_says(shop: Shop, api: ScriptedApi, tally: Tally) -> None:
    place = "/api/commands/1?eventId=e"
    api.replies = [says(202, {}, location=place), says(202, {}), says(503, {}), says(201, HELD)]

    assert (await reserve(shop)).body == HELD
    assert api.paths[1:] == ["/api/commands/1"] * 3
    assert tally.polled_count == 1


@pytest.mark.parametrize("nothing_happened", [says(503, {"code": "deadline_passed"}), says(404, {})])
async def test_an_accepted_command_that_came_to_nothing_is_asked_again(
    shop: Shop, api: ScriptedApi, nothing_happened: Reply
) -> None:
    api.replies = [says(202, {}, location="/api/commands/1"), nothing_happened, says(201, HELD)]

    assert (await reserve(shop)).status == 201
    assert len(set(api.keys)) == 1


async def test_a_lost_session_is_made_again(shop: Shop, api: ScriptedApi, tally: Tally) -> None:
    api.replies = [says(401, {"code": "unauthenticated"}), says(201, HELD)]

    assert (await reserve(shop)).status == 201
    assert len(set(api.cookies)) == 2
    assert len(set(api.keys)) == 1
    assert tally.sign_in_count == 1


async def test_still_in_progress_is_not_yet_an_outcome(shop: Shop, api: ScriptedApi) -> None:
    api.replies = [says(409, {"code": "still_in_progress"}, retry_after="1"), says(201, HELD)]
    assert (await reserve(shop)).status == 201


async def test_a_mistake_of_ours_is_counted_and_asked_again(shop: Shop, api: ScriptedApi, tally: Tally) -> None:
    api.replies = [says(500, {"code": "internal_error"}), says(201, HELD)]

    assert (await reserve(shop)).status == 201
    assert tally.errors == {"internal_error": 1}


async def test_what_was_put_aside_is_given_up(shop: Shop, api: ScriptedApi) -> None:
    api.replies = [says(500, {"code": "not_processed"})]
    assert (await reserve(shop)).code == "not_processed"


async def test_when_the_rush_is_over_nobody_waits_on(shop: Shop, api: ScriptedApi) -> None:
    shop.over.set()
    with pytest.raises(RushOver):
        await reserve(shop)
    with pytest.raises(RushOver):
        await asyncio.wait_for(shop.pause(60.0), timeout=5.0)


def a_map(*, rows: int = 2, seats: int = 3) -> dict[str, Any]:
    return {
        "sections": [
            {
                "name": "A",
                "rows": [
                    {"row": str(r), "seats": [{"id": f"{r}-{n}", "status": "available"} for n in range(seats)]}
                    for r in range(rows)
                ],
            }
        ]
    }


def test_the_hot_seats_are_the_first_of_the_map() -> None:
    assert SeatMap(a_map(), first=4).seat_ids == ["0-0", "0-1", "0-2", "1-0"]


def test_what_is_kept_for_wheelchairs_is_not_pointed_at_and_parts_a_row() -> None:
    drawn = a_map(rows=1, seats=7)
    row = drawn["sections"][0]["rows"][0]["seats"]
    row[2]["kind"], row[3]["kind"] = "accessible", "companion"
    drawn["sections"].append({"name": "Floor", "type": "general_admission", "capacity": 9, "rows": []})
    seats, chance = SeatMap(drawn), random.Random(2)
    assert (seats.has_kept_seats, SeatMap(a_map()).has_kept_seats) == (True, False)
    assert seats.seat_ids == ["0-0", "0-1", "0-4", "0-5", "0-6"]
    for _ in range(50):
        chosen = {*seats.neighbours(3, chance)}
        assert chosen <= {"0-0", "0-1"} or chosen <= {"0-4", "0-5", "0-6"}


def test_neighbours_are_side_by_side_and_not_known_to_be_gone() -> None:
    seats, chance = SeatMap(a_map(rows=1, seats=6)), random.Random(2)
    seats.forget(["0-2"])
    for _ in range(50):
        chosen = [int(seat_id[2:]) for seat_id in seats.neighbours(3, chance)]
        assert 2 not in chosen
        assert not chosen or max(chosen) - min(chosen) <= 2
