"""How does a ticket look on paper?

One A6 page each: that is a telephone's screen without zooming, and four to a sheet of A4. The letters of Europe and most
signs are DejaVu Sans, which travels in the file (`fonts/`, with its licence); Japanese, Chinese and Korean ones are of the
fonts that every PDF reader has or knows where to get (Adobe's CID fonts), because one of our own would weigh sixteen
megabytes. What neither has is drawn without its accents, or as an empty box.
"""

import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from threading import Lock

from reportlab.lib.pagesizes import A6
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import getFont, registerFont, stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from contracts.local_times import local_time
from contracts.ticket_pictures import QUIET_MODULES, ticket_qr

FONT = "DejaVuSans"
_FONT_FILE = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
# What a reader brings along, and the coding that says which letters it is for.
_CID_FONTS = (("HeiseiKakuGo-W5", "cp932"), ("STSong-Light", "gbk"), ("HYGothic-Medium", "cp949"))
_NOT_DRAWABLE = "□"

_WIDTH, _HEIGHT = A6
_MARGIN = 20.0
_QR_POINTS = 150.0
_SMALL, _USUAL, _SEAT, _TITLE = 6.0, 8.5, 13.0, 15.0
_LEADING = 1.3
_TITLE_LINES, _PLACE_LINES = 3, 3

TERMS = "Admits one person, once. A ticket that was passed on, resold or refunded lets nobody in, and neither does its copy."
ONLY_IN_THE_APP = (
    "The code of this ticket changes every few seconds and is only in the app: this page lets nobody in. Open your ticket in"
    " the app at the door."
)

# The fonts are shared by all pages of a process, and nobody promises that two threads may use them at once.
_drawing = Lock()


@dataclass(frozen=True, kw_only=True)
class TicketPage:
    """What stands on a ticket. Times are aware, `time_zone` is the house's IANA name; `code` is None for a ticket whose code
    changes: there is nothing to print."""

    event_name: str
    artist: str
    event_date: datetime
    time_zone: str
    # The house's name, then its address.
    venue_lines: tuple[str, ...]
    section: str
    # Both empty: a place to stand.
    row: str
    seat: str
    tier: str
    holder: str
    order_id: str
    ticket_id: str
    code: str | None


def ticket_pages(pages: Sequence[TicketPage]) -> bytes:
    """A PDF with a page for each of these tickets, of which there is at least one: the same tickets, the same bytes. Some 10
    ms a page, so it is for a thread of its own."""
    drawn = io.BytesIO()
    with _drawing:
        _register_fonts()
        canvas = Canvas(drawn, pagesize=A6, invariant=1, lang="en")
        canvas.setTitle(_clean(f"Tickets: {pages[0].event_name}"))
        canvas.setCreator("Boxoffice")
        for page in pages:
            _draw(_Pen(canvas), page)
            canvas.showPage()
        canvas.save()
    return drawn.getvalue()


@dataclass
class _Pen:
    """Writes down a page, from `y` on, which is the height of the next line's top above the foot."""

    canvas: Canvas
    y: float = _HEIGHT - _MARGIN
    x: float = _MARGIN

    def lines(self, text: str, *, size: float, lines_max: int = 1, width: float = _WIDTH - 2 * _MARGIN) -> None:
        """This text, in at most so many lines."""
        for line in _wrapped(_clean(text), size=size, width=width, lines_max=lines_max):
            self.y -= size * _LEADING
            self._write(line, size)

    def gap(self, points: float) -> None:
        """Leave that much free."""
        self.y -= points

    def _write(self, line: str, size: float) -> None:
        x = self.x
        for font, run in _runs(line):
            self.canvas.setFont(font, size)
            self.canvas.drawString(x, self.y, run)
            x += stringWidth(run, font, size)


def _draw(pen: _Pen, page: TicketPage) -> None:
    pen.lines(page.event_name, size=_TITLE, lines_max=_TITLE_LINES)
    if page.artist and page.artist not in page.event_name:
        pen.lines(page.artist, size=_USUAL + 2)
    pen.gap(4)
    pen.lines(local_time(page.event_date, page.time_zone), size=_USUAL, lines_max=2)
    for place in page.venue_lines[:_PLACE_LINES]:
        pen.lines(place, size=_USUAL)
    pen.gap(6)
    _draw_place(pen, page)
    pen.gap(6)
    for name, value in (("Name", page.holder), ("Order", page.order_id), ("Ticket", page.ticket_id)):
        if value:
            pen.lines(f"{name}: {value}", size=_USUAL - 1.5)
    if page.code is None:
        pen.gap(20)
        pen.lines(ONLY_IN_THE_APP, size=_USUAL + 1.5, lines_max=5)
    else:
        _draw_qr(pen.canvas, page.code, points=min(_QR_POINTS, pen.y - 3.5 * _MARGIN))
    pen.y = 2 * _MARGIN
    pen.lines(TERMS, size=_SMALL, lines_max=2)


def _draw_place(pen: _Pen, page: TicketPage) -> None:
    """Section, row and seat side by side; they are looked for in the dark."""
    words = [("Section", page.section), ("Row", page.row), ("Seat", page.seat)]
    if not page.row and not page.seat:
        words = [("Section", page.section), ("Place", "General admission")]
    if page.tier:
        words.append(("Price", page.tier))
    width = (_WIDTH - 2 * _MARGIN) / len(words)
    top, lowest = pen.y, pen.y
    for number, (name, value) in enumerate(words):
        pen.x, pen.y = _MARGIN + number * width, top
        pen.lines(name, size=_SMALL, width=width - 4)
        pen.lines(value, size=_SEAT if width > 80 else _SEAT - 2, lines_max=2, width=width - 4)
        lowest = min(lowest, pen.y)
    pen.x, pen.y = _MARGIN, lowest


def _draw_qr(canvas: Canvas, code: str, *, points: float) -> None:
    """The code in the middle of the lower half. Neighbours in a row are one rectangle: printers leave hairs of white between
    two."""
    matrix = ticket_qr(code).matrix
    step = points / (len(matrix) + 2 * QUIET_MODULES)
    left, top = (_WIDTH - points) / 2 + QUIET_MODULES * step, 2.2 * _MARGIN + points - QUIET_MODULES * step
    path = canvas.beginPath()
    for row_number, row in enumerate(matrix):
        column = 0
        for is_dark, modules in groupby(row):
            count = len(list(modules))
            if is_dark:
                path.rect(left + column * step, top - (row_number + 1) * step, count * step, step)
            column += count
    canvas.drawPath(path, stroke=0, fill=1)


# ---- letters


@cache
def _register_fonts() -> None:
    registerFont(TTFont(FONT, str(_FONT_FILE)))
    for name, _ in _CID_FONTS:
        registerFont(UnicodeCIDFont(name))


def _clean(text: str) -> str:
    """On one line, without what cannot be seen: a character that turns the direction of writing could make one seat look
    like another."""
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(_drawable(letter) for letter in composed if not unicodedata.category(letter).startswith("C"))


def _drawable(letter: str) -> str:
    if _font_of(letter) is not None:
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if _font_of(part) is not None)
    return plain or _NOT_DRAWABLE


@cache
def _font_of(letter: str) -> str | None:
    # Letters beyond the basic plane would be in the file with a text that no reader understands.
    if ord(letter) > 0xFFFF:
        return None
    if ord(letter) in getFont(FONT).face.charToGlyph:
        return FONT
    return next((name for name, coding in _CID_FONTS if _is_in(letter, coding)), None)


def _is_in(letter: str, coding: str) -> bool:
    try:
        letter.encode(coding)
    except UnicodeEncodeError:
        return False
    return True


def _runs(line: str) -> Iterator[tuple[str, str]]:
    """Stretches of the line that one font can write."""
    for font, letters in groupby(line, key=lambda letter: _font_of(letter) or FONT):
        yield font, "".join(letters)


def _width(text: str, size: float) -> float:
    return sum(float(stringWidth(run, font, size)) for font, run in _runs(text))


def _wrapped(text: str, *, size: float, width: float, lines_max: int) -> list[str]:
    """The text in lines of that width, broken between words, within a word where it is longer than a line; what is too much
    ends with an ellipsis."""
    lines = [""]
    for word in re.findall(r"\S+\s*", text):
        if lines[-1] and _width((lines[-1] + word).rstrip(), size) > width:
            lines.append("")
        for letter in word:
            if lines[-1] and _width((lines[-1] + letter).rstrip(), size) > width:
                lines.append("")
            lines[-1] += letter
        if len(lines) > lines_max:
            break
    lines = [line.rstrip() for line in lines]
    if len(lines) <= lines_max:
        return lines
    last = lines[lines_max - 1]
    while last and _width(last + "…", size) > width:
        last = last[:-1]
    return [*lines[: lines_max - 1], last + "…"]
