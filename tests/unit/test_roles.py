"""How does a consumer process end?"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from consumers import __main__ as consumers
from contracts.settings import PREFIX, Settings
from db.telemetry.logs import JsonFormatter, bound_correlation_id, correlated

Run = Callable[[Settings, asyncio.Event], Awaitable[None]]


async def works_until_told(_: Settings, stopping: asyncio.Event) -> None:
    await stopping.wait()


async def crashes(_: Settings, stopping: asyncio.Event) -> None:
    raise ZeroDivisionError("what a bug")


async def gives_up(_: Settings, stopping: asyncio.Event) -> None:
    return None


async def hangs(_: Settings, stopping: asyncio.Event) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def settings() -> Settings:
    return Settings(drain_seconds=0.01)


@pytest.fixture(autouse=True)
def closing_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "CLOSING_SECONDS", 0.01)


def roles(monkeypatch: pytest.MonkeyPatch, **runs: Run) -> list[str]:
    monkeypatch.setattr(consumers, "role_of", runs.__getitem__)
    return list(runs)


async def test_a_process_that_was_told_to_stop_ends_well(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = asyncio.Event()
    stopping.set()
    assert await consumers.run_roles(roles(monkeypatch, relay=works_until_told), settings, stopping) == 0


@pytest.mark.parametrize("run", [crashes, gives_up])
async def test_a_role_that_breaks_takes_the_process_with_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    stopping = asyncio.Event()
    names = roles(monkeypatch, relay=works_until_told, cleanup=run)
    assert await consumers.run_roles(names, settings, stopping) == 1
    assert stopping.is_set(), "the others were told to finish what they have in hand"
    assert any(record.levelno == logging.CRITICAL and vars(record)["role"] == "cleanup" for record in caplog.records)


async def test_a_role_that_does_not_stop_is_not_waited_for_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = asyncio.Event()
    stopping.set()
    assert await consumers.run_roles(roles(monkeypatch, relay=hangs), settings, stopping) == 1


def test_every_role_has_its_module() -> None:
    for name in consumers.ROLES:
        assert asyncio.iscoroutinefunction(consumers.role_of(name)), name


def test_a_setting_nobody_knows_stops_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOXOFFICE_HOLD_SECOND", "8")
    assert consumers.main(["relay"]) == 2
    assert "BOXOFFICE_HOLD_SECONDS" in capsys.readouterr().err


def a_line(message: str, **fields: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "test", "msg": message, "levelno": 30, "levelname": "WARNING", **fields})
    line: dict[str, object] = json.loads(JsonFormatter().format(record))
    return line


def test_a_log_line_has_the_names_that_operators_search_for() -> None:
    event_id, asker = uuid4(), uuid4()
    with correlated(asker):
        line = a_line("seat_reserved", event_id=event_id, duration_ms=45)
    assert line["timestamp"].endswith("Z")  # type: ignore[attr-defined]
    del line["timestamp"]
    assert line == {
        "level": "warn",
        "correlationId": str(asker),
        "action": "seat_reserved",
        "logger": "test",
        "eventId": str(event_id),
        "durationMs": 45,
    }


def test_a_correlation_id_is_bound_for_as_long_as_the_work_lasts() -> None:
    with correlated("one"):
        with correlated(None):
            assert bound_correlation_id() == "one"
        with correlated("two"):
            assert bound_correlation_id() == "two"
        assert bound_correlation_id() == "one"
    assert bound_correlation_id() is None
