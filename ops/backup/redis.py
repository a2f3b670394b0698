"""What is kept of Redis, and why does it come back empty?

The snapshot is kept for whoever wants to look something up in it: sessions, rate limits, a waiting room's last second. A
restore does not load it. Seat locks in it are older than the books, sessions belong to people who have gone, and a waiting
room is filled again from its log in PostgreSQL, in the same order: an empty Redis is right, an old one is not.
"""

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import redis.asyncio
from redis.exceptions import RedisError

from ops.backup.problem import BackupProblem
from ops.backup.programs import redis_client, run

SNAPSHOT = "redis.rdb"


def snapshot(redis_url: str, folder: Path) -> Path:
    """Write all that Redis knows to a file: it forks, and sends it as it would to a replica. Raises BackupProblem."""
    path = folder / SNAPSHOT
    words, environment = _reach(redis_url)
    run([redis_client("redis-cli"), *words, "--rdb", str(path)], environment)
    if not path.exists():
        raise BackupProblem("redis-cli wrote no snapshot")
    return path


def check_snapshot(path: Path) -> None:
    """Read all of it; raises BackupProblem. Without redis-check-rdb only its beginning and its end are looked at."""
    if shutil.which("redis-check-rdb"):
        run(["redis-check-rdb", str(path)], {})
        return
    with path.open("rb") as file:
        if file.read(5) != b"REDIS":
            raise BackupProblem(f"{path.name} is no snapshot of Redis")


async def describe(redis_url: str) -> str:
    """The server's version; raises BackupProblem when there is none."""
    try:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            return str((await client.info("server"))["redis_version"])
    except (RedisError, OSError) as problem:
        raise BackupProblem(f"Redis cannot be reached: {problem}") from problem


async def count_keys(redis_url: str) -> int:
    """How much it knows; raises BackupProblem when there is no Redis."""
    try:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            return int(await client.dbsize())
    except (RedisError, OSError) as problem:
        raise BackupProblem(f"Redis cannot be reached: {problem}") from problem


async def forget_everything(redis_url: str) -> None:
    """Our database of it is empty; others that it may have are left alone."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushdb()


def _reach(url: str) -> tuple[list[str], dict[str, str]]:
    """The words and variables by which redis-cli finds it. The password is not among the words: anybody may read those."""
    parts = urlsplit(url)
    words = ["-h", parts.hostname or "127.0.0.1", "-p", str(parts.port or 6379)]
    if parts.scheme == "rediss":
        words.append("--tls")
    if parts.username:
        words += ["--user", unquote(parts.username)]
    return words, {"REDISCLI_AUTH": unquote(parts.password)} if parts.password else {}
