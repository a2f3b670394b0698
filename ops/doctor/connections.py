"""How many connections to PostgreSQL do our processes open at most?

A test compares this table with the pools in the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.settings import Settings

INGRESS = "ingress"
# /health and /ready ask on a connection of their own, in every process: a pool that is used up must not look like a server
# that is away.
FOR_HEALTH = 1


@dataclass(frozen=True)
class Connections:
    """Of one process: as many as the setting says, and so many besides."""

    own_count: int = 0
    is_sized_by_setting: bool = False

    def of(self, settings: Settings) -> int:
        """At most."""
        return FOR_HEALTH + self.own_count + (settings.postgres_pool_max if self.is_sized_by_setting else 0)


OF_PROCESS: Mapping[str, Connections] = {
    INGRESS: Connections(2, is_sized_by_setting=True),  # the door has its own two
    "commands": Connections(1, is_sized_by_setting=True),
    "payments": Connections(6),
    "relay": Connections(3),  # one of them listens for NOTIFY
    "notifications": Connections(4),
    "webhooks": Connections(4),
    "analytics": Connections(2),
    "cleanup": Connections(4),
    "lifecycle": Connections(2),
    "admissions": Connections(10),
    "verifier": Connections(2),  # one is the examiner's, a process of its own
}


def connections_at_most(settings: Settings, processes: Mapping[str, int]) -> int:
    """Of all processes together; `processes`: how many run of each, one of those that it does not name."""
    total = 0
    for name, connections in OF_PROCESS.items():
        count = processes.get(name, 1) * (settings.ingress_workers if name == INGRESS else 1)
        total += count * connections.of(settings)
    return total
