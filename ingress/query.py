"""Is the part of this address behind the question mark what the route asked for?

As strict as the body is: each parameter once, none that we do not know. Texts become what the model's fields are.
"""

import hashlib
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from sanic import Request

from ingress.request_body import problem_of_mistakes
from ingress.responses import ProblemCode, Refusal, problem


class QueryModel(BaseModel):
    """What a client may put behind the question mark: camelCase, and nothing beyond the fields named."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, extra="forbid", allow_inf_nan=False)


Wanted = TypeVar("Wanted", bound=QueryModel)


def read_query(request: Request, model: type[Wanted]) -> Wanted:
    """The request's parameters as `model`; raises Refusal with the problem that says what is wrong."""
    given = request.get_args(keep_blank_values=True)
    twice = sorted(name for name, values in given.items() if len(values) > 1)
    if twice:
        errors = [{"pointer": f"/{name}", "message": "given more than once"} for name in twice]
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=errors))
    texts = {name: values[0] for name, values in given.items()}
    if any("\x00" in text for pair in texts.items() for text in pair):
        errors = [{"pointer": "", "message": "the character NUL is not allowed"}]
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=errors))
    try:
        return model.model_validate(texts)
    except ValidationError as mistakes:
        raise Refusal(problem_of_mistakes(mistakes)) from None


def query_digest(query: QueryModel) -> str:
    """What stands for these parameters in the key of a cached answer; 32 hex digits."""
    return hashlib.sha256(query.model_dump_json().encode()).hexdigest()[:32]
