"""Has this stage dealt with this message before?

Messages come at least once; what a buyer sees must come once. A stage writes down what it has dealt with, after it has.
"""

from collections.abc import Collection

from db.named_queries import queries
from db.postgres import Pool

_sql = queries("inbox")


async def find_seen(pool: Pool, *, consumer: str, message_ids: Collection[str]) -> set[str]:
    """Those of the messages that the consumer has dealt with."""
    records = await pool.fetch(_sql.find_seen, consumer, list(message_ids))
    return {record["message_id"] for record in records}


async def record_seen(pool: Pool, *, consumer: str, message_id: str) -> None:
    """The consumer has dealt with this message; saying so twice does no harm."""
    await pool.execute(_sql.record_seen, consumer, message_id)
