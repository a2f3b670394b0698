"""How are our own programs started: the payment simulator, the mail catcher, the ingress, the consumers?"""

import sys

from ops.stack.ports import HOST
from ops.stack.processes import Launch
from ops.stack.readiness import http_status, smtp_answers
from ops.stack.server import REPOSITORY, Server


class Program(Server):
    """A Python module of ours."""

    words: tuple[str, ...] = ()

    def launch(self) -> Launch:
        return Launch(
            command=[sys.executable, "-m", *self.words, *self.options()],
            environment=self.site.shell(),
            folder=REPOSITORY,
        )

    def options(self) -> list[str]:
        return []


class Payments(Program):
    """The Stripe-shaped payment simulator; its log is the tests' oracle for money."""

    name = "payments"
    port_names = ("payments",)
    address_setting = "BOXOFFICE_PAYMENT_API_URL"
    words = ("ops.payment_simulator",)

    def options(self) -> list[str]:
        return ["--port", str(self.port), "--log", str(self.data_folder / "payments.log"), "--control"]

    def answers(self) -> bool:
        return http_status(HOST, self.port, "/") is not None


class Mail(Program):
    """The mail catcher: takes every mail, delivers none, shows them on a page."""

    name = "mail"
    port_names = ("smtp", "mailbox")
    address_setting = "BOXOFFICE_SMTP_URL"
    words = ("ops.mail_catcher",)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.site.ports['mailbox']}"

    def options(self) -> list[str]:
        ports = self.ports
        return [
            *("--smtp-port", str(ports["smtp"])),
            *("--http-port", str(ports["mailbox"])),
            *("--folder", str(self.data_folder)),
        ]

    def answers(self) -> bool:
        return smtp_answers(HOST, self.port) and http_status(HOST, self.site.ports["mailbox"], "/") is not None


class Ingress(Program):
    """The HTTP API."""

    name = "ingress"
    port_names = ("api",)
    words = ("ingress",)
    start_seconds = 45.0
    stop_seconds = 25.0  # more than it takes to drain (BOXOFFICE_DRAIN_SECONDS)

    def answers(self) -> bool:
        return http_status(HOST, self.port, "/ready") in (200, 204)


class Consumers(Program):
    """Every consumer role in one process."""

    name = "consumers"
    port_names = ("metrics",)
    words = ("consumers", "all")
    start_seconds = 45.0
    stop_seconds = 25.0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/metrics"

    def answers(self) -> bool:
        return http_status(HOST, self.port, "/metrics") == 200
