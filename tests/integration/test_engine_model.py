"""Does the engine, on a real database, do what a model of forty lines of `if` does?

Hypothesis chooses what is asked, and prints it when the two differ. Time is moved in the books, never waited for; each
example is an event of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from consumers.rules.best_available import SeatRow, choose_best_available
from contracts.commands import AnyCommand
from contracts.ids import EventId, SeatId, UserId
from contracts.replies import AnyReply, Done, Rejected, SeatsReserved
from contracts.settings import Settings
from contracts.waiting_room import Phase as RoomPhase
from db.postgres import open_pool
from db.waiting_room import Admissions
from tests.builders import (
    OnSale,
    a_user,
    an_event_on_sale,
    cancel_payment,
    check_out,
    decline,
    expire,
    extend,
    release,
    reserve,
    reserve_best,
    settle,
)
from tests.sale_on_paper import payment_refunded, refund, void_payment
from tests.seat_lock_filters import NoFilter

SEATS, SEATS_PER_ROW, USERS, TICKET_LIMIT, LIVE_HOLDS_MAX = 12, 4, 4, 5, 3
EXAMPLES, STEPS = 20, 25
# On a busy machine a round trip may take longer than a sale would wait: the filter must neither give up nor be given up on.
PATIENT_SECONDS = 10.0

Said = TypeVar("Said")


# ---- the model


@dataclass
class HoldModel:
    """Seats held for a user; `is_over`: its time has passed, whether anybody noticed or not."""

    id: UUID
    user: int
    places: tuple[int, ...]
    status: str = "active"
    is_over: bool = False

    @property
    def is_live(self) -> bool:
        return self.status == "paying" or (self.status == "active" and not self.is_over)

    def why_not(self, user: int) -> str | None:
        if user != self.user:
            return "hold_unknown"
        if self.status == "active":
            return "hold_expired" if self.is_over else None
        return {
            "expired": "hold_expired",
            "released": "hold_released",
            "paying": "hold_in_payment",
            "converted": "hold_already_paid",
        }[self.status]


@dataclass
class OrderModel:
    """A checkout; `answer` is what was stored for whoever asks again."""

    id: UUID
    hold: HoldModel
    status: str = "pending"
    answer: str | None = None
    refund_id: UUID = field(default_factory=uuid4)


@dataclass
class SaleModel:
    """What a sale is, in lists and strings. Every method answers as the engine should: one or several words."""

    with_filter: bool
    # Who has been let in, of an event with a waiting room; None of any other.
    inside: set[int] | None = None
    seats: list[tuple[str, UUID | None]] = field(default_factory=lambda: [("available", None)] * SEATS)
    holds: dict[UUID, HoldModel] = field(default_factory=dict)
    orders: dict[UUID, OrderModel] = field(default_factory=dict)

    def is_free(self, place: int) -> bool:
        status, hold_id = self.seats[place]
        return status == "available" or (status == "held" and not self.holds[hold_id].is_live)  # type: ignore[index]

    def seat_count(self, user: int) -> int:
        held = sum(len(hold.places) for hold in self.holds.values() if hold.user == user and hold.is_live)
        # A ticket that is being refunded lets nobody in and counts no longer, though its seat is not free yet.
        bought = [order for order in self.orders.values() if order.status == "completed" and order.hold.user == user]
        return held + sum(len(order.hold.places) for order in bought)

    def is_in(self, user: int) -> bool:
        return self.inside is None or user in self.inside

    def too_many(self, user: int, count: int) -> str | None:
        if sum(hold.user == user and hold.is_live for hold in self.holds.values()) >= LIVE_HOLDS_MAX:
            return "too_many_holds"
        return "ticket_limit_exceeded" if self.seat_count(user) + count > TICKET_LIMIT else None

    def best(self, count: int) -> tuple[int, ...]:
        rows = [range(start, start + SEATS_PER_ROW) for start in range(0, SEATS, SEATS_PER_ROW)]
        seat_rows = [SeatRow("", "", [SeatId(UUID(int=place)) for place in row]) for row in rows]
        chosen = choose_best_available(seat_rows, lambda seat: self.is_free(seat.int), count=count)
        return tuple(seat.int for seat in chosen)

    def reserve(self, id_: UUID, user: int, places: tuple[int, ...]) -> set[str]:
        if not self.is_in(user):
            return {"not_admitted"}
        if not places:
            return {"not_enough_seats"}
        is_taken = not all(map(self.is_free, places))
        too_many = self.too_many(user, len(places))
        if too_many:
            # The rule counts first; the filter knows only seats, and speaks before the rule.
            return {too_many, "seats_unavailable"} if is_taken and self.with_filter else {too_many}
        if is_taken:
            return {"seats_unavailable"}
        self.holds[id_] = HoldModel(id_, user, places)
        for place in places:
            self.seats[place] = ("held", id_)
        return {"seats_reserved"}

    def reserve_again(self, hold: HoldModel) -> set[str]:
        if not self.is_in(hold.user):
            return {"seats_reserved"}  # the filter is asked only about those who are in
        others = [place for place in hold.places if self.seats[place][1] not in (None, hold.id)]
        # The first answer; but the filter does not know that it is a retry, and may say whose seats they are now.
        return {"seats_reserved", "seats_unavailable"} if others and self.with_filter else {"seats_reserved"}

    def release(self, hold: HoldModel, user: int) -> set[str]:
        no = hold.why_not(user)
        if no is None:
            self._end(hold, "released")
        return {no or "seats_released"}

    def extend(self, hold: HoldModel, user: int) -> set[str]:
        return {hold.why_not(user) or "hold_extended"}

    def expire(self, hold: HoldModel) -> set[str]:
        if hold.status != "active" or not hold.is_over:
            return {"unchanged"}
        self._end(hold, "expired")
        return {"changed"}

    def check_out(self, id_: UUID, hold: HoldModel, user: int) -> set[str]:
        order = self.orders.get(id_) or self.live_order_of(hold)
        if order is not None and order.hold.user == user:
            if id_ == order.id and order.answer is None:
                return {"nothing"}  # the very same message: its asker is waiting already
            return {order.answer or "still_in_progress"}
        no = hold.why_not(user)
        if no is not None:
            return {no}
        hold.status = "paying"
        self.orders[id_] = OrderModel(id_, hold)
        return {"nothing"}

    def settle(self, order: OrderModel) -> set[str]:
        if order.status != "pending":
            return {"unchanged"}
        order.status, order.answer, order.hold.status = "completed", "order_completed", "converted"
        for place in order.hold.places:
            self.seats[place] = ("sold", order.hold.id)
        return {"changed"}

    def decline(self, order: OrderModel) -> set[str]:
        if order.status == "voiding":
            return self.cancel_payment(order)
        if order.status != "pending":
            return {"unchanged"}
        order.status, order.answer = "declined", "payment_declined"
        order.hold.status, order.hold.is_over = "active", False
        return {"changed"}

    def cancel_payment(self, order: OrderModel) -> set[str]:
        if order.status not in ("pending", "voiding", "completed", "refunding"):
            return {"unchanged"}
        order.status, order.answer = "cancelled", "order_cancelled"
        self._end(order.hold, "released")
        return {"changed"}

    def void_payment(self, order: OrderModel) -> set[str]:
        if order.status != "pending":
            return {"unchanged"}
        order.status = "voiding"
        return {"changed"}

    def refund(self, order: OrderModel) -> set[str]:
        if order.status != "completed":
            return {"order_not_refundable"}
        order.status = "refunding"
        return {"refund_started"}

    def payment_refunded(self, order: OrderModel) -> set[str]:
        if order.status != "refunding":
            return {"unchanged"}
        order.status = "refunded"
        self._end(order.hold, "converted")
        return {"changed"}

    def has_live_hold(self, user: int) -> bool:
        return any(hold.user == user and hold.is_live for hold in self.holds.values())

    def live_order_of(self, hold: HoldModel) -> OrderModel | None:
        alive = (o for o in self.orders.values() if o.hold is hold and o.status not in ("declined", "cancelled"))
        return next(alive, None)

    def _end(self, hold: HoldModel, status: str) -> None:
        hold.status = status
        for place in hold.places:
            if self.seats[place][1] == hold.id:
                self.seats[place] = ("available", None)


class RoomModel:
    """The waiting room, as the engine's door meets it: it knows who is in, and what it is told must be so."""

    def __init__(self, sale: SaleModel, users: Sequence[UserId]) -> None:
        self.sale = sale
        self.users = users

    async def check(self, _event_id: EventId, user_ids: Sequence[UserId]) -> Admissions:
        assert self.sale.inside is not None, "an event without a room"
        return Admissions(RoomPhase.OPEN, tuple(self.users.index(user_id) in self.sale.inside for user_id in user_ids))

    async def extend_lease(self, _event_id: EventId, user_id: UserId, _hold_until_ms: int) -> None:
        assert self.sale.has_live_hold(self.users.index(user_id))

    async def release(self, _event_id: EventId, user_id: UserId) -> None:
        assert not self.sale.has_live_hold(self.users.index(user_id))

    async def close(self) -> None: ...


# ---- the engine beside it


@dataclass
class World:
    """A loop, a pool and a Redis client for all examples, because machines are plain functions."""

    run: Callable[[Coroutine[Any, Any, Said]], Said]
    settings: Settings
    pool: Any
    redis: Redis


some_places = st.lists(st.integers(0, SEATS - 1), min_size=1, max_size=3, unique=True).map(tuple)
somebody = st.integers(0, USERS - 1)
whichever = st.integers(0, 1000)

ABOUT_AN_ORDER: dict[str, Callable[..., AnyCommand]] = {
    "settle": settle,
    "decline": decline,
    "cancel_payment": cancel_payment,
    "void_payment": void_payment,
    "refund": refund,
    "payment_refunded": payment_refunded,
}


class EngineAndModel(RuleBasedStateMachine):
    """Ask both the same; hear the same."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @initialize(with_redis=st.booleans(), with_room=st.booleans())
    def open(self, with_redis: bool, with_room: bool) -> None:
        self.model = SaleModel(with_filter=with_redis, inside=set(range(USERS)) if with_room else None)
        self.users: list[UserId] = [a_user() for _ in range(USERS)]
        self.reservations: dict[UUID, AnyCommand] = {}
        self.checkouts: dict[UUID, AnyCommand] = {}
        self.sale: OnSale = self.world.run(
            an_event_on_sale(
                self.world.settings,
                self.world.pool,
                seats=SEATS,
                seats_per_row=SEATS_PER_ROW,
                ticket_limit=TICKET_LIMIT,
                live_holds_max=LIVE_HOLDS_MAX,
                high_demand=with_room,
                redis_timeout_seconds=PATIENT_SECONDS,
            )
        )
        if not with_redis:
            # The filter refuses most of what the rules and the database would have to: without it, they must.
            self.world.run(self.sale.close())
            self.sale.engine.seat_locks = NoFilter()  # type: ignore[assignment]
        self.world.run(self.sale.engine.door.close())
        self.sale.engine.door.rooms = RoomModel(self.model, self.users)  # type: ignore[assignment]

    def ask(self, command: AnyCommand, expected: set[str]) -> AnyReply | None:
        """The engine's reply, which must be one of those the model expects."""
        outcome = self.world.run(self.sale.run(command))
        assert outcome.not_processed == []
        reply = outcome.answered[0].reply if outcome.answered else None
        assert in_a_word(reply) in expected, f"{command.type}: {in_a_word(reply)}, and the model says {expected}"
        return reply

    def seat_ids(self, places: tuple[int, ...]) -> list[SeatId]:
        return [self.sale.seats[place] for place in places]

    @property
    def things(self) -> int:
        return len(self.model.orders) + len(self.model.holds)

    def one_hold(self, which: int) -> HoldModel:
        holds = list(self.model.holds.values())
        return holds[which % len(holds)]

    def check_out(self, hold: HoldModel, user: int) -> None:
        command = check_out(self.sale.event_id, self.users[user], hold.id)
        self.checkouts[command.command_id] = command
        self.ask(command, self.model.check_out(command.command_id, hold, user))

    def hear(self, order: OrderModel, what: str) -> None:
        details = {
            # Asked for once more under the same id it would be answered as before.
            "refund": {"command_id": order.refund_id if order.status == "completed" else uuid4()},
            "payment_refunded": {"refund_id": order.refund_id},
        }
        command = ABOUT_AN_ORDER[what](self.sale.event_id, order.id, **details.get(what, {}))
        self.ask(command, getattr(self.model, what)(order))

    # ---- what may be asked

    @rule(user=somebody, places=some_places)
    def reserve(self, user: int, places: tuple[int, ...]) -> None:
        command = reserve(self.sale.event_id, self.users[user], self.seat_ids(places))
        self.reservations[command.command_id] = command
        self.ask(command, self.model.reserve(command.command_id, user, places))

    @precondition(lambda self: self.model.holds)
    @rule(which=whichever, user=somebody)
    def want_what_somebody_has_or_had(self, which: int, user: int) -> None:
        self.reserve(user, self.one_hold(which).places)

    @precondition(lambda self: self.model.inside is not None)
    @rule(user=somebody)
    def come_or_go(self, user: int) -> None:
        assert self.model.inside is not None
        self.model.inside ^= {user}

    @rule(user=somebody, places=some_places)
    def buy(self, user: int, places: tuple[int, ...]) -> None:
        self.reserve(user, places)
        hold = list(self.model.holds.values())[-1:]
        if hold and hold[0].user == user:
            self.check_out(hold[0], user)
            order = self.model.live_order_of(hold[0])
            if order is not None:
                self.hear(order, "settle")

    @rule(user=somebody, count=st.integers(1, 4))
    def reserve_the_best(self, user: int, count: int) -> None:
        places = self.model.best(count)
        command = reserve_best(self.sale.event_id, self.users[user], count)
        self.reservations[command.command_id] = command
        reply = self.ask(command, self.model.reserve(command.command_id, user, places))
        if isinstance(reply, SeatsReserved):
            assert [seat.seat_id for seat in reply.seats] == self.seat_ids(places)

    @precondition(lambda self: self.model.holds)
    @rule(which=whichever, user=somebody, what=st.sampled_from(["release", "extend", "check_out", "check_out"]))
    def use_a_hold(self, which: int, user: int, what: str) -> None:
        hold = self.one_hold(which)
        # Mostly the owner: strangers are refused, and a machine of refusals learns nothing.
        user = user if user == 0 else hold.user
        if what == "check_out":
            self.check_out(hold, user)
        else:
            command = {"release": release, "extend": extend}[what](self.sale.event_id, self.users[user], hold.id)
            self.ask(command, getattr(self.model, what)(hold, user))

    @precondition(lambda self: self.model.holds)
    @rule(which=whichever)
    def hint_that_it_is_over(self, which: int) -> None:
        hold = self.one_hold(which)
        self.ask(expire(self.sale.event_id, hold.id), self.model.expire(hold))

    @precondition(lambda self: self.model.orders)
    @rule(which=whichever, what=st.sampled_from(list(ABOUT_AN_ORDER)))
    def hear_of_an_order(self, which: int, what: str) -> None:
        orders = list(self.model.orders.values())
        self.hear(orders[which % len(orders)], what)

    @precondition(lambda self: self.model.holds)
    @rule(which=whichever)
    def deliver_something_again(self, which: int) -> None:
        order = self.model.orders.get([*self.model.orders, *self.model.holds][which % self.things])
        if order is not None:
            self.ask(self.checkouts[order.id], self.model.check_out(order.id, order.hold, order.hold.user))
        else:
            hold = self.one_hold(which)
            self.ask(self.reservations[hold.id], self.model.reserve_again(hold))

    @precondition(lambda self: any(hold.is_live for hold in self.model.holds.values()))
    @rule(which=whichever)
    def a_holds_time_passes(self, which: int) -> None:
        live = [hold for hold in self.model.holds.values() if hold.is_live]
        hold = live[which % len(live)]
        if hold.status == "active":
            hold.is_over = True
            self.world.run(self._end_in_the_books(hold))
        else:
            # While it is paid for, only its owner's clock runs out: that must change nothing.
            sql = "UPDATE holds SET held_until = now() - interval '1 second' WHERE event_id = $1 AND id = $2"
            self.world.run(self.world.pool.execute(sql, self.sale.event_id, hold.id))

    async def _end_in_the_books(self, hold: HoldModel) -> None:
        """As it would be by then: the books, the filter's locks, and what the engine remembers."""
        await self.sale.end_holds_now(hold.id)
        keys = [f"seat_lock:{{{self.sale.event_id}}}:{seat_id}" for seat_id in self.seat_ids(hold.places)]
        await self.world.redis.delete(*keys)
        self.sale.engine.forget(self.sale.event_id)

    # ---- what must be the same

    @invariant()
    def the_seats_are_the_models(self) -> None:
        records = self.world.run(
            self.world.pool.fetch(
                "SELECT status, hold_id FROM seats WHERE event_id = $1 ORDER BY seat_index", self.sale.event_id
            )
        )
        assert [(record["status"], record["hold_id"]) for record in records] == self.model.seats

    def teardown(self) -> None:
        if hasattr(self, "sale"):
            self.world.run(self._close())

    async def _close(self) -> None:
        try:
            orders = await self.world.pool.fetch(
                "SELECT id, status FROM orders WHERE event_id = $1", self.sale.event_id
            )
            assert {record["id"]: record["status"] for record in orders} == {
                order.id: order.status for order in self.model.orders.values()
            }
            await self.sale.ledger_agrees_with_seats()
        finally:
            await self.sale.close()


def in_a_word(reply: AnyReply | None) -> str:
    """What was answered, as the model says it."""
    if reply is None:
        return "nothing"
    if isinstance(reply, Done):
        return "changed" if reply.changed else "unchanged"
    return reply.code.value if isinstance(reply, Rejected) else reply.type


@asynccontextmanager
async def a_world(run: Callable[[Coroutine[Any, Any, Said]], Said], settings: Settings) -> AsyncIterator[World]:
    pool = await open_pool(settings, application_name="engine model", size=2)
    async with Redis.from_url(settings.redis_url) as redis:
        yield World(run, settings, pool, redis)
    pool.terminate()


def test_the_engine_does_what_the_model_does(settings: Settings) -> None:
    with asyncio.Runner() as runner:
        opened = a_world(runner.run, settings)
        world = runner.run(opened.__aenter__())
        try:
            run_state_machine_as_test(
                lambda: EngineAndModel(world),
                settings=hypothesis_settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    # Twenty-five steps can be read; to shrink them on a database would take minutes.
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
