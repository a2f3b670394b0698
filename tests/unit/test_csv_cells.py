"""Is a cell of ours read as what it is, by a parser and by a spreadsheet?"""

import csv
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import pytest

from ingress.csv_files import Cell, csv_text


def read_back(*cells: Cell) -> list[str]:
    """The cells as a parser finds them."""
    (row,) = csv.reader(StringIO(csv_text([cells]), newline=""), strict=True)
    return row


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_that_begins_like_a_formula_is_text(start: str) -> None:
    written = f'{start}HYPERLINK("https://evil.example";"Click")'
    assert read_back(written, "") == [f"'{written}", ""]


@pytest.mark.parametrize("harmless", ["Ann", "a=b", "1+1", "ann-marie@example.org", "O'Hara", " =1", 'say "no", twice'])
def test_any_other_text_is_kept_as_it_is(harmless: str) -> None:
    assert read_back(harmless, "") == [harmless, ""]


def test_numbers_are_no_formulas() -> None:
    assert read_back(Decimal("-12.50"), 7, None, True) == ["-12.50", "7", "", "true"]


def test_a_time_says_its_offset() -> None:
    assert read_back(datetime(2027, 5, 14, 19, 30, tzinfo=UTC), "") == ["2027-05-14T19:30:00+00:00", ""]


def test_lines_end_as_rfc_4180_says_and_line_breaks_stay_within_their_cells() -> None:
    assert csv_text([["a", "b"], ["one\ntwo", "c"]]) == 'a,b\r\n"one\ntwo",c\r\n'
