"""Who is still owed money for an event that was cancelled?

Every second the event's engine is asked to give some more orders their money back, as long as the records say that a
cancellation is not finished. Nothing is remembered here that would be missed: a courier that dies is as good as one that
comes a second later, and several do no harm.
"""

import asyncio
import logging
from contextlib import suppress
from uuid import uuid4

from consumers.broker import ConfirmedPublisher, PublishProblem
from consumers.command_sender import CommandSender
from contracts.commands import RefundCancelled
from contracts.ids import CommandId, EventId
from contracts.settings import Settings
from db.cancellations import find_unfinished
from db.failpoints import failpoint
from db.postgres import TRANSIENT_ERRORS, Pool
from db.read_cache import ReadCache

log = logging.getLogger(__name__)

# At two hundred orders for each command this empties a stadium in minutes, and others have most of every second.
ROUND_SECONDS = 1.0
# A calamity that cancels more is worked off in the order it came.
EVENTS_AT_ONCE_MAX = 500


class Courier:
    """Asks for the refunds of cancelled events, round by round."""

    def __init__(self, pool: Pool, sender: CommandSender, read_cache: ReadCache) -> None:
        self._pool = pool
        self._sender = sender
        self._read_cache = read_cache
        self._known: frozenset[EventId] = frozenset()

    async def run_once(self) -> int:
        """Ask once for every unfinished cancellation; returns how many there are."""
        unfinished = await find_unfinished(self._pool, limit=EVENTS_AT_ONCE_MAX)
        if not self._known.issuperset(unfinished):
            # Whoever cancelled may have died before he could see to it that nobody reads "on sale" any longer.
            await self._read_cache.forget_all()
        self._known = frozenset(unfinished)
        for event_id in unfinished:
            try:
                await self._sender.send(RefundCancelled(command_id=CommandId(uuid4()), event_id=event_id))
            except PublishProblem as problem:
                # This event's queue is full; the others' may not be.
                log.warning("refunds_not_asked_for", extra={"event_id": event_id, "reason": str(problem)})
            await failpoint("cancellations.after_asked")
        return len(unfinished)


async def run(settings: Settings, pool: Pool, publisher: ConfirmedPublisher, stopping: asyncio.Event) -> None:
    """Ask until told to stop."""
    read_cache = ReadCache(settings)
    courier = Courier(pool, CommandSender(publisher), read_cache)
    try:
        while not stopping.is_set():
            try:
                await courier.run_once()
            except TRANSIENT_ERRORS as problem:
                log.warning("cancellations_not_looked_at", extra={"reason": repr(problem)})
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), ROUND_SECONDS)
    finally:
        await read_cache.close()
