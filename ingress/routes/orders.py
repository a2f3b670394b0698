"""What has this buyer bought?"""

import base64
import json
from datetime import datetime
from http import HTTPStatus
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import OrderId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.orders import OrderDetails, OrderSummary, find_order, list_orders
from ingress.gate import Bucket, admitted
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, json_response, problem

orders = Blueprint("orders", url_prefix="/api")

PAGE_SIZE = 50


class OrderQuery(QueryModel):
    """Which orders?"""

    cursor: str | None = Field(None, max_length=200, description="nextCursor of the page before")


class OrderPage(Value):
    """Some orders, and where the next ones begin."""

    orders: tuple[OrderSummary, ...]
    next_cursor: str | None


@orders.get("/orders")
@operation(access=Access.USER, bucket=Bucket.OTHER, query=OrderQuery, answers={HTTPStatus.OK: OrderPage})
async def list_own_orders(request: Request) -> HTTPResponse:
    """The asker's orders, newest first."""
    asker = await admitted(request, Bucket.OTHER)
    after = _read_cursor(read_query(request, OrderQuery).cursor)
    found = await list_orders(resources_of(request).pool, asker.user_id, after=after, limit=PAGE_SIZE)
    next_cursor = _cursor(found[-1]) if len(found) == PAGE_SIZE else None
    return json_response(OrderPage(orders=tuple(found), next_cursor=next_cursor))


@orders.get("/orders/<order_id:uuid>")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: OrderDetails},
    refusals=(RejectionCode.ORDER_UNKNOWN,),
)
async def show_own_order(request: Request, order_id: UUID) -> HTTPResponse:
    """One order with its seats and tickets; somebody else's is as unknown as none."""
    asker = await admitted(request, Bucket.OTHER)
    order = await find_order(resources_of(request).pool, asker.user_id, OrderId(order_id))
    return json_response(order) if order is not None else problem(RejectionCode.ORDER_UNKNOWN)


def _cursor(last: OrderSummary) -> str:
    place = json.dumps([last.created_at.isoformat(), str(last.id)])
    return base64.urlsafe_b64encode(place.encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime, OrderId] | None:
    if not cursor:
        return None
    try:
        created_at, order_id = json.loads(base64.urlsafe_b64decode(cursor))
        return datetime.fromisoformat(created_at), OrderId(UUID(order_id))
    except (ValueError, TypeError, AttributeError):
        errors = [{"pointer": "", "message": "cursor: take it from nextCursor, unchanged"}]
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=errors)) from None
