"""Do failpoints strike exactly where and when a test says, and never otherwise?"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import failpoints
from db.failpoints import InjectedFailure, arm, failpoint, hits, record

PROCESS = """
import asyncio, sys
from db.failpoints import arm, failpoint, record

async def main():
    for _ in range(5):
        await failpoint("till.before_commit")
        await failpoint("till.after_commit")

record(sys.argv[1])
arm(sys.argv[2])
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def disarmed_afterwards() -> Iterator[None]:
    yield
    failpoints.disarm()


async def test_an_unarmed_failpoint_does_and_counts_nothing() -> None:
    await failpoint("till.after_commit")
    assert hits() == {}


async def test_it_strikes_at_the_named_hit_only() -> None:
    arm("till.after_commit=3*raise(third time)")
    await failpoint("till.after_commit")
    await failpoint("till.after_commit")
    with pytest.raises(InjectedFailure, match=r"^third time$"):
        await failpoint("till.after_commit")
    await failpoint("till.after_commit")
    assert hits() == {"till.after_commit": 4}


async def test_it_strikes_at_every_hit_without_a_count_and_nowhere_else() -> None:
    arm("till.after_commit=raise(no); till.before_commit=off")
    for _ in range(2):
        await failpoint("till.before_commit")
        await failpoint("till.elsewhere")
        with pytest.raises(InjectedFailure):
            await failpoint("till.after_commit")
    assert hits() == {"till.before_commit": 2, "till.elsewhere": 2, "till.after_commit": 2}


async def test_one_point_may_be_armed_for_several_hits() -> None:
    arm("till.after_commit=1*raise(one);till.after_commit=3*raise(three)")
    assert [await strikes("till.after_commit") for _ in range(4)] == [True, False, True, False]


async def test_a_probability_is_repeatable_from_its_seed() -> None:
    async def run(seed: int) -> list[bool]:
        arm("till.after_commit=50%raise(unlucky)", seed=seed)
        return [await strikes("till.after_commit") for _ in range(40)]

    first = await run(seed=7)
    assert await run(seed=7) == first
    assert 0 < sum(first) < 40


async def strikes(name: str) -> bool:
    try:
        await failpoint(name)
    except InjectedFailure:
        return True
    return False


async def test_sleep_delays_by_milliseconds() -> None:
    arm("till.after_commit=sleep(30)")
    started_at = time.monotonic()
    await failpoint("till.after_commit")
    assert time.monotonic() - started_at >= 0.03


async def test_pause_waits_for_the_file(tmp_path: Path) -> None:
    go = tmp_path / "go"
    arm(f"till.after_commit=pause({go})")
    paused = asyncio.create_task(failpoint("till.after_commit"))
    done, _ = await asyncio.wait({paused}, timeout=0.05)
    assert not done, "the pause must last until the file exists"
    go.touch()
    await asyncio.wait_for(paused, timeout=5)


async def test_a_pause_nobody_ends_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "PAUSE_LIMIT_SECONDS", 0.02)
    arm(f"till.after_commit=pause({tmp_path / 'never'})")
    with pytest.raises(TimeoutError, match=r"nobody created .*never"):
        await failpoint("till.after_commit")


def test_kill_ends_the_process_at_the_very_hit(tmp_path: Path) -> None:
    with start(tmp_path, "till.after_commit=2*kill") as process:
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert recorded(tmp_path) == ["till.before_commit", "till.after_commit"] * 2


def test_stop_hangs_the_process_until_it_is_continued(tmp_path: Path) -> None:
    with start(tmp_path, "till.before_commit=1*stop") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert recorded(tmp_path) == ["till.before_commit"]
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=30) == 0
    assert len(recorded(tmp_path)) == 10


async def test_a_recorded_run_lists_every_point_to_crash_at(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    record(recording)
    for name in ("till.before_commit", "till.after_commit", "till.before_commit"):
        await failpoint(name)
    assert recorded(tmp_path) == ["till.before_commit", "till.after_commit", "till.before_commit"]
    assert hits() == {"till.before_commit": 2, "till.after_commit": 1}


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("till.after_commit=explode", "unknown action 'explode'"),
        ("till.after_commit", "not of the form"),
        ("=kill", "not of the form"),
        ("till.after_commit=x*kill", "not of the form"),
        ("till.after_commit=0*kill", "counted from 1"),
        ("till.after_commit=sleep(soon)", "whole milliseconds, not 'soon'"),
        ("till.after_commit=pause", "path of the file"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_by_name(spec: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        arm(f"till.fine=off;{spec}")
    assert repr(spec) in str(refusal.value)
    assert not failpoints._failpoints.is_active


def test_arming_logs_a_warning_and_an_empty_spec_does_not(caplog: pytest.LogCaptureFixture) -> None:
    arm("")
    assert caplog.records == []
    arm("till.after_commit=kill")
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "till.after_commit" in warning.getMessage()


def start(directory: Path, spec: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "error", "-c", PROCESS, directory / "recording", spec])


def recorded(directory: Path) -> list[str]:
    return (directory / "recording").read_text().splitlines()
