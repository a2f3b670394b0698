"""Who is told what about an order, once?

At least once to the mail server, shown once to the buyer: each order and kind of mail has one Message-ID for ever, and what
was handed over is written down, so that a message delivered again sends nothing new. After a crash between the mail server's
yes and our note the mail goes out again under its old Message-ID, which mail systems show once. Every order of a message
stands for itself: those that could not be sent are tried again, alone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

import aiosmtplib
from prometheus_client import Counter

from consumers import mails
from consumers.runtime import Handler, Stage, TryAgain, run_stage
from contracts import topology
from contracts.domain_events import AnyDomainEvent, OrderConfirmation, OrderNotice, OrdersCancelled, OrdersConfirmed
from contracts.ids import EventId, OrderId
from contracts.settings import Settings
from db.failpoints import failpoint
from db.inbox import find_seen, record_seen
from db.postgres import Pool, open_pool
from db.recipients import Recipient, find_recipients

log = logging.getLogger(__name__)

CONSUMER = "notifications"
SMTP_TIMEOUT_SECONDS = 10.0
# Mail servers limit the connections of one sender, and a mail is in no hurry.
CONNECTIONS_MAX = 4

# By then it is the server, not the addresses; each failure may have cost a timeout.
FAILURES_IN_A_ROW_MAX = 3

MAILS = Counter("boxoffice_mails_total", "Mails by kind and outcome", ["kind", "outcome"])

Kind = Literal["confirmation", "cancellation"]
Order = TypeVar("Order", OrderConfirmation, OrderNotice)


@dataclass(frozen=True)
class Resources:
    """What notifications work with."""

    settings: Settings
    pool: Pool
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS_MAX))


async def send_confirmations(confirmed: OrdersConfirmed, resources: Resources) -> None:
    """Mail every buyer of these orders; raises TryAgain with those that could not be sent."""
    unsent, reason = await _send_each(
        "confirmation", confirmed.event_id, confirmed.orders, mails.confirmation, resources
    )
    if unsent:
        raise TryAgain(reason, remaining=confirmed.model_copy(update={"orders": unsent}))


async def send_cancellations(cancelled: OrdersCancelled, resources: Resources) -> None:
    """Tell every buyer whose order came to nothing; raises TryAgain with those that could not be sent."""
    unsent, reason = await _send_each(
        "cancellation", cancelled.event_id, cancelled.orders, mails.cancellation, resources
    )
    if unsent:
        raise TryAgain(reason, remaining=cancelled.model_copy(update={"orders": unsent}))


async def _send_each(
    kind: Kind,
    event_id: EventId,
    orders: Sequence[Order],
    write: Callable[[Order, Recipient], mails.Mail],
    resources: Resources,
) -> tuple[tuple[Order, ...], str]:
    """The orders whose mail could not be sent, and why the last of them could not. Raises PostgreSQL's errors."""
    seen = await find_seen(
        resources.pool, consumer=CONSUMER, message_ids=[_inbox_id(kind, order.order_id) for order in orders]
    )
    to_send: deque[Order] = deque(order for order in orders if _inbox_id(kind, order.order_id) not in seen)
    if not to_send:
        return (), ""
    recipients = await find_recipients(
        resources.pool, event_id=event_id, order_ids=[order.order_id for order in to_send]
    )
    unsent: list[Order] = []
    reason, failures_in_a_row = "", 0
    async with resources.connections, MailServer(resources.settings) as server:
        while to_send and failures_in_a_row < FAILURES_IN_A_ROW_MAX:
            order = to_send.popleft()
            try:
                recipient = recipients[order.order_id]
                await server.send(_letter(kind, write(order, recipient), recipient, resources.settings))
            except Exception as problem:  # noqa: BLE001 -- whatever is wrong with one order, the others get their mail
                unsent.append(order)
                failures_in_a_row += 1
                # Without its text, which may hold the address: that has no place in a log or a header.
                reason = f"order {order.order_id}: {type(problem).__name__}"
                log.warning("mail_not_sent", extra={"order_id": order.order_id, "kind": kind, "reason": reason})
                MAILS.labels(kind, "failed").inc()
                continue
            failures_in_a_row = 0
            await failpoint("notifications.after_send")
            await record_seen(resources.pool, consumer=CONSUMER, message_id=_inbox_id(kind, order.order_id))
            MAILS.labels(kind, "sent").inc()
    # Those not reached go first next time: the ones that failed may be what keeps the mail server from answering.
    return tuple(to_send) + tuple(unsent), reason


def _inbox_id(kind: Kind, order_id: OrderId) -> str:
    return f"{order_id} {kind}"


def _letter(kind: Kind, mail: mails.Mail, recipient: Recipient, settings: Settings) -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = settings.mail_sender
    letter["To"] = recipient.email
    letter["Subject"] = mail.subject
    letter["Date"] = formatdate()
    # The same for ever, whoever sends it and how often: that is what "shown once" rests on.
    letter["Message-ID"] = f"<{recipient.order_id}.{kind}@{settings.mail_sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(mail.text)
    letter.add_alternative(mail.html, subtype="html")
    return letter


class MailServer:
    """One connection to the mail server, made when it is needed and again when it broke."""

    def __init__(self, settings: Settings) -> None:
        """`smtp://`, `smtp+starttls://` or `smtps://`, with user and password if need be."""
        self._client = aiosmtplib.SMTP(**_client_options(settings.smtp_url), timeout=SMTP_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client.is_connected:
            with suppress(aiosmtplib.SMTPException, OSError):
                await self._client.quit()
        self._client.close()

    async def send(self, letter: EmailMessage) -> None:
        """Return once the server has accepted it; raises aiosmtplib's errors, OSError or ValueError."""
        if not self._client.is_connected:
            await self._client.connect()
        await self._client.send_message(letter)


def _client_options(smtp_url: str) -> dict[str, Any]:
    parts = urlsplit(smtp_url)
    if parts.scheme not in ("smtp", "smtp+starttls", "smtps"):
        raise ValueError(f"BOXOFFICE_SMTP_URL begins with smtp://, smtp+starttls:// or smtps://, not {parts.scheme}://")
    return {
        "hostname": parts.hostname,
        "port": parts.port,
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "use_tls": parts.scheme == "smtps",
        "start_tls": parts.scheme == "smtp+starttls",
    }


HANDLERS: dict[type[AnyDomainEvent], Handler[Resources]] = {
    OrdersConfirmed: send_confirmations,
    OrdersCancelled: send_cancellations,
}


def stage(settings: Settings) -> Stage[Resources]:
    """The notifications queue and what is done with its messages."""
    return Stage(
        name="notifications",
        queue=topology.NOTIFICATIONS_QUEUE,
        user="worker",
        prefetch=settings.stage_prefetch,
        handlers=HANDLERS,
    )


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Send mails until told to stop."""
    pool = await open_pool(settings, application_name="boxoffice notifications", size=CONNECTIONS_MAX)
    try:
        await run_stage(stage(settings), Resources(settings, pool), stopping)
    finally:
        await pool.close()
