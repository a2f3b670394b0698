"""Has this client the answer already, and in which coding does it take it?

RFC 9110 13.1.2 (If-None-Match), 12.5.3 (Accept-Encoding) and RFC 9111. Only for what is the same for everybody: whatever
depends on who asks is never sent through here.
"""

import hashlib
import re
from functools import lru_cache
from http import HTTPStatus

from sanic import HTTPResponse, Request

from ingress.responses import empty_response, json_response

# Sixteen bytes of SHA-256: two answers of one address will not share them.
TAG_BYTES = 16
_GZIP_SUFFIX = '-gzip"'
# The characters of RFC 9110 8.8.3; a weak tag is compared like a strong one.
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def entity_tag(body: bytes) -> str:
    """A strong entity tag of these bytes, in its quotes, as it stands in ETag."""
    return f'"{hashlib.sha256(body).hexdigest()[: 2 * TAG_BYTES]}"'


def cached_json(
    request: Request,
    body: bytes,
    *,
    etag: str,
    max_age_seconds: int,
    gzipped: bytes | None = None,
    stale_while_revalidate_seconds: int = 0,
) -> HTTPResponse:
    """This JSON, which anybody may keep for `max_age_seconds`; 304 without it for a client that has it.

    `etag` stands in its quotes, as `entity_tag` makes it. With `gzipped`, the same body in that coding, a client that
    takes gzip gets that; its tag then ends in `-gzip`, because two codings are two representations (RFC 9110 8.8.3.3).
    """
    takes_gzip = gzipped is not None and accepts_gzip(request.headers.getone("accept-encoding", ""))
    headers = {
        "etag": etag[:-1] + _GZIP_SUFFIX if takes_gzip else etag,
        "cache-control": _cache_control(max_age_seconds, stale_while_revalidate_seconds),
        "vary": "Accept-Encoding",
    }
    if _has_it(request, etag):
        return empty_response(HTTPStatus.NOT_MODIFIED, headers)
    if gzipped is None or not takes_gzip:
        return json_response(body, headers=headers)
    return json_response(gzipped, headers={**headers, "content-encoding": "gzip"})


def named_tags(header: str) -> frozenset[str]:
    """The entity tags in an If-Match or If-None-Match, without the mark of weak ones; `*` stands for any."""
    if header.strip() == "*":
        return frozenset({"*"})
    return frozenset(_ENTITY_TAG.findall(header))


# Browsers and programs send a handful of different ones, a hundred thousand times.
@lru_cache(maxsize=256)
def accepts_gzip(header: str) -> bool:
    """Whether this Accept-Encoding allows gzip: named or meant by `*`, and not with a quality of 0."""
    qualities = dict(_quality(part) for part in header.lower().split(","))
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def _has_it(request: Request, etag: str) -> bool:
    given = request.headers.getall("if-none-match", ())
    if not given:
        return False
    named = named_tags(", ".join(given))
    # Either coding will do: who has one has the content.
    return not named.isdisjoint(("*", etag.removeprefix("W/"), etag.removeprefix("W/")[:-1] + _GZIP_SUFFIX))


@lru_cache(maxsize=64)
def _cache_control(max_age_seconds: int, stale_while_revalidate_seconds: int) -> str:
    stale = f", stale-while-revalidate={stale_while_revalidate_seconds}" if stale_while_revalidate_seconds else ""
    return f"public, max-age={max_age_seconds}{stale}"


def _quality(part: str) -> tuple[str, float]:
    coding, _, parameter = part.partition(";")
    name, _, value = parameter.strip().partition("=")
    try:
        return coding.strip(), float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return coding.strip(), 0.0
