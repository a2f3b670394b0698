"""Which commands wait where, and who takes them? `boxoffice queues` shows it; `pause` and `resume` keep one event's back.

The broker's counts come from its management API and are up to five seconds old. How old the oldest message is the broker does
not say for the queues we have, so what is shown is an estimate: what is ready, by how much was acknowledged a second of late.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn
from uuid import UUID

import asyncpg
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings, UnusableSettings
from db.consumer_leases import Lease, list_leases
from db.events import list_events
from db.paused_event_queues import NotPausable, PausedQueue, list_paused, pause, resume
from db.postgres import Pool, open_pool
from ops.management import ManagementAway, QueueSeen, read_queues
from ops.stack import Stack, StackProblem

SHOWN, REFUSED, COULD_NOT = 0, 1, 2
WATCH_SECONDS = 2.0
# Of events whose queue is empty and drained, more than a screenful tells nobody anything.
QUIET_EVENTS_MAX = 10
SHARING_ROLE = "commands"

# What keeps us from it; everything else is a bug and may show itself.
UNREACHABLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    StackProblem,
    UnusableSettings,
    ManagementAway,
)

_EVENT_QUEUE = topology.event_queue(EventId(UUID(int=0))).removesuffix(str(UUID(int=0)))
_TITLES = {
    topology.PAYMENTS_QUEUE: "payments",
    topology.NOTIFICATIONS_QUEUE: "mails",
    topology.WEBHOOKS_QUEUE: "webhooks",
    topology.CLEANUP_QUEUE: "holds that are over",
    topology.ANALYTICS_QUEUE: "figures",
    topology.PARKING_QUEUE: "parking lot",
    **{topology.retry_exchange(delay): f"tried again in {delay} s" for delay in topology.RETRY_DELAYS_SECONDS},
}
_LANES = tuple(topology.lane_queue(lane) for lane in range(topology.LANE_COUNT))

app = typer.Typer(help="Commands that wait, and who takes them.", pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One queue in an operator's words."""

    queue: str
    title: str
    ready_count: int | None = None
    unacknowledged_count: int | None = None
    # What is ready by how much was acknowledged a second of late: an estimate. None: nothing waits, or nobody takes it.
    estimated_wait_seconds: float | None = None
    # Of classic queues whose messages say when they were sent: how old the first one is.
    oldest_seconds: float | None = None
    drained_by: tuple[str, ...] = ()
    standing_by: tuple[str, ...] = ()
    paused_at: datetime | None = None
    paused_reason: str = ""
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All queues, and the processes that share the events among them."""

    rows: tuple[Row, ...]
    members: tuple[Lease, ...]
    lease_seconds: float


@app.callback(invoke_without_command=True)
def queues(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also each of the 32 lanes, and what is empty.")] = False,
    watch: Annotated[bool, typer.Option(help="Look again and again until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every queue: what waits in it, for how long about, who drains it, and whether it is paused.

    Exit code 0: shown; 2: could not.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        if watch and not as_json:
            asyncio.run(_watch(_settings(), everything=everything))
        picture = asyncio.run(_look_once(_settings()))
    except KeyboardInterrupt:
        sys.exit(SHOWN)
    except UNREACHABLE as problem:
        _give_up(f"could not look: {problem}", COULD_NOT)
    if as_json:
        typer.echo(json.dumps(asdict(picture), default=str, indent=2))
        return
    Console().print(_drawn(picture, everything=everything))


@app.command("pause")
def pause_(
    event: Annotated[UUID, typer.Argument(help="Its id: `boxoffice events` lists them.")],
    reason: Annotated[str, typer.Option(help="Why; it is shown and recorded.")] = "",
) -> None:
    """Take no commands of this event until `resume`. They wait in its queue up to its bound; then buyers are told to come
    back later. What nobody waits for any longer by then is dropped; payments and expired holds wait for as long as it takes.

    Exit code 0: paused; 1: this event cannot be; 2: could not.
    """
    try:
        paused = asyncio.run(_pause(_settings(), EventId(event), reason))
    except NotPausable as refusal:
        _give_up(f"not paused: {refusal}", REFUSED)
    except UNREACHABLE as problem:
        _give_up(f"could not pause: {problem}", COULD_NOT)
    typer.echo(
        f"paused since {paused.paused_at:%H:%M:%S} UTC: nobody takes commands of {event} within a second or two."
    )
    typer.echo(f"`boxoffice queues resume {event}` takes them up again.")


@app.command("resume")
def resume_(event: Annotated[UUID, typer.Argument(help="Its id.")]) -> None:
    """Take the event's commands again.

    Exit code 0: they are taken again; 1: it was not paused; 2: could not.
    """
    try:
        paused = asyncio.run(_resume(_settings(), EventId(event)))
    except UNREACHABLE as problem:
        _give_up(f"could not resume: {problem}", COULD_NOT)
    if paused is None:
        _give_up(f"{event} was not paused", REFUSED)
    typer.echo(f"resumed, after {_span((datetime.now(UTC) - paused.paused_at).total_seconds())}.")


# ---- looking


async def look(settings: Settings, pool: Pool) -> Picture:
    """What waits where, and who takes it; raises ManagementAway, and PostgreSQL's errors."""
    seen, paused = await read_queues(settings), {one.event_id: one for one in await list_paused(pool)}
    async with pool.acquire() as connection:
        names = {event.id: event.name for event in await list_events(connection)}
    rows = [_row(queue, names, paused) for queue in seen if not queue.name.startswith(("tk.reply.", "tk.seats."))]
    return Picture(
        rows=tuple(sorted(rows, key=_order)),
        members=tuple(await list_leases(pool, role=SHARING_ROLE)),
        lease_seconds=settings.lease_seconds,
    )


def _row(queue: QueueSeen, names: dict[EventId, str], paused: dict[EventId, PausedQueue]) -> Row:
    event_id = _event_of(queue.name)
    pause_of_it = paused.get(event_id) if event_id else None
    rate = queue.acknowledged_per_second
    return Row(
        queue=queue.name,
        title=_title(queue.name, event_id, names),
        ready_count=queue.ready_count,
        unacknowledged_count=queue.unacknowledged_count,
        estimated_wait_seconds=round(queue.ready_count / rate, 1) if queue.ready_count and rate else None,
        oldest_seconds=time.time() - queue.head_message_at if queue.head_message_at else None,
        drained_by=tuple(_who(one.tag, one.connection) for one in queue.consumers if one.is_active),
        standing_by=tuple(_who(one.tag, one.connection) for one in queue.consumers if not one.is_active),
        paused_at=pause_of_it.paused_at if pause_of_it else None,
        paused_reason=pause_of_it.reason if pause_of_it else "",
        state=queue.state,
    )


def _event_of(queue: str) -> EventId | None:
    if not queue.startswith(_EVENT_QUEUE):
        return None
    try:
        return EventId(UUID(queue.removeprefix(_EVENT_QUEUE)))
    except ValueError:
        return None


def _title(queue: str, event_id: EventId | None, names: dict[EventId, str]) -> str:
    if event_id is not None:
        return names.get(event_id, "an event that is no more")
    if queue in _LANES:
        return f"lane {_LANES.index(queue):02d} (events not on sale)"
    if queue.startswith("tk.hold.wait."):
        return f"holds, for {queue.removeprefix('tk.hold.wait.')}"
    return _TITLES.get(queue, queue)


def _who(tag: str, connection: str) -> str:
    """Our own tags say who it is; the libraries' do not, but the connection's name does."""
    return tag.removeprefix("commands ") if tag.startswith("commands ") else connection


def _order(row: Row) -> tuple[int, str, str]:
    kinds = (_EVENT_QUEUE, "tk.cmd.s", "tk.work.", "tk.hold.", "tk.retry.", "tk.tel.", topology.PARKING_QUEUE)
    return next((at for at, kind in enumerate(kinds) if row.queue.startswith(kind)), len(kinds)), row.title, row.queue


# ---- showing


def _drawn(picture: Picture, *, everything: bool) -> RenderableType:
    table = Table(title="queues", title_justify="left")
    for heading in ("queue", "ready", "in hand", "waits about", "drained by", "state"):
        table.add_column(heading, justify="right" if heading in ("ready", "in hand", "waits about") else "left")
    shown = [row for row in picture.rows if everything or _is_worth_showing(row)]
    quiet_events = [row for row in shown if row.queue.startswith(_EVENT_QUEUE) and not _needs_a_look(row)]
    if not everything and len(quiet_events) > QUIET_EVENTS_MAX:
        shown = [row for row in shown if row not in quiet_events[QUIET_EVENTS_MAX:]]
    for row in shown:
        table.add_row(*_cells(row))
    quiet = len(picture.rows) - len(shown)
    below = [f"{quiet} more are empty and drained: --all shows them."] if quiet else []
    return Group(table, _members(picture), *below)


def _is_worth_showing(row: Row) -> bool:
    if row.queue.startswith((_EVENT_QUEUE, "tk.work.")) or row.queue == topology.PARKING_QUEUE:
        return True
    return _needs_a_look(row)


def _needs_a_look(row: Row) -> bool:
    is_ladder = row.queue.startswith(("tk.hold.", "tk.retry."))  # nobody consumes these
    return bool(row.ready_count or row.unacknowledged_count or row.paused_at) or not (row.drained_by or is_ladder)


def _cells(row: Row) -> list[str]:
    waits = row.oldest_seconds if row.oldest_seconds is not None else row.estimated_wait_seconds
    return [
        f"{escape(row.title)}\n[dim]{row.queue}[/]",
        _count(row.ready_count),
        _count(row.unacknowledged_count),
        _span(waits) if waits is not None else "",
        "\n".join([*row.drained_by, *(f"[dim]{who} stands by[/]" for who in row.standing_by)]),
        _state(row),
    ]


def _state(row: Row) -> str:
    if row.paused_at is not None:
        since = _span((datetime.now(UTC) - row.paused_at).total_seconds())
        return f"[yellow]paused for {since}[/]" + (
            f"\n[dim]{escape(row.paused_reason)}[/]" if row.paused_reason else ""
        )
    if row.state != "running":
        return f"[red]{row.state}[/]"
    if row.queue == topology.PARKING_QUEUE:
        return "[red]look: boxoffice parking list[/]" if row.ready_count else ""
    nobody = not row.drained_by and row.queue.startswith(("tk.cmd.", "tk.work.", "tk.tel."))
    return "[red]nobody drains it[/]" if nobody else ""


def _members(picture: Picture) -> Table:
    table = Table(title="processes that share the events", title_justify="left")
    for heading in ("who", "since (UTC)", "last heard of", "drains", "stands by"):
        table.add_column(heading, justify="right" if heading in ("drains", "stands by") else "left")
    for lease in picture.members:
        gone = lease.silent_seconds > picture.lease_seconds
        table.add_row(
            lease.name,
            f"{lease.started_at:%Y-%m-%d %H:%M:%S}",
            f"[red]{_span(lease.silent_seconds)} ago: gone[/]" if gone else f"{_span(lease.silent_seconds)} ago",
            str(sum(lease.name in row.drained_by for row in picture.rows)),
            str(sum(lease.name in row.standing_by for row in picture.rows)),
        )
    return table


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# ---- asking


async def _look_once(settings: Settings) -> Picture:
    async with await _pool(settings) as pool:
        return await look(settings, pool)


async def _watch(settings: Settings, *, everything: bool) -> NoReturn:
    async with await _pool(settings) as pool:
        with Live(screen=True, auto_refresh=False) as live:
            while True:
                try:
                    live.update(_drawn(await look(settings, pool), everything=everything), refresh=True)
                except UNREACHABLE as problem:
                    live.update(f"[red]could not look: {problem}[/]", refresh=True)
                await asyncio.sleep(WATCH_SECONDS)


async def _pause(settings: Settings, event_id: EventId, reason: str) -> PausedQueue:
    async with await _pool(settings) as pool:
        return await pause(pool, event_id, reason=reason)


async def _resume(settings: Settings, event_id: EventId) -> PausedQueue | None:
    async with await _pool(settings) as pool:
        return await resume(pool, event_id)


async def _pool(settings: Settings) -> Any:
    return await open_pool(settings, application_name="boxoffice queues", size=1)


def _settings() -> Settings:
    return Settings.read({**Stack.from_environment().environment(), **os.environ})


def _give_up(why: str, exit_code: int) -> NoReturn:
    typer.echo(why, err=True)
    sys.exit(exit_code)
