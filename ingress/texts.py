"""What may be written in a line of text, and what of it do we keep?"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

# What browsers take for an address: https://html.spec.whatwg.org/multipage/input.html#email-state-(type=email)
_EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9-]+(\.[a-z0-9-]+)+")
EMAIL_MAX_LENGTH = 254
# The same for the documentation: of either case, and with the blanks that are taken off.
_EMAIL_PATTERN = r"^\s*[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+\s*$"


def one_line(text: str) -> str:
    """The same with one blank wherever there was white space; raises ValueError for what cannot be printed."""
    line = " ".join(text.split())
    if not line.isprintable():
        raise ValueError("no control characters")
    return line


def normalised_email(text: str) -> str:
    """The address as we keep it, in lower case and without blanks around it; raises ValueError for what is none."""
    email = text.strip().lower()
    if len(email) > EMAIL_MAX_LENGTH or not _EMAIL.fullmatch(email):
        raise ValueError("not an e-mail address")
    return email


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
EmailAddress = Annotated[str, Field(json_schema_extra={"pattern": _EMAIL_PATTERN}), AfterValidator(normalised_email)]
