"""What did a check look at, and what did it find?"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Evidence = TypeVar("Evidence")


@dataclass(frozen=True)
class Check(Generic[Evidence]):
    """One thing that must be true: its name, the sentence, how much it looks at, and how to find what contradicts it."""

    name: str
    sentence: str
    noun: str
    count: Callable[[Evidence], int]
    differences: Callable[[Evidence], Iterable[str]]
    is_warning: bool = False

    def run(self, evidence: Evidence) -> "CheckResult":
        """The result for this evidence."""
        return CheckResult(
            name=self.name,
            sentence=self.sentence,
            looked_at=self.count(evidence),
            noun=self.noun,
            differences=tuple(self.differences(evidence)),
            is_warning=self.is_warning,
        )


@dataclass(frozen=True)
class CheckResult:
    """What one check found. A warning's differences do not make the report unclean."""

    name: str
    sentence: str
    looked_at: int
    noun: str
    differences: tuple[str, ...]
    is_warning: bool = False


@dataclass(frozen=True)
class Report:
    """All checks of one event, or of several together."""

    title: str
    results: tuple[CheckResult, ...]
    # Orders whose payment is on its way: not yet judged, and no difference.
    pending_count: int
    # False when no provider's log was given: our books then only agree with themselves.
    is_money_compared: bool

    @property
    def is_clean(self) -> bool:
        """Nothing contradicts anything; warnings aside."""
        return not any(result.differences for result in self.results if not result.is_warning)

    @property
    def difference_count(self) -> int:
        """Differences of all checks, warnings aside."""
        return sum(len(result.differences) for result in self.results if not result.is_warning)

    def result(self, name: str) -> CheckResult:
        """The result of the check of that name."""
        return next(result for result in self.results if result.name == name)


def merged(reports: Sequence[Report], title: str) -> Report:
    """Several events' reports as one, check by check; what is said of the whole database is said once."""
    looked_at: Counter[str] = Counter()
    differences: dict[str, dict[str, None]] = {}
    first: dict[str, CheckResult] = {}
    for result in (result for report in reports for result in report.results):
        first.setdefault(result.name, result)
        looked_at[result.name] += result.looked_at
        differences.setdefault(result.name, {}).update(dict.fromkeys(result.differences))
    return Report(
        title=title,
        results=tuple(
            CheckResult(
                name=name,
                sentence=result.sentence,
                looked_at=looked_at[name],
                noun=result.noun,
                differences=tuple(differences[name]),
                is_warning=result.is_warning,
            )
            for name, result in first.items()
        ),
        pending_count=sum(report.pending_count for report in reports),
        is_money_compared=all(report.is_money_compared for report in reports),
    )
