"""Which seats does an event have, and which of them can be had now?"""

import json
from itertools import groupby
from typing import Any

from contracts.ids import EventId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("seat_lists")


async def read_seat_list(pool: Pool, event_id: EventId) -> bytes | None:
    """The whole map as JSON, sections and rows in map order; None when there is no such event."""
    records = await pool.fetch(_sql.list_seats, event_id)
    if not records:
        return None
    sections = [
        {"name": name, "rows": [_row(row, list(seats)) for row, seats in groupby(of_section, key=lambda r: r["row"])]}
        for name, of_section in groupby(records, key=lambda r: r["section"])
    ]
    available_count = sum(record["status"] == "available" for record in records)
    whole = {"eventId": str(event_id), "sections": sections, "availableCount": available_count}
    return json.dumps(whole, separators=(",", ":")).encode()


def _row(name: str, records: list[Any]) -> dict[str, Any]:
    return {
        "row": name,
        "seats": [
            {
                "id": str(record["id"]),
                "seatIndex": record["seat_index"],
                "number": record["seat_number"],
                "price": str(record["price"]),
                "status": record["status"],
            }
            for record in records
        ],
    }
