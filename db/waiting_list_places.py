"""What does somebody on a waiting list see of it?"""

from typing import Literal

from pydantic import AwareDatetime, Field

from contracts.ids import EventId, HoldId, UserId, WaitingId
from contracts.value import Value
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("waiting_list_places")


class WaitingListPlace(Value):
    """A place on the waiting list of an event, and what has become of it."""

    id: WaitingId
    event_id: EventId
    event_name: str
    status: Literal["waiting", "offered", "bought", "lapsed", "left"]
    seat_count: int
    section: str = Field(description="empty: any")
    accessible: bool
    joined_at: AwareDatetime
    people_ahead: int | None = Field(
        description="while waiting: whose turn comes before, if the freed seats serve them"
    )
    hold_id: HoldId | None = Field(description="while offered: the hold to check out")
    held_until: AwareDatetime | None = Field(description="while offered: until when the seats are held")


async def find_place(pool: Pool, event_id: EventId, user_id: UserId) -> WaitingListPlace | None:
    """The user's newest place on this event's list."""
    record = await pool.fetchrow(_sql.find_place, event_id, user_id)
    return None if record is None else WaitingListPlace(**record)


async def list_places(pool: Pool, user_id: UserId, *, limit: int) -> list[WaitingListPlace]:
    """The user's places on all lists, the newest first."""
    return [WaitingListPlace(**record) for record in await pool.fetch(_sql.list_places, user_id, limit)]
