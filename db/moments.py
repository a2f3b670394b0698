"""How is much read as of one moment, while the sale goes on?

In one REPEATABLE READ transaction that locks nothing: READ COMMITTED would show the seats of one moment and the orders of the
next. What is too much for memory comes page by page from a cursor of the server.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from db.named_queries import queries
from db.postgres import Pool, Transaction

_sql = queries("moments")

# Records, some at a time.
Pages: TypeAlias = AsyncGenerator[Sequence[Any], None]

# Between two pages the client reads; whoever serves it gives up on it sooner than this.
READER_SECONDS_MAX = 60
# The first page may have to wait for a sort of everything there is.
STATEMENT_SECONDS_MAX = 30
# Some hundred kilobytes, and some milliseconds of our own loop.
PAGE_RECORDS = 500


@asynccontextmanager
async def one_moment(pool: Pool) -> AsyncIterator[Transaction]:
    """A read-only transaction in which every statement sees the same moment."""
    async with (
        pool.acquire(timeout=5.0) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def be_patient(tx: Transaction) -> None:
    """From here to the end of this transaction a statement may take as long as a large report takes."""
    await tx.execute(_sql.let_the_reader_take_its_time, f"{READER_SECONDS_MAX}s", f"{STATEMENT_SECONDS_MAX}s")


async def read_in_pages(pool: Pool, statement: str, *arguments: Any) -> Pages:
    """The statement's records, some at a time, all as of one moment; never empty pages.

    Close it (`contextlib.aclosing`) when the reader has gone: it has a connection of the pool until then.
    """
    async with one_moment(pool) as tx:
        await be_patient(tx)
        cursor = await tx.cursor(statement, *arguments, timeout=STATEMENT_SECONDS_MAX)
        while page := await cursor.fetch(PAGE_RECORDS, timeout=STATEMENT_SECONDS_MAX):
            yield page
