"""Does the breaker open, try and close when it should, and only then?"""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consumers.circuit_breaker import BreakerState, CircuitBreaker

OPEN_SECONDS = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_breaker(*, failures: int = 5, successes: int = 2) -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker(failures=failures, open_seconds=OPEN_SECONDS, successes=successes, clock=clock), clock


def an_open_breaker(*, successes: int = 2) -> tuple[CircuitBreaker, Clock]:
    breaker, clock = a_breaker(failures=1, successes=successes)
    breaker.failed()
    return breaker, clock


def test_it_opens_after_enough_failures_in_a_row() -> None:
    breaker, _ = a_breaker()
    for _ in range(4):
        breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows()
    assert breaker.retry_after_seconds() == OPEN_SECONDS


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker, _ = a_breaker()
    for _ in range(20):
        breaker.failed()
        breaker.failed()
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_it_stays_open_until_its_time_is_over() -> None:
    breaker, clock = an_open_breaker()
    clock.now += OPEN_SECONDS - 0.001
    assert not breaker.allows()
    clock.now += 0.001
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.allows()


def test_half_open_lets_only_a_few_trials_through() -> None:
    breaker, clock = an_open_breaker()
    clock.now += OPEN_SECONDS
    assert [breaker.allows() for _ in range(5)] == [True, True, False, False, False]


def test_enough_successes_close_it() -> None:
    breaker, clock = an_open_breaker()
    clock.now += OPEN_SECONDS
    for _ in range(2):
        assert breaker.state is BreakerState.HALF_OPEN
        assert breaker.allows()
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_one_failed_trial_opens_it_again() -> None:
    breaker, clock = an_open_breaker()
    clock.now += OPEN_SECONDS
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert breaker.retry_after_seconds() == OPEN_SECONDS


def test_late_answers_from_before_it_opened_neither_close_nor_prolong_it() -> None:
    breaker, clock = an_open_breaker()
    clock.now += 20
    breaker.succeeded()
    breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert breaker.retry_after_seconds() == OPEN_SECONDS - 20


def test_trials_that_never_report_do_not_block_it_for_ever() -> None:
    breaker, clock = an_open_breaker(successes=1)
    clock.now += OPEN_SECONDS
    assert breaker.allows()
    assert not breaker.allows()
    clock.now += OPEN_SECONDS
    assert breaker.allows()


class AnyBreaker(RuleBasedStateMachine):
    """Calls begin and end in any order while time passes; the promises hold throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.clock = a_breaker(failures=3, successes=2)

    @rule()
    def ask(self) -> None:
        state = self.breaker.state
        allowed = self.breaker.allows()
        if state is BreakerState.CLOSED:
            assert allowed
        if state is BreakerState.OPEN:
            assert not allowed

    @rule()
    def succeed(self) -> None:
        before = self.breaker.state
        self.breaker.succeeded()
        if before is BreakerState.CLOSED:
            assert self.breaker.state is BreakerState.CLOSED

    @rule()
    def fail(self) -> None:
        before = self.breaker.state
        self.breaker.failed()
        if before is BreakerState.OPEN:
            assert self.breaker.state is BreakerState.OPEN

    @rule()
    def fail_three_times(self) -> None:
        if self.breaker.state is BreakerState.CLOSED:
            for _ in range(3):
                self.breaker.failed()
            assert not self.breaker.allows()

    # Whole seconds: with fractions, "exactly when it opens again" would depend on how floats round.
    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def recover(self) -> None:
        """However it got here: once the server is well again, the breaker closes within one open period."""
        self.clock.now += OPEN_SECONDS
        for _ in range(2):
            assert self.breaker.allows()
            self.breaker.succeeded()
        assert self.breaker.state is BreakerState.CLOSED

    @invariant()
    def says_how_long_it_stays_open(self) -> None:
        wait = self.breaker.retry_after_seconds()
        assert 0 <= wait <= OPEN_SECONDS
        assert (wait > 0) == (self.breaker.state is BreakerState.OPEN)

    @invariant()
    def lets_few_through_unless_closed(self) -> None:
        if self.breaker.state is BreakerState.CLOSED:
            return
        assert sum(self.breaker.allows() for _ in range(10)) <= 2


TestAnyBreaker = AnyBreaker.TestCase
