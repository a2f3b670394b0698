"""Is the broker's configuration the one our code counts on, and one that RabbitMQ 3.10 to 4.3 accepts?"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contracts import topology
from contracts.ids import EventId

DEFINITIONS = Path(__file__).parents[2] / "rabbitmq" / "definitions.json"

# Names of queues that are not in definitions.json because processes declare them while they run.
RUNTIME_QUEUES = (
    "tk.cmd.e.7b1f2f0e-6f0a-5c0e-9a64-2a9f2b1f7c11",
    "tk.reply.ingress-1.c0ffee",
    "tk.seats.ingress-1.c0ffee",
    topology.hold_wait_queue(8),
)


def objections(definitions: dict[str, Any]) -> Iterator[str]:
    """What a RabbitMQ between 3.10 and 4.3 would refuse or silently not do."""
    for queue in definitions["queues"]:
        arguments, kind = queue["arguments"], queue["arguments"].get("x-queue-type")
        if not queue["durable"] and not queue.get("exclusive"):
            yield f"{queue['name']}: 4.3 refuses transient queues that are not exclusive"
        if kind not in ("quorum", "classic"):
            yield f"{queue['name']}: its type is not said, so it depends on the broker's default"
        if kind == "quorum" and {"x-max-priority", "x-queue-mode"} & arguments.keys():
            yield f"{queue['name']}: a quorum queue takes no priorities and no modes"
        if "x-delivery-limit" in arguments or "x-max-length" in arguments or "x-overflow" in arguments:
            yield f"{queue['name']}: limits are policies, so that an operator can change them"
        if "x-expires" in arguments:
            yield f"{queue['name']}: a queue that expires takes its messages with it"
    for policy in definitions["policies"]:
        if policy["apply-to"] != "queues":
            yield f"policy {policy['name']}: 3.10 knows no other apply-to than queues"
        if {"ha-mode", "queue-mode", "x-max-priority"} & policy["definition"].keys():
            yield f"policy {policy['name']}: mirroring and modes are gone in 4.x"
    for name in [queue["name"] for queue in definitions["queues"]] + list(RUNTIME_QUEUES):
        matching = [p for p in definitions["policies"] if re.search(p["pattern"], name)]
        if len(matching) != 1:
            yield f"{name}: {len(matching)} policies apply, and only one counts"
        elif "max-length" not in matching[0]["definition"]:
            yield f"{name}: no bound on its length"


@pytest.fixture
def definitions() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DEFINITIONS.read_text())
    return loaded


def test_definitions_file_is_the_topology(definitions: dict[str, Any]) -> None:
    assert definitions == topology.definitions(), "write it anew from contracts/topology.py"


def test_nothing_is_refused_by_any_version_we_support(definitions: dict[str, Any]) -> None:
    assert list(objections(definitions)) == []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda d: d["queues"][0].update(durable=False), "transient"),
        (lambda d: d["queues"][0]["arguments"].update({"x-max-priority": 3}), "no priorities"),
        (lambda d: d["queues"][0]["arguments"].pop("x-queue-type"), "not said"),
        (lambda d: d["queues"][0]["arguments"].update({"x-expires": 1000}), "takes its messages"),
        (lambda d: d["queues"].append({"name": "tk.new", "durable": True, "arguments": {}}), "0 policies"),
        (lambda d: d["policies"][0]["definition"].pop("max-length"), "no bound"),
        (lambda d: d["policies"][0].update({"apply-to": "quorum_queues"}), "apply-to"),
    ],
)
def test_the_check_sees_what_it_is_for(definitions: dict[str, Any], spoil: Any, expected: str) -> None:
    spoiled = copy.deepcopy(definitions)
    spoil(spoiled)
    assert any(expected in objection for objection in objections(spoiled))


def test_no_command_queue_loses_messages_to_time_or_to_the_parking_lot(definitions: dict[str, Any]) -> None:
    # In an overload, expired commands would flood it.
    commands = next(policy for policy in definitions["policies"] if policy["name"] == "commands")
    assert not {"dead-letter-exchange", "message-ttl", "expires"} & commands["definition"].keys()


def test_what_must_not_be_lost_is_dead_lettered_at_least_once(definitions: dict[str, Any]) -> None:
    for policy in definitions["policies"]:
        if "dead-letter-exchange" in policy["definition"]:
            assert policy["definition"]["dead-letter-strategy"] == "at-least-once"
            # Without this, RabbitMQ falls back to at-most-once and says nothing.
            assert policy["definition"]["overflow"] == "reject-publish"


def test_every_binding_joins_what_exists(definitions: dict[str, Any]) -> None:
    exchanges = {exchange["name"] for exchange in definitions["exchanges"]}
    queues = {queue["name"] for queue in definitions["queues"]}
    for binding in definitions["bindings"]:
        assert binding["source"] in exchanges
        assert binding["destination"] in queues
    bound = {binding["destination"] for binding in definitions["bindings"]}
    assert bound == queues, "a queue that nothing reaches"


def test_an_event_is_found_through_its_lane_when_it_has_no_queue(definitions: dict[str, Any]) -> None:
    cold = {
        b["routing_key"]: b["destination"] for b in definitions["bindings"] if b["source"] == topology.COMMANDS_COLD
    }
    for number in range(200):
        event_id = EventId(UUID(int=number))
        lane, _, rest = topology.command_routing_key(event_id).partition(".")
        assert "." not in rest, "a topic key of two words"
        assert cold[f"{lane}.*"] == topology.lane_queue(topology.lane_of(event_id))


def test_no_source_file_asks_for_a_global_prefetch_or_a_passing_queue() -> None:
    # 4.3 refuses both.
    root = DEFINITIONS.parents[1]
    for folder in ("consumers", "ingress"):
        for file in (root / folder).rglob("*.py"):
            text = file.read_text()
            assert not re.search(r"global_(qos)?=True", text), file.name
            assert "patterns import RPC" not in text, file.name
