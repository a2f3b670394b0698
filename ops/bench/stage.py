"""On what is it measured? Servers and processes of its own, each group of roles in a process that can be told apart."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from contracts.settings import PREFIX, Settings
from ops.stack import Stack, StackProblem
from ops.stack.ports import HOST
from ops.stack.processes import Launch, Process, end, launch, wait_gone
from ops.stack.readiness import http_status
from ops.stack.server import FOREIGN_PREFIXES, REPOSITORY

STACK_NAME, PORT_BASE = "bench", 9800
SERVERS = ("postgres", "redis", "rabbitmq", "mail")

INGRESS, COMMANDS, PAYMENTS, RELAY = "ingress", "commands (engine)", "payments", "relay"
BACK_OFFICE, CARETAKERS = "notifications, webhooks, analytics", "cleanup, lifecycle, admissions"
SIMULATOR, MAIL_CATCHER = "payment simulator", "mail catcher"
POSTGRES, REDIS, RABBITMQ = "PostgreSQL", "Redis", "RabbitMQ"

# How long the simulated payment provider takes for each call.
PROVIDER_DELAY_MS = 50

# What differs from a sale. The gate does all of its work and refuses nobody: our few users ask far too often.
VARIABLES = {"BOXOFFICE_RATE_LIMIT_MULTIPLIER": "1000000"}

START_SECONDS, STOP_SECONDS = 60.0, 25.0
LOOK_SECONDS = 0.1


class Stage:
    """The servers, and our processes on top, which may be started anew with other settings."""

    def __init__(self, say: Callable[[str], None]) -> None:
        # Addresses in the environment are not for us: we fill and empty the servers that we measure.
        self.stack = Stack(STACK_NAME, PORT_BASE, variables={}, say=say)
        self.settings = self._settings({})
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        try:
            self.stack.down()  # what an earlier bench may have left behind
            for name in (*SERVERS, "payments"):
                self.stack.empty(name)
            self.stack.up(SERVERS)
            self.stack.run_module("db.migrate")
            self.stack.run_module("consumers", "declare-topology")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _undisturbed():
            try:
                self.stop_programs()
            finally:
                self.stack.cancelled.clear()  # Ctrl-C sets it, to end waits
                self.stack.down()

    @property
    def groups(self) -> dict[str, Process]:
        """The leader of each group of processes."""
        servers = {POSTGRES: "postgres", REDIS: "redis", RABBITMQ: "rabbitmq", MAIL_CATCHER: "mail"}
        running = {title: self.stack.process(name) for title, name in servers.items()}
        return self._processes | {title: process for title, process in running.items() if process is not None}

    @property
    def url(self) -> str:
        """Where the ingress is."""
        return self.stack.environment()["BOXOFFICE_PUBLIC_URL"]

    @property
    def metrics_ports(self) -> Sequence[int]:
        """Of the ingress and of the commands process, of those that run."""
        names = {INGRESS: "api", COMMANDS: "metrics"}
        return [self.stack.ports[name] for title, name in names.items() if title in self._processes]

    def start_programs(self, variables: Mapping[str, str] | None = None) -> None:
        """Start our processes, with other settings than the defaults if `variables` says so, and wait for them."""
        self.stop_programs()
        self.settings = self._settings(variables or {})
        ports, money_log = self.stack.ports, self.stack.data_folder("payments") / "payments.log"
        quiet = {"BOXOFFICE_METRICS_PORT": "0"}
        roles = ("ops.bench.roles",)
        simulator = ("ops.payment_simulator", "--port", str(ports["payments"]), "--log", str(money_log))
        self._start(SIMULATOR, "payments", (*simulator, "--delay-ms", str(PROVIDER_DELAY_MS)))
        self._start(BACK_OFFICE, "consumers", (*roles, *BACK_OFFICE.split(", ")), {**(variables or {}), **quiet})
        self._start(CARETAKERS, "consumers", (*roles, *CARETAKERS.split(", ")), {**(variables or {}), **quiet})
        self._start(RELAY, "consumers", (*roles, "relay"), {**(variables or {}), **quiet})
        self._start(PAYMENTS, "consumers", (*roles, "payments"), {**(variables or {}), **quiet})
        self._start(COMMANDS, "consumers", (*roles, "commands"), variables)
        self._start(INGRESS, "ingress", ("ingress",), variables)
        self._wait_until_all_answer()

    def stop_programs(self, *, but: str = "") -> None:
        """Let them finish, the ingress first; all of them, or all but one."""
        for title in reversed([title for title in self._processes if title != but]):
            self._stop(title)

    @contextmanager
    def beside(self, title: str, words: Sequence[str]) -> Iterator[Process]:
        """A further module of ours runs meanwhile; told to end, it may still finish."""
        self._start(title, "consumers", (*words,))
        try:
            yield self._processes[title]
        finally:
            self._stop(title)

    def wait_until_consumed(self, queue: str) -> None:
        """Returns when the engine drains this queue; raises StackProblem."""
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            lines = self.stack.rabbitmqctl("-q", "list_queues", "-p", "tk", "name", "consumers").splitlines()
            consumers = dict(line.split("\t") for line in lines if "\t" in line)
            if int(consumers.get(queue, "0")) > 0:
                return
        raise StackProblem(f"nobody drains {queue} after {START_SECONDS:.0f} s; {self.logs}")

    def _start(
        self, title: str, server: str, words: tuple[str, ...], variables: Mapping[str, str] | None = None
    ) -> None:
        # Marked as the stack marks its own, so that `stack.down()` also ends what a killed bench left behind.
        name = title.split(",")[0].split(" ")[0]
        self._processes[title] = launch(
            Launch([sys.executable, "-m", *words], self._environment(variables or {}), folder=REPOSITORY),
            mark=str(self.stack.folder / server),
            log=self.stack.folder / "logs" / f"{name}.log",
        )

    def _stop(self, title: str) -> None:
        process = self._processes.pop(title)
        process.signal(signal.SIGTERM)
        end(wait_gone([process], timeout_seconds=STOP_SECONDS))

    def _wait_until_all_answer(self) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        ports = self.stack.ports
        looks = ((ports["api"], "/ready"), (ports["metrics"], "/metrics"), (ports["payments"], "/"))
        for port, path in looks:
            while (status := http_status(HOST, port, path)) is None or status >= 500:
                dead = [name for name, process in self._processes.items() if not process.is_alive()]
                if dead or time.monotonic() > give_up_at:
                    raise StackProblem(f"{', '.join(dead) or f'port {port}'} does not answer; {self.logs}")
                time.sleep(LOOK_SECONDS)

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Of the shell's variables none of ours: figures are of the defaults, whatever somebody has set."""
        shell = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, *FOREIGN_PREFIXES))}
        return {**shell, **self.stack.environment(), **VARIABLES, **variables, "PYTHONUNBUFFERED": "1"}

    def _settings(self, variables: Mapping[str, str]) -> Settings:
        """Ours: as our processes', but a house of 250,000 seats is built in one statement."""
        read = Settings.read({**self.stack.environment(), **VARIABLES, **variables})
        return read.model_copy(update={"statement_timeout_seconds": 300.0, "idle_transaction_timeout_seconds": 300.0})

    @property
    def logs(self) -> str:
        """Words that say where to look when something is wrong."""
        return f"the logs are in {self.stack.folder / 'logs'}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave half of it running."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
