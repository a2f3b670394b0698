"""Which sites' pages may ask us for something?

Our own, and those an operator names (`Settings.cors_origins`). Everything that changes something, and every WebSocket, is
checked here before it is routed, so no route can forget it (OWASP ASVS 5.0, 3.5): a browser says in Sec-Fetch-Site and
Origin on behalf of which page it asks, and a form of another site can send no JSON. A sibling subdomain is another site's
page to us. Programs send neither header and may ask.

An origin that is named gets the CORS answers too. The session cookie is SameSite=Lax: a browser sends it along only from
pages of our own registrable domain (shop.example.com for api.example.com). Pages of an altogether different site can be
named as well, but they ask as nobody.
"""

from http import HTTPStatus

from sanic import HTTPResponse, Request

from contracts.settings import Settings
from ingress.request_body import require_json_content_type
from ingress.responses import ProblemCode, Refusal, empty_response, problem

# Nothing to be refused for: neither changes anything, and what they answer another site's script cannot read.
HARMLESS_METHODS = frozenset({"GET", "HEAD"})

ALLOWED_METHODS = "GET, HEAD, POST, PUT, DELETE"
ALLOWED_HEADERS = (
    "content-type, idempotency-key, if-match, if-none-match, last-event-id, prefer, traceparent,"
    " waiting-room-pass, waiting-room-place, x-request-id"
)
EXPOSED_HEADERS = "etag, link, location, retry-after, ratelimit, ratelimit-policy, x-correlation-id, x-request-id"
# Browsers ask again after ten minutes; a list that was shortened is obeyed that soon.
PREFLIGHT_SECONDS = 600

_OF_ONE_SITE = frozenset({"same-origin", "none"})
_NO_BODY = frozenset({None, "0"})
# What a page may send to another site without asking (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
_OF_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})

HeaderLine = tuple[bytes, bytes]
# Caches must know that another origin gets another answer, even where this one got none.
_VARY: tuple[HeaderLine, ...] = ((b"vary", b"Origin"),)


class Origins:
    """Our own origin, and those whose pages we answer as well."""

    def __init__(self, settings: Settings) -> None:
        self.own = settings.public_url.rstrip("/")
        self.named = frozenset(settings.cors_origin_list)
        self._lines_of = {origin: _lines(origin) for origin in self.named}

    def check(self, request: Request) -> None:
        """Raises Refusal for an unsafe request, or a WebSocket, of a page that may not ask; also to answer a preflight."""
        origin = request.headers.getone("origin", None)
        if origin in self.named:
            if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
                raise Refusal(_preflight())
        elif origin not in (None, self.own) or request.headers.getone("sec-fetch-site", "none") not in _OF_ONE_SITE:
            raise Refusal(problem(ProblemCode.CROSS_SITE_REQUEST))
        _require_json(request)

    def lines_for(self, request: Request) -> tuple[HeaderLine, ...]:
        """What CORS adds to the answer to that request; nothing unless origins are named."""
        if not self.named:
            return ()
        return self._lines_of.get(request.headers.getone("origin", ""), _VARY)


def _require_json(request: Request) -> None:
    headers = request.headers
    has_body = headers.getone("content-length", None) not in _NO_BODY
    # Many programs name a type for the body they do not send; only what an empty form would be sent as is refused.
    if has_body or headers.getone("content-type", "").partition(";")[0].strip().lower() in _OF_FORMS:
        require_json_content_type(request)


def _preflight() -> HTTPResponse:
    headers = {
        "access-control-allow-methods": ALLOWED_METHODS,
        "access-control-allow-headers": ALLOWED_HEADERS,
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }
    return empty_response(HTTPStatus.NO_CONTENT, headers)


def _lines(origin: str) -> tuple[HeaderLine, ...]:
    return (
        *_VARY,
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
    )
