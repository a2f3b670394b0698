"""How does the OpenAPI document look to somebody who reads it?

Plain HTML without a script, from the document alone: whatever is on the page is in `/openapi.json` too. What comes from the
document is escaped on its way in.
"""

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from contracts.json_schema import COMPONENTS, Schema, example_of
from ingress.markdown import in_line, slug, to_html
from ingress.responses import JSON, PROBLEM_JSON

Document = Mapping[str, Any]

METHODS = ("get", "post", "put", "patch", "delete")


def docs_page(document: Document) -> str:
    """The whole page."""
    info = document["info"]
    body = (
        f"{_navigation(document)}<main>"
        f"<h1>{_text(info['title'])} <small>{_text(info['version'])}</small></h1>"
        f"<p class=lead>{_text(info['summary'])}</p>{to_html(info['description'])}"
        f"{''.join(_tag(document, tag) for tag in document['tags'])}"
        f"<h2 id=schemas>Schemas</h2>{''.join(_schemas(document))}"
        f"<h2 id=problem-codes>Problem codes</h2>{_problem_table(document)}</main>"
    )
    return _page(f"{info['title']} API", body)


def problem_page(document: Document, code: str) -> str | None:
    """What a problem's `type` leads to, or None for a code that there is not."""
    known = document["x-problem-codes"].get(code)
    if known is None:
        return None
    body = (
        f"<main class=alone><h1><code>{_text(code)}</code></h1><p class=lead>{_text(known['whatToDo'])}</p>"
        f"<p>The status is {known['status']}. {_retry_words(known)}</p>"
        f'<p><a href="/docs#problem-{_text(code)}">All codes, and the whole API</a></p></main>'
    )
    return _page(code, body)


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{_text(title)}</title><link rel="stylesheet" href="/docs.css">{body}</html>'
    )


# ---- finding one's way


def _navigation(document: Document) -> str:
    headings = [line[3:] for line in document["info"]["description"].splitlines() if line.startswith("## ")]
    words = "".join(f'<li><a href="#{slug(heading)}">{in_line(heading)}</a>' for heading in headings)
    tags = "".join(_tag_links(document, tag["name"]) for tag in document["tags"])
    rest = '<li><a href="#schemas">Schemas</a><li><a href="#problem-codes">Problem codes</a>'
    return (
        f'<nav aria-label="Contents"><details><summary>Contents</summary><ul>{words}</ul>{tags}<ul>{rest}'
        '<li><a href="/openapi.json">openapi.json</a></ul></details></nav>'
    )


def _tag_links(document: Document, tag: str) -> str:
    links = (
        f'<li><a href="#{_text(operation["operationId"])}"><b class="{method}">{method.upper()}</b>'
        f" {_breakable(path)}</a>"
        for path, method, operation in _operations(document, tag)
    )
    return f'<h2><a href="#tag-{_text(tag)}">{_title(tag)}</a></h2><ul>{"".join(links)}</ul>'


def _title(tag: str) -> str:
    return _text(tag.replace("_", " ").capitalize())


def _operations(document: Document, tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods and tag in methods[method]["tags"]:
                yield path, method, methods[method]


# ---- operations


def _tag(document: Document, tag: Mapping[str, str]) -> str:
    operations = (_operation(document, *one) for one in _operations(document, tag["name"]))
    return (
        f'<h2 id="tag-{_text(tag["name"])}">{_title(tag["name"])}</h2>'
        f"<p>{in_line(tag['description'])}</p>{''.join(operations)}"
    )


def _operation(document: Document, path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = (
        to_html(operation["description"], heading_level=4),
        _parameters(document, operation),
        _body(document, operation),
        f"<h4>Try it</h4><pre><code>{_text(_curl(document, path, method, operation))}</code></pre>",
        f"<h4>Answers</h4>{_answers(document, operation)}",
    )
    return (
        f'<details class=operation id="{_text(operation["operationId"])}"><summary><b class="{method}">{method.upper()}</b>'
        f" <code>{_breakable(path)}</code><span>{in_line(operation['summary'])}</span></summary>{''.join(parts)}</details>"
    )


def _parameters(document: Document, operation: Mapping[str, Any]) -> str:
    rows = [
        (
            f"<code>{_text(given['name'])}</code><small>{given['in']}{', required' if given['required'] else ''}</small>",
            f"{in_line(given.get('description', ''))} {_type(document, given['schema'])}",
        )
        for given in operation["parameters"]
    ]
    return f"<h4>Parameters</h4>{_table(rows)}" if rows else ""


def _body(document: Document, operation: Mapping[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    schema = operation["requestBody"]["content"][JSON]["schema"]
    return f"<h4>Body</h4><p>{_type(document, schema)}</p>{_members(document, _resolved(document, schema))}"


def _answers(document: Document, operation: Mapping[str, Any]) -> str:
    rows = (
        (f"<code>{status}</code>", _answer(document, _resolved(document, answer)))
        for status, answer in operation["responses"].items()
    )
    return _table(rows, kind="answers")


def _answer(document: Document, answer: Mapping[str, Any]) -> str:
    content: Mapping[str, Any] = answer.get("content", {})
    said = to_html(answer["description"])
    for media_type, described in content.items():
        if media_type == PROBLEM_JSON:
            continue
        frames = (
            f"<code>{_text(name)}</code> {_type(document, one)}" for name, one in described.get("x-frames", {}).items()
        )
        shown = ", ".join(frames) or _type(document, described["schema"])
        said += f"<p><small>{_text(media_type)}</small> {shown}</p>"
    names = ", ".join(f"<code>{_text(name)}</code>" for name in answer.get("headers", {}))
    return _linked_codes(document, said) + (f"<p><small>headers</small> {names}</p>" if names else "")


def _linked_codes(document: Document, said: str) -> str:
    for code in document["x-problem-codes"]:
        said = said.replace(f"<li><code>{code}</code>", f'<li><a href="#problem-{code}"><code>{code}</code></a>')
    return said


def _curl(document: Document, path: str, method: str, operation: Mapping[str, Any]) -> str:
    """The request on a command line, with the first example."""
    words = ["curl", *(["-b jar"] if operation["security"] else [])]
    if any(name == "Set-Cookie" for answer in operation["responses"].values() for name in answer.get("headers", {})):
        words.append("-c jar")
    if method != ("post" if "requestBody" in operation else "get"):
        words.append(f"-X {method.upper()}")
    lines = [" ".join([*words, f'"$API{path.replace("{", "$").replace("}", "")}"'])]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"][JSON]
        examples = [example["value"] for example in content.get("examples", {}).values()]
        body = examples[0] if examples else example_of(content["schema"], _Components(document))
        lines += ["-H 'content-type: application/json'", f"-d '{json.dumps(body)}'"]
    return " \\\n     ".join(lines)


class _Components:
    """The schemas of a document, for `example_of`."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def resolved(self, schema: Schema) -> Schema:
        """What a reference points at; anything else as it is."""
        return dict(_resolved(self._document, schema))


# ---- schemas


def _schemas(document: Document) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        members = _members(document, schema) or f"<p>{_type(document, schema)}</p>"
        yield f'<section id="schema-{_text(name)}"><h3>{_text(name)}</h3>'
        yield f"{to_html(schema.get('description', ''))}{members}</section>"


def _members(document: Document, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{_text(name)}</code>{'' if name in required else '<small>optional</small>'}",
            f"{_type(document, member)} {in_line(member.get('description', ''))}",
        )
        for name, member in schema.get("properties", {}).items()
    ]
    return _table(rows) if rows else ""


def _type(document: Document, schema: Schema) -> str:
    """What may stand there, in a few words."""
    if "$ref" in schema:
        name = _text(schema["$ref"].removeprefix(COMPONENTS))
        return f'<a href="#schema-{name}">{name}</a>'
    for alternatives in ("oneOf", "anyOf"):
        if alternatives in schema:
            return " or ".join(_type(document, one) for one in schema[alternatives])
    if "const" in schema:
        return f"<code>{_text(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{_text(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(document, schema['items'])}{_bounds(schema)}" if "items" in schema else "list"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(document, schema['additionalProperties'])}"
    return f"<i>{_text(schema.get('format') or schema.get('type') or 'anything')}</i>{_bounds(schema)}"


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minLength": "length at least",
    "maxLength": "length at most",
    "minItems": "at least",
    "maxItems": "at most",
    "default": "default",
}


def _bounds(schema: Schema) -> str:
    words = [f"{word} {json.dumps(schema[name])}" for name, word in _BOUNDS.items() if schema.get(name) is not None]
    return f" <small>{_text(', '.join(words))}</small>" if words else ""


# ---- problems


def _problem_table(document: Document) -> str:
    rows = (
        f'<tr id="problem-{_text(code)}"><td><code>{_text(code)}</code><small>{known["status"]}</small>'
        f"<td>{_text(known['whatToDo'])} {_retry_words(known)}"
        for code, known in document["x-problem-codes"].items()
    )
    return f"<table>{''.join(rows)}</table>"


def _retry_words(known: Mapping[str, Any]) -> str:
    return "<small>Retry-After says when.</small>" if known["retryAfter"] else ""


def _resolved(document: Document, node: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference points at; anything else as it is."""
    if "$ref" not in node:
        return node
    found: Any = document
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found  # type: ignore[no-any-return]


def _table(rows: Iterable[tuple[str, str]], *, kind: str = "members") -> str:
    return f"<table class={kind}>" + "".join(f"<tr><td>{name}<td>{said}" for name, said in rows) + "</table>"


def _text(text: str) -> str:
    return html.escape(text)


def _breakable(path: str) -> str:
    """A path that a narrow screen may break behind its slashes."""
    return _text(path).replace("/", "/<wbr>")
