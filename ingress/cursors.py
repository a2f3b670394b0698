"""Where does the next page begin?

A cursor is the place where a page ended, and belongs to the query it came from: with another query it would point nowhere.
Opaque to clients; what comes back is nevertheless read like everything that clients send.
"""

import base64
import hashlib
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from ingress.query import QueryModel
from ingress.responses import ProblemCode, Refusal, problem

# How far a reader has come, and how much is read at once, is not what is looked for.
_NOT_PART_OF_THE_QUERY = {"cursor", "limit"}
_QUERY_HASH_BYTES = 6

Place = TypeVar("Place")


def write_cursor(query: QueryModel, place: tuple[Any, ...]) -> str:
    """The cursor of that place among the results of that query."""
    text = to_json([_hash_of(query), *place])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read_cursor(query: QueryModel, cursor: str, kind: TypeAdapter[Place]) -> Place:
    """The place in that cursor; raises Refusal for one that another query, or nobody, has given out."""
    place = _place_in(cursor, _hash_of(query), kind)
    if place is None:
        message = "take it from nextCursor, unchanged, and repeat the rest of the query"
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=[{"pointer": "/cursor", "message": message}]))
    return place


def _place_in(cursor: str, expected_hash: str, kind: TypeAdapter[Place]) -> Place | None:
    try:
        query_hash, *place = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return kind.validate_json(to_json(place)) if query_hash == expected_hash else None
    except (ValueError, TypeError):
        return None


def _hash_of(query: QueryModel) -> str:
    text = query.model_dump_json(exclude=_NOT_PART_OF_THE_QUERY)
    return hashlib.sha256(text.encode()).hexdigest()[: 2 * _QUERY_HASH_BYTES]
