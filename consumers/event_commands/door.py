"""What do the engine and an event's waiting room tell each other?

Before a seat is touched the room says who of those who want seats may; after the commit it hears whose turn goes on with
their hold and whose is over. Only events in high demand have a room: the others pay nothing for this.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from consumers.circuit_breaker import CircuitBreaker
from consumers.event_commands.timing import step
from consumers.rules.sale import Sale
from contracts.commands import ReserveSeats
from contracts.ids import EventId, UserId
from contracts.settings import Settings
from db.coalescer import CoalescerFull
from db.redis import REDIS_AWAY
from db.waiting_room import WaitingRooms

log = logging.getLogger(__name__)

ROOM_AWAY: tuple[type[Exception], ...] = (*REDIS_AWAY, CoalescerFull)

# Shorter than the lock filter's: there is a way round the filter, but while nobody asks the room its event sells nothing.
BREAKER_SECONDS = 2.0

# A hold in one of these is nobody's any more, and in none of them can it come back to life.
ENDED = frozenset({"released", "expired", "converted"})


class Door:
    """Which events have a waiting room, as far as this process knows, and what passes between it and the engine."""

    def __init__(self, settings: Settings, rooms: WaitingRooms) -> None:
        self.rooms = rooms
        self._breaker = CircuitBreaker(
            name="waiting_room", failures=settings.redis_breaker_failures, open_seconds=BREAKER_SECONDS
        )
        self._in_high_demand: set[EventId] = set()

    def learn(self, event_id: EventId, *, high_demand: bool) -> None:
        """What the event's terms say. Under its fence they are read again each time, so this may be out of date."""
        if high_demand:
            self._in_high_demand.add(event_id)
        else:
            self._in_high_demand.discard(event_id)

    async def who_is_in(self, event_id: EventId, wanting: Sequence[ReserveSeats]) -> dict[UserId, bool] | None:
        """Whether each of those who want seats may have any; of nobody, where the room does not answer.

        None for an event without a room: nobody was asked, and nobody need have been.
        """
        if event_id not in self._in_high_demand or not wanting:
            return None
        if not self._breaker.allows():
            return {}
        user_ids = list({command.user_id for command in wanting})
        try:
            with step("room"):
                admissions = await self.rooms.check(event_id, user_ids)
        except ROOM_AWAY as problem:
            self._failed("check", problem)
            return {}
        self._breaker.succeeded()
        if not admissions.is_known:
            log.error("room_unknown", extra={"eventId": str(event_id), "phase": admissions.phase})
            return {}
        return dict(zip(user_ids, admissions.passes, strict=True))

    async def tell(self, event_id: EventId, sales: Iterable[Sale]) -> None:
        """After the commit: turns last as long as the holds made in them, and are over when the last hold is.

        Best effort. What the room does not hear costs it time: a lease ends by itself, and until then nobody else has it.
        """
        turns = turns_after(sales)
        if not turns or not self._breaker.allows():
            return
        try:
            with step("room_told"):
                await asyncio.gather(*(self._tell_of(event_id, user_id, until) for user_id, until in turns.items()))
        except ROOM_AWAY as problem:
            self._failed("tell", problem)
        else:
            self._breaker.succeeded()

    async def close(self) -> None:
        """Disconnect."""
        await self.rooms.close()

    async def _tell_of(self, event_id: EventId, user_id: UserId, held_until: datetime | None) -> None:
        if held_until is None:
            await self.rooms.release(event_id, user_id)
        else:
            await self.rooms.extend_lease(event_id, user_id, int(held_until.timestamp() * 1000))

    def _failed(self, operation: str, problem: BaseException) -> None:
        self._breaker.failed()
        log.error("room_away", extra={"operation": operation, "error": repr(problem)})


def those_let_in(
    reservations: Sequence[ReserveSeats], admitted: Mapping[UserId, bool] | None
) -> Sequence[ReserveSeats]:
    """The reservations for which seats are looked for at all: everybody's, unless there is a waiting room."""
    if admitted is None:
        return reservations
    return [command for command in reservations if admitted.get(command.user_id)]


def turns_after(sales: Iterable[Sale]) -> dict[UserId, datetime | None]:
    """Of each user whose holds these transactions changed: until when their latest one lasts, or None where their turn is
    over, because they bought or gave up and have nothing left. A hold that is being paid for is something left."""
    turns: dict[UserId, datetime | None] = {}
    for sale in sales:
        if not sale.terms.high_demand:
            continue
        # Whoever is given their money back long after their turn may be having another one.
        taken_back = {order.hold_id for order in sale.unsold_orders}
        for hold in sale.changed_holds.values():
            if hold.status == "active":
                before = turns.get(hold.user_id)
                turns[hold.user_id] = hold.held_until if before is None else max(before, hold.held_until)
            elif hold.status in ENDED and hold.id not in taken_back and not sale.hold_count_of(hold.user_id):
                turns[hold.user_id] = None
    return turns
