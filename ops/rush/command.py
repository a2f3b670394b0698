"""How does an operator ask for a rush?"""

import os
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import aiohttp
import typer
import uvloop
from redis.exceptions import RedisError
from rich.console import Console

from contracts.ids import EventId
from contracts.settings import Settings
from ops.rush.house import HasWaitingRoom, NotOnSale
from ops.rush.plan import RushPlan
from ops.rush.report import COULD_NOT_RUN, as_report
from ops.rush.rush import run_rush
from ops.stack import Stack
from ops.verify import UNCHECKABLE, simulator_log_path

# What keeps a rush from being run, and is said in one line.
UNRUNNABLE = (*UNCHECKABLE, NotOnSale, HasWaitingRoom, aiohttp.ClientError, RedisError)


def rush(
    seats: Annotated[int, typer.Option(min=1, max=200_000, help="Seats of the house that is built for it.")] = 10_000,
    buyers: Annotated[int, typer.Option(min=1, max=50_000, help="Buyers who come at once.")] = 2_000,
    hot_seats: Annotated[
        int, typer.Option(min=0, help="All fight for the first so many seats; 0: the whole house.")
    ] = 0,
    checkout_rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of holds that are paid for.")] = 0.9,
    chaos: Annotated[
        bool, typer.Option(help="Kill consumers, empty Redis and bounce the broker in the middle.")
    ] = False,
    event: Annotated[UUID | None, typer.Option(help="An event that is on sale, instead of a new one.")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Stop after this long, sold out or not.")] = 300.0,
    login: Annotated[bool, typer.Option(help="Sign in with passwords (slow on purpose: use few buyers).")] = False,
    connections: Annotated[int, typer.Option(min=1, max=4096, help="HTTP connections at once.")] = 256,
    random_seed: Annotated[int, typer.Option(help="The same number, the same buyers.")] = 1,
    money_log: Annotated[Path | None, typer.Option(help="The provider's log; without it, the simulator's.")] = None,
) -> None:
    """Sell a house out to a crowd over HTTP, and prove that it went right.

    Exit code 0: sold out and no differences; 1: differences; 2: could not run; 3: no differences, but not sold out in time.
    """
    plan = RushPlan(
        seat_count=seats,
        buyer_count=buyers,
        hot_seat_count=min(hot_seats, seats),
        checkout_rate=checkout_rate,
        has_chaos=chaos,
        event_id=None if event is None else EventId(event),
        seconds_max=seconds,
        signs_in=login,
        connections_max=connections,
        random_seed=random_seed,
    )
    console = Console()
    try:
        stack = Stack.from_environment()
        settings = Settings.read({**os.environ, **stack.environment()})
        log_path = money_log or simulator_log_path(stack)
        outcome = uvloop.run(run_rush(plan, settings, stack=stack, money_log_path=log_path, console=console))
    except UNRUNNABLE as problem:
        Console(stderr=True).print(f"could not run: {problem!r}", style="red", markup=False)
        sys.exit(COULD_NOT_RUN)
    console.print(as_report(outcome))
    sys.exit(outcome.exit_code)
