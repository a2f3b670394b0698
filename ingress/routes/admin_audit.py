"""What have organisers done?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field, TypeAdapter
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId, UserId
from contracts.value import Value
from db.audit_log import Deed, DeedFilter, list_deeds, read_deeds
from ingress.csv_files import csv_content, send_csv
from ingress.cursors import read_cursor, write_cursor
from ingress.gate import Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.resources import resources_of
from ingress.responses import json_response
from ingress.routes.events import CalendarTime

admin_audit = Blueprint("admin_audit", url_prefix="/api/admin")

_ID: TypeAdapter[tuple[int]] = TypeAdapter(tuple[Annotated[int, Field(ge=0, lt=2**63)]])

CSV_COLUMNS = ("at", "user_name", "user_email", "action", "event_name", "event_id", "subject", "before", "after")


class AuditFilter(QueryModel):
    """Which deeds? What is left out does not matter."""

    event_id: UUID | None = None
    user_id: UUID | None = Field(None, description="whose")
    action: Annotated[str, Field(max_length=50)] | None = Field(None, description="update_event, for example")
    since: CalendarTime | None = Field(None, alias="from", description="none before this time")
    until: CalendarTime | None = Field(None, alias="to", description="none at this time or after it")

    def wanted(self) -> DeedFilter:
        """The same for the database."""
        return DeedFilter(
            event_id=None if self.event_id is None else EventId(self.event_id),
            user_id=None if self.user_id is None else UserId(self.user_id),
            action=self.action,
            from_at=self.since,
            before_at=self.until,
        )


class AuditQuery(AuditFilter):
    """Which deeds, page by page?"""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="nextCursor of the page before; the rest of the query stays as it was"
    )


class AuditPage(Value):
    """Some deeds, newest first, and the cursor of those before them; null after the first there ever was."""

    deeds: tuple[Deed, ...]
    next_cursor: str | None


@admin_audit.get("/audit")
@operation(access=Access.ADMIN, bucket=Bucket.OTHER, query=AuditQuery, answers={HTTPStatus.OK: AuditPage})
async def list_audit(request: Request) -> HTTPResponse:
    """What organisers have done: who, what, to what, and how it was before and after; newest first."""
    await admitted_admin(request, Bucket.OTHER)
    query = read_query(request, AuditQuery)
    before_id = None if query.cursor is None else read_cursor(query, query.cursor, _ID)[0]
    # One more than asked for tells whether there is another page.
    found = await list_deeds(resources_of(request).pool, query.wanted(), before_id=before_id, limit=query.limit + 1)
    deeds = tuple(found[: query.limit])
    next_cursor = write_cursor(query, (deeds[-1].id,)) if len(found) > query.limit else None
    return json_response(AuditPage(deeds=deeds, next_cursor=next_cursor))


@admin_audit.get("/audit.csv")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    query=AuditFilter,
    answers={HTTPStatus.OK: csv_content("The same deeds, all of them: a header, then one line for each.")},
)
async def download_audit(request: Request) -> HTTPResponse | None:
    """What organisers have done, as a CSV file."""
    await admitted_admin(request, Bucket.OTHER)
    query = read_query(request, AuditFilter)
    return await send_csv(request, "audit.csv", CSV_COLUMNS, read_deeds(resources_of(request).pool, query.wanted()))
