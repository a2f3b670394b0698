"""What must be known of sold orders before a batch can be decided?

Of every order that is loaded and sold: its tickets, its refunds, and what of it is on offer to others. Commands about a ticket
bring its order with them. Of a sale in full swing, whose orders are all being paid for the first time, this asks nothing.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from consumers.rules.after_sale import Refund, Resale, Ticket, Transfer
from consumers.rules.sale import Order, Sale
from contracts.commands import (
    AcceptTransfer,
    AnyCommand,
    DeclineTransfer,
    ExpireResales,
    ExpireTransfers,
    OfferResale,
    OfferTransfer,
    WithdrawResale,
    WithdrawTransfer,
)
from contracts.ids import RefundId, ResaleId, TicketId, TransferId
from db import after_sale as records
from db import sale as sale_records
from db.postgres import Transaction

SOLD = frozenset({"completed", "refunding", "refunded"})


async def find_orders_spoken_of(tx: Transaction, event_id: UUID, commands: Sequence[AnyCommand]) -> set[UUID]:
    """The orders of the tickets, transfers and resales that these commands name."""
    transfer_ids, resale_ids = _transfer_ids(commands), _resale_ids(commands)
    ticket_ids: set[UUID] = {c.ticket_id for c in commands if isinstance(c, OfferTransfer | OfferResale)}
    ticket_ids |= {record["ticket_id"] for record in await records.lock_transfers(tx, event_id, transfer_ids, ())}
    resales = await records.lock_resales(tx, event_id, resale_ids, ())
    return {record["order_id"] for record in resales} | await records.find_orders_of_tickets(tx, event_id, ticket_ids)


async def load_after_sale(tx: Transaction, sale: Sale, commands: Sequence[AnyCommand]) -> None:
    """Add it to the sale."""
    event_id = sale.terms.event_id
    sold = [order.id for order in sale.orders.values() if order.status in SOLD]
    await _load_tickets(tx, sale, sold)
    for record in await records.lock_refunds(tx, event_id, sold):
        sale.refunds[RefundId(record["id"])] = Refund(**dict(record))
    transfers = await records.lock_transfers(tx, event_id, _transfer_ids(commands), list(sale.tickets))
    for record in transfers:
        sale.transfers[TransferId(record["id"])] = Transfer(**dict(record))
    on_sale_again = {seat.resale_id for seat in sale.seats.values() if seat.resale_id is not None}
    resale_ids = _resale_ids(commands) | on_sale_again
    for record in await records.lock_resales(tx, event_id, resale_ids, list(sale.tickets)):
        sale.resales[ResaleId(record["id"])] = Resale(**dict(record))
    await _load_sellers_orders(tx, sale)


async def _load_sellers_orders(tx: Transaction, sale: Sale) -> None:
    """Whoever buys a seat that is resold ends its seller's ticket, in another order than his own."""
    missing = {resale.order_id for resale in sale.resales.values()} - sale.orders.keys()
    if not missing:
        return
    for record in await sale_records.lock_orders(tx, sale.terms.event_id, missing, ()):
        order = order_of(record)
        sale.orders[order.id] = order
    await _load_tickets(tx, sale, list(missing))
    for record in await records.lock_refunds(tx, sale.terms.event_id, missing):
        sale.refunds[RefundId(record["id"])] = Refund(**dict(record))


async def _load_tickets(tx: Transaction, sale: Sale, order_ids: Sequence[UUID]) -> None:
    for record in await sale_records.lock_tickets(tx, sale.terms.event_id, order_ids):
        sale.tickets[TicketId(record["id"])] = Ticket(**dict(record))


def order_of(record: asyncpg.Record) -> Order:
    """An order as it is stored, with its payment."""
    fields = dict(record)
    return Order(total=fields.pop("total_amount"), **fields)


def _transfer_ids(commands: Sequence[AnyCommand]) -> set[UUID]:
    found: set[UUID] = set()
    for command in commands:
        if isinstance(command, OfferTransfer):
            found.add(command.command_id)  # a redelivered offer finds the transfer it made
        elif isinstance(command, AcceptTransfer | DeclineTransfer | WithdrawTransfer):
            found.add(command.transfer_id)
        elif isinstance(command, ExpireTransfers):
            found.update(command.transfer_ids)
    return found


def _resale_ids(commands: Sequence[AnyCommand]) -> set[UUID]:
    found: set[UUID] = set()
    for command in commands:
        if isinstance(command, OfferResale):
            found.add(command.command_id)
        elif isinstance(command, WithdrawResale):
            found.add(command.resale_id)
        elif isinstance(command, ExpireResales):
            found.update(command.resale_ids)
    return found
