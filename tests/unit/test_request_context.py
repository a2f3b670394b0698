"""What is logged of an answer, and which id does each command of a request get?"""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sanic.compat import Header

from db.telemetry.logs import bind_correlation_id, bind_request_id, bound_correlation_id
from ingress import request_context
from ingress.request_context import LINES_PER_SECOND_MAX, ask_id, correlation_id_of


def a_request(path: str | None = "api/orders/<order_id:uuid>", **headers: str) -> Any:
    """One, as far as its context is concerned."""
    route = None if path is None else SimpleNamespace(path=path)
    named = Header({name.replace("_", "-"): value for name, value in headers.items()})
    return SimpleNamespace(ctx=SimpleNamespace(), method="GET", route=route, headers=named, path="/a/secret")


@pytest.fixture(autouse=True)
def as_usual(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing has been logged before, and no request is under way afterwards."""
    monkeypatch.setattr(request_context, "_budget", request_context._LineBudget())
    caplog.set_level(logging.INFO)
    yield
    bind_correlation_id(None)
    bind_request_id(None)


@pytest.mark.parametrize(
    ("status", "level"), [(500, "ERROR"), (503, "WARNING"), (504, "WARNING"), (499, ""), (200, "")]
)
def test_only_errors_are_logged(caplog: pytest.LogCaptureFixture, status: int, level: str) -> None:
    request_context.end(a_request(), status, 0.0)
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    for record in caplog.records:
        told = vars(record)
        assert (told["endpoint"], told["status"]) == ("/api/orders/<order_id>", status)
        assert "secret" not in str(told)


def test_at_level_debug_every_answer_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    request_context.end(a_request(None), 200, None)
    (record,) = caplog.records
    assert (record.levelname, vars(record)["endpoint"]) == ("DEBUG", "other")


def test_an_overload_is_not_made_worse_by_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("ingress.request_context.time.monotonic", lambda: now)
    for _ in range(LINES_PER_SECOND_MAX + 50):
        request_context.end(a_request(), 503, 0.0)
    assert len(caplog.records) == LINES_PER_SECOND_MAX
    now = 1001.0
    request_context.end(a_request(), 503, 0.0)
    assert vars(caplog.records[-1])["left_out_count"] == 50


def test_each_request_has_an_id_of_its_own_whatever_the_client_says() -> None:
    first, second = a_request(x_request_id="7", x_correlation_id="7"), a_request(x_request_id="7", x_correlation_id="7")
    for request in (first, second):
        request_context.begin(request)
        assert bound_correlation_id() == str(correlation_id_of(request))
    assert len({correlation_id_of(first), correlation_id_of(second), "7"}) == 3


def test_of_several_commands_each_has_its_own_id_because_replies_are_told_apart_by_it() -> None:
    request = a_request()
    request_context.begin(request)
    ids = [ask_id(request) for _ in range(3)]
    assert ids[0] == correlation_id_of(request)
    assert len(set(ids)) == 3
