"""Is every line of the log one JSON object, and does it keep to itself what is nobody's business?"""

import contextvars
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import BaseModel, ValidationError

from contracts.ids import CommandId
from db.telemetry.logs import JsonFormatter, bind_request_id, correlated, described, name_role, traced, write_lines

EMAIL = "ann@example.org"


class Written(logging.StreamHandler[io.StringIO]):
    """A log in memory, and how often it was written to."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(JsonFormatter())
        self.flush_count = 0

    def flush(self) -> None:
        self.flush_count += 1

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of our own, at level info."""
    logger = logging.getLogger("test lines")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()


@pytest.fixture
def written(log: logging.Logger) -> Written:
    """What that logger writes."""
    handler = Written()
    log.addHandler(handler)
    return handler


class Account(BaseModel):
    """Something with an e-mail address that may be wrong."""

    email: int


def a_refusal_of_pydantic() -> ValidationError:
    with pytest.raises(ValidationError) as refused:
        Account.model_validate({"email": EMAIL})
    return refused.value


def a_refusal_of_postgres() -> asyncpg.PostgresError:
    return asyncpg.UniqueViolationError.new({"M": "duplicate key", "C": "23505", "D": f"Key (email)=({EMAIL}) exists."})


def fail_because_of(problem: BaseException) -> None:
    raise RuntimeError("a batch failed") from problem


def test_many_lines_are_one_write(log: logging.Logger, written: Written) -> None:
    ids = [uuid4(), uuid4()]
    lines = [{"action": "seat_reserved", "correlationId": id_, "seatIds": ids, "durationMs": 1.5} for id_ in ids]
    write_lines(log, logging.INFO, lines)
    assert written.flush_count == 1
    assert [line["correlationId"] for line in written.lines] == [str(id_) for id_ in ids]
    first = written.lines[0]
    assert (first["action"], first["level"], first["durationMs"]) == ("seat_reserved", "info", 1.5)
    assert first["seatIds"] == [str(id_) for id_ in ids]
    assert datetime.fromisoformat(first["timestamp"]) <= datetime.now(UTC)


def test_a_line_and_one_of_many_look_the_same(log: logging.Logger, written: Written) -> None:
    with correlated("7"):
        log.warning("seat_released", extra={"seat_ids": ["a"], "amount": Decimal("45.10")})
    write_lines(
        log,
        logging.WARNING,
        [{"action": "seat_released", "correlationId": "7", "seatIds": ["a"], "amount": Decimal("45.10")}],
    )
    alone, of_many = written.lines
    assert {**alone, "timestamp": ""} == {**of_many, "timestamp": ""}


def test_lines_below_the_level_are_not_written(log: logging.Logger, written: Written) -> None:
    write_lines(log, logging.DEBUG, [{"action": "detail"}])
    log.setLevel(logging.ERROR)
    write_lines(log, logging.WARNING, [{"action": "lock_contention"}])
    write_lines(log, logging.ERROR, [])
    assert written.lines == []


def test_other_handlers_get_the_lines_as_records(log: logging.Logger) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    log.addHandler(handler)
    write_lines(log, logging.INFO, [{"action": "seat_reserved", "holdId": 1}, {"action": "seat_reserved", "holdId": 2}])
    assert [(one.getMessage(), vars(one)["holdId"]) for one in records] == [("seat_reserved", 1), ("seat_reserved", 2)]


def test_a_line_says_which_role_and_which_request(log: logging.Logger, written: Written) -> None:
    def of_a_role() -> None:
        name_role("payments")
        bind_request_id("mine")
        log.info("payment_captured")

    contextvars.copy_context().run(of_a_role)
    log.info("another")
    named, other = written.lines
    assert (named["process"], named["requestId"]) == ("payments", "mine")
    assert "requestId" not in other


@pytest.mark.parametrize(
    "value", [b"\xff", "\ud800", float("nan"), object(), UUID(int=1)], ids=lambda value: type(value).__name__
)
def test_whatever_it_is_about_a_line_is_written(log: logging.Logger, written: Written, value: object) -> None:
    log.info("odd", extra={"value": value})
    write_lines(log, logging.INFO, [{"action": "odd", "value": value}])
    assert [line["action"] for line in written.lines] == ["odd", "odd"]


@pytest.mark.parametrize("problem", [a_refusal_of_postgres(), a_refusal_of_pydantic()], ids=["postgres", "pydantic"])
def test_what_an_error_says_of_the_data_is_left_out(
    log: logging.Logger, written: Written, problem: BaseException
) -> None:
    assert EMAIL in str(problem), "as it is, the error tells"
    assert EMAIL not in described(problem)
    try:
        fail_because_of(problem)
    except RuntimeError as failed:
        log.exception("command_not_processed")
        assert EMAIL not in traced(failed)
    (line,) = written.lines
    assert EMAIL not in json.dumps(line)
    assert type(problem).__name__ in line["error"]
    assert line["error"].endswith("RuntimeError: a batch failed")


def test_an_error_that_came_of_itself_is_told_once() -> None:
    problem = ValueError("round and round")
    problem.__context__ = other = KeyError("other")
    other.__context__ = problem
    assert traced(problem).count("round and round") == 1


def test_ids_of_every_kind_are_text(log: logging.Logger, written: Written) -> None:
    log.info("asked", extra={"command_id": CommandId(UUID(int=7))})
    assert written.lines[0]["commandId"] == str(UUID(int=7))
