"""What has an event brought in?"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from uuid import UUID

from pydantic import AwareDatetime, Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.value import Sum, Value
from db.reports import AccountFigures, DayFigures, Difference, Report, TicketCounts, read_report
from ingress.csv_files import Cell, csv_answer, csv_content
from ingress.gate import Bucket, admitted_admin
from ingress.operation import Access, operation
from ingress.resources import resources_of
from ingress.responses import Refusal, json_response, problem

admin_reports = Blueprint("admin_reports", url_prefix="/api/admin/events/<event_id:uuid>")

CSV_HEADER = ("part", "name", "debit", "credit", "amount", "bySales", "count", "currency")


class EventReport(Value):
    """The accounts of an event, as of `at`: every entry takes an amount from one account and gives it to another."""

    event_id: EventId
    name: str
    status: str
    at: AwareDatetime
    currency: str
    accounts: tuple[AccountFigures, ...]
    total: Sum = Field(description="of all accounts together: nothing")
    payout_due: Sum = Field(description="what the payment provider has for us, less what is on its way back to buyers")
    refunds_under_way: Sum
    tickets: TicketCounts
    days: tuple[DayFigures, ...] = Field(description="days on which anything was booked, as they are at the venue")
    time_zone: str
    agrees: bool = Field(description="whether the books say of every order what its items and refunds say")
    differences: tuple[Difference, ...] = Field(description="where they do not; a hundred orders at most")


@admin_reports.get("/report")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: EventReport},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def show_report(request: Request, event_id: UUID) -> HTTPResponse:
    """What an event has brought in: by account and by day, what is to be paid out, and whether the books agree with what was
    sold and given back."""
    report = await _report(request, event_id)
    return json_response(
        EventReport(
            event_id=report.event_id,
            name=report.name,
            status=report.status,
            at=report.read_at,
            currency=report.currency,
            accounts=report.accounts,
            total=report.total,
            payout_due=report.payout_due,
            refunds_under_way=report.refunds_under_way,
            tickets=report.tickets,
            days=report.days,
            time_zone=report.time_zone,
            agrees=not report.differences,
            differences=report.differences,
        )
    )


@admin_reports.get("/report.csv")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.OK: csv_content("The same, a line for each account, day, count and difference.")},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def download_report(request: Request, event_id: UUID) -> HTTPResponse:
    """What an event has brought in, as a CSV file."""
    report = await _report(request, event_id)
    return csv_answer(f"report-{event_id}.csv", [CSV_HEADER, *_rows(report)])


async def _report(request: Request, event_id: UUID) -> Report:
    """Raises Refusal."""
    await admitted_admin(request, Bucket.OTHER)
    report = await read_report(resources_of(request).pool, EventId(event_id))
    if report is None:
        raise Refusal(problem(RejectionCode.EVENT_UNKNOWN))
    return report


def _rows(report: Report) -> Iterator[Sequence[Cell]]:
    money = report.currency
    for one in report.accounts:
        yield "account", one.account, one.debit, one.credit, one.balance, one.balance_by_sales, None, money
    yield "total", "all accounts", None, None, report.total, None, None, money
    yield "total", "refunds under way", None, None, report.refunds_under_way, None, None, money
    yield "total", "payout due", None, None, report.payout_due, None, None, money
    for name, count in report.tickets:
        yield "tickets", name.replace("_", " "), None, None, None, None, count, None
    for day in report.days:
        yield "day", day.day.isoformat(), day.sold, day.given_back, day.net, None, day.orders_sold, money
    for unlike in report.differences:
        name = f"{unlike.what} {unlike.order_id or ''} {unlike.account}".strip()
        yield "difference", name, None, None, unlike.by_ledger, unlike.by_sales, None, money
