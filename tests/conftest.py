"""What does every test have at hand?

Real servers: the private stack `test`, started once before the first test that needs it and stopped after the last. Tests
share it and run in parallel, because each makes its own event. Tests that kill servers have stacks of their own.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from contracts.settings import Settings
from db.postgres import open_pool
from ops.stack import Stack
from tests.builders import OnSale, an_event_on_sale, fresh_database, settings_of
from tests.ingress_process import an_ingress

SERVERS = ("postgres", "redis", "rabbitmq", "payments", "mail")
PORT_BASE = 9400
NEED_NO_SERVERS = ("tests/unit", "tests/model")


def shared_stack() -> Stack:
    """The stack all tests share. A second run on one machine needs ports of its own: TEST_PORT_BASE=9000 make test."""
    port = int(os.environ.get("TEST_PORT_BASE", PORT_BASE))
    return Stack("test" if port == PORT_BASE else f"test-{port}", port)


def pytest_configure(config: pytest.Config) -> None:
    """Start the shared stack, once, in the process that hands out the tests."""
    if hasattr(config, "workerinput") or not _needs_servers(config):
        return
    stack = shared_stack()
    use = StackInUse(stack)
    if use.is_first():
        stack.up(SERVERS)
        asyncio.run(fresh_database(stack))
    use.share()
    config.add_cleanup(use.end)


class StackInUse:
    """Two runs in one checkout share the stack: the first starts it with an empty database, the last stops it."""

    def __init__(self, stack: Stack) -> None:
        stack.folder.mkdir(parents=True, exist_ok=True)
        self._stack = stack
        self._file = (stack.folder / "in-use").open("w")

    def is_first(self) -> bool:
        """True for whoever has the stack alone; waits while another run is starting it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._file, fcntl.LOCK_SH)
            return False
        return True

    def share(self) -> None:
        """Let others in."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def end(self) -> None:
        """Stop the stack, unless somebody else is using it."""
        with self._file, suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._stack.down()


def _needs_servers(config: pytest.Config) -> bool:
    if config.option.collectonly:
        return False
    chosen = [argument.removeprefix("./") for argument in config.args]
    return any(not argument.startswith(NEED_NO_SERVERS) for argument in chosen)


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The shared stack; kill nothing of it."""
    return shared_stack()


@pytest.fixture
def settings(stack: Stack) -> Settings:
    """Settings that point at the shared stack, with cheap passwords."""
    return settings_of(stack)


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Any]:
    """A pool on the shared database."""
    opened = await open_pool(settings, application_name="test")
    yield opened
    opened.terminate()


AnEvent = Callable[..., Awaitable[OnSale]]


@pytest.fixture
async def an_event(settings: Settings, pool: Any) -> AsyncIterator[AnEvent]:
    """A factory of events on sale, each with its own engine: `sale = await an_event(seats=60)`."""
    made: list[OnSale] = []

    async def make(**fields: Any) -> OnSale:
        sale = await an_event_on_sale(settings, pool, **fields)
        made.append(sale)
        return sale

    yield make
    for sale in made:
        with suppress(Exception):
            await sale.close()


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of 60 seats, on sale."""
    return await an_event()


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    """A client of the shared Redis."""
    async with Redis.from_url(settings.redis_url) as client:
        yield client


IngressWith = Callable[..., Awaitable[str]]


@pytest.fixture
async def ingress_with(settings: Settings) -> AsyncIterator[IngressWith]:
    """A factory of ingress processes with settings of their own: `url = await ingress_with(bcrypt_cost=9)`."""
    async with AsyncExitStack() as running:

        async def start(**overrides: Any) -> str:
            return await running.enter_async_context(an_ingress(settings, **overrides))

        yield start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ingress_url(stack: Stack) -> AsyncIterator[str]:
    """One ingress process for all tests of this worker that need nothing special; limits as in production."""
    async with an_ingress(settings_of(stack)) as url:
        yield url
