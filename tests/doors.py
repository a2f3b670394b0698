"""How does a test get tickets, and somebody who scans them?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from contracts.check_ins import CheckedIn, Nonce
from contracts.ids import TicketId, UserId
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import ticket_code
from contracts.value import Value
from ingress.check_in_desk import Asked, CheckInDesk
from ingress.check_in_rules import Scan
from tests.builders import OnSale, a_user


async def an_account(pool: Any, role: str, name: str = "Ann") -> UserId:
    """Somebody, as the database knows them."""
    user_id = UserId(uuid4())
    await pool.execute(
        "INSERT INTO users (id, email, password_hash, name, role) VALUES ($1, $2, 'x', $3, $4)",
        *(user_id, f"{user_id}@example.org", name, role),
    )
    return user_id


async def buy_tickets(sale: OnSale, seats: Sequence[int], user_id: UserId | None = None) -> list[TicketId]:
    """The tickets of these seats, in their order, bought by somebody."""
    order_id = await sale.buy(user_id or a_user(), [sale.seats[seat] for seat in seats])
    records = await sale.pool.fetch(
        "SELECT t.id FROM tickets t JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id"
        " WHERE t.event_id = $1 AND t.order_id = $2 ORDER BY s.seat_index",
        *(sale.event_id, order_id),
    )
    return [TicketId(record["id"]) for record in records]


def a_scan(code: str, gate: str = "North", **fields: Any) -> Scan:
    """A code that was read."""
    return Scan(**{"nonce": Nonce(uuid4()), "code": code, "gate": gate, "scanned_at": None, **fields})


@dataclass
class DoorOf:
    """The doors of an event: each desk is a process of its own."""

    sale: OnSale
    scanner: UserId
    keys: SigningKeys
    desk: CheckInDesk

    @classmethod
    async def open(cls, sale: OnSale, **settings: Any) -> "DoorOf":
        """One that is staffed."""
        own = sale.settings.model_copy(update=settings)
        return cls(
            sale=sale,
            scanner=await an_account(sale.pool, "scanner"),
            keys=SigningKeys.of(own),
            desk=CheckInDesk(own, sale.pool, sale.pool),
        )

    def another_desk(self) -> CheckInDesk:
        """A second process."""
        return CheckInDesk(self.sale.settings, self.sale.pool, self.sale.pool)

    def code(self, ticket_id: TicketId, version: int = 0, at: datetime | None = None) -> str:
        """What the ticket's QR code says."""
        return ticket_code(self.keys, event_id=self.sale.event_id, ticket_id=ticket_id, version=version, at=at)

    async def tell(self, scan: Scan, desk: CheckInDesk | None = None) -> bytes:
        """The answer to a scan, as it travels."""
        answer = await (desk or self.desk).check_in(self.sale.event_id, self.scanner, scan)
        assert isinstance(answer, bytes), answer
        return answer

    async def scan(self, code: str, **fields: Any) -> CheckedIn:
        """What comes of a new scan."""
        return CheckedIn.model_validate_json(await self.tell(a_scan(code, **fields)))

    async def upload(self, *scans: Scan) -> list[CheckedIn]:
        """What comes of scans that a device has judged by itself."""
        asked = [Asked(self.scanner, scan) for scan in scans]
        answers = await self.desk.check_in_all(self.sale.event_id, asked)
        return [CheckedIn.model_validate_json(answer) for answer in answers if isinstance(answer, bytes)]

    async def pass_on(self, ticket_id: TicketId) -> None:
        """The ticket changes hands."""
        await self._execute("UPDATE tickets SET version = version + 1, user_id = $3", ticket_id, a_user())

    async def end(self, ticket_id: TicketId, because: str) -> None:
        """The ticket ends."""
        await self._execute("UPDATE tickets SET status = 'void', ended_because = $3", ticket_id, because)

    async def offer_to_others(self, ticket_id: TicketId) -> UUID:
        """Its owner wants to sell it on."""
        resale_id = uuid4()
        await self.sale.pool.execute(
            "INSERT INTO resales (event_id, id, ticket_id, order_id, seat_id, seller_id, price, usual_price, hold_id,"
            " created_at) SELECT event_id, $3, id, order_id, seat_id, user_id, 45, 45, $3, now() FROM tickets"
            " WHERE event_id = $1 AND id = $2",
            *(self.sale.event_id, ticket_id, resale_id),
        )
        return resale_id

    async def used_at(self, ticket_id: TicketId) -> datetime | None:
        """When the ticket let its bearer in, as the sale will see it."""
        sql = "SELECT checked_in_at FROM tickets WHERE event_id = $1 AND id = $2"
        used_at: datetime | None = await self.sale.pool.fetchval(sql, self.sale.event_id, ticket_id)
        return used_at

    async def _execute(self, change: str, ticket_id: TicketId, value: Any) -> None:
        await self.sale.pool.execute(f"{change} WHERE event_id = $1 AND id = $2", self.sale.event_id, ticket_id, value)


def written(value: Value) -> Any:
    """As a client reads it."""
    return json.loads(value.model_dump_json())


def now() -> datetime:
    """This moment."""
    return datetime.now(UTC)
