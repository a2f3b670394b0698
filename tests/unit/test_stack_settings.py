"""Which stack do the variables name, and does it point our processes at the right place?"""

import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from contracts.settings import STACK_VARIABLES, Settings
from ops.stack import Stack, StackProblem, binaries, containers
from ops.stack.ports import OFFSETS, holder_of, is_taken, ports_from
from ops.stack.run import RESTART_WINDOW_SECONDS, RESTARTS_MAX, Restarts


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, no apt, no Docker."""
    monkeypatch.setattr(binaries, "is_here", lambda name: name not in binaries.PACKAGES)
    monkeypatch.setattr(binaries, "may_install", lambda _: False)
    monkeypatch.setattr(containers, "engine_answers", lambda: False)


def test_the_default_stack_is_where_the_settings_look_for_it() -> None:
    assert Settings.read(Stack(variables={}).environment()) == Settings()


def test_a_stack_of_other_ports_moves_every_address() -> None:
    settings = Settings.read(Stack("trial", 7700, variables={}).environment())
    assert (settings.http_port, settings.metrics_port) == (7700, 7711)
    assert settings.postgres_url.endswith(":7701/boxoffice")
    assert settings.redis_url.endswith(":7702/0")
    assert settings.rabbitmq_url.endswith(":7703/tk")
    assert settings.payment_api_url.endswith(":7708")
    assert settings.smtp_url.endswith(":7709")


def test_the_variables_name_the_stack(tmp_path: Path) -> None:
    variables = {
        "BOXOFFICE_STACK": "other",
        "BOXOFFICE_PORT_BASE": "7800",
        "BOXOFFICE_STATE_FOLDER": str(tmp_path),
        "BOXOFFICE_INSTALL": "no",
        "BOXOFFICE_SCALE": "ingress=2",
    }
    assert set(variables) == STACK_VARIABLES
    stack = Stack.from_environment(variables)
    assert (stack.name, stack.ports["api"], stack.folder) == ("other", 7800, tmp_path)


@pytest.mark.parametrize("base", ["", "80", "70000", "65530", "eight", "-8400"])
def test_a_port_base_that_leaves_no_room_is_refused(base: str) -> None:
    with pytest.raises(StackProblem, match=r"BOXOFFICE_PORT_BASE|port base"):
        Stack.from_environment({"BOXOFFICE_PORT_BASE": base})


@pytest.mark.parametrize("name", ["", "../other", "a b", "a/b", "."])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(StackProblem, match="no name"):
        Stack(name, variables={})


def test_the_ports_of_a_stack_differ() -> None:
    ports = ports_from(8400)
    assert len(set(ports.values())) == len(OFFSETS) == 12


def test_a_server_given_by_address_is_not_started(tmp_path: Path) -> None:
    given = {"BOXOFFICE_POSTGRES_URL": "postgresql://me:secret@db.example:5432/sales"}
    stack = Stack("given", 7800, tmp_path, variables=given)
    stack.start("postgres")
    stack.stop("postgres")
    assert stack.environment()["BOXOFFICE_POSTGRES_URL"] == given["BOXOFFICE_POSTGRES_URL"]
    shown = next(server for server in stack.status() if server.name == "postgres")
    assert (shown.state, shown.url) == ("elsewhere", "postgresql://db.example:5432/sales")


def test_the_address_of_our_own_server_does_not_make_it_somebody_elses(tmp_path: Path) -> None:
    stack = Stack("own", 7800, tmp_path, variables=Stack("own", 7800, variables={}).environment())
    assert {server.state for server in stack.status()} == {"stopped"}


@pytest.mark.usefixtures("empty_machine")
def test_a_missing_server_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StackProblem) as problem:
        Stack("bare", 7800, tmp_path, variables={}).up(["postgres", "redis", "rabbitmq"])
    for word in ("postgresql", "redis-server", "rabbitmq-server", "Docker", "BOXOFFICE_RABBITMQ_URL"):
        assert word in str(problem.value)


@pytest.mark.usefixtures("empty_machine")
def test_docker_stands_in_for_a_missing_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    for verb in ("start", "stop", "kill", "freeze", "thaw"):
        monkeypatch.setattr(containers, verb, lambda name, _site, verb=verb: asked.append((verb, name)))
    monkeypatch.setattr(containers, "engine_answers", lambda: True)
    stack = Stack("docker", 7800, tmp_path, variables={})
    monkeypatch.setattr(type(stack._servers["redis"]), "answers", lambda _: True)
    stack.start("redis")
    assert next(server.state for server in stack.status() if server.name == "redis") == "running"
    for act in (stack.freeze, stack.thaw, stack.kill, stack.stop):
        act("redis")
    assert [verb for verb, _ in asked] == ["start", "freeze", "thaw", "kill", "stop"]
    assert next(server.state for server in stack.status() if server.name == "redis") == "stopped"


def test_nothing_is_installed_when_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    assert binaries.may_install({})
    assert not binaries.may_install({"BOXOFFICE_INSTALL": "no"})


def test_a_full_disk_is_reported_before_a_server_breaks_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total=1 << 40, used=1 << 40, free=5 << 20))
    with pytest.raises(StackProblem, match="only 5 MB are free"):
        Stack("full", 7800, tmp_path, variables={}).start("mail")


def test_a_taken_port_names_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert is_taken(port)
        assert "pytest" in holder_of(port) or "python" in holder_of(port)
    assert not is_taken(port)


def test_an_unknown_server_is_a_problem_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StackProblem, match=r"postgers.*postgres"):
        Stack("typo", 7800, tmp_path, variables={}).up(["postgers"])


def test_five_restarts_a_minute_are_allowed_and_no_more() -> None:
    restarts = Restarts()
    assert all(restarts.allow(now) for now in range(RESTARTS_MAX))
    assert not restarts.allow(RESTARTS_MAX)
    assert restarts.allow(RESTART_WINDOW_SECONDS)
