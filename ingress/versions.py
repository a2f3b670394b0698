"""Is what this client wants to change still what it has seen?

The ETag of an event or a venue is its version and a hash of what was answered, `"3-9f86…"`. The whole says whether a copy is
still good; the version alone, whether an organiser has changed anything: a sale that opens is no change of theirs.
"""

import re

from sanic import Request

from ingress.http_cache import entity_tag, named_tags
from ingress.responses import ProblemCode, Refusal, problem

# The hash may be left out: the answer to a POST says only "1".
_VERSION_TAG = re.compile(r'"(\d{1,9})(?:-[0-9a-z-]*)?"')


def version_tag(version: int, body: bytes) -> str:
    """The entity tag of this body, in its quotes."""
    return f'"{version}-{entity_tag(body)[1:]}'


def expected_version(request: Request) -> int | None:
    """The version in If-Match; None when any will do. Raises Refusal for a tag that we have never given out."""
    header = ", ".join(request.headers.getall("if-match", ()))
    named = named_tags(header)
    if not header or "*" in named:
        return None
    versions = {int(found[1]) for tag in named if (found := _VERSION_TAG.fullmatch(tag))}
    if len(versions) != 1:
        raise Refusal(problem(ProblemCode.CHANGED_MEANWHILE))
    return versions.pop()
