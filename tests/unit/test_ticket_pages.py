"""Is a ticket on paper legible, whatever people have named it, and its code the one it should be?"""

import io
from datetime import UTC, datetime
from typing import Any

import pypdfium2
import pytest
import segno
import zxingcpp
from PIL import Image

from contracts.local_times import local_time
from contracts.ticket_pages import ONLY_IN_THE_APP, TERMS, TicketPage, ticket_pages
from contracts.ticket_pictures import only_in_the_app, ticket_png, ticket_qr, ticket_svg

CODE = "CAZ23456" * 9 + "ABCDEFGH"


def a_page(**fields: Any) -> TicketPage:
    usual: dict[str, Any] = {
        "event_name": "A test of patience",
        "artist": "The Testers",
        "event_date": datetime(2031, 7, 1, 18, 30, tzinfo=UTC),
        "time_zone": "Europe/Berlin",
        "venue_lines": ("Grand Hall", "1 Stage Street", "Berlin, Germany"),
        "section": "Stalls",
        "row": "C",
        "seat": "12",
        "tier": "",
        "holder": "Ann",
        "order_id": "0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11",
        "ticket_id": "6d3f2b1c-9f44-4d3e-a7f5-2f1b5a0c9e22",
        "code": CODE,
    }
    return TicketPage(**{**usual, **fields})


def text_of(page: TicketPage) -> str:
    """What a reader finds on it, on one line."""
    (text,) = texts_of(ticket_pages([page]))
    return text


def texts_of(pdf: bytes) -> list[str]:
    return [" ".join(page.get_textpage().get_text_range().split()) for page in pypdfium2.PdfDocument(pdf)]


def codes_on(pdf: bytes) -> list[list[str]]:
    """What a camera reads on each page, from a screen of ordinary sharpness."""
    pictures = [page.render(scale=2).to_pil() for page in pypdfium2.PdfDocument(pdf)]
    return [[found.text for found in zxingcpp.read_barcodes(picture)] for picture in pictures]


def test_a_page_says_what_show_where_when_which_seat_and_whose() -> None:
    text = text_of(a_page(tier="Student"))
    for said in ("A test of patience", "The Testers", "Tuesday 1 July 2031, 20:30 (Europe/Berlin)", "1 Stage Street"):
        assert said in text
    for said in ("Stalls", "C", "12", "Student", "Name: Ann", "0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11", TERMS):
        assert said in text


@pytest.mark.parametrize("code", [CODE, CODE + "MNOPQRST"], ids=["of a ticket", "of a rotating one"])
def test_a_code_is_read_back_from_every_picture(code: str) -> None:
    assert ticket_qr(code).designator == "4-M"
    assert codes_on(ticket_pages([a_page(code=code)])) == [[code]]
    assert [found.text for found in zxingcpp.read_barcodes(Image.open(io.BytesIO(ticket_png(code))))] == [code]
    # Of the vector picture: it draws the same modules.
    assert ticket_svg(code).count(b"<path") == 2
    assert ticket_qr(code).matrix == segno.make_qr(code, error="m").matrix


def test_each_ticket_has_its_page_and_its_code() -> None:
    other = CODE[::-1]
    pdf = ticket_pages([a_page(), a_page(code=other, seat="13")])
    assert codes_on(pdf) == [[CODE], [other]]


def test_a_ticket_whose_code_changes_has_none_on_its_page() -> None:
    pdf = ticket_pages([a_page(code=None)])
    assert codes_on(pdf) == [[]]
    assert ONLY_IN_THE_APP in texts_of(pdf)[0]
    assert b"only in the app" in only_in_the_app("svg")


@pytest.mark.parametrize(
    "name",
    ["José Ørsted", "Łukasz Żółć", "Ünal Şahin", "Ελένη Παππά", "Жанна Їжак", "日本 太郎", "김철수", "Nguyễn Thị"],
)
def test_names_keep_their_letters(name: str) -> None:
    assert f"Name: {name}" in text_of(a_page(holder=name))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ann\u202e reversed", "Ann reversed"),
        ("Ann\r\nSeat: 1", "Ann Seat: 1"),
        ("Ann \U0001f600", "Ann □"),
        ("Zoe\u0308", "Zoë"),
        ("(Ann) \\ %s <b>", "(Ann) \\ %s <b>"),
    ],
    ids=["turned around", "on two lines", "with a face", "in two pieces", "as a program"],
)
def test_names_are_nothing_but_names(name: str, shown: str) -> None:
    assert f"Name: {shown} Order:" in text_of(a_page(holder=name))


def test_what_is_too_long_ends_on_the_page() -> None:
    page = a_page(event_name="Interminable " * 60, section="The upper left balcony behind the pillar", holder="X" * 300)
    text = text_of(page)
    assert text.count("Interminable") < 20
    assert "…" in text
    assert codes_on(ticket_pages([page])) == [[CODE]], "and leaves the code its place"


def test_the_same_tickets_are_the_same_bytes() -> None:
    assert ticket_pages([a_page()]) == ticket_pages([a_page()])


def test_a_place_to_stand_has_no_row() -> None:
    text = text_of(a_page(row="", seat=""))
    assert "General admission" in text
    assert "Row" not in text


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Europe/Berlin", "Tuesday 1 July 2031, 20:30 (Europe/Berlin)"),
        ("Asia/Tokyo", "Wednesday 2 July 2031, 03:30 (Asia/Tokyo)"),
        ("Nowhere/Land", "Tuesday 1 July 2031, 18:30 (UTC)"),
    ],
)
def test_a_show_begins_by_the_clocks_of_its_house(zone: str, said: str) -> None:
    assert local_time(datetime(2031, 7, 1, 18, 30, tzinfo=UTC), zone) == said
