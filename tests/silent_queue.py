"""How does a test make a quorum queue that does not answer, for good or for a moment?"""

from contracts import topology
from ops.stack import Stack

# What a node does that was killed just after the queue was declared: it does not find the name of the queue's Raft server,
# and starts another one under that name, empty and with nobody to call for its election.
_FORGET = """
    Name = list_to_atom("{vhost}_{queue}"),
    {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)),
    Uid = ra_directory:uid_of(quorum_queues, Name),
    ok = ra:stop_server(quorum_queues, {{Name, node()}}),
    ra_directory:unregister_name(quorum_queues, Uid),
    rabbit_quorum_queue:recover(<<"{vhost}">>, [Queue]).
"""
_PAUSE = """
    Server = whereis(list_to_atom("{vhost}_{queue}")),
    ok = sys:suspend(Server),
    {{ok, _}} = timer:apply_after({milliseconds}, sys, resume, [Server]).
"""


def lose_leader(stack: Stack, queue: str) -> None:
    """From now on this queue answers nobody, and what was in it is gone, as after a kill at the wrong moment."""
    stack.rabbitmqctl("eval", _FORGET.format(vhost=topology.VHOST, queue=queue))


def pause(stack: Stack, queue: str, *, seconds: float) -> None:
    """This queue answers later, as one under a heavy load does."""
    milliseconds = round(seconds * 1000)
    stack.rabbitmqctl("eval", _PAUSE.format(vhost=topology.VHOST, queue=queue, milliseconds=milliseconds))
