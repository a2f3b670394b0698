"""Which deliveries were out of the ordinary: given out before, or put aside?

A queue of an event has the event's id in its name; here all of them count as one, and all lanes as another, because what ails
such a queue ails the process that drains it.
"""

from aio_pika.abc import AbstractIncomingMessage
from prometheus_client import Counter

# The queues of events, and the lanes.
COMMAND_QUEUES = ("tk.cmd.e", "tk.cmd.s")

REDELIVERIES = Counter(
    "boxoffice_redeliveries_total",
    "Deliveries of a message that somebody had taken before, and not finished",
    ["queue"],
)
PARKED = Counter("boxoffice_messages_parked_total", "Messages put into the parking lot", ["queue"])


def queue_label(queue: str) -> str:
    """The queue, or the kind of queues it is one of."""
    return next((kind for kind in COMMAND_QUEUES if queue.startswith(kind)), queue)


def count_redelivery(queue: str, message: AbstractIncomingMessage) -> None:
    """Call it for each delivery."""
    if message.redelivered:
        REDELIVERIES.labels(queue_label(queue)).inc()


def count_parked(queue: str) -> None:
    """Call it for each message that is put aside."""
    PARKED.labels(queue_label(queue)).inc()
