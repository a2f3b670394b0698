"""What can be asked over HTTP, as OpenAPI 3.1?

Made from the routes themselves: path and method from the router, the words from the docstrings, the rest from each route's
`@operation`. Nothing here is written by hand that the code says already, so the document cannot fall behind.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel, to_pascal, to_snake
from sanic import Sanic

from contracts.json_schema import COMPONENTS, Schema, Schemas
from db.rate_limits import PERIOD_SECONDS, REQUESTS_PER_MINUTE
from ingress.asking import IDEMPOTENCY_KEY_LENGTH_MAX, Pending
from ingress.operation import Access, Body, Content, Operation, operation_of
from ingress.problems import ADVICE, STATUS_OF, Problem, codes_of, retry_makes_sense, table_of_codes
from ingress.responses import JSON, PROBLEM_JSON, Code
from ingress.route_paths import with_plain_files
from ingress.security_headers import is_https

# The second number grows with every addition; a change that breaks a client gets a new path instead of a new version.
API_VERSION = "1.0.0"
TITLE = "Boxoffice"
SUMMARY = "Find an event, see its seats change as they change, reserve, pay."
CONVENTIONS = Path(__file__).with_name("conventions.md")
SECURITY_SCHEME = "session"
EVENT_STREAM = "text/event-stream"

_PARAMETER = re.compile(r"<(\w+):(\w+)>")
_TYPES: Mapping[str, Schema] = {
    "uuid": {"type": "string", "format": "uuid"},
    "str": {"type": "string", "minLength": 1},
    "int": {"type": "integer", "minimum": 0},
}

_WHO = {
    Access.ANYONE: "Anybody may ask.",
    Access.USER: "For whoever is logged in.",
    Access.OWNER: "For whoever is logged in and owns it; to others it is not there (404).",
    Access.SCANNER: "For scanners, and for administrators.",
    Access.ADMIN: "For administrators.",
}


@dataclass(frozen=True)
class DescribedRoute:
    """A route and what it says of itself."""

    path: str  # as Sanic has it, with a slash in front and the ending of a file behind
    method: str
    tag: str
    handler: Any
    operation: Operation

    @property
    def name(self) -> str:
        """What the route is called in generated clients."""
        return to_camel(self.handler.__name__)

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it: `/api/orders/{orderId}`."""
        return _PARAMETER.sub(lambda found: "{" + to_camel(found[1]) + "}", self.path)

    @property
    def words(self) -> str:
        """The docstring: what the route does, for whoever writes a client."""
        return inspect.getdoc(self.handler) or ""

    @property
    def sentence(self) -> str:
        """The first of them, for lists."""
        paragraph = " ".join(self.words.partition("\n\n")[0].split())
        return paragraph.partition(". ")[0].rstrip(".")


def described_routes(app: "Sanic[Any, Any]") -> list[DescribedRoute]:
    """Every route that has an Operation, by path and method."""
    found = []
    for method, path, tag, handler in routes_of(app):
        operation = operation_of(handler)
        if operation is not None:
            found.append(DescribedRoute(path, method, tag, handler, operation))
    return sorted(found, key=lambda route: (route.template, route.method))


def routes_of(app: "Sanic[Any, Any]") -> Iterator[tuple[str, str, str, Any]]:
    """Method, path, blueprint and handler of every route there is."""
    for route in app.router.routes:
        handler = inspect.unwrap(route.handler)
        # A socket's handler comes wrapped in a partial.
        handler = getattr(handler, "args", (handler,))[0] if not inspect.isfunction(handler) else handler
        tag = route.name.split(".")[1]
        for method in sorted(route.methods - {"HEAD", "OPTIONS"}):
            yield method, "/" + with_plain_files(route.path.lstrip("/")), tag, handler


def openapi_document(app: "Sanic[Any, Any]") -> dict[str, Any]:
    """The document of all routes of a finalized app that have an Operation."""
    routes = described_routes(app)
    schemas = _schemas(routes)
    refusals: dict[str, Any] = {}
    paths = {
        template: {route.method.lower(): _described(route, schemas, refusals) for route in same_path}
        for template, same_path in groupby(routes, key=lambda route: route.template)
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": API_VERSION,
            "summary": SUMMARY,
            "description": CONVENTIONS.read_text(encoding="utf-8"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "wherever this document was loaded from"}],
        "tags": _tags(routes),
        "paths": paths,
        "components": {
            "schemas": _named_in(paths, refusals, schemas),
            "responses": dict(sorted(refusals.items())),
            "headers": _HEADERS,
            "securitySchemes": {SECURITY_SCHEME: _security_scheme(app)},
        },
        "x-problem-codes": table_of_codes(),
    }


def _schemas(routes: Iterable[DescribedRoute]) -> Schemas:
    answers: list[Any] = [Problem, Pending]
    requests: list[Any] = []
    for route in routes:
        for body in route.operation.answers.values():
            answers += _models(body)
        requests += [kind for kind in (route.operation.body, route.operation.query) if kind is not None]
    return Schemas(answers, requests=requests)


def _models(body: Body) -> Sequence[type[BaseModel]]:
    if body is None:
        return ()
    if isinstance(body, Content):
        return body.frames
    return body if isinstance(body, tuple) else (body,)


def _tags(routes: Iterable[DescribedRoute]) -> list[dict[str, str]]:
    """A tag for each blueprint, with the question that its module answers."""
    words = {route.tag: inspect.getdoc(inspect.getmodule(route.handler)) or "" for route in routes}
    return [{"name": tag, "description": said.partition("\n")[0]} for tag, said in sorted(words.items())]


def _named_in(paths: Any, refusals: Any, schemas: Schemas) -> dict[str, Schema]:
    """The schemas that something points at: not those of queries, whose members stand there as parameters."""
    found: dict[str, Schema] = {}
    waiting = [*_references(paths), *_references(refusals)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas.components[name]
            waiting += _references(found[name])
    return dict(sorted(found.items()))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for value in node:
            yield from _references(value)
    elif isinstance(node, dict):
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, str) and node.startswith(COMPONENTS):
        yield node.removeprefix(COMPONENTS)


def _described(route: DescribedRoute, schemas: Schemas, refusals: dict[str, Any]) -> dict[str, Any]:
    operation = route.operation
    described: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.sentence,
        "description": "\n\n".join([route.words, *_fine_print(operation)]),
        "parameters": [*_path_parameters(route), *_query_parameters(operation, schemas), *_header_parameters(route)],
        "responses": _responses(route, schemas, refusals),
        "security": [] if operation.access is Access.ANYONE else [{SECURITY_SCHEME: []}],
        "x-access": operation.access.value,
    }
    if operation.bucket is not None:
        described["x-rate-limit"] = operation.bucket.value
    if operation.body is not None:
        described["requestBody"] = _request_body(operation, schemas)
    return described


def _fine_print(operation: Operation) -> Iterator[str]:
    yield _WHO[operation.access]
    if operation.bucket is not None:
        by = "address" if operation.access is Access.ANYONE else "user"
        count = REQUESTS_PER_MINUTE[operation.bucket]
        yield f"Counted as `{operation.bucket}`: {count} requests in {PERIOD_SECONDS} s for each {by}."


# ---- what goes in


def _path_parameters(route: DescribedRoute) -> Iterator[dict[str, Any]]:
    for name, type_ in _PARAMETER.findall(route.path):
        yield {"name": to_camel(name), "in": "path", "required": True, "schema": dict(_TYPES[type_])}


def _query_parameters(operation: Operation, schemas: Schemas) -> Iterator[dict[str, Any]]:
    if operation.query is None:
        return
    model = schemas.resolved(schemas.of(operation.query, use="request"))
    required = model.get("required", [])
    for name, schema in model.get("properties", {}).items():
        schema = _without_null(schema)
        described = {"description": schema.pop("description")} if "description" in schema else {}
        yield {"name": name, "in": "query", "required": name in required, **described, "schema": schema}


def _without_null(schema: Schema) -> Schema:
    """A parameter that is not given is left out; there is no null behind a question mark."""
    others = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    if len(others) == 1:
        return {**others[0], **rest}
    return {**rest, "anyOf": others} if others else rest


def _header_parameters(route: DescribedRoute) -> Iterator[dict[str, Any]]:
    operation = route.operation
    if operation.asks or operation.keyed:
        yield _IDEMPOTENCY_KEY
    if operation.asks:
        yield _PREFER
    if operation.cached:
        yield _IF_NONE_MATCH
    if operation.guarded:
        yield _IF_MATCH
    if any(isinstance(body, Content) and body.media_type == EVENT_STREAM for body in operation.answers.values()):
        yield _LAST_EVENT_ID


def _header(name: str, description: str, example: str, **schema: Any) -> dict[str, Any]:
    shape = {"type": "string", **schema}
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": shape,
        "example": example,
    }


_IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "The same key and body get the same answer and are done once. Take a new UUID for each thing you want.",
    "6f0c1f0e-2b1d-4f55-9a5e-0d6f6f6d2b11",
    pattern=f"^[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH_MAX}}}$",
)
_PREFER = _header(
    "Prefer", "`respond-async`: answer 202 at once instead of waiting for the sale (RFC 7240).", "respond-async"
)
_IF_NONE_MATCH = _header("If-None-Match", "The ETag you have: 304 when it is still the same.", '"0f3c"')
_IF_MATCH = _header("If-Match", "The ETag of what you are changing: 412 when somebody else was quicker.", '"0f3c"')

_LAST_EVENT_ID = _header("Last-Event-ID", "The id of the last message you have, as EventSource sends it.", "4711")


def _request_body(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schemas.of(operation.body, use="request")}
    if operation.examples:
        content["examples"] = {
            to_camel(name.replace(" ", "_")): {"summary": name, "value": dict(value)}
            for name, value in operation.examples.items()
        }
    return {"required": True, "content": {JSON: content}}


# ---- what comes back


def _responses(route: DescribedRoute, schemas: Schemas, refusals: dict[str, Any]) -> dict[str, Any]:
    """By status. A refusal of one or two codes is the same everywhere: it goes into `refusals`, and is pointed at."""
    operation = route.operation
    answers = dict(operation.answers)
    if operation.asks:
        answers.setdefault(HTTPStatus.ACCEPTED, Pending)
    if operation.cached:
        answers.setdefault(HTTPStatus.NOT_MODIFIED, None)
    described = {status: _answer(status, body, operation, schemas) for status, body in answers.items()}
    codes = codes_of(operation, method=route.method, path=route.path)
    for status, same_status in groupby(codes, key=STATUS_OF.__getitem__):
        said = list(same_status)
        refusal = _refusal(status, said, operation, schemas)
        if status in described:
            described[status] = _both(described[status], refusal)
        elif len(said) > 2:
            described[status] = refusal
        else:
            name = "Or".join(to_pascal(code.value) for code in said)
            refusals[name] = refusal
            described[status] = {"$ref": f"#/components/responses/{name}"}
    return {str(int(status)): described[status] for status in sorted(described)}


def _answer(status: HTTPStatus, body: Body, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _said(status, body)}
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _header_names(status, operation)}
    if status < HTTPStatus.MULTIPLE_CHOICES:
        headers |= {_CANONICAL.get(name.lower(), name): _own_header(text) for name, text in operation.headers.items()}
    if headers:
        described["headers"] = headers
    if body is not None:
        described["content"] = _content(body, schemas)
    return described


def _said(status: HTTPStatus, body: Body) -> str:
    if isinstance(body, Content):
        return body.description
    words = [inspect.getdoc(model) or "" for model in _models(body)]
    return " / ".join(text.partition("\n")[0] for text in words) or status.phrase


def _content(body: Body, schemas: Schemas) -> dict[str, Any]:
    if not isinstance(body, Content):
        return {JSON: {"schema": _one_of(_models(body), schemas)}}
    # OpenAPI 3.1 needs no schema for bytes; generators of clients still do, and know them by this word of 3.0.
    described: dict[str, Any] = {
        "schema": {"type": "string"} if _is_text(body.media_type) else {"type": "string", "format": "binary"}
    }
    if body.frames:
        # OpenAPI 3.1 has no word for what comes piece by piece.
        described["x-frames"] = {_frame_name(frame): schemas.of(frame) for frame in body.frames}
    return {body.media_type: described}


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type.endswith(("+xml", "json"))


def _frame_name(frame: type[BaseModel]) -> str:
    """What the frame is called in the stream: SeatsFrame is `seats`."""
    return to_camel(to_snake(frame.__name__.removesuffix("Frame")))


def _one_of(models: Sequence[type[BaseModel]], schemas: Schemas) -> Schema:
    references = [schemas.of(model) for model in models]
    return references[0] if len(references) == 1 else {"oneOf": references}


def _refusal(status: HTTPStatus, codes: Sequence[Code], operation: Operation, schemas: Schemas) -> dict[str, Any]:
    headers = [*_header_names(status, operation)]
    if any(retry_makes_sense(code) for code in codes):
        headers.append("Retry-After")
    described: dict[str, Any] = {
        "description": "\n".join(f"- `{code}`: {ADVICE[code]}" for code in codes),
        "content": {
            PROBLEM_JSON: {
                "schema": {
                    **schemas.of(Problem),
                    "properties": {
                        "code": {"enum": [code.value for code in codes]},
                        "status": {"const": int(status)},
                    },
                }
            }
        },
    }
    if headers:
        described["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return described


def _both(answer: Mapping[str, Any], refusal: Mapping[str, Any]) -> dict[str, Any]:
    """A status that is an answer in one case and a refusal in another."""
    return {
        "description": f"{answer['description']}\n{refusal['description']}",
        "headers": {**answer.get("headers", {}), **refusal.get("headers", {})},
        "content": {**answer.get("content", {}), **refusal["content"]},
    }


def _header_names(status: HTTPStatus, operation: Operation) -> Iterator[str]:
    if status == HTTPStatus.ACCEPTED:
        yield from ("Location", "Retry-After")
    if operation.cached and status in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED):
        yield from ("ETag", "Cache-Control")
    if status == HTTPStatus.UNAUTHORIZED:
        yield "WWW-Authenticate"
    counted = operation.bucket is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    if counted or status == HTTPStatus.TOO_MANY_REQUESTS:
        yield from ("RateLimit", "RateLimit-Policy")


def _own_header(text: str, **schema: Any) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string", **schema}}


_HEADERS = {
    "Cache-Control": _own_header("For how long this may be kept."),
    "ETag": _own_header("Names this version; send it back in If-None-Match or If-Match."),
    "Location": _own_header("Where the outcome will be."),
    "RateLimit": _own_header('What is left, `"reserve";r=0;t=12`: r requests now, all of them again in t seconds.'),
    "RateLimit-Policy": _own_header('The limit, `"reserve";q=20;w=60`: q requests in w seconds.'),
    "Retry-After": {
        "description": "Seconds to wait before you try again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": _own_header("`Cookie`: a session is needed."),
}


_CANONICAL = {name.lower(): name for name in (*_HEADERS, "Set-Cookie")}


def _security_scheme(app: "Sanic[Any, Any]") -> dict[str, str]:
    https = is_https(app.ctx.settings.public_url)
    return {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-session" if https else "session",
        "description": "Set by register and login. Over https its name is `__Host-session`, else `session`.",
    }
