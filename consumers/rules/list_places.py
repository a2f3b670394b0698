"""Who stands on the waiting list of an event, as far as a batch has to know?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from contracts.ids import HoldId, SeatId, UserId, WaitingId


@dataclass(slots=True)
class Place:
    """Somebody's place on the list."""

    id: WaitingId
    user_id: UserId
    position: int
    seat_count: int
    section: str
    accessible: bool
    status: str
    hold_id: HoldId | None
    joined_at: datetime
    offered_at: datetime | None = None
    ended_at: datetime | None = None
    is_new: bool = False


@dataclass(slots=True)
class WaitingList:
    """The list, and what this batch makes of it."""

    # How many wait whom nothing has been offered, and the last position that was given out.
    count: int = 0
    serial: int = 0
    # Of those who ask about their own, the place they have.
    places: dict[UserId, Place] = field(default_factory=dict)
    # Free seats by section ("" for all of them) and whether they are places for wheelchairs; where somebody wants to join.
    free_counts: Mapping[tuple[str, bool], int] = field(default_factory=dict)
    # Seats that this batch has freed.
    freed_ids: set[SeatId] = field(default_factory=set)
    changed: dict[WaitingId, Place] = field(default_factory=dict)
    # What became of seats that were offered.
    offers_ended: dict[WaitingId, str] = field(default_factory=dict)

    def place_of(self, user_id: UserId) -> Place | None:
        """The user's place, if it still waits or has been offered seats."""
        place = self.places.get(user_id)
        return place if place is not None and place.status in ("waiting", "offered") else None

    def change(self, place: Place) -> None:
        """What is to be saved of it."""
        self.places[place.user_id] = self.changed[place.id] = place

    def hold_ended(self, waiting_id: WaitingId, *, is_bought: bool) -> None:
        """The seats that were offered are bought, or somebody else's turn."""
        self.offers_ended[waiting_id] = "bought" if is_bought else "lapsed"
        for place in self.places.values():
            if place.id == waiting_id and place.status == "offered":
                place.status = self.offers_ended[waiting_id]
