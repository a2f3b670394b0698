"""What is read rather than counted is as it is when somebody asks."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from consumers.circuit_breaker import CircuitBreaker
from consumers.delivery_figures import queue_label
from db.telemetry import metrics
from db.telemetry.metrics import OTHER_EVENTS, event_label, keep_events, of_events
from db.telemetry.pools import Fill, PoolFigures
from db.telemetry.readings import READINGS, Growth, Readings


def read(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.fixture
def readings() -> Readings:
    return Readings()


@pytest.fixture
def registry(readings: Readings) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(readings)
    return made


def test_a_gauge_is_read_at_every_scrape(readings: Readings, registry: CollectorRegistry) -> None:
    things: list[int] = []
    gauge = readings.gauge("things", "Things")
    readings.often(lambda: gauge.set(len(things)))
    assert read(registry, "things") == 0
    things.append(1)
    assert read(registry, "things") == 1


def test_a_counter_grows_by_what_the_number_grew(readings: Readings, registry: CollectorRegistry) -> None:
    seen = 3
    growth = Growth(readings.counter("seen_total", "Seen"), lambda: seen)
    readings.often(growth.take)
    assert read(registry, "seen_total") == 3
    seen = 5
    assert read(registry, "seen_total") == 5
    # Somebody else's number begins anew, the counter does not.
    readings.no_more(growth.take)
    readings.often(Growth(growth._counter, lambda: 2).take)
    assert read(registry, "seen_total") == 7


def test_a_figure_that_cannot_be_read_costs_no_other(
    readings: Readings, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    gauge = readings.gauge("things", "Things")
    readings.often(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    readings.often(lambda: gauge.set(7))
    assert read(registry, "things") == 7
    assert "figure_not_read" in caplog.text


class Pool:
    def __init__(self, in_use: int, most: int) -> None:
        self.fill: Fill | None = Fill(in_use, in_use, most)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch, readings: Readings) -> PoolFigures:
    monkeypatch.setattr("db.telemetry.pools.READINGS", readings)
    return PoolFigures("store", "the store")


def test_pools_add_up_but_for_what_is_left(pools: PoolFigures, registry: CollectorRegistry) -> None:
    busy, idle, small = Pool(10, 10), Pool(1, 6), Pool(2, 2)
    for pool in (busy, idle, small):
        pools.watch(lambda pool=pool: pool.fill)  # type: ignore[misc]
    assert read(registry, "store_connection_pool_size") == 13
    assert read(registry, "store_connection_pool_in_use") == 13
    assert read(registry, "store_connection_pool_max") == 18
    assert read(registry, "store_connection_pool_available") == 0, "another pool's idle connections help nobody"
    busy.fill = None
    assert read(registry, "store_connection_pool_available") == 5, "and a pool that is closed needs none"
    idle.fill = None
    assert read(registry, "store_connection_pool_available") == float("inf"), "one of two is for one job"


def test_of_breakers_of_one_name_the_worst_is_shown() -> None:
    now = 0.0

    def state() -> float:
        READINGS.take()
        [family] = [family for family in READINGS.collect() if family.name == "circuit_breaker_state"]
        return next((one.value for one in family.samples if one.labels == {"name": "of a test"}), -1.0)

    assert state() == -1
    breakers = [CircuitBreaker(name="of a test", failures=1, open_seconds=10, clock=lambda: now) for _ in range(2)]
    assert state() == 0
    breakers[1].failed()
    assert state() == 2
    now = 10.0
    assert state() == 1
    breakers.clear()
    assert state() == -1, "a breaker that nobody uses any more is not shown"


@pytest.mark.parametrize(
    ("queue", "label"),
    [
        ("tk.cmd.e.5a0c1c52-0f4e-4d3f-9f0e-0d7f7b6f2a11", "tk.cmd.e"),
        ("tk.cmd.s07", "tk.cmd.s"),
        ("tk.work.payments", "tk.work.payments"),
    ],
)
def test_queues_of_events_count_as_one(queue: str, label: str) -> None:
    assert queue_label(queue) == label


@pytest.fixture
def of_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event is on sale before this test, nor after it."""
    monkeypatch.setattr(metrics, "_of_events", [])
    monkeypatch.setattr(metrics, "_on_sale", frozenset())


def test_an_events_series_go_when_its_sale_is_over(of_no_event: None) -> None:
    registry = CollectorRegistry()
    sold = of_events(Counter("sold_total", "Sold", ["event_id", "how"], registry=registry))
    keep_events({"one", "two"})
    for event in ("one", "two", "three"):
        sold.labels(event_label(event), "cash").inc()
    assert [read(registry, "sold_total", event_id=event, how="cash") for event in ("one", "two", OTHER_EVENTS)] == [
        1
    ] * 3
    assert read(registry, "sold_total", event_id="three", how="cash") is None
    keep_events({"two"})
    assert read(registry, "sold_total", event_id="one", how="cash") is None
    assert read(registry, "sold_total", event_id="two", how="cash") == 1
    assert event_label("one") == OTHER_EVENTS
