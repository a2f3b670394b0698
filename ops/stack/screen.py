"""How does the `boxoffice` command talk to the person in front of it?"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ops.stack.ports import HOST
from ops.stack.problem import StackProblem
from ops.stack.scale import NGINX
from ops.stack.stack import Stack

console = Console(highlight=False)


@contextmanager
def problems_shown() -> Iterator[None]:
    """A StackProblem is a message and exit code 1, not a traceback."""
    try:
        yield
    except StackProblem as problem:
        console.print(f"[bold red]✗[/] {escape(str(problem))}", soft_wrap=True)
        raise typer.Exit(1) from problem


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show that something is being done, and how long it took."""
    began_at = time.monotonic()
    with console.status(f"{title} …"):
        yield
    console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - began_at:.1f} s[/]")


def note(text: str) -> None:
    """One line of progress inside a step."""
    console.print(f"  [dim]{escape(text)}[/]")


def show_where_everything_is(stack: Stack, *, foreground: bool) -> None:
    """The one screen after a start: addresses, and what to try next."""
    ports, environment = stack.ports, stack.environment()
    table = Table.grid(padding=(0, 2))
    table.add_row("API", environment["BOXOFFICE_PUBLIC_URL"])
    table.add_row("its documentation", f"{environment['BOXOFFICE_PUBLIC_URL']}/docs")
    table.add_row(
        "RabbitMQ management", f"{environment['BOXOFFICE_RABBITMQ_MANAGEMENT_URL']}  (operator / demo-operator)"
    )
    table.add_row("mailbox", f"http://{HOST}:{ports['mailbox']}")
    measured = {name: stack.port_of(name) for name in stack.applications if name != NGINX}
    measured["RabbitMQ"] = ports["prometheus"]
    for number, (name, port) in enumerate(measured.items()):
        table.add_row("" if number else "metrics", f"http://{HOST}:{port}/metrics  ({name})")
    # Outside the virtual environment the bare name is not found.
    command = "boxoffice" if shutil.which("boxoffice") else ".venv/bin/boxoffice"
    rush = f"Sell a house:  [bold]{command} rush --seats 10000 --buyers 2000[/]"
    leave = "Ctrl-C stops all of it." if foreground else f"Stop all of it:  [bold]{command} down[/]"
    console.print(Panel(Group(table, "", rush, leave), title="Boxoffice is ready to sell", expand=False))
