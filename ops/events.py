"""Which events are there? `boxoffice events` lists them; `--first` prints the id of one that is on sale, for scripts."""

import asyncio
import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contracts.settings import Settings
from db.events import Event, list_events
from db.postgres import open_pool
from ops.stack import Stack


def events(
    first: Annotated[bool, typer.Option("--first", help="Only the id of the largest event on sale.")] = False,
) -> None:
    """List the events and their ids."""
    found = asyncio.run(_read())
    if first:
        on_sale = [event for event in found if event.status == "on_sale"]
        if not on_sale:
            raise SystemExit("no event is on sale: run `boxoffice seed`, or wait for one to open")
        typer.echo(max(on_sale, key=lambda event: event.capacity).id)
        return
    Console().print(_as_table(found))


async def _read() -> list[Event]:
    settings = Settings.read({**Stack.from_environment().environment(), **os.environ})
    pool = await open_pool(settings, application_name="boxoffice events", size=2)
    try:
        async with pool.acquire() as connection:
            return await list_events(connection)
    finally:
        await pool.close()


def _as_table(found: list[Event]) -> Table:
    table = Table("event", "when", "status", "seats", "id")
    for event in found:
        table.add_row(
            event.name, f"{event.event_date:%Y-%m-%d %H:%M}", event.status, str(event.capacity), str(event.id)
        )
    return table
