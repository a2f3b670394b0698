"""Is everything found that should be, page by page, however it is typed?"""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.house import SectionConfig
from contracts.ids import EventId, VenueId
from contracts.settings import Settings
from db.catalogue import PLANNED_FOR_ITS_VALUES, Near, Place, Sort, Wanted, find_details, find_page, find_venues
from db.events import EventTerms, create_event, update_event
from db.postgres import open_pool, transaction
from db.venues import VenueTerms, create_venue, find_venue, update_venue
from tests.builders import a_user

NOW = datetime.now(UTC)
HOUSE = {"sections": [{"name": "Stalls", "rows": 1, "seatsPerRow": 2, "price": "45.00"}]}
SORTS: tuple[Sort, ...] = ("date", "-date", "price", "-price", "name", "onSale", "relevance")


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Any]:
    """A pool as the ingress has it."""
    opened = await open_pool(settings, application_name="test", planner=PLANNED_FOR_ITS_VALUES)
    yield opened
    opened.terminate()


def a_word() -> str:
    """A word that no other test has, and that is not like any of theirs."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxy", k=14))  # without z, for tests that change a letter


def house(*prices: str) -> dict[str, Any]:
    sections = [{"name": f"At {price}", "rows": 1, "seatsPerRow": 2, "price": price} for price in prices]
    return {"sections": sections}


async def a_venue(pool: Any, **fields: Any) -> VenueId:
    venue_id = VenueId(uuid4())
    given = {"name": "The Hall", "section_config": HOUSE, **fields}
    async with transaction(pool) as tx:
        return await create_venue(tx, venue_id=venue_id, **given)


async def a_show(pool: Any, venue_id: VenueId | None = None, *, in_days: float = 30, **fields: Any) -> EventId:
    venue_id = venue_id or await a_venue(pool)
    begins = NOW + timedelta(days=in_days)
    given = {"name": "A show", "event_date": begins, "on_sale_date": begins - timedelta(days=20), **fields}
    async with transaction(pool) as tx:
        return await create_event(tx, event_id=EventId(uuid4()), venue_id=venue_id, **given)


async def set_status(pool: Any, event_id: EventId, status: str) -> None:
    await pool.execute("UPDATE events SET status = $2 WHERE id = $1", event_id, status)


async def found(pool: Any, sort: Sort | None = None, limit: int = 100, **wanted: Any) -> list[UUID]:
    order = sort or ("relevance" if "text" in wanted else "date")
    page = await find_page(pool, Wanted(**wanted), sort=order, after=None, limit=limit)
    return [event.id for event in page.events]


# ---- searching


@pytest.mark.parametrize(
    "typed",
    [
        "metallica berlin",
        "METALLICA",
        "berlin metallica",
        "metallica ber",
        "metall",
        "metalica berln",
        "metallcia",
        "mettalica in brelin hall",
        "Métàllica",
        "metallica, (berlin)",
        "world tour metallica",
    ],
)
async def test_metallica_is_found_in_berlin_however_it_is_typed(pool: Any, typed: str) -> None:
    venue_id = await a_venue(pool, name="Hall in the Park", city="Berlin")
    show = await a_show(pool, venue_id, name="World Tour", artist="Metallica")
    assert show in await found(pool, text=typed)


async def test_accents_and_apostrophes_are_forgiven_on_both_sides(pool: Any) -> None:
    word = a_word()
    show = await a_show(pool, name=f"Ni\u00f1o's {word}", artist="Bj\u00f6rk Stra\u00dfe")
    for typed in ("ninos", "niño's", "nin\u0303os", "BJORK strasse", "straße björk"):
        assert await found(pool, text=f"{typed} {word}") == [show], typed


async def test_every_word_must_be_there(pool: Any) -> None:
    first, second = a_word(), a_word()
    show = await a_show(pool, name=f"{first} {second}")
    await a_show(pool, name=first)
    assert await found(pool, text=f"{first} {second}") == [show]


async def test_a_word_that_is_known_is_not_taken_for_a_typo(pool: Any) -> None:
    word = a_word()
    show, other = await a_show(pool, name=word), await a_show(pool, name=f"{word[:-1]}{'z' * 3}")
    assert await found(pool, text=word) == [show]
    assert await found(pool, text=f"{word[:-1]}zzz") == [other]


async def test_what_is_like_nothing_finds_nothing(pool: Any) -> None:
    await a_show(pool, name=a_word())
    assert await found(pool, text="qxqxqxqxqxqxqx") == []
    assert await found(pool, text="...") == []


@pytest.mark.parametrize(
    "typed",
    [
        "!&|():*'\\",
        "' | 'a",
        "a & b",
        "!a",
        "a:*",
        "a <-> b",
        "\\",
        "'",
        '"a b"',
        "--",
        "';DROP",
        "%",
        "_",
        "\u0301",
        "ﷺ",
    ],
)
async def test_what_is_typed_is_never_an_operator(pool: Any, typed: str) -> None:
    word = a_word()
    show = await a_show(pool, name=f"{word} a b drop")
    await found(pool, text=typed)
    both = await found(pool, text=f"{word} {typed}")
    assert both in ([], [show])
    assert await found(pool, text=f"!{word}") == [show], "the ! is no more than a ! that nobody looks for"


async def test_a_word_in_the_name_comes_before_the_same_word_in_the_city(pool: Any) -> None:
    word = a_word()
    in_city = await a_show(pool, await a_venue(pool, city=word), in_days=1)
    begins_so = await a_show(pool, name=f"{word}er", in_days=2)
    late = await a_show(pool, name=word, in_days=9)
    early = await a_show(pool, artist=word, in_days=8)
    assert await found(pool, text=word) == [early, late, in_city, begins_so]


async def test_a_renamed_event_is_found_by_its_new_name_only(pool: Any) -> None:
    old, new = a_word(), a_word()
    venue_id = await a_venue(pool)
    show = await a_show(pool, venue_id, name=old)
    assert await update_event(pool, show, the_terms(venue_id, name=new), by=a_user()) is None
    assert await found(pool, text=new) == [show]
    assert await found(pool, text=old) == []


async def test_a_renamed_venue_renames_where_its_events_are_found(pool: Any) -> None:
    old, new, name = a_word(), a_word(), a_word()
    venue_id = await a_venue(pool, name=old, city=old)
    show = await a_show(pool, venue_id, name=name)
    assert await update_venue(pool, venue_id, venue_terms(name=new, city="Zürich"), by=a_user()) is None
    assert await found(pool, text=f"zurich {new} {name}") == [show]
    assert await found(pool, text=old) == []
    assert await found(pool, city="zürich", text=name) == [show]


# ---- filters


async def test_each_filter_narrows(pool: Any) -> None:
    word, category = a_word(), a_word()
    here = await a_venue(
        pool, name="Here", city="Łódź", latitude=51.77, longitude=19.46, section_config=house("50", "90")
    )
    there = await a_venue(pool, name="There", city="Porto", latitude=41.15, longitude=-8.61, section_config=house("20"))
    first = await a_show(pool, here, in_days=10, name=word, artist="Ann Bee", category=category)
    second = await a_show(pool, there, in_days=20, name=word, artist="Cee", category="pop")
    await set_status(pool, second, "sold_out")
    narrow: Sequence[tuple[dict[str, Any], list[UUID]]] = [
        ({}, [first, second]),
        ({"city": "ŁÓDŹ"}, [first]),
        ({"city": "Lod"}, []),
        ({"artist": "ann bee"}, [first]),
        ({"artist": "ann"}, []),
        ({"venue_id": there}, [second]),
        ({"venue_id": uuid4()}, []),
        ({"category": category}, [first]),
        ({"status": "sold_out"}, [second]),
        ({"status": "cancelled"}, []),
        ({"date_from": NOW + timedelta(days=15)}, [second]),
        ({"date_to": NOW + timedelta(days=15)}, [first]),
        ({"price_max": Decimal(20)}, [second]),
        ({"price_min": Decimal("90.00")}, [first]),
        ({"price_min": Decimal(60), "price_max": Decimal(70)}, [first]),
        ({"price_min": Decimal(30), "price_max": Decimal(40)}, []),
        ({"near": Near(51.7, 19.4, 20)}, [first]),
        ({"near": Near(41.2, -8.6, 500)}, [second]),
        ({"near": Near(41.2, -8.6, 0.5)}, []),
        ({"city": "Porto", "venue_id": here}, []),
    ]
    for wanted, expected in narrow:
        assert await found(pool, sort="date", text=word, **wanted) == expected, wanted


async def test_near_reaches_across_the_date_line_and_to_the_pole(pool: Any) -> None:
    word = a_word()
    fiji = await a_show(pool, await a_venue(pool, latitude=-17.0, longitude=179.9), name=word)
    pole = await a_show(pool, await a_venue(pool, latitude=89.9, longitude=0.0), name=word)
    assert await found(pool, text=word, near=Near(-17.0, -179.9, 30)) == [fiji]
    assert await found(pool, text=word, near=Near(89.9, 180.0, 30)) == [pole]


async def test_the_past_and_the_cancelled_are_found_when_asked_for(pool: Any) -> None:
    word = a_word()
    past, over = await a_show(pool, name=word, in_days=-3), await a_show(pool, name=word, in_days=-2)
    off = await a_show(pool, name=word, in_days=5)
    await set_status(pool, over, "completed")
    await set_status(pool, off, "cancelled")
    assert await found(pool, text=word) == []
    assert await found(pool, text=word, status="completed") == [over]
    assert await found(pool, text=word, status="cancelled") == [off]
    assert await found(pool, text=word, date_to=NOW) == [past, over]
    assert await found(pool, text=word, date_from=NOW - timedelta(days=2.5)) == [over]


# ---- pages


async def walk(pool: Any, wanted: Wanted, sort: Sort, limit: int) -> list[UUID]:
    """All pages, one after the other."""
    seen: list[UUID] = []
    after: Place | None = None
    while True:
        page = await find_page(pool, wanted, sort=sort, after=after, limit=limit)
        seen += [event.id for event in page.events]
        if page.next_place is None:
            return seen
        assert len(page.events) == limit
        after = page.next_place


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_neither_repeat_nor_skip_even_where_everything_is_equal(pool: Any, sort: Sort) -> None:
    word = a_word()
    venue_id = await a_venue(pool)
    name = f"The same {word}"
    shows = [await a_show(pool, venue_id, name=name) for _ in range(7)]
    for limit in (1, 2, 3, 7, 8):
        seen = await walk(pool, Wanted(text=word), sort, limit)
        assert (len(seen), set(seen)) == (7, set(shows)), limit


async def test_an_order_by_date_alone_would_skip(pool: Any) -> None:
    # The control of the test above: the events are equal in what they are sorted by, so only the id tells them apart.
    word = a_word()
    venue_id = await a_venue(pool)
    for _ in range(3):
        await a_show(pool, venue_id, name=word)
    page = await find_page(pool, Wanted(text=word), sort="date", after=None, limit=1)
    assert page.next_place is not None
    beyond_the_date = Place(page.next_place.key, UUID(int=2**128 - 1))
    assert (await find_page(pool, Wanted(text=word), sort="date", after=beyond_the_date, limit=3)).events == ()


async def test_each_order_is_what_it_says(pool: Any) -> None:
    word = a_word()
    cheap, dear = await a_venue(pool, section_config=house("10")), await a_venue(pool, section_config=house("11", "99"))
    a = await a_show(pool, dear, name=f"b {word}", in_days=1, on_sale_date=NOW)
    b = await a_show(pool, cheap, name=f"A {word}", in_days=2, on_sale_date=NOW - timedelta(days=2))
    c = await a_show(pool, cheap, name=f"C {word}", in_days=3, on_sale_date=NOW - timedelta(days=1))
    low, high = sorted([b, c])
    expected: dict[Sort, list[UUID]] = {
        "date": [a, b, c],
        "-date": [c, b, a],
        "name": [b, a, c],
        "onSale": [b, c, a],
        "price": [low, high, a],
        "-price": [a, high, low],
    }
    for sort, order in expected.items():
        assert await found(pool, sort=sort, text=word) == order, sort
        assert await walk(pool, Wanted(text=word), sort, 1) == order, sort


async def test_relevance_goes_on_from_tier_to_tier(pool: Any) -> None:
    word = a_word()
    in_city = [await a_show(pool, await a_venue(pool, city=word), in_days=day) for day in (1, 2, 3)]
    in_name = [await a_show(pool, name=word, in_days=day) for day in (4, 5)]
    longer = [await a_show(pool, name=f"{word}ish", in_days=day) for day in (1, 2)]
    for limit in (1, 2, 3, 4):
        assert await walk(pool, Wanted(text=word), "relevance", limit) == [*in_name, *in_city, *longer]


async def test_an_event_that_comes_while_pages_are_turned_disturbs_nobody(pool: Any) -> None:
    word = a_word()
    shows = [await a_show(pool, name=word, in_days=day) for day in (1, 3, 5)]
    first = await find_page(pool, Wanted(text=word), sort="date", after=None, limit=2)
    await a_show(pool, name=word, in_days=2)
    rest = await find_page(pool, Wanted(text=word), sort="date", after=first.next_place, limit=9)
    assert [event.id for event in (*first.events, *rest.events)] == shows


# ---- what is shown


async def test_details_have_the_venue_and_the_sections(pool: Any) -> None:
    sections = [
        {
            "name": "A",
            "rows": 2,
            "seatsPerRow": 3,
            "price": "50.50",
            "accessible": {"A": [1, 2]},
            "companion": {"A": [3]},
        },
        {"name": "Floor", "type": "general_admission", "capacity": 40, "price": "30"},
    ]
    venue_id = await a_venue(
        pool,
        city="Berlin",
        address="1 Road",
        country="Germany",
        time_zone="Europe/Berlin",
        section_config={"sections": sections},
    )
    show = await a_show(pool, venue_id, description="Loud.", currency="EUR")
    details = await find_details(pool, show)
    assert details is not None
    all_face: dict[str, Any] = {"fee": "0.00", "tax": "0.00", "tiers": []}
    assert details.model_dump(mode="json", by_alias=True)["sections"] == [
        {"name": "A", "type": "seated", "price": "50.50", "capacity": 6, "accessibleCount": 2} | all_face,
        {"name": "Floor", "type": "general_admission", "price": "30.00", "capacity": 40, "accessibleCount": 0}
        | all_face,
    ]
    assert (details.price_min, details.price_max, details.capacity) == (Decimal(30), Decimal("50.50"), 46)
    assert (details.venue.address, details.venue.time_zone, details.description) == ("1 Road", "Europe/Berlin", "Loud.")
    assert await find_details(pool, EventId(uuid4())) is None


async def test_rebuilding_a_venue_does_not_touch_the_houses_of_its_events(pool: Any) -> None:
    venue_id = await a_venue(pool, section_config=house("45"))
    show = await a_show(pool, venue_id)
    assert await update_venue(pool, venue_id, venue_terms(section_config=house("70", "80", "90")), by=a_user()) is None
    details, venue = await find_details(pool, show), await find_venue(pool, venue_id)
    assert details is not None
    assert venue is not None
    assert ([section.price for section in details.sections], details.capacity) == ([Decimal(45)], 2)
    assert (venue.capacity, venue.version) == (6, 2)
    assert await pool.fetchval("SELECT count(*) FROM seats WHERE event_id = $1", show) == 2


async def test_venues_are_found_by_words_and_by_city_page_by_page(pool: Any) -> None:
    word, city = a_word(), a_word()
    made = [await a_venue(pool, name=f"{word} Hall", city=city.title()) for _ in range(3)]
    first = await find_venues(pool, text=f"hall {word[:-1]}", city=city, after=None, limit=2)
    assert first.next_place is not None
    rest = await find_venues(pool, text=f"hall {word}", city=city.upper(), after=first.next_place, limit=2)
    assert [venue.id for venue in (*first.venues, *rest.venues)] == sorted(made)
    assert rest.next_place is None
    assert (await find_venues(pool, text="qxqxqxqxqxqxqx", city=None, after=None, limit=2)).venues == ()


def the_terms(venue_id: VenueId, **fields: Any) -> EventTerms:
    given = {
        "venue_id": venue_id,
        "name": "A show",
        "artist": "",
        "category": "",
        "description": "",
        "event_date": NOW + timedelta(days=30),
        "on_sale_date": NOW + timedelta(days=10),
        "off_sale_date": NOW + timedelta(days=30),
        "ticket_limit": 6,
        "currency": "EUR",
        "high_demand": False,
    }
    return EventTerms(**{**given, **fields})


def venue_terms(**fields: Any) -> VenueTerms:
    given = {
        "name": "The Hall",
        "address": "",
        "city": "",
        "country": "",
        "time_zone": "UTC",
        "latitude": None,
        "longitude": None,
        "section_config": HOUSE,
    }
    given |= fields
    return VenueTerms(**{**given, "section_config": SectionConfig.model_validate(given["section_config"])})
