"""How does a hold become an order?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import Checkout
from contracts.rejections import RejectionCode
from contracts.replies import OrderCompleted, PaymentActionNeeded
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Bucket, admitted
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of

checkout = Blueprint("checkout", url_prefix="/api")


class CheckoutRequest(RequestModel):
    """A hold and the payment provider's token for a card; card numbers never come here."""

    event_id: UUID
    hold_id: UUID
    payment_method: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_]+$")]


@checkout.post("/checkout")
@operation(
    access=Access.OWNER,
    bucket=Bucket.CHECKOUT,
    body=CheckoutRequest,
    answers={HTTPStatus.CREATED: OrderCompleted, HTTPStatus.ACCEPTED: (Pending, PaymentActionNeeded)},
    refusals=(
        RejectionCode.PAYMENT_DECLINED,
        RejectionCode.PAYMENT_UNAVAILABLE,
        RejectionCode.EVENT_CANCELLED,
        RejectionCode.HOLD_UNKNOWN,
        RejectionCode.HOLD_EXPIRED,
        RejectionCode.HOLD_RELEASED,
        RejectionCode.HOLD_IN_PAYMENT,
        RejectionCode.HOLD_ALREADY_PAID,
        RejectionCode.ORDER_CANCELLED,
    ),
    asks=True,
    examples={
        "a card that works": {
            "eventId": "0b6ff3b7-2a5e-4c3f-8f0a-3d6c0a4d7c11",
            "holdId": "6d3f2b1c-9f44-4d3e-a7f5-2f1b5a0c9e22",
            "paymentMethod": "pm_card_visa",
        }
    },
)
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
