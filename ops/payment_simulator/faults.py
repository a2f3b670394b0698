"""What goes wrong on purpose, for which calls, how often, and did it really happen?"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Operation = Literal["create", "confirm", "capture", "cancel", "refund", "get", "list"]
FaultName = Literal[
    "drop_request",  # the connection is closed, nothing happened
    "drop_reply",  # it happened, then the connection is closed without a word
    "500_before",  # execution began and failed: nothing happened, and the 500 is stored under the key
    "500_after_effect",  # it happened, the answer is a 500, and the 500 is stored under the key
    "delay",  # it happens `ms` later, and then it is answered
    "apply_late",  # the connection is closed at once and it happens `ms` later
    "429",
    "409_in_use",
    "outage",  # a 503 from a load balancer: nothing happened, nothing is stored
]

# These strike before the idempotency layer; the others strike only where a request really executes.
BEFORE_EXECUTION = frozenset({"drop_request", "429", "409_in_use", "outage"})


class Fault(BaseModel):
    """One scripted fault; the first that matches a call strikes."""

    model_config = ConfigDict(extra="forbid")

    operation: Operation | Literal["*"]
    fault: FaultName
    times: int | None = Field(1, ge=1, description="how often it strikes; None is until it is taken away")
    ms: int = Field(0, ge=0, description="for delay and apply_late")
    metadata: dict[str, str] = Field(default_factory=dict, description="strikes only intents that carry all of these")
    fired_count: int = 0

    @model_validator(mode="after")
    def _needs_a_time(self) -> "Fault":
        if self.fault in ("delay", "apply_late") and self.ms == 0:
            raise ValueError(f"{self.fault} needs ms")
        return self

    def strikes(self, operation: Operation, metadata: Mapping[str, str]) -> bool:
        if self.operation not in (operation, "*"):
            return False
        if self.times is not None and self.fired_count >= self.times:
            return False
        return all(metadata.get(name) == value for name, value in self.metadata.items())


class FaultScript:
    """The faults in force, in the order they were asked for."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def strike(self, operation: Operation, metadata: Mapping[str, str], *, executes: bool) -> Fault | None:
        """The fault for this call, counted as fired; `executes` is False when the call will only be replayed."""
        for fault in self.faults:
            if not executes and fault.fault not in BEFORE_EXECUTION and fault.fault != "drop_reply":
                continue
            if fault.strikes(operation, metadata):
                fault.fired_count += 1
                return fault
        return None
