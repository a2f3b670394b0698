"""Will Redis keep sessions and places, and say so when it is full?"""

from collections.abc import Awaitable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from redis.exceptions import ResponseError

from contracts.settings import PREFIX
from ops.doctor.deployment import Deployment, is_here
from ops.doctor.findings import Check, Findings, Unanswered, note, warning, wrong

VERSION_MIN = 7
FULL_SHARE = 0.8
CLIENTS_MIN = 1000


async def version(deployment: Deployment) -> Findings:
    """Functions of 7 are used by the scripts of the waiting room."""
    server = await _info(deployment, "server")
    number = str(server["redis_version"])
    if int(number.split(".")[0]) >= VERSION_MIN:
        return []
    return [wrong(f"Redis {number} is older than {VERSION_MIN}", f"upgrade to {VERSION_MIN} or later, or Valkey")]


async def persistence(deployment: Deployment) -> Findings:
    """A restart must not log everybody out and empty the waiting rooms."""
    state = await _info(deployment, "persistence")
    if not int(state["aof_enabled"]):
        return [
            wrong(
                "appendonly is no: a restart ends every session and empties every waiting room",
                "CONFIG SET appendonly yes, and the same in redis.conf (ops/redis/redis.conf)",
            )
        ]
    found = []
    if state.get("aof_last_write_status", "ok") != "ok":
        found.append(wrong("the last write to the append-only file failed", "look at Redis' log: is the disk full?"))
    policy = await _configured(deployment, "appendfsync")
    if policy == "no":
        found.append(
            wrong("appendfsync is no: a power cut loses half a minute or more", "CONFIG SET appendfsync everysec")
        )
    elif policy == "always":
        found.append(
            note(
                "appendfsync is always: each batch waits for the disk",
                "everysec is enough; PostgreSQL has the last word",
            )
        )
    return found


async def eviction(deployment: Deployment) -> Findings:
    """A full Redis says so; one that evicts drops sessions and places silently."""
    memory, found = await _info(deployment, "memory"), []
    if memory["maxmemory_policy"] != "noeviction":
        found.append(
            wrong(
                f"maxmemory-policy is {memory['maxmemory_policy']}: when memory is short, sessions and places vanish",
                "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
            )
        )
    if evicted := int((await _info(deployment, "stats"))["evicted_keys"]):
        found.append(
            wrong(
                f"{evicted} keys were evicted since Redis started: people have lost their sessions or places",
                "give Redis more memory; restart the waiting rooms that ran (boxoffice waitingroom verify)",
            )
        )
    return found


async def memory(deployment: Deployment) -> Findings:
    """A bound, and room below it."""
    state = await _info(deployment, "memory")
    used, limit = int(state["used_memory"]), int(state["maxmemory"])
    if not limit:
        return [
            warning("maxmemory is not set: Redis grows until the machine kills something", "CONFIG SET maxmemory 1gb")
        ]
    if used < limit * FULL_SHARE:
        return []
    return [warning(f"Redis uses {used / limit:.0%} of its memory", "raise maxmemory before the next sale")]


async def primary(deployment: Deployment) -> Findings:
    """It takes writes."""
    state = await _info(deployment, "replication")
    if state["role"] == "master":
        return []
    return [wrong("this Redis is a replica: it takes no writes", f"name the primary in {PREFIX}REDIS_URL")]


async def clients(deployment: Deployment) -> Findings:
    """Every process of ours opens some ten connections."""
    most = int((await _info(deployment, "clients"))["maxclients"])
    if most >= CLIENTS_MIN:
        return []
    return [warning(f"Redis takes {most} connections", f"CONFIG SET maxclients {CLIENTS_MIN}, and raise its ulimit -n")]


async def password(deployment: Deployment) -> Findings:
    """Whoever reaches Redis without a password can be anybody and let anybody in."""
    parts = urlsplit(deployment.settings.redis_url)
    if parts.password or is_here(parts.hostname) or not deployment.is_production:
        return []
    await deployment.redis()
    return [
        wrong(
            f"Redis on {parts.hostname} answers without a password",
            f"set requirepass (or an ACL user), and put it into {PREFIX}REDIS_URL",
        )
    ]


async def _info(deployment: Deployment, section: str) -> Mapping[str, Any]:
    client = await deployment.redis()
    return cast(Mapping[str, Any], await client.info(section))


async def _configured(deployment: Deployment, name: str) -> str:
    client = await deployment.redis()
    try:
        told = await cast(Awaitable[dict[Any, Any]], client.config_get(name))
    except ResponseError as refused:
        raise Unanswered(f"CONFIG GET {name}: {refused}", f"look at {name} where this Redis is managed") from refused
    value = next(iter(told.values()))
    return value.decode() if isinstance(value, bytes) else str(value)


CHECKS = (
    Check("Redis version", version),
    Check("Redis persistence", persistence),
    Check("Redis eviction", eviction),
    Check("Redis memory", memory),
    Check("Redis primary", primary),
    Check("Redis clients", clients),
    Check("Redis password", password),
)
