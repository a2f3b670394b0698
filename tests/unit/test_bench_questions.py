"""Is the made-up catalogue believable, the same each time, and do people ask for what is in it?"""

import random
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import parse_qs, urlsplit

from ops.bench.catalogue import CITIES, make_up
from ops.bench.questions import Curious, Question, next_page

NOW = datetime(2026, 11, 22, tzinfo=UTC)

CATALOGUE = make_up(random.Random(1), now=NOW, event_count=2_000, venue_count=100)


def questions(count: int) -> list[Question]:
    return list(islice(Curious(CATALOGUE, random.Random(2), now=NOW).questions(), count))


def parameters(question: Question) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(question.path).query).items()}


def test_the_same_chance_makes_the_same_catalogue() -> None:
    assert make_up(random.Random(1), now=NOW, event_count=2_000, venue_count=100) == CATALOGUE


def test_shows_differ_and_are_everywhere() -> None:
    assert len({event.id for event in CATALOGUE.events}) == 2_000
    assert len({(event.artist, event.name) for event in CATALOGUE.events}) > 1_900
    assert {venue.city for venue in CATALOGUE.venues} == {city.name for city in CITIES}
    assert {event.status for event in CATALOGUE.events} == {"upcoming", "on_sale", "completed", "cancelled"}


def test_dates_agree_with_statuses() -> None:
    for event in CATALOGUE.events:
        assert event.on_sale_date < event.event_date
        assert (event.event_date < NOW) == (event.status == "completed")
        assert event.status != "upcoming" or event.on_sale_date >= NOW
        assert event.status != "on_sale" or event.on_sale_date < NOW


def test_no_question_is_asked_twice_and_each_kind_as_often() -> None:
    asked = questions(2_000)
    assert len({question.path for question in asked}) == 2_000
    counts = [sum(question.kind == kind for question in asked) for kind in {question.kind for question in asked}]
    assert len(counts) == 9
    assert max(counts) < 1.2 * min(counts)


def test_who_mistypes_means_an_artist_there_is_and_writes_another_word() -> None:
    words = {word for event in CATALOGUE.events for word in event.artist.split()}
    mistyped = [parameters(question)["q"].split() for question in questions(900) if question.kind == "mistyped"]
    wrong = [typed for typed in mistyped if set(typed) - words]
    assert len(wrong) > 0.9 * len(mistyped)


def test_the_page_after_is_the_same_question_with_a_cursor() -> None:
    question = next(question for question in questions(100) if question.goes_on)
    following = next_page(question, "a+b=")
    assert parameters(following) == {**parameters(question), "cursor": "a+b="}
    assert not following.goes_on
