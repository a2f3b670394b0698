"""How does a stopped stack become one that sells tickets?"""

import os
from typing import Annotated

import typer

from contracts.settings import Settings, UnusableSettings
from ops.stack.problem import StackProblem
from ops.stack.rolling import change_scale
from ops.stack.scale import Scale, read_scale
from ops.stack.screen import console, note, problems_shown, show_where_everything_is, step
from ops.stack.stack import SERVERS, Stack

# What must be in the servers before the first ticket can be sold. Each may be run again at any time.
PREPARATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("database migrations", ("db.migrate",)),
    ("queues and exchanges", ("consumers", "declare-topology")),
    ("demo data", ("ops.demo_data",)),
)

STILL_THERE_SECONDS = 10.0

SCALE_VARIABLE = "BOXOFFICE_SCALE"

ScaleOption = Annotated[
    list[str] | None,
    typer.Option("--scale", metavar="NAME=COUNT…", help="Processes of the ingress or of a role: ingress=3 commands=2."),
]
ScaleWords = Annotated[list[str] | None, typer.Argument(metavar="[NAME=COUNT]…", help="More words of --scale.")]


def up(
    services_only: Annotated[
        bool, typer.Option("--services-only", help="Only PostgreSQL, Redis, RabbitMQ, payments and mail.")
    ] = False,
    scale: ScaleOption = None,
    more: ScaleWords = None,
) -> None:
    """Start everything in the background: servers, migrations, queues, demo data, ingress, consumers. Again with another
    --scale: starts and drains the difference."""
    with problems_shown():
        stack = Stack.from_environment(say=note)
        try:
            if services_only:
                start_servers(stack)
                return
            make_ready_to_sell(stack, asked_scale(stack, scale, more))
        except KeyboardInterrupt as interrupted:
            console.print("Interrupted. What has started already goes on; [bold]boxoffice down[/] stops it.")
            raise typer.Exit(130) from interrupted
        show_where_everything_is(stack, foreground=False)


def asked_scale(stack: Stack, option: list[str] | None, words: list[str] | None) -> Scale:
    """What the command line says or, when it says nothing, BOXOFFICE_SCALE, or what the stack has; raises StackProblem."""
    asked = [*(option or []), *(words or [])] or [os.environ.get(SCALE_VARIABLE, "")]
    return read_scale(asked) if any(asked) else stack.scale


def make_ready_to_sell(stack: Stack, scale: Scale) -> None:
    """Servers, preparations, applications, in this order; raises StackProblem at the first that fails."""
    check_settings(stack)
    start_servers(stack)
    for title, words in PREPARATIONS:
        with step(title):
            stack.run_module(*words)
    with step("ingress and consumers"):
        change_scale(stack, scale)  # ready means that GET /ready of each says yes
        for name in stack.applications:
            stack.wait_ready(name, STILL_THERE_SECONDS)  # one may have died while the other started


def start_servers(stack: Stack) -> None:
    """PostgreSQL, Redis, RabbitMQ, the payment simulator and the mail catcher."""
    with step("servers"):
        stack.up(SERVERS)


def check_settings(stack: Stack) -> None:
    """A misspelt variable is reported before anything starts, not by five processes one after another."""
    try:
        Settings.read({**os.environ, **stack.environment()})
    except UnusableSettings as unusable:
        raise StackProblem(str(unusable)) from unusable
