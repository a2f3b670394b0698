"""A sale through its waiting room, as a buyer meets it: nobody gets a seat out of turn, and everybody can check why."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.settings import Settings
from contracts.waiting_room import LogEntry
from contracts.waiting_room_proof import LOG_FILE, PROOF_FILE, RECEIPTS_FOLDER
from ops.stack import Stack
from ops.verify import verify_event
from ops.waiting_room.evidence import read_evidence
from ops.waiting_room.verify import examine, is_clean
from tests.acceptance.conftest import Answer, Buyer
from tests.acceptance.sessions import log_in_as_admin
from tests.builders import OnSale, an_event_on_sale
from tests.eventually import eventually

AHighDemandEvent = Callable[..., Awaitable[OnSale]]


@pytest.fixture
async def a_rush(system_settings: Settings, system_pool: Any) -> AsyncIterator[AHighDemandEvent]:
    """A factory of events that everybody wants; each has its room a moment later."""
    made: list[OnSale] = []

    async def make(**fields: Any) -> OnSale:
        event = await an_event_on_sale(system_settings, system_pool, high_demand=True, **fields)
        made.append(event)
        return event

    yield make
    for event in made:
        await event.close()


def queue(event: OnSale, word: str = "") -> str:
    return f"/api/queue/{event.event_id}{word}"


async def in_phase(buyer: Buyer, event: OnSale, *phases: str) -> None:
    """Wait until the room is that far."""

    async def is_so() -> bool:
        snapshot = await buyer.send("GET", queue(event, "/snapshot"))
        return snapshot.status == 200 and snapshot.body["phase"] in phases

    await eventually(is_so, within_seconds=60)


async def join(buyer: Buyer, event: OnSale) -> Answer:
    joined = await buyer.send("POST", queue(event, "/join"), {})
    assert joined.status in (200, 201), joined.body
    return joined


async def asked_patiently(buyer: Buyer, event: OnSale, *states: str) -> Any:
    """Ask for one's position as often as one is told to, until it is one of these states."""
    async with asyncio.timeout(90):
        while True:
            answer = await buyer.send("GET", queue(event, "/position"))
            assert answer.status == 200, answer.body
            if answer.body["state"] in states:
                return answer.body
            await asyncio.sleep(answer.body["pollAfterSeconds"])


async def admitted(buyer: Buyer, event: OnSale) -> Answer:
    """Join, wait, claim."""
    await join(buyer, event)
    await asked_patiently(buyer, event, "ready")
    given = await buyer.send("POST", queue(event, "/claim"), {})
    assert given.status == 200, given.body
    return given


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


@pytest.mark.timeout(180)
async def test_a_buyer_comes_through_the_room_buys_and_makes_room_for_the_next(
    buyers: Any, a_rush: AHighDemandEvent, running_system: Stack, system_pool: Any
) -> None:
    event, buyer, passer_by = await a_rush(), await buyers(), await buyers()
    await in_phase(buyer, event, "open")
    # Whoever has not been let in gets nothing, whatever they ask for.
    assert refusal(await passer_by.reserve(event, 0)) == (403, "not_admitted")
    await admitted(buyer, event)
    hold = await buyer.reserve(event, 0, 1)
    assert hold.status == 201, hold.body
    bought = await buyer.check_out(event, hold)
    assert (bought.status, bought.body["type"]) == (201, "order_completed")

    async def is_released() -> bool:
        snapshot = (await buyer.send("GET", queue(event, "/snapshot"))).body
        return bool(snapshot["active"] == 0)

    await eventually(is_released, within_seconds=20)
    # The order is through, and with it the turn: the same pass opens nothing any more.
    assert refusal(await buyer.reserve(event, 2)) == (403, "not_admitted")
    report = await verify_event(system_pool, event.event_id, None)
    assert report.is_clean, report


@pytest.mark.timeout(180)
async def test_a_pass_is_good_in_the_hands_it_was_given_to_and_until_its_bearer_leaves(
    buyers: Any, a_rush: AHighDemandEvent
) -> None:
    event, ann, thief = await a_rush(), await buyers(), await buyers()
    await in_phase(ann, event, "open")
    given = await admitted(ann, event)
    shared = {"waiting_room_pass": given.body["passToken"]}
    assert refusal(await thief.reserve(event, 0, **shared)) == (403, "not_admitted")
    assert (await ann.reserve(event, 0, **shared)).status == 201
    left = await ann.send("DELETE", queue(event))
    assert (left.status, left.body["gone"]) == (200, "left")
    assert refusal(await ann.reserve(event, 1, **shared)) == (403, "not_admitted")


@pytest.mark.timeout(240)
async def test_when_all_is_sold_those_who_wait_are_told(
    buyers: Any, a_rush: AHighDemandEvent, system_pool: Any
) -> None:
    event = await a_rush(seats=4, seats_per_row=4)
    buyer, waiting, operator = await buyers(), await buyers(), await buyers()
    await log_in_as_admin(operator, system_pool)
    await in_phase(buyer, event, "open")
    terms = {"capacity": 1, "ratePerSecond": 5.0, "challenge": "none", "demotion": "observe"}
    room = f"/api/admin/events/{event.event_id}/waiting-room"
    assert (await operator.send("PUT", room, terms)).status == 200

    async def has_room_for_one() -> bool:
        return (await operator.send("GET", room)).body["facts"]["capacity"] == "1"

    await eventually(has_room_for_one, within_seconds=20)
    await admitted(buyer, event)
    # Whoever came second waits while the first buys everything.
    await join(waiting, event)
    async with waiting.http.get(queue(event, "/stream")) as stream:
        assert stream.status == 200
        hold = await buyer.reserve(event, 0, 1, 2, 3)
        assert (await buyer.check_out(event, hold)).status == 201
        async with asyncio.timeout(30):
            gone = await why_gone(stream)
    assert gone == "sold_out"
    last = await asked_patiently(waiting, event, "gone")
    assert last["gone"] == "sold_out"


async def why_gone(stream: Any) -> str:
    """Read a stream until it says that the place is gone, and why."""
    async for line in stream.content:
        if line.startswith(b"data: ") and (place := json.loads(line[6:])).get("state") == "gone":
            return str(place["gone"])
    raise AssertionError("the stream ended, and did not say why")


@pytest.mark.timeout(240)
async def test_a_draw_is_announced_held_and_checked_from_files_alone(
    buyers: Any, a_rush: AHighDemandEvent, tmp_path: Path
) -> None:
    event = await a_rush(opens_in=timedelta(seconds=12))
    people = [await buyers() for _ in range(3)]
    await in_phase(people[0], event, "pre")
    announced = (await people[0].send("GET", queue(event, "/proof"))).body
    for person in people:
        place = (await join(person, event)).body["place"]
        assert (place["inDraw"], place["outlook"]) == (True, None)
    receipts = [(await person.send("GET", queue(event, "/receipt"))).body for person in people]
    await in_phase(people[0], event, "open")
    states = [await asked_patiently(person, event, "ready") for person in people]
    assert sorted(state["ticket"] for state in states) == [1, 2, 3]
    for person in people:
        assert (await person.send("POST", queue(event, "/claim"), {})).status == 200

    async def log() -> list[bytes]:
        raw = (await people[0].send("GET", queue(event, "/proof/log"))).body
        lines = raw.splitlines()
        return lines if sum(LogEntry.model_validate_json(line).kind == "C" for line in lines) == 3 else []

    lines = await eventually(log, within_seconds=20)
    proof = (await people[0].send("GET", queue(event, "/proof"))).body
    assert proof["announcement"] == announced["announcement"]
    (tmp_path / RECEIPTS_FOLDER).mkdir()
    (tmp_path / PROOF_FILE).write_text(json.dumps(proof))
    (tmp_path / LOG_FILE).write_bytes(b"\n".join(lines))
    for number, receipt in enumerate(receipts):
        (tmp_path / RECEIPTS_FOLDER / f"{number}.json").write_text(json.dumps(receipt))
    results = examine(read_evidence(tmp_path))
    assert results and is_clean(results), results
