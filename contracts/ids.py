"""What are the things of a sale called by?

Ids are UUIDs chosen at the edge: the id a command is given becomes the id of the hold or the order it makes, so a
command that is delivered twice finds its own result instead of making a second one.
"""

from typing import NewType
from uuid import UUID, uuid5

UserId = NewType("UserId", UUID)
VenueId = NewType("VenueId", UUID)
EventId = NewType("EventId", UUID)
SeatId = NewType("SeatId", UUID)
HoldId = NewType("HoldId", UUID)
OrderId = NewType("OrderId", UUID)
TicketId = NewType("TicketId", UUID)
RefundId = NewType("RefundId", UUID)
TransferId = NewType("TransferId", UUID)
ResaleId = NewType("ResaleId", UUID)
WaitingId = NewType("WaitingId", UUID)
CommandId = NewType("CommandId", UUID)

_IDEMPOTENCY_NAMESPACE = UUID("5f2d6f1e-6f0a-5c0e-9a64-2a9f2b1f7c11")


def command_id_of_key(*, user_id: UserId, route: str, idempotency_key: str) -> CommandId:
    """The command id that stands for this user's idempotency key on this route: the same key, the same id, for ever."""
    return CommandId(uuid5(_IDEMPOTENCY_NAMESPACE, f"{user_id}\n{route}\n{idempotency_key}"))
