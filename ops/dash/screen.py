"""How do a sale's figures look in a terminal?"""

import math
import time
from collections.abc import Iterable

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from ops.dash.reading import Between

EVENTS_MAX = 8

# Why a figure is red: the thresholds of the alerts.
P95_MAX_SECONDS = 0.5
CHECKOUT_P95_MAX_SECONDS = 3.0
ERRORS_MAX_SHARE = 0.01
COMMAND_AGE_MAX_SECONDS = 1.0
VERIFIED_MAX_SECONDS = 300.0
OUTBOX_MAX_SECONDS = 30.0


def screen(between: Between, titles: dict[str, str]) -> RenderableType:
    """The whole screen. `titles` names events by their id; one that it does not know is shown by its id."""
    parts = [
        _panel("What must never happen", _proof(between)),
        _panel("What buyers feel", _buyers(between)),
        _panel("Checkout", _checkout(between)),
        _panel("Pipeline", _pipeline(between)),
        _panel("Waiting rooms", _rooms(between)),
        _panel("Servers", _servers(between)),
    ]
    return Group(_events(between, titles), Columns(parts, equal=True, expand=True), *_silent(between))


def _events(between: Between, titles: dict[str, str]) -> Table:
    now = between.after
    table = Table(title="On sale", title_justify="left", expand=True)
    for heading in ("event", "seats left", "reserved/s", "sold/s", "sold", "in the queue", "sold out in"):
        is_name = heading == "event"
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=True, ratio=3 if is_name else 1)
    ids = sorted(
        now.label_values("available_seats", "event_id"),
        key=lambda event_id: -between.rate("seats_reserved_total", event_id=event_id),
    )
    for event_id in ids[:EVENTS_MAX]:
        left, sold_rate = (
            now.largest("available_seats", event_id=event_id),
            between.rate("seats_sold_total", event_id=event_id),
        )
        table.add_row(
            titles.get(event_id, event_id),
            _number(left),
            _number(between.rate("seats_reserved_total", event_id=event_id), 1),
            _number(sold_rate, 1),
            _number(now.total("seats_sold_total", event_id=event_id)),
            _number(now.largest("boxoffice_event_queue_messages", event_id=event_id)),
            _span(left / sold_rate) if left and sold_rate else "",
        )
    if len(ids) > EVENTS_MAX:
        table.caption = f"and {len(ids) - EVENTS_MAX} more that sell less"
    return table


def _proof(between: Between) -> Iterable[tuple[str, str]]:
    now = between.after
    verified_at = now.largest("boxoffice_verified_at_seconds")
    since = None if not verified_at else time.time() - verified_at
    yield "invariants broken", _bad_above(now.total("boxoffice_invariants_violated"), 0)
    yield "proved", "never" if since is None else f"{_alarm(_span(since), since > VERIFIED_MAX_SECONDS)} ago"
    yield "oversells prevented", _number(now.total("boxoffice_oversells_prevented_total"))
    yield "stuck queues", _bad_above(now.total("boxoffice_stuck_queues"), 0)
    yield "parked messages", _bad_above(now.largest("boxoffice_parked_messages") or 0, 0)


def _buyers(between: Between) -> Iterable[tuple[str, str]]:
    answers = between.rate("http_requests_total")
    errors = sum(
        between.rate("http_requests_total", status=status)
        for status in between.after.label_values("http_requests_total", "status")
        if status.startswith("5")
    )
    reserve = between.quantile("http_request_duration_seconds", 0.95, endpoint="/api/seats/reserve")
    yield "answers/s", _number(answers)
    yield (
        "of these failed (5xx)",
        _alarm(f"{errors / answers if answers else 0:.2%}", errors > ERRORS_MAX_SHARE * answers),
    )
    yield "p95, all", _seconds(between.quantile("http_request_duration_seconds", 0.95), P95_MAX_SECONDS)
    yield "p95, reserve", _seconds(reserve, P95_MAX_SECONDS)
    yield "early no/s", _number(between.rate("boxoffice_early_refusals_total"))
    yield "live maps watched", _number(between.after.total("boxoffice_seat_streams"))


def _checkout(between: Between) -> Iterable[tuple[str, str]]:
    yield "completed/s", _number(between.rate("checkout_completed_total"), 1)
    for reason in between.after.label_values("checkout_failed_total", "reason"):
        yield f"{reason}/s", _number(between.rate("checkout_failed_total", reason=reason), 1)
    yield "p95", _seconds(between.quantile("checkout_duration_seconds", 0.95), CHECKOUT_P95_MAX_SECONDS)
    yield "payments not known", _number(between.after.largest("boxoffice_payments_unknown"))
    yield "differences found", _bad_above(between.after.total("boxoffice_payment_breaks_total"), 0)


def _pipeline(between: Between) -> Iterable[tuple[str, str]]:
    now = between.after
    oldest = now.largest("boxoffice_outbox_oldest_seconds")
    yield "commands/s", _number(between.rate("boxoffice_engine_batch_size_sum"))
    yield "in a transaction", _number(between.mean("boxoffice_engine_batch_size"), 1)
    yield (
        "age when taken, p95",
        _seconds(between.quantile("boxoffice_command_age_seconds", 0.95), COMMAND_AGE_MAX_SECONDS),
    )
    yield "refused, busy/s", _number(between.rate("boxoffice_asks_refused_total", because="busy"), 1)
    yield "no reply in time/s", _number(between.rate("boxoffice_reply_timeouts_total"), 1)
    yield "outbox", _number(now.largest("boxoffice_outbox_messages"))
    yield "oldest in it", _seconds(oldest, OUTBOX_MAX_SECONDS)


def _rooms(between: Between) -> Iterable[tuple[str, str]]:
    now = between.after
    yield "in line", _number(now.total("queue_length"))
    yield "shopping", _number(now.total("active_sessions"))
    yield "admitted/s", _number(between.rate("queue_admitted_total"), 1)
    yield "passed over", _bad_above(now.total("queue_inversions_total"), 0)


def _servers(between: Between) -> Iterable[tuple[str, str]]:
    now = between.after
    for dependency in sorted(now.label_values("boxoffice_dependency_up", "dependency")):
        down = now.smallest("boxoffice_dependency_up", dependency=dependency) == 0
        yield dependency, _alarm("away", is_bad=True) if down else "[green]up[/]"
    for name in sorted(now.label_values("circuit_breaker_state", "name")):
        open_ = (now.largest("circuit_breaker_state", name=name) or 0) >= 2
        yield f"breaker {name}", _alarm("open", is_bad=True) if open_ else "[green]closed[/]"
    yield "connections free, least", _number(now.smallest("postgres_connection_pool_available"))


def _silent(between: Between) -> list[RenderableType]:
    return [f"[bold red]no answer from {address}[/]" for address in between.after.silent]


def _panel(title: str, rows: Iterable[tuple[str, str]]) -> Panel:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return Panel(table, title=title, title_align="left")


def _number(value: float | None, places: int = 0) -> str:
    return "–" if value is None else f"{value:,.{places}f}"


def _seconds(value: float | None, limit: float) -> str:
    if value is None:
        return "–"
    text = "off the scale" if math.isinf(value) else f"≤ {value * 1000:,.0f} ms" if value < 1 else f"≤ {value:,.1f} s"
    return _alarm(text, value > limit)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _bad_above(value: float, limit: float) -> str:
    return _alarm(_number(value), value > limit)


def _alarm(text: str, is_bad: bool) -> str:
    return f"[bold red]{text}[/]" if is_bad else text
