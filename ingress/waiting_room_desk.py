"""What does a process keep at hand for all who ask about waiting rooms?"""

from dataclasses import dataclass
from typing import Self

from redis.asyncio import Redis

from contracts.settings import Settings
from db.postgres import Pool
from db.waiting_room import WaitingRooms
from db.waiting_room_observations import WaitingRoomObservations
from ingress.proof_of_work import Challenges
from ingress.waiting_room_conduct import Conduct
from ingress.waiting_room_positions import RoomPositions
from ingress.waiting_room_snapshots import RoomSnapshots
from ingress.waiting_room_stream import HeadStreams
from ingress.waiting_room_tokens import RoomTokens


@dataclass(frozen=True)
class RoomDesk:
    """The rooms themselves, and what this process knows, signs and remembers of them."""

    rooms: WaitingRooms
    snapshots: RoomSnapshots
    tokens: RoomTokens
    positions: RoomPositions
    streams: HeadStreams
    challenges: Challenges
    conduct: Conduct

    @classmethod
    def open(cls, settings: Settings, pool: Pool, redis: Redis) -> Self:
        """Connects when it is first asked."""
        rooms, observations = WaitingRooms(settings), WaitingRoomObservations(redis)
        snapshots = RoomSnapshots(pool, rooms, observations)
        positions = RoomPositions(settings, rooms, snapshots, observations)
        return cls(
            rooms=rooms,
            snapshots=snapshots,
            tokens=RoomTokens(settings),
            positions=positions,
            streams=HeadStreams(snapshots, positions, heartbeat_seconds=settings.stream_heartbeat_seconds),
            challenges=Challenges(settings),
            conduct=Conduct(pool, redis, rooms, snapshots),
        )

    async def close(self) -> None:
        """Give the connections up."""
        await self.streams.close()
        await self.rooms.close()
