"""What goes wrong in the middle, and how long does it take until somebody can buy again?"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.rush.tally import Tally
from ops.stack import Stack

HEALED_SECONDS_MAX = 90.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Fault:
    """Something that happens to a system in the middle of a sale."""

    name: str
    # The share of the seats that is sold by then.
    at_share: float
    strike: Callable[[Stack], None]


@dataclass(frozen=True)
class Struck:
    """A fault that has happened; `healed_seconds` until the next order was acknowledged, None if none was."""

    name: str
    at_seconds: float
    healed_seconds: float | None


def kill_consumers(stack: Stack) -> None:
    """kill -9 in the middle of whatever they were doing; whoever is first starts them again, the supervisor or we."""
    stack.kill("consumers")
    stack.start("consumers")


def lose_redis(stack: Stack) -> None:
    """Redis dies and comes back with nothing: every session, every lock, every rate limit is gone."""
    stack.kill("redis")
    stack.empty("redis")
    stack.start("redis")


def bounce_broker(stack: Stack) -> None:
    """The broker is restarted, as for an update."""
    stack.stop("rabbitmq")
    stack.start("rabbitmq")


FAULTS = (
    Fault("consumers killed (kill -9)", 0.2, kill_consumers),
    Fault("Redis killed, restarted empty", 0.45, lose_redis),
    Fault("broker stopped and started", 0.7, bounce_broker),
)


async def strike_all(
    stack: Stack, tally: Tally, *, seat_count: int, say: Callable[[str], None], over: asyncio.Event
) -> list[Struck]:
    """Each fault when its share of the seats is sold, the next only when the last is healed; raises StackProblem."""
    struck: list[Struck] = []
    for fault in FAULTS:
        while tally.seat_count < fault.at_share * seat_count and not over.is_set():  # noqa: ASYNC110 -- 2,000 writers
            await asyncio.sleep(POLL_SECONDS)
        if over.is_set():
            break
        say(fault.name)
        struck.append(await _strike(fault, stack, tally, over))
        healed = struck[-1].healed_seconds
        say(f"{fault.name}: not healed" if healed is None else f"{fault.name}: selling again after {healed:.1f} s")
    return struck


async def _strike(fault: Fault, stack: Stack, tally: Tally, over: asyncio.Event) -> Struck:
    at_seconds, begun_at = tally.elapsed_seconds, time.monotonic()
    await asyncio.to_thread(fault.strike, stack)
    order_count = tally.order_count
    while tally.order_count == order_count and not over.is_set():
        if time.monotonic() - begun_at > HEALED_SECONDS_MAX:
            return Struck(fault.name, at_seconds, None)
        await asyncio.sleep(POLL_SECONDS)
    return Struck(fault.name, at_seconds, time.monotonic() - begun_at)
