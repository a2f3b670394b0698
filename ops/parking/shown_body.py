"""What of a message may an operator's screen show? Ids, numbers, times and kinds; whatever else may be about a person is not."""

import json
import re
from typing import Any
from uuid import UUID

from pydantic.alias_generators import to_snake

# Words from short closed lists of ours.
_KINDS = frozenset({"type", "kind", "status", "currency"})
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_NUMBER_OR_TIME = re.compile(r"-?\d+(\.\d+)?|\d{4}-\d\d-\d\dT[0-9:.+Z-]+")
_KIND = re.compile(r"[A-Za-z_]{1,40}")
_ADDRESS = re.compile(r"[^\s<>()'\"=,;]+@[^\s<>()'\"=,;]+")
_REASON_LENGTH_MAX = 300


def shown_body(body: bytes) -> str:
    """The body, indented, with everything hidden that is no id, number, time or kind."""
    try:
        read = json.loads(body)
    except ValueError:
        return f"({len(body)} bytes that are no JSON, not shown)"
    return json.dumps(_shown(read, ""), indent=2, ensure_ascii=False)


def shown_reason(reason: str) -> str:
    """Why it is here, without addresses, and without the values that PostgreSQL adds to its errors."""
    first, *_ = reason.split("DETAIL:")
    return _ADDRESS.sub("…@…", first).strip()[:_REASON_LENGTH_MAX]


def _shown(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _shown(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one, name) for one in value]
    if not isinstance(value, str) or not value or _is_harmless(value, to_snake(name)):
        return value
    return f"({len(value)} characters, not shown)"


def _is_harmless(text: str, name: str) -> bool:
    if _NUMBER_OR_TIME.fullmatch(text) or (name in _KINDS and _KIND.fullmatch(text)):
        return True
    if name.endswith(("_id", "_ids", "_key")):
        return _PLAIN_ID.fullmatch(text) is not None
    return _is_uuid(text)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
