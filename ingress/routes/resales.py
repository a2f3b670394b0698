"""How does a buyer sell his seat on, at what it cost or less?"""

from decimal import Decimal
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import OfferResale, WithdrawResale
from contracts.ids import ResaleId, TicketId
from contracts.money import UnusableAmount, to_minor_units
from contracts.rejections import RejectionCode
from contracts.replies import ResaleOffered, ResaleWithdrawn
from contracts.value import Amount, Value
from db.transfers import ResaleSummary, find_own_ticket, find_resale_of, list_resales_of
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Bucket, admitted
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, Refusal, json_response, problem

resales = Blueprint("resales", url_prefix="/api")

# Nobody has offered more that matters; the oldest are left out.
LISTED_MAX = 200


class ResaleRequest(RequestModel):
    """What the seat is to cost, in the currency it was paid in; no more than it cost."""

    price: Annotated[Amount, Field(ge=Decimal(0))]


class Resales(Value):
    """What the asker has put on sale again; newest first."""

    resales: tuple[ResaleSummary, ...]


@resales.post("/tickets/<ticket_id:uuid>/resale")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=ResaleRequest,
    answers={HTTPStatus.CREATED: ResaleOffered, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        RejectionCode.TICKET_UNKNOWN,
        RejectionCode.TICKET_NOT_VALID,
        RejectionCode.TICKET_CHECKED_IN,
        RejectionCode.TICKET_ON_OFFER,
        RejectionCode.NOT_OFFERED,
        RejectionCode.RESALES_CLOSED,
        RejectionCode.RESALE_PRICE_TOO_HIGH,
    ),
    asks=True,
    examples={"for what it cost": {"price": "45.00"}},
)
async def offer_resale(request: Request, ticket_id: UUID) -> HTTPResponse:
    """Put your seat on sale again. It stays yours until somebody has paid for it; then your money is on its way back to your
    card. While it is on sale the ticket lets nobody in."""
    asker = await admitted(request, Bucket.OTHER)
    wanted = read_json(request, ResaleRequest)
    resources = resources_of(request)
    ticket = await find_own_ticket(resources.pool, asker.user_id, TicketId(ticket_id))
    if ticket is None:
        return problem(RejectionCode.TICKET_UNKNOWN)
    _require_payable(wanted.price, ticket.currency)
    deadline_seconds = resources.settings.reserve_deadline_seconds
    command = OfferResale(
        event_id=ticket.event_id,
        ticket_id=TicketId(ticket_id),
        price=wanted.price,
        # An Idempotency-Key is one of this ticket: for another it is another command.
        **ask_fields(request, user_id=asker.user_id, route=f"resale {ticket_id}", deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )


@resales.get("/resales")
@operation(access=Access.USER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: Resales})
async def list_own_resales(request: Request) -> HTTPResponse:
    """What the asker has put on sale again, and what came of it."""
    asker = await admitted(request, Bucket.OTHER)
    found = await list_resales_of(resources_of(request).pool, asker.user_id, limit=LISTED_MAX)
    return json_response(Resales(resales=tuple(found)))


@resales.delete("/resales/<resale_id:uuid>")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: ResaleWithdrawn, HTTPStatus.ACCEPTED: Pending},
    refusals=(RejectionCode.RESALE_UNKNOWN, RejectionCode.RESALE_ENDED, RejectionCode.RESALE_IN_CHECKOUT),
    asks=True,
)
async def withdraw_resale(request: Request, resale_id: UUID) -> HTTPResponse:
    """Keep the seat after all, if nobody is about to buy it."""
    asker = await admitted(request, Bucket.OTHER)
    resources = resources_of(request)
    event_id = await find_resale_of(resources.pool, asker.user_id, ResaleId(resale_id))
    if event_id is None:
        return problem(RejectionCode.RESALE_UNKNOWN)
    deadline_seconds = resources.settings.reserve_deadline_seconds
    route = f"withdraw_resale {resale_id}"
    command = WithdrawResale(
        event_id=event_id,
        resale_id=ResaleId(resale_id),
        **ask_fields(request, user_id=asker.user_id, route=route, deadline_seconds=deadline_seconds),
    )
    return await answer(request, command, user_id=asker.user_id, accepted=HTTPStatus.OK, wait_seconds=deadline_seconds)


def _require_payable(price: Decimal, currency: str) -> None:
    """Raises Refusal for a price that nobody can pay in this currency."""
    try:
        to_minor_units(price, currency)
    except UnusableAmount as mistake:
        errors = [{"pointer": "/price", "message": str(mistake)}]
        raise Refusal(problem(ProblemCode.INVALID_REQUEST, errors=errors)) from None
