"""What has become of a batch of commands?"""

import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from consumers.rules.sale import LateReply, Sale
from contracts.commands import AnyCommand
from contracts.ids import SeatId
from contracts.replies import AnyReply
from db.seat_locks import WantedSeats


@dataclass(frozen=True, slots=True)
class Asked:
    """A command and the queue on which its asker waits, if anybody does."""

    command: AnyCommand
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A command and its answer."""

    asked: Asked
    reply: AnyReply


@dataclass(frozen=True, slots=True)
class NotProcessed:
    """A command that can never be carried out as it is, and why: for the parking lot."""

    asked: Asked
    reason: str


@dataclass(slots=True)
class Outcome:
    """What a batch came to, once committed."""

    answered: list[Answered] = field(default_factory=list)
    late_replies: list[LateReply] = field(default_factory=list)
    not_processed: list[NotProcessed] = field(default_factory=list)
    # One per committed transaction, in that order. Another engine may have committed between two of them.
    sales: list[Sale] = field(default_factory=list)
    # When each of them was committed, in milliseconds since 1970.
    committed_at_ms: list[int] = field(default_factory=list)
    locks: list[WantedSeats] = field(default_factory=list)
    # Whose locks Redis gave out, and how often each seat was wanted by somebody who did not get its lock.
    won_locks: set[UUID] = field(default_factory=set)
    lost_locks: Counter[SeatId] = field(default_factory=Counter)
    # By the clock of time.perf_counter.
    began_at: float = field(default_factory=time.perf_counter)
    # The batch's span, where commands of it are traced.
    traceparent: str | None = None

    def add(self, sale: Sale) -> None:
        """Take in one committed transaction."""
        self.sales.append(sale)
        self.committed_at_ms.append(time.time_ns() // 1_000_000)
        self.late_replies += sale.late_replies
