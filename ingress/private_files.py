"""How does an owner get a file that is for nobody else?

Only his browser may keep it, and has to ask each time whether it still may: a ticket can be somebody else's a moment later.
"""

from collections.abc import Mapping
from http import HTTPStatus

from sanic import HTTPResponse, Request

from ingress.http_cache import entity_tag, named_tags
from ingress.responses import Answer, empty_response

# Kept by nobody between us and him, and shown again only after we have said that it is the same.
_CACHE_CONTROL = "private, no-cache"


def private_file(request: Request, body: bytes, media_type: str, *, name: str, kept: bool = True) -> HTTPResponse:
    """This file, under this name when it is saved; 304 without it for a client that has it. `kept` false: not to be kept by
    anybody at all."""
    headers: dict[str, str] = {"content-disposition": f'inline; filename="{name}"'}
    if not kept:
        return _answer(body, headers, media_type)
    headers |= {"etag": entity_tag(body), "cache-control": _CACHE_CONTROL}
    given = named_tags(", ".join(request.headers.getall("if-none-match", ())))
    if not given.isdisjoint(("*", headers["etag"])):
        return empty_response(HTTPStatus.NOT_MODIFIED, headers)
    return _answer(body, headers, media_type)


def _answer(body: bytes, headers: Mapping[str, str], media_type: str) -> HTTPResponse:
    return Answer(body, int(HTTPStatus.OK), dict(headers), media_type)
