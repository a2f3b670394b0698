"""What may be written in a line of text, and what of it do we keep?"""

from typing import Annotated

from pydantic import AfterValidator, Field


def one_line(text: str) -> str:
    """The same with one blank wherever there was white space; raises ValueError for what cannot be printed."""
    line = " ".join(text.split())
    if not line.isprintable():
        raise ValueError("no control characters")
    return line


def without_nul(text: str) -> str:
    """The same; raises ValueError for the one character that PostgreSQL does not have."""
    if "\x00" in text:
        raise ValueError("the character NUL is not allowed")
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def something_or_none(text: str) -> str | None:
    """The same without white space around it; None when nothing is left: an empty box of a form looks for nothing."""
    return text.strip() or None


Line = Annotated[str, AfterValidator(one_line)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(one_line), AfterValidator(_not_empty)]
# What is looked for.
Looked = Annotated[str, Field(max_length=200), AfterValidator(something_or_none)]
