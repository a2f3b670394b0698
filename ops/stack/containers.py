"""How does Docker Compose stand in for a server that this machine does not have?

The containers run the same configuration files and publish the ports that a private server would have had.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping

from ops.stack.problem import StackProblem
from ops.stack.server import REPOSITORY, Site

PULL_SECONDS = 900
ENGINE_SECONDS = 10

# The variables by which docker-compose.yml takes its published ports.
PORT_VARIABLES = {
    "postgres": "POSTGRES_PORT",
    "redis": "REDIS_PORT",
    "amqp": "AMQP_PORT",
    "management": "MANAGEMENT_PORT",
    "prometheus": "PROMETHEUS_PORT",
}


def engine_answers() -> bool:
    """There is a Docker engine that we may use, and it knows Compose."""
    if shutil.which("docker") is None:
        return False
    try:
        return all(
            subprocess.run(["docker", *words], capture_output=True, timeout=ENGINE_SECONDS, check=False).returncode == 0
            for words in (["info"], ["compose", "version"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def start(server: str, site: Site) -> None:
    """Start the container of this server; returns when Docker has started it, not when it is ready."""
    _compose(site, "up", "--detach", server)


def stop(server: str, site: Site) -> None:
    """Stop the container and remove it; its volume stays."""
    _compose(site, "rm", "--stop", "--force", server)


def kill(server: str, site: Site) -> None:
    """SIGKILL for the container."""
    _compose(site, "kill", server)


def freeze(server: str, site: Site) -> None:
    """Stop its processes where they are."""
    _compose(site, "pause", server)


def thaw(server: str, site: Site) -> None:
    """Let them go on."""
    _compose(site, "unpause", server)


def empty(server: str, site: Site) -> None:
    """Remove the volume of a stopped container."""
    volume = f"{_project(site)}_{server}"
    _run(["docker", "volume", "rm", "--force", volume], environment=os.environ)


def _project(site: Site) -> str:
    return f"boxoffice-{site.name}"


def _compose(site: Site, *words: str) -> None:
    ports = {variable: str(site.ports[name]) for name, variable in PORT_VARIABLES.items()}
    file = REPOSITORY / "docker-compose.yml"
    _run(["docker", "compose", "-f", str(file), "-p", _project(site), *words], environment={**os.environ, **ports})


def _run(command: list[str], *, environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PULL_SECONDS, env=dict(environment), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise StackProblem(f"{' '.join(command)} did not finish: {problem}") from problem
    if done.returncode != 0:
        raise StackProblem(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}")
