"""What is known after a window has been measured?"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ops.bench.insides import Insides
from ops.bench.load import Answers
from ops.bench.shares import Shares

# A stray error, of a connection say, says nothing about the rest.
SPOILT_PERCENT_MAX = 1.0


@dataclass(frozen=True)
class Proof:
    """What the books say afterwards."""

    difference_count: int
    is_money_compared: bool
    seats_by_status: Mapping[str, int]
    # After the last answer, until every payment had come to rest; None where nothing is paid.
    settled_seconds: float | None = None

    @property
    def is_clean(self) -> bool:
        return self.difference_count == 0


@dataclass(frozen=True)
class IngressParts:
    """CPU of the ingress for one reservation, in microseconds: as much as a request costs that gets no further."""

    # Read, routed, and refused for want of a session.
    http: float
    # And the session found and the rate limit asked in Redis, but the body of no use.
    http_and_gate: float
    # And the command sent and its reply told.
    all: float


@dataclass(frozen=True)
class Fact:
    """Something else that was found, e.g. how large an answer is."""

    what: str
    value: float
    unit: str = ""


@dataclass(frozen=True)
class Target:
    """A bound that was asked for, and what was found; `is_floor`: no less than that is asked for, instead of less.

    `spoilt_by`: of a hundred answers so many were not of the kind that is to be fast. A quick "no" meets no target.
    """

    what: str
    found: float
    bound: float
    unit: str = ""
    is_floor: bool = False
    spoilt_by: float = 0.0

    @property
    def is_spoilt(self) -> bool:
        return self.spoilt_by > SPOILT_PERCENT_MAX

    @property
    def is_met(self) -> bool:
        if self.is_spoilt:
            return False
        return self.found >= self.bound if self.is_floor else self.found < self.bound


@dataclass(frozen=True)
class Measurement:
    """One window of one scenario."""

    name: str
    # Who asked: "256 connections", "500 a second", "5,000 listeners".
    load: str
    answers: Answers
    shares: Shares
    insides: Insides
    # None where nothing changes hands.
    proof: Proof | None = None
    # The same process refusing POSTs for want of a session, or saying that it lives, in the same minute. Machines differ, and
    # one machine differs from hour to hour; what is left of bare HTTP differs less.
    bare_http: Answers | None = None
    ingress_parts: IngressParts | None = None
    targets: tuple[Target, ...] = ()
    facts: tuple[Fact, ...] = ()

    @property
    def of_bare_http(self) -> float | None:
        """Answers for each one of bare HTTP."""
        return None if self.bare_http is None else self.answers.per_second / self.bare_http.per_second


@dataclass(frozen=True)
class Variant:
    """The same load with other settings, and with the usual ones just before."""

    name: str
    variables: Mapping[str, str]
    usual: Measurement
    changed: Measurement

    @property
    def ratio(self) -> float:
        """The changed one's rate, with the usual one's as 1."""
        return self.changed.answers.per_second / self.usual.answers.per_second


def rate_of_at_least(bound: float, answers: Answers, *, wanted: Collection[int]) -> Target:
    """So many answers a second, with one of these statuses."""
    spoilt_by = _percent_of_others(answers, wanted)
    return Target("answers/s", answers.per_second, bound, is_floor=True, spoilt_by=spoilt_by)


def slowest_of_95_below(bound_ms: float, answers: Answers, *, wanted: Collection[int]) -> Target:
    """The 95th percentile of the answers' times."""
    spoilt_by = _percent_of_others(answers, wanted)
    return Target("p95", answers.latency_ms[95], bound_ms, "ms", spoilt_by=spoilt_by)


def _percent_of_others(answers: Answers, wanted: Collection[int]) -> float:
    asked = answers.count + sum(answers.errors.values())
    return 100 * (1 - sum(answers.statuses.get(status, 0) for status in wanted) / asked) if asked else 100.0
