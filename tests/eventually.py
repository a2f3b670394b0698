"""How does a test wait for something without guessing how long it takes?"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Seen = TypeVar("Seen")

POLL_SECONDS = 0.01


@overload
async def eventually(condition: Callable[[], Awaitable[Seen]], within_seconds: float = ...) -> Seen: ...
@overload
async def eventually(condition: Callable[[], Seen], within_seconds: float = ...) -> Seen: ...
async def eventually(condition: Callable[[], Any], within_seconds: float = 15.0) -> Any:
    """The first truthy value of the condition, plain or async; AssertionError with the last value when time is up."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = condition()
        seen = await value if inspect.isawaitable(value) else value
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within_seconds} s; last seen: {seen!r}")
        await asyncio.sleep(POLL_SECONDS)
