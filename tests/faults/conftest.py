"""What do the tests have at hand that kill, freeze and cut things?

A stack of their own, which comes up with the first test that needs it: the one that the other tests share must not be killed
under them. One process of the test run has one such stack, so its tests run one after the other.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ops.stack import Stack
from tests.builders import fresh_database
from tests.eventually import eventually
from tests.faults.processes import IngressProcess, WarmConsumers
from tests.faults.world import INGRESS_SETTINGS, World, environment_of

SERVERS = ("postgres", "redis", "rabbitmq", "payments", "mail")
PORT_BASE = 9600
PORTS_APART = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one group, for runs that distribute by group: what one test kills, another needs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("faults"))


@pytest.fixture(scope="session")
def fault_stack() -> Iterator[Stack]:
    """The servers that may be killed; empty at the beginning, and gone at the end."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    stack = Stack(f"faults-{worker}" if worker else "faults", PORT_BASE + PORTS_APART * worker, variables={})
    try:
        # The provider's log and our books must speak of the same orders.
        stack.stop("payments")
        stack.empty("payments")
        stack.up(SERVERS)
        asyncio.run(fresh_database(stack))
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def warm_consumers(fault_stack: Stack) -> Iterator[WarmConsumers]:
    """Starts consumers processes quickly."""
    warm = WarmConsumers(fault_stack.log_file("consumers"))
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def ingress(fault_stack: Stack) -> Iterator[str]:
    """The API's address; the process lives through everything that the tests do to the servers behind it."""
    process = IngressProcess(environment_of(fault_stack, **INGRESS_SETTINGS), fault_stack.log_file("ingress"))
    yield fault_stack.environment()["BOXOFFICE_PUBLIC_URL"]
    assert process.is_alive(), "the ingress did not live through the tests"
    process.close()


@pytest.fixture
async def world(fault_stack: Stack, warm_consumers: WarmConsumers, ingress: str) -> AsyncIterator[World]:
    """All servers up and well, no consumers yet; afterwards everything is healed."""
    async with World(fault_stack, warm_consumers, ingress) as world:
        await eventually(lambda: world.ingress_is_ready(), within_seconds=30)
        await world.bury_the_dead()
        yield world
        await asyncio.to_thread(heal, fault_stack)
        await world.kill_consumers()
        await world.clear_faults()
        await world.forget_events()


def heal(stack: Stack) -> None:
    """Start what was killed, thaw what was frozen."""
    for name in SERVERS:
        stack.start(name)
