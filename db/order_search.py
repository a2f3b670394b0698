"""Which orders are there, for an organiser who knows something of the one he looks for?"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.ids import EventId, OrderId, TicketId, UserId
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("order_search")

OrderStatus: TypeAlias = Literal["pending", "completed", "declined", "voiding", "cancelled", "refunding", "refunded"]
OrderKind: TypeAlias = Literal["sale", "complimentary"]


class FoundOrder(Value):
    """An order in a list."""

    id: OrderId
    event_id: EventId
    event_name: str
    status: OrderStatus
    kind: OrderKind
    total_amount: Amount
    refunded_amount: Amount = Field(description="given back, or on its way")
    currency: str
    user_id: UserId
    email: str | None = Field(description="of the buyer; null where there is no such account any more")
    name: str | None
    seat_count: int = Field(description="seats that it bought; none as long as it is not paid")
    created_at: AwareDatetime
    completed_at: AwareDatetime | None


@dataclass(frozen=True, kw_only=True)
class OrderFilter:
    """What is known of it; None: nothing. `email` ending in * is how the address begins; `row` and `seat_number` count with a
    section, and a section with an event."""

    event_id: EventId | None = None
    email: str | None = None
    id_prefix: str | None = None
    status: OrderStatus | None = None
    section: str | None = None
    row: str | None = None
    seat_number: str | None = None
    from_at: datetime | None = None
    before_at: datetime | None = None
    ticket_id: TicketId | None = None
    intent_id: str | None = None


class OrderPlace(NamedTuple):
    """The order after which a page begins."""

    created_at: datetime
    id: UUID


async def find_orders(pool: Pool, wanted: OrderFilter, *, after: OrderPlace | None, limit: int) -> list[FoundOrder]:
    """At most `limit` of the orders wanted, newest first, from behind that place."""
    records = await pool.fetch(_sql.list_orders, *_arguments(wanted), *(after or (None, None)), limit)
    return [FoundOrder(**record) for record in records]


def _arguments(wanted: OrderFilter) -> tuple[Any, ...]:
    email, is_beginning = wanted.email, wanted.email is not None and wanted.email.endswith("*")
    return (
        wanted.event_id,
        None if is_beginning else email,
        _pattern(email[:-1]) if email is not None and is_beginning else None,
        *_range(wanted.id_prefix),
        wanted.status,
        wanted.section,
        wanted.row,
        wanted.seat_number,
        wanted.from_at,
        wanted.before_at,
        wanted.ticket_id,
        wanted.intent_id,
    )


def _pattern(beginning: str) -> str:
    for special in ("\\", "%", "_"):
        beginning = beginning.replace(special, f"\\{special}")
    return f"{beginning}%"


def _range(id_prefix: str | None) -> tuple[UUID | None, UUID | None]:
    """The lowest and the highest id that begin so."""
    if id_prefix is None:
        return None, None
    digits = id_prefix.replace("-", "")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
