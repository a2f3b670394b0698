"""Is this deployment fit for a sale?"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from contracts.settings import Settings, UnusableSettings
from ops.doctor.connections import OF_PROCESS
from ops.doctor.deployment import Deployment, read_file
from ops.doctor.examination import COULD_NOT_ASK, SOMETHING_WRONG, Result, examine, exit_code
from ops.doctor.findings import Level
from ops.stack import Stack, StackProblem

MARKS = {
    Level.FINE: ("✓", "green"),
    Level.NOTE: ("·", "cyan"),
    Level.WARNING: ("!", "yellow"),
    Level.WRONG: ("✗", "bold red"),
    Level.UNKNOWN: ("?", "magenta"),
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for a pipeline.")] = False,
    processes: Annotated[
        list[str] | None,
        typer.Option(help="How many run of a role, as in ingress=3; one of those not named. May be repeated."),
    ] = None,
    broker_definitions: Annotated[
        Path | None,
        typer.Option(help="What `rabbitmqctl export_definitions FILE` wrote: users and permissions are read from it."),
    ] = None,
    broker_administrator: Annotated[
        str | None,
        typer.Option(envvar="RABBITMQ_ADMIN", help="name:password of an administrator of the broker, for the same."),
    ] = None,
) -> None:
    """Look at the settings, this host and every server, and say what is wrong and what to do. Changes nothing.

    Exit code 0: fit for a sale; 1: something is wrong; 2: something could not be asked.
    """
    console = Console(soft_wrap=True)
    try:
        counts = _counts(processes or [])
        stack = Stack.from_environment()
        settings = Settings.read({**os.environ, **stack.environment()})
    except UnusableSettings as unusable:
        _print_unusable(console, str(unusable), as_json=as_json)
        sys.exit(SOMETHING_WRONG)
    except (StackProblem, ValueError) as problem:
        Console(stderr=True, soft_wrap=True).print(f"could not ask: {problem}", style="red", markup=False)
        sys.exit(COULD_NOT_ASK)
    accounts = read_file(broker_definitions) if broker_definitions else _own_broker(stack)
    results = asyncio.run(_examine(settings, counts, accounts, broker_administrator))
    if as_json:
        print(as_document(results))
    else:
        _print(console, results)
    sys.exit(exit_code(results))


async def _examine(
    settings: Settings, processes: dict[str, int], accounts: Callable[[], str] | None, administrator: str | None
) -> list[Result]:
    async with Deployment(
        settings, processes=processes, broker_accounts=accounts, broker_administrator=administrator
    ) as deployment:
        return await examine(deployment)


def _own_broker(stack: Stack) -> Callable[[], str] | None:
    """How to read the accounts of a broker that the stack itself runs; None when it runs elsewhere."""
    if stack.process("rabbitmq") is None:
        return None
    return lambda: stack.rabbitmqctl("-q", "export_definitions", "-")


def _counts(words: Sequence[str]) -> dict[str, int]:
    counts = {}
    for word in words:
        name, _, count = word.partition("=")
        if name not in OF_PROCESS or not count.isdecimal():
            raise ValueError(f"--processes takes role=number, with a role of {', '.join(OF_PROCESS)}: not {word!r}")
        counts[name] = int(count)
    return counts


def as_document(results: Sequence[Result]) -> str:
    """Every check with what it found, as JSON."""
    return json.dumps(
        {
            "exitCode": exit_code(results),
            "checks": [
                {
                    "name": result.check.name,
                    "level": result.level,
                    "seconds": round(result.seconds, 3),
                    "findings": [
                        {"level": one.level, "what": one.what, "whatToDo": one.what_to_do} for one in result.findings
                    ],
                }
                for result in results
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def _print_unusable(console: Console, message: str, *, as_json: bool) -> None:
    """Settings that no process would start with: nothing else can be asked before these are changed."""
    lines = message.splitlines()
    if as_json:
        findings = [{"level": Level.WRONG, "what": line, "whatToDo": "change it, then ask again"} for line in lines]
        document = {"name": "settings", "level": Level.WRONG, "seconds": 0.0, "findings": findings}
        print(json.dumps({"exitCode": SOMETHING_WRONG, "checks": [document]}, indent=2, ensure_ascii=False))
        return
    console.print(Text("✗ settings: no process of ours would start", style="bold red"))
    for line in lines:
        console.print(Text(f"    {line}"))


def _print(console: Console, results: Sequence[Result]) -> None:
    for result in results:
        mark, colour = MARKS[result.level]
        console.print(Text.assemble((mark, colour), f" {result.check.name}"))
        for finding in result.findings:
            _, shade = MARKS[finding.level]
            console.print(Text.assemble("    ", (finding.what, shade)))
            if finding.what_to_do:
                console.print(Text(f"    → {finding.what_to_do}", style="dim"))
    counts = {level: sum(result.level is level for result in results) for level in MARKS}
    console.print(
        f"\n{len(results)} checks: {counts[Level.WRONG]} wrong, {counts[Level.WARNING]} warnings,"
        f" {counts[Level.UNKNOWN]} not answered, {counts[Level.NOTE]} notes"
    )
