"""Which queues are ours to drain, and at which do we stand by?

Every live process ranks every queue by itself, by rendezvous hashing: each process and queue have a weight, the heaviest
process drains the queue, the next one stands by. All come to the same answer without asking each other, and whoever comes
or goes moves only what becomes or was its own. Who is alive is written in leases in PostgreSQL.

Nothing rests on this but who works. Two processes may disagree for a moment and drain one queue; the fence on the event's
record lets them write one after the other, as it does with a frozen process that comes back.
"""

import logging
import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Final
from uuid import UUID, uuid4

from prometheus_client import Gauge

from contracts.settings import Settings
from db.consumer_leases import end_lease, remove_lapsed_leases, renew_lease
from db.postgres import Pool

log = logging.getLogger(__name__)

ACTIVE: Final = 0
STANDBY: Final = 1

# Lapsed leases stay for this many spans of a lease, for an operator to see who is missing.
KEPT_SPANS: Final = 10

MEMBERS = Gauge("boxoffice_consumer_members", "Live processes that share the events among them, as this one sees it")


def rank_of(queue: str, worker_id: UUID, members: Collection[UUID]) -> int:
    """0: it drains the queue; 1: it stands by; more: it leaves the queue alone."""
    mine = _weight(queue, worker_id)
    return sum(_weight(queue, other) > mine for other in members if other != worker_id)


def _weight(queue: str, worker_id: UUID) -> bytes:
    return blake2b(queue.encode(), key=worker_id.bytes, digest_size=16).digest()


class Membership:
    """Our lease, and who else holds one."""

    def __init__(self, settings: Settings, pool: Pool, *, role: str) -> None:
        self.worker_id = uuid4()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.members: frozenset[UUID] = frozenset()
        # Whoever renewed his lease a moment ago. He does so only while the broker hears him.
        self._well: frozenset[UUID] = frozenset()
        self._lease_seconds = settings.lease_seconds
        self.pool = pool
        self._role = role
        self._renewed_at: float | None = None
        self._unsure_until = 0.0
        self._clear_up_at = 0.0
        self._ranks: dict[str, int] = {}

    @property
    def is_alone(self) -> bool:
        """Nobody else could take over what we leave."""
        return len(self.members) <= 1

    async def renew(self) -> None:
        """Say that we live, and see who else does; raises PostgreSQL's errors, and then those we know of stay members."""
        found = await renew_lease(
            self.pool,
            role=self._role,
            worker_id=self.worker_id,
            name=self.name,
            lease_seconds=self._lease_seconds,
        )
        now = time.monotonic()
        if now >= self._clear_up_at:
            kept_seconds = KEPT_SPANS * self._lease_seconds
            await remove_lapsed_leases(self.pool, role=self._role, silent_seconds=kept_seconds)
            self._clear_up_at = now + kept_seconds
        self._see(found, now)

    @property
    def patience_seconds(self) -> float:
        """How long whoever is first is given to take his place, or may be silent and still count as well."""
        return self._lease_seconds / 3

    def is_first_well(self, queue: str) -> bool:
        """Whoever should drain the queue has been heard of just now."""
        return max(self.members, key=lambda worker_id: _weight(queue, worker_id)) in self._well

    async def end(self) -> None:
        """Leave: what was ours is the others' at their next look."""
        await end_lease(self.pool, role=self._role, worker_id=self.worker_id)

    def ranks_of(self, queues: Iterable[str]) -> dict[str, int]:
        """Our rank at each of these; we stand by, too, where all that come before us are silent."""
        known = self._ranks
        self._ranks = {
            queue: known[queue] if queue in known else rank_of(queue, self.worker_id, self.members) for queue in queues
        }
        if self._well == self.members:
            return self._ranks
        return {
            queue: min(rank, STANDBY) if rank_of(queue, self.worker_id, self._well) == ACTIVE else rank
            for queue, rank in self._ranks.items()
        }

    def _see(self, silent_seconds: Mapping[UUID, float], now: float) -> None:
        found = frozenset(silent_seconds)
        self._well = frozenset(one for one, silent in silent_seconds.items() if silent < self.patience_seconds)
        if self._renewed_at is not None and now - self._renewed_at > self._lease_seconds / 2:
            # We were held up, and perhaps all of us were, as when PostgreSQL was away: whoever has not renewed his lease yet
            # gets the time for it, else the first one back would take everything for a moment.
            self._unsure_until = now + self._lease_seconds
        self._renewed_at = now
        members = found | self.members if now < self._unsure_until else found
        if members != self.members:
            log.info(
                "consumers_share_events",
                extra={"worker": self.name, "members": len(members), "members_before": len(self.members)},
            )
            self.members = members
            self._ranks = {}
        MEMBERS.set(len(members))
