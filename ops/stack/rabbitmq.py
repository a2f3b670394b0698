"""How is our RabbitMQ started beside the machine's own, and asked whether it is there?"""

import shutil

from ops.stack import binaries
from ops.stack.ports import HOST
from ops.stack.processes import Launch
from ops.stack.readiness import http_status, rabbitmq_answers
from ops.stack.server import REPOSITORY, Server

FOLDER = REPOSITORY / "rabbitmq"
VHOST = "tk"


class RabbitMQ(Server):
    """RabbitMQ with management UI and Prometheus plugin; node, cookie, dist port and epmd are its own."""

    name = "rabbitmq"
    port_names = ("amqp", "management", "prometheus", "erlang", "epmd")
    address_setting = "BOXOFFICE_RABBITMQ_URL"
    start_seconds = 120.0  # six seconds when all is well; more when a crash left queues to recover
    stop_seconds = 45.0

    @property
    def url(self) -> str:
        return f"amqp://{HOST}:{self.port}/{VHOST}"

    def prepare(self) -> None:
        super().prepare()
        for name in ("home", "mnesia", "log", "generated"):
            (self.data_folder / name).mkdir(exist_ok=True)
        # Copies: plugins are switched by rewriting the file, and a checkout must not change under git.
        shutil.copyfile(FOLDER / "enabled_plugins", self.data_folder / "enabled_plugins")
        (self.data_folder / "local.conf").write_text(self._local_configuration())
        (self.data_folder / "advanced.config").write_text("[].\n")
        (self.data_folder / "env.conf").touch()

    def launch(self) -> Launch:
        return Launch(
            command=[str(binaries.rabbitmq_program("rabbitmq-server"))],
            environment=self.shell(),
            folder=self.data_folder,
        )

    def answers(self) -> bool:
        # The plugins come last; asking them first spares the broker's log a line per look.
        return http_status(HOST, self.site.ports["management"], "/") is not None and rabbitmq_answers(HOST, self.port)

    def shell(self) -> dict[str, str]:
        """The environment of the server, and of rabbitmqctl and its kin when they are to talk to it."""
        folder, ports = self.data_folder, self.site.ports
        return self.site.shell() | {
            "HOME": str(folder / "home"),  # where Erlang keeps its cookie
            "RABBITMQ_NODENAME": f"boxoffice_{self.site.name.replace('-', '_')}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(ports["amqp"]),
            "RABBITMQ_DIST_PORT": str(ports["erlang"]),
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",  # standard output, which the stack keeps with the other logs
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_CONFIG_FILE": str(FOLDER / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(folder / "local.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # The machine's /etc/rabbitmq/rabbitmq-env.conf names its own node; ours is empty.
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
            # Makes the script replace itself by the Erlang machine: the pid we start is the pid that runs.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _local_configuration(self) -> str:
        """What differs from place to place, read after rabbitmq.conf."""
        definitions = FOLDER / "definitions.json"
        if not definitions.exists():
            definitions = self.data_folder / "definitions.json"
            definitions.write_text("{}")
        return "\n".join(
            [
                "# Made by `boxoffice up`; changes are lost.",
                f"listeners.tcp.default = {HOST}:{self.port}",
                f"management.tcp.ip = {HOST}",
                f"management.tcp.port = {self.site.ports['management']}",
                f"prometheus.tcp.ip = {HOST}",
                f"prometheus.tcp.port = {self.site.ports['prometheus']}",
                f"load_definitions = {definitions}",
                "",
            ]
        )
