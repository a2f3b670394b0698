"""How does a running stack get new processes, of a new version say?"""

from typing import Annotated

import typer

from ops.stack.rolling import restart as restart_processes
from ops.stack.screen import console, note, problems_shown
from ops.stack.stack import Stack


def restart(
    names: Annotated[list[str] | None, typer.Argument(help="Which; without names, all our own.")] = None,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="One at a time, each drained first, while the others do its work.")
    ] = False,
) -> None:
    """Stop processes and start them again."""
    with problems_shown():
        stack = Stack.from_environment(say=note)
        try:
            restart_processes(
                stack, names or (), rolling=rolling, say=lambda text: console.print(f"[green]✓[/] {text}")
            )
        except KeyboardInterrupt as interrupted:
            console.print("Interrupted. [bold]boxoffice up[/] starts what does not run.")
            raise typer.Exit(130) from interrupted
