"""Does the doctor know how many connections each process opens, and which roles there are?"""

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import pytest

from consumers.__main__ import ROLES
from contracts import topology
from contracts.ids import EventId
from ops.doctor import rabbitmq
from ops.doctor.connections import INGRESS, OF_PROCESS, Connections
from ops.doctor.examination import CHECKS

REPOSITORY = Path(__file__).resolve().parents[2]
# Modules of a role beside its own that connect.
HELPERS = {"verifier": ("consumers.examiner",)}


def connections_in(module: str, text: str) -> Connections:
    """What the pools and connections that this module opens add up to."""
    own, by_setting = 0, False
    for call in calls_in(text):
        name = ast.unparse(call.func)
        if name == "asyncpg.connect":
            own += 1
        elif name == "open_pool":
            size = next((word.value for word in call.keywords if word.arg == "size"), None)
            own, by_setting = (own, True) if size is None else (own + size_of(size, module), by_setting)
    return Connections(own, is_sized_by_setting=by_setting)


def calls_in(text: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))


def size_of(size: ast.expr, module: str) -> int:
    if isinstance(size, ast.Constant):
        return int(str(size.value))
    return int(getattr(importlib.import_module(module), ast.unparse(size)))


def sources_of(process: str) -> Mapping[str, str]:
    """The modules whose connections are this process's."""
    if process == INGRESS:
        files = sorted((REPOSITORY / "ingress").rglob("*.py"))
    else:
        files = [
            REPOSITORY / f"{module.replace('.', '/')}.py" for module in (ROLES[process], *HELPERS.get(process, ()))
        ]
    return {str(file.relative_to(REPOSITORY)).removesuffix(".py").replace("/", "."): file.read_text() for file in files}


@pytest.mark.parametrize("process", sorted(OF_PROCESS))
def test_the_table_of_connections_is_that_of_the_code(process: str) -> None:
    found = [connections_in(module, text) for module, text in sources_of(process).items()]
    total = Connections(
        sum(each.own_count for each in found), is_sized_by_setting=any(each.is_sized_by_setting for each in found)
    )
    assert total == OF_PROCESS[process]


def test_a_pool_that_nobody_counted_is_seen() -> None:
    text = 'pool = await open_pool(settings, application_name="x", size=7)\nother = await open_pool(settings)'
    assert connections_in("db.postgres", text) == Connections(7, is_sized_by_setting=True)
    assert connections_in("db.postgres", "asyncpg.connect(url)") == Connections(1)


def test_every_process_is_counted() -> None:
    assert set(OF_PROCESS) == {INGRESS, *ROLES}


def test_every_check_has_a_name_of_its_own_and_says_what_it_is_for() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert [check.name for check in CHECKS if not check.ask.__doc__] == []


def test_event_queues_are_named_as_the_topology_names_them() -> None:

    assert topology.event_queue(EventId(UUID(int=1))).startswith(rabbitmq.EVENT_QUEUE_PREFIX)
