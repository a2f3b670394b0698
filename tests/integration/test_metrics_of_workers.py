"""Several workers count as one, whichever of them is asked."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.mmap_dict import MmapedDict

from contracts.settings import Settings
from ingress.shared_metrics import FOLDER_VARIABLE, IN_MEMORY, PREFIX, folder_for_workers
from tests.eventually import eventually
from tests.exposition import read_metrics
from tests.ingress_process import AS_ALWAYS, a_free_port, start_ingress

WORKERS = 2
# Its workers are not told of a folder, so each counts for itself.
WITHOUT_A_FOLDER = (
    "-c",
    "import contextlib, ingress.__main__ as program\n"
    "program.folder_for_workers = lambda _: contextlib.nullcontext()\n"
    "program.main()\n",
)


@asynccontextmanager
async def workers(settings: Settings, arguments: Sequence[str] = AS_ALWAYS) -> AsyncIterator[tuple[str, int]]:
    """An ingress of two workers; yields its address and its pid."""
    port = a_free_port()
    ours = settings.model_copy(update={"http_port": port, "ingress_workers": WORKERS, "drain_seconds": 1.0})
    process = await start_ingress(ours, arguments)
    try:
        async with asyncio.timeout(40):
            await _all_are_ready(process)
        yield f"http://127.0.0.1:{port}", process.pid
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def _all_are_ready(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    for _ in range(WORKERS):
        while b"Worker ready" not in (line := await process.stderr.readline()):
            assert line, "the ingress ended before it was ready"


async def ask(url: str, count: int) -> None:
    """So many requests, each on a connection of its own."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(force_close=True, limit=20)) as client:
        for status in await asyncio.gather(*(_status(client) for _ in range(count))):
            assert status == 404


async def _status(client: aiohttp.ClientSession) -> int:
    async with client.get("/nothing/here") as answer:
        return answer.status


def private_folder_of(pid: int) -> Path:
    """The folder of the workers' figures, which nobody else can read."""
    [folder] = IN_MEMORY.glob(f"{PREFIX}{pid}-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    return folder


def counts_of_each(folder: Path) -> dict[int, float]:
    """What each worker has written down of those requests, by its pid."""
    return {int(file.stem.rpartition("_")[2]): _count_in(file) for file in folder.glob("counter_*.db")}


def _count_in(file: Path) -> float:
    written = MmapedDict.read_all_values_from_file(str(file))
    return sum(value for key, value, *_ in written if '"http_requests_total"' in key and '"404"' in key)


async def test_every_worker_answers_for_all_of_them(settings: Settings) -> None:
    async with workers(settings) as (url, pid):
        folder = private_folder_of(pid)
        asked = 0

        async def both_have_answered() -> bool:
            nonlocal asked
            await ask(url, 40)
            asked += 40
            counts = counts_of_each(folder)
            return len(counts) == WORKERS and all(counts.values())

        await eventually(both_have_answered)

        async def all_is_counted() -> bool:
            return (await read_metrics(url)).value("http_requests_total", status="404") == asked

        await eventually(all_is_counted)
        assert max(counts_of_each(folder).values()) < asked, "none of them knows of all by itself"
        pages = await asyncio.gather(*(read_metrics(url) for _ in range(10)))
        for page in pages:
            assert page.value("http_requests_total", endpoint="other", method="GET", status="404") == asked
            assert page.value("http_request_duration_seconds_count", endpoint="other") == asked
            assert page.value("process_resident_memory_bytes") > 0
            assert not any("pid" in labels for family in page.families for labels in page.label_sets(family.name))
        await a_killed_one_has_counted_but_has_nothing_open(url, folder, asked)
    assert not folder.exists(), "nothing is left behind"


async def a_killed_one_has_counted_but_has_nothing_open(url: str, folder: Path, asked: int) -> None:
    async def connections_there_may_be() -> float:
        return (await read_metrics(url)).value("postgres_connection_pool_max")

    of_all = await connections_there_may_be()
    os.kill(next(iter(counts_of_each(folder))), signal.SIGKILL)

    async def one_is_gone() -> bool:
        with suppress(aiohttp.ClientError):  # a connection that it had taken
            return await connections_there_may_be() == of_all / WORKERS
        return False

    await eventually(one_is_gone)
    assert (await read_metrics(url)).value("http_requests_total", status="404") == asked


@pytest.mark.slow
async def test_without_the_folder_a_worker_speaks_for_itself(settings: Settings) -> None:
    async with workers(settings, WITHOUT_A_FOLDER) as (url, _):
        asked = 0

        async def somebody_knows_a_part_only() -> bool:
            nonlocal asked
            await ask(url, 40)
            asked += 40
            pages = await asyncio.gather(*(read_metrics(url) for _ in range(10)))
            return any(page.value("http_requests_total", status="404") < asked for page in pages)

        await eventually(somebody_knows_a_part_only)


def test_what_a_killed_ingress_left_behind_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.shared_metrics.IN_MEMORY", tmp_path)
    left_behind = tmp_path / f"{PREFIX}4194304-abc"
    left_behind.mkdir()
    (left_behind / "counter_1.db").touch()
    (tmp_path / "somebody-elses").mkdir()
    environment: dict[str, str] = {}
    with folder_for_workers(environment):
        ours = Path(environment[FOLDER_VARIABLE])
        assert not left_behind.exists()
        with folder_for_workers({}):
            assert ours.exists(), "another ingress on this machine leaves it alone"
    assert environment == {}
    assert [file.name for file in tmp_path.iterdir()] == ["somebody-elses"]
