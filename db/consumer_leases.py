"""Which consumer processes are alive that share events with each other?

Each renews its lease while it lives; a lease that was not renewed for so long has lapsed, by the database's clock. This says
who begins with what, never who may write: the fence does.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.named_queries import queries
from db.postgres import Pool

_sql = queries("consumer_leases")


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One process: `name` is its host and process id, as the management UI shows it."""

    worker_id: UUID
    name: str
    started_at: datetime
    silent_seconds: float


async def renew_lease(pool: Pool, *, role: str, worker_id: UUID, name: str, lease_seconds: float) -> dict[UUID, float]:
    """Say that we are alive; returns who is, we among them, and for how many seconds each has been silent."""
    records = await pool.fetch(_sql.renew_lease, role, worker_id, name, float(lease_seconds))
    return {record["worker_id"]: record["silent_seconds"] for record in records}


async def end_lease(pool: Pool, *, role: str, worker_id: UUID) -> None:
    """We are leaving: the others need not wait until it lapses."""
    await pool.execute(_sql.end_lease, role, worker_id)


async def remove_lapsed_leases(pool: Pool, *, role: str, silent_seconds: float) -> None:
    """Forget those that have been silent for this long."""
    await pool.execute(_sql.remove_lapsed_leases, role, float(silent_seconds))


async def list_leases(pool: Pool, *, role: str) -> list[Lease]:
    """Every lease of that role, lapsed or not."""
    return [Lease(**record) for record in await pool.fetch(_sql.list_leases, role)]
