"""How does a show get into somebody's calendar?"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal
from uuid import UUID

from sanic import Blueprint, HTTPResponse, Request

from contracts.calendar_file import MEDIA_TYPE, CalendarEntry, calendar_file
from contracts.ids import EventId, OrderId
from contracts.local_times import local_time
from contracts.rejections import RejectionCode
from contracts.site_links import SiteLinks
from db.calendar import EventEntry, OrderEntry, find_event_entry, find_order_entry
from db.tickets import venue_lines
from ingress.gate import Bucket, admit_reader, admitted
from ingress.operation import Access, Content, operation
from ingress.private_files import private_file
from ingress.resources import resources_of
from ingress.responses import problem

calendars = Blueprint("calendars", url_prefix="/api")

_UTF8 = f"{MEDIA_TYPE}; charset=utf-8"

# Of an order that is not paid yet, or for which nothing came of it.
_STATUS_OF_ORDER: dict[str, Literal["TENTATIVE", "CANCELLED"]] = {"pending": "TENTATIVE"}


@calendars.get("/events/<event_id:uuid>/calendar.ics")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: Content(MEDIA_TYPE, "An iCalendar file (RFC 5545) with one event.")},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    cached=True,
)
async def show_event_calendar(request: Request, event_id: UUID) -> HTTPResponse:
    """The show for a calendar. Its UID stays the same and its SEQUENCE grows with every change, so that taking it again
    changes the entry."""
    admit_reader(request)
    resources = resources_of(request)
    event = await find_event_entry(resources.pool, EventId(event_id))
    if event is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    links = SiteLinks.of(resources.settings)
    entry = _entry(event, uid=f"event-{event.event_id}@{links.host}", url=links.event(event.event_id), words=())
    return private_file(request, calendar_file(entry), _UTF8, name=f"event-{event.event_id}.ics")


@calendars.get("/orders/<order_id:uuid>/calendar.ics")
@operation(
    access=Access.OWNER,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: Content(MEDIA_TYPE, "An iCalendar file (RFC 5545) with one event.")},
    refusals=(RejectionCode.ORDER_UNKNOWN,),
    cached=True,
)
async def show_order_calendar(request: Request, order_id: UUID) -> HTTPResponse:
    """The show of an order for its buyer's calendar: cancelled when the show is, or when none of its tickets are his any
    more."""
    asker = await admitted(request, Bucket.OTHER)
    resources = resources_of(request)
    order = await find_order_entry(resources.pool, asker.user_id, OrderId(order_id))
    event = await find_event_entry(resources.pool, order.event_id) if order is not None else None
    if order is None or event is None:
        return problem(RejectionCode.ORDER_UNKNOWN)
    links = SiteLinks.of(resources.settings)
    entry = _entry(
        event,
        uid=f"order-{order_id}@{links.host}",
        url=links.order(OrderId(order_id)),
        words=(f"Tickets: {order.ticket_count}", f"Order: {order_id}"),
        order=order,
    )
    return private_file(request, calendar_file(entry), _UTF8, name=f"order-{order_id}.ics")


def _entry(
    event: EventEntry, *, uid: str, url: str, words: Sequence[str], order: OrderEntry | None = None
) -> CalendarEntry:
    status = _status(event, order)
    return CalendarEntry(
        uid=uid,
        # A show is cancelled once, and an order completed once: every part of this sum only grows.
        sequence=event.version + (order.ticket_changes if order else 0) + (status != "TENTATIVE") + _is_off(event),
        status=status,
        begins_at=event.event_date,
        changed_at=event.changed_at,
        summary=f"{event.artist}: {event.event_name}" if event.artist else event.event_name,
        location=", ".join(venue_lines(event.venue_name, event.venue_address, event.venue_city, event.venue_country)),
        description="\n".join((local_time(event.event_date, event.time_zone), *words, url)),
        url=url,
    )


def _status(event: EventEntry, order: OrderEntry | None) -> Literal["CONFIRMED", "TENTATIVE", "CANCELLED"]:
    if _is_off(event):
        return "CANCELLED"
    if order is None or order.ticket_count:
        return "CONFIRMED"
    return _STATUS_OF_ORDER.get(order.order_status, "CANCELLED")


def _is_off(event: EventEntry) -> bool:
    return event.event_status == "cancelled"
