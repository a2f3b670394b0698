"""What can be asked of this API, and what does each "no" mean?

One page for people, made from the code that answers: the routes with their docstrings, and every problem code with what
to do about it. Problems point here by their `type`.
"""

import html
import inspect
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from contracts.rejections import WHAT_TO_DO
from ingress.responses import STATUS_OF_PROBLEM, STATUS_OF_REJECTION, WHAT_TO_DO_ABOUT, Answer

docs = Blueprint("docs")

# Its own style sheet and nothing else; no script at all.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0 }
tr + tr { border-top: 1px solid #8884 } code { font-family: ui-monospace, monospace }
"""


@docs.get("/docs", name="docs")
async def show_docs(request: Request) -> HTTPResponse:
    """This page."""
    return _show(request)


@docs.get("/problems/<code:str>", name="problem")
async def show_problem(request: Request, code: str) -> HTTPResponse:  # noqa: ARG001 -- the page has them all
    """What a problem's `type` points at."""
    return _show(request)


def _show(request: Request) -> HTTPResponse:
    page = _page(_routes(request.app), _problems())
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY}
    return Answer(page.encode(), int(HTTPStatus.OK), headers, "text/html; charset=utf-8")


def _routes(app: Any) -> list[tuple[str, str, str]]:
    """Method, path and what it does, for every route."""
    found = []
    for route in app.router.routes:
        said = inspect.getdoc(inspect.unwrap(route.handler)) or ""
        path = "/" + route.path.lstrip("/")
        found += [(method, path, said) for method in sorted(route.methods - {"HEAD", "OPTIONS"})]
    return sorted(found, key=lambda one: (one[1], one[0]))


def _problems() -> list[tuple[str, int, str]]:
    """Code, status and what to do, for every way in which we say no."""
    rejections = [(code.value, int(status), WHAT_TO_DO[code]) for code, status in STATUS_OF_REJECTION.items()]
    own = [(code.value, int(status), WHAT_TO_DO_ABOUT[code]) for code, status in STATUS_OF_PROBLEM.items()]
    return sorted(rejections + own)


def _page(routes: Iterable[tuple[str, str, str]], problems: Iterable[tuple[str, int, str]]) -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Boxoffice API</title><style>{_STYLE}</style>"
        "<h1>Boxoffice API</h1><p>JSON in camelCase. Unsafe requests take an <code>Idempotency-Key</code>: the same key and"
        " body get the same answer. <code>202</code> means not known yet: look at <code>Location</code>. Every refusal is"
        " <code>application/problem+json</code> with a <code>code</code> of the list below.</p>"
        f"<h2>Requests</h2>{_table(('', 'path', ''), routes)}"
        f"<h2>Refusals</h2>{_table(('code', 'status', 'what to do'), problems)}"
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{html.escape(text)}" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value, is_code=place < 2)}" for place, value in enumerate(row)) for row in rows
    )
    return f"<table><tr>{head}{body}</table>"


def _cell(value: Any, *, is_code: bool) -> str:
    text = html.escape(str(value))
    return f"<code>{text}</code>" if is_code else text
