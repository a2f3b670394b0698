"""Which events are there, and how does an organiser put one up for sale?"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.value import Share, Value
from db.catalogue import EventCard, EventDetails, Near, Place, Sort, Wanted, find_details, find_page
from db.events import TICKET_LIMIT_DEFAULT, EventNotUpdated, EventStatus, EventTerms, record_event, update_event
from db.read_cache import Document
from ingress.creations import creation
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admit_reader, admitted_admin
from ingress.http_cache import cached_json, entity_tag
from ingress.operation import Access, operation
from ingress.query import QueryModel, query_digest, read_query
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, json_response, problem
from ingress.texts import Line, Looked, Name, one_line, something_or_none, without_nul
from ingress.versions import expected_version, version_tag

events = Blueprint("events", url_prefix="/api")

# The seed's; a write is seen at once.
KEPT_SECONDS = 60
# In browsers and proxies, which nobody tells of a write.
MAX_AGE_SECONDS = 10

NEAR_KM_DEFAULT = 50.0
NEAR_KM_MAX = 500.0
TICKET_LIMIT_MAX = 20
# What PostgreSQL, Python and JavaScript all can reckon with, in any time zone.
YEARS = range(1970, 2200)


def _within_the_calendar(moment: datetime) -> datetime:
    if moment.year not in YEARS:
        raise ValueError(f"a year from {YEARS.start} to {YEARS.stop - 1}")
    return moment


def _written_as_time(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    # A bare number would be taken for seconds since 1970.
    if "T" not in given.upper():
        raise ValueError("a date and a time with an offset: 2026-12-31T20:00:00Z")
    # Read here: behind a validator of ours a strict model takes the text for a value of the wrong type.
    return _TIME.validate_strings(given)


_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


CalendarTime = Annotated[AwareDatetime, BeforeValidator(_written_as_time), AfterValidator(_within_the_calendar)]
Category = Annotated[str, Field(max_length=50), AfterValidator(one_line), AfterValidator(str.lower)]
Price = Annotated[Decimal, Field(ge=0, max_digits=10, decimal_places=2)]

Rate = Annotated[Share, Field(ge=0, lt=1)]

# What people have bought on, by the field: it can still be changed in their favour.
_WORSE = {
    "refund_until": "people have bought: it can only become later",
    "refund_fee_rate": "people have bought: it can only become lower",
}

_NEAR = r"^-?\d{1,2}(\.\d{1,9})?,-?\d{1,3}(\.\d{1,9})?$"


class EventQuery(QueryModel):
    """Which events? What is left out does not matter. Past events are found by dates or as completed, cancelled ones by
    their status."""

    q: Looked | None = Field(None, description="words of name, artist, venue or city; typos are forgiven")
    city: Looked | None = None
    artist: Looked | None = None
    venue_id: UUID | None = None
    category: Annotated[Category, AfterValidator(something_or_none)] | None = None
    status: EventStatus | None = None
    date_from: CalendarTime | None = Field(None, description="no show before this time")
    date_to: CalendarTime | None = Field(None, description="no show after this time")
    price_min: Price | None = Field(None, description="some place costs this or more, everything included")
    price_max: Price | None = Field(None, description="some place costs this or less, everything included")
    near: Annotated[str, Field(pattern=_NEAR)] | None = Field(
        None, description="latitude and longitude in degrees: 52.52,13.405"
    )
    radius_km: Annotated[float, Field(gt=0, le=NEAR_KM_MAX)] | None = Field(
        None, description=f"how far from `near`; {NEAR_KM_DEFAULT:g} if nothing is said"
    )
    sort: Sort | None = Field(None, description="by date if nothing is said, with `q` by relevance")
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )

    @field_validator("near")
    @classmethod
    def _on_the_globe(cls, near: str | None) -> str | None:
        if near is not None:
            latitude, longitude = map(float, near.split(","))
            if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
                raise ValueError("latitude -90 to 90, longitude -180 to 180")
        return near

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.radius_km is not None and self.near is None:
            raise ValueError("radiusKm needs near")
        if self.sort == "relevance" and self.q is None:
            raise ValueError("sort=relevance needs q")
        return self

    @property
    def order(self) -> Sort:
        """The order that was asked for, or that suits the query."""
        return self.sort or ("relevance" if self.q is not None else "date")

    def wanted(self) -> Wanted:
        """The same for the catalogue."""
        same = self.model_dump(exclude={"q", "near", "radius_km", "sort", "limit", "cursor"})
        return Wanted(text=self.q, near=self._area(), **same)

    def _area(self) -> Near | None:
        if self.near is None:
            return None
        latitude, longitude = map(float, self.near.split(","))
        return Near(latitude, longitude, self.radius_km or NEAR_KM_DEFAULT)


class EventPage(Value):
    """Some events, and the cursor of the page that follows; null after the last."""

    events: tuple[EventCard, ...]
    next_cursor: str | None


class EventRequest(RequestModel):
    """An event, all of it. Its seats and their prices are those its venue has when it is made."""

    name: Name
    artist: Annotated[Line, Field(max_length=255)] = ""
    category: Category = Field("", description="kept in lower case")
    description: Annotated[str, Field(max_length=10_000)] = ""
    venue_id: UUID
    event_date: CalendarTime
    on_sale_date: CalendarTime = Field(description="before eventDate")
    off_sale_date: CalendarTime | None = Field(None, description="after onSaleDate; eventDate if nothing is said")
    ticket_limit: Annotated[int, Field(ge=1, le=TICKET_LIMIT_MAX)] = Field(
        TICKET_LIMIT_DEFAULT, description="how many tickets one buyer may have, all orders together"
    )
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "EUR"
    high_demand: bool = Field(False, description="whether a crowd is expected")
    presale_date: CalendarTime | None = Field(
        None, description="from then on whoever has a code that opens the presale may have seats; before onSaleDate"
    )
    fee_rate: Rate = Field(Decimal(0), description="the share of a price without its tax that is a fee; below 1")
    tax_rate: Rate = Field(Decimal(0), description="0.19: a price is what it would be without tax, times 1.19; below 1")
    refund_until: CalendarTime | None = Field(
        None, description="until then buyers may give tickets back by themselves; null: never. Not after eventDate"
    )
    refund_fee_rate: Annotated[Share, Field(ge=0, le=1)] = Field(
        Decimal(0), description="the share of the price that is kept when a buyer gives a ticket back"
    )
    transfers: bool = Field(True, description="whether buyers may pass tickets on to other accounts")
    resales: bool = Field(True, description="whether buyers may offer tickets to others, for what they cost or less")
    rotating_codes: bool = Field(False, description="whether the code of a ticket changes every few seconds")

    @field_validator("on_sale_date")
    @classmethod
    def _before_the_show(cls, on_sale_date: datetime, info: ValidationInfo) -> datetime:
        if "event_date" in info.data and not on_sale_date < info.data["event_date"]:
            raise ValueError("must be before eventDate")
        return on_sale_date

    @field_validator("off_sale_date")
    @classmethod
    def _after_the_beginning(cls, off_sale_date: datetime | None, info: ValidationInfo) -> datetime | None:
        begins = info.data.get("on_sale_date")
        if off_sale_date is not None and begins is not None and not off_sale_date > begins:
            raise ValueError("must be after onSaleDate")
        return off_sale_date

    @field_validator("presale_date")
    @classmethod
    def _before_the_sale(cls, presale_date: datetime | None, info: ValidationInfo) -> datetime | None:
        begins = info.data.get("on_sale_date")
        if presale_date is not None and begins is not None and not presale_date < begins:
            raise ValueError("must be before onSaleDate")
        return presale_date

    @field_validator("refund_until")
    @classmethod
    def _not_after_the_show(cls, refund_until: datetime | None, info: ValidationInfo) -> datetime | None:
        shows = info.data.get("event_date")
        if refund_until is not None and shows is not None and refund_until > shows:
            raise ValueError("must not be after eventDate")
        return refund_until

    def terms(self) -> EventTerms:
        """The same for the database."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return EventTerms(**{**given, "off_sale_date": self.off_sale_date or self.event_date})


class EventCreated(Value):
    """The event is there with so many places; the whole of it is at `Location`."""

    id: EventId
    version: int
    capacity: int


_EXAMPLE: Mapping[str, Any] = {
    "name": "Mina Solberg: Northern Lights",
    "artist": "Mina Solberg",
    "category": "pop",
    "description": "One night, no support act.",
    "venueId": "3f0f4c9e-0b53-4d0c-9a0e-5d7d1c1b2a10",
    "eventDate": "2027-05-14T19:30:00+02:00",
    "onSaleDate": "2027-01-15T10:00:00+01:00",
    "ticketLimit": 6,
    "currency": "EUR",
}

_Tier = Annotated[int, Field(ge=0, le=2)]
_BY_TIME: TypeAdapter[Any] = TypeAdapter(tuple[CalendarTime, UUID, _Tier])
_BY_PRICE: TypeAdapter[Any] = TypeAdapter(tuple[Price, UUID, _Tier])
_BY_NAME: TypeAdapter[Any] = TypeAdapter(tuple[Annotated[str, AfterValidator(without_nul)], UUID, _Tier])
# What a cursor holds, by the order it was given out in.
_PLACES: dict[Sort, TypeAdapter[Any]] = {
    "date": _BY_TIME,
    "-date": _BY_TIME,
    "onSale": _BY_TIME,
    "relevance": _BY_TIME,
    "price": _BY_PRICE,
    "-price": _BY_PRICE,
    "name": _BY_NAME,
}


@events.get("/events")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    query=EventQuery,
    answers={HTTPStatus.OK: EventPage},
    cached=True,
)
async def list_events(request: Request) -> HTTPResponse:
    """Find events by words, place, time and price, page by page."""
    admit_reader(request)
    query = read_query(request, EventQuery)
    after = _read_place(query)
    resources = resources_of(request)

    async def load() -> Document:
        page = await find_page(resources.pool, query.wanted(), sort=query.order, after=after, limit=query.limit)
        next_cursor = write_cursor(query, page.next_place) if page.next_place is not None else None
        body = EventPage(events=page.events, next_cursor=next_cursor).model_dump_json().encode()
        return Document(entity_tag(body), body)

    document = await resources.read_cache.get(f"events:{query_digest(query)}", load, seconds=KEPT_SECONDS)
    return cached_json(request, document.body, etag=document.tag, max_age_seconds=MAX_AGE_SECONDS)


@events.get("/events/<event_id:uuid>")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: EventDetails},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    cached=True,
)
async def show_event(request: Request, event_id: UUID) -> HTTPResponse:
    """One event with its venue and its sections. The ETag begins with its version, which PUT takes in If-Match."""
    admit_reader(request)
    resources = resources_of(request)

    async def load() -> Document | None:
        return _document(await find_details(resources.pool, EventId(event_id)))

    document = await resources.read_cache.find(f"event:{event_id}", load, seconds=KEPT_SECONDS)
    if document is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    return cached_json(request, document.body, etag=document.tag, max_age_seconds=MAX_AGE_SECONDS)


@events.post("/events")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=EventRequest,
    answers={HTTPStatus.CREATED: EventCreated},
    keyed=True,
    headers={"location": "where the event is", "etag": "its version, for If-Match"},
    examples={"a concert": _EXAMPLE},
)
async def create_event(request: Request) -> HTTPResponse:
    """Put an event up for sale, with a seat for every place its venue has now."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, EventRequest)
    made = creation(request, user_id=asker.user_id, route="create_event")
    event_id = EventId(made.id)
    resources = resources_of(request)
    recorded = await record_event(
        resources.pool, event_id, wanted.terms(), by=asker.user_id, request_hash=made.request_hash
    )
    if recorded == "key_reused":
        return problem(RejectionCode.IDEMPOTENCY_KEY_REUSED)
    if recorded == "venue_unknown":
        return _invalid("/venueId", "there is no such venue")
    if recorded == "prices_not_payable":
        return _invalid("/currency", "a price of this venue is no whole number of its smallest payable unit")
    await resources.read_cache.forget_all()
    created = EventCreated(id=event_id, version=1, capacity=recorded.capacity)
    return json_response(created, HTTPStatus.CREATED, {"location": f"/api/events/{event_id}", "etag": '"1"'})


@events.put("/events/<event_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=EventRequest,
    answers={HTTPStatus.OK: EventDetails},
    refusals=(RejectionCode.EVENT_UNKNOWN, ProblemCode.CHANGED_MEANWHILE, ProblemCode.NOT_CHANGEABLE),
    guarded=True,
    headers={"etag": "its version and a hash of the answer"},
    examples={"the whole event": _EXAMPLE},
)
async def replace_event(request: Request, event_id: UUID) -> HTTPResponse:
    """Change an event: send the whole of it, and the ETag you have seen in If-Match. Its venue and its currency stay, its
    onSaleDate too once the sale has begun. Once it, or a presale, has begun, presaleDate, feeRate and taxRate stay, and
    refundUntil and refundFeeRate change in the buyers' favour only. Nothing of a completed or cancelled event can be changed."""
    asker = await admitted_admin(request, Bucket.OTHER)
    expected = expected_version(request)
    wanted = read_json(request, EventRequest)
    resources = resources_of(request)
    refused = await update_event(
        resources.pool, EventId(event_id), wanted.terms(), by=asker.user_id, if_version=expected
    )
    if refused is not None:
        return _not_updated(refused)
    await resources.read_cache.forget_all()
    document = _document(await find_details(resources.pool, EventId(event_id)))
    if document is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    return json_response(document.body, headers={"etag": document.tag})


def _document(details: EventDetails | None) -> Document | None:
    if details is None:
        return None
    body = details.model_dump_json().encode()
    return Document(version_tag(details.version, body), body)


def _not_updated(refused: EventNotUpdated) -> HTTPResponse:
    if refused.reason == "unknown":
        return problem(RejectionCode.EVENT_UNKNOWN)
    if refused.reason == "changed_meanwhile":
        return problem(ProblemCode.CHANGED_MEANWHILE)
    errors = [{"pointer": f"/{to_camel(name)}", "message": "can no longer be changed"} for name in refused.fields]
    errors += [{"pointer": f"/{to_camel(name)}", "message": _WORSE[name]} for name in refused.worse]
    return problem(ProblemCode.NOT_CHANGEABLE, errors=errors)


def _invalid(pointer: str, message: str) -> HTTPResponse:
    return problem(ProblemCode.INVALID_REQUEST, errors=[{"pointer": pointer, "message": message}])


def _read_place(query: EventQuery) -> Place | None:
    if query.cursor is None:
        return None
    return Place(*read_cursor(query, query.cursor, _PLACES[query.order]))
