"""What can an operator set: which variable, which unit, what by default, why, and who reads it?

`ops/settings.md` is made here from `contracts/settings.py` and from the code that reads it, by `make contracts`.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from consumers.__main__ import ROLES
from contracts.settings import PREFIX, BrokerUser, Settings

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "ops" / "settings.md"
READERS = ("contracts", "ingress", "consumers", "db", "ops")
# They look at everything, and decide nothing by it.
LOOKERS_ON = ("contracts/settings.py", "contracts/production.py", "ops/doctor", "ops/settings_page.py")

UNITS = {
    "_per_second": "per second",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_days": "days",
    "_port": "port",
    "_max": "at most",
    "_failures": "failures",
    "_slots": "slots",
    "_multiplier": "times",
    "_ratio": "share, 0 to 1",
    "_url": "address",
}

HEAD = f"""# Settings

Made from `contracts/settings.py` by `make contracts`; a test keeps it current. A process reads its environment once, when it
starts; a variable that begins with `{PREFIX}` and is not listed here is an error, so a misspelt limit does not pass silently.
With `{PREFIX}ENVIRONMENT=production` a process refuses to start with any demo value, without https, or with failpoints armed
(`contracts/production.py`), and says all of it at once. `boxoffice doctor` asks the servers for the rest.

Secrets are those whose default is marked *demo*: everybody knows it, so change it.
"""

# A heading in the class: a comment on a line of its own after an empty line.
_HEADING = re.compile(r"^\n    # (?P<title>.+)\.$", re.MULTILINE)
_FIELD = re.compile(r"^    (?P<name>[a-z_]+): ", re.MULTILINE)


def settings_page() -> str:
    """The content of `ops/settings.md`."""
    parts = [HEAD]
    for title, names in _sections():
        rows = "\n".join(_row(name) for name in names)
        parts.append(
            f"## {title}\n\n| variable | type | default | unit | why | read by |\n|---|---|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def unit_of(name: str) -> str:
    """What a number of this name counts, told by its ending; empty where the name says it all."""
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


@cache
def readers() -> Mapping[str, tuple[str, ...]]:
    """Who reads each setting, as the code tells: `ingress`, a role, `every process`, or the `boxoffice` command."""
    found: dict[str, set[str]] = {name: set() for name in Settings.model_fields}
    for reader, text in _sources():
        for name, ways in _ways_to_read().items():
            if any(re.search(rf"settings\.{way}\b", text) for way in ways):
                found[name].add(reader)
    for user in get_args(BrokerUser):
        found[f"rabbitmq_{user}_password"] = {f"whoever connects as {user}"}
    return {name: tuple(sorted(whom)) for name, whom in found.items()}


def _sections() -> Iterator[tuple[str, list[str]]]:
    """The fields in the order in which they are written, under the headings they are written under."""
    source = inspect.getsource(Settings)
    marks: list[tuple[int, str | None, str | None]] = [
        (match.start(), match["title"], None) for match in _HEADING.finditer(source)
    ]
    marks += [
        (match.start(), None, match["name"])
        for match in _FIELD.finditer(source)
        if match["name"] in Settings.model_fields
    ]
    title, names = "What it is", list[str]()
    for _, heading, name in sorted(marks):
        if heading is not None:
            if names:
                yield title, names
            title, names = heading, []
        elif name is not None:
            names.append(name)
    yield title, names


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    cells = (
        f"`{PREFIX}{name.upper()}`",
        _type_of(field),
        _default_of(name, field),
        unit_of(name),
        field.description or "",
        ", ".join(readers()[name]),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type_of(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(field.annotation))
    name = {str: "text", int: "whole number", float: "number", bool: "yes or no", NoneType: ""}[
        _plain(field.annotation)
    ]
    bounds = [words for rule in field.metadata if (words := _bound(rule))]
    return ", ".join([name, *bounds])


def _plain(annotation: Any) -> type:
    assert isinstance(annotation, type)  # noqa: S101 -- settings are plain values; another kind would need words here
    return annotation


def _bound(rule: object) -> str:
    match rule:
        case annotated_types.Ge(ge=bound):
            return f"≥ {bound}"
        case annotated_types.Gt(gt=bound):
            return f"> {bound}"
        case annotated_types.Le(le=bound):
            return f"≤ {bound}"
        case annotated_types.MinLen(min_length=length):
            return f"{length} characters or more"
        case _:
            return ""


def _default_of(name: str, field: FieldInfo) -> str:
    if name.endswith(("_password", "_key")):
        return f"`{field.default}` (demo)"
    if isinstance(field.default, bool):
        return "yes" if field.default else "no"
    return "empty" if field.default == "" else f"`{field.default}`"


# ---- who reads what


def _sources() -> Iterator[tuple[str, str]]:
    for folder in READERS:
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            path = file.relative_to(REPOSITORY).as_posix()
            if not path.startswith(LOOKERS_ON):
                yield _reader(path), file.read_text(encoding="utf-8")


def _reader(path: str) -> str:
    folder, _, rest = path.partition("/")
    if folder in ("contracts", "db"):
        return "every process"
    if folder == "ops":
        return "`boxoffice`"
    if folder == "ingress":
        return "ingress"
    module = path.removesuffix(".py").replace("/", ".")
    for role, at in ROLES.items():
        # A role is a module, or a folder of them named after what it does.
        if module == at or (at.count(".") > 1 and module.startswith(at.rpartition(".")[0] + ".")):
            return role
    return "admissions" if rest.startswith("waiting_rooms/") else "consumers"


@cache
def _ways_to_read() -> Mapping[str, tuple[str, ...]]:
    """By which names a setting is had: its own, and the properties and methods that are made of it."""
    ways = {name: [name] for name in Settings.model_fields}
    for function in ast.walk(ast.parse(inspect.getsource(Settings))):
        if isinstance(function, ast.FunctionDef) and function.name != "refuse_demo_values_in_production":
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and node.attr in ways:
                    ways[node.attr].append(function.name)
    return {name: tuple(each) for name, each in ways.items()}
