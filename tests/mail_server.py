"""A mail server in the test's own process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class MailServer:
    """Takes mails in this process, and refuses what a test wants refused."""

    refused: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    letters: list[EmailMessage] = field(default_factory=list)
    # Whom each letter was handed over for, whatever its headers say.
    handed_to: list[tuple[str, ...]] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.dropped:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        letter = message_from_bytes(content, policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.handed_to.append(tuple(envelope.rcpt_tos))
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        return [letter for letter in self.letters if letter["To"] == address]

    @property
    def addresses(self) -> Counter[str]:
        return Counter(str(letter["To"]) for letter in self.letters)


@asynccontextmanager
async def serving(mails: MailServer) -> AsyncIterator[MailServer]:
    """That server, listening on its `port`."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mails, hostname="test", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", mails.port
    )
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()
        await server.wait_closed()


def body_of(letter: EmailMessage, kind: str = "plain") -> str:
    """What the letter says, as text or as `html`."""
    body = letter.get_body((kind,))
    assert body is not None
    return str(body.get_content())
