"""Does the verifier see, during the sale, what must never be?"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from consumers import verifier as role
from consumers.examiner import NICENESS, Examiner, Findings, NotExamined
from consumers.proof.books import BOOK_CHECKS, INVARIANTS, find_violations
from consumers.verifier import (
    LEFT_OUT_EVENTS,
    VERIFIED_AT,
    VERIFIED_EVENTS,
    VIOLATED,
    VIOLATIONS,
    Verifier,
    ids_in,
)
from contracts.ids import EventId
from contracts.settings import Settings
from db.postgres import Pool
from db.proof import EventSeen, list_events_seen, read_books
from tests.eventually import eventually
from tests.integration.test_verify import PLANTS, Plant, write_sale

# One of each kind of evidence: the ledger, the seats, money, tickets, orders and refunds.
CHECKS_PLANTED = (
    "ledger without gaps",
    "ledger equals seats",
    "prices add up",
    "tickets match seats",
    "orders paid once",
    "money ledger balances",
)
PLANTED = [next(plant for plant in PLANTS if plant.check == check and plant.sql) for check in CHECKS_PLANTED]


@dataclass
class HereAndNow:
    """An examiner in this process; `problem` keeps it from looking."""

    pool: Pool
    problem: str = ""
    asked: list[EventId] = field(default_factory=list)

    async def examine(self, event_id: EventId) -> Findings:
        self.asked.append(event_id)
        if self.problem:
            raise NotExamined(self.problem)
        return Findings(find_violations(await read_books(self.pool, event_id)), 0.0)


class World:
    """A verifier that knows only this test's events."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.examiner = HereAndNow(pool)
        self.verifier = Verifier(pool, self.examiner)
        self.mine: list[EventId] = []

    async def a_sale(self) -> EventId:
        sale = await write_sale(self.pool)
        self.mine.append(sale.event_id)
        return sale.event_id

    async def end_long_ago(self, *event_ids: EventId) -> None:
        await self.pool.execute(
            "UPDATE events SET on_sale_date = now() - interval '10 days', off_sale_date = now() - interval '9 days'"
            " WHERE id = ANY($1)",
            event_ids,
        )

    async def plant(self, plant: Plant, event_id: EventId) -> None:
        assert not (await self.pool.execute(plant.sql, event_id)).endswith(" 0"), "the plant changed nothing"


@pytest.fixture
async def world(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World(pool)

    async def only_mine(pool: Pool, *, ended_within_seconds: float) -> list[EventSeen]:
        seen = await list_events_seen(pool, ended_within_seconds=ended_within_seconds)
        return [event for event in seen if event.event_id in made.mine]

    monkeypatch.setattr(role, "list_events_seen", only_mine)
    yield made


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == "invariant_violated"]


def violations(check: str) -> float:
    return float(VIOLATIONS.labels(check)._value.get())


def violated(check: str) -> float:
    return float(VIOLATED.labels(check)._value.get())


@pytest.mark.parametrize("plant", PLANTED, ids=str)
async def test_what_contradicts_the_ledger_is_counted_and_told(
    world: World, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    event_id = await world.a_sale()
    before = violations(plant.check)
    await world.verifier.run_once()
    assert (violations(plant.check), violated(plant.check), told(caplog)) == (before, 0, []), "nothing is wrong yet"

    await world.plant(plant, event_id)
    await world.verifier.run_once()

    assert (violations(plant.check), violated(plant.check)) == (before + 1, 1)
    line = next(line for line in told(caplog) if line["check"] == plant.check)
    assert (line["event_id"], line["levelno"]) == (event_id, logging.ERROR)
    assert 1 <= len(line["details"]) <= 20


async def test_a_violation_is_counted_in_every_round_while_it_lasts(world: World) -> None:
    plant, before = PLANTED[0], violations(PLANTED[0].check)
    event_id = await world.a_sale()
    await world.plant(plant, event_id)
    await world.verifier.run_once()
    # Long over, and nothing of it changes: it is looked at until it is clean.
    await world.end_long_ago(event_id)
    await world.verifier.run_once()
    assert (violations(plant.check), violated(plant.check)) == (before + 2, 1)
    await world.pool.execute("DELETE FROM seat_ledger WHERE event_id = $1", event_id)
    await world.pool.execute("UPDATE event_inventory SET ledger_seq = 0 WHERE event_id = $1", event_id)
    world.mine.clear()
    await world.verifier.run_once()
    assert violated(plant.check) == 0


async def test_every_invariant_is_exported_before_anything_is_wrong() -> None:
    exported = {sample.labels["check"] for metric in VIOLATIONS.collect() for sample in metric.samples}
    assert exported == {check.name for check in INVARIANTS}
    assert {check.name for check in BOOK_CHECKS} - exported == {"messages leave in time"}, "a warning is no invariant"


async def test_a_round_says_when_it_was_complete_and_of_how_many_events(world: World) -> None:
    await world.a_sale()
    await world.a_sale()
    VERIFIED_AT.set(0)
    await world.verifier.run_once()
    now = await world.pool.fetchval("SELECT extract(epoch FROM now())::float8")
    assert abs(VERIFIED_AT._value.get() - now) < 60
    assert VERIFIED_EVENTS._value.get() == 2


async def test_an_event_that_cannot_be_looked_at_is_named_and_left_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    event_id = await world.a_sale()
    world.examiner.problem = "it takes longer than 30 s"
    await world.verifier.run_once()
    (line,) = [vars(record) for record in caplog.records if record.message == "event_not_verified"]
    assert (line["event_id"], line["reason"]) == (event_id, "it takes longer than 30 s")
    assert (LEFT_OUT_EVENTS._value.get(), VERIFIED_EVENTS._value.get()) == (1, 0)


async def test_an_event_that_is_too_large_is_not_even_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.a_sale()
    monkeypatch.setattr(role, "LEDGER_ENTRIES_MAX", 3)
    await world.verifier.run_once()
    assert world.examiner.asked == []
    assert LEFT_OUT_EVENTS._value.get() == 1


async def test_of_what_ended_long_ago_only_changes_are_looked_at(world: World) -> None:
    on_sale, over, quiet = await world.a_sale(), await world.a_sale(), await world.a_sale()
    await world.end_long_ago(over, quiet)
    await world.verifier.run_once()
    assert world.examiner.asked == [on_sale]
    await world.pool.execute("UPDATE event_inventory SET ledger_seq = ledger_seq + 1 WHERE event_id = $1", over)
    await world.verifier.run_once()
    assert sorted(world.examiner.asked[1:]) == sorted([on_sale, over])
    assert world.examiner.asked[1] == over, "who has waited longest comes first"


class TestTheExaminer:
    """The process of its own."""

    async def test_it_finds_what_this_process_finds_and_lets_everybody_else_pass(
        self, world: World, settings: Settings
    ) -> None:
        clean, wrong = await world.a_sale(), await world.a_sale()
        await world.plant(PLANTED[0], wrong)
        async with Examiner(settings, seconds_max=30) as examiner:
            assert (await examiner.examine(clean)).violations == {}
            findings = await examiner.examine(wrong)
            expected = find_violations(await read_books(world.pool, wrong))
            assert {name: list(found) for name, found in expected.items()} == findings.violations
            assert findings.processor_seconds > 0
            with pytest.raises(NotExamined, match="UnknownEvent"):
                await examiner.examine(EventId(uuid4()))
            process = examiner._process
            assert process is not None
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == NICENESS
            # What the system does for whoever has died: nobody is left who could ask.
            assert process.stdin is not None
            process.stdin.close()
            await eventually(lambda: process.returncode is not None)

    async def test_what_takes_too_long_is_given_up_and_nothing_is_left_of_it(
        self, world: World, settings: Settings
    ) -> None:
        event_id = await world.a_sale()
        async with Examiner(settings, seconds_max=0.05) as examiner:
            asking = asyncio.create_task(examiner.examine(event_id))
            process = await eventually(lambda: examiner._process)
            with pytest.raises(NotExamined, match="takes longer"):
                await asking
            assert process.returncode is not None
            assert examiner._process is None, "the next question begins another"


async def test_the_role_verifies_until_it_is_told_to_stop(world: World, settings: Settings) -> None:
    await world.a_sale()
    VERIFIED_EVENTS.set(0)
    stopping = asyncio.Event()
    running = asyncio.create_task(role.run(settings.model_copy(update={"verify_seconds": 0.01}), stopping))
    try:
        await eventually(lambda: VERIFIED_EVENTS._value.get() == 1, within_seconds=30)
    finally:
        stopping.set()
        await running


def test_a_log_line_names_things_and_no_amounts() -> None:
    order, seat = uuid4(), uuid4()
    differences = [
        f"order {order} is 40.00 EUR, its payment is over 41.00 EUR",
        f"order {order} is completed, its payment is declined",
        f"seat 7 ({seat}) is available, the ledger says held",
        "entry 3 is missing",
        *(f"ticket {uuid4()} is in 2 refunds" for _ in range(40)),
    ]
    named = ids_in(differences)
    assert named[:3] == [f"order {order}", f"seat 7 ({seat})", "entry 3"]
    assert len(named) == 20
