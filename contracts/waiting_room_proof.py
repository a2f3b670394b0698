"""What do we publish of a waiting room, so that anybody can check that it was fair without asking us anything?

A folder (or a zip of it), made of these values as JSON:

    proof.json           `RoomProof`: what was promised, what was frozen, what was revealed
    log.jsonl            the public log, one `LogEntry` a line, oldest first
    receipts/*.json      `Receipt`: optional; those that people were given, to be found in the log
    announcement.json    `Announcement`: optional; as somebody saved it before the sale
    frozen.json          `FrozenCohort`: optional; as somebody saved it before the beacon spoke

The last two are worth most when they come from somebody else than us: they are compared with what the proof says.
"""

from typing import Self

from pydantic import Field, model_validator

from contracts.beacon import BeaconRound, BeaconSource
from contracts.draw import ALGORITHM, Demotion
from contracts.ids import EventId
from contracts.value import Value

PROOF_FILE = "proof.json"
LOG_FILE = "log.jsonl"
ANNOUNCEMENT_FILE = "announcement.json"
FROZEN_FILE = "frozen.json"
RECEIPTS_FOLDER = "receipts"

# The beacon is asked for the first round due this long after the start: time enough to freeze the cohort and to publish
# its root, even if the leader dies in between.
BEACON_MARGIN_MS = 10_000

_HASH = "^[0-9a-f]{64}$"


class Announcement(Value):
    """What we are bound to before anybody joins."""

    event_id: EventId
    algorithm: str = Field(ALGORITHM, description="how the order follows from the seed")
    secret_commitment: str = Field(pattern=_HASH, description="SHA-256 of the server's secret")
    starts_at_ms: int = Field(description="who joins before this is in the draw; milliseconds since 1970")
    beacon_source: BeaconSource
    beacon_round: int = Field(ge=1, description="the round whose randomness will be used, whatever it is")
    public_keys: tuple[str, ...] = Field(description="Ed25519 keys that receipts are signed with, as hex")


class FrozenCohort(Value):
    """Who is in the draw: published before the beacon speaks."""

    event_id: EventId
    cohort_size: int = Field(ge=0)
    demotions: tuple[Demotion, ...] = Field((), description="drawn behind everybody else: ticket of the door, and rule")
    merkle_root: str = Field(pattern=_HASH, description="of the cohort by ticket, then of the demotions")


class Revelation(Value):
    """What decides the order: published once it is decided."""

    secret: str = Field(pattern=_HASH, description="the server's secret, 32 bytes as hex")
    beacon: BeaconRound


class RoomProof(Value):
    """The whole proof. A room without a draw (first come, first served) has only keys and a log."""

    version: int = 1
    event_id: EventId
    event_name: str = ""
    public_keys: tuple[str, ...] = ()
    announcement: Announcement | None = None
    frozen: FrozenCohort | None = None
    revelation: Revelation | None = None

    @model_validator(mode="after")
    def _nothing_before_its_time(self) -> Self:
        if (self.revelation and not self.frozen) or (self.frozen and not self.announcement):
            raise ValueError("a draw is announced, then frozen, then revealed")
        return self
