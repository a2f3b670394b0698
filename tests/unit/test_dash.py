"""Does the terminal say what the processes say?"""

import io
import math

import pytest
from rich.console import Console

from ops.dash.reading import Between, Reading, parsed
from ops.dash.screen import screen

EVENT = "0b8fbd5e-8a0e-4f0e-9d55-4a6d0d0f9a01"


def reading(at: float, *pages: str) -> Reading:
    return Reading(at, parsed(pages))


def histogram(name: str, *counts: tuple[str, int]) -> str:
    buckets = "".join(f'{name}_bucket{{le="{bound}"}} {count}\n' for bound, count in counts)
    return f"# TYPE {name} histogram\n{buckets}{name}_count {counts[-1][1]}\n{name}_sum 1.0\n"


def counter(name: str, value: float, labels: str = "") -> str:
    return f"# TYPE {name} counter\n{name}{labels} {value}\n"


def gauge(name: str, value: float, labels: str = "") -> str:
    return f"# TYPE {name} gauge\n{name}{labels} {value}\n"


def shown(between: Between, titles: dict[str, str] | None = None) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(screen(between, titles or {}))
    return console.export_text()


def test_a_rate_is_that_of_all_processes_together() -> None:
    before = reading(10.0, counter("http_requests_total", 100), counter("http_requests_total", 5))
    after = reading(12.0, counter("http_requests_total", 160), counter("http_requests_total", 25))
    assert Between(before, after).rate("http_requests_total") == 40


def test_a_process_that_began_anew_makes_no_negative_rate() -> None:
    before, after = reading(0.0, counter("http_requests_total", 100)), reading(1.0, counter("http_requests_total", 3))
    assert Between(before, after).rate("http_requests_total") == 0


def test_a_quantile_is_that_of_what_happened_in_between() -> None:
    before = reading(0.0, histogram("x_seconds", ("0.1", 1000), ("1.0", 1000), ("+Inf", 1000)))
    after = reading(1.0, histogram("x_seconds", ("0.1", 1005), ("1.0", 1095), ("+Inf", 1100)))
    between = Between(before, after)
    assert between.quantile("x_seconds", 0.05) == 0.1
    assert between.quantile("x_seconds", 0.95) == 1.0
    assert between.quantile("x_seconds", 0.99) == math.inf


def test_a_quantile_of_nothing_is_not_zero() -> None:
    same = reading(0.0, histogram("x_seconds", ("0.1", 7), ("+Inf", 7)))
    assert Between(same, same).quantile("x_seconds", 0.95) is None


def test_an_event_on_sale_is_shown_by_its_name_with_when_it_will_be_sold_out() -> None:
    labels = f'{{event_id="{EVENT}"}}'
    before = reading(0.0, gauge("available_seats", 700, labels), counter("seats_sold_total", 290, labels))
    after = reading(1.0, gauge("available_seats", 600, labels), counter("seats_sold_total", 300, labels))
    text = shown(Between(before, after), {EVENT: "The last night"})
    assert "The last night" in text
    assert "1 min 0 s" in text


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (gauge("boxoffice_invariants_violated", 1, '{check="sold_once"}'), "invariants broken"),
        (gauge("boxoffice_stuck_queues", 1, '{queue="tk.cmd.s00"}'), "stuck queues"),
        (gauge("boxoffice_dependency_up", 0, '{dependency="redis"}'), "away"),
        (gauge("circuit_breaker_state", 2, '{name="redis_locks"}'), "open"),
    ],
    ids=["invariant", "stuck", "server", "breaker"],
)
def test_what_is_wrong_is_red_and_what_is_well_is_not(page: str, words: str) -> None:
    console = Console(width=140, record=True, file=io.StringIO(), force_terminal=True, color_system="standard")
    for text, is_red in (
        (page, True),
        (page.rsplit(" ", 1)[0] + " 0\n" if "up" not in page else page[:-2] + "1\n", False),
    ):
        sick = reading(0.0, text)
        console.print(screen(Between(sick, sick), {}))
        styled = console.export_text(styles=True)
        assert ("\x1b[1;31m" in styled) is is_red, words


def test_a_process_that_is_silent_is_named() -> None:
    empty = Reading(0.0, {}, ["http://127.0.0.1:1/metrics"])
    assert "no answer from http://127.0.0.1:1/metrics" in shown(Between(empty, empty))
