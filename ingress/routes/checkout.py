"""How does a hold become an order?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import Checkout
from ingress.asking import answer, ask_fields
from ingress.gate import Bucket, admitted
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of

checkout = Blueprint("checkout", url_prefix="/api")


class CheckoutRequest(RequestModel):
    """A hold and the payment provider's token for a card; card numbers never come here."""

    event_id: UUID
    hold_id: UUID
    payment_method: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_]+$")]


@checkout.post("/checkout")
async def check_out(request: Request) -> HTTPResponse:
    """Pay for a hold. 201 with the tickets, 402 when the card was declined, 202 when the provider takes its time."""
    asker = await admitted(request, Bucket.CHECKOUT)
    wanted = read_json(request, CheckoutRequest)
    deadline_seconds = resources_of(request).settings.checkout_deadline_seconds
    command = Checkout(
        event_id=wanted.event_id,
        hold_id=wanted.hold_id,
        payment_method=wanted.payment_method,
        **ask_fields(request, user_id=asker.user_id, route="checkout", deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )
