"""What of a stack is running, where, and since when?"""

from datetime import timedelta

from rich.table import Table

from ops.stack.screen import console, problems_shown
from ops.stack.stack import Stack, Status

COLOURS = {"running": "green", "not ready": "yellow", "frozen": "yellow", "stopped": "dim", "elsewhere": "cyan"}


def status() -> None:
    """Show each server and application: state, pid, address, ports, uptime."""
    with problems_shown():
        stack = Stack.from_environment()
        table = Table(title=f"stack {stack.name}", title_justify="left")
        for heading in ("name", "state", "pid", "uptime", "where"):
            table.add_column(heading, no_wrap=heading != "where", overflow="fold")
        for server in stack.status():
            table.add_row(*_cells(server))
        console.print(table)


def _cells(server: Status) -> list[str]:
    colour = COLOURS[server.state]
    others = "".join(f"\n[dim]{use} {port}[/]" for use, port in list(server.ports.items())[1:])
    uptime = "" if server.uptime_seconds is None else str(timedelta(seconds=int(server.uptime_seconds)))
    return [server.name, f"[{colour}]{server.state}[/]", str(server.pid or ""), uptime, server.url + others]
