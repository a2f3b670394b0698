"""How is a stack of `boxoffice up` watched by a Prometheus on the same machine?

`python -m ops.prometheus.local > prometheus.yml` writes prometheus.yml with this stack's addresses in it; BOXOFFICE_STACK and
BOXOFFICE_PORT_BASE say which stack. The rules are those of the repository.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from consumers.__main__ import EVERY_ROLE, ROLES
from ops.stack import Stack
from ops.stack.ports import HOST
from ops.stack.scale import INGRESS, NGINX, Scale, is_instance, port_of_instance

FOLDER = Path(__file__).resolve().parent


def configuration(stack: Stack, *, interval: str = "10s") -> dict[str, Any]:
    """prometheus.yml with the addresses of this stack, asking every `interval`."""
    written: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    written["global"] |= {"scrape_interval": interval, "evaluation_interval": interval}
    written["global"]["scrape_timeout"] = min(interval, written["global"]["scrape_timeout"], key=_seconds)
    written["rule_files"] = [str(FOLDER / name) for name in written["rule_files"]]
    targets = targets_of(stack)
    for job in written["scrape_configs"]:
        for found_by in ("dns_sd_configs", "relabel_configs"):
            job.pop(found_by, None)
        job["static_configs"] = targets[job["job_name"]]
    return written


def targets_of(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    """Of each job, its groups of targets: every process that the stack's scale asks for."""
    scale, ports = stack.scale, stack.ports
    behind = [name for name in scale.applications if name not in (NGINX, *scale.ingress_names)]
    return {
        "ingress": [_group(_port(name, ports["api"], stack), role=INGRESS) for name in scale.ingress_names],
        "consumers": [_group(_port(name, ports["metrics"], stack), role=role_label(scale, name)) for name in behind],
        "rabbitmq": [_group(ports["prometheus"])],
        "rabbitmq-queues": [_group(ports["prometheus"])],
    }


def role_label(scale: Scale, name: str) -> str:
    """What this consumers process does, as the rules read it."""
    roles = scale.roles_of(name)
    return EVERY_ROLE if len(roles) == len(ROLES) else ",".join(roles)


def _port(name: str, only: int, stack: Stack) -> int:
    """Where an instance listens; one that is alone has the port of its kind."""
    return port_of_instance(name, port_base=stack.ports["api"]) if is_instance(name) else only


def _group(port: int, **labels: str) -> dict[str, Any]:
    return {"targets": [f"{HOST}:{port}"], "labels": labels}


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", default="10s", help="how often Prometheus asks, in seconds such as 2s")
    print(
        yaml.safe_dump(configuration(Stack.from_environment(), interval=parser.parse_args().interval), sort_keys=False)
    )


if __name__ == "__main__":
    main()
