"""How many messages and consumers has a queue, as AMQP tells it?"""

import asyncio
from contextlib import suppress

import aiormq.abc
from aio_pika import RobustChannel
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelInvalidStateError

BROKER_TIMEOUT_SECONDS = 10.0


async def count_queue(channel: AbstractChannel, queue: str) -> tuple[int, int]:
    """Ready messages and consumers of the queue, as far as it says so within a quarter of a second: else the broker says
    none of either. Raises ChannelNotFoundEntity."""
    underlay = await channel.get_underlay_channel()
    found = await underlay.queue_declare(queue, passive=True, timeout=BROKER_TIMEOUT_SECONDS)
    return found.message_count or 0, found.consumer_count or 0


async def reopened(channel: AbstractChannel, closed: aiormq.abc.AbstractChannel) -> aiormq.abc.AbstractChannel:
    """The channel's next life, after the broker has closed it over an error; a robust channel comes back by itself."""
    async with asyncio.timeout(BROKER_TIMEOUT_SECONDS):
        while True:
            if channel.is_closed and not isinstance(channel, RobustChannel):
                await channel.reopen()
            with suppress(ChannelInvalidStateError):
                underlay = await channel.get_underlay_channel()
                if underlay is not closed and not underlay.is_closed:
                    return underlay
            await asyncio.sleep(0.01)
