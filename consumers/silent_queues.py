"""Which of these queues does the broker have, and no longer answer for?

A quorum queue without a leader looks like any other: it can be declared and bound, it counts no messages and no consumers,
and whoever consumes it, takes from it or publishes to it hears nothing for a minute. A publisher's whole channel stands
still behind such a message. It comes about when a node is killed just after a queue was declared: RabbitMQ writes the name
of a queue's Raft server to disk up to three seconds late, so the node starts an empty server in its place, which waits for
an election that nobody calls (rabbitmq-server issue #15725; seen on 3.10.8 on one node, reported from clusters of 4.x).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError

from consumers.broker import CONNECT_TIMEOUT_SECONDS, url_for
from contracts.settings import Settings

# A leader answers in milliseconds. One that is choking on its messages may need a second, and is not to be taken for dead.
ANSWER_WITHIN_SECONDS = 5.0
# The broker waits for a channel that hangs before it lets go of a connection: two seconds, as measured.
CLOSE_TIMEOUT_SECONDS = 5.0


async def find_silent_queues(settings: Settings, names: Sequence[str]) -> set[str]:
    """Those that did not answer within ANSWER_WITHIN_SECONDS, all asked at once; ask only about queues that seem empty.

    On a connection of its own: the broker closes a whole connection over a channel that has hung for too long. Raises
    OSError or AMQPError when there is none to be had.
    """
    connection = await aio_pika.connect(
        url_for(settings, "lifecycle", name="lifecycle asks"), timeout=CONNECT_TIMEOUT_SECONDS
    )
    try:
        # Whatever else goes wrong is no silence: nobody loses a queue because a connection broke.
        answers = await asyncio.gather(*(_answers(connection, name) for name in names), return_exceptions=True)
    finally:
        with suppress(AMQPError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await connection.close()
    return {name for name, answer in zip(names, answers, strict=True) if answer is False}


async def _answers(connection: AbstractConnection, name: str) -> bool:
    channel = connection.channel(publisher_confirms=False)
    await channel.initialize(timeout=CONNECT_TIMEOUT_SECONDS)
    underlay = await channel.get_underlay_channel()
    try:
        # The leader itself has to answer this. "No" is an answer: a queue with a single active consumer says that it is
        # locked. Should there be a message after all, it goes back to its place when the connection is closed.
        await underlay.basic_get(name, timeout=ANSWER_WITHIN_SECONDS)
    except TimeoutError:
        return False
    except AMQPError:
        return True
    return True
