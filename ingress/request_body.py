"""Is this body what the route asked for?

JSON as strict as it can be read: UTF-8, each key once, no NaN or Infinity, no NUL (PostgreSQL has no such character), no
field we do not know, no text where a number belongs. It is read twice, at 2 µs each: the standard library's parser sees a
key that is there twice, pydantic's reads types strictly. Both must agree that it is JSON.
"""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from sanic import HTTPResponse, Request

from ingress.responses import JSON, ProblemCode, Refusal, problem

ERRORS_MAX = 20


class RequestModel(BaseModel):
    """What a client may send: camelCase, the types named, and nothing beyond the fields named."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
    )


Wanted = TypeVar("Wanted", bound=RequestModel)


def read_json(request: Request, model: type[Wanted]) -> Wanted:
    """The request's body as `model`; raises Refusal with the problem that says what is wrong."""
    require_json_content_type(request)
    return parse_json(request.body, model)


def require_json_content_type(request: Request) -> None:
    """Raises Refusal unless the body is declared as JSON: a form of another site cannot send that without our leave."""
    content_type = request.headers.getone("content-type", "")
    if content_type != JSON and not _means_json(content_type):
        raise Refusal(problem(ProblemCode.UNSUPPORTED_MEDIA_TYPE))


def parse_json(body: bytes, model: type[Wanted]) -> Wanted:
    """These bytes as `model`; raises Refusal."""
    try:
        _require_strict_json(body)
        return model.model_validate_json(body)
    except ValidationError as mistakes:
        raise Refusal(problem_of_mistakes(mistakes)) from None
    except (ValueError, RecursionError) as mistake:
        raise Refusal(problem(ProblemCode.INVALID_JSON, _described(mistake))) from None


def _require_strict_json(body: bytes) -> None:
    text = body.decode()
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise ValueError("the character NUL is not allowed")
    if not isinstance(_DECODER.decode(text), dict):
        raise ValueError("not an object")  # noqa: TRY004 -- it is about the value of the text, not about a type of ours


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is there twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Built once: json.loads with hooks would build one for each request, which costs as much as the reading.
_DECODER = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_constant=_no_constant)
# An even number of backslashes before it escape each other, and then it is no escape itself.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _means_json(content_type: str) -> bool:
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() != JSON:
        return False
    # JSON is UTF-8 (RFC 8259 8.1); a client that says otherwise would be misread.
    return parameters.strip().lower().replace('"', "") in ("", "charset=utf-8")


def problem_of_mistakes(mistakes: ValidationError) -> HTTPResponse:
    """The 422 that points at every field that is wrong."""
    found = mistakes.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return problem(ProblemCode.INVALID_JSON)
    errors = [{"pointer": _pointer(mistake["loc"]), "message": mistake["msg"]} for mistake in found[:ERRORS_MAX]]
    return problem(ProblemCode.INVALID_REQUEST, errors=errors)


def _pointer(steps: tuple[int | str, ...]) -> str:
    """Where it is, as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def _described(mistake: ValueError | RecursionError) -> str:
    if isinstance(mistake, RecursionError):
        return "nested too deeply"
    if isinstance(mistake, UnicodeDecodeError):
        return "not UTF-8"
    # The interpreter's own words for a number of thousands of digits speak of its settings.
    return "a number with too many digits" if str(mistake).startswith("Exceeds") else str(mistake)
