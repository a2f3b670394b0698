"""Which orders are there, and what became of them?"""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, Field, TypeAdapter, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId, OrderId, TicketId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.exports import ATTENDEE_COLUMNS, ORDER_COLUMNS, knows_event, read_all_orders, read_attendees
from db.order_file import OrderFile, read_order_file
from db.order_search import FoundOrder, OrderFilter, OrderPlace, OrderStatus, find_orders
from ingress.csv_files import csv_content, send_csv
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.resources import IngressResources, resources_of
from ingress.responses import Refusal, json_response, problem
from ingress.routes.events import CalendarTime
from ingress.texts import something_or_none

admin_orders = Blueprint("admin_orders", url_prefix="/api/admin")

# Of a hundred thousand buyers, fewer letters are the beginning of too many.
PREFIX_MIN = 3

_PLACE: TypeAdapter[tuple[datetime, UUID]] = TypeAdapter(tuple[CalendarTime, UUID])

_Word = Annotated[str, Field(max_length=255), AfterValidator(something_or_none)]


class OrderSearch(QueryModel):
    """Which orders? What is left out does not matter."""

    event_id: UUID | None = None
    email: Annotated[_Word, AfterValidator(lambda text: text and text.lower())] | None = Field(
        None, description=f"of the buyer; with a * at its end, how it begins: {PREFIX_MIN} characters at least"
    )
    order_id: Annotated[str, Field(pattern=r"^[0-9a-fA-F-]{1,36}$")] | None = Field(
        None, description="all of it, or how it begins"
    )
    status: OrderStatus | None = None
    section: _Word | None = Field(None, description="some seat is in it; needs eventId")
    row: _Word | None = Field(None, description="needs section")
    seat_number: _Word | None = Field(None, description="needs section")
    since: CalendarTime | None = Field(None, alias="from", description="none made before this time")
    until: CalendarTime | None = Field(None, alias="to", description="none made at this time or after it")
    ticket_id: UUID | None = Field(None, description="the order it was bought with")
    intent_id: _Word | None = Field(None, description="the payment provider's name for the payment: pi_…")
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.section is not None and self.event_id is None:
            raise ValueError("section needs eventId")
        if self.section is None and (self.row is not None or self.seat_number is not None):
            raise ValueError("row and seatNumber need section")
        if self.email is not None and self.email.endswith("*") and len(self.email) <= PREFIX_MIN:
            raise ValueError(f"email: {PREFIX_MIN} characters at least before the *")
        if self.order_id is not None and len(self.order_id.replace("-", "")) not in range(1, 33):
            raise ValueError("orderId has 32 hex digits, or begins with some of them")
        return self

    def wanted(self) -> OrderFilter:
        """The same for the database."""
        return OrderFilter(
            event_id=None if self.event_id is None else EventId(self.event_id),
            email=self.email,
            id_prefix=self.order_id,
            status=self.status,
            section=self.section,
            row=self.row,
            seat_number=self.seat_number,
            from_at=self.since,
            before_at=self.until,
            ticket_id=None if self.ticket_id is None else TicketId(self.ticket_id),
            intent_id=self.intent_id,
        )


class FoundOrders(Value):
    """Some orders, newest first, and the cursor of those that are older; null after the oldest."""

    orders: tuple[FoundOrder, ...]
    next_cursor: str | None


@admin_orders.get("/orders")
@operation(access=Access.ADMIN, bucket=Bucket.OTHER, query=OrderSearch, answers={HTTPStatus.OK: FoundOrders})
async def search_orders(request: Request) -> HTTPResponse:
    """Anybody's orders, by whatever is known of them, newest first. Orders that are made while you turn the pages are before
    the first one: the others come once each."""
    await admitted_admin(request, Bucket.OTHER)
    query = read_query(request, OrderSearch)
    after = None if query.cursor is None else OrderPlace(*read_cursor(query, query.cursor, _PLACE))
    # One more than asked for tells whether there is another page.
    found = await find_orders(resources_of(request).pool, query.wanted(), after=after, limit=query.limit + 1)
    page = tuple(found[: query.limit])
    more = len(found) > query.limit
    next_cursor = write_cursor(query, OrderPlace(page[-1].created_at, page[-1].id)) if more else None
    return json_response(FoundOrders(orders=page, next_cursor=next_cursor))


@admin_orders.get("/orders/<order_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: OrderFile},
    refusals=(RejectionCode.ORDER_UNKNOWN,),
)
async def show_order_file(request: Request, order_id: UUID) -> HTTPResponse:
    """Anybody's order with everything there is of it: buyer, items, payment, refunds, tickets and where they went, scans at the
    door, its entries in the books, what organisers did to it, and all that again in the order of time."""
    await admitted_admin(request, Bucket.OTHER)
    file = await read_order_file(resources_of(request).pool, OrderId(order_id))
    return problem(RejectionCode.ORDER_UNKNOWN) if file is None else json_response(file)


@admin_orders.get("/events/<event_id:uuid>/orders.csv")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: csv_content("A header, then one line for each order, newest first.")},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def download_orders(request: Request, event_id: UUID) -> HTTPResponse | None:
    """Every order of an event as a CSV file, as of the moment it is asked for."""
    resources = await _of_known_event(request, EventId(event_id))
    pages = read_all_orders(resources.pool, EventId(event_id))
    return await send_csv(request, f"orders-{event_id}.csv", ORDER_COLUMNS, pages)


@admin_orders.get("/events/<event_id:uuid>/attendees.csv")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: csv_content("A header, then one line for each valid ticket, in the order of the map.")},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def download_attendees(request: Request, event_id: UUID) -> HTTPResponse | None:
    """Everybody who may come in as a CSV file: each valid ticket under its present owner."""
    resources = await _of_known_event(request, EventId(event_id))
    pages = read_attendees(resources.pool, EventId(event_id))
    return await send_csv(request, f"attendees-{event_id}.csv", ATTENDEE_COLUMNS, pages)


async def _of_known_event(request: Request, event_id: EventId) -> IngressResources:
    """Raises Refusal unless an administrator asks for an event that there is."""
    await admitted_admin(request, Bucket.OTHER)
    resources = resources_of(request)
    if not await knows_event(resources.pool, event_id):
        raise Refusal(problem(RejectionCode.EVENT_UNKNOWN))
    return resources
