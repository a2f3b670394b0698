"""After a purchase every process says what it did, under the names that the seed and ops/metrics.md give."""

import re
from collections.abc import Iterable
from uuid import UUID

import pytest

from ops.metrics_page import all_metrics
from ops.stack import Stack
from tests.acceptance.conftest import Buyer
from tests.builders import OnSale
from tests.eventually import eventually
from tests.exposition import Exposition, read_metrics

# The seed's, with what it says of each. Its quantiles are recorded from the buckets of a histogram.
SEEDS = {
    "http_requests_total": ("counter", {"method", "endpoint", "status"}),
    "http_request_duration_seconds": ("histogram", {"method", "endpoint"}),
    "seats_reserved_total": ("counter", {"event_id"}),
    "seats_sold_total": ("counter", {"event_id"}),
    "checkout_completed_total": ("counter", {"event_id"}),
    "checkout_failed_total": ("counter", {"event_id", "reason"}),
    "checkout_duration_seconds": ("histogram", {"event_id"}),
    "available_seats": ("gauge", {"event_id"}),
    "seat_lock_attempts_total": ("counter", {"event_id", "result"}),
    "queue_length": ("gauge", {"event_id"}),
    "queue_wait_time_seconds": ("histogram", {"event_id"}),
    "active_sessions": ("gauge", {"event_id"}),
    "redis_connection_pool_size": ("gauge", set()),
    "postgres_connection_pool_size": ("gauge", set()),
    "postgres_query_duration_seconds": ("histogram", {"query_type"}),
}
# Whose ids there may be: few, because only events on sale have series of their own.
BOUNDED_IDS = {"event_id", "queue"}
SUFFIXES = re.compile(r"_(total|bucket|sum|count)$")


class Everywhere:
    """The pages of all our processes."""

    def __init__(self, pages: Iterable[Exposition]) -> None:
        self.pages = list(pages)

    @classmethod
    async def read(cls, system: Stack) -> "Everywhere":
        ports = (system.ports["api"], system.ports["metrics"])
        return cls([await read_metrics(f"http://127.0.0.1:{port}") for port in ports])

    def value(self, sample_name: str, **labels: str) -> float:
        return sum(page.value(sample_name, **labels) for page in self.pages)

    def types(self) -> dict[str, str]:
        """The type of each metric, by its name."""
        families = [family for page in self.pages for family in page.families]
        return {_full_name(family.name, family.type): family.type for family in families}


def _full_name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


@pytest.fixture
async def sold(running_system: Stack, event: OnSale, buyer: Buyer) -> Everywhere:
    """What is said after one order."""
    # Looked at first, so that the ingress follows the event.
    assert (await buyer.send("GET", f"/api/events/{event.event_id}/availability")).status == 200
    hold = await buyer.reserve(event, 0, 1)
    assert hold.status == 201
    assert (await buyer.check_out(event, hold)).status == 201
    assert (await buyer.send("GET", "/nothing/of/ours")).status == 404
    assert (await buyer.send("HEAD", "/api/events")).status == 200

    async def is_told() -> Everywhere | None:
        said = await Everywhere.read(running_system)
        captured = said.value("boxoffice_payment_call_seconds_count", operation="capture", outcome="answered")
        return said if captured and said.value("boxoffice_seat_view_lag_seconds_count") else None

    return await eventually(is_told)  # type: ignore[return-value]


async def test_everything_the_seed_asks_for_is_there(sold: Everywhere) -> None:
    assert {name: kind for name, (kind, _) in SEEDS.items()} == {
        name: kind for name, kind in sold.types().items() if name in SEEDS
    }
    described = {one.name: set(one.labels) for one in all_metrics()}
    assert {name: labels for name, (_, labels) in SEEDS.items()} == {name: described[name] for name in SEEDS}


async def test_every_series_is_as_it_is_documented(sold: Everywhere) -> None:
    described = {one.name: one for one in all_metrics()}
    for page in sold.pages:
        for family in page.families:
            name = _full_name(family.name, family.type)
            if name.startswith(("process_", "python_")):
                continue
            assert family.type == described[name].kind, name
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(described[name].labels), sample
                assert SUFFIXES.sub("", sample.name) == SUFFIXES.sub("", name)


async def test_no_label_holds_what_there_may_be_many_of(sold: Everywhere) -> None:
    templates = re.compile(r"other|/|(/[a-zA-Z.-]+|/[a-z.-]*<[a-z_]+>[a-z.-]*)+")
    for page in sold.pages:
        for family in page.families:
            for sample in family.samples:
                for label, value in sample.labels.items():
                    assert "@" not in value, sample
                    assert label in BOUNDED_IDS or not _holds_an_id(value), sample
                    assert label != "endpoint" or templates.fullmatch(value), sample


def _holds_an_id(value: str) -> bool:
    for word in re.findall(r"[0-9a-f-]{32,36}", value):
        try:
            UUID(word)
        except ValueError:
            continue
        return True
    return False


async def test_one_order_is_seen_all_the_way(sold: Everywhere, event: OnSale) -> None:
    answered = {"method": "POST", "status": "201"}
    assert sold.value("http_requests_total", endpoint="/api/seats/reserve", **answered) >= 1
    assert sold.value("http_requests_total", endpoint="/api/checkout", **answered) >= 1
    assert sold.value("http_request_duration_seconds_count", endpoint="/api/checkout", method="POST") >= 1
    assert sold.value("http_requests_total", endpoint="other", method="GET", status="404") >= 1
    assert sold.value("http_requests_total", endpoint="/api/events", method="HEAD", status="200") >= 1
    assert sold.value("boxoffice_commands_per_message_count") >= 2
    # Both commands, and what the payment stage told of the second.
    assert sold.value("boxoffice_command_age_seconds_count") >= 3
    assert sold.value("boxoffice_command_age_seconds_sum") < 60 * sold.value("boxoffice_command_age_seconds_count")
    assert sold.value("postgres_query_duration_seconds_count", query_type="sale") >= 2
    assert sold.value("postgres_query_duration_seconds_count", query_type="commit") >= 2
    assert sold.value("boxoffice_payment_call_seconds_count", operation="confirm", outcome="answered") >= 1
    for name in ("redis_locks", "waiting_room", "payment_provider"):
        assert [labels for page in sold.pages for labels in page.label_sets("circuit_breaker_state")].count(
            {"name": name}
        ) == 1
    for page in sold.pages:
        assert 0 < page.value("postgres_connection_pool_size") <= page.value("postgres_connection_pool_max")
        assert page.value("postgres_connection_pool_available") > 0
        assert page.value("redis_connection_pool_size") > 0
