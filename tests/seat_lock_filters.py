"""What may the filter before the database be, other than right?"""

from collections.abc import Sequence
from uuid import UUID

from db.seat_locks import WantedSeats


class NoFilter:
    """Redis, saying yes to everybody: no guard may lean on it."""

    async def take(self, _event_id: UUID, wanted: Sequence[WantedSeats]) -> list[UUID | None]:
        return [None] * len(wanted)

    async def settle(self, *_: object) -> None: ...

    async def close(self) -> None: ...


class LyingFilter(NoFilter):
    """Redis, full of locks that nobody holds."""

    async def take(self, _event_id: UUID, wanted: Sequence[WantedSeats]) -> list[UUID | None]:
        return [one.seat_ids[0] for one in wanted]
