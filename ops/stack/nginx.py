"""How is the nginx in front of several ingress processes started, told whom to ask, and told who is away?

Who is away for a moment is a file: nginx looks for it with each request, so taking a process out and putting it back needs no
reload. A reload closes the idle connections of clients, and whoever is just sending a request on one of them loses it.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ops.stack import binaries
from ops.stack.ports import HOST
from ops.stack.problem import StackProblem
from ops.stack.processes import Launch, Process, Workplace
from ops.stack.readiness import http_status
from ops.stack.scale import INGRESS, NGINX, port_of_instance, stand_in_of
from ops.stack.server import REPOSITORY, Server, Site

FOLDER = REPOSITORY / "ops" / "nginx"
CONFIGURATION = FOLDER / "nginx.conf"
MADE = "# Made by `boxoffice up`; changes are lost.\n"

# From here on an old worker answers what comes on an idle connection before it lets go of it.
KEEPS_IDLE_CONNECTIONS = (1, 27, 4)
OPEN_FILES = 65_536  # two for each buyer who is connected
RELOAD_SECONDS = 10.0
CHECK_SECONDS = 30.0
# Longer than nginx needs from looking for the file to having sent the request.
NOTICE_SECONDS = 0.3


class Nginx(Server):
    """nginx at the stack's `api` port, and the ingress processes behind it by name."""

    name = NGINX
    port_names = ("api",)
    stop_signal = signal.SIGQUIT  # finish what is being answered
    stop_seconds = 15.0

    def __init__(self, site: Site, ingress: Mapping[str, int]) -> None:
        super().__init__(site)
        self._ingress = ingress

    @property
    def workplace(self) -> Workplace:
        return Workplace(program="nginx", folder=self.data_folder)  # it writes its title over its environment

    def prepare(self) -> None:
        super().prepare()
        self._write()

    def launch(self) -> Launch:
        return Launch(
            command=[*self._command(), "-g", self._globals()], environment=self.site.shell(), folder=self.data_folder
        )

    def answers(self) -> bool:
        return http_status(HOST, self.port, "/nginx-health") == 204

    def reload(self, master: Process) -> None:
        """Ask these ingress processes from now on; requests under way are finished. Raises StackProblem."""
        self._write()
        self._check_configuration()
        before = {process.pid for process in master.family()}
        master.signal(signal.SIGHUP)
        give_up_at = time.monotonic() + RELOAD_SECONDS
        while all(process.pid in before for process in master.family()) or not self.answers():
            if time.monotonic() > give_up_at:
                raise StackProblem("nginx has not taken its new configuration; see its log")
            time.sleep(0.02)

    def send_away(self, name: str) -> None:
        """Ask this process nothing new until `welcome`; returns when nothing new is on its way to it."""
        (self._away / name).touch()
        time.sleep(NOTICE_SECONDS)

    def welcome(self, name: str) -> None:
        """Ask it again."""
        (self._away / name).unlink(missing_ok=True)

    def _write(self) -> None:
        # A restart that was cut short may have left somebody away.
        shutil.rmtree(self._away, ignore_errors=True)
        self._away.mkdir()
        shutil.copyfile(CONFIGURATION, self.data_folder / CONFIGURATION.name)
        place = self.data_folder / "place"
        place.mkdir(exist_ok=True)
        (place / "http.conf").write_text(MADE + self._pools() + UNCOUNTED)
        (place / "server.conf").write_text(MADE + self._server())

    def _pools(self) -> str:
        """One for all, and for each process one without it."""
        pools = [_pool(INGRESS, list(self._ingress.values()))]
        for name in self._ingress:
            others = [port for other, port in self._ingress.items() if other != name]
            if not others:
                others = [port_of_instance(stand_in_of(name), port_base=self.site.ports["api"])]
            pools.append(_pool(_pool_without(name), others))
        return "".join(pools)

    def _server(self) -> str:
        lines = [f"listen {HOST}:{self.port} backlog=4096;", f"set $ingress {INGRESS};"]
        lines += [f'if (-f "{self._away / name}") {{ set $ingress {_pool_without(name)}; }}' for name in self._ingress]
        if _version() >= KEEPS_IDLE_CONNECTIONS:
            lines.append("keepalive_min_timeout 5s;")
        return "".join(f"{line}\n" for line in lines)

    def _check_configuration(self) -> None:
        done = subprocess.run(
            [*self._command(), "-t", "-q", "-g", self._globals()],
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise StackProblem(f"nginx does not take its configuration: {done.stderr.strip()[-800:]}")

    def _command(self) -> list[str]:
        # Relative paths in the configuration (pid, cache, temporary files) are below the prefix.
        folder = self.data_folder
        return [str(binaries.nginx_program()), "-p", f"{folder}/", "-c", str(folder / CONFIGURATION.name)]

    def _globals(self) -> str:
        files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        # Its workers have to reach this folder, wherever the repository lies.
        user = "user root; " if os.geteuid() == 0 else ""
        return f"{user}worker_rlimit_nofile {files}; daemon off;"

    @property
    def _away(self) -> Path:
        return self.data_folder / "away"


# A rush on this machine is thousands of buyers at one address; any other address is counted as outside.
UNCOUNTED = """geo $is_counted {
    default 1;
    127.0.0.1/32 0;
}
"""


def _pool(name: str, ports: list[int]) -> str:
    # The numbers are explained in ops/nginx/place/http.conf.
    servers = "".join(f"    server {HOST}:{port} max_fails=1 fail_timeout=1s;\n" for port in ports)
    return (
        f"upstream {name} {{\n    zone {name} 64k;\n    least_conn;\n{servers}"
        "    keepalive 128;\n    keepalive_requests 100000;\n    keepalive_timeout 30s;\n}\n"
    )


def _pool_without(name: str) -> str:
    return f"{INGRESS}_without_{name.rpartition('-')[2]}"


@cache
def _version() -> tuple[int, ...]:
    said = subprocess.run(
        [str(binaries.nginx_program()), "-v"], capture_output=True, text=True, timeout=CHECK_SECONDS, check=False
    ).stderr
    match = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0,)
