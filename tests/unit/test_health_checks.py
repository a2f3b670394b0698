"""Is a server that is not well seen, soon, and for the price of one question?"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumers.circuit_breaker import CircuitBreaker, all_breakers
from consumers.operations_page import breakers_seen, indispensable_for
from consumers.work_in_hand import WorkInHand, work_by_name
from db.telemetry import health as module
from db.telemetry.health import FAILURES, READY, UP, BreakerSeen, Health, KeptSession
from tests.eventually import eventually


class Server:
    """A server that can be taken away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked_count = 0
        self.problem: Exception | None = None
        self.hangs = False

    async def ask(self) -> None:
        self.asked_count += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.problem is not None:
            raise self.problem
        await asyncio.sleep(0)


class World:
    """Two servers, one of them indispensable, and a process that may be told to leave."""

    def __init__(self) -> None:
        self.needed, self.useful = Server(), Server()
        self.draining = False
        self.breakers: list[BreakerSeen] = []
        self.health = Health(
            {"needed": self.needed.ask, "useful": self.useful.ask},
            indispensable={"needed"},
            is_draining=lambda: self.draining,
            breakers=lambda: self.breakers,
        )


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "CHECK_TIMEOUT_SECONDS", 0.05)
    made = World()
    yield made
    await made.health.close()


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question is a round of its own."""
    monkeypatch.setattr(module, "ROUND_IS_GOOD_FOR_SECONDS", 0.0)


async def test_many_probes_cost_one_round(world: World) -> None:
    assert all(await asyncio.gather(*(world.health.is_ready() for _ in range(50))))
    assert all([await world.health.is_ready() for _ in range(10)])
    assert world.needed.asked_count == 1


@pytest.mark.usefixtures("no_memory")
async def test_what_was_found_out_is_not_believed_for_long(world: World) -> None:
    # Without this, the test above would pass as well if nobody ever asked again.
    assert await world.health.is_ready()
    assert await world.health.is_ready()
    assert world.needed.asked_count == 2


@pytest.mark.usefixtures("no_memory")
async def test_without_what_is_indispensable_it_is_not_ready(world: World) -> None:
    world.needed.problem = ConnectionRefusedError("secret-host:5432 as somebody")
    assert not await world.health.is_ready()
    report = await world.health.report()
    assert report.status == "degraded"
    assert report.servers["needed"].problem == "ConnectionRefusedError", "the kind, and no names"
    assert [(check.name, check.status) for check in report.checks] == [("needed", "unhealthy"), ("useful", "healthy")]
    assert value(UP.labels("needed")) == 0
    assert value(READY) == 0
    world.needed.problem = None
    assert await world.health.is_ready()
    assert value(UP.labels("needed")) == value(READY) == 1


async def test_without_what_is_only_useful_it_is_ready_and_says_what_is_wrong(world: World) -> None:
    world.useful.problem = TimeoutError()
    assert await world.health.is_ready()
    assert (await world.health.report()).status == "degraded"


async def test_a_server_that_hangs_is_not_waited_for(world: World) -> None:
    before = value(FAILURES.labels("needed"))
    world.needed.hangs = True
    async with asyncio.timeout(1):
        assert not await world.health.is_ready()
    assert value(FAILURES.labels("needed")) == before + 1


async def test_on_the_way_out_it_is_not_ready_at_once_and_nobody_is_asked(world: World) -> None:
    assert await world.health.is_ready()
    world.draining = True
    world.needed.hangs = True
    assert not await world.health.is_ready()
    assert value(READY) == 0
    assert (await world.health.report()).draining


@pytest.mark.usefixtures("no_memory")
async def test_it_looks_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.01)
    world.health.begin()
    await eventually(lambda: world.needed.asked_count >= 3)
    world.needed.problem = OSError()
    await eventually(lambda: value(UP.labels("needed")) == 0)


async def test_who_hangs_up_does_not_take_the_answer_from_the_others(world: World) -> None:
    impatient = asyncio.create_task(world.health.is_ready())
    patient = asyncio.create_task(world.health.is_ready())
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient


async def test_an_open_breaker_is_unhealthy_and_one_on_trial_is_not(world: World) -> None:
    world.breakers = [BreakerSeen("payment_circuit_breaker", "half_open")]
    assert (await world.health.report()).status == "ok"
    world.breakers = [BreakerSeen("payment_circuit_breaker", "unhealthy")]
    report = await world.health.report()
    assert report.status == "degraded"
    assert report.checks[-1].model_dump() == {
        "name": "payment_circuit_breaker",
        "status": "unhealthy",
        "latencyMs": 0.0,
    }


def test_the_breakers_of_a_process_are_found_by_name_while_somebody_uses_them() -> None:
    now = [0.0]
    breaker = CircuitBreaker(failures=1, open_seconds=5, name="payment_provider", clock=lambda: now[0])
    CircuitBreaker(failures=1, open_seconds=5)  # without a name it is its owner's business
    assert breaker in all_breakers()
    assert BreakerSeen("payment_circuit_breaker", "healthy") in breakers_seen()
    breaker.failed()
    assert BreakerSeen("payment_circuit_breaker", "unhealthy") in breakers_seen()
    now[0] = 6
    assert BreakerSeen("payment_circuit_breaker", "half_open") in breakers_seen()
    del breaker
    assert "payment_circuit_breaker" not in {seen.name for seen in breakers_seen()}


def test_what_a_process_needs_depends_on_what_it_does() -> None:
    assert indispensable_for(("commands",)) == {"postgres", "rabbitmq"}
    assert indispensable_for(("admissions",)) == {"postgres", "redis"}
    assert indispensable_for(("commands", "admissions")) == {"postgres", "rabbitmq"}


def test_work_of_one_name_is_shown_together() -> None:
    first, second = WorkInHand("stage"), WorkInHand("stage")
    first.take()
    second.take()
    second.take()
    second.finish()
    seen = work_by_name([first, second])["stage"]
    assert seen.message_count == 2
    assert seen.last_message_at == second.last_message_at
    second.leave()
    assert work_by_name()["stage"].message_count == 1


class Sessions:
    """Counts sessions that are made and thrown away."""

    def __init__(self) -> None:
        self.made, self.dropped = 0, 0
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.answers = True

    async def open(self) -> int:
        await self.may_open.wait()
        self.made += 1
        return self.made

    async def ask(self, _: int) -> None:
        if not self.answers:
            raise ConnectionError("gone")

    async def drop(self, _: int) -> None:
        self.dropped += 1


@asynccontextmanager
async def kept(sessions: Sessions) -> AsyncIterator[KeptSession[int]]:
    session = KeptSession(sessions.open, sessions.ask, sessions.drop)
    yield session
    await session.close()


async def test_a_session_is_kept_until_it_fails_and_then_made_anew() -> None:
    sessions = Sessions()
    async with kept(sessions) as session:
        await session.ask()
        await session.ask()
        assert sessions.made == 1
        sessions.answers = False
        with pytest.raises(ConnectionError):
            await session.ask()
        sessions.answers = True
        await session.ask()
        assert sessions.made == 2
    assert sessions.dropped == 2


async def test_making_a_session_may_take_longer_than_a_check() -> None:
    sessions = Sessions()
    sessions.may_open.clear()
    async with kept(sessions) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await session.ask()
        sessions.may_open.set()
        await session.ask()
        assert sessions.made == 1, "the one that had begun"


def value(metric: Any) -> float:
    read: Callable[[], float] = metric._value.get
    return read()
