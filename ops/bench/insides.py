"""What do our processes say about the inside of a window: how large were the batches, and which step took how long?"""

import http.client
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from ops.stack.ports import HOST

READ_SECONDS = 5.0

STEP, STEP_SUM, STEP_COUNT = "step", "boxoffice_engine_step_seconds_sum", "boxoffice_engine_step_seconds_count"
BATCH_SUM, BATCH_COUNT = "boxoffice_engine_batch_size_sum", "boxoffice_engine_batch_size_count"
EARLY_REFUSALS = "boxoffice_early_refusals_total"
GATE_REQUESTS, GATE_BATCHES = "boxoffice_gate_requests_total", "boxoffice_gate_batches_total"

# A sample's name and, of its labels, the step; all others are added up.
Samples = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Insides:
    """Means and counts of a window; 0 where nothing happened. Several ingress workers count as one."""

    engine_commands: float
    engine_batch: float
    engine_batches_per_second: float
    # By step, per batch, in milliseconds.
    engine_step_ms: Mapping[str, float]
    gate_batch: float
    # Reservations that the ingress answered itself, because the seats were gone already.
    early_refusals: float


def read_samples(*ports: int) -> Samples:
    """What the processes with /metrics on these ports of this machine have counted since they started."""
    samples: dict[tuple[str, str], float] = {}
    for port in ports:
        for key, value in parse_samples(_read(port)).items():
            samples[key] = samples.get(key, 0.0) + value
    return samples


def parse_samples(text: str) -> Samples:
    """The samples in a page of metrics."""
    samples: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, sample.labels.get(STEP, ""))
            samples[key] = samples.get(key, 0.0) + sample.value
    return samples


def insides_between(before: Samples, after: Samples, *, seconds: float) -> Insides:
    """The means of what happened from the one to the other."""

    def grown(name: str, step: str = "") -> float:
        return after.get((name, step), 0.0) - before.get((name, step), 0.0)

    steps = [step for name, step in after if name == STEP_SUM]
    return Insides(
        engine_commands=grown(BATCH_SUM),
        engine_batch=_mean(grown(BATCH_SUM), grown(BATCH_COUNT)),
        engine_batches_per_second=grown(BATCH_COUNT) / seconds,
        engine_step_ms={step: 1000 * _mean(grown(STEP_SUM, step), grown(STEP_COUNT, step)) for step in steps},
        gate_batch=_mean(grown(GATE_REQUESTS), grown(GATE_BATCHES)),
        early_refusals=grown(EARLY_REFUSALS),
    )


def _mean(total: float, count: float) -> float:
    return total / count if count else 0.0


def _read(port: int) -> str:
    with closing(http.client.HTTPConnection(HOST, port, timeout=READ_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
