"""How does the little Markdown that we write become HTML?

Headings, paragraphs, lists, code, bold: what our conventions and docstrings use, and no more. Everything is escaped first,
so no text can become a tag.
"""

import html
import re
from collections.abc import Iterator

_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_MARK = re.compile(r"^(?:- |\d+\. )")
_BETWEEN_ITEMS = re.compile(r"\n(?=- |\d+\. )")


def to_html(text: str, *, heading_level: int = 2) -> str:
    """The text as HTML; its `##` becomes a heading of that level, with an id to point at."""
    return "\n".join(_block(block, heading_level) for block in _blocks(text))


def in_line(text: str) -> str:
    """One line of it: code and bold."""
    return _BOLD.sub(r"<strong>\1</strong>", _CODE.sub(r"<code>\1</code>", html.escape(text, quote=False)))


def slug(text: str) -> str:
    """What a heading is called in an address."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _blocks(text: str) -> Iterator[str]:
    """What stands between empty lines; a fence is one block, whatever is in it."""
    for number, part in enumerate(text.strip().split("```")):
        if number % 2:
            yield "```" + part
        else:
            yield from (block.strip("\n") for block in re.split(r"\n\s*\n", part) if block.strip())


def _block(block: str, heading_level: int) -> str:
    if block.startswith("```"):
        return f"<pre><code>{html.escape(block[3:].strip())}</code></pre>"
    if block.startswith("## "):
        title = block.removeprefix("## ")
        return f'<h{heading_level} id="{slug(title)}">{in_line(title)}</h{heading_level}>'
    if _MARK.match(block):
        kind = "ul" if block.startswith("- ") else "ol"
        items = (f"<li>{in_line(_MARK.sub('', item))}</li>" for item in _BETWEEN_ITEMS.split(block))
        return f"<{kind}>{''.join(items)}</{kind}>"
    return f"<p>{in_line(block)}</p>"
