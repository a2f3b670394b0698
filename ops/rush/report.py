"""What did the rush come to?"""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.proof.report import Report
from ops.rush.faults import Struck
from ops.rush.plan import RushPlan
from ops.rush.tally import CHECKOUT, RELEASE, RESERVE, Tally, percentile
from ops.verify import as_table

SOLD_OUT, DIFFERENT, COULD_NOT_RUN, NOT_SOLD_OUT = 0, 1, 2, 3

BROKEN_PROMISES_SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """Everything there is to say about a rush that has been run."""

    plan: RushPlan
    tally: Tally
    struck: tuple[Struck, ...]
    # Seats that were to be sold, and that are, by the database.
    seat_count: int
    sold_count: int
    broken_promises: tuple[str, ...]
    unheard_order_count: int
    unsettled_count: int
    proof: Report

    @property
    def is_clean(self) -> bool:
        """Nothing that anybody was told, charged or sold contradicts anything else."""
        return self.proof.is_clean and not self.broken_promises

    @property
    def exit_code(self) -> int:
        if not self.is_clean:
            return DIFFERENT
        return SOLD_OUT if self.sold_count >= self.seat_count else NOT_SOLD_OUT


def as_report(outcome: Outcome) -> RenderableType:
    """The tables and the last word."""
    return Group(
        _counts(outcome),
        _times(outcome.tally),
        *([_faults(outcome)] if outcome.struck else []),
        as_table(outcome.proof),
        *(Text(promise, style="bold red") for promise in outcome.broken_promises[:BROKEN_PROMISES_SHOWN]),
        _last_word(outcome),
    )


def _counts(outcome: Outcome) -> Table:
    table = Table("what the buyers saw", title=f"rush: {_title(outcome.plan)}", title_justify="left")
    table.add_column("count", justify="right")
    table.add_column("per second", justify="right")
    for words, count, has_rate in _count_lines(outcome):
        rate = f"{outcome.tally.per_second(count):,.0f}" if has_rate else ""
        table.add_row(words, f"{count:,}", rate)
    table.add_row("elapsed", f"{outcome.tally.elapsed_seconds:.1f} s", "")
    return table


def _count_lines(outcome: Outcome) -> Iterator[tuple[str, int, bool]]:
    tally = outcome.tally
    yield "reservations answered", tally.attempt_count, True
    yield "  held", tally.hold_count, True
    yield "  conflicts (seats gone)", tally.conflict_count, False
    yield "refused politely: 429 slow down", tally.refused[429], False
    yield "refused politely: 503 busy", tally.refused[503], False
    yield "cards declined", tally.declined_count, False
    yield "holds given back", tally.released_count, False
    yield "holds that ran out", tally.lost_hold_count, False
    yield "orders", tally.order_count, True
    yield "seats acknowledged", tally.seat_count, True
    yield "seats sold, by the database", outcome.sold_count, False
    yield "answered 202 and polled", tally.polled_count, False
    yield "no answer, asked again", tally.unknown_count, False
    yield "orders whose buyer never heard", outcome.unheard_order_count, False
    yield "signed in again", tally.sign_in_count, False
    for code, count in sorted(tally.errors.items()):
        yield f"error: {code}", count, False


def _times(tally: Tally) -> Table:
    table = Table("step")
    for heading in ("answers", "p50", "p95", "p99", "slowest"):
        table.add_column(heading, justify="right")
    for step in (RESERVE, CHECKOUT, RELEASE):
        seconds = tally.seconds[step]
        shown = (percentile(seconds, share) for share in (0.5, 0.95, 0.99, 1.0))
        table.add_row(
            step, f"{len(seconds):,}", *("" if value is None else f"{value * 1000:,.0f} ms" for value in shown)
        )
    return table


def _faults(outcome: Outcome) -> Table:
    table = Table("fault")
    table.add_column("struck after", justify="right")
    table.add_column("next order after", justify="right")
    for fault in outcome.struck:
        healed = "never" if fault.healed_seconds is None else f"{fault.healed_seconds:.1f} s"
        table.add_row(fault.name, f"{fault.at_seconds:.1f} s", healed)
    return table


def _last_word(outcome: Outcome) -> Text:
    if not outcome.is_clean:
        count = outcome.proof.difference_count + len(outcome.broken_promises)
        return Text(f"{count} DIFFERENCES: what is written above must not happen", style="bold red")
    money = (
        "and every charge matches an order" if outcome.proof.is_money_compared else "the provider's log was not at hand"
    )
    settled = f"; {outcome.unsettled_count} payments had not come to rest" if outcome.unsettled_count else ""
    if outcome.sold_count < outcome.seat_count:
        left = outcome.seat_count - outcome.sold_count
        return Text(f"time is up with {left:,} seats unsold; no differences, {money}{settled}", style="bold yellow")
    return Text(f"sold out: {outcome.sold_count:,} seats, each of them once, {money}{settled}", style="bold green")


def _title(plan: RushPlan) -> str:
    hot = f" on {plan.hot_seat_count:,} hot seats" if plan.hot_seat_count else ""
    chaos = ", with chaos" if plan.has_chaos else ""
    return f"{plan.buyer_count:,} buyers{hot}, {plan.seat_count:,} seats{chaos}"
