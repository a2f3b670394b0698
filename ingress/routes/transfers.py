"""How does a ticket pass from one account to another?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.commands import AcceptTransfer, DeclineTransfer, OfferTransfer, WithdrawTransfer
from contracts.ids import EventId, TicketId, TransferId
from contracts.rejections import RejectionCode
from contracts.replies import Rejected, TransferAccepted, TransferEnded, TransferOffered
from contracts.signing_keys import SigningKeys
from contracts.transfer_tokens import TOKEN_LENGTH, is_transfer_token
from contracts.value import Value
from db.transfers import (
    TransferSummary,
    find_own_ticket,
    find_transfer_from,
    find_transfer_to,
    list_transfers_from,
    list_transfers_to,
)
from db.users import find_user
from ingress.asking import Pending, answer, ask_fields
from ingress.gate import Asker, Bucket, admitted
from ingress.operation import Access, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import json_response, problem, reply_response
from ingress.texts import EmailAddress

transfers = Blueprint("transfers", url_prefix="/api")

# Nobody has offered more that matters; the oldest are left out.
LISTED_MAX = 200


class TransferRequest(RequestModel):
    """Who is to have the ticket."""

    email: EmailAddress


class TransferAnswer(RequestModel):
    """The secret of the mail that offers the ticket."""

    token: Annotated[str, Field(min_length=1, max_length=100, description=f"{TOKEN_LENGTH} characters, from the mail")]


class Transfers(Value):
    """What the asker has offered, and what was offered to his address; newest first."""

    outgoing: tuple[TransferSummary, ...]
    incoming: tuple[TransferSummary, ...]


@transfers.post("/tickets/<ticket_id:uuid>/transfer")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=TransferRequest,
    answers={HTTPStatus.CREATED: TransferOffered, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        RejectionCode.TICKET_UNKNOWN,
        RejectionCode.TICKET_NOT_VALID,
        RejectionCode.TICKET_CHECKED_IN,
        RejectionCode.TICKET_ON_OFFER,
        RejectionCode.TRANSFERS_CLOSED,
        RejectionCode.TRANSFER_TO_YOURSELF,
    ),
    asks=True,
    examples={"a friend": {"email": "bob@example.org"}},
)
async def offer_transfer(request: Request, ticket_id: UUID) -> HTTPResponse:
    """Offer a ticket to an e-mail address, which gets a mail with the secret that accepts it. Until then it stays yours."""
    asker = await admitted(request, Bucket.OTHER)
    wanted = read_json(request, TransferRequest)
    resources = resources_of(request)
    ticket = await find_own_ticket(resources.pool, asker.user_id, TicketId(ticket_id))
    if ticket is None:
        return problem(RejectionCode.TICKET_UNKNOWN)
    user = await find_user(resources.pool, asker.user_id)
    if user is not None and user.email == wanted.email:
        return reply_response(Rejected(code=RejectionCode.TRANSFER_TO_YOURSELF), accepted=HTTPStatus.CREATED)
    deadline_seconds = resources.settings.reserve_deadline_seconds
    command = OfferTransfer(
        event_id=ticket.event_id,
        ticket_id=TicketId(ticket_id),
        to_email=wanted.email,
        # An Idempotency-Key is one of this ticket: for another it is another command.
        **ask_fields(request, user_id=asker.user_id, route=f"transfer {ticket_id}", deadline_seconds=deadline_seconds),
    )
    return await answer(
        request, command, user_id=asker.user_id, accepted=HTTPStatus.CREATED, wait_seconds=deadline_seconds
    )


@transfers.get("/transfers")
@operation(access=Access.USER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: Transfers})
async def list_own_transfers(request: Request) -> HTTPResponse:
    """What the asker has offered and what he was offered. The secret that accepts a ticket is in the mail alone."""
    asker = await admitted(request, Bucket.OTHER)
    pool = resources_of(request).pool
    return json_response(
        Transfers(
            outgoing=tuple(await list_transfers_from(pool, asker.user_id, limit=LISTED_MAX)),
            incoming=tuple(await list_transfers_to(pool, asker.user_id, limit=LISTED_MAX)),
        )
    )


@transfers.post("/transfers/<transfer_id:uuid>/accept")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=TransferAnswer,
    answers={HTTPStatus.OK: TransferAccepted, HTTPStatus.ACCEPTED: Pending},
    refusals=(
        RejectionCode.TRANSFER_UNKNOWN,
        RejectionCode.TRANSFER_ENDED,
        RejectionCode.TRANSFERS_CLOSED,
        RejectionCode.TICKET_LIMIT_EXCEEDED,
    ),
    asks=True,
    examples={"the mail's": {"token": "pJ0mXo3sQbWc9Yt1uVz7Lg"}},
)
async def accept_transfer(request: Request, transfer_id: UUID) -> HTTPResponse:
    """Take a ticket that was offered to the address of your account. The code of whoever had it before is dead."""
    return await _answer_offer(request, AcceptTransfer, TransferId(transfer_id))


@transfers.post("/transfers/<transfer_id:uuid>/decline")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    body=TransferAnswer,
    answers={HTTPStatus.OK: TransferEnded, HTTPStatus.ACCEPTED: Pending},
    refusals=(RejectionCode.TRANSFER_UNKNOWN, RejectionCode.TRANSFER_ENDED),
    asks=True,
    examples={"the mail's": {"token": "pJ0mXo3sQbWc9Yt1uVz7Lg"}},
)
async def decline_transfer(request: Request, transfer_id: UUID) -> HTTPResponse:
    """Not take it; whoever offered it is told."""
    return await _answer_offer(request, DeclineTransfer, TransferId(transfer_id))


@transfers.delete("/transfers/<transfer_id:uuid>")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: TransferEnded, HTTPStatus.ACCEPTED: Pending},
    refusals=(RejectionCode.TRANSFER_UNKNOWN, RejectionCode.TRANSFER_ENDED),
    asks=True,
)
async def withdraw_transfer(request: Request, transfer_id: UUID) -> HTTPResponse:
    """Keep the ticket after all; the address it was offered to is told."""
    asker = await admitted(request, Bucket.OTHER)
    event_id = await find_transfer_from(resources_of(request).pool, asker.user_id, TransferId(transfer_id))
    return await _ask(request, asker, WithdrawTransfer, TransferId(transfer_id), event_id)


async def _answer_offer(
    request: Request, kind: type[AcceptTransfer] | type[DeclineTransfer], transfer_id: TransferId
) -> HTTPResponse:
    """Of whom it was offered to: his account has the address, and he has read the mail. Anybody can make an account with
    somebody else's address, so the one without the other opens nothing."""
    asker = await admitted(request, Bucket.OTHER)
    given = read_json(request, TransferAnswer)
    resources = resources_of(request)
    event_id = await find_transfer_to(resources.pool, asker.user_id, transfer_id)
    if not is_transfer_token(SigningKeys.of(resources.settings), transfer_id, given.token):
        event_id = None
    return await _ask(request, asker, kind, transfer_id, event_id)


async def _ask(
    request: Request,
    asker: Asker,
    kind: type[AcceptTransfer] | type[DeclineTransfer] | type[WithdrawTransfer],
    transfer_id: TransferId,
    event_id: EventId | None,
) -> HTTPResponse:
    if event_id is None:
        return problem(RejectionCode.TRANSFER_UNKNOWN)
    deadline_seconds = resources_of(request).settings.reserve_deadline_seconds
    route = f"{kind.model_fields['type'].default} {transfer_id}"
    command = kind(
        event_id=event_id,
        transfer_id=transfer_id,
        **ask_fields(request, user_id=asker.user_id, route=route, deadline_seconds=deadline_seconds),
    )
    return await answer(request, command, user_id=asker.user_id, accepted=HTTPStatus.OK, wait_seconds=deadline_seconds)
