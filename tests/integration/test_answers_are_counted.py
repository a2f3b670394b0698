"""Whatever a client is told is counted, once, under the template of its route."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from tests.builders import OnSale
from tests.eventually import eventually
from tests.exposition import Exposition, read_metrics

REQUESTS, DURATIONS = "http_requests_total", "http_request_duration_seconds_count"
EVENT = "/api/events/<event_id>"


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("GET", "/api/events", "/api/events", 200),
        ("HEAD", "/api/events", "/api/events", 200),
        ("GET", "/api/events/5a0c1c52-0f4e-4d3f-9f0e-0d7f7b6f2a11", EVENT, 404),
        ("GET", "/api/nothing", "other", 404),
        ("DELETE", "/api/events", "other", 405),
        ("POST", "/api/seats/reserve", "/api/seats/reserve", 401),
        ("GET", "/live", "/live", 204),
    ],
)
async def test_answers(ingress_url: str, method: str, path: str, endpoint: str, status: int) -> None:
    labels = {"method": method, "endpoint": endpoint}
    before = await read_metrics(ingress_url)
    async with aiohttp.ClientSession(ingress_url) as client, client.request(method, path) as answer:
        assert answer.status == status
    await grown(ingress_url, before, REQUESTS, status=str(status), **labels)
    await grown(ingress_url, before, DURATIONS, **labels)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n", "501", id="a method of nobody"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400", id="a head that is odd"),
    ],
)
async def test_what_no_router_has_seen(ingress_url: str, head: bytes, status: str) -> None:
    before = await read_metrics(ingress_url)
    host, _, port = ingress_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head)
    assert status.encode() in await reader.readline()
    writer.close()
    await writer.wait_closed()
    after = await grown(ingress_url, before, REQUESTS, method="other", endpoint="other", status=status)
    timed = {"method": "other", "endpoint": "other"}
    assert after.value(DURATIONS, **timed) == before.value(DURATIONS, **timed), "it has no beginning"


@pytest.mark.parametrize("kind", ["stream", "socket"])
async def test_a_stream_is_counted_when_it_begins(ingress_url: str, sale: OnSale, kind: str) -> None:
    before = await read_metrics(ingress_url)
    labels = {"method": "GET", "endpoint": f"{EVENT}/seats/{kind}"}
    path = f"/api/events/{sale.event_id}/seats/{kind}"
    async with aiohttp.ClientSession(ingress_url) as client:
        opened = client.ws_connect(path) if kind == "socket" else client.get(path)
        async with opened:
            status = "101" if kind == "socket" else "200"
            after = await grown(ingress_url, before, REQUESTS, status=status, **labels)
            assert after.value("boxoffice_seat_streams") == before.value("boxoffice_seat_streams") + 1
    assert after.value(DURATIONS, **labels) == before.value(DURATIONS, **labels)


async def grown(url: str, before: Exposition, sample_name: str, **labels: str) -> Exposition:
    """What is said once that sample is one more than before."""

    async def one_more() -> Exposition | None:
        now = await read_metrics(url)
        assert now.value(sample_name, **labels) <= before.value(sample_name, **labels) + 1
        return now if now.value(sample_name, **labels) > before.value(sample_name, **labels) else None

    condition: Callable[[], object] = one_more
    seen = await eventually(condition)
    assert isinstance(seen, Exposition)
    return seen
