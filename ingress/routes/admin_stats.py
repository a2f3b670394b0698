"""How does an event sell?"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.sales_pace import SellOut, time_to_sell_out
from contracts.value import Value
from contracts.waiting_line import Snapshot
from contracts.waiting_room import LogKind, Phase
from db.coalescer import CoalescerFull
from db.event_stats import (
    EventFigures,
    MinuteFigures,
    MoneyFigures,
    SectionFigures,
    TicketFigures,
    WaitingListFigures,
    read_figures,
)
from db.events import EventStatus
from db.read_cache import Document
from db.redis import REDIS_AWAY
from db.waiting_room_records import count_log
from ingress.gate import Bucket, admitted_admin
from ingress.http_cache import entity_tag
from ingress.operation import Access, operation
from ingress.query import QueryModel, read_query
from ingress.resources import IngressResources, resources_of
from ingress.responses import json_response, problem

admin_stats = Blueprint("admin_stats", url_prefix="/api/admin/events/<event_id:uuid>")

# Ten dashboards that ask every second cost what one costs that asks every other second.
KEPT_SECONDS = 2

NOBODY_SAYS: tuple[type[BaseException], ...] = (*REDIS_AWAY, CoalescerFull)


class StatsQuery(QueryModel):
    """How much of the past?"""

    minutes: Annotated[int, Field(ge=1, le=1440)] = Field(60, description="how many of the last minutes")


class SeatTotals(Value):
    """The whole house."""

    capacity: int
    available: int
    held: int
    sold: int
    withheld: int


class Funnel(Value):
    """How many people got how far. Of those before the seats only where there is, or was, a waiting room."""

    joined: int | None = Field(description="places in the waiting room that were given out")
    admitted: int | None = Field(description="turns that came")
    reserved: int = Field(description="people for whom seats were ever set aside")
    checked_out: int = Field(description="of those, who began to pay")
    paid: int = Field(description="and have, or had, tickets")


class QueueFigures(Value):
    """Who and what waits at this moment."""

    phase: Phase | None = Field(description="of the waiting room; null, as the next three, where none is open")
    people_waiting: int | None
    people_inside: int | None = Field(description="let in: their turn has come, or they are choosing")
    admitted_per_second: float | None = Field(description="of late; null too while it is not known")
    commands_waiting: int | None = Field(
        description="messages in the event's command queue, or in the lane it shares with others; null: the broker does"
        " not say"
    )


class EventStats(Value):
    """How an event sells, as of `at`; everything but `queue` is of exactly that moment."""

    event_id: EventId
    name: str
    status: EventStatus
    at: AwareDatetime
    event_date: AwareDatetime
    seats: SeatTotals
    sections: tuple[SectionFigures, ...] = Field(description="in the order of the map")
    minutes: tuple[MinuteFigures, ...] = Field(description="the last ones, the one that is running at the end")
    money: MoneyFigures
    orders: dict[str, int] = Field(description="by status; without those that the organiser gave away")
    complimentary_orders: int
    tickets: TicketFigures
    funnel: Funnel
    queue: QueueFigures
    waiting_list: WaitingListFigures
    sell_out: SellOut | None = Field(
        description="what is left, at the average pace of the last ten minutes (of the sale so far, if it began since); null"
        " when nothing is left or nothing was sold in that time"
    )


@admin_stats.get("/stats")
@operation(
    access=Access.ADMIN,
    bucket=Bucket.OTHER,
    query=StatsQuery,
    answers={HTTPStatus.OK: EventStats},
    refusals=(RejectionCode.EVENT_UNKNOWN,),
)
async def show_stats(request: Request, event_id: UUID) -> HTTPResponse:
    """How an event sells: seats by status and section, sales by minute, money, tickets, how many got how far, who waits, and
    when it will be sold out. Made at most every two seconds, however many ask."""
    await admitted_admin(request, Bucket.OTHER)
    minutes = read_query(request, StatsQuery).minutes
    resources = resources_of(request)

    async def load() -> Document | None:
        stats = await _stats(resources, EventId(event_id), minutes)
        if stats is None:
            return None
        body = stats.model_dump_json().encode()
        return Document(entity_tag(body), body)

    document = await resources.read_cache.find(f"stats:{event_id}:{minutes}", load, seconds=KEPT_SECONDS)
    return problem(RejectionCode.EVENT_UNKNOWN) if document is None else json_response(document.body)


async def _stats(resources: IngressResources, event_id: EventId, minutes: int) -> EventStats | None:
    figures = await read_figures(resources.pool, event_id, minutes=minutes)
    if figures is None:
        return None
    room = await _find_room(resources, event_id) if figures.has_room else None
    joined, admitted = await _let_in(resources, figures, room)
    return EventStats(
        event_id=event_id,
        name=figures.name,
        status=figures.status,
        at=figures.read_at,
        event_date=figures.event_date,
        seats=_totals(figures),
        sections=figures.sections,
        minutes=figures.minutes[-minutes:],
        money=figures.money,
        orders=figures.orders,
        complimentary_orders=figures.complimentary_orders,
        tickets=figures.tickets,
        funnel=Funnel(
            joined=joined,
            admitted=admitted,
            reserved=figures.people_reserved,
            checked_out=figures.people_checked_out,
            paid=figures.people_paid,
        ),
        queue=_queue(room, await resources.command_bus.find_depth(event_id)),
        waiting_list=figures.waiting_list,
        sell_out=time_to_sell_out(figures.seats_left, figures.pace(), began_at=figures.began_at, now=figures.read_at),
    )


async def _find_room(resources: IngressResources, event_id: EventId) -> Snapshot | None:
    """How the waiting room stands; None when nobody can say."""
    try:
        known = await resources.room_desk.snapshots.find(event_id)
    except NOBODY_SAYS:
        return None
    return None if known is None else known.snapshot


async def _let_in(
    resources: IngressResources, figures: EventFigures, room: Snapshot | None
) -> tuple[int | None, int | None]:
    """How many have joined the waiting room, and how many turns have come."""
    if not figures.has_room:
        return None, None
    if room is not None:
        return room.joined, room.admitted
    # Redis has forgotten it, or is away: the log knows, though it may lack the last second.
    counts = await count_log(resources.pool, figures.event_id)
    return counts.get(LogKind.JOINED, 0), counts.get(LogKind.ADMITTED, 0)


def _totals(figures: EventFigures) -> SeatTotals:
    names = ("available", "held", "sold", "withheld")
    sums = {name: sum(getattr(section, name) for section in figures.sections) for name in names}
    return SeatTotals(capacity=figures.capacity, **sums)


def _queue(room: Snapshot | None, commands_waiting: int | None) -> QueueFigures:
    rates = () if room is None else room.pace.admitted_per_second
    return QueueFigures(
        phase=None if room is None else room.phase,
        people_waiting=None if room is None else room.waiting,
        people_inside=None if room is None else room.ready + room.active,
        admitted_per_second=rates[-1] if rates else None,
        commands_waiting=commands_waiting,
    )
