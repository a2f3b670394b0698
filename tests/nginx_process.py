"""How does a test get an nginx of its own, in front of whatever listens on these ports?"""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ops.stack import binaries
from ops.stack.nginx import CONFIGURATION, Nginx
from ops.stack.ports import OFFSETS
from ops.stack.server import Site
from tests.eventually import eventually
from tests.ingress_process import a_free_port

Edit = Callable[[str], str]


def as_it_is(text: str) -> str:
    """The configuration of production."""
    return text


@asynccontextmanager
async def an_nginx(ports: Mapping[str, int], *, edit: Edit = as_it_is) -> AsyncIterator[str]:
    """nginx with our configuration, or an edited copy of it, before `{"ingress-1": port, …}`; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        binaries.install(["nginx"], log=Path(folder) / "apt.log", say=lambda _: None)
        site = Site("nginx", Path(folder), dict.fromkeys(OFFSETS, 0) | {"api": a_free_port()}, {})
        server = Nginx(site, ports)
        server.prepare()
        (server.data_folder / CONFIGURATION.name).write_text(edit(CONFIGURATION.read_text()))
        with (Path(folder) / "nginx.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*server.launch().command, stderr=log)
        try:
            await eventually(lambda: asyncio.to_thread(server.answers), within_seconds=20)
            yield server.url
        finally:
            process.send_signal(signal.SIGTERM)  # at once, streams and all
            await process.wait()
