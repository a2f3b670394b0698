"""How does a test get an ingress process of its own?"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from contracts.settings import PREFIX, Settings
from tests.eventually import eventually


def a_free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a process that is to have exactly these settings."""
    others = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    return others | {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.model_dump().items()}


# What the interpreter is told: `python -m ingress`.
AS_ALWAYS = ("-m", "ingress")


async def start_ingress(settings: Settings, arguments: Sequence[str] = AS_ALWAYS) -> asyncio.subprocess.Process:
    """An ingress process of exactly these settings, in a group of its own; its log is on `stderr`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment_of(settings),
        start_new_session=True,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def an_ingress(
    settings: Settings, *, arguments: Sequence[str] = AS_ALWAYS, **overrides: Any
) -> AsyncIterator[str]:
    """A running ingress with these settings; yields its address. It need not be ready (a server of its may be away)."""
    port = a_free_port()
    url = f"http://127.0.0.1:{port}"
    ours = settings.model_copy(update={"http_port": port, "public_url": url, **overrides})
    process = await start_ingress(ours, arguments)
    try:
        await eventually(lambda: _answers(url), within_seconds=30)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as client, client.get(f"{url}/live") as response:
            return response.status < 500
    except aiohttp.ClientError:
        return False
