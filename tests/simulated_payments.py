"""How does a test run the payment simulator, make it fail, kill it and start it again?"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from ops.payment_simulator.log_reader import MoneyLog, read_money_log

START_SECONDS = 20.0
POLL_SECONDS = 0.01
HEADERS = {"Authorization": "Bearer sk_test_of_the_tests"}


class RunningSimulator:
    """One simulator process over one log; the log outlives the process."""

    def __init__(self, folder: Path, *options: str, control: bool = True) -> None:
        self.log = folder / "payments.jsonl"
        self._port_file = folder / "port"
        self._options = [*options, *(["--control"] if control else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        arguments = ["--port", "0", "--port-file", str(self._port_file), "--log", str(self.log), *self._options]
        self._process = subprocess.Popen([sys.executable, "-m", "ops.payment_simulator", *arguments])
        deadline = time.monotonic() + START_SECONDS
        while not self._port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError("the payment simulator did not start")
            time.sleep(POLL_SECONDS)
        self.url = f"http://127.0.0.1:{self._port_file.read_text().strip()}"

    def kill(self) -> None:
        """As a power cut: SIGKILL, no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def money(self) -> MoneyLog:
        return read_money_log(self.log)

    async def script(self, operation: str, fault: str, **details: Any) -> None:
        """Make the next such call go wrong; `times=None` for all of them."""
        await self.control("POST", "faults", {"operation": operation, "fault": fault, **details})

    async def fired(self) -> list[int]:
        """How often each scripted fault has struck, in the order they were scripted."""
        return [fault["fired_count"] for fault in (await self.control("GET", "faults"))["data"]]

    async def clear_faults(self) -> None:
        await self.control("DELETE", "faults")

    async def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A control command; raises aiohttp.ClientResponseError when the simulator refuses it."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.request(method, f"{self.url}/control/{path}", json=body) as response,
        ):
            return await response.json()

    async def post(
        self, path: str, form: Mapping[str, str], key: str | None = None, headers: Mapping[str, str] = HEADERS
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """A bare HTTP call, where bytes and headers matter; raises aiohttp.ClientError when there is no reply."""
        sent = dict(headers) if key is None else {**headers, "Idempotency-Key": key}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}{path}", data=form, headers=sent) as response,
        ):
            return response.status, await response.read(), response.headers
