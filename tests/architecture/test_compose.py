"""Does docker-compose.yml agree with the settings, the roles and the files of the code?"""

import copy
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from consumers.__main__ import DECLARE_TOPOLOGY, ROLES
from contracts.settings import PREFIX, Settings, UnusableSettings
from ops.stack.containers import PORT_VARIABLES
from ops.stack.ports import OFFSETS
from ops.stack.stack import DATABASES, DEFAULT_PORT_BASE

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"

CONSUMER = ["python", "-m", "consumers"]

Compose = dict[str, Any]

# What the images listen on, whatever the configuration says.
IMAGE_PORTS = {"postgres": {5432}, "redis": {6379}, "rabbitmq": {5672, 15672, 15692}, "nginx": {8080}}


def interpolate(text: str) -> str:
    """`${NAME:-default}` as Compose reads it when nobody has set NAME."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture
def compose() -> Compose:
    loaded = yaml.safe_load(interpolate(COMPOSE.read_text()))
    assert isinstance(loaded, dict)
    return loaded


def our_services(compose: Compose) -> dict[str, Compose]:
    return {name: service for name, service in compose["services"].items() if "build" in service}


def settings_of(service: Compose) -> Settings:
    return Settings.read({key: str(value) for key, value in service["environment"].items()})


def listening_ports(name: str, service: Compose) -> set[int]:
    """The ports a service listens on inside its network."""
    if name in IMAGE_PORTS:
        return IMAGE_PORTS[name]
    words = service["command"]
    options = {int(words[at + 1]) for at, word in enumerate(words) if word.endswith("port")}
    if words[:3] == ["python", "-m", "ingress"]:
        return {settings_of(service).http_port}
    if words[:3] == ["python", "-m", "consumers"]:
        return {settings_of(service).metrics_port}
    return options


def problems_of(compose: Compose) -> list[str]:
    """Everything in which the file and the code disagree."""
    found = []
    for name, service in our_services(compose).items():
        try:
            settings = settings_of(service)
        except UnusableSettings as unusable:
            found.append(f"{name}: {unusable}")
            continue
        found += [f"{name}: {trouble}" for trouble in unreachable(settings, compose)]
    return found + [f"{name}: {path} does not exist" for name, path in missing_files(compose)]


def unreachable(settings: Settings, compose: Compose) -> list[str]:
    """Addresses between services that lead to no service, or to a port where none listens."""
    urls = (
        settings.postgres_url,
        settings.redis_url,
        settings.rabbitmq_url,
        settings.rabbitmq_management_url,
        settings.payment_api_url,
        settings.smtp_url,
    )
    found = []
    for url in urls:
        parts = urlsplit(url)
        service = compose["services"].get(parts.hostname)
        if service is None:
            found.append(f"{url} names no service")
        elif parts.port not in listening_ports(str(parts.hostname), service):
            found.append(f"{url}: {parts.hostname} does not listen on {parts.port}")
    return found


def missing_files(compose: Compose) -> list[tuple[str, str]]:
    mounts = [
        (name, mount.split(":")[0])
        for name, service in compose["services"].items()
        for mount in service.get("volumes", [])
    ]
    builds = [(name, service["build"]["dockerfile"]) for name, service in our_services(compose).items()]
    return [(name, path) for name, path in [*mounts, *builds] if "/" in path and not (REPOSITORY / path).exists()] + [
        (name, path) for name, path in mounts if "/" not in path and path not in compose["volumes"]
    ]


def test_the_file_agrees_with_the_code(compose: Compose) -> None:
    assert problems_of(compose) == []


def test_a_misspelt_variable_is_seen(compose: Compose) -> None:
    broken = copy.deepcopy(compose)
    environment = broken["services"]["commands"]["environment"]
    environment["BOXOFFICE_POSTGRESS_URL"] = environment.pop("BOXOFFICE_POSTGRES_URL")
    assert any("did you mean BOXOFFICE_POSTGRES_URL" in problem for problem in problems_of(broken))


def test_a_wrong_port_is_seen(compose: Compose) -> None:
    broken = copy.deepcopy(compose)
    broken["services"]["ingress"]["environment"]["BOXOFFICE_REDIS_URL"] = "redis://redis:6380/0"
    assert any("does not listen on 6380" in problem for problem in problems_of(broken))


def test_a_file_that_is_not_there_is_seen(compose: Compose) -> None:
    broken = copy.deepcopy(compose)
    broken["services"]["redis"]["volumes"][0] = "./ops/redis/other.conf:/etc/redis/redis.conf:ro"
    assert "redis: ./ops/redis/other.conf does not exist" in problems_of(broken)


def test_every_variable_of_ours_belongs_to_a_process_of_ours(compose: Compose) -> None:
    ours = our_services(compose)
    for name, service in compose["services"].items():
        if name not in ours:
            assert not [key for key in service.get("environment", {}) if key.startswith(PREFIX)]


def test_each_consumer_role_is_one_service(compose: Compose) -> None:
    services = our_services(compose)
    roles = [service["command"][3] for service in services.values() if service["command"][:3] == CONSUMER]
    assert sorted(roles) == sorted([*ROLES, DECLARE_TOPOLOGY])
    assert all(services[role]["command"] == [*CONSUMER, role] for role in ROLES)


def test_every_module_that_is_started_exists(compose: Compose) -> None:
    for service in our_services(compose).values():
        module = REPOSITORY / service["command"][2].replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), service["command"]


def test_every_image_is_pinned(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":(v?\d+\.\d+|local)", service["image"]), f"{name}: {service['image']}"


def test_every_process_that_stays_is_watched(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert "healthcheck" in service or service["restart"] == "no", name


def test_only_this_machine_can_reach_what_is_published(compose: Compose) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_published_ports_are_those_of_the_local_stack(compose: Compose) -> None:
    published = {
        int(port.split(":")[1])
        for service in compose["services"].values()
        if "watch" not in service.get("profiles", [])  # Prometheus and Grafana, which the local stack does not start
        for port in service.get("ports", [])
    }
    assert published == {
        DEFAULT_PORT_BASE + OFFSETS[name]
        for name in ("api", "postgres", "redis", "amqp", "management", "prometheus", "payments", "smtp", "mailbox")
    }


def test_the_stack_can_choose_the_ports_of_the_servers_it_borrows() -> None:
    text = COMPOSE.read_text()
    for use, variable in PORT_VARIABLES.items():
        assert f"${{{variable}:-{DEFAULT_PORT_BASE + OFFSETS[use]}}}" in text


def test_the_servers_of_the_local_stack_have_the_same_names(compose: Compose) -> None:
    assert set(DATABASES) <= set(compose["services"])
