"""Does whoever listens to the seat changes know what the database knows, whoever else writes meanwhile?"""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

from consumers.event_commands.outcome import Outcome
from consumers.event_commands.replies import Replies
from contracts import topology, wire
from contracts.commands import AnyCommand
from contracts.domain_events import SeatsChanged
from contracts.ids import SeatId
from contracts.settings import Settings
from db.seat_locks import WantedSeats
from tests.broker_probe import BrokerProbe
from tests.builders import (
    OnSale,
    a_user,
    cancel_payment,
    check_out,
    decline,
    expire,
    extend,
    release,
    reserve,
    reserve_best,
    settle,
    told_of_seats,
)
from tests.conftest import AnEvent


class Told(NamedTuple):
    status: str
    held_until: datetime | None


class Listener:
    """Somebody who loaded the seats once and has listened ever since."""

    def __init__(self, seq: int, seats: dict[SeatId, Told]) -> None:
        self.seq = seq
        self.seats = seats

    @classmethod
    async def begin(cls, sale: OnSale) -> "Listener":
        return cls(*await a_snapshot(sale))

    def hear(self, message: SeatsChanged) -> None:
        """Raises AssertionError on a gap, as a listener would load everything afresh."""
        assert message.first_seq == self.seq + 1, f"after {self.seq} comes {message.first_seq}"
        assert message.last_seq >= self.seq
        self.seq = message.last_seq
        for change in message.changes:
            assert change.seat_id in self.seats
            self.seats[change.seat_id] = Told(change.status, change.held_until)

    async def agrees_with(self, sale: OnSale) -> None:
        assert (self.seq, self.seats) == await a_snapshot(sale)


async def a_snapshot(sale: OnSale) -> tuple[int, dict[SeatId, Told]]:
    """The ledger's number and the seats, as the database has them."""
    seq = await sale.pool.fetchval("SELECT ledger_seq FROM event_inventory WHERE event_id = $1", sale.event_id)
    records = await sale.pool.fetch("SELECT id, status, held_until FROM seats WHERE event_id = $1", sale.event_id)
    return seq, {SeatId(record["id"]): Told(record["status"], record["held_until"]) for record in records}


def in_ledger_order(*outcomes: Outcome) -> list[SeatsChanged]:
    """The messages of several engines, which a listener may hear in any order, in the one in which they were committed."""
    messages = [message for outcome in outcomes for message in told_of_seats(outcome)]
    return sorted(messages, key=lambda message: (message.first_seq, message.last_seq))


async def test_every_kind_of_change_is_told(sale: OnSale) -> None:
    listener = await Listener.begin(sale)
    event_id, user = sale.event_id, a_user()

    async def hear(*commands: AnyCommand) -> Outcome:
        outcome = await sale.run(*commands)
        for message in told_of_seats(outcome):
            listener.hear(message)
        await listener.agrees_with(sale)
        return outcome

    reserved = [reserve(event_id, user, sale.seats[start : start + 1]) for start in range(4)]
    await hear(*reserved)
    paid, kept, declined, given_back = (command.command_id for command in reserved)
    await hear(extend(event_id, user, kept))
    checkouts = [check_out(event_id, user, hold_id) for hold_id in (paid, declined, given_back)]
    await hear(*checkouts)
    await hear(settle(event_id, checkouts[0].command_id), decline(event_id, checkouts[1].command_id))
    await hear(release(event_id, user, declined), cancel_payment(event_id, checkouts[2].command_id))
    await sale.end_holds_now(kept)
    listener.seats[sale.seats[1]] = (await a_snapshot(sale))[1][sale.seats[1]]  # time passes for listeners, too
    await hear(expire(event_id, kept))


class RivalFirst:
    """The filter before the database; before each of our transactions another engine commits one."""

    def __init__(self, sale: OnSale) -> None:
        self.sale = sale
        self.rival = sale.another_engine()
        self.seats = iter(sale.seats[40:])
        self.outcomes: list[Outcome] = []
        self._filter = sale.engine.seat_locks

    async def take(self, event_id: UUID, wanted: Sequence[WantedSeats]) -> Sequence[UUID | None]:
        command = reserve(self.sale.event_id, a_user(), [next(self.seats)])
        self.outcomes.append(await self.sale.run(command, engine=self.rival))
        return await self._filter.take(event_id, wanted)

    async def settle(self, event_id: UUID, wanted: Sequence[WantedSeats], keep_ms: Sequence[int]) -> None:
        await self._filter.settle(event_id, wanted, keep_ms)

    async def close(self) -> None:
        await self._filter.close()


async def split_between(sale: OnSale, rival: RivalFirst, seats: Sequence[SeatId]) -> Outcome:
    """A batch that is split until the one command in it that cannot be done stands alone."""
    sale.engine.seat_locks = rival  # type: ignore[assignment]
    poison = reserve(sale.event_id, a_user(), seats[:1]).model_copy(update={"seat_ids": ("not-a-uuid",)})
    commands = [reserve(sale.event_id, a_user(), [seat]) for seat in seats]
    outcome = await sale.run(*commands[:-2], poison, *commands[-2:])
    assert [one.asked.command for one in outcome.not_processed] == [poison]
    assert len(outcome.sales) >= 3
    return outcome


async def test_what_a_rival_commits_between_two_halves_of_a_batch_is_not_claimed(sale: OnSale) -> None:
    listener, rival = await Listener.begin(sale), RivalFirst(sale)
    outcome = await split_between(sale, rival, sale.seats[:7])
    for message in in_ledger_order(outcome, *rival.outcomes):
        listener.hear(message)
    await listener.agrees_with(sale)


async def test_a_listener_who_misses_the_rival_sees_a_gap_before_every_part(sale: OnSale) -> None:
    """The control: one message for the whole batch would have claimed the rival's numbers."""
    rival = RivalFirst(sale)
    outcome = await split_between(sale, rival, sale.seats[:7])
    messages = told_of_seats(outcome)
    assert len(messages) == len(outcome.sales)
    assert all(later.first_seq > earlier.last_seq + 1 for earlier, later in pairwise(messages))


async def test_each_transaction_is_a_message_of_its_own_in_the_order_of_the_ledger(
    sale: OnSale, settings: Settings
) -> None:
    listener, user = await Listener.begin(sale), a_user()
    async with BrokerProbe(settings) as probe, Replies(settings) as replies:
        queue = await probe.make_queue(
            f"tk.test.seats.{sale.event_id}", bound_to=(topology.SEAT_CHANGES, str(sale.event_id))
        )
        hold = reserve(sale.event_id, user, sale.seats[:2])
        batches = (
            [hold],
            [extend(sale.event_id, user, hold.command_id)],
            [reserve(sale.event_id, user, sale.seats[2:3])],
        )
        both = Outcome()
        for batch in batches:
            for committed in (await sale.run(*batch)).sales:
                both.add(committed)
        await replies.send(sale.event_id, both)
        for _ in batches:
            message = wire.decode_domain_event((await probe.wait_for(queue)).body)
            assert isinstance(message, SeatsChanged)
            listener.hear(message)
    await listener.agrees_with(sale)


async def test_two_engines_at_random_leave_no_gap_and_nothing_untold(an_event: AnEvent) -> None:
    sale = await an_event(ticket_limit=40, live_holds_max=40)
    listener = await Listener.begin(sale)
    engines = [sale.engine, sale.another_engine(), sale.another_engine()]
    users = [a_user() for _ in range(3)]
    chance = random.Random(7)
    for _ in range(6):
        holds = await sale.pool.fetch("SELECT id, user_id FROM holds WHERE event_id = $1", sale.event_id)
        outcomes = await asyncio.gather(
            *(sale.run(*some_commands(sale, users, holds, chance), engine=engine) for engine in engines[1:]),
            # One engine alone: what has no number in the ledger has no order among engines.
            sale.run(*some_commands(sale, users, holds, chance), *some_extensions(sale, holds, chance)),
        )
        for message in in_ledger_order(*outcomes):
            listener.hear(message)
        await listener.agrees_with(sale)


def some_commands(sale: OnSale, users: list[Any], holds: list[Any], chance: random.Random) -> list[AnyCommand]:
    """A batch of what buyers ask, some of it nonsense."""
    event_id = sale.event_id
    commands: list[AnyCommand] = [reserve_best(event_id, chance.choice(users), chance.randint(1, 3)) for _ in range(3)]
    commands += [reserve(event_id, chance.choice(users), chance.sample(sale.seats, 2)) for _ in range(3)]
    commands += [release(event_id, hold["user_id"], hold["id"]) for hold in chance.sample(holds, min(2, len(holds)))]
    chance.shuffle(commands)
    return commands


def some_extensions(sale: OnSale, holds: list[Any], chance: random.Random) -> list[AnyCommand]:
    return [extend(sale.event_id, hold["user_id"], hold["id"]) for hold in chance.sample(holds, min(3, len(holds)))]
