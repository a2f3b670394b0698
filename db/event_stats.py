"""How does the sale of an event go, in figures for its organiser?

All of it is read as of one moment, without a lock. Money comes from the books (`money_ledger`), to the cent; what was sold in
which minute from what analytics counted, which may lack the last second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from pydantic import AwareDatetime, Field

from contracts.ids import EventId
from contracts.sales_pace import PACE_MINUTES, SalesMinute
from contracts.value import Sum, Value
from db.events import EventStatus
from db.moments import one_moment
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("event_stats")

_NOTHING = Decimal("0.00")


class SectionFigures(Value):
    """The seats of a section, and what was paid for those that are sold, fees and taxes included."""

    section: str
    capacity: int
    available: int
    held: int
    sold: int
    withheld: int
    on_resale: int = Field(description="of those available or held: seats that their owners offer to others")
    revenue: Sum
    fees: Sum
    tax: Sum


class MinuteFigures(Value):
    """What happened in the minute that began then."""

    minute_at: AwareDatetime
    seats_reserved: int
    seats_sold: int
    orders_completed: int
    revenue: Sum


class MoneyFigures(Value):
    """Where the money went: gross = tickets + fees + tax, and net = gross - refunded - reversed."""

    currency: str
    gross: Sum = Field(description="what was paid for everything that was ever sold")
    tickets: Sum = Field(description="of gross: what is neither a fee nor a tax")
    fees: Sum
    tax: Sum
    refunded: Sum = Field(description="what buyers have got back")
    reversed: Sum = Field(description="of sales that came to nothing: it was never collected")
    refund_fees: Sum = Field(description="what was kept of what was given back; it is part of net")
    refunds_under_way: Sum = Field(description="asked for, and not confirmed by the payment provider yet; still in net")
    net: Sum = Field(description="what the payment provider has for us")

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]], *, currency: str, under_way: Decimal) -> Self:
        """From the sums of the ledger, as (debit, credit, is_refund, amount)."""
        sold = dict.fromkeys(("tickets", "fees", "tax"), _NOTHING)
        back = {True: _NOTHING, False: _NOTHING}
        kept = net = _NOTHING
        for entry in entries:
            debit, credit, amount = entry["debit"], entry["credit"], entry["amount"]
            kept += amount * ((credit == "refund_fees") - (debit == "refund_fees"))
            net += amount * ((debit == "provider") - (credit == "provider"))
            if debit == "provider" and credit in sold:
                sold[credit] += amount
            else:
                back[entry["is_refund"]] += amount * ((credit == "provider") - (debit == "provider"))
        return cls(
            currency=currency,
            gross=sum(sold.values(), _NOTHING),
            **sold,
            refunded=back[True],
            reversed=back[False],
            refund_fees=kept,
            refunds_under_way=under_way,
            net=net,
        )


class TicketFigures(Value):
    """What became of the tickets."""

    valid: int
    void: int
    transferred: int = Field(description="of the valid ones: somebody else's by now than who bought them")
    checked_in: int
    complimentary: int = Field(description="of the valid ones: given by the organiser")


class WaitingListFigures(Value):
    """Who waits for seats that are freed."""

    waiting: int
    waiting_for_seats: int
    offered: int
    bought: int
    lapsed: int
    left: int


@dataclass(frozen=True, kw_only=True)
class EventFigures:
    """A sale as of `read_at`. `minutes` are at least the last PACE_MINUTES, the latest last."""

    event_id: EventId
    name: str
    status: EventStatus
    currency: str
    event_date: datetime
    began_at: datetime
    off_sale_date: datetime
    capacity: int
    read_at: datetime
    has_room: bool
    sections: tuple[SectionFigures, ...]
    minutes: tuple[MinuteFigures, ...]
    money: MoneyFigures
    orders: dict[str, int]  # by status, without those that the organiser gave away
    complimentary_orders: int
    tickets: TicketFigures
    people_reserved: int
    people_checked_out: int
    people_paid: int
    waiting_list: WaitingListFigures

    @property
    def seats_left(self) -> int:
        """What may still be sold: a seat that is held is sold or comes back."""
        return sum(section.available + section.held for section in self.sections)

    def pace(self) -> list[SalesMinute]:
        """What was sold in the last minutes."""
        return [SalesMinute(minute.minute_at, minute.seats_sold) for minute in self.minutes]


async def read_figures(pool: Pool, event_id: EventId, *, minutes: int) -> EventFigures | None:
    """How the event's sale goes; None for an event that does not exist. Raises PostgreSQL's errors."""
    async with one_moment(pool) as tx:
        event = await tx.fetchrow(_sql.find_event, event_id)
        if event is None:
            return None
        seats = await tx.fetch(_sql.count_seats, event_id)
        items = await tx.fetch(_sql.sum_items, event_id)
        minute_records = await tx.fetch(_sql.list_minutes, event_id, max(minutes, PACE_MINUTES))
        entries = await tx.fetch(_sql.sum_ledger, event_id)
        orders = await tx.fetch(_sql.count_orders, event_id)
        tickets = await tx.fetchrow(_sql.count_tickets, event_id)
        refunds = await tx.fetch(_sql.sum_refunds, event_id)
        people = await tx.fetchrow(_sql.count_people, event_id)
        waiting = await tx.fetch(_sql.count_waiting_list, event_id)
    under_way = sum((record["amount"] for record in refunds if record["status"] == "requested"), _NOTHING)
    return EventFigures(
        event_id=event_id,
        **event,
        sections=tuple(_sections(seats, items)),
        minutes=tuple(MinuteFigures(**record) for record in minute_records),
        money=MoneyFigures.of(entries, currency=event["currency"], under_way=under_way),
        orders={record["status"]: record["order_count"] for record in orders if record["kind"] == "sale"},
        complimentary_orders=sum(r["order_count"] for r in orders if r["kind"] == "complimentary"),
        tickets=TicketFigures(**tickets),
        people_reserved=people["reserved"],
        people_checked_out=people["checked_out"],
        people_paid=people["paid"],
        waiting_list=_waiting_list(waiting),
    )


def _sections(seats: Iterable[Mapping[str, Any]], items: Iterable[Mapping[str, Any]]) -> Iterable[SectionFigures]:
    paid = {record["section"]: record for record in items}
    nothing = {"revenue": _NOTHING, "fees": _NOTHING, "tax": _NOTHING}
    for record in seats:
        yield SectionFigures(**{**nothing, **record, **paid.get(record["section"], {})})


def _waiting_list(records: Iterable[Mapping[str, Any]]) -> WaitingListFigures:
    people = dict.fromkeys(("waiting", "offered", "bought", "lapsed", "left"), 0)
    wanted_seats = 0
    for record in records:
        people[record["status"]] = record["people"]
        if record["status"] == "waiting":
            wanted_seats = record["seats"]
    return WaitingListFigures(waiting_for_seats=wanted_seats, **people)
