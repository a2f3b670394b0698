"""In what order are those served who came before the start, so that it can be proved afterwards?

The steps in the order in which each must be safe before the next: the cohort frozen, copied to PostgreSQL, its root recorded
there and published in the log; the beacon heard and recorded with the secret; the order computed, written and swapped in. A
process may die at any of them. The next one begins again and finds what was recorded: the same cohort, the same root, the
same beacon, and so the same order.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from consumers.waiting_rooms.beacon_voice import BeaconVoice
from contracts.draw import Demotion, Entrant, cohort_tree, draw_seed, drawn_order
from contracts.ids import EventId
from contracts.waiting_room import LogKind, PlaceId
from contracts.waiting_room_proof import FrozenCohort, Revelation
from db.failpoints import failpoint
from db.postgres import Pool
from db.waiting_room import DRAWN_PER_CALL, CohortEntry, DrawStep, Sealing, WaitingRooms
from db.waiting_room_records import RoomRecord, record_frozen, record_revelation

log = logging.getLogger(__name__)


class DrawBroken(Exception):
    """A step did not go through, usually because another process draws now; whoever still leads begins again."""


class DrawContradicted(Exception):
    """The cohort is not the one that was recorded, so no honest draw is possible: somebody has to look at it."""


@dataclass(frozen=True)
class Cohort:
    """Who is in the draw."""

    entrants: tuple[Entrant, ...]
    demotions: tuple[Demotion, ...]
    place_of: dict[int, PlaceId]  # by the ticket of the door


class Draw:
    """One room's draw. `copy_log` copies the log up to now; `now_ms` is the database's clock."""

    def __init__(
        self,
        pool: Pool,
        rooms: WaitingRooms,
        beacon: BeaconVoice,
        *,
        copy_log: Callable[[], Awaitable[object]],
        now_ms: Callable[[], int],
        page_size: int = DRAWN_PER_CALL,
    ) -> None:
        self._pool, self._rooms, self._beacon = pool, rooms, beacon
        self._copy_log = copy_log
        self._now_ms = now_ms
        self._page_size = page_size

    async def hold(self, record: RoomRecord, why: str) -> None:
        """The whole draw; returns when the room is open. Raises DrawBroken, DrawContradicted, and what servers raise."""
        event_id = record.event_id
        attempt, cohort = await gather_cohort(self._rooms, event_id, why)
        frozen = await self._freeze(event_id, attempt, cohort)
        revelation = await self._reveal(record)
        seed = draw_seed(
            server_secret=bytes.fromhex(revelation.secret),
            beacon_randomness=bytes.fromhex(revelation.beacon.randomness),
            merkle_root=bytes.fromhex(frozen.merkle_root),
        )
        places = await asyncio.to_thread(places_in_order, seed, cohort)
        round_number = revelation.beacon.round
        await swap_in(
            self._rooms, event_id, attempt, places, seed=seed, beacon_round=round_number, page_size=self._page_size
        )
        told = {"cohort_size": frozen.cohort_size, "attempt": attempt, "demoted_count": len(frozen.demotions)}
        log.info("waiting_room_drawn", extra={"event_id": event_id, **told})

    async def _freeze(self, event_id: EventId, attempt: int, cohort: Cohort) -> FrozenCohort:
        """Who is in the draw, recorded and published."""
        # First the copy: a root whose cohort was lost with Redis could never be drawn from.
        await self._copy_log()
        tree = await asyncio.to_thread(cohort_tree, event_id, cohort.entrants, cohort.demotions)
        found = FrozenCohort(
            event_id=event_id,
            cohort_size=len(cohort.entrants),
            demotions=cohort.demotions,
            merkle_root=tree.root.hex(),
        )
        recorded = await record_frozen(self._pool, event_id, found)
        if recorded != found:
            raise DrawContradicted(f"root {recorded.merkle_root} was recorded, and the cohort has {found.merkle_root}")
        # Once is enough, and a second time would be after the beacon has spoken.
        if (await self._rooms.facts(event_id)).get("root") != found.merkle_root:
            expect_ok(await self._rooms.record_root(event_id, attempt, found.merkle_root), "the root")
        await failpoint("draw.frozen")
        return recorded

    async def _reveal(self, record: RoomRecord) -> Revelation:
        """The secret, and what the beacon said. Recorded before it is used: our own dice fall the same way once only."""
        if record.revelation is not None:
            return record.revelation
        if record.announcement is None or record.server_secret is None:
            raise DrawContradicted("nothing was announced of this draw")
        announced = record.announcement
        said = await self._beacon.hear(announced.beacon_source, announced.beacon_round, now_ms=self._now_ms)
        revelation = Revelation(secret=record.server_secret.hex(), beacon=said)
        recorded = await record_revelation(self._pool, record.event_id, revelation)
        await failpoint("draw.revealed")
        return recorded


async def gather_cohort(rooms: WaitingRooms, event_id: EventId, why: str) -> tuple[int, Cohort]:
    """Freeze the cohort and read who is in it; the number of this attempt with it. Raises DrawBroken."""
    sealing = await rooms.begin_seal(event_id, why)
    if not isinstance(sealing, Sealing):
        raise DrawBroken(f"the cohort could not be frozen: {sealing}")
    entries: list[CohortEntry] = []
    after: int | None = -1
    while after is not None:
        page = await rooms.read_cohort(event_id, after=after)
        entries += page.entries
        after = page.next_after
    # A million of them take a second, and people wait for this process meanwhile.
    return sealing.attempt, await asyncio.to_thread(_cohort_of, entries)


def places_in_order(seed: bytes, cohort: Cohort) -> list[PlaceId]:
    """The cohort's places as they were drawn, the first one first."""
    order = drawn_order(seed, cohort.entrants, [demotion.ticket for demotion in cohort.demotions])
    return [cohort.place_of[ticket] for ticket in order]


async def swap_in(
    rooms: WaitingRooms,
    event_id: EventId,
    attempt: int,
    places: Sequence[PlaceId],
    *,
    seed: bytes,
    beacon_round: int,
    page_size: int = DRAWN_PER_CALL,
) -> None:
    """Write the drawn order down, page by page, and open the room with it. Raises DrawBroken."""
    for start in range(0, len(places), page_size):
        page = places[start : start + page_size]
        step = await rooms.write_drawn(event_id, attempt, first_ticket=start + 1, place_ids=page)
        expect_ok(step, f"the page from ticket {start + 1}")
        await failpoint("draw.page_written")
    step = await rooms.finish_seal(event_id, attempt, seed=seed.hex(), beacon_round=beacon_round)
    expect_ok(step, "the drawn order was not swapped in")


def expect_ok(step: DrawStep, what: str) -> None:
    """Raises DrawBroken for a step that did not go through."""
    if step is not DrawStep.OK:
        raise DrawBroken(f"{what}: {step}")


def _cohort_of(entries: Sequence[CohortEntry]) -> Cohort:
    joined = [entry for entry in entries if entry.kind is LogKind.JOINED]
    return Cohort(
        entrants=tuple(Entrant(entry.ticket, entry.commitment) for entry in joined),
        demotions=tuple(sorted({Demotion(e.ticket, e.rule) for e in entries if e.kind is LogKind.DEMOTED})),
        place_of={entry.ticket: entry.place_id for entry in joined},
    )
