"""What has this buyer bought?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId, OrderId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.orders import OrderDetails, OrderSummary, find_order, list_orders
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admitted
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.resources import resources_of
from ingress.responses import json_response, problem

orders = Blueprint("orders", url_prefix="/api")

PAGE_SIZE = 50


class OrderQuery(QueryModel):
    """Which orders?"""

    event_id: UUID | None = Field(None, description="only those of this event")
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )


class OrderPage(Value):
    """Some orders, and where the next ones begin; null after the last."""

    orders: tuple[OrderSummary, ...]
    next_cursor: str | None


_PLACE: TypeAdapter[tuple[AwareDatetime, OrderId]] = TypeAdapter(tuple[AwareDatetime, OrderId])


@orders.get("/orders")
@operation(access=Access.USER, bucket=Bucket.OTHER, query=OrderQuery, answers={HTTPStatus.OK: OrderPage})
async def list_own_orders(request: Request) -> HTTPResponse:
    """The asker's orders, newest first."""
    asker = await admitted(request, Bucket.OTHER)
    query = read_query(request, OrderQuery)
    found = await list_orders(
        resources_of(request).pool,
        asker.user_id,
        event_id=EventId(query.event_id) if query.event_id else None,
        after=read_cursor(query, query.cursor, _PLACE) if query.cursor else None,
        limit=PAGE_SIZE + 1,
    )
    shown = found[:PAGE_SIZE]
    next_cursor = write_cursor(query, (shown[-1].created_at, shown[-1].id)) if len(found) > PAGE_SIZE else None
    return json_response(OrderPage(orders=tuple(shown), next_cursor=next_cursor))


@orders.get("/orders/<order_id:uuid>")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: OrderDetails},
    refusals=(RejectionCode.ORDER_UNKNOWN,),
)
async def show_own_order(request: Request, order_id: UUID) -> HTTPResponse:
    """One order: what was paid for what, what has become of its tickets and its money, and what may be done with them now.
    Somebody else's is as unknown as none."""
    asker = await admitted(request, Bucket.OTHER)
    order = await find_order(resources_of(request).pool, asker.user_id, OrderId(order_id))
    return json_response(order) if order is not None else problem(RejectionCode.ORDER_UNKNOWN)
