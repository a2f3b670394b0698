"""Which indexes and constraints does a database have?"""

from collections.abc import Mapping
from typing import Any

from db.named_queries import queries

_sql = queries("schema")

# Kind → name → definition.
Schema = Mapping[str, Mapping[str, str]]


async def read_schema(connection: Any) -> Schema:
    """Its indexes and its constraints, as PostgreSQL writes them."""
    return {
        "indexes": {record["name"]: record["definition"] for record in await connection.fetch(_sql.list_indexes)},
        "constraints": {
            record["name"]: record["definition"] for record in await connection.fetch(_sql.list_constraints)
        },
    }


async def find_invalid_indexes(connection: Any) -> list[str]:
    """Those whose making was interrupted: they cost writes, and answer nothing."""
    return [record["name"] for record in await connection.fetch(_sql.list_invalid_indexes)]


async def find_unproven_constraints(connection: Any) -> list[str]:
    """Those that hold for new records only: nobody has looked at the old ones."""
    return [record["name"] for record in await connection.fetch(_sql.list_unproven_constraints)]
