"""Two hundred readers and one load: does the cache hold when everybody comes at once, and when Redis does not?"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from contracts.settings import Settings
from db import read_cache
from db.read_cache import Document, ReadCache
from tests.eventually import eventually
from tests.ingress_process import a_free_port

ACache = Callable[..., ReadCache]
READERS = 200


@pytest.fixture
async def a_cache(settings: Settings) -> AsyncIterator[ACache]:
    """A factory of caches, each as a process of its own would have it."""
    async with AsyncExitStack() as opened:

        def make(**overrides: Any) -> ReadCache:
            cache = ReadCache(settings.model_copy(update=overrides))
            opened.push_async_callback(cache.close)
            return cache

        yield make


@pytest.fixture(autouse=True)
def _patient_with_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_cache, "REDIS_TIMEOUT_SECONDS", 5.0)
    monkeypatch.setattr(read_cache, "PATIENCE_SECONDS", 5.0)


@pytest.fixture
def name() -> str:
    """A document that nobody else reads."""
    return f"test:{uuid4()}"


class Source:
    """Where documents come from: counts, and waits until it is told to answer."""

    def __init__(self) -> None:
        self.load_count = 0
        self.version = 1
        self.open = asyncio.Event()
        self.open.set()

    async def load(self) -> Document:
        self.load_count += 1
        read = self.version
        await self.open.wait()
        return Document(f'"{read}"', b"version %d" % read)


async def read_by_many(cache: ReadCache, name: str, source: Source, readers: int = READERS) -> set[bytes]:
    answers = await asyncio.gather(*(cache.get(name, source.load, seconds=60) for _ in range(readers)))
    return {answer.body for answer in answers}


async def test_what_was_read_is_not_loaded_again(a_cache: ACache, name: str) -> None:
    source = Source()
    first = await a_cache().get(name, source.load, seconds=60)
    assert await a_cache().get(name, source.load, seconds=60) == first == Document('"1"', b"version 1")
    assert source.load_count == 1


async def test_it_is_kept_for_its_time(a_cache: ACache, name: str, redis: Redis) -> None:
    await a_cache().get(name, Source().load, seconds=60)
    assert 0 < await redis.ttl(f"{{catalogue}}:read:{name}") <= 60


async def test_what_is_not_there_is_not_kept(a_cache: ACache, name: str, redis: Redis) -> None:
    async def nothing() -> None:
        return None

    assert await a_cache().find(name, nothing, seconds=60) is None
    assert not await redis.exists(f"{{catalogue}}:read:{name}")


async def test_many_readers_of_a_cold_document_cost_one_load(a_cache: ACache, name: str) -> None:
    source, cache = Source(), a_cache()
    assert await read_by_many(cache, name, source) == {b"version 1"}
    assert source.load_count == 1


async def test_the_loads_are_seen_when_readers_do_not_share_a_flight(a_cache: ACache, name: str) -> None:
    # The control of the test above: readers that each find their own way load more than once.
    source, cache = Source(), a_cache(redis_url=f"redis://127.0.0.1:{a_free_port()}/0")
    await asyncio.gather(*(cache._find(name, source.load, 60) for _ in range(READERS)))
    assert source.load_count == READERS


async def test_without_redis_many_readers_still_cost_one_load(a_cache: ACache, name: str) -> None:
    source = Source()
    cache = a_cache(redis_url=f"redis://127.0.0.1:{a_free_port()}/0")
    assert await read_by_many(cache, name, source) == {b"version 1"}
    assert source.load_count == 1


async def test_a_redis_that_does_not_answer_is_soon_left_alone(
    a_cache: ACache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cache, "REDIS_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(read_cache, "REDIS_PAUSE_SECONDS", 60.0)
    async with await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        source, cache = Source(), a_cache(redis_url=f"redis://127.0.0.1:{port}/0")
        await cache.get(name, source.load, seconds=60)
        began = time.thread_time()
        for _ in range(50):
            await cache.get(name, source.load, seconds=60)
        assert source.load_count == 51
        assert cache._away_until > time.monotonic() + 30
        assert time.thread_time() - began < 2.5  # fifty timeouts in turn


async def test_processes_wait_for_the_one_that_loads(a_cache: ACache, name: str) -> None:
    source = Source()
    source.open.clear()
    processes = [a_cache() for _ in range(5)]
    reading = [asyncio.create_task(read_by_many(process, name, source, 10)) for process in processes]
    await eventually(lambda: source.load_count == 1)
    source.open.set()
    assert await asyncio.gather(*reading) == [{b"version 1"}] * 5
    assert source.load_count == 1


async def test_a_turn_that_comes_after_somebody_elses_load_is_not_used(
    a_cache: ACache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, slow, quick = Source(), a_cache(), a_cache()
    ask_redis = slow._call

    async def ask_late(*command: Any) -> Any:
        if "NX" in command:
            await quick.get(name, source.load, seconds=60)
        return await ask_redis(*command)

    monkeypatch.setattr(slow, "_call", ask_late)
    assert (await slow.get(name, source.load, seconds=60)).body == b"version 1"
    assert source.load_count == 1


async def test_a_loader_that_never_comes_back_is_succeeded(
    a_cache: ACache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cache, "PATIENCE_SECONDS", 0.1)
    stuck, source = Source(), Source()
    stuck.open.clear()
    first = asyncio.create_task(a_cache().get(name, stuck.load, seconds=60))
    await eventually(lambda: stuck.load_count)
    assert (await a_cache().get(name, source.load, seconds=60)).body == b"version 1"
    stuck.open.set()
    await first


async def test_after_a_write_nobody_reads_what_was_before(a_cache: ACache, name: str) -> None:
    source, here, there = Source(), a_cache(), a_cache()
    await here.get(name, source.load, seconds=60)
    source.version = 2
    assert (await there.get(name, source.load, seconds=60)).body == b"version 1"  # it was kept
    await here.forget_all()
    assert (await there.get(name, source.load, seconds=60)).body == b"version 2"
    assert (await here.get(name, source.load, seconds=60)).body == b"version 2"


async def test_who_read_before_a_write_cannot_keep_it_as_new(a_cache: ACache, name: str) -> None:
    source, slow, writer = Source(), a_cache(), a_cache()
    source.open.clear()
    reading = asyncio.create_task(slow.get(name, source.load, seconds=60))
    await eventually(lambda: source.load_count == 1)  # it has read, and not yet kept
    source.version = 2
    await writer.forget_all()
    source.open.set()
    assert (await reading).body == b"version 1"
    assert (await a_cache().get(name, source.load, seconds=60)).body == b"version 2"


async def test_who_asks_after_a_write_does_not_share_a_flight_from_before(a_cache: ACache, name: str) -> None:
    source, cache = Source(), a_cache()
    source.open.clear()
    before = asyncio.create_task(cache.get(name, source.load, seconds=60))
    await eventually(lambda: source.load_count == 1)
    source.version = 2
    await cache.forget_all()
    after = asyncio.create_task(cache.get(name, source.load, seconds=60))
    source.open.set()
    assert {(await before).body, (await after).body} == {b"version 1", b"version 2"}


async def test_a_write_while_redis_was_away_is_made_good(
    a_cache: ACache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cache, "REDIS_PAUSE_SECONDS", 0.0)
    source, writer = Source(), a_cache()
    await writer.get(name, source.load, seconds=60)
    real = writer._redis
    async with aclosing(a_cache(redis_url=f"redis://127.0.0.1:{a_free_port()}/0")._redis) as away:
        writer._redis = away
        source.version = 2
        await writer.forget_all()
        assert (await writer.get(name, source.load, seconds=60)).body == b"version 2"
    writer._redis = real
    assert (await writer.get(name, source.load, seconds=60)).body == b"version 2"
    assert (await a_cache().get(name, source.load, seconds=60)).body == b"version 2"


async def test_a_reader_that_hangs_up_does_not_take_the_document_from_the_others(a_cache: ACache, name: str) -> None:
    source, cache = Source(), a_cache()
    source.open.clear()
    impatient = asyncio.create_task(cache.get(name, source.load, seconds=60))
    patient = asyncio.create_task(cache.get(name, source.load, seconds=60))
    await eventually(lambda: source.load_count == 1)
    impatient.cancel()
    source.open.set()
    assert (await patient).body == b"version 1"
    assert source.load_count == 1


async def test_an_error_is_everybodys_and_is_not_kept(a_cache: ACache, name: str) -> None:
    source, cache = Source(), a_cache()

    async def failing() -> Document:
        raise ConnectionError("the database is away")

    answers = await asyncio.gather(*(cache.get(name, failing, seconds=60) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 3
    assert (await cache.get(name, source.load, seconds=60)).body == b"version 1"


async def test_a_flood_of_made_up_questions_does_not_fill_redis(
    a_cache: ACache, name: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cache, "KEPT_BYTES_PER_MINUTE_MAX", 50)
    source, cache = Source(), a_cache()
    for number in range(10):
        await cache.get(f"{name}:{number}", source.load, seconds=60)
    kept = [await redis.exists(f"{{catalogue}}:read:{name}:{number}") for number in range(10)]
    assert kept == [1] * 5 + [0] * 5  # nine bytes each
