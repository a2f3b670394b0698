"""How old is a command when the engine takes it?"""

import time
from collections.abc import Iterable

from aio_pika.abc import AbstractIncomingMessage
from prometheus_client import Histogram

from contracts import wire

COMMAND_AGE_SECONDS = Histogram(
    "boxoffice_command_age_seconds",
    "From the request of the oldest command in a message until the engine takes it, by the clocks of two machines",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)


def observe_ages(messages: Iterable[AbstractIncomingMessage]) -> None:
    """These have just been taken out of their queue."""
    now_ms = time.time_ns() // 1_000_000
    for message in messages:
        asked_at_ms = message.headers.get(wire.ASKED_AT_HEADER)
        # Senders of before say nothing; where the asker's clock is ahead of ours, it was just now.
        if isinstance(asked_at_ms, int):
            COMMAND_AGE_SECONDS.observe(max(0, now_ms - asked_at_ms) / 1000)
