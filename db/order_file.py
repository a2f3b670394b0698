"""What is there of an order: who bought what, what was paid and given back, and what became of the tickets?"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, Field

from contracts.ids import EventId, HoldId, OrderId, RefundId, ResaleId, SeatId, TicketId, TransferId, UserId
from contracts.value import Amount, Value
from db.moments import one_moment
from db.named_queries import queries
from db.order_search import OrderKind, OrderStatus
from db.postgres import Pool

_sql = queries("order_file")


class Buyer(Value):
    """Whose order it is; name and address are null where there is no such account any more."""

    user_id: UserId
    email: str | None
    name: str | None


class FiledPayment(Value):
    """The order's one payment, as far as we have heard of it."""

    status: str
    amount: Amount
    intent_id: str | None = Field(description="the payment provider's name for it")
    provider_key: str = Field(description="the idempotency key it was asked for under")
    payment_method: str
    created_at: AwareDatetime
    touched_at: AwareDatetime


class FiledItem(Value):
    """A seat that was bought; `live` is false once it may be sold again."""

    seat_id: SeatId
    section: str
    row: str
    seat_number: str
    tier: str
    price: Amount
    fee: Amount
    tax: Amount
    reduction: Amount
    live: bool
    refund_id: RefundId | None


class FiledTicket(Value):
    """A ticket, under whoever has it now."""

    id: TicketId
    seat_id: SeatId
    status: str
    ended_because: str
    version: int
    user_id: UserId
    email: str | None
    name: str | None
    created_at: AwareDatetime
    checked_in_at: AwareDatetime | None


class FiledRefund(Value):
    """Money that went back, or goes."""

    id: RefundId
    kind: str
    status: str
    ticket_ids: tuple[TicketId, ...]
    amount: Amount
    fee_kept: Amount
    currency: str
    reason: str
    requested_by: UserId
    requested_by_email: str | None
    created_at: AwareDatetime
    refunded_at: AwareDatetime | None


class FiledTransfer(Value):
    """A ticket that was offered to somebody."""

    id: TransferId
    ticket_id: TicketId
    status: str
    from_user_id: UserId
    from_email: str | None
    to_email: str
    to_user_id: UserId | None
    created_at: AwareDatetime
    expires_at: AwareDatetime
    ended_at: AwareDatetime | None


class FiledResale(Value):
    """A ticket that was offered to everybody."""

    id: ResaleId
    ticket_id: TicketId
    status: str
    seller_id: UserId
    price: Amount
    refund_id: RefundId | None
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class FiledCheckIn(Value):
    """A scan of a ticket at a door, whatever came of it."""

    ticket_id: TicketId
    result: str
    admitted: bool
    gate: str
    scanned_at: AwareDatetime
    recorded_at: AwareDatetime
    offline: bool


class FiledEntry(Value):
    """An amount that went from the account `credit` to the account `debit`."""

    id: int
    at: AwareDatetime
    debit: str
    credit: str
    amount: Amount
    currency: str
    refund_id: RefundId | None


class FiledDeed(Value):
    """What an organiser did to it."""

    at: AwareDatetime
    action: str
    user_id: UserId
    email: str | None


class Happening(Value):
    """One thing that happened to the order, and what it happened to."""

    at: AwareDatetime
    what: Literal[
        "order_created",
        "order_completed",
        "transfer_offered",
        "transfer_accepted",
        "transfer_declined",
        "transfer_withdrawn",
        "transfer_expired",
        "resale_offered",
        "resale_sold",
        "resale_withdrawn",
        "resale_ended",
        "refund_requested",
        "refund_refunded",
        "ticket_let_in",
        "ticket_sent_away",
        "organiser_did",
    ]
    subject_id: str = Field(
        description="of the order, transfer, resale, refund or ticket; of an organiser's deed, whose"
    )
    detail: str = Field(description="what else there is to say: an amount, an address, a gate")


class OrderFile(Value):
    """Everything there is of an order; `timeline` says it again in the order of time."""

    id: OrderId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    status: OrderStatus
    kind: OrderKind
    hold_id: HoldId
    total_amount: Amount
    currency: str
    code: str | None = Field(description="the code that was used")
    ended_because: str
    created_at: AwareDatetime
    completed_at: AwareDatetime | None
    buyer: Buyer
    payment: FiledPayment | None
    items: tuple[FiledItem, ...]
    tickets: tuple[FiledTicket, ...]
    refunds: tuple[FiledRefund, ...]
    transfers: tuple[FiledTransfer, ...]
    resales: tuple[FiledResale, ...]
    check_ins: tuple[FiledCheckIn, ...]
    ledger: tuple[FiledEntry, ...]
    deeds: tuple[FiledDeed, ...]
    timeline: tuple[Happening, ...] = ()


async def read_order_file(pool: Pool, order_id: OrderId) -> OrderFile | None:
    """The whole of an order, whose ever it is; None for one that does not exist."""
    async with one_moment(pool) as tx:
        order = await tx.fetchrow(_sql.find_order, order_id)
        if order is None:
            return None
        of_it = (order["event_id"], order_id)
        parts: dict[str, Sequence[Value]] = {
            "items": _all(FiledItem, await tx.fetch(_sql.list_items, *of_it)),
            "tickets": _all(FiledTicket, await tx.fetch(_sql.list_tickets, *of_it)),
            "refunds": _all(FiledRefund, await tx.fetch(_sql.list_refunds, *of_it)),
            "transfers": _all(FiledTransfer, await tx.fetch(_sql.list_transfers, *of_it)),
            "resales": _all(FiledResale, await tx.fetch(_sql.list_resales, *of_it)),
            "check_ins": _all(FiledCheckIn, await tx.fetch(_sql.list_check_ins, *of_it)),
            "ledger": _all(FiledEntry, await tx.fetch(_sql.list_entries, *of_it)),
            "deeds": _all(FiledDeed, await tx.fetch(_sql.list_deeds, *of_it)),
        }
    file = OrderFile.model_validate({**order, **parts, "buyer": Buyer(**order), "payment": _payment(order)})
    return file.model_copy(update={"timeline": tuple(sorted(timeline_of(file), key=lambda one: one.at))})


def timeline_of(file: OrderFile) -> Iterator[Happening]:
    """What happened to the order, kind by kind, each kind in the order of time."""
    order_id = str(file.id)
    yield Happening(
        at=file.created_at, what="order_created", subject_id=order_id, detail=_money(file, file.total_amount)
    )
    if file.completed_at is not None:
        yield Happening(at=file.completed_at, what="order_completed", subject_id=order_id, detail=file.kind)
    for transfer in file.transfers:
        yield from _offer("transfer", transfer, "offered", transfer.to_email)
    for resale in file.resales:
        yield from _offer("resale", resale, "open", _money(file, resale.price))
    for refund in file.refunds:
        named = {"subject_id": str(refund.id), "detail": f"{_money(file, refund.amount)} {refund.kind}"}
        yield Happening(at=refund.created_at, what="refund_requested", **named)
        if refund.refunded_at is not None:
            yield Happening(at=refund.refunded_at, what="refund_refunded", **named)
    for scan in file.check_ins:
        named = {"subject_id": str(scan.ticket_id), "detail": f"{scan.gate}: {scan.result}"}
        yield Happening(at=scan.scanned_at, what="ticket_let_in" if scan.admitted else "ticket_sent_away", **named)
    for deed in file.deeds:
        yield Happening(at=deed.at, what="organiser_did", subject_id=str(deed.user_id), detail=deed.action)


def _offer(what: str, offer: FiledTransfer | FiledResale, open_status: str, detail: str) -> Iterator[Happening]:
    """That it was made, and what became of it."""
    named: dict[str, Any] = {"subject_id": str(offer.id), "detail": detail}
    yield Happening.model_validate({"at": offer.created_at, "what": f"{what}_offered", **named})
    if offer.ended_at is not None and offer.status != open_status:
        yield Happening.model_validate({"at": offer.ended_at, "what": f"{what}_{offer.status}", **named})


def _money(file: OrderFile, amount: Decimal) -> str:
    return f"{amount} {file.currency}"


Part = TypeVar("Part", bound=Value)


def _all(kind: type[Part], records: Iterable[Any]) -> tuple[Part, ...]:
    return tuple(kind(**record) for record in records)


def _payment(order: Any) -> FiledPayment | None:
    if order["payment_status"] is None:
        return None
    return FiledPayment(
        status=order["payment_status"],
        amount=order["payment_amount"],
        intent_id=order["intent_id"],
        provider_key=order["provider_key"],
        payment_method=order["payment_method"],
        created_at=order["payment_created_at"],
        touched_at=order["payment_touched_at"],
    )
