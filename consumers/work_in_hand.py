"""What has this process in hand, and when was it last given something?"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakSet

_all: WeakSet["WorkInHand"] = WeakSet()


class WorkInHand:
    """The messages of one queue that were taken and are not acknowledged; seen in /health under the name for as long as its
    owner keeps it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.message_count = 0
        self.last_message_at: float | None = None
        _all.add(self)

    def take(self) -> None:
        """A message has come."""
        self.message_count += 1
        self.last_message_at = time.time()

    def finish(self, message_count: int = 1) -> None:
        """So many were acknowledged or put back."""
        self.message_count -= message_count

    def leave(self) -> None:
        """Nothing comes here any more; what is left is delivered to somebody else."""
        _all.discard(self)


@dataclass
class WorkSeen:
    """All the work of that name: messages in hand, and when the last one came (seconds since 1970; None: none yet)."""

    message_count: int = 0
    last_message_at: float | None = None


def work_by_name(works: Iterable[WorkInHand] = _all) -> dict[str, WorkSeen]:
    """What this process has in hand, queues of one name together."""
    seen: dict[str, WorkSeen] = {}
    for work in sorted(works, key=lambda work: work.name):
        one = seen.setdefault(work.name, WorkSeen())
        one.message_count += work.message_count
        one.last_message_at = max(filter(None, (one.last_message_at, work.last_message_at)), default=None)
    return seen
