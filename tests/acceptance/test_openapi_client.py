"""Is the OpenAPI file alone enough to write a client that finds an event, watches its seats and reserves two?

The client is made by a generator that knows nothing of us; this test uses only what it made.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from ops.stack import Stack
from tests.builders import OnSale

DOCUMENT = Path(__file__).parents[2] / "contracts" / "openapi.json"
DOCUMENT_OF_TODAY = json.loads(DOCUMENT.read_text(encoding="utf-8"))
PACKAGE = "boxoffice_client"
FILES = ("application/gzip", "application/pdf", "image/png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the generated client, from which it can be imported."""
    folder = tmp_path_factory.mktemp("client")
    config = folder / "config.yml"
    # The hooks would format the client, and there is nobody to read it. Of files it knows text and bytes, by these names.
    read_as = {"image/svg+xml": "text/plain", **dict.fromkeys(FILES, "application/octet-stream")}
    config.write_text(json.dumps({"post_hooks": [], "content_type_overrides": read_as}), encoding="utf-8")
    said = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DOCUMENT), "--meta", "none"),
            *("--config", str(config), "--output-path", str(folder / PACKAGE), "--fail-on-warning"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


class Generated:
    """The generated package: `call` asks an operation by its name, `model` is a class of a schema."""

    def __init__(self, url: str) -> None:
        self.http = importlib.import_module(PACKAGE).Client(base_url=url)

    async def call(self, tag: str, operation: str, *path: Any, **given: Any) -> Any:
        """The parsed answer."""
        module = importlib.import_module(f"{PACKAGE}.api.{tag}.{operation}")
        return (await module.asyncio_detailed(*path, client=self.http, **given)).parsed

    def model(self, name: str) -> Any:
        """A class of the package."""
        return getattr(importlib.import_module(f"{PACKAGE}.models"), name)


@asynccontextmanager
async def watched(client: Generated, event_id: UUID, after: int) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """The messages of the stream. The generator knows no streams; the address and the frames are the document's all the same."""
    stream = importlib.import_module(f"{PACKAGE}.api.live_seats.stream_seats")
    request = stream._get_kwargs(event_id, after=after)
    answers = DOCUMENT_OF_TODAY["paths"]["/api/events/{eventId}/seats/stream"]["get"]["responses"]
    frames = answers["200"]["content"]["text/event-stream"]["x-frames"]
    models = {kind: client.model(schema["$ref"].rsplit("/", 1)[-1]) for kind, schema in frames.items()}

    async def messages(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
        kind = ""
        async for line in lines:
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind in models:
                yield kind, models[kind].from_dict(json.loads(value))

    async with client.http.get_async_httpx_client().stream(**request) as response:
        assert response.status_code == 200
        yield messages(response.aiter_lines())


async def test_a_client_made_from_the_file_finds_watches_and_reserves(
    made: Path, event: OnSale, running_system: Stack
) -> None:
    venue_id = await event.pool.fetchval("SELECT venue_id FROM events WHERE id = $1", event.event_id)
    client = Generated(running_system.environment()["BOXOFFICE_PUBLIC_URL"])
    async with client.http:
        await find_watch_and_reserve(client, venue_id)


async def find_watch_and_reserve(client: Generated, venue_id: UUID) -> None:
    await client.call(
        "auth", "register", body=client.model("RegisterRequest")(f"{uuid4().hex}@example.org", "correct horse", "Zoe")
    )
    found = await client.call("events", "list_events", q="test of patiense", venue_id=venue_id)
    assert [card.name for card in found.events] == ["A test of patience"]
    event_id = found.events[0].id

    map_ = await client.call("live_seats", "show_map", event_id)
    seats = [seat for section in map_.sections for row in section.rows for seat in row.seats]
    availability = await client.call("live_seats", "show_availability", event_id)
    free = [index for index, status in enumerate(availability.seats) if status == "a"]
    assert len(seats) == len(availability.seats) == 60

    async with watched(client, event_id, availability.version) as frames:
        wanted = [seats[index].id for index in free[:2]]
        body = client.model("ReserveRequest")(event_id=event_id, seat_ids=wanted)
        hold = await client.call("seats", "reserve_seats", body=body, idempotency_key=uuid4().hex)
        assert isinstance(hold, client.model("SeatsReserved"))
        assert {seat.seat_id for seat in hold.seats} == set(wanted)
        assert hold.total == "90.00"
        async for kind, frame in frames:
            if kind == "seats":
                assert frame.previous >= availability.version
                assert sorted(frame.changes.to_dict()["h"]) == free[:2]
                break
    refused = await client.call("seats", "reserve_seats", body=body)
    assert isinstance(refused, client.model("Problem"))
    assert refused.code == "seats_unavailable"
