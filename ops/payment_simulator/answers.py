"""How does the provider write an answer, a yes or a no?

The error types and codes are Stripe's: https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body, ready to be sent and to be replayed byte for byte."""

    status: int
    body: bytes
    content_type: str = JSON
    replayed: bool = False


def yes(thing: Mapping[str, Any]) -> Answer:
    """The thing asked for."""
    return Answer(HTTPStatus.OK, _encode(thing))


def page(url: str, things: list[dict[str, Any]], *, has_more: bool, kind: str = "list") -> Answer:
    """A page of a list, or of a search when `kind` is search_result."""
    found: dict[str, Any] = {"object": kind, "data": things, "has_more": has_more, "url": url}
    if kind == "search_result":
        found["next_page"] = None
    return yes(found)


def error(
    status: int,
    kind: str,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    decline_code: str | None = None,
    intent: Mapping[str, Any] | None = None,
) -> Answer:
    """An error in the provider's form."""
    details: dict[str, Any] = {"type": kind, "message": message}
    optional = {"code": code, "param": param, "decline_code": decline_code, "payment_intent": intent}
    details.update({name: value for name, value in optional.items() if value is not None})
    return Answer(status, _encode({"error": details}))


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> Answer:
    """The request itself is wrong."""
    return error(HTTPStatus.BAD_REQUEST, "invalid_request_error", message, param=param, code=code)


def missing(kind: str, thing_id: str) -> Answer:
    """There is no such thing."""
    message = f"No such {kind}: '{thing_id}'"
    return error(HTTPStatus.NOT_FOUND, "invalid_request_error", message, code="resource_missing", param="intent")


def unauthorized() -> Answer:
    """No key was given, or not a secret one."""
    return error(HTTPStatus.UNAUTHORIZED, "invalid_request_error", "You did not provide a valid API key.")


def other_parameters(key: str) -> Answer:
    """The idempotency key was first used with other parameters."""
    message = (
        f"Keys for idempotent requests can only be used with the same parameters they were first used with: '{key}'."
    )
    return error(HTTPStatus.BAD_REQUEST, "idempotency_error", message)


def key_in_use(key: str) -> Answer:
    """The first request with this idempotency key is still under way."""
    message = f"There is currently another in-progress request using this Idempotent Key: '{key}'."
    return error(HTTPStatus.CONFLICT, "idempotency_error", message, code="idempotency_key_in_use")


def rate_limited() -> Answer:
    """Too many requests; nothing happened."""
    message = "Too many requests hit the API too quickly."
    return error(HTTPStatus.TOO_MANY_REQUESTS, "invalid_request_error", message, code="rate_limit")


def broken() -> Answer:
    """Something broke; what happened nobody says."""
    message = "An unknown error occurred."
    return error(HTTPStatus.INTERNAL_SERVER_ERROR, "api_error", message)


def outage() -> Answer:
    """Nobody is there."""
    # What a load balancer says when nothing stands behind it; a client must cope with a body that is not JSON.
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"<html><body>503 Service Unavailable</body></html>", "text/html")


def _encode(thing: Mapping[str, Any]) -> bytes:
    return json.dumps(thing, separators=(",", ":")).encode()
