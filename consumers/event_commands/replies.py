"""How do answers and seat changes leave the engine?

After the commit, at most once, without confirms: an answer that is lost can be asked for again, because the database has
it. One message per asker and batch, one for the seat changes of each transaction, one for the figures.
"""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractRobustConnection, FieldValue

from consumers.broker import CONNECT_TIMEOUT_SECONDS, connect
from consumers.event_commands.outcome import Outcome
from consumers.event_commands.timing import step
from contracts import topology, wire
from contracts.domain_events import SalesCounted
from contracts.ids import EventId
from contracts.replies import AddressedReply
from contracts.settings import Settings

# Longer than any ingress waits; after that nobody is there to read it.
REPLY_EXPIRES_SECONDS = 60


class Replies:
    """A connection for what leaves after a commit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractChannel | None = None

    async def __aenter__(self) -> Self:
        self._connection = await connect(self._settings, "worker", name="commands replies")
        self._channel = await self._connection.channel(publisher_confirms=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def send(self, event_id: EventId, outcome: Outcome) -> None:
        """Everything a committed batch has to say. Raises when the connection is gone: the batch is then delivered again,
        finds its own results, and says the same."""
        with step("reply", parent=outcome.traceparent):
            # The changes first: whoever hears that his seats are released and asks for them again at once must not meet
            # an ingress that still believes them held.
            for sale, committed_at_ms in zip(outcome.sales, outcome.committed_at_ms, strict=True):
                for changed in sale.seats_changed():
                    body = wire.encode_domain_event(changed)
                    headers: dict[str, FieldValue] = {wire.COMMITTED_AT_HEADER: committed_at_ms}
                    await self._publish(topology.SEAT_CHANGES, str(event_id), changed.type, body, headers=headers)
            for reply_to, replies in _by_asker(outcome).items():
                await self._publish(
                    topology.REPLIES, reply_to, wire.REPLIES_TYPE, wire.encode_replies(replies), expires=True
                )
            await self._tell_of_sales(event_id, outcome)

    async def _tell_of_sales(self, event_id: EventId, outcome: Outcome) -> None:
        sold = [(order, seats) for sale in outcome.sales for order, seats in sale.sold_orders]
        reserved_count = sum(sale.seats_reserved_count for sale in outcome.sales)
        if not sold and not reserved_count:
            return
        sale = outcome.sales[-1]
        counted = SalesCounted.model_construct(
            event_id=event_id,
            minute_at=_minute(sale.now),
            seats_reserved=reserved_count,
            seats_sold=sum(len(seats) for _, seats in sold),
            orders_completed=len(sold),
            revenue=sum((order.total for order, _ in sold), Decimal(0)),
            currency=sale.terms.currency,
        )
        await self._publish(topology.TELEMETRY, topology.SALES_KEY, counted.type, wire.encode_domain_event(counted))

    async def _publish(
        self,
        exchange: str,
        routing_key: str,
        type_: str,
        body: bytes,
        *,
        expires: bool = False,
        headers: dict[str, FieldValue] | None = None,
    ) -> None:
        if self._channel is None:
            raise ConnectionError("replies are not connected")
        message = aio_pika.Message(
            body,
            type=type_,
            content_type=wire.CONTENT_TYPE,
            headers=headers,
            expiration=REPLY_EXPIRES_SECONDS if expires else None,
        )
        target = await self._channel.get_exchange(exchange, ensure=False)
        await target.publish(message, routing_key, mandatory=False, timeout=CONNECT_TIMEOUT_SECONDS)


def _by_asker(outcome: Outcome) -> dict[str, list[AddressedReply]]:
    """One message per asker; who gave no address is not told."""
    replies: defaultdict[str, list[AddressedReply]] = defaultdict(list)
    for answer in outcome.answered:
        command = answer.asked.command
        if answer.asked.reply_to and command.correlation_id:
            replies[answer.asked.reply_to].append(
                AddressedReply(command.correlation_id, command.command_id, answer.reply)
            )
    for late in outcome.late_replies:
        replies[late.reply_to].append(AddressedReply(late.correlation_id, late.command_id, late.reply))
    return replies


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
