"""Where is this API explained?

`/openapi.json` for programs, `/docs` for people, and a page for each problem code, where the `type` of a problem leads.
All of it is made from the code that answers, once, when it is first asked for.
"""

import gzip
import json
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sanic import Blueprint, HTTPResponse, Request, Sanic

from ingress.docs_page import docs_page, problem_page
from ingress.http_cache import cached_json, entity_tag
from ingress.openapi import openapi_document
from ingress.operation import Access, Content, operation
from ingress.responses import JSON, Answer, ProblemCode, problem

docs = Blueprint("docs")

# The style sheet of our own origin and nothing else; no script at all.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STYLE_SHEET = Path(__file__).parents[1] / "docs.css"
MAX_AGE_SECONDS = 300


class Explained:
    """The document of an app in the forms it is asked for."""

    def __init__(self, app: "Sanic[Any, Any]") -> None:
        self.document = openapi_document(app)

    @cached_property
    def json(self) -> bytes:
        """For programs."""
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def etag(self) -> str:
        """Names this version of it."""
        return entity_tag(self.json)

    @cached_property
    def gzipped(self) -> bytes:
        """The same, smaller."""
        return gzip.compress(self.json)

    @cached_property
    def page(self) -> str:
        """For people."""
        return docs_page(self.document)


@docs.get("/openapi.json")
@operation(
    access=Access.ANYONE,
    answers={HTTPStatus.OK: Content(JSON, "This document, OpenAPI 3.1.")},
    cached=True,
)
async def show_openapi(request: Request) -> HTTPResponse:
    """What can be asked of this API, for programs."""
    explained = _explained(request)
    return cached_json(
        request, explained.json, etag=explained.etag, max_age_seconds=MAX_AGE_SECONDS, gzipped=explained.gzipped
    )


@docs.get("/docs", name="docs")
@operation(access=Access.ANYONE, answers={HTTPStatus.OK: Content("text/html", "The page.")})
async def show_docs(request: Request) -> HTTPResponse:
    """The same for people."""
    return _html(_explained(request).page)


@docs.get("/docs.css")
@operation(access=Access.ANYONE, answers={HTTPStatus.OK: Content("text/css", "The style sheet.")})
async def show_style_sheet(_: Request) -> HTTPResponse:
    """How the pages look."""
    headers = {"cache-control": f"public, max-age={MAX_AGE_SECONDS}"}
    return Answer(_STYLE, int(HTTPStatus.OK), headers, "text/css; charset=utf-8")


@docs.get("/problems/<code:str>", name="problem")
@operation(
    access=Access.ANYONE,
    answers={HTTPStatus.OK: Content("text/html", "The page.")},
    refusals=(ProblemCode.NOT_FOUND,),
)
async def show_problem(request: Request, code: str) -> HTTPResponse:
    """What a problem code means and what to do about it: a problem's `type` leads here."""
    page = problem_page(_explained(request).document, code)
    return _html(page) if page is not None else problem(ProblemCode.NOT_FOUND)


def _html(page: str) -> HTTPResponse:
    headers = {
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "cache-control": f"public, max-age={MAX_AGE_SECONDS}",
    }
    return Answer(page.encode(), int(HTTPStatus.OK), headers, "text/html; charset=utf-8")


def _explained(request: Request) -> Explained:
    context = request.app.ctx
    if not hasattr(context, "explained"):
        context.explained = Explained(request.app)
    return context.explained  # type: ignore[no-any-return]


_STYLE = STYLE_SHEET.read_bytes()
