"""Which jobs can a consumer process do?

`python -m consumers <role>` does one (or several, if several are named) until it is told to stop; `all` does every one of
them in one process, which is enough for a laptop; `declare-topology` makes sure the broker has our exchanges and queues, and
ends. On SIGTERM a process takes nothing new, finishes what it took, and exits with 0. A role that breaks takes its process
with it, with 1: whoever supervises us starts it anew, and a half-dead process helps nobody.
"""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

import uvloop

from consumers.operations_page import operations_page
from contracts.settings import Settings, UnusableSettings
from db.garbage import collect_seldom
from db.priority import give_way
from db.telemetry.logs import name_role, set_up_logging
from db.telemetry.traces import send_traces, set_up_traces

log = logging.getLogger("consumers")

Role = Callable[[Settings, asyncio.Event], Awaitable[None]]

# Where each role's `run(settings, stopping)` is; imported when it is wanted, so that a mailer loads no payment library.
ROLES = {
    "commands": "consumers.event_commands.queues",
    "payments": "consumers.payments.role",
    "relay": "consumers.outbox_relay",
    "notifications": "consumers.notifications",
    "webhooks": "consumers.webhooks",
    "analytics": "consumers.analytics",
    "cleanup": "consumers.cleanup",
    "lifecycle": "consumers.lifecycle",
    "admissions": "consumers.admissions",
    "verifier": "consumers.verifier",
}
# A process with nothing but these runs at a lower priority than those that buyers wait for: their queues keep the work.
BACK_OFFICE = frozenset({"notifications", "webhooks", "analytics", "verifier"})
BACK_OFFICE_NICENESS = 15
EVERY_ROLE = "all"
DECLARE_TOPOLOGY = "declare-topology"

# What a role may take beyond drain_seconds to close its connections.
CLOSING_SECONDS = 5.0


def role_of(name: str) -> Role:
    """The role's `run`; raises ImportError when its module is missing or broken."""
    return cast(Role, importlib.import_module(ROLES[name]).run)


async def run_roles(names: Iterable[str], settings: Settings, stopping: asyncio.Event) -> int:
    """Run these until `stopping` is set or one of them ends; returns the process's exit code."""
    tasks = {asyncio.create_task(_run_role(name, settings, stopping), name=name) for name in names}
    told_to_stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({*tasks, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
    # One has ended: the others are told to finish what they have in hand.
    stopping.set()
    _, late = await asyncio.wait({*tasks, told_to_stop}, timeout=settings.drain_seconds + CLOSING_SECONDS)
    for task in late:
        log.error("role_did_not_stop", extra={"role": task.get_name()})
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return 1 if any(outcome is not True for outcome in outcomes) else 0


async def _run_role(name: str, settings: Settings, stopping: asyncio.Event) -> bool:
    """True when the role ended because it was told to."""
    # For this task and all that the role begins: lines of `all` say whose they are.
    name_role(name)
    log.info("role_started", extra={"role": name})
    try:
        await role_of(name)(settings, stopping)
    except Exception:
        log.critical("role_crashed", extra={"role": name}, exc_info=True)
        return False
    if not stopping.is_set():
        log.critical("role_ended_by_itself", extra={"role": name})
        return False
    log.info("role_stopped", extra={"role": name})
    return True


async def serve(names: Iterable[str], settings: Settings) -> int:
    """Run these roles until SIGTERM or SIGINT; returns the process's exit code."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    names = list(names)
    for name in names:
        role_of(name)  # what is imported now is not garbage later
    collect_seldom()
    give_way_to_the_sale(names)
    set_up_traces(settings, role=process_of(names))
    try:
        async with operations_page(names, settings, stopping):
            return await run_roles(names, settings, stopping)
    finally:
        await send_traces()


def process_of(roles: Iterable[str]) -> str:
    """What a process with these roles is called in logs and traces."""
    return EVERY_ROLE if set(ROLES) <= set(roles) else "+".join(roles)


def give_way_to_the_sale(names: Iterable[str]) -> None:
    """Mails and figures can wait in their queues while a house is being sold out; buyers cannot."""
    if set(names) <= BACK_OFFICE:
        give_way(BACK_OFFICE_NICENESS)


async def declare(settings: Settings) -> int:
    """Declare the topology once; returns the process's exit code."""
    from consumers.lifecycle import declare_topology

    await declare_topology(settings)
    return 0


def main(words: list[str] | None = None) -> int:
    """Read the settings once and do the job that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m consumers", description=__doc__)
    parser.add_argument("roles", nargs="+", metavar="role", choices=[*ROLES, EVERY_ROLE, DECLARE_TOPOLOGY])
    roles = parser.parse_args(words).roles
    wanted = roles[0]
    try:
        settings = Settings.read(os.environ)
    except UnusableSettings as problem:
        print(problem, file=sys.stderr)
        return 2
    set_up_logging(settings.log_level, process="+".join(roles))
    if settings.failpoints:
        from db import failpoints

        failpoints.arm(settings.failpoints)
    if wanted == DECLARE_TOPOLOGY:
        return uvloop.run(declare(settings))
    return uvloop.run(serve(ROLES if EVERY_ROLE in roles else roles, settings))


if __name__ == "__main__":
    sys.exit(main())
