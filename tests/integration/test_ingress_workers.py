"""Does an ingress of several workers end when it is told to, also in the middle of its start?"""

import asyncio
import signal

import pytest

from contracts.settings import Settings
from tests.ingress_process import AS_ALWAYS, a_free_port, start_ingress

ENDS_WITHIN_SECONDS = 20.0
# The manager as Sanic has it.
WITH_SANICS_MANAGER = (
    "-c",
    "import ingress.__main__ as program\nprogram.end_while_starting = lambda: None\nprogram.main()\n",
)


async def told_to_end_at_its_first_worker(settings: Settings, arguments: tuple[str, ...]) -> asyncio.subprocess.Process:
    """Two workers, of which one has begun and the other has hardly."""
    ours = settings.model_copy(update={"ingress_workers": 2, "http_port": a_free_port()})
    process = await start_ingress(ours, arguments)
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"Worker ready" not in await process.stderr.readline():
            pass
    process.send_signal(signal.SIGTERM)
    return process


async def ended(process: asyncio.subprocess.Process) -> bool:
    """It ends by itself in time; otherwise it is ended, with its workers."""
    try:
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.send_signal(signal.SIGTERM)  # a second one makes Sanic's manager give up
        await process.communicate()
        return False
    return True


async def test_it_ends(settings: Settings) -> None:
    assert await ended(await told_to_end_at_its_first_worker(settings, AS_ALWAYS))


@pytest.mark.slow
async def test_with_sanics_manager_it_does_not(settings: Settings) -> None:
    """The negative control."""
    assert not await ended(await told_to_end_at_its_first_worker(settings, WITH_SANICS_MANAGER))
