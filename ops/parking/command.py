"""What is in the parking lot, and what becomes of it? `boxoffice parking list | show | replay | drop`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumers.broker import PublishProblem
from contracts.settings import Settings, UnusableSettings
from db.audit_log import record_deed
from db.paused_event_queues import THE_HOST
from db.postgres import Pool, open_pool, transaction
from ops.parking.lot import ParkingLot, Taken, parking_lot
from ops.parking.parked import Parked
from ops.parking.shown_body import shown_body, shown_reason
from ops.parking.way_back import NoWayBack, way_back
from ops.stack import Stack, StackProblem

DONE, REFUSED, COULD_NOT = 0, 1, 2
LISTED_MAX = 100
# One who mistypes `--all` should not let a flood loose; whoever means it asks again.
REPLAYED_MAX = 1_000
# What is looked through for an id.
SEARCHED_MAX = 50_000
PREFIX_LENGTH_MIN = 6

T = TypeVar("T")

UNREACHABLE = (
    *CONNECTION_EXCEPTIONS,
    AMQPError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    PublishProblem,
    StackProblem,
    UnusableSettings,
)

app = typer.Typer(
    help="Messages that could not be handled, each with its reason: look, repair, send back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Ids = Annotated[
    list[str], typer.Argument(help="Ids, or the first six characters or more of them, as `list` shows them.")
]
From = Annotated[str, typer.Option("--from", help="Only what came from this queue.")]


@app.command("list")
def list_(
    from_queue: From = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The oldest so many.")] = LISTED_MAX,
) -> None:
    """Show what is parked: from where, why, since when. Nothing is changed by looking.

    Exit code 0: shown; 2: could not.
    """
    found, total = _run(_list(_settings(), from_queue, limit))
    table = Table("id", "what", "from", "why", "since", "tries", "bytes")
    for parked in found:
        table.add_row(*map(escape, _cells(parked)))
    Console().print(table if found else "nothing is parked")
    if total > limit:
        typer.echo(f"of {total} messages the oldest {limit} were looked at: --limit shows more.")


@app.command("show")
def show(id_: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """Show one message: everything about it, and its body without what might be personal.

    Exit code 0: shown; 1: it is not there; 2: could not.
    """
    found = _run(_find(_settings(), [id_]))
    if not found:
        _give_up(_not_there([id_]), REFUSED)
    for parked in found:
        typer.echo(_described(parked))


@app.command("replay")
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids; or --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"The oldest {REPLAYED_MAX:,} at most.")] = False,
    from_queue: From = "",
    even_late: Annotated[bool, typer.Option(help="People's commands too, which nobody waits for any longer.")] = False,
) -> None:
    """Send messages back where they came from, after what was wrong has been repaired. Each is handled at least once.

    Exit code 0: all went back; 1: some are not there or cannot; 2: could not.
    """
    if bool(ids) == everything:
        _give_up("which ones? Ids, or --all (with --from QUEUE if you like)", REFUSED)
    sent, refused = _run(_replay(_settings(), ids or [], from_queue, even_late=even_late))
    for parked in sent:
        typer.echo(f"{parked.id} went back to {parked.origin}")
    for parked, why in refused:
        typer.echo(f"{parked.id} stays: {why}", err=True)
    missing = [id_ for id_ in ids or [] if not any(_is_called(one, [id_]) for one in (*sent, *(p for p, _ in refused)))]
    if missing:
        typer.echo(_not_there(missing), err=True)
    typer.echo(f"{len(sent)} went back, {len(refused)} stay.")
    sys.exit(REFUSED if refused or missing else DONE)


@app.command("drop")
def drop(
    ids: Ids,
    reason: Annotated[str, typer.Option(help="Why nobody needs them any more; it is recorded.")],
) -> None:
    """Throw messages away for good. Who, which and why is in the audit log.

    Exit code 0: dropped; 1: some are not there, or no reason; 2: could not.
    """
    if not reason.strip():
        _give_up("why? --reason must say something", REFUSED)
    dropped = _run(_drop(_settings(), ids, reason.strip()))
    for parked in dropped:
        typer.echo(f"{parked.id} is gone ({parked.type or 'no type'}, from {parked.origin})")
    missing = [id_ for id_ in ids if not any(_is_called(one, [id_]) for one in dropped)]
    if missing:
        _give_up(_not_there(missing), REFUSED)


# ---- doing


async def _list(settings: Settings, from_queue: str, limit: int) -> tuple[list[Parked], int]:
    async with parking_lot(settings) as lot:
        total = await lot.count()
        found = await lot.take(limit=limit, wanted=_came_from(from_queue))
        return [taken.parked for taken in found], total


async def _find(settings: Settings, ids: Sequence[str]) -> list[Parked]:
    async with parking_lot(settings) as lot:
        return [taken.parked for taken in await _take(lot, ids)]


async def _replay(
    settings: Settings, ids: Sequence[str], from_queue: str, *, even_late: bool
) -> tuple[list[Parked], list[tuple[Parked, str]]]:
    sent, refused = [], []
    async with parking_lot(settings) as lot, _audit(settings) as pool:
        found = await _take(lot, ids) if ids else await lot.take(limit=REPLAYED_MAX, wanted=_came_from(from_queue))
        for taken in found:
            try:
                way = way_back(taken.parked, even_late=even_late, checks_users="@" not in settings.rabbitmq_url)
            except NoWayBack as why:
                refused.append((taken.parked, str(why)))
                continue
            await _record(pool, "replay_parked_message", taken.parked, {"to": way.exchange, "as": way.user})
            await lot.send_back(taken, way)
            sent.append(taken.parked)
    return sent, refused


async def _drop(settings: Settings, ids: Sequence[str], reason: str) -> list[Parked]:
    dropped = []
    async with parking_lot(settings) as lot, _audit(settings) as pool:
        for taken in await _take(lot, ids):
            # First the record: what is gone without one cannot be asked after.
            await _record(pool, "drop_parked_message", taken.parked, {"reason": reason})
            await lot.drop(taken)
            dropped.append(taken.parked)
    return dropped


async def _take(lot: ParkingLot, ids: Sequence[str]) -> list[Taken]:
    return await lot.take(limit=SEARCHED_MAX, wanted=lambda parked: _is_called(parked, ids))


@asynccontextmanager
async def _audit(settings: Settings) -> AsyncIterator[Pool]:
    pool = await open_pool(settings, application_name="boxoffice parking", size=1)
    try:
        yield pool
    finally:
        await pool.close()


async def _record(pool: Pool, action: str, parked: Parked, after: dict[str, str]) -> None:
    before = {
        "from": parked.origin,
        "type": parked.type,
        "parked_because": shown_reason(parked.reason),
        "parked_at": parked.parked_at,
    }
    async with transaction(pool) as tx:
        await record_deed(
            tx,
            user_id=THE_HOST,
            action=action,
            event_id=None,
            subject=f"parked message {parked.id}",
            before=before,
            after=after,
        )


def _came_from(queue: str) -> Callable[[Parked], bool]:
    return lambda parked: not queue or parked.origin == queue


def _is_called(parked: Parked, ids: Sequence[str]) -> bool:
    return any(parked.id == id_ or (len(id_) >= PREFIX_LENGTH_MIN and parked.id.startswith(id_)) for id_ in ids)


# ---- showing


def _cells(parked: Parked) -> list[str]:
    return [
        parked.id[:13],
        parked.type,
        parked.origin,
        shown_reason(parked.reason)[:120],
        f"{parked.parked_at:%Y-%m-%d %H:%M:%S}" if parked.parked_at else "not said",
        str(parked.attempt),
        str(len(parked.body)),
    ]


def _described(parked: Parked) -> str:
    age = f", {(datetime.now(UTC) - parked.parked_at).total_seconds() / 60:.0f} min ago" if parked.parked_at else ""
    lines = {
        "id": parked.id,
        "type": parked.type,
        "from": parked.origin_queue or f"{parked.origin_exchange} {parked.origin_key}",
        "why": shown_reason(parked.reason),
        "parked": (f"{parked.parked_at:%Y-%m-%d %H:%M:%S} UTC{age}" if parked.parked_at else "not said"),
        "parked by": parked.parked_by or "the broker",
        "sent by": parked.sender,
        "tries": str(parked.attempt),
        "bytes": str(len(parked.body)),
        "correlation": parked.correlation_id or "",
    }
    head = "\n".join(f"{name:<12} {value}" for name, value in lines.items() if value)
    return f"{head}\n\n{shown_body(parked.body)}"


def _not_there(ids: Sequence[str]) -> str:
    return f"not in the parking lot: {', '.join(ids)} (or somebody else is looking at it just now)"


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except UNREACHABLE as problem:
        _give_up(f"could not: {problem or type(problem).__name__}", COULD_NOT)


def _settings() -> Settings:
    return Settings.read({**Stack.from_environment().environment(), **os.environ})


def _give_up(why: str, exit_code: int) -> NoReturn:
    typer.echo(why, err=True)
    sys.exit(exit_code)
