"""Where do the mails go when no real mail may be sent?

A mail server that keeps every mail as a file and shows it on a page: `python -m ops.mail_catcher --smtp-port 8409
--http-port 8410 --folder mails`. A mail that is delivered twice is kept once and counted twice, for that is how a
duplicate confirmation shows.
"""

import argparse
import asyncio
import email.policy
import hashlib
import json
import signal
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from db.priority import give_way

MAILS_MAX = 5000
NICENESS = 15
MAIL_BYTES_MAX = 10 * 1024 * 1024

# A mail is written by strangers: its page runs nothing and loads nothing.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1e; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .4rem .8rem .4rem 0; }
tr { border-bottom: 1px solid #d9d9de; } td { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f6; padding: 1rem; }
"""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as the list shows it; the mail itself is the file `<mail_id>.eml`."""

    mail_id: str
    message_id: str
    sender: str
    to: tuple[str, ...]
    subject: str
    received_at: str
    delivery_count: int = 1


class Mailbox:
    """The newest mails, in a folder that outlives the process."""

    def __init__(self, folder: Path, mails_max: int = MAILS_MAX) -> None:
        self._folder = folder
        self._mails_max = mails_max
        self._mails: dict[str, Mail] = {}
        folder.mkdir(parents=True, exist_ok=True)
        # One file for the list: reading five thousand small ones after a reboot takes longer than all other servers.
        self._index = folder / "index.jsonl"
        for mail in _read_index(self._index):
            self._mails[mail.mail_id] = mail
        self._drop_oldest()
        self._write_index()

    def receive(self, content: bytes, *, recipients: Iterable[str], received_at: datetime) -> Mail:
        """Keep the mail, or count it when one with this Message-ID is here already."""
        headers = _parse(content)
        message_id = _header(headers, "Message-ID")
        # A file name of our own making: the Message-ID is whatever a stranger wrote.
        mail_id = hashlib.sha256(message_id.encode() if message_id else content).hexdigest()[:32]
        known = self._mails.get(mail_id)
        if known is not None:
            return self._remember(replace(known, delivery_count=known.delivery_count + 1))
        (self._folder / f"{mail_id}.eml").write_bytes(content)
        mail = Mail(
            mail_id=mail_id,
            message_id=message_id,
            sender=_header(headers, "From"),
            to=tuple(recipients),
            subject=_header(headers, "Subject"),
            received_at=received_at.isoformat(),
        )
        self._remember(mail)
        self._drop_oldest()
        return mail

    def newest_first(self, to: str | None = None) -> list[Mail]:
        mails = reversed(self._mails.values())
        return [mail for mail in mails if to is None or to.lower() in (address.lower() for address in mail.to)]

    def find(self, mail_id: str) -> tuple[Mail, EmailMessage] | None:
        mail = self._mails.get(mail_id)
        return None if mail is None else (mail, _parse((self._folder / f"{mail_id}.eml").read_bytes()))

    def clear(self) -> None:
        for mail_id in list(self._mails):
            self._drop(mail_id)
        self._write_index()

    def _remember(self, mail: Mail) -> Mail:
        self._mails[mail.mail_id] = mail
        with self._index.open("a") as index:
            index.write(json.dumps(asdict(mail)) + "\n")
        return mail

    def _write_index(self) -> None:
        """Without what was dropped, and each mail once, as it was counted last."""
        unfinished = self._index.with_suffix(".unfinished")
        unfinished.write_text("".join(json.dumps(asdict(mail)) + "\n" for mail in self._mails.values()))
        unfinished.replace(self._index)

    def _drop_oldest(self) -> None:
        while len(self._mails) > self._mails_max:
            self._drop(next(iter(self._mails)))

    def _drop(self, mail_id: str) -> None:
        del self._mails[mail_id]
        (self._folder / f"{mail_id}.eml").unlink(missing_ok=True)


class Receiver:
    """What aiosmtpd calls for each mail; its name for it is not ours to choose."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002 -- its shape is given
        content = envelope.content
        if not isinstance(content, bytes):
            return "554 5.6.0 no content"
        self._mailbox.receive(content, recipients=envelope.rcpt_tos, received_at=datetime.now(UTC))
        return "250 2.0.0 kept"


def make_pages(mailbox: Mailbox) -> web.Application:
    """The mailbox for people, and /mails.json for tests."""
    pages = web.Application()

    async def show_list(_: web.Request) -> web.Response:
        return _page("Mailbox", _list_as_html(mailbox.newest_first()))

    async def show_mail(request: web.Request) -> web.Response:
        found = mailbox.find(request.match_info["mail_id"])
        if found is None:
            raise web.HTTPNotFound
        return _page(found[0].subject or "(no subject)", _mail_as_html(*found))

    async def list_mails(request: web.Request) -> web.Response:
        mails = mailbox.newest_first(request.query.get("to"))
        return web.json_response({"mails": [_as_json(mailbox, mail) for mail in mails]})

    async def clear(_: web.Request) -> web.Response:
        mailbox.clear()
        return web.Response(status=HTTPStatus.NO_CONTENT)

    pages.router.add_get("/", show_list)
    pages.router.add_get("/mails/{mail_id}", show_mail)
    pages.router.add_get("/mails.json", list_mails)
    pages.router.add_delete("/mails", clear)
    return pages


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    mailbox = Mailbox(options.folder)
    receiver = Receiver(mailbox)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)

    def speak_smtp() -> SMTP:
        return SMTP(receiver, hostname="mail-catcher", enable_SMTPUTF8=True, data_size_limit=MAIL_BYTES_MAX, loop=loop)

    smtp = await loop.create_server(speak_smtp, options.host, options.smtp_port)
    runner = web.AppRunner(make_pages(mailbox), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.http_port)
    await site.start()
    if options.port_file is not None:
        _tell_the_ports(options.port_file, smtp.sockets[0].getsockname()[1], runner.addresses[0][1])
    await stop.wait()
    smtp.close()
    await runner.cleanup()


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
    return web.Response(text=text, content_type="text/html", headers=PAGE_HEADERS)


def _list_as_html(mails: list[Mail]) -> str:
    if not mails:
        return "<p>No mail yet.</p>"
    lines = "".join(
        f'<tr><td><a href="/mails/{mail.mail_id}">{escape(mail.subject or "(no subject)")}</a>'
        f"<td>{escape(', '.join(mail.to))}<td>{escape(mail.received_at)}<td>{mail.delivery_count}"
        for mail in mails
    )
    return f"<table><tr><th>Subject<th>To<th>Received<th>Deliveries{lines}</table>"


def _mail_as_html(mail: Mail, message: EmailMessage) -> str:
    facts = {
        "From": mail.sender,
        "To": ", ".join(mail.to),
        "Received": mail.received_at,
        "Message-ID": mail.message_id,
        "Deliveries": str(mail.delivery_count),
    }
    lines = "".join(f"<tr><th>{name}<td>{escape(value)}" for name, value in facts.items())
    return f'<p><a href="/">All mails</a></p><table>{lines}</table><pre>{escape(_text_of(message))}</pre>'


def _as_json(mailbox: Mailbox, mail: Mail) -> dict[str, Any]:
    found = mailbox.find(mail.mail_id)
    return {**asdict(mail), "text": "" if found is None else _text_of(found[1])}


def _text_of(message: EmailMessage) -> str:
    """What a reader without HTML sees; a mail that has only HTML is shown as its source."""
    body = message.get_body(preferencelist=("plain", "html"))
    if body is None:
        return ""
    payload = body.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        return content.decode(body.get_content_charset("utf-8"), errors="replace")
    except LookupError:
        # Strangers may write anything, a charset that does not exist too.
        return content.decode("utf-8", errors="replace")


def _parse(content: bytes) -> EmailMessage:
    return BytesParser(policy=email.policy.default).parsebytes(content)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, "")).strip()
    except (ValueError, IndexError, AttributeError):
        # The standard library's header parser stumbles over some malformed headers; the mail is kept all the same.
        return ""


def _read_index(path: Path) -> Iterator[Mail]:
    """In the order of arrival; a last line that a crash has torn is left out."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        yield Mail(**{**fields, "to": tuple(fields["to"])})


def _tell_the_ports(path: Path, smtp_port: int, http_port: int) -> None:
    # Whoever waits for the file must never read half of it.
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(f"{smtp_port} {http_port}\n")
    unfinished.replace(path)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.mail_catcher", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--smtp-port", type=int, required=True, help="0 picks a free one; see --port-file")
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--port-file", type=Path, help="where to write both ports, SMTP first, once mails are accepted")
    parser.add_argument("--folder", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    options = _read_options()
    # A real mail server has cores of its own; this one must not take them from the sale.
    give_way(NICENESS)
    asyncio.run(run(options))
