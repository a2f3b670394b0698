"""Which solutions of a room's challenge have been used, and how many people have come from one network lately?

Both are forgotten by themselves. The keys have the room's hash tag; networks are kept for minutes, and never with a name.
"""

from collections.abc import Mapping
from typing import NamedTuple

from redis.asyncio import Redis

from contracts.ids import EventId

BURST_SECONDS = 10
LATELY_SECONDS = 600


class Arrivals(NamedTuple):
    """How many people joined a room from one network in the current ten seconds, and in the current ten minutes."""

    in_burst: int
    lately: int


async def spend(redis: Redis, event_id: EventId, nonce: str, *, seconds: int) -> bool:
    """Use a solution up; False when it has been used before. It is remembered for as long as it could be used again."""
    return bool(await redis.set(_key(event_id, "solved", nonce), b"", nx=True, ex=max(1, seconds)))


async def count_arrivals(redis: Redis, event_id: EventId, joined: Mapping[str, int]) -> dict[str, Arrivals]:
    """Add so many people to each network; how many there have been, these included."""
    spans = (BURST_SECONDS, LATELY_SECONDS)
    async with redis.pipeline(transaction=False) as pipeline:
        for network, count in joined.items():
            for seconds in spans:
                key = _key(event_id, f"from{seconds}", network)
                pipeline.incrby(key, count)
                pipeline.expire(key, seconds, nx=True)
        answers = await pipeline.execute()
    counts = answers[::2]
    return {network: Arrivals(*counts[2 * place : 2 * place + 2]) for place, network in enumerate(joined)}


async def find_arrivals(redis: Redis, event_id: EventId, network: str) -> int:
    """How many people have joined from there in the current ten minutes."""
    return int(await redis.get(_key(event_id, f"from{LATELY_SECONDS}", network)) or 0)


def _key(event_id: EventId, name: str, of: str) -> str:
    return f"wr:{{{event_id}}}:{name}:{of}"
