"""Does a stack of real servers survive stops, crashes, freezes and half-dead earlier runs?

A stack of its own: the one that the other tests share must not be killed under them.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path

import asyncpg
import pytest

from ops.stack import DATABASES, Stack, StackProblem
from ops.stack.ports import HOST, is_taken
from ops.stack.processes import end, left_behind
from ops.stack.server import REPOSITORY

# Best in one worker, which starts one stack for all of them; RabbitMQ needs six seconds a start, more on a busy machine.
pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

# Two workers, or two runs of the tests in one checkout, must not end each other's servers.
NAME = f"selftest-{os.getpid()}"
PORT_BLOCKS = 5  # below the ports of the acceptance stack


@cache
def port_base() -> int:
    """A block of ports that nobody uses; neighbours begin to look in different places."""
    blocks = [9440 + 12 * ((os.getpid() + step) % PORT_BLOCKS) for step in range(PORT_BLOCKS)]
    return next(base for base in blocks if not any(is_taken(base + offset) for offset in range(12)))


def a_stack() -> Stack:
    # Whatever the machine is told to use for the sale, these tests are about servers of our own.
    return Stack(NAME, port_base(), variables={"BOXOFFICE_INSTALL": os.environ.get("BOXOFFICE_INSTALL", "yes")})


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = a_stack()
    try:
        stack.up(DATABASES)
        yield stack
    finally:
        clear(stack)


def clear(stack: Stack) -> None:
    stack.down()
    for name in DATABASES:
        stack.empty(name)  # PostgreSQL's folder may lie elsewhere
    shutil.rmtree(stack.folder, ignore_errors=True)


def ask_redis(stack: Stack, *words: str) -> str:
    with closing(socket.create_connection((HOST, stack.ports["redis"]), timeout=5)) as connection:
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(1024).decode().strip()


async def ask_postgres(stack: Stack, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.environment()["BOXOFFICE_POSTGRES_URL"])
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


def states(stack: Stack) -> dict[str, str]:
    return {server.name: server.state for server in stack.status()}


def processes_of(stack: Stack, name: str) -> list[int]:
    server = stack._servers[name]
    return [process.pid for process in left_behind(mark=stack._mark(server), workplace=server.workplace)]


def test_the_servers_answer_and_say_so(stack: Stack) -> None:
    assert {name: states(stack)[name] for name in DATABASES} == dict.fromkeys(DATABASES, "running")
    assert ask_redis(stack, "PING") == "+PONG"


def test_a_second_start_finds_them_running(stack: Stack) -> None:
    before = [stack.process(name) for name in DATABASES]
    a_stack().up(DATABASES)
    assert [stack.process(name) for name in DATABASES] == before


async def test_they_run_with_our_configuration(stack: Stack) -> None:
    rows = await ask_postgres(stack, "SELECT current_setting('jit') AS jit, current_setting('fsync') AS fsync")
    assert dict(rows[0]) == {"jit": "off", "fsync": "on"}
    assert "noeviction" in ask_redis(stack, "CONFIG", "GET", "maxmemory-policy")
    assert "everysec" in ask_redis(stack, "CONFIG", "GET", "appendfsync")
    assert "rabbitmq_prometheus" in stack.rabbitmqctl("eval", "rabbit_plugins:active().")
    assert "guest" not in stack.rabbitmqctl("list_users")


def test_they_listen_on_this_machine_only(stack: Stack) -> None:
    ours = {port for name in DATABASES for port in stack._servers[name].ports.values()}
    table = [line.split()[1:4:2] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    table += [line.split()[1:4:2] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    listening = {local for local, state in table if state == "0A" and int(local.rpartition(":")[2], 16) in ours}
    # 127.0.0.1, and for epmd ::1 as well.
    assert {address.rpartition(":")[0] for address in listening} <= {"0100007F", "0" * 24 + "01000000"}
    assert {int(address.rpartition(":")[2], 16) for address in listening} == ours


@pytest.mark.parametrize("name", DATABASES)
def test_a_killed_server_starts_again(stack: Stack, name: str) -> None:
    stack.kill(name)
    assert states(stack)[name] == "stopped"
    assert processes_of(stack, name) == []
    stack.start(name)
    assert states(stack)[name] == "running"


async def test_what_was_committed_survives_the_kill(stack: Stack) -> None:
    await ask_postgres(stack, "CREATE TABLE promises AS SELECT 1 AS kept")
    stack.kill("postgres")
    stack.start("postgres")
    assert await ask_postgres(stack, "SELECT kept FROM promises")


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_frozen_server_is_silent_until_it_is_thawed(stack: Stack, name: str) -> None:
    stack.freeze(name)
    assert states(stack)[name] == "frozen"
    assert not stack.is_ready(name)
    stack.thaw(name)
    stack.wait_ready(name, 10)


def test_a_frozen_server_is_thawed_by_a_start(stack: Stack) -> None:
    before = stack.process("redis")
    stack.freeze("redis")
    stack.start("redis")
    assert stack.is_ready("redis")
    assert stack.process("redis") == before


def test_a_frozen_server_can_be_stopped(stack: Stack) -> None:
    stack.freeze("postgres")
    stack.stop("postgres")
    assert states(stack)["postgres"] == "stopped"
    stack.start("postgres")


def test_an_emptied_server_is_as_new(stack: Stack) -> None:
    assert ask_redis(stack, "SET", "place", "17") == "+OK"
    with pytest.raises(StackProblem, match="is running"):
        stack.empty("redis")
    stack.stop("redis")
    stack.empty("redis")
    stack.start("redis")
    assert ask_redis(stack, "EXISTS", "place") == ":0"


def test_two_callers_start_one_server(stack: Stack) -> None:
    stack.stop("redis")
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda _: a_stack().start("redis"), range(4)))
    assert len(processes_of(stack, "redis")) == 1


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_server_whose_pid_file_was_lost_is_found_and_replaced(stack: Stack, name: str) -> None:
    lost = stack.process(name)
    assert lost is not None
    (stack.folder / "run" / f"{name}.pid").unlink()
    stack.start(name)
    assert not lost.is_alive()
    assert stack.is_ready(name)


def test_a_pid_file_of_a_stranger_harms_nobody(stack: Stack) -> None:
    stack.stop("redis")
    (stack.folder / "run" / "redis.pid").write_text(json.dumps({"pid": os.getpid(), "started_ticks": 1}))
    stack.kill("redis")
    stack.start("redis")
    assert stack.is_ready("redis")


async def test_a_pid_of_a_stranger_in_the_file_of_postgresql_harms_nobody(stack: Stack) -> None:
    stack.kill("postgres")
    file = stack.data_folder("postgres") / "data" / "postmaster.pid"
    file.write_text(f"{os.getpid()}\n{file.parent}\n1\n{stack.ports['postgres']}\n\n127.0.0.1\n")
    stack.start("postgres")
    assert await ask_postgres(stack, "SELECT 1")


async def test_an_interrupted_initdb_is_made_anew(stack: Stack) -> None:
    stack.stop("postgres")
    (stack.data_folder("postgres") / "made").unlink()
    (stack.data_folder("postgres") / "data" / "PG_VERSION").unlink()
    stack.start("postgres")
    assert await ask_postgres(stack, "SELECT current_database()")


def test_a_taken_port_is_named_together_with_its_holder(stack: Stack) -> None:
    stack.stop("redis")
    with socket.create_server((HOST, stack.ports["redis"])), pytest.raises(StackProblem) as problem:
        stack.start("redis")
    assert f"port {stack.ports['redis']}" in str(problem.value)
    assert f"process {os.getpid()}" in str(problem.value)
    stack.start("redis")


def test_a_server_that_cannot_start_shows_why(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stack.stop("redis")
    broken = tmp_path / "redis.conf"
    broken.write_text("appendfsync sometimes\n")
    monkeypatch.setattr("ops.stack.redis.CONFIGURATION", broken)
    with pytest.raises(StackProblem, match=r"(?s)ended by itself.*redis\.log.*appendfsync"):
        stack.start("redis")
    assert states(stack)["redis"] == "stopped"
    monkeypatch.undo()
    stack.start("redis")


def test_an_interrupted_start_gives_up_and_leaves_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.stop("redis")
    interrupted = a_stack()
    monkeypatch.setattr("ops.stack.redis.Redis.answers", lambda _: False)
    threading.Timer(0.2, interrupted.cancelled.set).start()
    with pytest.raises(StackProblem, match="interrupted"):
        interrupted.start("redis")
    assert processes_of(stack, "redis") == []
    monkeypatch.undo()
    stack.start("redis")


@pytest.mark.parametrize("name", DATABASES)
def test_an_accident_is_seen_and_mended_by_a_start(stack: Stack, name: str) -> None:
    process = stack.process(name)
    assert process is not None
    assert not stack.ended_by_itself(name)
    end(process.family())  # from outside, as the machine's memory killer would
    assert stack.ended_by_itself(name)
    stack.start(name)
    assert not stack.ended_by_itself(name)
    assert stack.is_ready(name)


def test_what_was_intended_is_no_accident(stack: Stack) -> None:
    for end_it in (stack.stop, stack.kill):
        end_it("redis")
        assert not stack.ended_by_itself("redis")
        stack.start("redis")


def test_the_command_starts_shows_and_stops(stack: Stack) -> None:
    environment = {**os.environ, "BOXOFFICE_STACK": NAME, "BOXOFFICE_PORT_BASE": str(port_base())}

    def boxoffice(*words: str) -> str:
        command = [sys.executable, "-m", "ops.command", *words]
        done = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    assert "running" in boxoffice("status")
    assert "redis" in boxoffice("logs", "redis", "--lines", "1")
    boxoffice("down")
    assert set(states(stack).values()) == {"stopped"}
    assert not [port for port in stack.ports.values() if is_taken(port)]
    assert not [name for name in DATABASES if processes_of(stack, name)]
    stack.up(DATABASES)


def test_a_signal_ends_a_server_that_ignores_the_polite_one(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stack.redis.Redis.stop_signal", signal.SIGCONT)
    monkeypatch.setattr("ops.stack.redis.Redis.stop_seconds", 0.1)
    stack.stop("redis")
    assert states(stack)["redis"] == "stopped"
    monkeypatch.undo()
    stack.start("redis")
