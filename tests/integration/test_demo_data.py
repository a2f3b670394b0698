"""Does seeding make a believable catalogue, once?"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import bcrypt

from contracts.ids import EventId, VenueId
from db.events import Event, find_event, list_seats
from db.postgres import Pool, Transaction
from db.venues import list_venues
from ops.demo_data import PASSWORD, people, seed
from ops.demo_houses import ARENA, HOUSES
from ops.demo_programme import shows

LOWEST_COST = 4


async def demo_events(connection: Transaction) -> list[Event]:
    found = [await find_event(connection, show.id) for show in shows()]
    return [event for event in found if event is not None]


async def test_seeding_again_makes_only_what_is_missing(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)

    assert await seed(pool, bcrypt_cost=31) == "nothing to do: the demo data is there"  # 31 takes days: no hash is made
    assert await pool.fetchval("SELECT count(*) FROM seats WHERE event_id = ANY($1)", [s.id for s in shows()]) == 60_000

    # In the same test, so that no other one seeds at cost 31 while somebody is missing.
    lost = people()[3]
    await pool.execute("DELETE FROM users WHERE id = $1", lost.id)
    await seed(pool, bcrypt_cost=LOWEST_COST)
    assert await pool.fetchval("SELECT email FROM users WHERE id = $1", lost.id) == lost.email


async def test_there_is_something_on_sale_and_something_to_wait_for(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)
    events = await demo_events(pool)
    # Against the first seeding, which may be some test runs ago.
    soon = datetime.now(UTC) + timedelta(hours=12)

    assert len(events) == 51
    assert sum(event.on_sale_date < soon for event in events) >= 30
    assert len({event.on_sale_date.date() for event in events}) >= 4
    assert [event.artist for event in events if event.high_demand] == ["Juno Park"]
    assert Counter(event.capacity for event in events) == {1000: 50, 10_000: 1}
    assert {event.currency for event in events} == {"EUR", "GBP"}


async def test_the_houses_stand_in_several_cities(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)
    ours = {house.id for house in HOUSES}
    venues = [venue for venue in await list_venues(pool) if venue.id in ours]

    assert len({venue.city for venue in venues}) == len({venue.country for venue in venues}) == 6
    assert all(venue.latitude and venue.longitude for venue in venues)
    assert [venue.capacity for venue in venues if venue.name == ARENA] == [10_000]


async def test_everybody_signs_in_with_the_password_that_is_shown(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)
    hashes = await pool.fetch("SELECT password_hash FROM users WHERE id = ANY($1)", [person.id for person in people()])

    assert len(hashes) == 22
    assert bcrypt.checkpw(PASSWORD.encode(), hashes[0]["password_hash"].encode())


async def test_a_show_begins_by_the_clock_of_its_venue(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)
    begins = {event.id: event.event_date for event in await demo_events(pool)}

    for show in shows():
        assert begins[show.id].astimezone(ZoneInfo(show.house.time_zone)).time() == show.begins, show.name


async def test_seats_are_numbered_in_the_order_of_the_map(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)
    arena = next(show for show in shows() if show.house.name == ARENA)
    seats = await list_seats(pool, EventId(arena.id))

    assert [seat.seat_index for seat in seats] == list(range(10_000))
    assert {(seat.section, seat.row, seat.seat_number) for seat in seats[:2000]} == {("Floor", "", "")}
    assert [(seat.section, seat.row, seat.seat_number) for seat in seats[2019:2021]] == [
        ("Block 101", "A", "20"),
        ("Block 101", "B", "1"),
    ]
    assert len({(seat.section, seat.row, seat.seat_number) for seat in seats[2000:]}) == 8000
    assert VenueId(arena.house.id) in {venue.id for venue in await list_venues(pool)}


async def test_there_are_places_to_stand_and_for_wheelchairs(pool: Pool) -> None:
    await seed(pool, bcrypt_cost=LOWEST_COST)
    kinds = await pool.fetch(
        "SELECT e.venue_id, s.kind, count(*) FROM seats s JOIN events e ON e.id = s.event_id WHERE e.id = ANY($1)"
        " GROUP BY e.id, s.kind",
        [show.id for show in shows()],
    )
    by_house = {house.name: {kind: n for venue_id, kind, n in kinds if venue_id == house.id} for house in HOUSES}

    assert by_house[ARENA] == {"standing": 2000, "accessible": 96, "companion": 96, "seat": 7808}
    assert by_house["The Foundry"]["standing"] == 600
    assert all(of_house["accessible"] == of_house["companion"] >= 2 for of_house in by_house.values())
