"""Is the rate of a room decided from what its sale really does, and is what people were shown held against what happened?"""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from consumers.broker import ConfirmedPublisher, persistent_message
from consumers.rules.admission_rate import RateGoals, RateReason
from consumers.waiting_rooms.command_backlog import CommandBacklog, age_ms
from consumers.waiting_rooms.figures import RoomFigures
from consumers.waiting_rooms.steering import UNANSWERED_MIN, Steering
from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings
from contracts.waiting_room import Phase
from db.postgres import Pool, open_pool
from db.sale_measures import count_seats, measure_checkouts
from db.waiting_room import Round, RoundResult
from db.waiting_room_observations import ShownOutlook
from db.waiting_room_records import RoomRecord, set_terms
from tests.admissions_world import AdmissionsWorld, an_admissions_world
from tests.builders import a_user
from tests.conftest import AnEvent
from tests.eventually import eventually
from tests.written_events import seats_of, write_order

GOALS = RateGoals(arrivals_per_second=20.0, capacity=100)


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[AdmissionsWorld]:
    async with an_admissions_world(settings) as world:
        yield world


def figure(name: str, event_id: EventId, **labels: str) -> float | None:
    """What /metrics shows."""
    return REGISTRY.get_sample_value(name, {"event_id": str(event_id), **labels})


async def a_steering(world: AdmissionsWorld, **fields: object) -> tuple[RoomRecord, Steering]:
    """The steering of an open room, without its leader."""
    record = await world.a_record(**fields)  # type: ignore[arg-type]
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await leader.close()
    return record, steering_of(world, record)


def steering_of(world: AdmissionsWorld, record: RoomRecord, *, pool: Pool | None = None) -> Steering:
    with_ = world.resources()
    figures = RoomFigures(record.event_id)
    return Steering(pool or world.pool, world.rooms, with_.observations, world.backlog, figures, record.event_id)


# ---- what is measured


async def test_the_sale_is_measured_from_its_seats_and_its_orders(an_event: AnEvent) -> None:
    sale = await an_event(seats=20)
    for first, count in ((0, 1), (1, 3)):
        await sale.buy(a_user(), sale.seats[first : first + count])
    held = await sale.hold(a_user(), sale.seats[10:12])
    seats = await count_seats(sale.pool, sale.event_id)
    assert (seats.available, seats.held, seats.sold, seats.is_sold_out) == (14, 2, 4, False)
    await sale.end_holds_now(held.hold_id)
    assert (await count_seats(sale.pool, sale.event_id)).available == 16, "a hold that is over can be had"
    await sale.pool.execute(
        "UPDATE orders SET created_at = completed_at - interval '700 ms' WHERE event_id = $1", sale.event_id
    )
    checkouts = await measure_checkouts(sale.pool, sale.event_id)
    assert (checkouts.order_count, checkouts.seats_per_order, checkouts.seats_per_order_deviation) == (2, 2.0, 1.0)
    assert checkouts.p95_ms == pytest.approx(700.0)


async def test_an_event_without_orders_has_nothing_to_measure(world: AdmissionsWorld) -> None:
    event_id = await world.an_event()
    checkouts = await measure_checkouts(world.pool, event_id)
    assert (checkouts.order_count, checkouts.p95_ms, checkouts.seats_per_order) == (0, None, None)


async def test_the_backlog_of_an_event_is_seen_by_somebody_who_may_not_declare_anything(settings: Settings) -> None:
    # A lane that no engine of these tests drains.
    event_id = EventId(uuid4())
    backlog = CommandBacklog(settings)
    before = await backlog.find_depth(event_id)
    assert before is not None
    async with ConfirmedPublisher(settings, "courier", name="test") as publisher:
        for _ in range(3):
            await publisher.publish(
                persistent_message(b"[]", type="test"),
                exchange=topology.COMMANDS,
                routing_key=topology.command_routing_key(event_id),
            )

    async def is_deeper() -> bool:
        return (await backlog.find_depth(event_id) or 0) >= before + 3

    await eventually(is_deeper)
    await backlog.close()
    assert await backlog.find_depth(event_id) is not None, "it connects again"
    await backlog.close()


async def test_a_broker_that_is_away_is_nothing_to_be_careful_about(settings: Settings) -> None:
    backlog = CommandBacklog(settings.model_copy(update={"rabbitmq_url": "amqp://127.0.0.1:9/tk"}))
    assert await backlog.find_depth(EventId(uuid4())) is None
    assert age_ms(None, changes_per_second=1) is None
    await backlog.close()


def test_an_age_is_the_depth_over_the_pace() -> None:
    assert age_ms(0, changes_per_second=0) == 0
    assert age_ms(50, changes_per_second=500) == 100
    assert age_ms(50, changes_per_second=0) == 500


# ---- what is decided


async def test_a_room_begins_slowly_and_the_next_leader_goes_on_from_there(world: AdmissionsWorld) -> None:
    record, steering = await a_steering(world, seat_count=1000)
    steering.begin_slowly()
    facts = await world.rooms.facts(record.event_id)
    first = await steering.step(facts, 0, GOALS)
    assert (first.reason, first.rate) == (RateReason.SLOW_START, pytest.approx(GOALS.arrivals_per_second / 16))
    assert float((await world.rooms.facts(record.event_id))["rate_per_second"]) == pytest.approx(first.rate)
    for _ in range(10):
        await steering.step(facts, 0, GOALS)
    await steering.publish_pulse(facts, Round(RoundResult.OK))
    pulse = await world.resources().observations.find_pulse(record.event_id)
    assert pulse is not None and pulse.state["started_for_seconds"] > 0

    following = await steering_of(world, record).step(facts, 0, GOALS)
    assert following.state.started_for_seconds > pulse.state["started_for_seconds"]


async def test_nobody_comes_in_for_seats_that_are_held_and_fewer_when_few_are_left(world: AdmissionsWorld) -> None:
    record, steering = await a_steering(world, seat_count=40)
    facts = await world.rooms.facts(record.event_id)
    seats = await seats_of(world.pool, record.event_id)
    await world.set_seats(record.event_id, "sold", seats[:-10])
    few = await steering.step(facts, 0, GOALS)
    assert few.capacity == 7, "ten seats are enough for five buyers of two, and some buy nothing"
    await world.set_seats(record.event_id, "held")
    none = await steering.step(facts, 0, GOALS)
    assert (none.rate, none.reason) == (0.0, RateReason.ALL_HELD)
    await world.set_seats(record.event_id, "sold")
    assert (await steering.step(facts, 0, GOALS)).reason is RateReason.SOLD_OUT


async def test_payments_that_nobody_answers_stop_admissions(world: AdmissionsWorld) -> None:
    record, steering = await a_steering(world)
    facts = await world.rooms.facts(record.event_id)
    for number in range(UNANSWERED_MIN):
        assert (await steering.step(facts, 0, GOALS)).reason is not RateReason.PAYMENTS_DOWN, number
        await an_unanswered_payment(world, record.event_id, age=timedelta(seconds=20))
    down = await steering.step(facts, 0, GOALS)
    assert (down.rate, down.reason) == (0.0, RateReason.PAYMENTS_DOWN)
    await world.pool.execute("UPDATE payments SET status = 'authorized'")
    assert (await steering.step(facts, 0, GOALS)).reason is not RateReason.PAYMENTS_DOWN


async def test_payments_of_this_moment_and_of_long_ago_are_no_reason_to_stop(world: AdmissionsWorld) -> None:
    record, steering = await a_steering(world)
    for age in (timedelta(seconds=1), timedelta(hours=1)):
        for _ in range(UNANSWERED_MIN):
            await an_unanswered_payment(world, record.event_id, age=age)
    decision = await steering.step(await world.rooms.facts(record.event_id), 0, GOALS)
    assert decision.reason is not RateReason.PAYMENTS_DOWN


async def an_unanswered_payment(world: AdmissionsWorld, event_id: EventId, *, age: timedelta) -> None:
    order_id, _, _ = await write_order(world.pool, event_id)
    await world.pool.execute(
        "INSERT INTO payments (event_id, order_id, provider_key, amount, currency, payment_method, created_at)"
        " VALUES ($1, $2, $3, 90, 'EUR', 'pm_card_visa', now() - $4::interval)",
        *(event_id, order_id, str(uuid4()), age),
    )


async def test_a_database_that_does_not_answer_slows_the_room(world: AdmissionsWorld) -> None:
    record, _ = await a_steering(world)
    gone = await open_pool(world.settings, application_name="a server that has gone")
    await gone.close()
    steering = steering_of(world, record, pool=gone)
    facts = await world.rooms.facts(record.event_id)
    decisions = [await steering.step(facts, 0, GOALS) for _ in range(3)]
    throttles = [decision.state.throttle for decision in decisions]
    assert throttles == sorted(throttles, reverse=True)
    assert throttles[-1] < 1.0


# ---- what was shown, and what happened


async def test_what_was_shown_is_held_against_what_happened(world: AdmissionsWorld) -> None:
    record, errors = await shown_and_admitted(world, position_error=1.0)
    assert errors["count"] == 1
    assert errors["sum"] == pytest.approx(0.0, abs=0.05)
    assert figure("queue_wait_time_seconds_count", record.event_id) == 30


async def test_a_position_that_was_wrong_shows_as_wrong(world: AdmissionsWorld) -> None:
    _, errors = await shown_and_admitted(world, position_error=2.0)
    assert errors["sum"] == pytest.approx(1.0, abs=0.1)


async def shown_and_admitted(world: AdmissionsWorld, *, position_error: float) -> tuple[RoomRecord, dict[str, float]]:
    """Thirty people are let in; the last one was told so many times the right position, and that it takes a second."""
    record = await world.a_record(seat_count=1000)
    await set_terms(world.pool, record.event_id, rate_per_second=500.0)
    leader = world.a_leader(await world.record(record.event_id))
    await world.reaches(leader, Phase.OPEN)
    people = await world.joined(record.event_id, 30)
    snapshot = await world.rooms.snapshot(record.event_id, fresh_ms=0)
    assert snapshot is not None and snapshot.admitted == 0
    shown = ShownOutlook(
        ticket=30, at_ms=snapshot.at_ms, admitted=0, position=round(30 * position_error), p10=0.1, p50=1.0, p90=60.0
    )
    assert people
    await world.resources().observations.note_shown(record.event_id, [shown])
    world.runs(leader)

    async def all_are_in() -> bool:
        return len(await world.admitted(record.event_id)) == 30

    await eventually(all_are_in, within_seconds=30)
    await eventually(lambda: figure("queue_position_error_ratio_count", record.event_id))
    names = {"count": "queue_position_error_ratio_count", "sum": "queue_position_error_ratio_sum"}
    errors = {key: figure(name, record.event_id) or 0.0 for key, name in names.items()}
    assert figure("queue_eta_error_ratio_count", record.event_id) == 1
    assert figure("queue_eta_in_band_total", record.event_id, came_true="yes") == 1
    assert (figure("queue_inversions_total", record.event_id) or 0) == 0
    return record, errors


async def test_a_room_is_shown_while_it_is_led_and_no_longer(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await world.joined(record.event_id, 3)
    await leader.keep_once()
    await leader.lead_once()
    assert figure("queue_length", record.event_id) is not None
    assert (figure("queue_capacity", record.event_id) or 0) > 0
    await leader.close()
    names = {
        sample.name
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.labels.get("event_id") == str(record.event_id)
    }
    assert names == set()
