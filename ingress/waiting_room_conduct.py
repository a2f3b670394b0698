"""Does somebody who joins look like one of a crowd of accounts in one hand?

Two rules, published by name. Nobody is ever put out for them: they make a challenge dearer, operators see them in the log,
and in rooms where the operator has switched it on, they put somebody behind all others in the draw, which the room's public
log then says, with the rule's name. People of one campus or one provider share an address, and somebody must have made an
account yesterday: that is why it is the operator's decision, and off at first.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Final, NamedTuple

from redis.asyncio import Redis

from contracts.ids import EventId, UserId
from contracts.waiting_room import Phase, PlaceId
from db.challenges import Arrivals, count_arrivals, find_arrivals
from db.postgres import TRANSIENT_ERRORS, Pool
from db.users import find_made_after, find_user
from db.waiting_room import ROOM_AWAY, WaitingRooms
from db.waiting_room_records import DemotionMode
from ingress.waiting_room_snapshots import KnownRoom, RoomSnapshots

log = logging.getLogger(__name__)

AWAY: Final[tuple[type[BaseException], ...]] = (*ROOM_AWAY, *TRANSIENT_ERRORS)

GATHERED_SECONDS: Final = 1.0
# More people than this do not press the button of one household within ten seconds.
BURST_MAX: Final = 20

RISK_MAX: Final = 20.0
RISK_OF_A_NEW_ACCOUNT: Final = 4.0
YOUNG: Final = timedelta(days=1)
# Each so many arrivals from one network make a challenge that much dearer again.
ARRIVALS_PER_RISK: Final = 20


class ConductRule(StrEnum):
    """Why somebody may be drawn behind all others. The names are published: do not change what they mean."""

    MANY_FROM_ONE_NETWORK = "many_from_one_network"  # more than 20 joins of one /24 or /56 within ten seconds
    ACCOUNT_AFTER_ANNOUNCEMENT = "account_after_announcement"  # made after the draw was announced


class Arrival(NamedTuple):
    """Somebody has just joined."""

    place_id: PlaceId
    user_id: UserId
    network: str


class Conduct:
    """Watches the doors of all rooms, a second at a time."""

    def __init__(self, pool: Pool, redis: Redis, rooms: WaitingRooms, snapshots: RoomSnapshots) -> None:
        self._pool = pool
        self._redis = redis
        self._rooms = rooms
        self._snapshots = snapshots
        self._arrived: defaultdict[EventId, list[Arrival]] = defaultdict(list)
        self._watching: asyncio.Task[None] | None = None

    async def risk(self, event_id: EventId, user_id: UserId, network: str, *, now_ms: int) -> float:
        """How many times the usual a challenge is to cost, from 1 to 20."""
        lately, user = await asyncio.gather(
            find_arrivals(self._redis, event_id, network), find_user(self._pool, user_id)
        )
        is_young = user is None or user.created_at.timestamp() * 1000 > now_ms - 1000 * YOUNG.total_seconds()
        risk = (RISK_OF_A_NEW_ACCOUNT if is_young else 1.0) * (1 + lately // ARRIVALS_PER_RISK)
        return min(RISK_MAX, risk)

    def note(self, event_id: EventId, arrival: Arrival) -> None:
        """Somebody has joined; what there is to say about it is said within a second or two."""
        self._arrived[event_id].append(arrival)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch_until_quiet(), name="conduct")

    async def _watch_until_quiet(self) -> None:
        try:
            while self._arrived:
                await asyncio.sleep(GATHERED_SECONDS)
                arrived, self._arrived = self._arrived, defaultdict(list)
                for event_id, arrivals in arrived.items():
                    await self._look(event_id, arrivals)
        finally:
            self._watching = None

    async def _look(self, event_id: EventId, arrivals: Sequence[Arrival]) -> None:
        try:
            room = await self._snapshots.find(event_id)
            counts = await count_arrivals(self._redis, event_id, Counter(one.network for one in arrivals))
            if room is not None and room.record is not None:
                await self._act(event_id, room, await self._found(room, arrivals, counts))
        except AWAY as reason:
            log.warning("conduct_not_watched", extra={"eventId": str(event_id), "error": repr(reason)})

    async def _found(
        self, room: KnownRoom, arrivals: Sequence[Arrival], counts: dict[str, Arrivals]
    ) -> dict[ConductRule, list[PlaceId]]:
        found = {
            ConductRule.MANY_FROM_ONE_NETWORK: [
                one.place_id for one in arrivals if counts[one.network].in_burst > BURST_MAX
            ]
        }
        record = room.record
        if record is not None and record.is_scheduled:
            late = await find_made_after(self._pool, [one.user_id for one in arrivals], record.announced_at)
            found[ConductRule.ACCOUNT_AFTER_ANNOUNCEMENT] = [one.place_id for one in arrivals if one.user_id in late]
        return {rule: places for rule, places in found.items() if places}

    async def _act(self, event_id: EventId, room: KnownRoom, found: Mapping[ConductRule, list[PlaceId]]) -> None:
        is_on = (
            room.record is not None and room.record.demotion is DemotionMode.DEMOTE and room.snapshot.phase is Phase.PRE
        )
        done = set[PlaceId]()
        for rule, places in found.items():
            # Behind all others is behind all others: the first rule that somebody met is the one the log names.
            to_demote = [place for place in places if is_on and place not in done]
            demoted = await self._rooms.demote(event_id, rule.value, to_demote) if to_demote else 0
            done.update(to_demote)
            about = {"eventId": str(event_id), "rule": rule.value, "count": len(places), "demoted": demoted}
            log.info("conduct_observed", extra=about)


def network_of(address: str) -> str:
    """The /24 of an IPv4 address; an IPv6 client is counted by its /56 as it is."""
    if ":" in address or address.count(".") != 3:
        return address
    return str(IPv4Network(f"{address}/24", strict=False))
