"""How do our values look as JSON Schema?

In the dialect of 2020-12, which OpenAPI 3.1 and AsyncAPI 3 share. What is sent and what is taken differ: whoever sends
writes every field, whoever takes does without those that have a default.
"""

from collections.abc import Collection, Iterable, Mapping
from inspect import getdoc
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import CoreSchema, core_schema

COMPONENTS = "#/components/schemas/"

Schema = dict[str, Any]
# What a value is described for: an HTTP answer (every field is there), a message (a None is left out), or a request.
Use = Literal["answer", "message", "request"]

AMOUNT_PATTERN = r"^-?[0-9]{1,8}(\.[0-9]{1,2})?$"
SUM_PATTERN = r"^-?[0-9]{1,16}(\.[0-9]{1,2})?$"
# A share (contracts/value.py).
SHARE_PATTERN = r"^-?[0-9](\.[0-9]{1,4})?$"


class Schemas:
    """The schemas of some values: `of(type)` points at one, `components` has all of them by their names."""

    def __init__(
        self, answers: Iterable[Any] = (), *, requests: Iterable[Any] = (), messages: Iterable[Any] = ()
    ) -> None:
        sent = [(kind, "serialization") for kind in (*answers, *messages)]
        taken = [(kind, "validation") for kind in requests]
        generator = _MessageSchema if messages else _AnswerSchema
        found, extra = TypeAdapter.json_schemas(
            [(repr(kind), mode, TypeAdapter(kind)) for kind, mode in _each_once(sent + taken)],
            ref_template=COMPONENTS + "{model}",
            schema_generator=generator,
        )
        names = _plain_names(extra.get("$defs", {}))
        self._found = {key: _renamed(schema, names) for key, schema in found.items()}
        self.components: dict[str, Schema] = {
            names[name]: _renamed(schema, names) for name, schema in sorted(extra.get("$defs", {}).items())
        }

    def of(self, kind: Any, *, use: Use = "answer") -> Schema:
        """The schema of that type: a reference, for whatever has a name."""
        mode: JsonSchemaMode = "validation" if use == "request" else "serialization"
        found: Schema = self._found[(repr(kind), mode)]
        return found

    def resolved(self, schema: Schema) -> Schema:
        """What a reference points at; anything else as it is."""
        reference = schema.get("$ref")
        return self.components[reference.removeprefix(COMPONENTS)] if reference else schema


_EXAMPLES = {AMOUNT_PATTERN: "95.00", SUM_PATTERN: "1204500.00", SHARE_PATTERN: "0.1900"}


class _AnswerSchema(GenerateJsonSchema):
    """As pydantic makes it, without the titles it invents, and with money as what we send: a string."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- pydantic's signature
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        if self.mode == "serialization":
            pattern = self.get_decimal_pattern(schema)
            return {"type": "string", "pattern": pattern, "examples": [_EXAMPLES[pattern]]}
        return super().decimal_schema(schema)

    def get_decimal_pattern(self, schema: core_schema.DecimalSchema) -> str:
        if schema.get("decimal_places") == 4:
            return SHARE_PATTERN
        return SUM_PATTERN if schema.get("max_digits", 0) > 10 else AMOUNT_PATTERN

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        # Whoever reads what we send need not know what we would have written.
        return self.generate_inner(schema["schema"]) if self.mode == "serialization" else super().default_schema(schema)

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> Schema:
        return {"description": getdoc(schema["cls"]), **super().dataclass_schema(schema)}


class _MessageSchema(_AnswerSchema):
    """The same for what is said with `exclude_none`."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ARG002
        inner: CoreSchema = field["schema"]
        return not (inner["type"] == "default" and inner.get("default", ...) is None)


def _each_once(kinds: Iterable[tuple[Any, Any]]) -> list[tuple[Any, JsonSchemaMode]]:
    return list({(repr(kind), mode): (kind, mode) for kind, mode in kinds}.values())


def _plain_names(definitions: Mapping[str, Schema]) -> dict[str, str]:
    """pydantic tells the two sides of one type apart by a suffix; what we send keeps the plain name."""
    return {name: name.removesuffix("-Output").replace("-Input", "Input") for name in definitions}


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        # A title would repeat the component's name, and two of one title would be one class in a generated client.
        return {
            key: _renamed(value, names)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_renamed(value, names) for value in schema]
    if isinstance(schema, str) and schema.startswith(COMPONENTS):
        return COMPONENTS + names[schema.removeprefix(COMPONENTS)]
    return schema


class Resolves(Protocol):
    """Whoever knows what a reference points at."""

    def resolved(self, schema: Schema) -> Schema:
        """What a reference points at; anything else as it is."""
        ...


# What a text of that name looks like; everything else is called after itself.
_TEXTS = {
    "currency": "USD",
    "section": "Stalls",
    "row": "A",
    "seat": "12",
    "seatNumber": "12",
    "intentId": "pi_3OqK",
    "paymentMethod": "pm_card_visa",
    "status": "held",
    "declineCode": "generic_decline",
    "requestHash": "9f86d081884c7d65",
}
_FORMATS = {
    "uuid": "6f0c1f0e-2b1d-4f55-9a5e-0d6f6f6d2b11",
    "date-time": "2026-11-22T19:30:00Z",
    "date": "2026-11-22",
    "email": "ann@example.org",
}


def example_of(schema: Schema, schemas: Resolves, *, name: str = "text", also: Collection[str] = ()) -> Any:
    """A value that fits: every member that must be there, and those named in `also`."""
    schema = schemas.resolved(schema)
    if "const" in schema:
        return schema["const"]
    for variants in ("examples", "enum"):
        if variants in schema:
            return schema[variants][0]
    for alternatives in ("oneOf", "anyOf"):
        if alternatives in schema:
            return example_of(schema[alternatives][0], schemas, name=name, also=also)
    return _example_of_type(schema, schemas, name, also)


def _example_of_type(schema: Schema, schemas: Resolves, name: str, also: Collection[str]) -> Any:
    match schema.get("type"):
        case "object":
            wanted = {*schema.get("required", ()), *also}
            members = schema.get("properties", {}).items()
            return {key: example_of(member, schemas, name=key, also=also) for key, member in members if key in wanted}
        case "array" if "prefixItems" in schema:
            return [example_of(item, schemas, name=name) for item in schema["prefixItems"]]
        case "array":
            return [example_of(schema["items"], schemas, name=name.removesuffix("s"), also=also)]
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case _:
            return _FORMATS.get(schema.get("format", "")) or _TEXTS.get(name, name)
