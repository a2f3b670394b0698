"""Do we recognise our own processes, and nobody else's?"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack.problem import StackProblem
from ops.stack.processes import (
    Launch,
    Process,
    Workplace,
    end,
    forget,
    launch,
    left_behind,
    recall,
    remember,
    wait_gone,
)

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], start_new_session=True); time.sleep(600)",
    *SLEEPER,
]
DEADLINE_SECONDS = 20.0


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Process]:
    process = launch(Launch(SLEEPER, dict(os.environ)), mark=str(tmp_path), log=tmp_path / "log")
    yield process
    end([process])


def test_a_process_is_recalled_while_it_runs(started: Process, tmp_path: Path) -> None:
    file = tmp_path / "run" / "sleeper.pid"
    remember(started, file)
    assert recall(file) == started
    end([started])
    assert recall(file) is None


def test_a_pid_that_now_belongs_to_somebody_else_is_not_ours(started: Process, tmp_path: Path) -> None:
    file = tmp_path / "stale.pid"
    file.write_text(json.dumps({"pid": started.pid, "started_ticks": started.started_ticks - 1}))
    assert recall(file) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": null, "started_ticks": 1}', '{"pid": "x"}'])
def test_a_pid_file_that_a_crash_tore_is_no_process(text: str, tmp_path: Path) -> None:
    file = tmp_path / "torn.pid"
    file.write_text(text)
    assert recall(file) is None


def test_a_stale_process_takes_no_signal(started: Process) -> None:
    Process(pid=started.pid, started_ticks=started.started_ticks - 1).signal(signal.SIGKILL)
    assert started.is_alive()


def test_what_a_lost_pid_file_leaves_is_found_by_its_mark(started: Process, tmp_path: Path) -> None:
    assert left_behind(mark=str(tmp_path)) == [started]
    assert left_behind(mark=str(tmp_path) + "/other") == []


def test_a_process_that_hides_its_environment_is_found_where_it_works(tmp_path: Path) -> None:
    process = launch(Launch(SLEEPER, dict(os.environ), folder=tmp_path), mark="x", log=tmp_path / "log")
    try:
        program = Path(sys.executable).resolve().name
        assert left_behind(mark="y", workplace=Workplace(program, tmp_path)) == [process]
        assert left_behind(mark="y", workplace=Workplace("somebody's shell", tmp_path)) == []
    finally:
        end([process])


def test_the_family_holds_children_that_left_the_session(tmp_path: Path) -> None:
    process = launch(Launch(PARENT, dict(os.environ)), mark=str(tmp_path), log=tmp_path / "log")
    try:
        while len(left_behind(mark=str(tmp_path))) < 2:
            assert process.is_alive()
            assert process.uptime_seconds() < DEADLINE_SECONDS
        family = process.family()
        assert family[0] == process
        assert len(family) == 2
    finally:
        end(process.family())
    assert left_behind(mark=str(tmp_path)) == []


def test_a_frozen_process_is_alive_and_says_so(started: Process) -> None:
    started.signal(signal.SIGSTOP)
    assert started.is_alive()
    while not started.is_frozen():
        assert started.uptime_seconds() < DEADLINE_SECONDS
    started.signal(signal.SIGCONT)
    started.signal(signal.SIGTERM)
    assert wait_gone([started], timeout_seconds=DEADLINE_SECONDS) == []


def test_a_process_that_ended_is_not_alive_although_nobody_else_reaps_it(tmp_path: Path) -> None:
    process = launch(Launch(["true"], dict(os.environ)), mark="x", log=tmp_path / "log")
    assert wait_gone([process], timeout_seconds=DEADLINE_SECONDS) == []


def test_what_it_prints_is_appended_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "echo.log"
    for word in ("one", "two"):
        process = launch(Launch(["echo", word], dict(os.environ)), mark="x", log=log)
        wait_gone([process], timeout_seconds=DEADLINE_SECONDS)
    assert log.read_text() == "one\ntwo\n"


def test_a_program_that_is_not_there_is_a_problem_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(StackProblem, match="no-such-program"):
        launch(Launch(["no-such-program"], dict(os.environ)), mark="x", log=tmp_path / "log")


def test_forgetting_twice_is_fine(tmp_path: Path) -> None:
    forget(tmp_path / "never.pid")
    forget(tmp_path / "never.pid")
