"""What is a waiting room, what can become of somebody in it, and what does its log say?

A person's `place` is one per account. Order is an integer `ticket`, given by the server, never a time. In a room with a
published start the tickets of those who came before it say nothing: the draw (`contracts/draw.py`) gives them new ones.
"""

from enum import StrEnum
from typing import NewType

from pydantic import Field

from contracts.ids import UserId
from contracts.value import Value

# 16 random bytes, base64url without padding: 22 characters. It names a place; it opens nothing without its secret.
PlaceId = NewType("PlaceId", str)


class Phase(StrEnum):
    """Where a room stands. `closed` is a room that nobody has opened; an event without a room has none at all."""

    CLOSED = "closed"
    PRE = "pre"  # the cohort of the draw gathers; nobody is admitted
    SEALING = "sealing"  # the cohort is frozen and the order is being computed; late-comers line up behind it
    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"  # who is in line is served; nobody joins any more
    SOLD_OUT = "sold_out"
    ENDED = "ended"
    RESTORING = (
        "restoring"  # Redis was lost, and the room is being filled from its log; nobody is told anything meanwhile
    )


class PlaceState(StrEnum):
    """What can become of somebody: waiting, then ready (the claim window runs), then active (the lease runs), then done."""

    WAITING = "waiting"
    READY = "ready"
    ACTIVE = "active"
    GONE = "gone"


class Gone(StrEnum):
    """Why somebody has no place any more."""

    GAVE_UP = "gave_up"  # silent for too long
    MISSED = "missed"  # their turn came and was not claimed in time
    LEFT = "left"
    LEASE_OVER = "lease_over"
    DONE = "done"
    SOLD_OUT = "sold_out"
    ENDED = "ended"


class LogKind(StrEnum):
    """The entries of a room's log, one letter each because there are millions of them."""

    JOINED = "J"
    SEALED = "S"
    ADMITTED = "A"  # waiting -> ready
    CLAIMED = "C"  # ready -> active
    MISSED = "N"  # ready, and the claim window passed
    LEASE_OVER = "X"  # active, and the lease passed
    RELEASED = "F"  # active, and done: the order is through, or the last hold is gone
    GAVE_UP = "G"  # waiting, and silent for too long
    LEFT = "L"  # of their own will, from any state
    REENTERED = "R"  # missed their turn, and came back with their old ticket, once
    DEMOTED = "D"  # will be drawn behind everybody else
    PHASE = "P"  # the room was opened, paused, resumed, drained, ended


class LogEntry(Value):
    """One line of a room's public log. It names tickets, never places or people.

    `commitment` is of J: SHA-256 of a secret that only the person's client knows, as hex. `detail` is of S (the seed as hex),
    of D (the rule's name), of P ("<phase> <capacity> <why>"), and of what a leader's round did: A, and most N, X and G (the
    leader's fence). `ticket` of S and P is the cohort's last one, 0 while there is none. After the draw a ticket of the
    cohort is the *drawn* one; J entries keep the one that was given at the door; the draw, recomputed, tells which is which.
    """

    index: int = Field(ge=0, description="0 … n-1, without a gap")
    at_ms: int = Field(description="milliseconds since 1970 by Redis's clock")
    kind: LogKind
    ticket: int = 0
    epoch: int = 1
    commitment: str = ""
    detail: str = ""


class KeptEntry(LogEntry):
    """A line as we keep it: with whose place it was. What restores a lost room, and what is never published."""

    place_id: PlaceId = PlaceId("")
    user_id: UserId | None = Field(None, description="of J")
