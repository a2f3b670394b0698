"""What did each check find?"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import asyncpg
from aiormq.exceptions import AMQPError
from redis.exceptions import RedisError

from ops.doctor import clocks, configuration, far_ends, host, postgres, rabbitmq, redis
from ops.doctor.deployment import Deployment, said
from ops.doctor.findings import Check, Finding, Level, Unanswered

CHECKS: tuple[Check, ...] = (
    *configuration.CHECKS,
    *host.CHECKS,
    *postgres.CHECKS,
    *redis.CHECKS,
    *rabbitmq.CHECKS,
    *clocks.CHECKS,
    *far_ends.CHECKS,
)

# What a server's client raises when the server goes away, or refuses a question, in the middle of it.
_SERVER_REFUSES = (asyncpg.PostgresError, asyncpg.InterfaceError, RedisError, AMQPError, aiohttp.ClientError, OSError)

ALL_WELL, SOMETHING_WRONG, COULD_NOT_ASK = 0, 1, 2


@dataclass(frozen=True)
class Result:
    """Of one check. No findings: all is well."""

    check: Check
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def level(self) -> Level:
        """That of its worst finding; what could not be asked is neither good nor bad."""
        found = {finding.level for finding in self.findings}
        return next(
            (level for level in (Level.WRONG, Level.UNKNOWN, Level.WARNING, Level.NOTE) if level in found), Level.FINE
        )


async def examine(deployment: Deployment, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Every check, one after the other: each takes milliseconds, or its server is away."""
    return [await _ask(check, deployment) for check in checks]


def exit_code(results: Sequence[Result]) -> int:
    """1: something is wrong; 2: nothing is known to be, but not everything could be asked; 0 otherwise."""
    levels = {finding.level for result in results for finding in result.findings}
    if Level.WRONG in levels:
        return SOMETHING_WRONG
    return COULD_NOT_ASK if Level.UNKNOWN in levels else ALL_WELL


async def _ask(check: Check, deployment: Deployment) -> Result:
    begun_at = time.monotonic()
    try:
        async with asyncio.timeout(check.timeout_seconds):
            findings = await check.ask(deployment)
    except Unanswered as unanswered:
        findings = [Finding(Level.UNKNOWN, str(unanswered), unanswered.what_to_do)]
    except TimeoutError:
        findings = [
            Finding(Level.UNKNOWN, f"no answer within {check.timeout_seconds:g} s", "ask again when it is less busy")
        ]
    except _SERVER_REFUSES as refused:
        findings = [Finding(Level.UNKNOWN, said(refused), "look into the server's log, then ask again")]
    return Result(check, tuple(findings), time.monotonic() - begun_at)
