"""What can an operator ask `boxoffice backup` and `boxoffice restore`?"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from rich.markup import escape
from typer.core import TyperGroup

from consumers.payments.after_restore import FOR_A_PERSON
from consumers.proof.report import Report
from contracts.settings import Settings, UnusableSettings
from db import backups
from db.postgres import open_pool
from db.telemetry.logs import set_up_logging
from ops.backup import reconciling, restoring, taking
from ops.backup.manifest import Manifest, parts_named, read_manifest, total_bytes
from ops.backup.problem import BackupProblem
from ops.backup.reconciling import Reconciled
from ops.backup.report import as_summary, write_report
from ops.stack.screen import console, note, problems_shown
from ops.stack.stack import Stack
from ops.verify import as_table, simulator_log_path

# Exit codes beyond 0 (well) and 1 (could not).
LEFT_OVER, NOT_GIVEN_BACK = 2, 3

T = TypeVar("T")


class FolderOrCommand(TyperGroup):
    """`boxoffice backup FOLDER` is `boxoffice backup take FOLDER`: the usual thing needs no word of its own."""

    usual = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help"}
        if args and args[0] not in known:
            args = [self.usual, *args]
        return super().parse_args(ctx, args)


class _Backup(FolderOrCommand):
    usual = "take"


class _Restore(FolderOrCommand):
    usual = "from"


backup = typer.Typer(
    cls=_Backup,
    help="Back the shop up while it sells: `boxoffice backup FOLDER`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
restore = typer.Typer(
    cls=_Restore,
    help="Bring a destroyed shop back: `boxoffice restore FOLDER`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(help="The folder of the backup.", file_okay=False)]
GiveBack = Annotated[
    bool,
    typer.Option(
        "--give-back",
        help="Give the money of orders made after the backup back. Without it the provider is only asked.",
    ),
]


@backup.command("take")
def take(
    folder: Folder,
    what: Annotated[str, typer.Option(help="Which servers.")] = "postgres,redis,rabbitmq",
    physical: Annotated[
        bool, typer.Option("--physical", help="Copy the whole PostgreSQL server, for recovery to any moment since.")
    ] = False,
) -> None:
    """Write a consistent backup into an empty folder; the sale goes on."""
    with problems_shown():
        stack, settings = _here()
        began_at = time.monotonic()
        parts = parts_named(what)
        manifest = _run(lambda: taking.take(settings, stack, folder, parts, is_physical=physical, say=note))
        _say_what_is_in(manifest)
        console.print(f"[green]✓[/] {escape(str(folder))} [dim]{time.monotonic() - began_at:.1f} s[/]", soft_wrap=True)


@backup.command("verify")
def verify(folder: Folder) -> None:
    """Check that a backup is whole: every checksum, and every file read to its end."""
    with problems_shown():
        manifest = taking.verify(folder)
        _say_what_is_in(manifest)
        console.print(f"[green]✓[/] {len(manifest.files)} files are what was written, and can be read")


@restore.command("from")
def restore_from(
    folder: Folder,
    give_back: GiveBack = False,
    replace: Annotated[
        str | None, typer.Option(metavar="DATABASE", help="Destroy what is here; the name of the database, typed.")
    ] = None,
    drill: Annotated[
        bool, typer.Option("--drill", help="A copy, not the shop: ask nothing of the payment provider.")
    ] = False,
) -> None:
    """Fill empty servers from a backup, then compare with the payment provider. The shop must be closed."""
    with problems_shown():
        stack, settings = _here()
        if drill and give_back:
            raise BackupProblem("--drill asks nothing of the provider, so there is nothing to --give-back")
        began_at = time.monotonic()
        manifest = _run(lambda: restoring.restore(settings, folder, replace=replace, say=note))
        console.print(f"[green]✓[/] restored [dim]{time.monotonic() - began_at:.1f} s[/]")
        _say_what_is_in(manifest)
        if drill:
            _end_drill(_run(lambda: reconciling.verify_books(settings)))
            return
        _reconcile(settings, stack, folder, manifest, give_back=give_back)


def _end_drill(report: Report) -> None:
    console.print(as_table(report))
    console.print("A drill: nothing was asked of the payment provider, and nothing will be by this copy.")
    if not report.is_clean:
        raise typer.Exit(LEFT_OVER)


@restore.command("reconcile")
def reconcile(folder: Folder, give_back: GiveBack = False) -> None:
    """Compare restored books with the payment provider's, as often as you like."""
    with problems_shown():
        stack, settings = _here()
        _reconcile(settings, stack, folder, read_manifest(folder), give_back=give_back)


def _reconcile(settings: Settings, stack: Stack, folder: Path, manifest: Manifest, *, give_back: bool) -> None:
    if manifest.snapshot_at is None:
        raise BackupProblem(f"{folder} has no PostgreSQL in it: there are no books to compare")
    snapshot_at = manifest.snapshot_at
    money_log = simulator_log_path(stack)
    _log_to(stack.folder / "logs" / "restore.log")
    if give_back:
        result = _run(lambda: reconciling.reconcile(settings, snapshot_at, money_log, say=note))
    else:
        result = _run(lambda: _look(settings, snapshot_at))
    console.print(as_summary(result))
    stack.folder.mkdir(parents=True, exist_ok=True)
    console.print(f"every payment of it: {write_report(stack.folder, manifest, result)}", soft_wrap=True, markup=False)
    _say_what_to_do(result, folder)


async def _look(settings: Settings, snapshot_at: datetime) -> Reconciled:
    """Without --give-back: what differs; a shop of which nothing differs may open at once."""
    result = await reconciling.look(settings, snapshot_at)
    if not result.differences:
        async with await open_pool(settings, application_name="boxoffice restore", size=1) as pool:
            await backups.close_restores(pool)
    return result


def _say_what_to_do(result: Reconciled, folder: Path) -> None:
    if result.differences and not result.is_mended:
        console.print(
            f"[yellow]Nothing was given back yet.[/] If this is the shop, and not a copy of it:"
            f" [bold]boxoffice restore reconcile {escape(str(folder))} --give-back[/]",
            soft_wrap=True,
        )
        raise typer.Exit(NOT_GIVEN_BACK)
    if result.is_mended and not result.is_clean:
        people = sum(one.kind in FOR_A_PERSON for one in result.left)
        console.print(
            f"[yellow]Not everything agrees yet[/] ({people} for a person): see ops/runbook/disaster-recovery.md"
        )
        raise typer.Exit(LEFT_OVER)
    console.print(
        "[green]✓[/] The books agree. Open the shop with [bold]boxoffice up[/] once you have read the report."
    )


def _say_what_is_in(manifest: Manifest) -> None:
    if manifest.snapshot_at is not None:
        age_seconds = (datetime.now(UTC) - manifest.snapshot_at).total_seconds()
        note(f"books until {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, {age_seconds / 60:.0f} minutes ago")
        note(", ".join(f"{count} {table.replace('_', ' ')}" for table, count in manifest.records.items()))
    note(f"{len(manifest.files)} files, {total_bytes(manifest.files) / 1e6:.1f} MB")
    for text in manifest.notes:
        console.print(f"  [yellow]{escape(text)}[/]")


def _here() -> tuple[Stack, Settings]:
    stack = Stack.from_environment(say=note)
    try:
        return stack, Settings.read({**os.environ, **stack.environment()})
    except UnusableSettings as unusable:
        raise BackupProblem(str(unusable)) from unusable


def _run(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do it, and say in our own words what servers have said in theirs."""
    try:
        return asyncio.run(act())
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:
        raise BackupProblem(f"it did not finish: {problem or repr(problem)}") from problem


def _log_to(path: Path) -> None:
    """What the consumers say while they settle what was under way belongs into a file, not into the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    set_up_logging("info", process="restore")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(path.open("a", encoding="utf-8"))
