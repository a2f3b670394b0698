"""Is what ends by itself restarted, and a crash loop given up?"""

from pathlib import Path
from typing import cast

import pytest

from ops.stack import Stack, StackProblem, Status
from ops.stack import run as running
from ops.stack.run import RESTARTS_MAX, watch


class Accidents:
    """A stack in which the consumers die as often as they are told to, and are then stopped from elsewhere."""

    def __init__(self, deaths: int, *, start_fails: bool = False) -> None:
        self.deaths = deaths
        self.started: list[str] = []
        self._start_fails = start_fails
        self.applications = ("ingress", "consumers")

    def ended_by_itself(self, name: str) -> bool:
        return name == "consumers" and len(self.started) < self.deaths

    def mend(self, name: str) -> None:
        self.started.append(name)
        if self._start_fails:
            raise StackProblem(f"{name} ended by itself")

    def status(self) -> list[Status]:
        state = "running" if len(self.started) < self.deaths else "stopped"
        return [Status(name="consumers", state=state, url="", ports={})]

    def log_file(self, name: str) -> Path:
        return Path(f"{name}.log")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_SECONDS", 0)


def test_what_dies_is_restarted_until_somebody_stops_the_stack() -> None:
    stack = Accidents(deaths=3)
    watch(cast(Stack, stack))
    assert stack.started == ["consumers"] * 3


def test_a_crash_loop_is_given_up() -> None:
    stack = Accidents(deaths=100)
    with pytest.raises(StackProblem, match=r"consumers ended more than 5 times.*consumers\.log"):
        watch(cast(Stack, stack))
    assert len(stack.started) == RESTARTS_MAX


def test_a_restart_that_fails_counts_as_one_of_them() -> None:
    stack = Accidents(deaths=100, start_fails=True)
    with pytest.raises(StackProblem, match="more than 5 times"):
        watch(cast(Stack, stack))
    assert len(stack.started) == RESTARTS_MAX
