"""Are the contracts current, valid and whole, and do their examples mean what they say?"""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from sanic import Sanic
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from contracts import topology, wire
from contracts.asyncapi import LANE_QUEUE, RECEIVES, SENDS
from contracts.commands import COMMAND_TYPES
from contracts.domain_events import DOMAIN_EVENT_TYPES
from contracts.rejections import RejectionCode
from contracts.replies import REPLY_TYPES
from contracts.settings import Settings
from ingress.app import create_app
from ingress.openapi import described_routes, routes_of
from ingress.operation import operation_of
from ingress.problems import codes_of
from ingress.responses import ProblemCode

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]

# Any path can be asked for with a wrong method.
OF_NO_ROUTE = {ProblemCode.METHOD_NOT_ALLOWED, ProblemCode.METHOD_UNKNOWN}


def loaded(name: str) -> Document:
    document: Document = json.loads((ROOT / "contracts" / name).read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def app() -> Any:
    made = create_app(Settings())
    Sanic.unregister_app(made)  # another test may want one too
    return made


@pytest.fixture
def openapi() -> Document:
    return loaded("openapi.json")


@pytest.fixture
def asyncapi() -> Document:
    return loaded("asyncapi.json")


def nodes(document: Any) -> Iterator[Any]:
    """Every value in a document, from the outside in."""
    yield document
    children = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    for child in children:
        yield from nodes(child)


def dangling(document: Document) -> list[str]:
    """References that lead nowhere."""
    found = []
    for node in nodes(document):
        reference = node.get("$ref") if isinstance(node, dict) else None
        if not isinstance(reference, str):
            continue
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place.get(step) if isinstance(place, dict) else None
        if place is None:
            found.append(reference)
    return found


# ---- both


def test_the_files_are_made_from_the_code_of_today() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "ops.contract_files", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_every_reference_leads_somewhere(name: str) -> None:
    document = loaded(name)
    assert dangling(document) == []
    assert sum("$ref" in node for node in nodes(document) if isinstance(node, dict)) > 50
    del document["components"]["schemas"]
    assert dangling(document), "this check has become blind"


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_names_of_schemas_are_words(name: str) -> None:
    # Two types of one name would be told apart by their modules.
    strangers = [key for key in loaded(name)["components"]["schemas"] if not re.fullmatch(r"[A-Z][A-Za-z]+", key)]
    assert strangers == []


# ---- HTTP


def test_the_openapi_document_is_one(openapi: Document) -> None:
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(openapi)] == []
    spoiled = copy.deepcopy(openapi)
    del spoiled["paths"]["/api/checkout"]["post"]["responses"]["201"]["description"]
    assert not OPENAPI_31_VALIDATOR.is_valid(spoiled)


def test_every_schema_is_one(openapi: Document, asyncapi: Document) -> None:
    for document in (openapi, asyncapi):
        for schema in document["components"]["schemas"].values():
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_route_says_what_it_takes_and_answers(app: Any) -> None:
    silent = [f"{method} {path}" for method, path, _, handler in routes_of(app) if operation_of(handler) is None]
    assert silent == [], "give it an @operation"


def test_every_route_has_a_name_of_its_own_and_a_sentence(app: Any) -> None:
    routes = described_routes(app)
    names = [route.name for route in routes]
    assert sorted(set(names)) == sorted(names)
    assert [route.name for route in routes if not route.words.partition("\n\n")[0].endswith(".")] == []


def test_every_code_is_in_the_document(openapi: Document) -> None:
    codes = {code.value for code in (*RejectionCode, *ProblemCode)}
    assert openapi["x-problem-codes"].keys() == codes


def test_every_code_is_given_by_some_route(app: Any) -> None:
    given = {
        code
        for route in described_routes(app)
        for code in codes_of(route.operation, method=route.method, path=route.path)
    }
    assert {*RejectionCode, *ProblemCode} - given <= OF_NO_ROUTE


def test_every_example_of_a_request_is_one(app: Any) -> None:
    examples = [(route, value) for route in described_routes(app) for value in route.operation.examples.values()]
    assert len(examples) >= 3
    for route, value in examples:
        assert route.operation.body is not None, route.name
        route.operation.body.model_validate_json(json.dumps(value))


# ---- messages


def test_the_asyncapi_document_has_what_one_must_have(asyncapi: Document) -> None:
    assert asyncapi["asyncapi"] == "3.0.0"
    assert asyncapi["info"].keys() >= {"title", "version"}
    for server in asyncapi["servers"].values():
        assert server.keys() >= {"host", "protocol"}
    for channel in asyncapi["channels"].values():
        assert channel["address"]
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel.get("parameters", ()))
        assert channel["bindings"]["amqp"]["is"] in ("queue", "routingKey")
        assert channel["messages"], f"nothing is said at {channel['address']}"
    for operation in asyncapi["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    keys = [key for part in ("channels", "operations") for key in asyncapi[part]]
    keys += [key for part in asyncapi["components"].values() for key in part]
    assert [key for key in keys if not re.fullmatch(r"[A-Za-z0-9._-]+", key)] == []


def test_every_exchange_and_queue_is_a_channel(asyncapi: Document) -> None:
    bindings = [channel["bindings"]["amqp"] for channel in asyncapi["channels"].values()]
    assert {b["exchange"]["name"] for b in bindings if "exchange" in b} == {e.name for e in topology.EXCHANGES}
    queues = {b["queue"]["name"] for b in bindings if "queue" in b}
    lanes = asyncapi["channels"]["queue.tk.cmd.slane"]["parameters"]["lane"]["enum"]
    named = (queues - {LANE_QUEUE}) | {LANE_QUEUE.replace("{lane}", lane) for lane in lanes}
    assert {queue.name for queue in topology.QUEUES} <= named


def test_every_message_is_in_the_document(asyncapi: Document) -> None:
    assert {kind.__name__ for kind in (*COMMAND_TYPES, *REPLY_TYPES)} <= asyncapi["components"]["schemas"].keys()
    assert {kind.__name__ for kind in DOMAIN_EVENT_TYPES} <= asyncapi["components"]["messages"].keys()


def test_every_example_of_a_message_is_read_by_its_readers(asyncapi: Document) -> None:
    decoders = {"Commands": wire.decode_commands, "Replies": wire.decode_replies}
    read: set[type[Any]] = set()
    for name, message in asyncapi["components"]["messages"].items():
        for example in message.get("examples", ()):
            said: Any = decoders.get(name, wire.decode_domain_event)(json.dumps(example["payload"]).encode())
            found = said if isinstance(said, tuple) else (said,)
            read |= {type(getattr(one, "reply", one)) for one in found}
    assert read == {*COMMAND_TYPES, *REPLY_TYPES, *DOMAIN_EVENT_TYPES}


def test_every_example_of_a_message_fits_its_schema(asyncapi: Document) -> None:
    for message in asyncapi["components"]["messages"].values():
        schema = {**message["payload"], "components": asyncapi["components"]}
        for example in message.get("examples", ()):
            jsonschema_rs.validate(schema, example["payload"])
            spoiled = {
                key: value for key, value in example["payload"].items() if key not in ("eventId", "commands", "replies")
            }
            assert not jsonschema_rs.is_valid(schema, spoiled), "this check has become blind"


@pytest.mark.parametrize("part", SENDS, ids=lambda part: f"{part.role} to {part.channel}")
def test_whoever_sends_may(part: Any) -> None:
    assert re.search(user_called(part.user).write, part.channel)


@pytest.mark.parametrize("part", RECEIVES, ids=lambda part: f"{part.role} from {part.channel}")
def test_whoever_receives_may(part: Any) -> None:
    address = part.channel.replace("{lane}", "07").replace("{", "").replace("}", "")
    assert re.search(user_called(part.user).read, address)


def test_whoever_may_send_does() -> None:
    for user in topology.USERS:
        if user.name == "lifecycle":  # it may do everything, so that it can declare it
            continue
        allowed = {exchange.name for exchange in topology.EXCHANGES if re.search(user.write, exchange.name)}
        assert allowed == {part.channel for part in SENDS if part.user == user.name}, user.name


def user_called(name: str) -> topology.User:
    return next(user for user in topology.USERS if user.name == name)
