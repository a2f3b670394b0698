"""How does an order's money go back?"""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import RefundOrder
from contracts.ids import OrderId, TicketId
from contracts.rejections import RejectionCode
from contracts.replies import RefundStarted
from db.refunds import find_event_of_order
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Asker, Bucket, admitted, admitted_admin
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import problem
from ingress.texts import Line

refunds = Blueprint("refunds", url_prefix="/api")

TICKETS_MAX = 100

_REFUSALS = (
    RejectionCode.ORDER_UNKNOWN,
    RejectionCode.ORDER_NOT_REFUNDABLE,
    RejectionCode.TICKET_UNKNOWN,
    RejectionCode.TICKET_NOT_VALID,
)


class RefundRequest(RequestModel):
    """Which tickets, if not all that are left of the order, and why."""

    ticket_ids: Annotated[tuple[UUID, ...], Field(max_length=TICKETS_MAX, json_schema_extra={"uniqueItems": True})] = ()
    reason: Annotated[Line, Field(max_length=500)] = ""


_EXAMPLES: dict[str, dict[str, Any]] = {
    "the whole order": {"reason": "we are ill"},
    "one ticket": {"ticketIds": ["7d9e8f10-1a2b-4c3d-8e4f-5a6b7c8d9e0f"]},
}


@refunds.post("/orders/<order_id:uuid>/refund")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=RefundRequest,
    answers={HTTPStatus.CREATED: RefundStarted, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        *_REFUSALS,
        RejectionCode.REFUNDS_CLOSED,
        RejectionCode.EVENT_CANCELLED,
        RejectionCode.TICKET_CHECKED_IN,
        RejectionCode.TICKET_ON_OFFER,
    ),
    asks=True,
    examples=_EXAMPLES,
)
async def refund_own_order(request: Request, order_id: UUID) -> HTTPResponse:
    """Give tickets back, by the event's policy: until its deadline and for its fee. They are void at once; the money is on its
    way, and the seats are free when it has gone."""
    asker = await admitted(request, Bucket.OTHER)
    return await _ask_for_refund(request, OrderId(order_id), asker, as_organiser=False)


@refunds.post("/admin/orders/<order_id:uuid>/refund")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=RefundRequest,
    answers={HTTPStatus.CREATED: RefundStarted, HTTPStatus.ACCEPTED: Pending},
    refusals=(*_REFUSALS, RejectionCode.RESALE_IN_CHECKOUT),
    asks=True,
    examples=_EXAMPLES,
)
async def refund_any_order(request: Request, order_id: UUID) -> HTTPResponse:
    """Give an order's money back without a fee, whatever the policy says, to whoever paid. Tickets that were passed on or have
    let somebody in too; what is on offer to others is no longer."""
    asker = await admitted_admin(request, Bucket.OTHER)
    return await _ask_for_refund(request, OrderId(order_id), asker, as_organiser=True)


async def _ask_for_refund(request: Request, order_id: OrderId, asker: Asker, *, as_organiser: bool) -> HTTPResponse:
    wanted = read_json(request, RefundRequest)
    resources = resources_of(request)
    owner = None if as_organiser else asker.user_id
    event_id = await find_event_of_order(resources.pool, order_id, user_id=owner)
    if event_id is None:
        return problem(RejectionCode.ORDER_UNKNOWN)
    deadline_seconds = resources.settings.checkout_deadline_seconds
    # The order is in the route's name: with one key for two orders, each is refunded by its own.
    route = f"{'refund_any' if as_organiser else 'refund'}:{order_id}"
    command = RefundOrder(
        event_id=event_id,
        order_id=order_id,
        ticket_ids=tuple(map(TicketId, wanted.ticket_ids)),
        as_organiser=as_organiser,
        reason=wanted.reason,
        **ask_fields(request, user_id=asker.user_id, route=route, deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )
