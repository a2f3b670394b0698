"""What does a test of the organiser's side have at hand? Somebody who may do everything, people with accounts, a small sale.

The small sale is counted by hand where it is made: whatever reads it must come to the same.
"""

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import aiohttp
from redis.asyncio import Redis

from contracts.commands import AcceptTransfer, GiveSeats, OfferTransfer, PaymentRefunded, RefundOrder, WithholdSeats
from contracts.ids import OrderId, RefundId, TicketId, UserId
from contracts.replies import Rejected
from db.sessions import Role, create_session
from db.users import create_user
from tests.builders import OnSale, _ask, release
from tests.conftest import AnEvent

SECTIONS = (
    {"name": "Stalls", "rows": 2, "seatsPerRow": 5, "price": "20.00"},
    {"name": "Balcony", "rows": 1, "seatsPerRow": 5, "price": "10.00"},
)
# Of 20.00: tax 3.19, fee 1.68. Of 10.00: tax 1.60, fee 0.84.
RATES = {"fee_rate": "0.1", "tax_rate": "0.19"}


class Answer(NamedTuple):
    """What came back: JSON read, anything else as it is."""

    status: int
    body: Any
    headers: Any


@dataclass
class Client:
    """Somebody with a session."""

    http: aiohttp.ClientSession
    user_id: UserId
    email: str

    async def send(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        """One request; `from_` is the parameter from."""
        given = {name.rstrip("_"): str(value) for name, value in query.items()}
        async with self.http.request(method, path, json=body, params=given) as response:
            raw = await response.read()
            is_json = response.content_type.endswith("json")
            return Answer(response.status, json.loads(raw) if is_json and raw else raw, response.headers)

    async def get(self, path: str, **query: Any) -> Answer:
        """Read something."""
        return await self.send("GET", path, **query)


async def a_person(pool: Any, name: str = "Ann") -> UserId:
    """Somebody with an account, whose address begins with the name in lower case."""
    email = f"{name.lower().replace(' ', '.')}-{uuid4().hex[:12]}@example.org"
    user = await create_user(pool, email=email, password_hash="x", name=name)
    assert user is not None
    return user.id


async def email_of(pool: Any, user_id: UserId) -> str:
    """The address of somebody's account."""
    return str(await pool.fetchval("SELECT email FROM users WHERE id = $1", user_id))


async def a_client(http: aiohttp.ClientSession, redis: Redis, pool: Any, role: Role) -> Client:
    """Somebody with an account and a session of that role."""
    user_id = await a_person(pool, "Olga")
    cookie = await create_session(redis, user_id=user_id, role=role, seconds=120)
    http.headers["cookie"] = f"session={cookie}"
    return Client(http, user_id, await email_of(pool, user_id))


@dataclass
class SmallSale:
    """15 seats and what became of them."""

    on_sale: OnSale
    organiser: UserId
    people: dict[str, UserId]
    orders: dict[str, OrderId] = field(default_factory=dict)
    tickets: dict[str, list[TicketId]] = field(default_factory=dict)

    async def note_tickets(self, *names: str) -> None:
        """Remember which tickets their orders have, in the order of the map."""
        for name in names:
            records = await self.on_sale.pool.fetch(
                "SELECT t.id FROM tickets t JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id"
                " WHERE t.event_id = $1 AND t.order_id = $2 ORDER BY s.seat_index",
                self.on_sale.event_id,
                self.orders[name],
            )
            self.tickets[name] = [TicketId(record["id"]) for record in records]


async def ask(sale: OnSale, kind: type[Any], **fields: Any) -> UUID:
    """Ask for something that must not be refused; the id of the command."""
    command = kind(**_ask(sale.event_id, {}), **fields)
    for reply in await sale.ask(command):
        assert not isinstance(reply, Rejected), reply
    return UUID(str(command.command_id))


async def refund(
    sale: OnSale, order_id: OrderId, by: UserId, *ticket_ids: TicketId, as_organiser: bool = True
) -> RefundId:
    """Money of an order goes back, and the provider says that it is done."""
    wanted = {"order_id": order_id, "ticket_ids": ticket_ids, "as_organiser": as_organiser}
    refund_id = RefundId(await ask(sale, RefundOrder, user_id=by, **wanted))
    await ask(sale, PaymentRefunded, order_id=order_id, refund_id=refund_id)
    return refund_id


async def a_small_sale(an_event: AnEvent, pool: Any) -> SmallSale:
    """Ann buys two seats, passes one on to Eve and comes in with the other; Bob buys two and is given one back; Cid holds one;
    Dan has let go of his; the organiser keeps two back and gives one to Eve.

    Stalls: 10 seats, 3 sold, 1 held, 6 available. Balcony: 5 seats, 1 sold (for nothing), 2 withheld, 2 available.
    """
    sale = await an_event(sections=SECTIONS)
    await pool.execute(
        "UPDATE events SET fee_rate = $2::text::numeric, tax_rate = $3::text::numeric WHERE id = $1",
        *(sale.event_id, *RATES.values()),
    )
    people = {name: await a_person(pool, name) for name in ("Ann", "Bob", "Cid", "Dan", "Eve", "Organiser")}
    organiser = people.pop("Organiser")
    small = SmallSale(sale, organiser, people)
    small.orders["Ann"] = await sale.buy(people["Ann"], sale.seats[:2])
    small.orders["Bob"] = await sale.buy(people["Bob"], [sale.seats[2], sale.seats[10]])
    await small.note_tickets("Ann", "Bob")
    await sale.hold(people["Cid"], sale.seats[3:4])
    hold = await sale.hold(people["Dan"], sale.seats[4:5])
    await sale.ask_one(release(sale.event_id, people["Dan"], hold.hold_id))
    await refund(sale, small.orders["Bob"], organiser, small.tickets["Bob"][1])
    await ask(sale, WithholdSeats, user_id=organiser, seat_ids=tuple(sale.seats[11:13]))
    given = await ask(sale, GiveSeats, user_id=organiser, to_user_id=people["Eve"], seat_ids=(sale.seats[13],))
    small.orders["Eve"] = OrderId(given)
    await small.note_tickets("Eve")
    offer = await ask(
        sale,
        OfferTransfer,
        user_id=people["Ann"],
        ticket_id=small.tickets["Ann"][0],
        to_email=await email_of(pool, people["Eve"]),
    )
    await ask(sale, AcceptTransfer, user_id=people["Eve"], transfer_id=offer)
    await pool.execute(
        "UPDATE tickets SET checked_in_at = now() WHERE event_id = $1 AND id = $2",
        *(sale.event_id, small.tickets["Ann"][1]),
    )
    return small
