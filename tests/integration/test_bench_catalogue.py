"""Is the bench's catalogue written down as a real one would be, ready to be searched?"""

import random
from datetime import UTC, datetime

from db.demo import insert_catalogue
from db.postgres import Pool
from ops.bench.catalogue import make_up


async def test_a_made_up_catalogue_can_be_searched(pool: Pool) -> None:
    catalogue = make_up(random.Random(3), now=datetime.now(UTC), event_count=300, venue_count=50)
    wanted = catalogue.events[0]
    venue = next(venue for venue in catalogue.venues if venue.id == wanted.venue_id)
    async with pool.acquire() as connection:
        attempt = connection.transaction()
        await attempt.start()
        # Taken back in the end: a hundred sales that are on would be opened by whoever tests that.
        try:
            await insert_catalogue(connection, catalogue.venues, catalogue.events)
            ids = [event.id for event in catalogue.events]
            count = await connection.fetchval("SELECT count(*) FROM event_inventory WHERE event_id = ANY($1)", ids)
            found = await connection.fetch(
                "SELECT id FROM events WHERE search_vector @@ plainto_tsquery('simple', searchable($1))",
                f"{wanted.artist} {wanted.name} {venue.name} {venue.city}",
            )
            unknown = await connection.fetchval(
                "SELECT count(*) FROM regexp_split_to_table(searchable($1), ' ') AS word"
                " WHERE word NOT IN (SELECT word FROM search_words)",
                f"{wanted.artist} {venue.name} {venue.city}",
            )
        finally:
            await attempt.rollback()
    assert count == 300
    assert wanted.id in {record["id"] for record in found}
    assert unknown == 0
