"""What a process remembers of sessions, for how long, and what it forgets at once."""

import pytest

from ingress import remembered_sessions
from ingress.remembered_sessions import REMEMBERED_SECONDS, WITHOUT_REDIS_SECONDS_MAX, RememberedSessions


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(remembered_sessions, "time", clock)
    return clock


def redis_answers_for(sessions: RememberedSessions, clock: Clock, seconds: float) -> None:
    """Somebody else's requests go on being answered for so long."""
    until = clock.seconds + seconds
    while clock.seconds < until:
        clock.seconds += 1
        sessions.redis_answered()


def test_only_what_redis_vouched_for_is_remembered(clock: Clock) -> None:
    sessions = RememberedSessions()
    sessions.remember("a", "admin")
    sessions.remember("u", "user")
    assert (sessions.find("a"), sessions.find("u"), sessions.find("x")) == ("admin", "user", None)


def test_who_was_not_vouched_for_lately_is_not_remembered(clock: Clock) -> None:
    sessions = RememberedSessions()
    sessions.remember("a", "user")
    redis_answers_for(sessions, clock, REMEMBERED_SECONDS / 2 - 1)
    assert sessions.find("a") == "user"
    redis_answers_for(sessions, clock, REMEMBERED_SECONDS / 2 + 3)
    assert sessions.find("a") is None


def test_who_asks_now_and_then_stays(clock: Clock) -> None:
    sessions = RememberedSessions()
    for _ in range(50):
        sessions.remember("a", "user")
        redis_answers_for(sessions, clock, 100)
        assert sessions.find("a") == "user"


def test_without_redis_nobody_is_forgotten_for_a_while(clock: Clock) -> None:
    sessions = RememberedSessions()
    sessions.remember("a", "user")
    sessions.redis_answered()
    clock.seconds += WITHOUT_REDIS_SECONDS_MAX - 1
    assert sessions.find("a") == "user"
    clock.seconds += 2
    assert sessions.find("a") is None


def test_what_ended_here_stays_ended(clock: Clock) -> None:
    sessions = RememberedSessions()
    sessions.remember("a", "user")
    sessions.end("a")
    sessions.remember("a", "user")  # the answer to a request that was on its way
    redis_answers_for(sessions, clock, REMEMBERED_SECONDS / 2 + 2)
    assert sessions.find("a") is None


def test_what_redis_does_not_know_is_forgotten(clock: Clock) -> None:
    sessions = RememberedSessions()
    sessions.remember("a", "user")
    redis_answers_for(sessions, clock, REMEMBERED_SECONDS / 2 + 2)
    sessions.remember("a", "user")
    sessions.forget("a")
    assert sessions.find("a") is None


def test_what_is_remembered_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_sessions, "REMEMBERED_MAX", 100)
    sessions = RememberedSessions()
    for number in range(10_000):
        sessions.remember(f"{number}", "user")
        sessions.end(f"ended {number}")
        sessions.redis_answered()
    assert len(sessions._young) + len(sessions._old) <= 100
    assert len(sessions._ended_young) + len(sessions._ended_old) <= 100
    assert sessions.find("9999") == "user"
