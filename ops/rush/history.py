"""Is everything the buyers were told still true?

An order that was acknowledged must be there with its seats, and no seat may have been promised to two orders. The other
way round is no contradiction: an order may be completed although its buyer never heard of it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from uuid import UUID


class Acknowledged(NamedTuple):
    """An order as its buyer was told of it."""

    order_id: UUID
    user_id: UUID
    seat_ids: tuple[UUID, ...]


def find_broken_promises(acknowledged: Iterable[Acknowledged], sold: Mapping[UUID, UUID]) -> Iterator[str]:
    """What the buyers were told against `sold`, the order of each seat in the database; one sentence each."""
    owners: dict[UUID, UUID] = {}
    for order in acknowledged:
        for seat_id in order.seat_ids:
            first = owners.setdefault(seat_id, order.order_id)
            if first != order.order_id:
                yield f"seat {seat_id} was promised to order {first} and to order {order.order_id}"
            if sold.get(seat_id) != order.order_id:
                now = "nobody's" if seat_id not in sold else f"in order {sold[seat_id]}"
                yield f"seat {seat_id} was promised to order {order.order_id} of user {order.user_id}, but is {now}"
        if not order.seat_ids:
            yield f"order {order.order_id} was acknowledged without seats"


def count_unheard(acknowledged: Iterable[Acknowledged], sold: Mapping[UUID, UUID]) -> int:
    """Orders in the database whose buyer's answer was lost."""
    return len(set(sold.values()) - {order.order_id for order in acknowledged})
