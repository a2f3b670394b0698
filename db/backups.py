"""What is in this database, may it be replaced, and has it come back from a backup that nobody has reconciled yet?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from db.named_queries import queries
from db.postgres import Pool, Transaction

_sql = queries("backups")


@dataclass(frozen=True)
class DatabaseFacts:
    """The server and the database behind a connection, by its own clock."""

    version: str
    major: int
    database: str
    bytes: int
    now: datetime


async def describe(connection: Transaction) -> DatabaseFacts:
    """What we are connected to."""
    return DatabaseFacts(**await connection.fetchrow(_sql.describe))


async def export_snapshot(tx: Transaction) -> str:
    """The name by which another session sees exactly what this transaction sees, as long as it lasts."""
    return str(await tx.fetchval(_sql.export_snapshot))


async def analyze(connection: Transaction) -> None:
    """Have the planner look at every table."""
    await connection.execute("ANALYZE")


async def count_records(connection: Transaction) -> dict[str, int]:
    """How many records the tables hold that people ask about; reads them whole."""
    return dict(await connection.fetchrow(_sql.count_records))


async def list_migrations(connection: Transaction) -> dict[str, str]:
    """The migrations applied, with the checksums of their files."""
    return {record["name"]: record["checksum"] for record in await connection.fetch(_sql.list_migrations)}


async def is_empty(connection: Transaction) -> bool:
    """Nobody would miss what is in here: there are no tables, or nothing in them."""
    for record in await connection.fetch(_sql.find_tables):
        if await connection.fetchval(f"SELECT true FROM public.{record[0]} LIMIT 1"):  # noqa: S608 -- quoted by PostgreSQL
            return False
    return True


async def find_other_sessions(connection: Transaction) -> list[str]:
    """Processes of ours that are connected, by the names they give themselves."""
    return [record[0] for record in await connection.fetch(_sql.find_other_sessions)]


async def wipe(connection: Transaction) -> None:
    """Everything in our schema is gone."""
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


async def record_restore(connection: Transaction, snapshot_at: datetime) -> None:
    """These books end at `snapshot_at`; nobody has compared them with the provider's since."""
    await connection.execute(_sql.record_restore, snapshot_at)


async def find_open_restore(pool: Pool) -> datetime | None:
    """When the books end that came back and were not reconciled; None when there is nothing to reconcile."""
    found: datetime | None = await pool.fetchval(_sql.find_open_restore)
    return found


async def close_restores(pool: Pool) -> None:
    """Our books have been compared with the provider's since the restore."""
    await pool.execute(_sql.close_restores)


async def count_unfinished(pool: Pool, to_be_refunded: Sequence[UUID] = ()) -> int:
    """Orders, payments, refunds and messages that are under way; and those of these orders of which no refund has begun."""
    return int(await pool.fetchval(_sql.count_unfinished, list(to_be_refunded)))


async def list_rooms(pool: Pool) -> list[UUID]:
    """Events whose waiting rooms are to be filled again from their logs."""
    return [record[0] for record in await pool.fetch(_sql.list_rooms)]


async def connect_plainly(
    postgres_url: str, *, application_name: str, settings: Mapping[str, str] | None = None
) -> Transaction:
    """One connection without the bounds of the shop's own sessions: a dump may take longer than a statement of a sale."""
    wanted = {
        "application_name": application_name,
        "idle_in_transaction_session_timeout": "0",
        "statement_timeout": "0",
    }
    return await asyncpg.connect(postgres_url, timeout=10, server_settings={**wanted, **(settings or {})})
