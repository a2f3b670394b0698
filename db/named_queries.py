"""Where is the SQL? In `db/sql/*.sql`, as SQL, each statement under a `-- name:` line.

`queries("seats").lock_seats` is the text of that statement. A misspelt name is an AttributeError when the module is
imported and used, and `tests/architecture` prepares every statement against a real PostgreSQL.
"""

import re
from functools import cache
from importlib import resources
from types import SimpleNamespace

# In which file each statement stands, by its text.
_nouns: dict[str, str] = {}

_NAME_LINE = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def queries(noun: str) -> SimpleNamespace:
    """The statements of `db/sql/<noun>.sql` by name."""
    text = resources.files("db").joinpath("sql", f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME_LINE.split(text)
    statements = {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}
    _nouns.update(dict.fromkeys(statements.values(), noun))
    return SimpleNamespace(**statements)


def noun_of(statement: str) -> str | None:
    """The file that this text stands in; None of one that was put together elsewhere."""
    return _nouns.get(statement)
