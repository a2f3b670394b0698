"""Does everything that is written about a sale agree, down to the provider's money?"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

import asyncpg
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from consumers.proof.books import BOOK_CHECKS
from consumers.proof.report import CheckResult, Report, merged
from consumers.proof.sales import UNDECIDED
from contracts.ids import EventId
from contracts.settings import Settings, UnusableSettings
from db.postgres import Pool, open_pool
from db.proof import Books, UnknownEvent, list_event_ids, list_owners, read_books
from ops.money_proof import MONEY_CHECKS, MoneyTrail, shares_of
from ops.payment_simulator.log_reader import MoneyLog, UnreadableMoneyLog, read_money_log
from ops.stack import Stack, StackProblem

CLEAN, DIFFERENT, COULD_NOT_CHECK = 0, 1, 2

_NOTHING = MoneyLog({})

DIFFERENCES_SHOWN = 20  # of each check
WATCH_SECONDS = 3.0

# What keeps the proof from being made; everything else is a bug and may show itself.
UNCHECKABLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    StackProblem,
    UnknownEvent,
    UnreadableMoneyLog,
    UnusableSettings,
)

CHECK_NAMES: tuple[str, ...] = (
    *(check.name for check in BOOK_CHECKS),
    *(check.name for check in MONEY_CHECKS),
)


def verify(
    event: Annotated[UUID | None, typer.Option(help="Only this event; without it, every event.")] = None,
    watch: Annotated[bool, typer.Option(help="Check again and again until Ctrl-C.")] = False,
    money_log: Annotated[
        Path | None, typer.Option(help="The provider's log; without it, that of the running payment simulator.")
    ] = None,
) -> None:
    """Replay the ledger and compare it with seats, holds, orders, tickets, refunds, payments, the money ledger and
    the provider's log.

    Safe during a sale. Exit code 0: everything agrees; 1: differences; 2: could not check.
    """
    console = Console()
    try:
        stack = Stack.from_environment()
        settings = Settings.read({**os.environ, **stack.environment()})
        log_path = money_log or simulator_log_path(stack)
        if money_log is not None and not money_log.exists():
            raise FileNotFoundError(f"there is no {money_log}")
        look = _watch if watch else _look_once
        report = asyncio.run(look(settings, EventId(event) if event else None, log_path, console))
    except UNCHECKABLE as problem:
        Console(stderr=True).print(f"could not check: {problem}", style="red", markup=False)
        sys.exit(COULD_NOT_CHECK)
    sys.exit(CLEAN if report.is_clean else DIFFERENT)


def simulator_log_path(stack: Stack) -> Path | None:
    """The log of this stack's payment simulator; None when payments are made elsewhere."""
    path = stack.data_folder("payments") / "payments.log"
    return path if path.exists() else None


async def verify_event(pool: Pool, event_id: EventId, money_log_path: Path | None) -> Report:
    """Everything about one event. Raises what is in UNCHECKABLE."""
    return (await _verify(pool, [event_id], money_log_path))[0]


async def verify_all(pool: Pool, money_log_path: Path | None) -> Report:
    """Everything about every event, check by check."""
    reports = await _verify(pool, await list_event_ids(pool), money_log_path)
    return merged(reports, f"all {len(reports)} events")


async def _verify(pool: Pool, event_ids: Sequence[EventId], money_log_path: Path | None) -> list[Report]:
    # The log before the snapshot and the log after it: ops/money_proof.py says why it takes both.
    before = await _read_money(money_log_path)
    books = [await read_books(pool, event_id) for event_id in event_ids]
    after = await _read_money(money_log_path)
    if before is None or after is None:
        return [await asyncio.to_thread(examine, one, None, None) for one in books]
    owners = await list_owners(pool)
    shares_before, shares_after = shares_of(before, owners), shares_of(after, owners)
    return [
        await asyncio.to_thread(examine, one, _share(shares_before, one.event_id), _share(shares_after, one.event_id))
        for one in books
    ]


async def _read_money(path: Path | None) -> MoneyLog | None:
    return None if path is None else await asyncio.to_thread(read_money_log, path)


def _share(shares: Mapping[EventId | None, MoneyLog], event_id: EventId) -> MoneyLog:
    """What concerns this event: its own payments, and those that are nobody's, which every event is told of."""
    return MoneyLog({**shares.get(event_id, _NOTHING).intents, **shares.get(None, _NOTHING).intents})


def examine(books: Books, before: MoneyLog | None, after: MoneyLog | None) -> Report:
    """Every check on one event's books; those of money only with its share of the provider's log, before and after."""
    results = [check.run(books) for check in BOOK_CHECKS]
    if before is not None and after is not None:
        trail = MoneyTrail(before=before, books=books, after=after)
        results += [check.run(trail) for check in MONEY_CHECKS]
    return Report(
        title=f"{books.event_name} ({books.event_id})",
        results=tuple(results),
        pending_count=sum(order.status in UNDECIDED for order in books.orders),
        is_money_compared=before is not None,
    )


async def _look_once(settings: Settings, event_id: EventId | None, log_path: Path | None, console: Console) -> Report:
    async with await open_pool(settings, application_name="boxoffice verify", size=2) as pool:
        report, seconds = await _timed(pool, event_id, log_path)
    console.print(as_table(report, seconds=seconds))
    return report


async def _watch(settings: Settings, event_id: EventId | None, log_path: Path | None, console: Console) -> Report:
    """Until Ctrl-C; the report is the last one, or the last one with differences if there ever was one."""
    worst: Report | None = None
    async with await open_pool(settings, application_name="boxoffice verify", size=2) as pool:
        with Live(console=console, auto_refresh=False) as live:
            try:
                while True:
                    report, seconds = await _timed(pool, event_id, log_path)
                    worst = report if worst is None or worst.is_clean or not report.is_clean else worst
                    live.update(as_table(report, seconds=seconds), refresh=True)
                    await asyncio.sleep(WATCH_SECONDS)
            except asyncio.CancelledError:
                if worst is None:
                    raise
                return worst


async def _timed(pool: Pool, event_id: EventId | None, log_path: Path | None) -> tuple[Report, float]:
    begun_at = time.monotonic()
    report = await (verify_all(pool, log_path) if event_id is None else verify_event(pool, event_id, log_path))
    return report, time.monotonic() - begun_at


def as_table(report: Report, *, seconds: float | None = None) -> RenderableType:
    """The report as people read it: the table, then the first differences of each check."""
    table = Table("check", "what must be true", title=report.title, title_justify="left")
    table.add_column("looked at", justify="right")
    table.add_column("result")
    for result in report.results:
        table.add_row(result.name, result.sentence, f"{result.looked_at} {result.noun}", _verdict(result))
    return Group(table, *_differences(report), _summary(report, seconds))


def _verdict(result: CheckResult) -> Text:
    if not result.differences:
        return Text("agrees", style="green")
    words = "warning" if result.is_warning else f"{len(result.differences)} differences"
    return Text(words, style="yellow" if result.is_warning else "bold red")


def _differences(report: Report) -> list[Text]:
    lines = []
    for result in report.results:
        shown = result.differences[:DIFFERENCES_SHOWN]
        lines += [Text(f"{result.name}: {difference}", style="yellow") for difference in shown]
        if len(result.differences) > len(shown):
            lines.append(Text(f"{result.name}: … and {len(result.differences) - len(shown)} more", style="yellow"))
    return lines


def _summary(report: Report, seconds: float | None) -> Text:
    found = "no differences" if report.is_clean else f"{report.difference_count} differences"
    pending = f", {report.pending_count} payments in flight" if report.pending_count else ""
    money = "" if report.is_money_compared else "; not compared with the provider: no log of it here"
    took = "" if seconds is None else f" ({seconds:.1f} s)"
    return Text(f"{found}{pending}{money}{took}", style="bold green" if report.is_clean else "bold red")
