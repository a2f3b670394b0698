"""`boxoffice dash`: the figures of a sale in a terminal, every two seconds."""

import asyncio
import os
import time
from typing import Annotated

import typer
from rich.live import Live

from contracts.settings import Settings
from db.events import list_events
from db.postgres import TRANSIENT_ERRORS, open_pool
from ops.dash.reading import Between, read
from ops.dash.screen import screen
from ops.stack.ports import HOST
from ops.stack.scale import CONSUMERS, INGRESS, is_instance
from ops.stack.screen import console, problems_shown
from ops.stack.stack import Stack

TITLES_SECONDS = 2.0


def dash(
    address: Annotated[
        list[str] | None,
        typer.Option(help="a page of metrics, such as http://10.0.0.5:8411/metrics; of this stack's if none"),
    ] = None,
    every: Annotated[float, typer.Option(help="seconds between two looks", min=0.2, max=60)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="look twice, show it, and end")] = False,
) -> None:
    """Watch a sale: seats left, what buyers feel, the queues, the proof. Reads every process's metrics; needs no Grafana."""
    with problems_shown():
        stack = Stack.from_environment()
        addresses = address or addresses_of(stack)
    titles = asyncio.run(_titles(Settings.read({**stack.environment(), **os.environ})))
    before = read(addresses)
    if not before.samples:
        where = f" at {', '.join(addresses)}" if addresses else ""
        console.print(f"[bold red]✗[/] nobody answers{where}: is it running (boxoffice status)?")
        raise typer.Exit(1)
    if once:
        time.sleep(every)
        console.print(screen(Between(before, read(addresses)), titles))
        return
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                after = read(addresses)
                live.update(screen(Between(before, after), titles), refresh=True)
                before = after
    except KeyboardInterrupt:
        return


def addresses_of(stack: Stack) -> list[str]:
    """The pages of metrics of this stack's own processes that run."""
    running = [one for one in stack.status() if one.pid is not None and _has_metrics(one.name)]
    return [f"http://{HOST}:{next(iter(one.ports.values()))}/metrics" for one in running]


def _has_metrics(name: str) -> bool:
    # Not by its kind alone: the payment simulator is called as the role that asks it.
    return name in (INGRESS, CONSUMERS) or is_instance(name)


async def _titles(settings: Settings) -> dict[str, str]:
    """The names of events; without PostgreSQL they go by their ids."""
    try:
        async with asyncio.timeout(TITLES_SECONDS):
            pool = await open_pool(settings, application_name="boxoffice dash", size=1)
            try:
                return {str(event.id): event.name for event in await list_events(pool)}
            finally:
                await pool.close()
    except TRANSIENT_ERRORS:
        return {}
