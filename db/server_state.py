"""How is this PostgreSQL set up, and what has been done to our database?"""

from collections.abc import Mapping
from typing import Any

from db.named_queries import queries

_sql = queries("server_state")


async def read_setting(connection: Any, name: str) -> str:
    """A setting as PostgreSQL prints it, as this session sees it."""
    return str(await connection.fetchval(_sql.read_setting, name))


async def read_milliseconds(connection: Any, name: str) -> str:
    """A timeout, in milliseconds."""
    return str(await connection.fetchval(_sql.read_milliseconds, name))


async def is_standby(connection: Any) -> bool:
    """It follows another, and takes no writes."""
    return bool(await connection.fetchval(_sql.is_standby))


async def are_we_superuser(connection: Any) -> bool:
    """Our user may do everything on this server."""
    return bool(await connection.fetchval(_sql.are_we_superuser))


async def connections_taken_at_most(connection: Any) -> int:
    """How many of ours PostgreSQL takes: the least of what the server, our role and our database allow."""
    limits = await connection.fetchrow(_sql.connection_limits)
    return min(int(limit) for limit in limits.values() if limit >= 0)


async def find_applied(connection: Any) -> Mapping[str, str] | None:
    """The migrations that were applied, with their checksums; None: the database is empty."""
    if await connection.fetchval(_sql.is_empty):
        return None
    return {record["name"]: record["checksum"] for record in await connection.fetch(_sql.list_applied)}


async def read_clock(connection: Any) -> float:
    """Its clock, in seconds since 1970."""
    return float(await connection.fetchval(_sql.read_clock))
