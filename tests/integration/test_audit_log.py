"""Is what organisers did there to be read: who, what, to what, how it was before and after?"""

import csv
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.ids import EventId
from db.audit_log import changes, record_deed
from db.postgres import transaction
from tests.conftest import AnEvent
from tests.integration.test_catalogue_http import a_concert, a_house
from tests.organisers import Client, a_client


@pytest.fixture
async def organiser(ingress_url: str, redis: Redis, pool: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(ingress_url) as http:
        yield await a_client(http, redis, pool, "admin")


async def deeds_of(organiser: Client, **query: Any) -> list[dict[str, Any]]:
    """What he has done, newest first; there must be no more than a page of it."""
    answer = await organiser.get("/api/admin/audit", userId=organiser.user_id, **query)
    assert (answer.status, answer.body["nextCursor"]) == (200, None), answer
    found: list[dict[str, Any]] = answer.body["deeds"]
    return found


async def test_a_deed_says_who_did_what_to_what(organiser: Client) -> None:
    venue = (await organiser.send("POST", "/api/venues", a_house(name="Before"))).body["id"]
    event = (await organiser.send("POST", "/api/events", a_concert(venue))).body["id"]
    changed = await organiser.send("PUT", f"/api/events/{event}", a_concert(venue, name="After", ticketLimit=2))
    assert changed.status == 200, changed
    await organiser.send("PUT", f"/api/venues/{venue}", a_house(name="After", city="Hamburg"))

    deeds = await deeds_of(organiser)
    assert [deed["action"] for deed in deeds] == ["update_venue", "update_event", "create_event", "create_venue"]
    assert {(deed["userName"], deed["userEmail"]) for deed in deeds} == {("Olga", organiser.email)}
    updated_venue, updated, created, _ = deeds
    assert (updated["before"], updated["after"]) == (
        {"name": "A concert", "ticketLimit": 6},
        {"name": "After", "ticketLimit": 2},
    )
    assert (updated["eventId"], updated["eventName"], updated["subject"]) == (event, "After", f"event {event}")
    assert (created["before"], created["after"]["name"], created["after"]["venueId"]) == (None, "A concert", venue)
    # The house has not changed, and is not repeated.
    assert updated_venue["before"] == {"name": "Before", "city": "Berlin"}
    assert updated_venue["after"] == {"name": "After", "city": "Hamburg"}


async def test_what_is_refused_is_no_deed(organiser: Client) -> None:
    venue = (await organiser.send("POST", "/api/venues", a_house())).body["id"]
    refused = [
        await organiser.send("POST", "/api/events", a_concert(str(uuid4()))),
        await organiser.send("PUT", f"/api/events/{uuid4()}", a_concert(venue)),
        await organiser.send("PUT", f"/api/venues/{uuid4()}", a_house()),
        await organiser.send("PUT", f"/api/admin/events/{uuid4()}/waiting-room", {}),
    ]
    assert [answer.status for answer in refused] == [422, 404, 404, 422]
    assert [deed["action"] for deed in await deeds_of(organiser)] == ["create_venue"]


async def test_a_deed_and_its_entry_are_there_together_or_not_at_all(
    organiser: Client, an_event: AnEvent, pool: Any
) -> None:
    """What is rolled back was not done."""
    sale = await an_event()
    with pytest.raises(ZeroDivisionError):
        async with transaction(pool) as tx:
            await record_deed(
                tx, user_id=organiser.user_id, action="x", event_id=sale.event_id, subject="x", before=None, after=None
            )
            raise ZeroDivisionError
    assert await deeds_of(organiser) == []


async def test_a_waiting_rooms_changes_are_deeds(organiser: Client, an_event: AnEvent) -> None:
    sale = await an_event()
    room = f"/api/admin/events/{sale.event_id}/waiting-room"
    assert (await organiser.send("POST", f"{room}/open", {"because": "a crowd"})).status == 200
    terms = {"capacity": 7, "ratePerSecond": 20.0, "challenge": "none", "demotion": "observe"}
    assert (await organiser.send("PUT", room, terms)).status == 200
    assert (await organiser.send("POST", f"{room}/pause", {"because": "a break"})).status == 200

    deeds = await deeds_of(organiser, eventId=sale.event_id)
    assert [deed["action"] for deed in deeds] == [
        *["want_waiting_room_phase", "set_waiting_room_terms", "want_waiting_room_phase", "make_waiting_room"],
    ]
    assert (deeds[0]["before"]["wantedPhase"], deeds[0]["after"]["wantedPhase"]) == ("open", "paused")
    assert (deeds[1]["before"], deeds[1]["after"]) == ({"capacity": 500}, {"capacity": 7})


async def some_deeds(pool: Any, organiser: Client, event_id: EventId, *actions: str) -> None:
    for action in actions:
        async with transaction(pool) as tx:
            await record_deed(
                tx,
                user_id=organiser.user_id,
                action=action,
                event_id=event_id,
                subject=f"seat {action}",
                before={"price": 1},
                after={"price": "=2"},
            )


async def test_deeds_are_found_by_what_when_and_where(organiser: Client, an_event: AnEvent, pool: Any) -> None:
    here, there = (await an_event(seats=10)).event_id, (await an_event(seats=10)).event_id
    await some_deeds(pool, organiser, here, "one", "two")
    await some_deeds(pool, organiser, there, "one")
    await pool.execute("UPDATE audit_log SET at = at - interval '1 day' WHERE event_id = $1", there)
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()

    assert [deed["action"] for deed in await deeds_of(organiser, eventId=here)] == ["two", "one"]
    assert {deed["eventId"] for deed in await deeds_of(organiser, action="one")} == {str(here), str(there)}
    assert {deed["eventId"] for deed in await deeds_of(organiser, from_=an_hour_ago)} == {str(here)}
    assert {deed["eventId"] for deed in await deeds_of(organiser, to=an_hour_ago)} == {str(there)}
    assert await deeds_of(organiser, eventId=uuid4()) == []
    assert (await organiser.get("/api/admin/audit", userId="nobody")).status == 422


async def test_pages_go_on_where_the_last_one_ended(organiser: Client, an_event: AnEvent, pool: Any) -> None:
    event_id = (await an_event(seats=10)).event_id
    await some_deeds(pool, organiser, event_id, *"abcde")
    query, seen = {"eventId": str(event_id), "limit": "2"}, []
    while True:
        page = (await organiser.get("/api/admin/audit", **query)).body
        seen += [deed["action"] for deed in page["deeds"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
        await some_deeds(pool, organiser, event_id, "later")
    assert seen == list("edcba")


async def test_the_file_has_all_of_them(organiser: Client, an_event: AnEvent, pool: Any) -> None:
    event_id = (await an_event(seats=10)).event_id
    await some_deeds(pool, organiser, event_id, "=one", "two")
    answer = await organiser.get("/api/admin/audit.csv", eventId=event_id)
    rows = list(csv.DictReader(StringIO(answer.body.decode(), newline=""), strict=True))
    assert [(row["action"], row["userEmail"], row["eventId"]) for row in rows] == [
        ("two", organiser.email, str(event_id)),
        ("'=one", organiser.email, str(event_id)),
    ]
    assert json.loads(rows[0]["after"]) == {"price": "=2"}


async def test_an_event_that_a_program_makes_is_nobodys_deed(an_event: AnEvent, pool: Any) -> None:
    sale = await an_event(seats=10)
    assert not await pool.fetchval("SELECT count(*) FROM audit_log WHERE event_id = $1", sale.event_id)


def test_only_what_differs_is_said() -> None:
    before = {"name": "a", "city": "b", "version": 3}
    assert changes(before, {"name": "x", "city": "b", "unknown": UUID(int=1)}) == ({"name": "a"}, {"name": "x"})
