"""What does a process of ours say at /metrics?"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Exposition:
    """One page of metrics."""

    families: tuple[Metric, ...]

    @classmethod
    def parse(cls, text: str) -> "Exposition":
        return cls(tuple(text_string_to_metric_families(text)))

    def value(self, sample_name: str, **labels: str) -> float:
        """The sum of that sample over all label sets that have these labels; 0 where there is none."""
        return sum(one.value for one in self._samples(sample_name) if labels.items() <= one.labels.items())

    def label_sets(self, sample_name: str) -> list[dict[str, str]]:
        return [dict(one.labels) for one in self._samples(sample_name)]

    def _samples(self, name: str) -> Iterable[Any]:
        return (one for family in self.families for one in family.samples if one.name == name)


async def read_metrics(url: str) -> Exposition:
    """The page of this moment, on a connection of its own."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client,
        client.get(f"{url}/metrics") as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        return Exposition.parse(await answer.text())
