"""Does the mail catcher keep every mail once, count how often it came, and show it without running any of it?"""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import aiohttp
import aiosmtplib
import pytest

from ops.mail_catcher import Mailbox
from tests.eventually import eventually


class RunningMailCatcher:
    """One mail catcher process over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mails"
        self._port_file = folder / "ports"
        self._process: asyncio.subprocess.Process | None = None
        self.smtp_port = 0
        self.url = ""

    async def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        ports = ["--smtp-port", "0", "--http-port", "0", "--port-file", str(self._port_file)]
        command = [sys.executable, "-m", "ops.mail_catcher", *ports, "--folder", str(self.folder)]
        self._process = await asyncio.create_subprocess_exec(*command)
        await eventually(self._port_file.exists, within_seconds=20)
        smtp_port, http_port = self._port_file.read_text().split()
        self.smtp_port, self.url = int(smtp_port), f"http://127.0.0.1:{http_port}"

    async def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        async with asyncio.timeout(20):
            assert await self._process.wait() == 0
        self._process = None

    async def send(self, mail: EmailMessage) -> None:
        await aiosmtplib.send(mail, hostname="127.0.0.1", port=self.smtp_port)

    async def page(self, path: str = "/") -> tuple[str, aiohttp.ClientResponse]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return await response.text(), response

    async def mails(self, to: str | None = None) -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(f"{self.url}/mails.json", params={} if to is None else {"to": to}) as response,
        ):
            found: list[dict[str, Any]] = (await response.json())["mails"]
            return found

    async def clear(self) -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            await session.delete(f"{self.url}/mails")


@pytest.fixture
async def catcher(tmp_path: Path) -> AsyncIterator[RunningMailCatcher]:
    catcher = RunningMailCatcher(tmp_path)
    await catcher.start()
    yield catcher
    await catcher.stop()


def a_mail(
    *, to: str = "buyer@example.org", subject: str = "Your tickets", text: str = "Row 3", message_id: str | None = None
) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "tickets@boxoffice.example"
    mail["To"] = to
    mail["Subject"] = subject
    mail["Message-ID"] = message_id or make_msgid()
    mail.set_content(text)
    return mail


async def test_a_mail_is_kept_as_it_came(catcher: RunningMailCatcher) -> None:
    await catcher.send(a_mail(text="Reihe 3, Größe äöü €"))
    (mail,) = await catcher.mails()
    assert (mail["to"], mail["subject"], mail["delivery_count"]) == (["buyer@example.org"], "Your tickets", 1)
    assert mail["text"].strip() == "Reihe 3, Größe äöü €"
    assert b"Your tickets" in (catcher.folder / f"{mail['mail_id']}.eml").read_bytes()


async def test_a_mail_delivered_twice_is_kept_once_and_counted(catcher: RunningMailCatcher) -> None:
    mail = a_mail()
    await asyncio.gather(*(catcher.send(mail) for _ in range(3)))
    assert [mail["delivery_count"] for mail in await catcher.mails()] == [3]


async def test_two_mails_with_the_same_words_are_two(catcher: RunningMailCatcher) -> None:
    """The negative control: it is the Message-ID that makes mails the same."""
    await catcher.send(a_mail())
    await catcher.send(a_mail())
    assert [mail["delivery_count"] for mail in await catcher.mails()] == [1, 1]


async def test_mails_are_found_by_recipient(catcher: RunningMailCatcher) -> None:
    await catcher.send(a_mail(to="one@example.org"))
    await catcher.send(a_mail(to="two@example.org"))
    assert [mail["to"] for mail in await catcher.mails("TWO@example.org")] == [["two@example.org"]]
    assert await catcher.mails("nobody@example.org") == []


async def test_mails_and_their_counts_survive_a_restart(catcher: RunningMailCatcher) -> None:
    mail = a_mail()
    await catcher.send(mail)
    await catcher.stop()
    await catcher.start()
    await catcher.send(mail)
    assert [mail["delivery_count"] for mail in await catcher.mails()] == [2]


async def test_all_mails_are_deleted(catcher: RunningMailCatcher) -> None:
    await catcher.send(a_mail())
    await catcher.clear()
    assert await catcher.mails() == []
    assert [(file.name, file.read_text()) for file in catcher.folder.iterdir()] == [("index.jsonl", "")]


async def test_the_page_runs_nothing_of_a_mail(catcher: RunningMailCatcher) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    await catcher.send(a_mail(subject=attack, text=attack, message_id="<a\"'<b>@example.org>"))
    (mail,) = await catcher.mails()
    for path in ("/", f"/mails/{mail['mail_id']}"):
        page, response = await catcher.page(path)
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_a_mail_of_html_only_is_shown_as_its_source(catcher: RunningMailCatcher) -> None:
    mail = a_mail()
    mail.set_content("<p>Hello</p>", subtype="html")
    await catcher.send(mail)
    (kept,) = await catcher.mails()
    page, _ = await catcher.page(f"/mails/{kept['mail_id']}")
    assert "&lt;p&gt;Hello&lt;/p&gt;" in page


async def test_an_unknown_mail_is_404(catcher: RunningMailCatcher) -> None:
    _, response = await catcher.page("/mails/none")
    assert response.status == 404


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no headers at all\r\n",
        b"Content-Type: text/plain; charset=klingon\r\n\r\nqapla\r\n",
        b"Message-ID: <\r\nFrom: @@@\r\nSubject: =?utf-8?b?!!!?=\r\n\r\n\xff\xfe\r\n",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary\r\n",
    ],
)
async def test_a_malformed_mail_is_kept_and_shown(catcher: RunningMailCatcher, content: bytes) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=catcher.smtp_port) as smtp:
        await smtp.sendmail("a@example.org", ["b@example.org"], content)
    (mail,) = await catcher.mails()
    for path in ("/", f"/mails/{mail['mail_id']}"):
        assert (await catcher.page(path))[1].status == 200


def test_only_the_newest_mails_are_kept(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, mails_max=3)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(5):
        content = a_mail(subject=str(number)).as_bytes()
        mailbox.receive(content, recipients=["a@example.org"], received_at=start + timedelta(seconds=number))
    assert [mail.subject for mail in mailbox.newest_first()] == ["4", "3", "2"]
    assert len(list(tmp_path.glob("*.eml"))) == 3
    assert [mail.subject for mail in Mailbox(tmp_path, mails_max=2).newest_first()] == ["4", "3"]
