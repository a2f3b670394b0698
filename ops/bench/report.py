"""How are the figures told: on a screen, in a README, in JSON?

The tables are made once, as rows of text; the screen and Markdown only draw them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ops.bench.machine import Machine
from ops.bench.measurement import Fact, IngressParts, Measurement, Proof, Target, Variant
from ops.bench.stage import INGRESS

PERCENTILES = (50, 95, 99)
# Two columns each: more do not fit side by side.
SHARES_PER_TABLE = 3
# Per cent; a process that used less in each window of a table is not in it.
SHARE_MIN = 0.05

INGRESS_PARTS: Mapping[str, Callable[[IngressParts], float]] = {
    "HTTP": lambda parts: parts.http,
    "gate": lambda parts: parts.http_and_gate - parts.http,
    "command and reply": lambda parts: parts.all - parts.http_and_gate,
}


@dataclass(frozen=True)
class Report:
    """Everything that was measured, in one run."""

    machine: Machine
    command: str
    measurements: Sequence[Measurement]
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Lines:
    """A table as text: a title, headings, rows. The first column is words, the others are figures."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def as_screen(report: Report) -> RenderableType:
    """The tables as the terminal shows them."""
    return Group(*map(_drawn, _tables(report)))


def as_markdown(report: Report) -> str:
    """The block for the README: which machine, which command, the tables."""
    machine = f"Measured on {report.machine.sentence}; everything, the load generator included, on these cores."
    return "\n\n".join([f"`{report.command}`", machine, *map(_marked_down, _tables(report))]) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """All there is, unrounded, with what follows from it."""
    return {
        "machine": asdict(report.machine),
        "command": report.command,
        "measurements": [_measurement_json(one) for one in report.measurements],
        "variants": [
            {
                "name": one.name,
                "variables": dict(one.variables),
                "ratio": one.ratio,
                "usual": _measurement_json(one.usual),
                "changed": _measurement_json(one.changed),
            }
            for one in report.variants
        ],
    }


def _tables(report: Report) -> Iterator[Lines]:
    if report.measurements:
        yield _figures(report.measurements)
    if any(one.targets for one in report.measurements):
        yield _targets(report.measurements)
    for first in range(0, len(report.measurements), SHARES_PER_TABLE):
        yield _shares(report.measurements[first : first + SHARES_PER_TABLE])
    sales = [one for one in report.measurements if one.insides.engine_commands]
    if sales:
        yield _insides(sales)
    if report.variants:
        yield _variants(report.variants)


def _figures(measurements: Sequence[Measurement]) -> Lines:
    headings = ("scenario", "answers/s", "of bare HTTP", *(f"p{percentile}" for percentile in PERCENTILES))
    rows = [
        (
            _title(one),
            f"{one.answers.per_second:,.0f}",
            _of_bare_http(one),
            *(_milliseconds(one.answers.latency_ms[percentile]) for percentile in PERCENTILES),
            f"{one.shares.microseconds_per(INGRESS, one.answers.count):,.0f} µs",
            _statuses(one),
            _errors(one),
            _verdict(one.proof),
            ", ".join(map(_fact, one.facts)),
        )
        for one in measurements
    ]
    further = ("ingress per answer", "by status, per second", "errors", "proof", "besides")
    return Lines("Figures", (*headings, *further), rows)


def _targets(measurements: Sequence[Measurement]) -> Lines:
    rows = [
        (one.name, target.what, _amount(target.found, target.unit), _bound(target), _met(target))
        for one in measurements
        for target in one.targets
    ]
    return Lines("Targets", ("scenario", "figure", "found", "target", "met"), rows)


def _shares(measurements: Sequence[Measurement]) -> Lines:
    used = {group for one in measurements for group in one.shares.by_group if one.shares.percent(group) >= SHARE_MIN}
    groups = [group for group in dict.fromkeys(chain(*(one.shares.by_group for one in measurements))) if group in used]
    headings = ["CPU of"]
    for one in measurements:
        headings += [one.name, "per answer"]
    rows = [[group] for group in groups]
    for one in measurements:
        for row, group in zip(rows, groups, strict=True):
            row += _share(one, group)
    rows.append(["nobody (idle)", *(text for one in measurements for text in (f"{one.shares.idle_percent:.1f} %", ""))])
    return Lines(f"Shares of the {measurements[0].shares.cores} cores in the measured window", headings, rows)


def _share(one: Measurement, group: str) -> tuple[str, str]:
    """Of the machine, and for each answer; nothing where it did not run."""
    if group not in one.shares.by_group:
        return "", ""
    return f"{one.shares.percent(group):.1f} %", f"{one.shares.microseconds_per(group, one.answers.count):,.0f} µs"


def _insides(measurements: Sequence[Measurement]) -> Lines:
    steps = list(dict.fromkeys(step for one in measurements for step in one.insides.engine_step_ms))
    rows = [
        ["requests per trip of the gate", *(f"{one.insides.gate_batch:.1f}" for one in measurements)],
        ["commands per batch of the engine", *(f"{one.insides.engine_batch:.1f}" for one in measurements)],
        ["batches per second", *(f"{one.insides.engine_batches_per_second:.1f}" for one in measurements)],
    ]
    for step in steps:
        times = (one.insides.engine_step_ms.get(step, 0.0) for one in measurements)
        rows.append([f"of a batch: {step}", *(f"{time:.1f} ms" for time in times)])
    rows += _ingress_rows(measurements)
    return Lines("Inside", ["mean", *(one.name for one in measurements)], rows)


def _ingress_rows(measurements: Sequence[Measurement]) -> Iterator[list[str]]:
    """What of the ingress' time is HTTP, the gate, and the command with its reply; each part is a difference."""
    parts = [one.ingress_parts for one in measurements]
    if not any(parts):
        return
    for name, part in INGRESS_PARTS.items():
        yield [f"of the ingress, per answer: {name}", *("" if one is None else f"{part(one):,.0f} µs" for one in parts)]


def _variants(variants: Sequence[Variant]) -> Lines:
    rows = [
        (
            one.name,
            f"{one.changed.answers.per_second:,.0f}",
            f"{one.usual.answers.per_second:,.0f}",
            f"{one.ratio:.2f}",
            _milliseconds(one.changed.answers.latency_ms[95]),
            _milliseconds(one.usual.answers.latency_ms[95]),
            f"{one.changed.insides.engine_batch:.1f}",
            _verdict(one.changed.proof),
        )
        for one in variants
    ]
    headings = ("with", "answers/s", "as usual", "ratio", "p95", "p95 as usual", "commands per batch", "proof")
    return Lines("Reservations with other settings, each beside a run with the usual ones", headings, rows)


def _title(one: Measurement) -> str:
    return f"{one.name} ({one.load}, {one.answers.seconds:.0f} s)"


def _of_bare_http(one: Measurement) -> str:
    """Answers for each one of bare HTTP, and how many those were: the machine's worth in that minute."""
    if one.bare_http is None or one.of_bare_http is None:
        return ""
    return f"{one.of_bare_http:.2f} of {one.bare_http.per_second:,.0f}"


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _statuses(one: Measurement) -> str:
    return ", ".join(f"{status}: {one.answers.rate_of(status):,.0f}" for status in one.answers.statuses)


def _errors(one: Measurement) -> str:
    found = [f"{count} {name}" for name, count in one.answers.errors.items() if count]
    return ", ".join([*found, *(["ran out of asks"] if one.answers.ran_out else [])]) or "none"


def _verdict(proof: Proof | None) -> str:
    if proof is None:
        return ""
    found = "no difference" if proof.is_clean else f"{proof.difference_count} DIFFERENCES"
    money = ", the provider's money included" if proof.is_money_compared else ""
    seats = ", ".join(f"{count:,} {status}" for status, count in sorted(proof.seats_by_status.items()))
    settled = "" if proof.settled_seconds is None else f"; all paid {proof.settled_seconds:.1f} s after the last answer"
    return f"{found}{money} ({seats}){settled}"


def _bound(target: Target) -> str:
    return f"{'≥' if target.is_floor else '<'} {_amount(target.bound, target.unit)}"


def _met(target: Target) -> str:
    if target.is_spoilt:
        return f"NO: {target.spoilt_by:.0f} % were answered otherwise"
    return "yes" if target.is_met else "NO"


def _fact(fact: Fact) -> str:
    return f"{fact.what}: {_amount(fact.value, fact.unit)}"


def _amount(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"
    return f"{number} {unit}".rstrip()


def _drawn(lines: Lines) -> Table:
    table = Table(title=lines.title, title_justify="left")
    for place, heading in enumerate(lines.headings):
        table.add_column(heading, justify="right" if place else "left")
    for row in lines.rows:
        table.add_row(*row)
    return table


def _marked_down(lines: Lines) -> str:
    ruler = ["---", *("---:" for _ in lines.headings[1:])]
    drawn = (f"| {' | '.join(cells)} |" for cells in (lines.headings, ruler, *lines.rows))
    return "\n".join([f"**{lines.title}**", "", *drawn])


def _measurement_json(one: Measurement) -> dict[str, Any]:
    count = one.answers.count
    return {
        **asdict(one),
        "answers_per_second": one.answers.per_second,
        "of_bare_http": one.of_bare_http,
        "targets_met": [target.is_met for target in one.targets],
        "cpu_percent": {group: one.shares.percent(group) for group in one.shares.by_group},
        "cpu_microseconds_per_answer": {
            group: one.shares.microseconds_per(group, count) for group in one.shares.by_group
        },
    }
