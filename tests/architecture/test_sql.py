"""Does PostgreSQL understand every statement we have, on the schema we have?"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.settings import Settings
from db.migrate import migrate, migrations
from db.named_queries import queries

SQL_FILES = sorted((Path(__file__).parents[2] / "db" / "sql").glob("*.sql"))
STATEMENTS = [(file.stem, name) for file in SQL_FILES for name in vars(queries(file.stem))]


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Any]:
    """A connection to the migrated database."""
    opened = await asyncpg.connect(settings.postgres_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize(("noun", "name"), STATEMENTS, ids=[f"{noun}.{name}" for noun, name in STATEMENTS])
async def test_postgres_understands(connection: Any, noun: str, name: str) -> None:
    await connection.prepare(getattr(queries(noun), name))


async def test_a_statement_that_names_what_is_not_there_is_not_understood(connection: Any) -> None:
    # Without this, the tests above would also pass if preparing checked nothing.
    with pytest.raises(asyncpg.UndefinedColumnError):
        await connection.prepare("SELECT held_by_session FROM seats WHERE event_id = $1")


@pytest.mark.parametrize("file", SQL_FILES, ids=lambda file: file.stem)
def test_no_name_is_given_twice_in_a_file(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count("-- name:") == len(vars(queries(file.stem))), "the second of that name replaces the first"


def test_every_statement_ends() -> None:
    unended = [f"{noun}.{name}" for noun, name in STATEMENTS if not getattr(queries(noun), name).endswith(";")]
    assert unended == []


async def test_the_schema_is_up_to_date_and_migrating_again_does_nothing(settings: Settings) -> None:
    assert await migrate(settings.postgres_url) == []


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [int(migration.name.split("_")[0]) for migration in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
