"""Does the live server do what its own document says, whatever is thrown at it, and nothing else?

schemathesis with all its checks: every status, header and body is as documented; what does not fit the schemas is refused,
what fits is taken; no route forgets to ask who is there, or shows somebody what is another's.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from schemathesis.openapi.checks import IgnoredAuth, JsonSchemaError, UndefinedStatusCode

from ops.stack import Stack
from tests.acceptance.conftest import Buyer
from tests.acceptance.sessions import log_in_as_admin, session_of
from tests.builders import OnSale

CONFIG = Path(__file__).with_name("schemathesis.toml")
TIMEOUT_SECONDS = 240


class Said(NamedTuple):
    """How schemathesis ended, and its report."""

    code: int
    text: str


@pytest.mark.timeout(TIMEOUT_SECONDS + 60)
async def test_the_server_keeps_to_its_document(
    buyer: Buyer, event: OnSale, running_system: Stack, tmp_path: Path
) -> None:
    said = await asked(f"{url_of(running_system)}/openapi.json", buyer, event, tmp_path)
    assert said.code == 0, said.text


@pytest.mark.timeout(TIMEOUT_SECONDS + 60)
async def test_so_it_does_for_administrators(
    buyer: Buyer, event: OnSale, running_system: Stack, tmp_path: Path
) -> None:
    await log_in_as_admin(buyer, event.pool)
    # Elsewhere their role makes no difference.
    tags = ("events", "venues", "admin_waiting_room", "door", "admin_door", "codes", "admin_codes")
    words = [word for tag in tags for word in ("--include-tag", tag)]
    said = await asked(f"{url_of(running_system)}/openapi.json", buyer, event, tmp_path, *words)
    assert said.code == 0, said.text


@pytest.mark.timeout(TIMEOUT_SECONDS + 60)
async def test_a_server_that_does_something_else_is_seen(
    buyer: Buyer, event: OnSale, running_system: Stack, tmp_path: Path
) -> None:
    """The negative control: the document promises of three routes what they do not do."""
    document = spoiled(await document_of(running_system))
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    said = await asked(str(file), buyer, event, tmp_path, "--url", url_of(running_system))
    assert said.code == 1, said.text
    for failure in (UndefinedStatusCode, JsonSchemaError, IgnoredAuth):
        assert f"- {failure.code} " in said.text, said.text


def spoiled(document: dict[str, Any]) -> dict[str, Any]:
    paths = document["paths"]
    del paths["/api/auth/me"]["get"]["responses"]["200"]
    paths["/health"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "string"}
    paths["/metrics"]["get"]["security"] = paths["/api/auth/me"]["get"]["security"]
    document["paths"] = {path: paths[path] for path in ("/api/auth/me", "/health", "/metrics")}
    return document


async def asked(location: str, buyer: Buyer, event: OnSale, folder: Path, *words: str) -> Said:
    """What schemathesis says of the document at `location`, asking as this buyer and mostly about this event."""
    venue_id = await event.pool.fetchval("SELECT venue_id FROM events WHERE id = $1", event.event_id)
    config = folder / "schemathesis.toml"
    known = (
        CONFIG.read_text(encoding="utf-8").replace("EVENT_ID", str(event.event_id)).replace("VENUE_ID", str(venue_id))
    )
    config.write_text(known, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(config),
            "run",
            location,
            "--no-color",
            *words,
        ),
        cwd=folder,
        env={**os.environ, "BOXOFFICE_SESSION": session_of(buyer)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            text, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return Said(process.returncode or 0, text.decode(errors="replace"))


async def document_of(system: Stack) -> dict[str, Any]:
    async with aiohttp.ClientSession(url_of(system)) as http, http.get("/openapi.json") as response:
        document: dict[str, Any] = await response.json()
        return document


def url_of(system: Stack) -> str:
    return system.environment()["BOXOFFICE_PUBLIC_URL"]
