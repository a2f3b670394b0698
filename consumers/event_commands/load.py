"""What must be known before a batch can be decided?

The event's fence first; then, under it, every hold, order, seat, count and earlier answer the commands speak of: one
statement each, however many commands there are.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from consumers.event_commands.door import those_let_in
from consumers.event_commands.load_after_sale import find_orders_spoken_of, load_after_sale, order_of
from consumers.event_commands.load_cancellation import find_orders_to_refund, load_cancellation
from consumers.event_commands.load_prices import load_prices
from consumers.event_commands.waiting_list import load_waiting_list
from consumers.rules.list_places import WaitingList
from consumers.rules.sale import Hold, Order, Sale, SaleTerms, Seat, StoredAnswer
from contracts.commands import (
    PEOPLES_COMMANDS,
    AcceptTransfer,
    AnyCommand,
    ApplyCode,
    ChangePrices,
    Checkout,
    ExtendHold,
    GiveSeats,
    PaymentCanceled,
    PaymentDeclined,
    PaymentRefunded,
    RefundOrder,
    ReleaseSeats,
    ReserveSeats,
    ReturnSeats,
    SettlePayment,
    VoidPayment,
    WithholdSeats,
)
from contracts.ids import CommandId, EventId, HoldId, OrderId, SeatId, UserId
from contracts.replies import ANY_REPLY
from contracts.settings import Settings
from db import sale as records
from db.postgres import Transaction

ABOUT_SEATS = (WithholdSeats, ReturnSeats, ChangePrices, GiveSeats)
ABOUT_AN_ORDER = (SettlePayment, PaymentDeclined, PaymentCanceled, PaymentRefunded, VoidPayment, RefundOrder)


class SeatsLockedElsewhere(Exception):
    """A hold's own seat is locked by somebody who is not an engine. It will pass: try again."""


class OtherDemand(Exception):
    """The waiting room was asked for an event that has none, or was not asked for one that has. Look again: try again."""

    def __init__(self, *, high_demand: bool) -> None:
        super().__init__(f"high demand is {high_demand}, and we believed the opposite")
        self.high_demand = high_demand


async def load_sale(
    tx: Transaction,
    event_id: EventId,
    commands: Sequence[AnyCommand],
    *,
    settings: Settings,
    chosen_seat_ids: Mapping[CommandId, Sequence[SeatId]],
    admitted: Mapping[UserId, bool] | None,
    askers: Mapping[CommandId, str | None],
    lock_seats_here: bool = False,
) -> Sale | None:
    """The event as these commands need it, or None when there is no such event.

    `admitted` is what the waiting room said of those who want seats, None where it was not asked; raises OtherDemand when it
    should have been. No seat is loaded for who has not been let in. With `lock_seats_here` the seats wanted are also locked
    by advisory locks: that is the filter while Redis is away.
    """
    event = await records.lock_event(tx, event_id)
    if event is None:
        return None
    reservations = [command for command in commands if isinstance(command, ReserveSeats)]
    if reservations and _has_room(event) != (admitted is not None):
        raise OtherDemand(high_demand=_has_room(event))
    wanting = those_let_in(reservations, admitted)
    to_refund = await find_orders_to_refund(tx, event_id, commands)
    named = await find_orders_spoken_of(tx, event_id, commands)
    orders = await _load_orders(tx, event_id, commands, named | to_refund)
    holds = await _load_holds(tx, event_id, commands, orders)
    wanted = _seat_ids_wanted(wanting, chosen_seat_ids)
    held = {seat_id for hold in holds.values() for seat_id in hold.seat_ids}
    spoken_of = {seat_id for command in commands if isinstance(command, ABOUT_SEATS) for seat_id in command.seat_ids}
    seats = await _load_seats(tx, event_id, wanted | spoken_of | held)
    if any(seats[seat_id].status == "locked" for seat_id in held if seat_id in seats):
        raise SeatsLockedElsewhere("a hold's seat is locked by another session")
    users = {command.user_id for command in wanting}
    users |= {command.user_id for command in commands if isinstance(command, AcceptTransfer)}
    if _has_room(event):
        # Whose turn is over shows in their having no hold left.
        users |= {hold.user_id for hold in holds.values()}
    counts = await records.count_seats_of_users(tx, event_id, users)
    if lock_seats_here:
        for seat_id in await records.try_seat_locks(tx, event_id, wanted - held):
            if seat_id in seats:
                seats[SeatId(seat_id)].status = "locked"
    sale = Sale(
        terms=_terms(event_id, event, settings),
        now=event["now"],
        ledger_seq=event["ledger_seq"],
        seats=seats,
        holds=holds,
        orders=orders,
        seat_counts={user_id: seat_count for user_id, seat_count, _ in counts},
        hold_counts={user_id: hold_count for user_id, _, hold_count in counts},
        answered=await _load_answers(tx, event_id, commands),
        chosen_seat_ids=chosen_seat_ids,
        admitted=admitted or {},
        askers=askers,
        waiting=WaitingList(count=event["waiting_count"], serial=event["waiting_serial"]),
    )
    await load_after_sale(tx, sale, commands)
    await load_cancellation(tx, sale, commands, to_refund)
    await load_prices(tx, sale, commands)
    await load_waiting_list(tx, sale, commands)
    return sale


def _has_room(event: asyncpg.Record) -> bool:
    """Whether its waiting room says who may have seats. It opens with the sale: in a presale the code is the pass."""
    presale_at = event["presale_date"]
    is_presale = presale_at is not None and presale_at <= event["now"] < event["on_sale_date"]
    return bool(event["high_demand"]) and not is_presale


def _terms(event_id: EventId, event: asyncpg.Record, settings: Settings) -> SaleTerms:
    return SaleTerms(
        event_id=event_id,
        on_sale_at=event["on_sale_date"],
        off_sale_at=event["off_sale_date"],
        cancelled=event["cancelled"],
        high_demand=_has_room(event),
        ticket_limit=event["ticket_limit"],
        live_holds_max=settings.live_holds_max,
        currency=event["currency"],
        hold_duration=timedelta(seconds=settings.hold_seconds),
        hold_ceiling=timedelta(seconds=settings.hold_ceiling_seconds),
        decline_grace=timedelta(seconds=settings.decline_grace_seconds),
        event_at=event["event_date"],
        presale_at=event["presale_date"],
        fee_rate=event["fee_rate"],
        tax_rate=event["tax_rate"],
        refund_until=event["refund_until"],
        refund_fee_rate=event["refund_fee_rate"],
        transfers=event["transfers"],
        resales=event["resales"],
        transfer_duration=timedelta(days=settings.transfer_days),
        waiting_count=event["waiting_count"],
        waiting_serial=event["waiting_serial"],
    )


async def _load_orders(
    tx: Transaction, event_id: EventId, commands: Sequence[AnyCommand], spoken_of: Collection[UUID]
) -> dict[OrderId, Order]:
    order_ids: set[UUID] = {command.order_id for command in commands if isinstance(command, ABOUT_AN_ORDER)}
    order_ids |= {command.command_id for command in commands if isinstance(command, Checkout | GiveSeats)}
    order_ids |= set(spoken_of)
    hold_ids = {command.hold_id for command in commands if isinstance(command, Checkout)}
    found = await records.lock_orders(tx, event_id, order_ids, hold_ids)
    return {OrderId(record["id"]): order_of(record) for record in found}


async def _load_holds(
    tx: Transaction, event_id: EventId, commands: Sequence[AnyCommand], orders: Mapping[OrderId, Order]
) -> dict[HoldId, Hold]:
    hold_ids: set[UUID] = {order.hold_id for order in orders.values()}
    for command in commands:
        if isinstance(command, ReserveSeats):
            hold_ids.add(command.command_id)  # a redelivered reservation finds the hold it made
        elif isinstance(command, Checkout | ReleaseSeats | ExtendHold | ApplyCode):
            hold_ids.add(command.hold_id)
        elif command.type == "expire_holds":
            hold_ids.update(command.hold_ids)
    return {HoldId(record["id"]): _hold(record) for record in await records.lock_holds(tx, event_id, hold_ids)}


def _seat_ids_wanted(
    reservations: Sequence[ReserveSeats], chosen_seat_ids: Mapping[CommandId, Sequence[SeatId]]
) -> set[SeatId]:
    wanted = {seat_id for command in reservations for seat_id in command.seat_ids}
    return wanted.union(*chosen_seat_ids.values())


async def _load_seats(tx: Transaction, event_id: EventId, seat_ids: Collection[SeatId]) -> dict[SeatId, Seat]:
    found = {SeatId(record["id"]): _seat(record) for record in await records.lock_seats(tx, event_id, seat_ids)}
    missing = [seat_id for seat_id in seat_ids if seat_id not in found]
    for record in await records.known_seats(tx, event_id, missing):
        found[SeatId(record["id"])] = _seat_locked_elsewhere(record)
    return found


async def _load_answers(
    tx: Transaction, event_id: EventId, commands: Sequence[AnyCommand]
) -> dict[CommandId, StoredAnswer]:
    # Reservations and checkouts find their own hold or order; what other roles send may be repeated without harm.
    command_ids = {
        command.command_id
        for command in commands
        if isinstance(command, PEOPLES_COMMANDS) and not isinstance(command, ReserveSeats | Checkout)
    }
    return {
        CommandId(record["command_id"]): StoredAnswer(
            CommandId(record["command_id"]), record["request_hash"], ANY_REPLY.validate_json(record["reply"])
        )
        for record in await records.read_answers(tx, event_id, command_ids)
    }


def _seat(record: asyncpg.Record) -> Seat:
    id_, seat_index, section, row, seat_number, price, status, hold_id, held_until, order_id, fence, resale_id = record
    return Seat(
        id_, seat_index, section, row, seat_number, price, status, hold_id, held_until, order_id, fence, fence, resale_id
    )  # fmt: skip


def _seat_locked_elsewhere(record: asyncpg.Record) -> Seat:
    id_, seat_index, section, row, seat_number, price = record
    return Seat(id_, seat_index, section, row, seat_number, price, "locked", None, None, None, -1, -1)


def _hold(record: asyncpg.Record) -> Hold:
    return Hold(**dict(record))
