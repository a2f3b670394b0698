"""What do the processes say of themselves now?

Each page of metrics is read as Prometheus would read it; two readings some seconds apart give rates.
"""

import http.client
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

READ_SECONDS = 2.0


class Sample(NamedTuple):
    """One line of a page."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Reading:
    """Everything that answered said at one moment (`at`, in seconds of a clock that never goes back)."""

    at: float
    samples: Mapping[str, Sequence[Sample]]
    silent: Sequence[str] = ()

    def values(self, name: str, /, **labels: str) -> list[float]:
        """The value of each series of that name with these labels, of every process that has it."""
        return [
            sample.value
            for sample in self.samples.get(name, ())
            if all(sample.labels.get(label) == value for label, value in labels.items())
        ]

    def total(self, name: str, /, **labels: str) -> float:
        """All of them together."""
        return sum(self.values(name, **labels))

    def largest(self, name: str, /, **labels: str) -> float | None:
        """The largest, None where nobody has it."""
        return max(self.values(name, **labels), default=None)

    def smallest(self, name: str, /, **labels: str) -> float | None:
        """The smallest, None where nobody has it."""
        return min(self.values(name, **labels), default=None)

    def label_values(self, name: str, label: str) -> list[str]:
        """Every value of a label, each once."""
        return list(
            dict.fromkeys(sample.labels[label] for sample in self.samples.get(name, ()) if label in sample.labels)
        )


@dataclass(frozen=True)
class Between:
    """What has happened from one reading to the next."""

    before: Reading
    after: Reading
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", max(0.001, self.after.at - self.before.at))

    def count(self, name: str, /, **labels: str) -> float:
        """How much a counter has grown; a process that has begun anew counts from 0, and never makes it negative."""
        return max(0.0, self.after.total(name, **labels) - self.before.total(name, **labels))

    def rate(self, name: str, /, **labels: str) -> float:
        """The same a second."""
        return self.count(name, **labels) / self.seconds

    def mean(self, histogram: str, /, **labels: str) -> float | None:
        """The mean of what a histogram has seen meanwhile, None when it has seen nothing."""
        seen = self.count(f"{histogram}_count", **labels)
        return self.count(f"{histogram}_sum", **labels) / seen if seen else None

    def quantile(self, histogram: str, share: float, /, **labels: str) -> float | None:
        """An upper bound of what that share of observations stayed below, as fine as the buckets are; None without any."""
        grown: defaultdict[float, float] = defaultdict(float)
        for reading, sign in ((self.after, 1), (self.before, -1)):
            for sample in reading.samples.get(f"{histogram}_bucket", ()):
                if all(sample.labels.get(label) == value for label, value in labels.items()):
                    grown[float(sample.labels["le"])] += sign * sample.value
        total = grown.get(math.inf, 0.0)
        if total <= 0:
            return None
        return next((bound for bound in sorted(grown) if grown[bound] >= share * total), math.inf)


def read(addresses: Sequence[str]) -> Reading:
    """Read every page at once; those that do not answer in time are named."""
    with ThreadPoolExecutor(max_workers=max(1, len(addresses))) as pool:
        pages = list(pool.map(_page, addresses))
    silent = [address for address, page in zip(addresses, pages, strict=True) if page is None]
    return Reading(time.monotonic(), parsed(page for page in pages if page is not None), silent)


def parsed(pages: Iterable[str]) -> dict[str, list[Sample]]:
    """The samples of these pages by name."""
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                samples[sample.name].append(Sample(sample.labels, sample.value))
    return samples


def _page(address: str) -> str | None:
    where = urlsplit(address)
    try:
        with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=READ_SECONDS)) as connection:
            connection.request("GET", where.path or "/metrics")
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
