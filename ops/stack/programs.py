"""How are our own programs started: the payment simulator, the mail catcher, the ingress, the consumers?"""

import sys
from collections.abc import Sequence

from ops.stack.ports import HOST
from ops.stack.processes import Launch
from ops.stack.readiness import http_status, smtp_answers
from ops.stack.scale import CONSUMERS, INGRESS, port_of_instance
from ops.stack.server import REPOSITORY, Server, Site


class Program(Server):
    """A Python module of ours."""

    words: tuple[str, ...] = ()

    def launch(self) -> Launch:
        return Launch(
            command=[sys.executable, "-m", *self.words, *self.options()],
            environment=self.site.shell() | self.variables(),
            folder=REPOSITORY,
        )

    def options(self) -> list[str]:
        return []

    def variables(self) -> dict[str, str]:
        """What its environment has beside that of the stack."""
        return {}


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

    name = INGRESS
    port_names = ("api",)
    words = ("ingress",)
    start_seconds = 45.0
    stop_seconds = 25.0  # more than it takes to drain (BOXOFFICE_DRAIN_SECONDS)

    def answers(self) -> bool:
        return http_status(HOST, self.port, "/ready") in (200, 204)


class IngressInstance(Ingress):
    """One of several, behind nginx."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(site)
        self.name = name

    @property
    def ports(self) -> dict[str, int]:
        return {"http": port_of_instance(self.name, port_base=self.site.ports["api"])}

    def variables(self) -> dict[str, str]:
        # Only nginx comes from this address with somebody else's in X-Forwarded-For.
        trusted = self.site.shell().get("BOXOFFICE_TRUSTED_PROXIES", "")
        proxies = ",".join(filter(None, (trusted, f"{HOST}/32")))
        return {"BOXOFFICE_HTTP_PORT": str(self.port), "BOXOFFICE_TRUSTED_PROXIES": proxies}


class Consumers(Program):
    """Consumer roles in one process: every one, or those that have none of their own."""

    name = CONSUMERS
    port_names = ("metrics",)
    start_seconds = 45.0
    stop_seconds = 25.0

    def __init__(self, site: Site, roles: Sequence[str] = ("all",)) -> None:
        super().__init__(site)
        self.words = ("consumers", *roles)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/metrics"

    def answers(self) -> bool:
        return http_status(HOST, self.port, "/ready") in (200, 204)


class ConsumersInstance(Consumers):
    """One of several processes, with a port of its own."""

    def __init__(self, site: Site, name: str, roles: Sequence[str]) -> None:
        super().__init__(site, roles)
        self.name = name

    @property
    def ports(self) -> dict[str, int]:
        return {"metrics": port_of_instance(self.name, port_base=self.site.ports["api"])}

    def variables(self) -> dict[str, str]:
        return {"BOXOFFICE_METRICS_PORT": str(self.port)}
