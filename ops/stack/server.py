"""What does the stack have to know about a server in order to run it?"""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ops.stack.ports import HOST
from ops.stack.processes import Launch, Workplace

REPOSITORY = Path(__file__).resolve().parents[2]

# Settings of somebody else's RabbitMQ, Erlang or PostgreSQL client in our shell must not reach our servers.
FOREIGN_PREFIXES = ("RABBITMQ_", "ERL_", "PG", "REDIS")


@dataclass(frozen=True)
class Site:
    """Where a stack lives: its folder, its ports, and the BOXOFFICE_* variables for whoever talks to it."""

    name: str
    folder: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str]

    def shell(self) -> dict[str, str]:
        """The environment every process of this stack begins with."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_PREFIXES)}
        return {**ours, **self.environment, "PYTHONUNBUFFERED": "1"}


class Server(ABC):
    """One server or application of a stack: what it needs, how it starts, when it is ready, how it ends."""

    name: str
    port_names: ClassVar[tuple[str, ...]]
    # The setting by which an operator says that this server is run elsewhere; None: it is always ours.
    address_setting: ClassVar[str | None] = None
    start_seconds: ClassVar[float] = 30.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 20.0

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by what they are for; the first is the one people mean."""
        return {name: self.site.ports[name] for name in self.port_names}

    @property
    def port(self) -> int:
        return next(iter(self.ports.values()))

    @property
    def data_folder(self) -> Path:
        """What must survive a restart; wiping it makes the server as new."""
        return self.site.folder / self.name

    @property
    def url(self) -> str:
        """Where it is, as status shows it."""
        return f"http://{HOST}:{self.port}"

    @property
    def workplace(self) -> Workplace | None:
        """How to know its processes when their environment does not tell; None: it does."""
        return None

    def prepare(self) -> None:
        """Make folders and files so that `launch` can work; called while the server is stopped."""
        self.data_folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def launch(self) -> Launch:
        """How it is started."""

    @abstractmethod
    def answers(self) -> bool:
        """It does its work now."""
