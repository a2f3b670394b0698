"""Where do shows take place, and how does an organiser draw a house?"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Self
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, TypeAdapter, ValidationInfo, field_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.house import RowLine, SectionConfig, row_lines
from contracts.ids import VenueId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.catalogue import VenuePlace, VenueSummary, find_venues
from db.read_cache import Document
from db.venues import Venue, VenueTerms, find_venue, record_venue, update_venue
from ingress.creations import creation
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admit_reader, admitted_admin
from ingress.http_cache import cached_json, entity_tag
from ingress.operation import Access, operation
from ingress.query import QueryModel, query_digest, read_query
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import ProblemCode, json_response, problem
from ingress.texts import Line, Looked, Name, without_nul
from ingress.versions import expected_version, version_tag

venues = Blueprint("venues", url_prefix="/api")

# The seed's; a write is seen at once.
LIST_KEPT_SECONDS = 60
VENUE_KEPT_SECONDS = 300
# In browsers and proxies, which nobody tells of a write.
MAX_AGE_SECONDS = 60


def _known_zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("an IANA time zone, like Europe/Berlin")
    return name


# Read from the system's files once; it takes 20 ms.
_ZONES = frozenset(available_timezones())

Degrees = Annotated[float, Field(allow_inf_nan=False)]


class VenueQuery(QueryModel):
    """Which venues? What is left out does not matter."""

    q: Looked | None = Field(None, description="words of name or city; typos are forgiven")
    city: Looked | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )


class VenuePage(Value):
    """Some venues by city and name, and the cursor of the page that follows; null after the last."""

    venues: tuple[VenueSummary, ...]
    next_cursor: str | None


class SectionRows(Value):
    """Where the rows of a section lie, from A on; a section without numbered seats has none."""

    section: str
    rows: tuple[RowLine, ...]


class VenueDetails(Venue):
    """A venue and its map: sections with their places, and a line `[[x, y], [x, y], bend]` for each row, whose seats are
    spaced evenly from its start to its end. The stage is at the top, in the middle, at x = 500."""

    row_lines: tuple[SectionRows, ...]

    @classmethod
    def drawn(cls, venue: Venue) -> Self:
        """The venue with a place for everything that has none of its own."""
        house = venue.section_config.laid_out()
        rows = [SectionRows(section=section.name, rows=tuple(row_lines(section))) for section in house.sections]
        return cls(**{**dict(venue), "section_config": house, "row_lines": tuple(rows)})


class VenueRequest(RequestModel):
    """A venue, all of it."""

    name: Name
    address: Annotated[Line, Field(max_length=500)] = ""
    city: Annotated[Line, Field(max_length=100)] = ""
    country: Annotated[Line, Field(max_length=100)] = ""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field("UTC", description="an IANA name: Europe/Berlin")
    latitude: Annotated[Degrees, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[Degrees, Field(ge=-180, le=180)] | None = Field(None, validate_default=True)
    section_config: SectionConfig

    @field_validator("longitude")
    @classmethod
    def _both_or_neither(cls, longitude: float | None, info: ValidationInfo) -> float | None:
        if "latitude" in info.data and (longitude is None) != (info.data["latitude"] is None):
            raise ValueError("latitude and longitude: both or neither")
        return longitude

    def terms(self) -> VenueTerms:
        """The same for the database."""
        return VenueTerms(**{name: getattr(self, name) for name in type(self).model_fields})


class VenueCreated(Value):
    """The venue is there, with so many places; the whole of it is at `Location`."""

    id: VenueId
    version: int
    capacity: int


_EXAMPLE: Mapping[str, Any] = {
    "name": "Grand Hall",
    "address": "1 Stage Street",
    "city": "Berlin",
    "country": "Germany",
    "timeZone": "Europe/Berlin",
    "latitude": 52.52,
    "longitude": 13.405,
    "sectionConfig": {
        "sections": [
            {"name": "Stalls", "rows": 10, "seatsPerRow": 20, "price": "55.00", "accessible": {"A": [1, 2]}},
            {"name": "Floor", "type": "general_admission", "capacity": 300, "price": "35.00"},
        ]
    },
}

_Text = Annotated[str, AfterValidator(without_nul)]
_PLACE: TypeAdapter[tuple[str, str, UUID]] = TypeAdapter(tuple[_Text, _Text, UUID])


@venues.get("/venues")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    query=VenueQuery,
    answers={HTTPStatus.OK: VenuePage},
    cached=True,
)
async def list_venues(request: Request) -> HTTPResponse:
    """Find venues by words or city, page by page."""
    admit_reader(request)
    query = read_query(request, VenueQuery)
    after = VenuePlace(*read_cursor(query, query.cursor, _PLACE)) if query.cursor is not None else None
    resources = resources_of(request)

    async def load() -> Document:
        page = await find_venues(resources.pool, text=query.q, city=query.city, after=after, limit=query.limit)
        next_cursor = write_cursor(query, page.next_place) if page.next_place is not None else None
        body = VenuePage(venues=page.venues, next_cursor=next_cursor).model_dump_json().encode()
        return Document(entity_tag(body), body)

    document = await resources.read_cache.get(f"venues:{query_digest(query)}", load, seconds=LIST_KEPT_SECONDS)
    return cached_json(request, document.body, etag=document.tag, max_age_seconds=MAX_AGE_SECONDS)


@venues.get("/venues/<venue_id:uuid>")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.BROWSE,
    answers={HTTPStatus.OK: VenueDetails},
    refusals=(ProblemCode.VENUE_UNKNOWN,),
    cached=True,
)
async def show_venue(request: Request, venue_id: UUID) -> HTTPResponse:
    """One venue with its map. The ETag begins with its version, which PUT takes in If-Match."""
    admit_reader(request)
    resources = resources_of(request)

    async def load() -> Document | None:
        return _document(await find_venue(resources.pool, VenueId(venue_id)))

    document = await resources.read_cache.find(f"venue:{venue_id}", load, seconds=VENUE_KEPT_SECONDS)
    if document is None:
        return problem(ProblemCode.VENUE_UNKNOWN)
    return cached_json(request, document.body, etag=document.tag, max_age_seconds=MAX_AGE_SECONDS)


@venues.post("/venues")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=VenueRequest,
    answers={HTTPStatus.CREATED: VenueCreated},
    keyed=True,
    headers={"location": "where the venue is", "etag": "its version, for If-Match"},
    examples={"seats and a floor": _EXAMPLE},
)
async def create_venue(request: Request) -> HTTPResponse:
    """Add a venue: its sections in the order of the map, the best places first."""
    asker = await admitted_admin(request, Bucket.OTHER)
    wanted = read_json(request, VenueRequest)
    made = creation(request, user_id=asker.user_id, route="create_venue")
    venue_id = VenueId(made.id)
    resources = resources_of(request)
    refused = await record_venue(
        resources.pool, venue_id, wanted.terms(), by=asker.user_id, request_hash=made.request_hash
    )
    if refused == "key_reused":
        return problem(RejectionCode.IDEMPOTENCY_KEY_REUSED)
    await resources.read_cache.forget_all()
    created = VenueCreated(id=venue_id, version=1, capacity=wanted.section_config.capacity)
    return json_response(created, HTTPStatus.CREATED, {"location": f"/api/venues/{venue_id}", "etag": '"1"'})


@venues.put("/venues/<venue_id:uuid>")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    body=VenueRequest,
    answers={HTTPStatus.OK: VenueDetails},
    refusals=(ProblemCode.VENUE_UNKNOWN, ProblemCode.CHANGED_MEANWHILE),
    guarded=True,
    headers={"etag": "its version and a hash of the answer"},
    examples={"the whole venue": _EXAMPLE},
)
async def replace_venue(request: Request, venue_id: UUID) -> HTTPResponse:
    """Change a venue: send the whole of it, and the ETag you have seen in If-Match. Events that are there keep the seats
    they were made with."""
    asker = await admitted_admin(request, Bucket.OTHER)
    expected = expected_version(request)
    wanted = read_json(request, VenueRequest)
    resources = resources_of(request)
    refused = await update_venue(
        resources.pool, VenueId(venue_id), wanted.terms(), by=asker.user_id, if_version=expected
    )
    if refused == "changed_meanwhile":
        return problem(ProblemCode.CHANGED_MEANWHILE)
    document = _document(await find_venue(resources.pool, VenueId(venue_id))) if refused is None else None
    if document is None:
        return problem(ProblemCode.VENUE_UNKNOWN)
    await resources.read_cache.forget_all()
    return json_response(document.body, headers={"etag": document.tag})


def _document(venue: Venue | None) -> Document | None:
    if venue is None:
        return None
    body = VenueDetails.drawn(venue).model_dump_json().encode()
    return Document(version_tag(venue.version, body), body)
