"""What has this user bought?"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from contracts.ids import EventId, HoldId, OrderId, RefundId, ResaleId, SeatId, TicketId, TransferId, UserId
from contracts.price_parts import PriceParts, sum_of
from contracts.ticket_terms import EventPolicy, TicketTerms, terms_of
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("orders")


class OrderSummary(Value):
    """An order in a list."""

    id: OrderId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    time_zone: str = Field(description="of the house, an IANA name")
    kind: str = Field(description="`complimentary`: given by the organiser")
    status: str
    total_amount: Amount
    currency: str
    seat_count: int
    created_at: AwareDatetime
    completed_at: AwareDatetime | None


class OrderTicket(Value):
    """What has become of a ticket that was bought. Of one that was passed on, its new owner's doings are not told."""

    id: TicketId
    status: str
    ended_because: str = Field(description="of a void one: why")
    owner: Literal["you", "transferred"]
    checked_in_at: AwareDatetime | None
    transfer_id: TransferId | None = Field(description="it is offered to somebody")
    resale_id: ResaleId | None = Field(description="it is offered to everybody")
    terms: TicketTerms


class OrderItem(Value):
    """A seat of an order and its ticket; `live` is false once it was given back."""

    seat_id: SeatId
    section: str
    row: str
    seat_number: str
    tier: str = Field(description="which price it has; empty for the usual one")
    price: Amount
    parts: PriceParts
    live: bool
    ticket_id: TicketId | None
    ticket_status: str | None
    ticket: OrderTicket | None = Field(description="null until it is paid")


class OrderPayment(Value):
    """The money of an order, as far as it has come."""

    status: str
    amount: Amount
    changed_at: AwareDatetime


class OrderRefund(Value):
    """Money that goes back to the card that paid: `amount`, of what `fee_kept` was kept. `status` is `requested` until the
    payment provider has done it."""

    id: RefundId
    kind: str
    amount: Amount
    fee_kept: Amount
    currency: str
    status: str
    ticket_ids: tuple[TicketId, ...]
    created_at: AwareDatetime
    refunded_at: AwareDatetime | None


class OrderDetails(Value):
    """Everything its owner may know of an order."""

    id: OrderId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    time_zone: str = Field(description="of the house, an IANA name")
    kind: str = Field(description="`complimentary`: given by the organiser")
    status: str
    total_amount: Amount
    parts: PriceParts = Field(description="of all items together")
    currency: str
    hold_id: HoldId
    ended_because: str
    payment_status: str | None
    client_secret: str | None
    payment: OrderPayment | None = Field(description="null when there was nothing to pay")
    created_at: AwareDatetime
    completed_at: AwareDatetime | None
    items: tuple[OrderItem, ...]
    refunds: tuple[OrderRefund, ...]


async def list_orders(
    pool: Pool, user_id: UserId, *, event_id: EventId | None, after: tuple[datetime, OrderId] | None, limit: int
) -> list[OrderSummary]:
    """The user's orders, newest first, from behind the order that `after` names by its time and id."""
    created_at, order_id = after or (None, None)
    records = await pool.fetch(_sql.list_orders, user_id, event_id, created_at, order_id, limit)
    return [OrderSummary(**record) for record in records]


async def find_order(pool: Pool, user_id: UserId, order_id: OrderId) -> OrderDetails | None:
    """The order, if there is one and it is this user's."""
    record = await pool.fetchrow(_sql.find_order, order_id, user_id)
    if record is None:
        return None
    items = await pool.fetch(_sql.list_order_items, record["event_id"], order_id, user_id)
    refunds = await pool.fetch(_sql.list_refunds_of_order, record["event_id"], order_id)
    shown = tuple(_item(record, item) for item in items)
    return OrderDetails(
        **record,
        items=shown,
        parts=sum_of(item.parts for item in shown),
        payment=_payment(record),
        refunds=tuple(OrderRefund(**refund) for refund in refunds),
    )


def _payment(order: Mapping[str, Any]) -> OrderPayment | None:
    if order["payment_status"] is None:
        return None
    return OrderPayment(
        status=order["payment_status"], amount=order["payment_amount"], changed_at=order["payment_changed_at"]
    )


def _item(order: Mapping[str, Any], item: Mapping[str, Any]) -> OrderItem:
    price, fee, tax = item["price"], item["fee"], item["tax"]
    parts = PriceParts(face=price - fee - tax, fee=fee, tax=tax, reduction=item["reduction"], total=price)
    return OrderItem(**item, parts=parts, ticket=_ticket(order, item))


def _ticket(order: Mapping[str, Any], item: Mapping[str, Any]) -> OrderTicket | None:
    if item["ticket_id"] is None:
        return None
    return OrderTicket(
        id=item["ticket_id"],
        status=item["ticket_status"],
        ended_because=item["ended_because"],
        owner="you" if item["is_his"] else "transferred",
        checked_in_at=item["checked_in_at"],
        transfer_id=item["transfer_id"],
        resale_id=item["resale_id"],
        terms=_terms(order, item),
    )


def _terms(order: Mapping[str, Any], item: Mapping[str, Any]) -> TicketTerms:
    in_hand = (
        item["is_his"]
        and item["ticket_status"] == "valid"
        and item["checked_in_at"] is None
        and item["transfer_id"] is None
        and item["resale_id"] is None
    )
    return terms_of(
        EventPolicy(**{name: order[name] for name in EventPolicy.__dataclass_fields__}),
        now=order["loaded_at"],
        in_hand=in_hand,
        bought=True,
    )
