"""Does a consumer process say how it is, and that it leaves before it does?"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consumers.operations_page import OperationsPage, operations_page
from consumers.runtime import Stage
from consumers.stuck_queues import StuckQueue, show_not_moving
from contracts import wire
from contracts.domain_events import OrdersCancelled
from contracts.settings import Settings
from db.telemetry import health
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually
from tests.ingress_process import a_free_port, environment_of
from tests.integration.test_runtime import Desk, a_message, handle

NOWHERE = 1
# What the promise leaves a probe that comes while the process is told to stop.
AT_ONCE_SECONDS = 0.1

SLOW_ROLE = """
import asyncio, pathlib, sys
from consumers import __main__ as consumers

async def slow(settings, stopping):
    await stopping.wait()
    while not pathlib.Path(sys.argv[1]).exists():
        await asyncio.sleep(0.01)

consumers.role_of = lambda name: slow
sys.exit(consumers.main(["verifier"]))
"""


@asynccontextmanager
async def a_page(
    settings: Settings, *roles: str, stopping: asyncio.Event | None = None, **changes: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """The page of a process with these roles, and a client of it."""
    ours = settings.model_copy(update={"metrics_port": a_free_port(), **changes})
    async with (
        operations_page(roles or ("commands",), ours, stopping or asyncio.Event()),
        aiohttp.ClientSession(f"http://127.0.0.1:{ours.metrics_port}") as client,
    ):
        yield client


async def status_of(client: aiohttp.ClientSession, path: str) -> int:
    async with client.get(path) as answer:
        return answer.status


async def report_of(client: aiohttp.ClientSession) -> dict[str, Any]:
    async with client.get("/health") as answer:
        report: dict[str, Any] = await answer.json()
        assert answer.status == (200 if report["status"] == "ok" else 503)
        return report


def is_ready(client: aiohttp.ClientSession) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return await status_of(client, "/ready") == 204

    return ready


async def test_a_process_that_is_well_says_so(settings: Settings) -> None:
    async with a_page(settings, "commands", "relay") as client:
        await eventually(is_ready(client))
        assert await status_of(client, "/live") == 204
        report = await report_of(client)
    assert (report["status"], report["draining"], report["roles"]) == ("ok", False, ["commands", "relay"])
    assert {check["name"] for check in report["checks"]} >= {"postgres", "redis", "rabbitmq"}
    assert all(check["status"] == "healthy" and check["latencyMs"] >= 0 for check in report["checks"])
    assert all(server["ok"] for server in report["servers"].values())
    assert report["startedAt"].endswith("Z")
    assert report["stuckQueues"] == report["pausedQueues"] == []


async def test_prometheus_is_told_how_the_servers_are(settings: Settings) -> None:
    async with a_page(settings) as client:
        await eventually(is_ready(client))
        async with client.get("/metrics") as answer:
            assert answer.headers["content-type"].startswith("text/plain")
            lines = (await answer.text()).splitlines()
    assert {'boxoffice_dependency_up{dependency="rabbitmq"} 1.0', "boxoffice_ready 1.0"} <= set(lines)


@pytest.mark.parametrize(
    ("server", "roles", "ready"),
    [
        ("postgres", ("commands",), False),
        ("rabbitmq", ("commands",), False),
        ("redis", ("commands",), True),
        ("redis", ("admissions",), False),
        ("rabbitmq", ("verifier",), True),
    ],
)
async def test_a_server_that_is_away_is_named_and_alive_it_is_all_the_same(
    settings: Settings, server: str, roles: tuple[str, ...], ready: bool
) -> None:
    scheme = {"postgres": "postgresql", "rabbitmq": "amqp", "redis": "redis"}[server]
    away = {f"{server}_url": f"{scheme}://127.0.0.1:{NOWHERE}/x"}
    async with a_page(settings, *roles, **away) as client:

        async def the_others_are_well() -> bool:
            found = (await report_of(client))["servers"]
            return all(found[name]["ok"] for name in found if name != server)

        await eventually(the_others_are_well)
        report = await report_of(client)
        assert report["status"] == "degraded"
        assert report["servers"][server]["problem"]
        assert str(NOWHERE) not in report["servers"][server]["problem"].split()
        assert (await status_of(client, "/ready") == 204) is ready
        assert await status_of(client, "/live") == 204


async def test_stuck_and_paused_queues_are_named(settings: Settings) -> None:
    show_not_moving([StuckQueue("tk.cmd.e.x", "x", 3, 0, 12.34)], ["tk.cmd.e.y"])
    try:
        async with a_page(settings, "lifecycle") as client:
            report = await report_of(client)
    finally:
        show_not_moving([], [])
    assert report["stuckQueues"] == [
        {"queue": "tk.cmd.e.x", "eventId": "x", "messages": 3, "consumers": 0, "seconds": 12.3}
    ]
    assert report["pausedQueues"] == ["tk.cmd.e.y"]


async def test_what_it_has_in_hand_is_finished_after_it_has_said_that_it_leaves(settings: Settings) -> None:
    go_on, stopping = asyncio.Event(), asyncio.Event()

    async def wait_for_it(_: OrdersCancelled) -> None:
        await go_on.wait()

    desk = Desk(settings, wait_for_it)
    async with BrokerProbe(settings) as broker, a_page(settings, "notifications", stopping=stopping) as client:
        queue = await broker.make_work_queue()
        stage: Stage[Desk] = Stage(
            name="slow", queue=queue, user="worker", prefetch=5, handlers={OrdersCancelled: handle}
        )
        work = asyncio.create_task(stage.run(desk))
        try:
            await broker.put(queue, wire.encode_domain_event(a_message()))
            await eventually(lambda: desk.seen)
            await eventually(is_ready(client))
            shown = (await report_of(client))["work"]["slow"]
            assert (shown["messagesInHand"], shown["lastMessageAt"] is None) == (1, False)

            stopping.set()
            stage.stop()
            async with asyncio.timeout(AT_ONCE_SECONDS):
                assert await status_of(client, "/ready") == 503
            assert await status_of(client, "/live") == 204
            assert not work.done(), "it still has a message in hand"
        finally:
            go_on.set()
            await work
        assert (await report_of(client))["work"]["slow"]["messagesInHand"] == 0
        assert await broker.ready_count(queue) == 0


async def test_a_signal_is_answered_by_ready_before_the_process_ends(settings: Settings, tmp_path: Path) -> None:
    port, go_on = a_free_port(), tmp_path / "go on"
    ours = settings.model_copy(update={"metrics_port": port})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SLOW_ROLE, str(go_on)), env=environment_of(ours)
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

            async def begun() -> bool:
                with suppress(aiohttp.ClientError):
                    return await is_ready(client)()
                return False

            await eventually(begun, within_seconds=30)
            process.send_signal(signal.SIGTERM)
            told_at = time.monotonic()
            await eventually(lambda: _is_not(is_ready(client)))
            assert time.monotonic() - told_at < AT_ONCE_SECONDS
            assert await status_of(client, "/live") == 204
            go_on.touch()
            assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_port_that_is_taken_costs_only_the_page(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    ours = settings.model_copy(update={"metrics_port": a_free_port()})
    async with operations_page(("relay",), ours, asyncio.Event()), operations_page(("relay",), ours, asyncio.Event()):
        pass
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "operations_page_not_served"
    ]


async def test_without_a_port_nothing_is_served_and_nobody_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OperationsPage, "open", None)  # it would be an error to call it
    async with operations_page(("relay",), settings.model_copy(update={"metrics_port": 0}), asyncio.Event()):
        pass


async def test_ten_probes_a_second_cost_one_round(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    ask_all = health.Health._ask_all

    async def counted(self: health.Health) -> dict[str, health.ServerState]:
        rounds.append(time.monotonic())
        return await ask_all(self)

    monkeypatch.setattr(health.Health, "_ask_all", counted)
    monkeypatch.setattr(health, "ROUND_IS_GOOD_FOR_SECONDS", 60.0)
    async with a_page(settings) as client:
        await asyncio.gather(*(status_of(client, path) for path in ("/ready", "/health", "/metrics") * 10))
    assert len(rounds) == 1


async def _is_not(condition: Callable[[], Awaitable[bool]]) -> bool:
    return not await condition()
