"""Which tickets has this user now, and what stands on them?

Bought and not passed on, or received from somebody: a ticket is its present owner's, and for everybody else it is not there.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from contracts.ids import EventId, OrderId, ResaleId, TicketId, TransferId, UserId
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import ticket_code
from contracts.ticket_pages import TicketPage
from contracts.ticket_terms import EventPolicy, TicketTerms, terms_of
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("tickets")


@dataclass(frozen=True, kw_only=True)
class HeldTicket:
    """A ticket, its seat, its show, and what is on offer of it, as of `loaded_at` by the database's clock."""

    event_id: EventId
    id: TicketId
    order_id: OrderId
    user_id: UserId
    bought_by: UserId
    version: int
    status: str
    ended_because: str
    checked_in_at: datetime | None
    seat_index: int
    section: str
    row: str
    seat_number: str
    tier: str
    price: Decimal
    currency: str
    event_name: str
    artist: str
    event_date: datetime
    off_sale_date: datetime
    event_status: str
    rotating_codes: bool
    transfers: bool
    resales: bool
    refund_until: datetime | None
    refund_fee_rate: Decimal
    venue_name: str
    venue_address: str
    venue_city: str
    venue_country: str
    time_zone: str
    holder: str
    transfer_id: TransferId | None
    transfer_expires_at: datetime | None
    resale_id: ResaleId | None
    resale_price: Decimal | None
    loaded_at: datetime

    @property
    def is_cancelled(self) -> bool:
        """Whether there will be no show."""
        return self.event_status == "cancelled"

    @property
    def opens_doors(self) -> bool:
        """Whether it is worth showing at a door."""
        return self.status == "valid" and not self.is_cancelled

    @property
    def is_bought(self) -> bool:
        """Whether its owner is who paid for it."""
        return self.user_id == self.bought_by

    @property
    def terms(self) -> TicketTerms:
        """What its owner may do with it now."""
        policy = EventPolicy(cancelled=self.is_cancelled, **{name: getattr(self, name) for name in _POLICY})
        on_offer = self.transfer_id is not None or self.resale_id is not None
        return terms_of(
            policy,
            now=self.loaded_at,
            in_hand=self.status == "valid" and self.checked_in_at is None and not on_offer,
            bought=self.is_bought,
        )

    def code(self, keys: SigningKeys) -> str:
        """What its QR code says now."""
        at = self.loaded_at if self.rotating_codes else None
        return ticket_code(keys, event_id=self.event_id, ticket_id=self.id, version=self.version, at=at)

    def page(self, keys: SigningKeys) -> TicketPage:
        """What stands on it when it is printed."""
        return TicketPage(
            event_name=self.event_name,
            artist=self.artist,
            event_date=self.event_date,
            time_zone=self.time_zone,
            venue_lines=venue_lines(self.venue_name, self.venue_address, self.venue_city, self.venue_country),
            section=self.section,
            row=self.row,
            seat=self.seat_number,
            tier=self.tier,
            holder=self.holder,
            order_id=str(self.order_id),
            ticket_id=str(self.id),
            code=None if self.rotating_codes else self.code(keys),
        )


_POLICY = tuple(field.name for field in fields(EventPolicy) if field.name != "cancelled")


def venue_lines(name: str, address: str, city: str, country: str) -> tuple[str, ...]:
    """A house as it is addressed; what is not known of it has no line."""
    return tuple(line for line in (name, address, ", ".join(filter(None, (city, country)))) if line)


async def list_own_tickets(
    pool: Pool,
    user_id: UserId,
    *,
    event_id: EventId | None,
    upcoming: bool,
    after: tuple[datetime, TicketId] | None,
    limit: int,
) -> list[HeldTicket]:
    """The user's tickets by the date of the show, from behind the ticket that `after` names by that date and its id."""
    event_date, ticket_id = after or (None, None)
    records = await pool.fetch(_sql.list_own_tickets, user_id, event_id, upcoming, event_date, ticket_id, limit)
    return await _load(pool, records)


async def find_own_ticket(pool: Pool, user_id: UserId, ticket_id: TicketId) -> HeldTicket | None:
    """The ticket, if there is one and this user has it now."""
    found = await _load(pool, await pool.fetch(_sql.find_own_ticket, ticket_id, user_id))
    # He may have passed it on between the two statements.
    return found[0] if found and found[0].user_id == user_id else None


async def tickets_of_orders(
    pool: Pool, event_id: EventId, order_ids: Collection[OrderId]
) -> dict[OrderId, list[HeldTicket]]:
    """The valid tickets of these orders that their buyers still have, in the order of the map; an order without any is not
    in it."""
    records = await pool.fetch(_sql.list_tickets_of_orders, event_id, list(order_ids))
    found: defaultdict[OrderId, list[HeldTicket]] = defaultdict(list)
    for ticket in sorted(await _load(pool, records), key=lambda ticket: ticket.seat_index):
        if ticket.status == "valid" and ticket.is_bought:
            found[ticket.order_id].append(ticket)
    return dict(found)


async def _load(pool: Pool, records: Sequence[Any]) -> list[HeldTicket]:
    if not records:
        return []
    events, ids = [record["event_id"] for record in records], [record["id"] for record in records]
    return [HeldTicket(**record) for record in await pool.fetch(_sql.load_tickets, events, ids)]
