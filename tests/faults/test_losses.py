"""While a server is lost or refuses, does everybody get a clear answer at once, and does the shop come back by itself?

Each test states its hypothesis, makes the loss, asks the API all the while as buyers and the curious do, ends the loss, and
times how long it takes until somebody can buy again. What is asked of every answer: no 500; a 503 has a code and says when to
come back; nobody waits for it. And of the books afterwards: whoever was told no has nothing, whoever was told nothing yet has
all of it or nothing.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from ops.stack import Stack
from tests.eventually import eventually
from tests.faults.test_broker_and_store_faults import every_role_has_begun
from tests.faults.world import Answer, Buyer, Event, HeldSeats, World

HEALED_WITHIN_SECONDS = 30.0
# What the promise says of a no. A command that was taken is answered at its deadline (1 s in these tests) with "not known yet".
NO_WITHIN_SECONDS = 1.0
NOT_YET_WITHIN_SECONDS = 2.5
ROUNDS = 6
PAIRS = 60
# Before any of it: the limits of rabbitmq/rabbitmq.conf.
USUAL_DISK_LIMIT = "512MB"
BEYOND_ANY_DISK = "1000000GB"

READS = {"list of events": "/api/events", "availability": "availability", "own orders": "/api/orders"}


@dataclass(frozen=True)
class Heard:
    """One answer, and how long it was waited for."""

    to: str
    answer: Answer
    seconds: float

    @property
    def is_clear(self) -> bool:
        """It is an answer of ours: a yes, a no of the sale, "not known yet", or "come back in so many seconds"."""
        if self.answer.status != 503:
            return self.answer.status < 500
        return self.answer.code in ("unavailable", "busy") and int(self.answer.headers["retry-after"]) > 0

    @property
    def is_in_time(self) -> bool:
        return self.seconds <= (NOT_YET_WITHIN_SECONDS if self.answer.status == 202 else NO_WITHIN_SECONDS)


@dataclass
class Audience:
    """Somebody who looks, somebody who wants to see his orders, and somebody who reserves, over and over."""

    world: World
    event: Event
    buyer: Buyer
    heard: list[Heard] = field(default_factory=list)
    _pair: int = 1

    async def ask_round(self) -> None:
        """Everything once, at the same time."""
        self._pair += 1
        asked = [self._look(name) for name in READS]
        self.heard += await asyncio.gather(*asked, self._reserve(self._pair))

    async def _look(self, name: str) -> Heard:
        path = READS[name]
        if path == "availability":
            path = f"/api/events/{self.event.id}/availability"
        return await self._timed(name, "GET", path, {})

    async def _reserve(self, pair: int) -> Heard:
        seats = self.event.seats[2 * pair : 2 * pair + 2]
        body = {"eventId": str(self.event.id), "seatIds": [str(seat) for seat in seats]}
        return await self._timed("reservation", "POST", "/api/seats/reserve", body)

    async def _timed(self, to: str, method: str, path: str, body: dict[str, object]) -> Heard:
        began_at = time.monotonic()
        answer = await self.buyer.ask_once(method, path, body, str(uuid4()))
        return Heard(to, answer, time.monotonic() - began_at)

    def of(self, to: str) -> list[Heard]:
        return [one for one in self.heard if one.to == to]

    def everybody_was_answered(self) -> None:
        assert len(self.heard) >= ROUNDS * (len(READS) + 1)
        assert [str(one.answer) for one in self.heard if not one.is_clear] == []
        assert [(one.to, one.answer.status, round(one.seconds, 2)) for one in self.heard if not one.is_in_time] == []

    def figures(self) -> str:
        """By what was asked: which statuses, how often, and the slowest."""
        lines = []
        for to in (*READS, "reservation"):
            counts = Counter(f"{one.answer.status} {one.answer.code}".strip() for one in self.of(to))
            slowest = max(one.seconds for one in self.of(to))
            lines.append(f"  {to:14} {dict(counts)}, slowest {slowest * 1000:.0f} ms")
        return "\n".join(lines)


@asynccontextmanager
async def a_sale_under_way(world: World) -> AsyncIterator[Audience]:
    """One order is paid, so everything is warm; afterwards the books are held against each other and the provider's."""
    event = await world.an_event(seats=2 * PAIRS, ticket_limit=2 * PAIRS)
    world.start_consumers()
    buyer = await world.a_buyer(event)
    audience = Audience(world, event, buyer)
    assert (await buyer.check_out(await buyer.hold(event.seats[:2]))).status == 201
    # A role that finds no server when it begins ends its process, and waits for its supervisor: another matter.
    await eventually(lambda: every_role_has_begun(world), 20)
    await audience.ask_round()
    audience.heard.clear()
    yield audience
    await world.at_rest(event)
    await world.books_agree(event)


async def the_loss(
    name: str, audience: Audience, begin: Callable[[], Awaitable[object]], end: Callable[[], Awaitable[object]]
) -> None:
    """Begin it, ask for some rounds, end it, and wait until somebody buys."""
    await begin()
    try:
        for _ in range(ROUNDS):
            await audience.ask_round()
    finally:
        await end()
    ended_at = time.monotonic()
    await somebody_buys(audience)
    print(f"\n{name}: bought again {time.monotonic() - ended_at:.1f} s after its end; meanwhile\n{audience.figures()}")
    audience.everybody_was_answered()


async def somebody_buys(audience: Audience) -> None:
    """A pair is reserved and paid, as soon as that goes."""
    pair = PAIRS - 1
    seats = audience.event.seats[2 * pair : 2 * pair + 2]
    async with asyncio.timeout(HEALED_WITHIN_SECONDS):
        reserved = await audience.buyer.reserve(seats)
        assert reserved.status == 201, reserved
        answer = await audience.buyer.check_out(HeldSeats(reserved.body["holdId"], tuple(seats)))
        assert answer.status == 201, answer


# ---- PostgreSQL


async def test_while_postgres_restarts_looking_goes_on_and_buying_is_not_known_yet(world: World) -> None:
    """Hypothesis: what is in memory or in Redis is served; what needs the database says 503 at once; a command that the broker
    has taken is "not known yet" (202) and is answered, or too late, when the database is back."""
    async with a_sale_under_way(world) as audience:
        await the_loss(
            "PostgreSQL stopped",
            audience,
            lambda: world.strike(world.stack.stop, "postgres"),
            lambda: world.strike(world.stack.start, "postgres"),
        )
        assert {one.answer.status for one in audience.of("availability")} == {200}
        assert {one.answer.status for one in audience.of("own orders")} == {503}
        assert {one.answer.status for one in audience.of("reservation")} <= {202, 503}


@pytest.mark.slow
async def test_when_every_connection_of_postgres_is_taken_nobody_waits_for_one(world: World) -> None:
    """Hypothesis: somebody else's program has taken every connection and the server lets nobody in; whoever needs one hears so
    at once, and when they are free again everything goes on by itself."""
    taken: list[asyncpg.Connection] = []

    async def take_all() -> None:
        # A pool that keeps its connections would notice nothing: ours are ended until no process of ours has any.
        ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^(boxoffice|ingress)'"
        await take_what_is_free()
        while await taken[0].fetch(ours):
            await take_what_is_free()

    async def take_what_is_free() -> None:
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            while True:
                taken.append(await asyncpg.connect(world.settings.postgres_url, timeout=5))

    async def give_back() -> None:
        for connection in taken:
            connection.terminate()

    async with a_sale_under_way(world) as audience:
        await the_loss("PostgreSQL without a free connection", audience, take_all, give_back)
        assert {one.answer.status for one in audience.of("availability")} == {200}
        assert {one.answer.status for one in audience.of("own orders")} == {503}


@pytest.mark.slow
async def test_a_full_disk_under_postgres_refuses_and_forgets_nothing(world: World) -> None:
    """Hypothesis: what cannot be written is not sold and not answered with yes; PostgreSQL may give up altogether, and with room
    on the disk (and whoever supervises it) it comes back with everything that was acknowledged."""
    with small_disk_under(world.stack, "postgres") as disk:
        await eventually(world.ingress_is_ready, 30)
        async with a_sale_under_way(world) as audience:

            async def fill() -> None:
                await asyncio.to_thread(disk.fill)
                # Full is full when a write has failed: what fits into pages that are there already is no loss.
                await eventually(lambda: refuses_to_write(world), 30)

            async def make_room() -> None:
                disk.make_room()
                await world.strike(world.stack.start, "postgres")

            await the_loss("PostgreSQL's disk full", audience, fill, make_room)
            await world.fetch("DROP TABLE IF EXISTS filler")
            assert {one.answer.status for one in audience.of("availability")} == {200}


# ---- RabbitMQ


async def test_an_alarm_of_the_brokers_disk_stops_buying_with_a_clear_word(world: World) -> None:
    """Hypothesis: RabbitMQ blocks whoever publishes. The first reservations are on the wire by then and may still arrive: "not
    known yet" (202); from then on it is known, and they are 503 at once. Everything that only looks goes on, and when the
    alarm is over the next purchase succeeds. (Its alarm of memory: test_broker_and_store_faults.py.)"""
    async with a_sale_under_way(world) as audience:
        await the_loss(
            "RabbitMQ's disk alarm",
            audience,
            lambda: world.strike(world.stack.rabbitmqctl, "set_disk_free_limit", BEYOND_ANY_DISK),
            lambda: world.strike(world.stack.rabbitmqctl, "set_disk_free_limit", USUAL_DISK_LIMIT),
        )
        for read in READS:
            assert {one.answer.status for one in audience.of(read)} == {200}
        assert {one.answer.status for one in audience.of("reservation")} <= {202, 503}
        assert [one.answer.status for one in audience.of("reservation")][-1] == 503


# ---- Redis


async def test_without_redis_nothing_is_refused_to_those_who_were_there(world: World) -> None:
    """Hypothesis: whoever was known a moment ago looks and reserves on; PostgreSQL takes the part of Redis. (That it comes back
    empty, that sessions then end, and rooms are filled again: test_broker_and_store_faults.py, test_admissions_log.py.)"""
    async with a_sale_under_way(world) as audience:
        await the_loss(
            "Redis gone",
            audience,
            lambda: world.strike(world.stack.kill, "redis"),
            lambda: world.strike(world.stack.start, "redis"),
        )
        for read in READS:
            assert {one.answer.status for one in audience.of(read)} == {200}
        assert {one.answer.status for one in audience.of("reservation")} <= {201, 202}
        assert 201 in {one.answer.status for one in audience.of("reservation")}


# ---- a small disk


@dataclass
class SmallDisk:
    """A file system of a few hundred megabytes, and a file that takes what is left of it."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """To the last byte."""
        with self._ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(1 << 16))

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk_under(stack: Stack, name: str, *, megabytes: int = 192) -> Iterator[SmallDisk]:
    """What this server has stored is on a disk of its own, meanwhile; afterwards it is where it was, with all that is new."""
    folder = stack.data_folder(name)
    aside = folder.with_name(f"{folder.name}-aside")
    stack.stop(name)
    folder.rename(aside)
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=False).returncode:
        folder.rmdir()
        aside.rename(folder)
        stack.start(name)
        pytest.skip("nobody may mount here")
    try:
        _move_contents(aside, folder)
        stack.start(name)
        yield SmallDisk(folder)
    finally:
        (folder / "ballast").unlink(missing_ok=True)
        stack.stop(name)
        shutil.rmtree(aside, ignore_errors=True)
        _copy(folder, aside)
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
        aside.rename(folder)
        stack.start(name)


def _move_contents(source: Path, target: Path) -> None:
    _copy(source, target)
    shutil.rmtree(source)


def _copy(source: Path, target: Path) -> None:
    """With owners and modes, those of the folder itself included: PostgreSQL insists on its own."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


async def refuses_to_write(world: World) -> bool:
    """A statement that needs a new page has failed, or nobody answers any more."""
    try:
        connection = await asyncpg.connect(world.settings.postgres_url, timeout=5)
    except (asyncpg.PostgresError, OSError, TimeoutError):
        return True
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS filler (text text); INSERT INTO filler SELECT repeat(md5(random()::text), 100)"
            " FROM generate_series(1, 2000)"
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return True
    finally:
        connection.terminate()
    return False
