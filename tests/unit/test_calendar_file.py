"""Does a calendar read what we mean, whatever is in the names?"""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from contracts.calendar_file import CalendarEntry, calendar_file


def an_entry(**fields: Any) -> CalendarEntry:
    usual: dict[str, Any] = {
        "uid": "event-1@tickets.example.org",
        "sequence": 3,
        "status": "CONFIRMED",
        "begins_at": datetime(2031, 7, 1, 20, 30, tzinfo=timezone(timedelta(hours=2))),
        "changed_at": datetime(2031, 1, 1, tzinfo=UTC),
        "summary": "A test of patience",
        "location": "Grand Hall, 1 Stage Street, Berlin",
        "description": "Two tickets",
        "url": "https://tickets.example.org/orders/1",
    }
    return CalendarEntry(**{**usual, **fields})


def read(entry: CalendarEntry) -> Any:
    calendar = Calendar.from_ical(calendar_file(entry))
    assert (calendar["VERSION"], calendar["METHOD"]) == ("2.0", "PUBLISH")
    (event,) = calendar.walk("VEVENT")
    return event


def test_an_entry_is_read_as_it_was_meant() -> None:
    event = read(an_entry())
    assert event.decoded("DTSTART") == datetime(2031, 7, 1, 18, 30, tzinfo=UTC)
    assert b"DTSTART:20310701T183000Z\r\n" in calendar_file(an_entry())
    assert (event["UID"], int(event["SEQUENCE"]), event["STATUS"]) == ("event-1@tickets.example.org", 3, "CONFIRMED")
    assert event["LOCATION"] == "Grand Hall, 1 Stage Street, Berlin"


@pytest.mark.parametrize(
    "name",
    ["a, b; c\\d", "one\ntwo", "x\r\nSTATUS:CANCELLED", "\x00\x07bell", "Ж" * 200, "日本" * 100, "\\n", "BEGIN:VALARM"],
)
def test_a_name_is_no_line_of_ours(name: str) -> None:
    entry = an_entry(summary=name, description=name)
    assert read(entry)["STATUS"] == "CONFIRMED"
    kept = name.replace("\r\n", "\n").replace("\x00", "").replace("\x07", "")
    assert str(read(entry)["SUMMARY"]) == kept


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=300))
def test_every_text_comes_back_and_every_line_is_short(text: str) -> None:
    raw = calendar_file(an_entry(summary=text))
    for line in raw.split(b"\r\n"):
        assert len(line) <= 75
        line.decode()  # no character was cut in two
    assert str(read(an_entry(summary=text)).get("SUMMARY", "")) == text
