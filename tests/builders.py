"""How does a test say what it is about, in the words of a sale?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from consumers.event_commands.door import Door
from consumers.event_commands.engine import Engine
from consumers.event_commands.outcome import Asked, Outcome
from contracts.commands import (
    AnyCommand,
    BestAvailable,
    Checkout,
    ExpireHolds,
    ExtendHold,
    PaymentCanceled,
    PaymentDeclined,
    ReleaseSeats,
    ReserveSeats,
    SettlePayment,
)
from contracts.domain_events import SeatsChanged
from contracts.ids import CommandId, EventId, HoldId, OrderId, SeatId, UserId, VenueId
from contracts.replies import AnyReply, Rejected, SeatsReserved
from contracts.settings import Settings
from db.events import analyze_seats, create_event
from db.migrate import migrate
from db.postgres import transaction
from db.seat_locks import SeatLocks
from db.venues import create_venue
from db.waiting_room import WaitingRooms
from ops.stack import Stack
from ops.verify import verify_event


def settings_of(stack: Stack, **overrides: Any) -> Settings:
    """Settings for a process on this stack, patient with a busy machine; overrides by field name."""
    read = Settings.read(stack.environment())
    return read.model_copy(update={"bcrypt_cost": 4, "metrics_port": 0, "redis_timeout_seconds": 5.0, **overrides})


async def fresh_database(stack: Stack) -> None:
    """Migrate, and forget what earlier runs left: what a test stack holds is nobody's."""
    url = settings_of(stack).postgres_url
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        await connection.close()
    await migrate(url)


def a_user() -> UserId:
    """Somebody."""
    return UserId(uuid4())


def a_command_id() -> CommandId:
    """A new intent."""
    return CommandId(uuid4())


def reserve(event_id: EventId, user_id: UserId, seat_ids: Sequence[SeatId], **fields: Any) -> ReserveSeats:
    """A reservation of these seats."""
    return ReserveSeats(**_ask(event_id, fields), user_id=user_id, seat_ids=tuple(seat_ids))


def reserve_best(
    event_id: EventId,
    user_id: UserId,
    count: int,
    section: str | None = None,
    *,
    accessible: bool = False,
    **fields: Any,
) -> ReserveSeats:
    """A reservation that leaves the choice to the sale."""
    wanted = BestAvailable(count=count, section=section, accessible=accessible)
    return ReserveSeats(**_ask(event_id, fields), user_id=user_id, best_available=wanted)


def release(event_id: EventId, user_id: UserId, hold_id: UUID, **fields: Any) -> ReleaseSeats:
    """Giving a hold back."""
    return ReleaseSeats(**_ask(event_id, fields), user_id=user_id, hold_id=HoldId(hold_id))


def extend(event_id: EventId, user_id: UserId, hold_id: UUID, **fields: Any) -> ExtendHold:
    """Asking for more time."""
    return ExtendHold(**_ask(event_id, fields), user_id=user_id, hold_id=HoldId(hold_id))


def check_out(event_id: EventId, user_id: UserId, hold_id: UUID, **fields: Any) -> Checkout:
    """Paying for a hold with a card that works."""
    fields.setdefault("payment_method", "pm_card_visa")
    return Checkout(**_ask(event_id, fields), user_id=user_id, hold_id=HoldId(hold_id))


def settle(event_id: EventId, order_id: UUID, intent_id: str = "") -> SettlePayment:
    """The provider has authorised the order's payment."""
    return SettlePayment(
        command_id=a_command_id(),
        event_id=event_id,
        order_id=OrderId(order_id),
        intent_id=intent_id or f"pi_{order_id}",
    )


def decline(event_id: EventId, order_id: UUID) -> PaymentDeclined:
    """The provider has declined it."""
    return PaymentDeclined(
        command_id=a_command_id(), event_id=event_id, order_id=OrderId(order_id), decline_code="generic_decline"
    )


def cancel_payment(event_id: EventId, order_id: UUID) -> PaymentCanceled:
    """The provider says that the payment is dead."""
    return PaymentCanceled(command_id=a_command_id(), event_id=event_id, order_id=OrderId(order_id))


def expire(event_id: EventId, *hold_ids: UUID) -> ExpireHolds:
    """A hint that these holds may be over."""
    return ExpireHolds(command_id=a_command_id(), event_id=event_id, hold_ids=tuple(map(HoldId, hold_ids)))


def _ask(event_id: EventId, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "command_id": a_command_id(),
        "correlation_id": a_command_id(),
        "event_id": event_id,
        "deadline_at": datetime.now(UTC) + timedelta(seconds=30),
        **fields,
    }


def count(replies: Sequence[AnyReply], kind: type[Any]) -> int:
    """How many answers are of this kind."""
    return sum(isinstance(reply, kind) for reply in replies)


def rejected_as(replies: Sequence[AnyReply]) -> list[str]:
    """The codes of the refusals."""
    return [reply.code.value for reply in replies if isinstance(reply, Rejected)]


def told_of_seats(outcome: Outcome) -> list[SeatsChanged]:
    """What everybody who looks at the seats is told of a batch."""
    return [message for sale in outcome.sales for message in sale.seats_changed()]


@dataclass
class OnSale:
    """An event on sale and an engine of its own."""

    settings: Settings
    pool: Any
    event_id: EventId
    seats: list[SeatId]
    engine: Engine
    engines: list[Engine] = field(default_factory=list)

    async def ask(self, *commands: AnyCommand) -> list[AnyReply]:
        """The answers to one batch, in the order of the commands; a checkout that is under way has none."""
        outcome = await self.run(*commands)
        replies = {answer.asked.command.correlation_id: answer.reply for answer in outcome.answered}
        return [replies[c.correlation_id] for c in commands if c.correlation_id in replies]

    async def ask_one(self, command: AnyCommand) -> AnyReply:
        """The answer to a batch of one."""
        return (await self.ask(command))[0]

    async def run(self, *commands: AnyCommand, engine: Engine | None = None) -> Outcome:
        """One batch, and everything that came of it."""
        asked = [Asked(command, reply_to="tk.reply.test") for command in commands]
        outcome = await (engine or self.engine).run_batch(self.event_id, asked)
        await (engine or self.engine).settle(self.event_id, outcome)
        return outcome

    async def reserve(self, user_id: UserId, seat_ids: Sequence[SeatId], **fields: Any) -> AnyReply:
        """One reservation, in a batch of its own."""
        return await self.ask_one(reserve(self.event_id, user_id, seat_ids, **fields))

    async def hold(self, user_id: UserId, seat_ids: Sequence[SeatId]) -> SeatsReserved:
        """A reservation that must succeed."""
        reply = await self.reserve(user_id, seat_ids)
        assert isinstance(reply, SeatsReserved), reply
        return reply

    async def buy(self, user_id: UserId, seat_ids: Sequence[SeatId]) -> OrderId:
        """Reserve, check out and settle, as the payment stage would."""
        hold = await self.hold(user_id, seat_ids)
        checkout = check_out(self.event_id, user_id, hold.hold_id)
        await self.run(checkout)
        await self.run(settle(self.event_id, checkout.command_id))
        return OrderId(checkout.command_id)

    def another_engine(self, **overrides: Any) -> Engine:
        """A second process that believes the event is its own."""
        settings = self.settings.model_copy(update=overrides)
        engine = engine_of(settings, self.pool)
        self.engines.append(engine)
        return engine

    async def statuses(self) -> dict[SeatId, str]:
        """What the database says of every seat."""
        records = await self.pool.fetch("SELECT id, status FROM seats WHERE event_id = $1", self.event_id)
        return {record["id"]: record["status"] for record in records}

    async def status_of(self, table: str, id_: UUID) -> str:
        """The status of a hold or an order."""
        sql = f"SELECT status FROM {table} WHERE event_id = $1 AND id = $2"  # noqa: S608 -- the test names the table
        return str(await self.pool.fetchval(sql, self.event_id, id_))

    async def seats_sold_twice(self) -> int:
        """Seats with more than one live order item: an oversell, seen."""
        return int(
            await self.pool.fetchval(
                "SELECT count(*) FROM (SELECT seat_id FROM order_items WHERE event_id = $1 AND live"
                " GROUP BY seat_id HAVING count(*) > 1) AS twice",
                self.event_id,
            )
        )

    async def ledger_agrees_with_seats(self) -> None:
        """The whole proof, without the provider's log."""
        report = await verify_event(self.pool, self.event_id, None)
        assert report.is_clean, report

    async def end_holds_now(self, *hold_ids: UUID) -> None:
        """As if their ten minutes had passed: move their end, in the books as they would be then, into the past."""
        await self.pool.execute(
            "WITH over AS (UPDATE holds SET held_until = now() - interval '1 second'"
            " WHERE event_id = $1 AND id = ANY($2) AND status = 'active' RETURNING id)"
            " UPDATE seats SET held_until = now() - interval '1 second'"
            " WHERE event_id = $1 AND hold_id IN (SELECT id FROM over) AND status = 'held'",
            self.event_id,
            list(hold_ids),
        )

    async def close(self) -> None:
        """Give the engines' connections up."""
        for engine in (self.engine, *self.engines):
            await engine.seat_locks.close()
            await engine.door.close()


def engine_of(settings: Settings, pool: Any) -> Engine:
    """An engine as the `commands` role has it."""
    return Engine(settings, pool, SeatLocks(settings), Door(settings, WaitingRooms(settings)))


async def an_event_on_sale(
    settings: Settings,
    pool: Any,
    *,
    seats: int = 60,
    seats_per_row: int = 10,
    sections: Sequence[Mapping[str, Any]] = (),
    ticket_limit: int = 6,
    price: str = "45.00",
    opens_in: timedelta = timedelta(hours=-1),
    closes_in: timedelta = timedelta(days=30),
    high_demand: bool = False,
    **overrides: Any,
) -> OnSale:
    """A venue, an event whose sale is open, and an engine; overrides are settings of the engine.

    The house is one section of equal rows, or what `sections` says, as an organiser would draw it.
    """
    now = datetime.now(UTC)
    event_id, venue_id = EventId(uuid4()), VenueId(uuid4())
    rows = max(1, seats // seats_per_row)
    stalls = {"name": "Stalls", "rows": rows, "seatsPerRow": seats // rows, "price": price}
    house = {"sections": [*sections] or [stalls]}
    async with transaction(pool) as tx:
        await create_venue(tx, venue_id=venue_id, name="The Test", section_config=house)
        await create_event(
            tx,
            event_id=event_id,
            venue_id=venue_id,
            name="A test of patience",
            event_date=now + closes_in,
            on_sale_date=now + opens_in,
            ticket_limit=ticket_limit,
            high_demand=high_demand,
        )
    async with pool.acquire() as connection:
        await analyze_seats(connection)
    ids = await pool.fetch("SELECT id FROM seats WHERE event_id = $1 ORDER BY seat_index", event_id)
    of_this_event = settings.model_copy(update=overrides)
    return OnSale(
        settings=of_this_event,
        pool=pool,
        event_id=event_id,
        seats=[SeatId(record["id"]) for record in ids],
        engine=engine_of(of_this_event, pool),
    )
