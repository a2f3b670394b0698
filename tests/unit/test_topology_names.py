"""Do the names of queues and keys say what they should, and the same to everybody for ever?"""

import re
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import topology
from contracts.ids import CommandId, EventId, UserId, command_id_of_key

# Computed once and written down: a lane that moves while messages are under way would put an event's commands out of order.
LANES_FOR_EVER = {
    "00000000-0000-4000-8000-000000000001": 30,
    "0b6c2f0e-6f0a-4c0e-9a64-2a9f2b1f7c11": 12,
    "ffffffff-ffff-4fff-bfff-ffffffffffff": 29,
}
A_USER = UserId(UUID("1c2d3e4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f"))


@pytest.mark.parametrize(("event_id", "lane"), LANES_FOR_EVER.items())
def test_an_event_keeps_its_lane_for_ever(event_id: str, lane: int) -> None:
    assert topology.lane_of(EventId(UUID(event_id))) == lane


@given(st.uuids())
def test_every_event_has_one_of_the_lanes_that_are_declared(event_id: UUID) -> None:
    declared = {queue.name for queue in topology.QUEUES}
    assert topology.lane_queue(topology.lane_of(EventId(event_id))) in declared


def test_the_lanes_share_the_events_about_equally() -> None:
    counts = [0] * topology.LANE_COUNT
    for number in range(32_000):
        counts[topology.lane_of(EventId(UUID(int=number)))] += 1
    assert 800 < min(counts) <= max(counts) < 1200


def test_a_command_is_routed_by_its_event_alone() -> None:
    event_id = EventId(uuid4())
    assert topology.command_routing_key(event_id) == topology.command_routing_key(event_id)
    lane = topology.lane_of(event_id)
    assert topology.command_routing_key(event_id) == f"s{lane:02d}.e{event_id}"


def test_no_two_things_of_the_broker_have_the_same_name() -> None:
    for things in (topology.EXCHANGES, topology.QUEUES, topology.POLICIES, topology.USERS):
        names = [thing.name for thing in things]
        assert len(set(names)) == len(names)
    assert len(set(topology.BINDINGS)) == len(topology.BINDINGS)


def test_the_queue_of_an_event_has_the_limits_of_a_command_queue() -> None:
    commands = next(policy for policy in topology.POLICIES if policy.name == "commands")
    for name in (topology.event_queue(EventId(uuid4())), topology.lane_queue(0), topology.lane_queue(31)):
        assert re.search(commands.pattern, name), name
    for name in (topology.COMMANDS, topology.PARKING_QUEUE, "tk.cmd.s100"):
        assert not re.search(commands.pattern, name), name


@pytest.mark.parametrize("seconds", [1, 8, 600, 1200])
def test_a_wait_queue_is_named_after_what_it_does(seconds: int) -> None:
    queue = topology.wait_queue(seconds)
    assert queue.name == topology.hold_wait_queue(seconds) == f"tk.hold.wait.{seconds}s"
    assert queue.arguments["x-message-ttl"] == seconds * 1000
    assert str(seconds) in topology.hold_arm_key(seconds)


def test_a_retry_waits_as_long_as_its_exchange_says() -> None:
    ttl_of = {queue.name: queue.arguments.get("x-message-ttl") for queue in topology.QUEUES}
    for delay in topology.RETRY_DELAYS_SECONDS:
        assert ttl_of[topology.retry_exchange(delay)] == delay * 1000


@pytest.mark.parametrize(
    ("user", "may", "may_not"),
    [
        ("ingress", "tk.cmd", "tk.evt"),
        ("worker", "tk.reply", "tk.cmd"),
        ("courier", "tk.cmd", "tk.seats"),
        ("operator", None, "tk.cmd"),
    ],
)
def test_who_may_write_where(user: str, may: str | None, may_not: str) -> None:
    (permissions,) = [one for one in topology.USERS if one.name == user]
    assert may is None or re.search(permissions.write, may)
    assert not re.search(permissions.write, may_not)


@pytest.mark.parametrize(("user", "reads"), [("ingress", False), ("worker", True), ("courier", False)])
def test_only_workers_take_commands(user: str, reads: bool) -> None:
    (permissions,) = [one for one in topology.USERS if one.name == user]
    for queue in (topology.event_queue(EventId(uuid4())), topology.lane_queue(7)):
        assert bool(re.search(permissions.read, queue)) is reads


# ---- ids


def test_an_idempotency_key_is_the_same_command_for_ever() -> None:
    expected = CommandId(UUID("32e2ffa8-9058-5a31-b094-c1abb79e1b57"))
    assert command_id_of_key(user_id=A_USER, route="checkout", idempotency_key="once") == expected


@pytest.mark.parametrize(
    "other",
    [{"user_id": UserId(uuid4())}, {"route": "reserve"}, {"idempotency_key": "twice"}],
    ids=["user", "route", "key"],
)
def test_another_user_route_or_key_is_another_command(other: dict[str, object]) -> None:
    one = {"user_id": A_USER, "route": "checkout", "idempotency_key": "once"}
    assert command_id_of_key(**one) != command_id_of_key(**{**one, **other})


def test_no_key_can_be_written_so_that_it_looks_like_another_route() -> None:
    one = command_id_of_key(user_id=A_USER, route="a", idempotency_key="b")
    assert one != command_id_of_key(user_id=A_USER, route="ab", idempotency_key="")
