"""How are the codes that organisers give out compared, and how are new ones made up?"""

import secrets

from contracts.commands import CODE_LENGTH_MAX

# As it is stored and compared (0004_after_the_purchase.sql says the same).
CODE_PATTERN = r"^[A-Z0-9-]{3,40}$"

# Without what is easily taken for something else when it is read out: 0 O, 1 I L, 2 Z, 5 S, 8 B, U V.
_LETTERS = "34679ACDEFGHJKMNPQRTWXY"
# 23 letters to the 12th are 54 bits: whoever tries a million times to hit one of ten thousand succeeds once in two million.
_LETTER_COUNT = 12
_GROUP = 4

# What is left of a code for the organiser's own prefix, with a hyphen behind it and two between the groups.
PREFIX_LENGTH_MAX = CODE_LENGTH_MAX - 1 - _LETTER_COUNT - 2


def as_compared(code: str) -> str:
    """Upper case, no blanks: however somebody has typed it."""
    return "".join(code.split()).upper()


def made_up(prefix: str = "") -> str:
    """A code that nobody guesses: `FANS-34HK-9QRT-AAX7`. The prefix is given as it is compared."""
    # One draw for all letters: ten thousand codes are made while a request waits.
    number = secrets.randbelow(len(_LETTERS) ** _LETTER_COUNT)
    letters = ""
    for _ in range(_LETTER_COUNT):
        number, rest = divmod(number, len(_LETTERS))
        letters += _LETTERS[rest]
    groups = [letters[start : start + _GROUP] for start in range(0, _LETTER_COUNT, _GROUP)]
    return "-".join([prefix, *groups] if prefix else groups)
