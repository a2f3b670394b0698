"""Does a database have every index and every constraint that the migrations make?

`schema.json` lists those of a database that was just migrated; a test makes one and compares. An index that is missing makes
a sale slow; a unique index or a CHECK that is missing takes away one of its guards.

    python -m ops.doctor.schema POSTGRES_URL      writes the list anew, from a database that was just migrated
"""

import asyncio
import json
import sys
from importlib import resources
from pathlib import Path
from typing import cast

import asyncpg

from db.schema import Schema, read_schema

LIST = "schema.json"


def expected_schema() -> Schema:
    """The list in the repository: kind → name → definition."""
    text = resources.files("ops.doctor").joinpath(LIST).read_text(encoding="utf-8")
    return cast(Schema, json.loads(text))


def as_written(schema: Schema) -> str:
    """The list as it stands in the repository."""
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


async def _write(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url, timeout=10)
    try:
        text = as_written(await read_schema(connection))
    finally:
        await connection.close(timeout=5)
    (Path(__file__).parent / LIST).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(_write(sys.argv[1]))
