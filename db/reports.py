"""What has an event brought in, and do the books agree with what was sold?

The same amounts are found twice: in the books (`money_ledger`), and, without a look at those, from orders, items and refunds
(`money_by_sales`). Where the two say different things, the report says so, order by order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from pydantic import AwareDatetime, Field

from contracts.ids import EventId, OrderId
from contracts.value import Sum, Value
from db.moments import be_patient, one_moment
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("reports")

# In the order of the report. provider: what the payment provider has for us; the others say what it was paid for.
ACCOUNTS: Final = ("provider", "tickets", "fees", "tax", "refund_fees")
# Of a book that is wrong everywhere nobody reads more; the accounts show how much it is altogether.
DIFFERENCES_MAX: Final = 100

_NOTHING = Decimal("0.00")


class AccountFigures(Value):
    """An account. Its balance is debit less credit: above nothing of what we have, below it of what we have it for."""

    account: str
    debit: Sum
    credit: Sum
    balance: Sum
    balance_by_sales: Sum = Field(description="the same from orders, items and refunds, without a look at the books")


class DayFigures(Value):
    """What went through the books on a day, as days are at the venue."""

    day: date
    sold: Sum
    given_back: Sum = Field(description="what buyers got back; what was kept is not part of it")
    net: Sum
    orders_sold: int
    refunds: int


class TicketCounts(Value):
    """Tickets, whoever has them."""

    sold: int = Field(description="ever, those that were given back among them")
    refunded: int
    refunds_under_way: int
    complimentary: int = Field(description="given by the organiser; not among those that were sold")


class Difference(Value):
    """What the books say of an account, and what they ought to say. Without an order it is about all of them."""

    what: str = Field(
        description="order: an order's share of an account; sum: the books do not sum to zero; currency: entries in another one"
    )
    order_id: OrderId | None
    account: str
    by_ledger: Sum
    by_sales: Sum


@dataclass(frozen=True, kw_only=True)
class Report:
    """The accounts of an event as of `read_at`."""

    event_id: EventId
    name: str
    status: str
    currency: str
    event_date: AwareDatetime
    time_zone: str
    read_at: AwareDatetime
    accounts: tuple[AccountFigures, ...]
    days: tuple[DayFigures, ...]
    tickets: TicketCounts
    refunds_under_way: Decimal
    differences: tuple[Difference, ...]

    @property
    def total(self) -> Decimal:
        """Of all accounts together; nothing, or something is wrong."""
        return sum((account.balance for account in self.accounts), _NOTHING)

    @property
    def payout_due(self) -> Decimal:
        """What the payment provider has for us, less what is on its way back to buyers."""
        return self.accounts[0].balance - self.refunds_under_way


async def read_report(pool: Pool, event_id: EventId) -> Report | None:
    """The accounts of the event; None for one that does not exist. Raises PostgreSQL's errors."""
    async with one_moment(pool) as tx:
        await be_patient(tx)
        event = await tx.fetchrow(_sql.find_event, event_id)
        if event is None:
            return None
        booked = {record["account"]: record for record in await tx.fetch(_sql.sum_accounts, event_id)}
        by_sales = {record["account"]: record["amount"] for record in await tx.fetch(_sql.sum_sales, event_id)}
        days = await tx.fetch(_sql.sum_days, event_id, event["time_zone"])
        tickets = await tx.fetchrow(_sql.count_tickets, event_id)
        under_way = await tx.fetchval(_sql.sum_refunds_under_way, event_id)
        unlike = await tx.fetch(_sql.list_differences, event_id, DIFFERENCES_MAX)
        foreign = await tx.fetchval(_sql.sum_other_currencies, event_id, event["currency"])
    accounts = tuple(_account(name, booked.get(name), by_sales.get(name, _NOTHING)) for name in ACCOUNTS)
    differences = [Difference(what="order", **record) for record in unlike]
    return Report(
        event_id=event_id,
        **event,
        accounts=accounts,
        days=tuple(DayFigures(**record) for record in days),
        tickets=TicketCounts(**tickets),
        refunds_under_way=under_way,
        differences=(*_of_the_whole(accounts, foreign), *differences),
    )


def _account(name: str, booked: Mapping[str, Any] | None, by_sales: Decimal) -> AccountFigures:
    debit, credit = (_NOTHING, _NOTHING) if booked is None else (booked["debit"], booked["credit"])
    return AccountFigures(account=name, debit=debit, credit=credit, balance=debit - credit, balance_by_sales=by_sales)


def _of_the_whole(accounts: tuple[AccountFigures, ...], foreign: Decimal) -> Iterator[Difference]:
    total = sum((account.balance for account in accounts), _NOTHING)
    if total:
        yield Difference(what="sum", order_id=None, account="", by_ledger=total, by_sales=_NOTHING)
    if foreign:
        yield Difference(what="currency", order_id=None, account="", by_ledger=foreign, by_sales=_NOTHING)
