"""What does every answer tell the browser to be careful about?

The helmet set as advised today (OWASP ASVS 5.0, 3.4, and the Secure Headers Project). It is encoded once at start and
appended to each answer as one piece, because a dozen headers encoded one by one cost more than the rest of the answer.
Nothing says which server this is.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

# We answer with data, never with pages: nothing may be loaded, framed or submitted on behalf of an answer.
API_CONTENT_SECURITY_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

SECURITY_HEADERS: dict[str, str] = {
    "content-security-policy": API_CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Off in helmet by default, because it breaks pages that embed others' images. The seed asks for it, and ours embed none.
    "cross-origin-embedder-policy": "require-corp",
    # Of what a page loads without CORS; what CORS allows (Settings.cors_origins) is not its concern.
    "cross-origin-resource-policy": "same-origin",
    "origin-agent-cluster": "?1",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "x-dns-prefetch-control": "off",
    "x-permitted-cross-domain-policies": "none",
    "x-xss-protection": "0",  # the filter it once switched on was itself a hole
    "cache-control": "no-store",  # until a route says otherwise: an answer kept by a proxy may be somebody else's
}

# A year. Only over https: RFC 6797 7.2 forbids it on plain http.
STRICT_TRANSPORT_SECURITY = "max-age=31536000; includeSubDomains"


def security_headers(public_url: str) -> dict[str, str]:
    """The headers of every answer of a site that buyers see at `public_url`."""
    if not is_https(public_url):
        return dict(SECURITY_HEADERS)
    return {**SECURITY_HEADERS, "strict-transport-security": STRICT_TRANSPORT_SECURITY}


def is_https(public_url: str) -> bool:
    """Whether buyers reach us encrypted; cookies are then Secure and browsers told to insist."""
    return urlsplit(public_url).scheme == "https"


class EncodedHeaders:
    """Headers that never change, encoded once. A route's own header of the same name replaces ours."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._names = frozenset(headers)
        self._lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._all = _as_one(self._lines)
        # Routes replace cache-control and little else: what is left is joined once for each of the few combinations.
        self._without: dict[frozenset[str], tuple[tuple[bytes, bytes], ...]] = {}

    def without(self, own: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
        """The pairs to add to an answer that has these headers of its own."""
        replaced = self._names.intersection(own)
        if not replaced:
            return self._all
        left = self._without.get(replaced)
        if left is None:
            left = self._without[replaced] = _as_one([line for line in self._lines if line[0].decode() not in replaced])
        return left


def _as_one(lines: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    # Sanic writes `name: value CRLF` for each pair, so one pair whose value holds the other lines writes them all.
    if not lines:
        return ()
    (name, value), *others = lines
    return ((name, b"\r\n".join([value, *(b"%b: %b" % line for line in others)])),)
