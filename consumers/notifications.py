"""Who is told what about an order, a ticket or a place on the waiting list, once?

At least once to the mail server, shown once to the reader: each subject and kind of mail has one Message-ID for ever, and what
was handed over is written down, so that a message delivered again sends nothing new. After a crash between the mail server's
yes and our note the mail goes out again under its old Message-ID, which mail systems show once. Every mail of a message
stands for itself: those that could not be sent are tried again, alone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.utils import formatdate
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
from prometheus_client import Counter

from consumers import mails
from consumers.mail_body import Mail
from consumers.mails import TicketPapers
from consumers.notice_mails import Told, write_notice
from consumers.runtime import Handler, Stage, TryAgain, run_stage
from contracts import topology
from contracts.domain_events import (
    AnyDomainEvent,
    Notice,
    NoticesDue,
    OrderConfirmation,
    OrderNotice,
    OrdersCancelled,
    OrdersConfirmed,
)
from contracts.ids import OrderId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.site_links import SiteLinks
from db.failpoints import failpoint
from db.inbox import find_seen, record_seen
from db.postgres import Pool, open_pool
from db.recipients import find_notice_recipients, find_places, find_recipients
from db.telemetry.logs import correlated
from db.telemetry.traces import about_messages, span
from db.tickets import HeldTicket, tickets_of_orders

log = logging.getLogger(__name__)

CONSUMER = "notifications"
SMTP_TIMEOUT_SECONDS = 10.0
# Mail servers limit the connections of one sender, and a mail is in no hurry.
CONNECTIONS_MAX = 4

# By then it is the server, not the addresses; each failure may have cost a timeout.
FAILURES_IN_A_ROW_MAX = 3

MAILS = Counter("boxoffice_mails_total", "Mails by kind and outcome", ["kind", "outcome"])


@dataclass(frozen=True)
class Resources:
    """What notifications work with."""

    settings: Settings
    pool: Pool
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS_MAX))


class Label(NamedTuple):
    """What a mail is about and which kind it is: the two by which it is sent once."""

    subject_id: UUID
    kind: str

    @property
    def inbox_id(self) -> str:
        """What is written down when it has been sent."""
        return f"{self.subject_id} {self.kind}"


class Letter(NamedTuple):
    """A mail and whom it goes to."""

    email: str
    mail: Mail


_ABOUT = about_messages(exchange=topology.DOMAIN_EVENTS, routing_key=topology.NOTIFICATIONS_QUEUE, operation="process")

# Something of a message that one person is to be told.
Part = TypeVar("Part", OrderConfirmation, OrderNotice, Notice)
# Makes the letter of such a part; None when there is nothing to tell any more. Raises LookupError when it is not known whom.
Writer = Callable[[Part], Awaitable[Letter | None]]


async def send_confirmations(confirmed: OrdersConfirmed, resources: Resources) -> None:
    """Mail every buyer of these orders, the tickets with it; raises TryAgain with those that could not be sent."""

    async def writer(orders: Sequence[OrderConfirmation]) -> Writer[OrderConfirmation]:
        event_id, order_ids = confirmed.event_id, [order.order_id for order in orders]
        recipients = await find_recipients(resources.pool, event_id=event_id, order_ids=order_ids)
        tickets = await tickets_of_orders(resources.pool, event_id, order_ids)
        keys, links = SigningKeys.of(resources.settings), SiteLinks.of(resources.settings)

        async def write(order: OrderConfirmation) -> Letter:
            recipient = recipients[order.order_id]
            papers = await _papers(order.order_id, tickets, keys)
            return Letter(recipient.email, mails.confirmation(order, recipient, papers, links))

        return write

    labels = {order: Label(order.order_id, "confirmation") for order in confirmed.orders}
    unsent, reason = await _send_each(labels, writer, resources)
    if unsent:
        raise TryAgain(reason, remaining=confirmed.model_copy(update={"orders": unsent}))


async def send_cancellations(cancelled: OrdersCancelled, resources: Resources) -> None:
    """Tell every buyer whose order came to nothing; raises TryAgain with those that could not be sent."""

    async def writer(orders: Sequence[OrderNotice]) -> Writer[OrderNotice]:
        order_ids = [order.order_id for order in orders]
        recipients = await find_recipients(resources.pool, event_id=cancelled.event_id, order_ids=order_ids)

        async def write(order: OrderNotice) -> Letter:
            recipient = recipients[order.order_id]
            return Letter(recipient.email, mails.cancellation(order, recipient))

        return write

    labels = {order: Label(order.order_id, "cancellation") for order in cancelled.orders}
    unsent, reason = await _send_each(labels, writer, resources)
    if unsent:
        raise TryAgain(reason, remaining=cancelled.model_copy(update={"orders": unsent}))


async def send_notices(due: NoticesDue, resources: Resources) -> None:
    """Tell each of these people what has happened; raises TryAgain with those that could not be sent."""

    async def writer(notices: Sequence[Notice]) -> Writer[Notice]:
        recipients = await find_notice_recipients(resources.pool, event_id=due.event_id, notices=notices)
        ticket_ids = {ticket_id for notice in notices for ticket_id in notice.ticket_ids}
        places = await find_places(resources.pool, event_id=due.event_id, ticket_ids=ticket_ids)
        given = await tickets_of_orders(resources.pool, due.event_id, _orders_given(notices))
        keys, links = SigningKeys.of(resources.settings), SiteLinks.of(resources.settings)

        async def write(notice: Notice) -> Letter | None:
            recipient = recipients[notice.subject_id, notice.user_id]
            seats = [places[ticket_id] for ticket_id in notice.ticket_ids if ticket_id in places]
            papers = TicketPapers()
            if notice.kind == "tickets_given" and notice.order_id is not None:
                papers = await _papers(notice.order_id, given, keys)
            mail = write_notice(Told(notice, recipient, links, keys, seats, papers))
            return None if mail is None else Letter(recipient.email, mail)

        return write

    labels = {notice: Label(notice.subject_id, notice.kind) for notice in due.notices}
    unsent, reason = await _send_each(labels, writer, resources)
    if unsent:
        raise TryAgain(reason, remaining=due.model_copy(update={"notices": unsent}))


async def _send_each(
    labels: dict[Part, Label],
    prepare: Callable[[Sequence[Part]], Awaitable[Writer[Part]]],
    resources: Resources,
) -> tuple[tuple[Part, ...], str]:
    """The parts whose mail could not be sent, and why the last of them could not. Raises PostgreSQL's errors."""
    seen = await find_seen(resources.pool, consumer=CONSUMER, message_ids=[label.inbox_id for label in labels.values()])
    to_send: deque[Part] = deque(part for part, label in labels.items() if label.inbox_id not in seen)
    if not to_send:
        return (), ""
    write = await prepare(tuple(to_send))
    unsent: list[Part] = []
    reason, failures_in_a_row = "", 0
    async with resources.connections, MailServer(resources.settings) as server:
        while to_send and failures_in_a_row < FAILURES_IN_A_ROW_MAX:
            part = to_send.popleft()
            label = labels[part]
            try:
                with (
                    correlated(part.correlation_id),
                    span(f"mail {label.kind}", kind="consumer", parent=part.traceparent, attributes=_ABOUT),
                ):
                    outcome = await _send(label, await write(part), server, resources.settings)
                    if outcome == "sent":
                        log.info("mail_sent", extra={"order_id": part.order_id, **label._asdict()})
            except Exception as problem:  # noqa: BLE001 -- whatever is wrong with one of them, the others get their mail
                unsent.append(part)
                failures_in_a_row += 1
                # Without its text, which may hold the address: that has no place in a log or a header.
                reason = f"{label.kind} {label.subject_id}: {type(problem).__name__}"
                with correlated(part.correlation_id):
                    log.warning("mail_not_sent", extra={**label._asdict(), "reason": reason})
                MAILS.labels(label.kind, "failed").inc()
                continue
            failures_in_a_row = 0
            await failpoint("notifications.after_send")
            await record_seen(resources.pool, consumer=CONSUMER, message_id=label.inbox_id)
            MAILS.labels(label.kind, outcome).inc()
    # Those not reached go first next time: the ones that failed may be what keeps the mail server from answering.
    return tuple(to_send) + tuple(unsent), reason


async def _send(label: Label, letter: Letter | None, server: "MailServer", settings: Settings) -> str:
    """Hand it over, if there is anything to tell, and say which of the two it was."""
    if letter is None:
        return "over"
    await server.send(_envelope(label, letter, settings))
    return "sent"


async def _papers(order_id: OrderId, tickets: dict[OrderId, list[HeldTicket]], keys: SigningKeys) -> TicketPapers:
    found = tickets.get(order_id, [])
    # Not between two turns of the loop, which this process may share with the sale.
    return await asyncio.to_thread(TicketPapers.of, order_id, found, keys)


def _orders_given(notices: Sequence[Notice]) -> Collection[OrderId]:
    return {notice.order_id for notice in notices if notice.kind == "tickets_given" and notice.order_id is not None}


def _envelope(label: Label, letter: Letter, settings: Settings) -> EmailMessage:
    mail = letter.mail
    message = EmailMessage()
    message["From"] = settings.mail_sender
    # One address, whatever is in it: a comma must not make two of it.
    message["To"] = Address(addr_spec=letter.email)
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    # The same for ever, whoever sends it and how often: that is what "shown once" rests on.
    message["Message-ID"] = f"<{label.subject_id}.{label.kind}@{settings.mail_sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    _add_pictures(message, mail)
    for attached in mail.attachments:
        maintype, _, subtype = attached.media_type.partition("/")
        message.add_attachment(attached.content, maintype=maintype, subtype=subtype, filename=attached.name)
    return message


def _add_pictures(message: EmailMessage, mail: Mail) -> None:
    page = message.get_body(("html",))
    if not isinstance(page, MIMEPart):
        return
    for picture in mail.pictures:
        page.add_related(
            picture.content, maintype="image", subtype="png", cid=f"<{picture.content_id}>", disposition="inline"
        )


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
    NoticesDue: send_notices,
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
