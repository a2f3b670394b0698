"""What does the engine read and write of prices that are not the usual ones?

Every function is one statement inside the engine's transaction, and none at all where no command names a tier or a code.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from db.named_queries import queries
from db.postgres import Transaction, columns
from db.sale import Records, Row, expect_changed

_sql = queries("prices")


async def find_codes(tx: Transaction, event_id: UUID, codes: Collection[str]) -> Records:
    """These codes, given as they are compared; the unknown are simply not there."""
    return list(await tx.fetch(_sql.find_codes, event_id, list(codes))) if codes else []


async def count_uses(tx: Transaction, event_id: UUID, code_ids: Collection[UUID]) -> dict[UUID, int]:
    """How often each of these codes is used, by whomever; the unused are not there."""
    if not code_ids:
        return {}
    return {r["code_id"]: r["use_count"] for r in await tx.fetch(_sql.count_uses, event_id, list(code_ids))}


async def count_uses_of_users(
    tx: Transaction, event_id: UUID, code_ids: Collection[UUID], user_ids: Collection[UUID]
) -> Records:
    """(code_id, user_id, use_count) of these codes and users; the unused are not there."""
    if not code_ids or not user_ids:
        return []
    return list(await tx.fetch(_sql.count_uses_of_users, event_id, list(code_ids), list(user_ids)))


async def find_tiers(tx: Transaction, event_id: UUID, sections: Collection[str]) -> Records:
    """(section, name, price) of all tiers of these sections."""
    return list(await tx.fetch(_sql.find_tiers, event_id, list(sections))) if sections else []


async def reprice_holds(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Holds as (id, prices, reductions, code_id), prices and reductions as array literals; raises StaleWrite."""
    if rows:
        expect_changed(len(rows), await tx.execute(_sql.reprice_holds, event_id, *columns(rows)), "holds")
