"""Who is answered 304, and who gets gzip?"""

from types import SimpleNamespace
from typing import Any

import pytest
from sanic.compat import Header

from ingress.http_cache import accepts_gzip, cached_json, entity_tag, named_tags

TAG = '"3-abc"'


def a_request(*headers: tuple[str, str]) -> Any:
    """A request of which only the headers matter."""
    return SimpleNamespace(headers=Header(headers))


def answered(*headers: tuple[str, str], **options: Any) -> Any:
    return cached_json(a_request(*headers), b'{"a":1}', etag=TAG, max_age_seconds=10, **options)


def test_whoever_has_nothing_gets_the_body_and_may_keep_it() -> None:
    answer = answered()
    assert (answer.status, answer.body, answer.content_type) == (200, b'{"a":1}', "application/json")
    assert answer.headers["etag"] == TAG
    assert answer.headers["cache-control"] == "public, max-age=10"
    assert answer.headers["vary"] == "Accept-Encoding"


def test_a_stale_copy_may_be_shown_while_a_new_one_is_fetched() -> None:
    answer = answered(stale_while_revalidate_seconds=30)
    assert answer.headers["cache-control"] == "public, max-age=10, stale-while-revalidate=30"


@pytest.mark.parametrize(
    "header", [TAG, f"W/{TAG}", '"3-abc-gzip"', f'"other", {TAG}', f'"with,comma",W/{TAG}', "*", " * "]
)
def test_whoever_has_it_gets_304_without_it(header: str) -> None:
    answer = answered(("if-none-match", header))
    assert (answer.status, answer.body or b"") == (304, b"")
    assert answer.headers["etag"] == TAG
    assert "cache-control" in answer.headers
    assert "vary" in answer.headers


@pytest.mark.parametrize("header", ['"3-abcd"', '"3-ab"', "3-abc", '"*"', "", '"3-abc', "W/"])
def test_whoever_has_something_else_gets_the_body(header: str) -> None:
    assert answered(("if-none-match", header)).status == 200


def test_a_header_on_two_lines_is_one_list() -> None:
    assert answered(("if-none-match", '"x"'), ("if-none-match", TAG)).status == 304


def test_gzip_is_for_those_who_take_it_and_has_a_tag_of_its_own() -> None:
    answer = answered(("accept-encoding", "br, gzip"), gzipped=b"zipped")
    assert (answer.body, answer.headers["content-encoding"]) == (b"zipped", "gzip")
    assert answer.headers["etag"] == '"3-abc-gzip"'
    plain = answered(("accept-encoding", "gzip;q=0"), gzipped=b"zipped")
    assert plain.body == b'{"a":1}'
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] == TAG


def test_a_client_that_has_the_plain_one_need_not_load_the_zipped_one() -> None:
    answer = answered(("accept-encoding", "gzip"), ("if-none-match", TAG), gzipped=b"zipped")
    assert (answer.status, answer.headers["etag"]) == (304, '"3-abc-gzip"')
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("gzip ; q=1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=much", False),
        ("gzipped", False),
    ],
)
def test_what_accept_encoding_says(header: str, takes: bool) -> None:
    assert accepts_gzip(header) is takes


def test_tags_are_of_the_bytes() -> None:
    assert entity_tag(b"a") == entity_tag(b"a") != entity_tag(b"b")
    assert named_tags(entity_tag(b"a")) == {entity_tag(b"a")}
