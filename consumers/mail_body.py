"""How does a mail look as text and as HTML?

Written once, as parts, and put into both. What people have named is data in either: escaped, and on one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Attachment:
    """A file that comes with a mail."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class InlinePicture:
    """A PNG that the page of a mail shows, by the name of `content_id`."""

    content_id: str
    content: bytes


@dataclass(frozen=True)
class Mail:
    """A mail without its envelope."""

    subject: str
    text: str
    html: str
    attachments: tuple[Attachment, ...] = ()
    pictures: tuple[InlinePicture, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Names and what they are, under each other; what is empty is left out."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Items:
    """A list under a word."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Link:
    """Where to go on."""

    words: str
    url: str


@dataclass(frozen=True)
class Pictures:
    """Pictures, each with a line under it; mails that are read as text go without them."""

    shown: Sequence[tuple[InlinePicture, str]]


# A sentence is a paragraph.
Part = str | Facts | Items | Link | Pictures


def written(subject: str, *parts: Part, attachments: Sequence[Attachment] = ()) -> Mail:
    """The mail that says this, part by part."""
    texts = [text for part in parts if (text := _text(part))]
    pictures = [picture for part in parts if isinstance(part, Pictures) for picture, _ in part.shown]
    return Mail(
        subject=one_line(subject),
        text="\n\n".join(texts) + "\n",
        html=f"<!doctype html><html><body>{''.join(_html(part) for part in parts)}</body></html>",
        attachments=tuple(attachments),
        pictures=tuple(pictures),
    )


def one_line(text: str) -> str:
    """Names come from people; a line break in one of them must not become a header of ours."""
    return " ".join(text.split())


def _text(part: Part) -> str:
    match part:
        case Facts(pairs):
            known = [(name, one_line(value)) for name, value in pairs if value]
            width = max((len(name) for name, _ in known), default=0) + 2
            return "\n".join(f"{name + ':':{width}}{value}" for name, value in known)
        case Items(title, lines):
            return "\n".join([f"{title}:", *(f"  {one_line(line)}" for line in lines)]) if lines else ""
        case Link(words, url):
            return f"{words}: {url}"
        case Pictures():
            return ""
        case _:
            return one_line(part)


def _html(part: Part) -> str:
    match part:
        case Facts(pairs):
            lines = [f"{escape(name)}: {escape(one_line(value))}" for name, value in pairs if value]
            return f"<p>{'<br>'.join(lines)}</p>" if lines else ""
        case Items(title, lines):
            listed = "".join(f"<li>{escape(one_line(line))}</li>" for line in lines)
            return f"<p>{escape(title)}:</p><ul>{listed}</ul>" if lines else ""
        case Link(words, url):
            return f'<p><a href="{escape(url)}">{escape(words)}</a></p>'
        case Pictures(shown):
            return "".join(_picture(picture, line) for picture, line in shown)
        case _:
            return f"<p>{escape(one_line(part))}</p>"


def _picture(picture: InlinePicture, line: str) -> str:
    words = escape(one_line(line))
    return f'<p><img src="cid:{escape(picture.content_id)}" alt="{words}" width="164" height="164"><br>{words}</p>'
