"""When does a queue that has messages count as stuck?"""

import logging
from uuid import uuid4

import pytest

from consumers.stuck_queues import (
    CONSUMED_PATIENCE_SECONDS,
    STAGE_PATIENCE_SECONDS,
    STUCK_QUEUES,
    QueueSeen,
    QueueWatch,
    StuckQueue,
    queues_not_moving,
    show_not_moving,
)
from contracts import topology
from contracts.ids import EventId

PATIENCE = 8.0
EVENT_ID = EventId(uuid4())
QUEUE = topology.event_queue(EVENT_ID)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Looks:
    """Looks at one queue, two seconds apart."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._watch = QueueWatch(patience_seconds=PATIENCE, clock=self._clock)

    def look(self, *seen: QueueSeen, paused: bool = False) -> list[StuckQueue]:
        self._clock.now += 2
        return self._watch.look(seen, events={QUEUE: EVENT_ID}, paused={QUEUE} if paused else ())

    def look_for(self, seconds: float, *seen: QueueSeen, paused: bool = False) -> list[StuckQueue]:
        stuck: list[StuckQueue] = []
        for _ in range(1 + int(seconds / 2)):
            stuck = self.look(*seen, paused=paused)
        return stuck


@pytest.fixture
def looks() -> Looks:
    return Looks()


def seen(ready: int, consumers: int, unacknowledged: int | None = None, acknowledged: int | None = None) -> QueueSeen:
    return QueueSeen(QUEUE, ready, consumers, unacknowledged, acknowledged)


def test_messages_that_nobody_consumes_are_stuck_after_a_while(looks: Looks) -> None:
    assert looks.look_for(PATIENCE - 2, seen(3, 0)) == []
    (stuck,) = looks.look(seen(4, 0))
    assert stuck == StuckQueue(QUEUE, str(EVENT_ID), messages=4, consumers=0, seconds=PATIENCE)


def test_a_queue_without_messages_is_never_stuck(looks: Looks) -> None:
    assert looks.look_for(60, seen(0, 0)) == []
    assert looks.look_for(60, seen(0, 0, 0, 7)) == []


def test_a_consumer_that_acknowledges_nothing_is_no_help(looks: Looks) -> None:
    assert looks.look_for(CONSUMED_PATIENCE_SECONDS - 2, seen(2, 1, 5, 40)) == []
    assert [one.messages for one in looks.look(seen(2, 1, 5, 40))] == [7]


def test_a_stage_may_take_its_time_over_a_message_but_not_for_ever(looks: Looks) -> None:
    mails = QueueSeen(topology.NOTIFICATIONS_QUEUE, 39, 1, 50, 7)
    assert looks.look_for(STAGE_PATIENCE_SECONDS - 2, mails) == []
    assert looks.look(mails) != []


def test_a_stage_that_nobody_runs_is_not_waited_for_that_long(looks: Looks) -> None:
    assert looks.look_for(PATIENCE, QueueSeen(topology.NOTIFICATIONS_QUEUE, 39, 0)) != []


def test_everything_in_the_hands_of_a_consumer_that_hangs_is_stuck_as_well(looks: Looks) -> None:
    assert looks.look_for(CONSUMED_PATIENCE_SECONDS, seen(0, 1, 5, 40)) != []


@pytest.mark.parametrize("more_come", [False, True], ids=["as full as ever", "fuller and fuller"])
def test_a_queue_that_is_worked_off_is_not_stuck_however_full_it_is(looks: Looks, more_come: bool) -> None:
    for look in range(30):
        assert looks.look(seen(500 + look * more_come, 1, 5, 40 + look)) == []


def test_without_the_management_api_a_consumed_queue_moves_when_it_has_fewer_messages(looks: Looks) -> None:
    for look in range(30):
        assert looks.look(seen(500 - look, 1)) == []


def test_without_the_management_api_a_consumed_queue_that_never_has_fewer_is_stuck(looks: Looks) -> None:
    assert looks.look_for(CONSUMED_PATIENCE_SECONDS, seen(500, 1)) != []


def test_a_management_api_that_comes_and_goes_names_nobody_by_mistake(looks: Looks) -> None:
    for look in range(30):
        assert looks.look(seen(0, 1, 5, 40) if look % 2 else seen(0, 1)) == []


def test_a_paused_queue_is_not_stuck_and_its_time_begins_when_it_is_resumed(looks: Looks) -> None:
    assert looks.look_for(60, seen(3, 0), paused=True) == []
    assert looks.look_for(PATIENCE - 4, seen(3, 0)) == []
    assert looks.look_for(4, seen(3, 0)) != []


def test_it_is_told_once_and_once_when_it_moves_again(looks: Looks, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looks.look_for(60, seen(3, 0))
    (told,) = caplog.records
    assert (told.message, told.levelno) == ("queue_stuck", logging.ERROR)
    fields = vars(told)
    assert (fields["queue"], fields["event_id"], fields["messages"], fields["consumers"]) == (
        QUEUE,
        str(EVENT_ID),
        3,
        0,
    )
    caplog.clear()
    looks.look(seen(2, 1))
    looks.look(seen(0, 1))
    assert [record.message for record in caplog.records] == ["queue_moves_again"]


def test_a_queue_that_is_gone_is_stuck_no_longer(looks: Looks, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looks.look_for(60, seen(3, 0))
    assert looks.look() == []
    assert [record.message for record in caplog.records] == ["queue_stuck", "queue_moves_again"]


def test_a_stuck_queue_has_a_series_while_it_is_stuck() -> None:
    stuck = StuckQueue(QUEUE, str(EVENT_ID), 3, 0, 12.0)
    show_not_moving([stuck], paused=["tk.cmd.e.other"])
    try:
        assert queues_not_moving() == ((stuck,), ("tk.cmd.e.other",))
        assert series() == {QUEUE}
    finally:
        show_not_moving([], paused=[])
    assert series() == set()


def series() -> set[str]:
    return {sample.labels["queue"] for metric in STUCK_QUEUES.collect() for sample in metric.samples}
