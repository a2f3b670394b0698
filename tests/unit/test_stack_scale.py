"""Which processes does a scale ask for, under which names, on which ports, with which roles?"""

import json
import re
from pathlib import Path

import pytest

from consumers.__main__ import ROLES
from ops.stack import Stack, StackProblem, binaries, containers
from ops.stack.nginx import CONFIGURATION, FOLDER
from ops.stack.ports import ports_from
from ops.stack.programs import Consumers, ConsumersInstance, IngressInstance
from ops.stack.scale import (
    INGRESS_MAX,
    ROLE_MAX,
    Scale,
    is_instance,
    kind_of,
    port_of_instance,
    read_scale,
    stand_in_of,
)
from ops.stack.up import asked_scale

PORT_BASE = 7900


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack("scaled", PORT_BASE, tmp_path, variables={})


def test_without_a_scale_there_is_one_of_each() -> None:
    assert Scale().applications == ("ingress", "consumers")
    assert not Scale().has_nginx


@pytest.mark.parametrize(
    "words",
    [
        ["ingress=3", "commands=2"],
        ["ingress=3,commands=2"],
        ["ingress=3 commands=2"],
        ["commands=1", "ingress=3 commands=2"],
    ],
    ids=["words", "commas", "one text", "said twice"],
)
def test_it_is_said_in_one_way_or_another(words: list[str]) -> None:
    assert dict(read_scale(words).counts) == {"ingress": 3, "commands": 2}


def test_who_is_named_has_processes_of_its_own_and_the_others_share_one() -> None:
    scale = read_scale(["ingress=2 commands=2 payments=1"])
    assert scale.applications == (
        "nginx",
        "ingress-1",
        "ingress-2",
        "commands-1",
        "commands-2",
        "payments-1",
        "consumers",
    )
    assert scale.roles_of("commands-2") == ("commands",)
    assert set(scale.roles_of("consumers")) == ROLES.keys() - {"commands", "payments"}
    assert scale.roles_of("consumers-spare") == scale.roles_of("consumers")


def test_when_every_role_has_processes_of_its_own_nothing_is_left_to_share() -> None:
    assert "consumers" not in read_scale([f"{role}=1" for role in ROLES]).applications


@pytest.mark.parametrize(
    "word",
    ["ingress", "ingress=", "ingress=0", "ingress=17", "commands=7", "nginx=2", "postgres=2", "ingress=-1", "=3"],
)
def test_what_is_no_scale_says_so(word: str) -> None:
    with pytest.raises(StackProblem, match=r"scale|scaled|between"):
        read_scale([word])


def test_what_is_written_is_read_again() -> None:
    for scale in (Scale(), read_scale(["ingress=3 webhooks=1"])):
        assert read_scale([str(scale)]) == scale


def test_every_process_has_a_port_of_its_own_whatever_the_scale() -> None:
    names = [f"ingress-{number}" for number in range(1, INGRESS_MAX + 1)]
    names += [f"{role}-{number}" for role in ROLES for number in range(1, ROLE_MAX + 1)]
    names += [stand_in_of(name) for name in ("ingress-1", "consumers", *(f"{role}-1" for role in ROLES))]
    ports = [port_of_instance(name, port_base=PORT_BASE) for name in names]
    assert len(set(ports)) == len(ports)
    assert not set(ports) & set(ports_from(PORT_BASE).values())
    assert max(ports) < PORT_BASE + 150
    assert all(is_instance(name) for name in names)


def test_a_base_without_room_for_more_is_refused() -> None:
    with pytest.raises(StackProblem, match="BOXOFFICE_PORT_BASE"):
        port_of_instance("verifier-1", port_base=65_500)


@pytest.mark.parametrize(
    "name", ["ingress", "nginx", "postgres", "ingress-0", "ingress-17", "mail-1", "commands-7", "nginx-1"]
)
def test_what_is_no_instance_is_not_taken_for_one(name: str) -> None:
    assert not is_instance(name)
    assert kind_of(name) == name


def test_the_scale_is_known_to_every_process_until_all_is_stopped(stack: Stack, tmp_path: Path) -> None:
    stack.keep_scale(read_scale(["ingress=2"]))
    another = Stack("scaled", PORT_BASE, tmp_path, variables={})
    assert another.applications == ("nginx", "ingress-1", "ingress-2", "consumers")
    assert [server.name for server in another.status()][-4:] == list(another.applications)
    another.down()
    assert stack.applications == ("ingress", "consumers")


def test_a_start_without_words_keeps_the_scale(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOXOFFICE_SCALE", raising=False)
    stack.keep_scale(read_scale(["ingress=2"]))
    assert asked_scale(stack, None, None) == read_scale(["ingress=2"])
    assert asked_scale(stack, ["ingress=3"], ["commands=2"]) == read_scale(["ingress=3 commands=2"])
    assert asked_scale(stack, ["none"], None) == Scale()
    monkeypatch.setenv("BOXOFFICE_SCALE", "commands=2")
    assert asked_scale(stack, None, None) == read_scale(["commands=2"])


def test_what_an_earlier_scale_started_is_found_and_can_be_stopped(stack: Stack) -> None:
    run = stack.folder / "run"
    run.mkdir(parents=True)
    for name in ("ingress-3", "commands-spare", "ingress", "postgres"):
        (run / f"{name}.pid").write_text(json.dumps({"pid": 1, "started_ticks": 1}))
    assert stack.left_over == ("commands-spare", "ingress-3")
    stack.down()
    assert stack.left_over == ()


def test_instances_are_told_what_is_their_own(stack: Stack) -> None:
    stack.keep_scale(read_scale(["ingress=2 commands=2"]))
    ingress = stack._server("ingress-2")
    assert isinstance(ingress, IngressInstance)
    told = ingress.launch().environment
    assert (told["BOXOFFICE_HTTP_PORT"], told["BOXOFFICE_TRUSTED_PROXIES"]) == (str(ingress.port), "127.0.0.1/32")
    assert told["BOXOFFICE_PUBLIC_URL"].endswith(f":{PORT_BASE}")
    commands = stack._server("commands-2")
    assert isinstance(commands, ConsumersInstance)
    assert commands.launch().environment["BOXOFFICE_METRICS_PORT"] == str(commands.port)
    assert list(commands.launch().command)[-2:] == ["consumers", "commands"]
    consumers = stack._server("consumers")
    assert isinstance(consumers, Consumers)
    assert "commands" not in consumers.launch().command


def test_a_proxy_that_the_operator_trusts_is_trusted_still(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXOFFICE_TRUSTED_PROXIES", "10.0.0.0/8")
    told = stack._server("ingress-1").launch().environment
    assert told["BOXOFFICE_TRUSTED_PROXIES"] == "10.0.0.0/8,127.0.0.1/32"


def test_nginx_is_installed_or_asked_for_and_never_taken_from_a_container(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "is_here", lambda name: name != "nginx")
    monkeypatch.setattr(binaries, "may_install", lambda _: False)
    monkeypatch.setattr(containers, "engine_answers", lambda: True)
    with pytest.raises(StackProblem, match="nginx-light"):
        stack.find_or_install(["nginx"])


@pytest.mark.parametrize(("version", "lets_idle_ones_speak"), [((1, 22, 1), False), ((1, 27, 4), True)])
def test_the_configuration_says_who_is_behind_nginx_and_who_may_be_away(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], lets_idle_ones_speak: bool
) -> None:
    monkeypatch.setattr("ops.stack.nginx._version", lambda: version)
    stack.keep_scale(read_scale(["ingress=2"]))
    nginx = stack.nginx
    nginx.prepare()
    assert (nginx.data_folder / CONFIGURATION.name).read_text() == CONFIGURATION.read_text()
    pools = (nginx.data_folder / "place" / "http.conf").read_text()
    first, second = (port_of_instance(f"ingress-{number}", port_base=PORT_BASE) for number in (1, 2))
    without_first = pools[pools.index("upstream ingress_without_1") : pools.index("upstream ingress_without_2")]
    assert str(second) in without_first
    assert str(first) not in without_first
    here = (nginx.data_folder / "place" / "server.conf").read_text()
    assert 'away/ingress-2") { set $ingress ingress_without_2; }' in here
    assert ("keepalive_min_timeout" in here) == lets_idle_ones_speak


def test_the_only_ingress_is_stood_in_for_while_it_is_away(stack: Stack) -> None:
    stack.keep_scale(read_scale(["ingress=1"]))
    assert f":{port_of_instance('ingress-spare', port_base=PORT_BASE)} " in stack.nginx._pools()


def test_pools_have_the_same_numbers_in_containers_and_here(stack: Stack) -> None:
    """The file for containers explains them."""
    numbers = r"max_fails=\d+|fail_timeout=\w+|keepalive\w* \w+|least_conn|zone \w+ \w+"
    explained = re.findall(numbers, (FOLDER / "place" / "http.conf").read_text())
    stack.keep_scale(read_scale(["ingress=1"]))
    ours = stack.nginx._pools()
    assert re.findall(numbers, ours[: ours.index("upstream ingress_without_1")]) == explained
