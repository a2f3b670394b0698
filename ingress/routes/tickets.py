"""Which tickets are mine, and what do I show at the door?"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId, OrderId, ResaleId, TicketId, TransferId
from contracts.rejections import RejectionCode
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import STEP_SECONDS
from contracts.ticket_pages import ticket_pages
from contracts.ticket_pictures import only_in_the_app, ticket_png, ticket_svg
from contracts.ticket_terms import TicketTerms
from contracts.value import Amount, Value
from db.orders import find_order
from db.tickets import HeldTicket, find_own_ticket, list_own_tickets, tickets_of_orders
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admitted
from ingress.operation import Access, Content, operation
from ingress.private_files import private_file
from ingress.query import QueryModel, read_query
from ingress.resources import resources_of
from ingress.responses import Refusal, json_response, problem

tickets = Blueprint("tickets", url_prefix="/api")

PAGE_SIZE = 50
PDF = "application/pdf"
PNG = "image/png"
SVG = "image/svg+xml"

# Sanic's own words for "an id, then .png" know one ending for each path.
_UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


def _file_of_ticket(ending: str) -> str:
    return rf"/tickets/<ticket_id:(?P<ticket_id>{_UUID})\.{ending}>"


class TicketQuery(QueryModel):
    """Which tickets?"""

    event_id: UUID | None = Field(None, description="only those of this event")
    upcoming: bool = Field(False, description="only of shows that are still to come or began within the last day")
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )


class TicketEvent(Value):
    """The show a ticket is for; `event_date` is the moment, `time_zone` says what the clocks of the house show then."""

    id: EventId
    name: str
    artist: str
    event_date: AwareDatetime
    time_zone: str
    status: str
    venue_name: str
    venue_address: str
    venue_city: str
    venue_country: str


class OpenTransfer(Value):
    """Who was offered the ticket may take it until then."""

    id: TransferId
    expires_at: AwareDatetime


class OpenResale(Value):
    """The ticket's seat is on sale at that price."""

    id: ResaleId
    price: Amount


class TicketDetails(Value):
    """A ticket that is the asker's."""

    id: TicketId
    event: TicketEvent
    section: str
    row: str = Field(description="empty, and so is seatNumber: a place to stand")
    seat_number: str
    tier: str = Field(description="which price it has; empty for the usual one")
    price: Amount = Field(description="what was paid for it")
    currency: str
    status: str
    ended_because: str = Field(description="of a void one: why")
    bought: bool = Field(description="false: somebody has passed it on to the asker")
    order_id: OrderId | None = Field(description="of one that was bought: the asker's order")
    holder: str
    checked_in_at: AwareDatetime | None
    rotating_code: bool = Field(description="its code changes every few seconds: get it shortly before it is shown")
    transfer: OpenTransfer | None = Field(description="it is offered to somebody")
    resale: OpenResale | None = Field(description="it is offered to everybody")
    terms: TicketTerms

    @classmethod
    def of(cls, ticket: HeldTicket) -> Self:
        """The same for its owner."""
        transfer, resale = None, None
        if ticket.transfer_id is not None and ticket.transfer_expires_at is not None:
            transfer = OpenTransfer(id=ticket.transfer_id, expires_at=ticket.transfer_expires_at)
        if ticket.resale_id is not None and ticket.resale_price is not None:
            resale = OpenResale(id=ticket.resale_id, price=ticket.resale_price)
        own = {name: getattr(ticket, name) for name in cls.model_fields if hasattr(ticket, name)}
        return cls(
            **{
                **own,
                "event": _event_of(ticket),
                "bought": ticket.is_bought,
                # Another's order is none of the asker's business.
                "order_id": ticket.order_id if ticket.is_bought else None,
                "rotating_code": ticket.rotating_codes,
                "transfer": transfer,
                "resale": resale,
            }
        )


class TicketPageOfMany(Value):
    """Some tickets by the date of their shows, and the cursor of the page that follows; null after the last."""

    tickets: tuple[TicketDetails, ...]
    next_cursor: str | None


class TicketCode(Value):
    """What the QR code at the door has to say; show it as a QR code."""

    code: str
    rotates: bool
    valid_for_seconds: int | None = Field(description="of a code that rotates: get the next one after so long")


_PLACE: TypeAdapter[tuple[AwareDatetime, TicketId]] = TypeAdapter(tuple[AwareDatetime, TicketId])
# Whatever stands between an owner and the code of his ticket.
_NO_CODE = (RejectionCode.TICKET_UNKNOWN, RejectionCode.TICKET_NOT_VALID, RejectionCode.EVENT_CANCELLED)
_OF_ROTATING = "Of a ticket whose code changes every few seconds it says that the code is only in the app."


@tickets.get("/tickets")
@operation(access=Access.USER, bucket=Bucket.OTHER, query=TicketQuery, answers={HTTPStatus.OK: TicketPageOfMany})
async def list_tickets(request: Request) -> HTTPResponse:
    """The asker's tickets, the soonest show first. Bought and not passed on, or received from somebody; those that were
    refunded or resold are there too, and void."""
    asker = await admitted(request, Bucket.OTHER)
    query = read_query(request, TicketQuery)
    after = read_cursor(query, query.cursor, _PLACE) if query.cursor else None
    found = await list_own_tickets(
        resources_of(request).pool,
        asker.user_id,
        event_id=EventId(query.event_id) if query.event_id else None,
        upcoming=query.upcoming,
        after=after,
        limit=PAGE_SIZE + 1,
    )
    shown = found[:PAGE_SIZE]
    next_cursor = write_cursor(query, _place_of(shown[-1])) if len(found) > PAGE_SIZE else None
    return json_response(
        TicketPageOfMany(tickets=tuple(TicketDetails.of(ticket) for ticket in shown), next_cursor=next_cursor)
    )


@tickets.get("/tickets/<ticket_id:uuid>")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: TicketDetails},
    refusals=(RejectionCode.TICKET_UNKNOWN,),
)
async def show_ticket(request: Request, ticket_id: UUID) -> HTTPResponse:
    """One ticket. It is its present owner's: for whoever has passed it on it is not there any more."""
    return json_response(TicketDetails.of(await _own_ticket(request, ticket_id)))


@tickets.get("/tickets/<ticket_id:uuid>/code")
@operation(access=Access.OWNER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: TicketCode}, refusals=_NO_CODE)
async def show_ticket_code(request: Request, ticket_id: UUID) -> HTTPResponse:
    """What the QR code of the ticket says, for a client that draws it. Never kept by any cache."""
    ticket = await _showable_ticket(request, ticket_id)
    return json_response(
        TicketCode(
            code=ticket.code(_keys(request)),
            rotates=ticket.rotating_codes,
            valid_for_seconds=_seconds_left(ticket.loaded_at) if ticket.rotating_codes else None,
        )
    )


@tickets.get(_file_of_ticket("svg"))
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: Content(SVG, f"The code as a QR code. {_OF_ROTATING}")},
    refusals=_NO_CODE,
    cached=True,
)
async def draw_ticket_as_svg(request: Request, ticket_id: str) -> HTTPResponse:
    """The ticket's code as a picture that grows with its page."""
    return await _picture(request, UUID(ticket_id), ticket_svg, SVG, "svg")


@tickets.get(_file_of_ticket("png"))
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: Content(PNG, f"The code as a QR code. {_OF_ROTATING}")},
    refusals=_NO_CODE,
    cached=True,
)
async def draw_ticket_as_png(request: Request, ticket_id: str) -> HTTPResponse:
    """The ticket's code as a picture."""
    return await _picture(request, UUID(ticket_id), ticket_png, PNG, "png")


@tickets.get(_file_of_ticket("pdf"))
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: Content(PDF, f"The ticket on a page. {_OF_ROTATING}")},
    refusals=_NO_CODE,
    cached=True,
)
async def print_ticket(request: Request, ticket_id: str) -> HTTPResponse:
    """The ticket, to be printed or kept on a telephone."""
    ticket = await _showable_ticket(request, UUID(ticket_id))
    return _file_of(request, ticket, await _pages(request, [ticket]), PDF, "pdf")


@tickets.get("/orders/<order_id:uuid>/tickets.pdf")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: Content(PDF, f"A page for each ticket. {_OF_ROTATING}")},
    refusals=(RejectionCode.ORDER_UNKNOWN, RejectionCode.TICKET_NOT_VALID, RejectionCode.EVENT_CANCELLED),
    cached=True,
)
async def print_tickets_of_order(request: Request, order_id: UUID) -> HTTPResponse:
    """All valid tickets of an order that the asker still has."""
    asker = await admitted(request, Bucket.OTHER)
    pool = resources_of(request).pool
    order = await find_order(pool, asker.user_id, OrderId(order_id))
    if order is None:
        return problem(RejectionCode.ORDER_UNKNOWN)
    found = (await tickets_of_orders(pool, order.event_id, [order.id])).get(order.id, [])
    for ticket in found:
        _refuse_what_opens_no_door(ticket)
    if not found:
        return problem(RejectionCode.TICKET_NOT_VALID)
    name = f"tickets-{order.id}.pdf"
    return private_file(request, await _pages(request, found), PDF, name=name, kept=not found[0].rotating_codes)


async def _own_ticket(request: Request, ticket_id: UUID) -> HeldTicket:
    asker = await admitted(request, Bucket.OTHER)
    ticket = await find_own_ticket(resources_of(request).pool, asker.user_id, TicketId(ticket_id))
    if ticket is None:
        raise Refusal(problem(RejectionCode.TICKET_UNKNOWN))
    return ticket


async def _showable_ticket(request: Request, ticket_id: UUID) -> HeldTicket:
    ticket = await _own_ticket(request, ticket_id)
    _refuse_what_opens_no_door(ticket)
    return ticket


def _refuse_what_opens_no_door(ticket: HeldTicket) -> None:
    if ticket.is_cancelled:
        raise Refusal(problem(RejectionCode.EVENT_CANCELLED))
    if not ticket.opens_doors:
        raise Refusal(problem(RejectionCode.TICKET_NOT_VALID))


async def _picture(
    request: Request, ticket_id: UUID, draw: Callable[[str], bytes], media_type: str, ending: str
) -> HTTPResponse:
    """The ticket's code as `draw` draws it; of a rotating code, where it can be seen instead."""
    ticket = await _showable_ticket(request, ticket_id)
    body = only_in_the_app(ending) if ticket.rotating_codes else draw(ticket.code(_keys(request)))
    return _file_of(request, ticket, body, media_type, ending)


def _file_of(request: Request, ticket: HeldTicket, body: bytes, media_type: str, ending: str) -> HTTPResponse:
    name = f"ticket-{ticket.id}.{ending}"
    return private_file(request, body, media_type, name=name, kept=not ticket.rotating_codes)


async def _pages(request: Request, found: Sequence[HeldTicket]) -> bytes:
    keys = _keys(request)
    # Ten milliseconds a page: not between two answers of this process.
    return await asyncio.to_thread(ticket_pages, [ticket.page(keys) for ticket in found])


def _keys(request: Request) -> SigningKeys:
    return SigningKeys.of(resources_of(request).settings)


def _seconds_left(now: datetime) -> int:
    return STEP_SECONDS - int(now.timestamp()) % STEP_SECONDS


def _place_of(ticket: HeldTicket) -> tuple[Any, ...]:
    return ticket.event_date, ticket.id


def _event_of(ticket: HeldTicket) -> TicketEvent:
    names = ("artist", "event_date", "time_zone", "venue_name", "venue_address", "venue_city", "venue_country")
    of_event = {name: getattr(ticket, name) for name in names}
    return TicketEvent(id=ticket.event_id, name=ticket.event_name, status=ticket.event_status, **of_event)
