"""Buckets in memory: as many as the limit says, growing back, and not kept for ever."""

import pytest

from db.rate_limits import PERIOD_SECONDS, Bucket, Limit, limits
from ingress import local_limits
from ingress.local_limits import LocalBuckets, Taken

LIMIT = Limit(Bucket.CHECKOUT, capacity=5, token_microseconds=12_000_000)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.nanoseconds = 10**15

    def monotonic_ns(self) -> int:
        return self.nanoseconds

    def advance(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(local_limits, "time", clock)
    return clock


def passed_count(buckets: LocalBuckets, asker: str, times: int = 20) -> int:
    return sum(buckets.take(asker).passed for _ in range(times))


def test_a_full_bucket_passes_as_many_as_it_holds(clock: Clock) -> None:
    buckets = LocalBuckets(LIMIT)
    taken = [buckets.take("a") for _ in range(6)]
    assert [one.passed for one in taken] == [True] * 5 + [False]
    assert [one.remaining for one in taken] == [4, 3, 2, 1, 0, 0]
    assert taken[0] == Taken(passed=True, remaining=4, microseconds=12_000_000)
    # The refused one may come back when a token has grown; the passed one is told when all have.
    assert [one.microseconds for one in taken[4:]] == [60_000_000, 12_000_000]


def test_tokens_grow_back_one_by_one(clock: Clock) -> None:
    buckets = LocalBuckets(LIMIT)
    passed_count(buckets, "a")
    clock.advance(11.9)
    assert passed_count(buckets, "a") == 0
    clock.advance(0.2)
    assert passed_count(buckets, "a") == 1
    clock.advance(24)
    assert passed_count(buckets, "a") == 2
    clock.advance(3600)
    assert passed_count(buckets, "a") == 5


def test_being_refused_costs_nothing(clock: Clock) -> None:
    buckets = LocalBuckets(LIMIT)
    passed_count(buckets, "a", times=1000)
    clock.advance(12)
    assert buckets.take("a").passed


def test_one_asker_does_not_use_up_anothers(clock: Clock) -> None:
    buckets = LocalBuckets(LIMIT)
    assert passed_count(buckets, "a") == passed_count(buckets, "b") == 5


@pytest.mark.parametrize("step_seconds", [7.0, 31.0, 59.0])
def test_no_bucket_is_forgotten_before_it_is_full(clock: Clock, step_seconds: float) -> None:
    # Over an hour nobody gets more than what was there and what has grown, wherever the generations turn.
    buckets, steps = LocalBuckets(LIMIT), round(3600 / step_seconds)
    passed = 0
    for _ in range(steps):
        passed += passed_count(buckets, "a")
        clock.advance(step_seconds)
    grown = sum(min(5.0, step_seconds / 12) for _ in range(steps - 1))  # no bucket holds more than it holds
    assert 0.9 * grown <= passed <= 5 + grown


def test_full_buckets_are_dropped(clock: Clock) -> None:
    buckets = LocalBuckets(LIMIT)
    for number in range(1000):
        buckets.take(f"{number}")
    for _ in range(2):
        clock.advance(PERIOD_SECONDS + 1)
        buckets.take("somebody")
    assert len(buckets._young) + len(buckets._old) <= 2


def test_more_askers_than_fit_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_limits, "ASKERS_MAX", 100)
    buckets = LocalBuckets(LIMIT)
    for number in range(10_000):
        assert buckets.take(f"{number}").passed
    assert len(buckets._young) + len(buckets._old) <= 200


@pytest.mark.parametrize("bucket", Bucket)
def test_every_limit_holds_here_too(clock: Clock, bucket: Bucket) -> None:
    limit = limits(1.0)[bucket]
    assert passed_count(LocalBuckets(limit), "a", times=limit.capacity + 10) == limit.capacity
