"""Do the clocks of this host and of the servers agree?

Nothing of ours compares two clocks to decide about a seat: PostgreSQL's alone judges time. But sessions, deadlines of commands,
rotating codes at the door and every log are read side by side.
"""

import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

from db.server_state import read_clock
from ops.doctor.deployment import Deployment
from ops.doctor.findings import Check, Findings, warning

APART_SECONDS = 1.0
SYNCHRONISE = "run an NTP client (chrony or systemd-timesyncd) on both hosts"


async def postgres_clock(deployment: Deployment) -> Findings:
    """It judges which holds are over."""
    connection = await deployment.postgres()
    return await _compare("PostgreSQL", lambda: read_clock(connection))


async def redis_clock(deployment: Deployment) -> Findings:
    """It ends sessions and seat locks."""
    client = await deployment.redis()

    async def seconds() -> float:
        whole, microseconds = await client.time()
        return whole + microseconds / 1e6

    return await _compare("Redis", seconds)


async def broker_clock(deployment: Deployment) -> Findings:
    """It drops commands whose deadline is over."""

    async def seconds() -> float:
        # Whole seconds that were cut off: half of one is the best guess.
        return parsedate_to_datetime(await deployment.broker_date()).timestamp() + 0.5

    return await _compare("RabbitMQ", seconds, resolution_seconds=0.5)


async def _compare(server: str, ask: Callable[[], Awaitable[float]], *, resolution_seconds: float = 0.0) -> Findings:
    before = time.time()
    theirs = await ask()
    after = time.time()
    apart = theirs - (before + after) / 2
    # The answer was made at some moment between the two.
    if abs(apart) <= APART_SECONDS + resolution_seconds + (after - before) / 2:
        return []
    direction = "ahead of" if apart > 0 else "behind"
    return [warning(f"the clock of {server} is {abs(apart):.1f} s {direction} this host's", SYNCHRONISE)]


CHECKS = (
    Check("clock of PostgreSQL", postgres_clock),
    Check("clock of Redis", redis_clock),
    Check("clock of RabbitMQ", broker_clock),
)
