"""Where are the programs of PostgreSQL, Redis, RabbitMQ, nginx and Prometheus on this machine, and may we install them?"""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ops.stack.problem import StackProblem

PACKAGES = {
    "postgres": "postgresql",
    "redis": "redis-server",
    "rabbitmq": "rabbitmq-server",
    "nginx": "nginx-light",  # only where several ingress instances stand behind one address
    "promtool": "prometheus",  # only for the tests of the alert rules
}
# Those an operator may run elsewhere and tell us where.
_MAY_BE_ELSEWHERE = frozenset({"postgres", "redis", "rabbitmq"})
POSTGRES_OLDEST = 15
INSTALL_SECONDS = 900

# Asked by Debian's packages before they start a service: 101 says no. Ours are private instances, so nothing is to be
# started on the machine's standard ports.
POLICY = Path("/usr/sbin/policy-rc.d")

_one_at_a_time = threading.Lock()


def postgres_program(name: str) -> Path:
    """A program of the newest PostgreSQL; raises StackProblem when there is none that will do."""
    for folder in _postgres_folders():
        if (
            all((folder / program).exists() for program in ("postgres", "initdb"))
            and _major_version(folder / "postgres") >= POSTGRES_OLDEST
        ):
            return folder / name
    raise StackProblem(f"no PostgreSQL {POSTGRES_OLDEST} or later on this machine: {advice('postgres')}")


def redis_program() -> Path:
    """The Redis (or Valkey) server; raises StackProblem."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise StackProblem(f"no Redis on this machine: {advice('redis')}")
    return Path(found)


def rabbitmq_program(name: str) -> Path:
    """A script of RabbitMQ as its makers ship it: Debian's wrapper in /usr/sbin insists on a user of its own."""
    patterns = (
        "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
        "usr/lib/rabbitmq/bin",
        "opt/rabbitmq*/sbin",
        "usr/local/lib/rabbitmq*/sbin",
    )
    for pattern in patterns:
        for folder in sorted(Path("/").glob(pattern), reverse=True):
            if (folder / name).exists() and shutil.which("erl"):
                return folder / name
    raise StackProblem(f"no RabbitMQ (with Erlang) on this machine: {advice('rabbitmq')}")


def nginx_program() -> Path:
    """The nginx server; raises StackProblem."""
    return _found("nginx")


def promtool_program() -> Path:
    """What checks the rules of Prometheus; raises StackProblem."""
    return _found("promtool")


def _found(program: str) -> Path:
    # /usr/sbin is on root's path only.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise StackProblem(f"no {program} on this machine: {advice(program)}")
    return Path(found)


def is_here(server: str) -> bool:
    """The program of this server can be started."""
    find: Mapping[str, Callable[[], Path]] = {
        "postgres": lambda: postgres_program("postgres"),
        "redis": redis_program,
        "rabbitmq": lambda: rabbitmq_program("rabbitmq-server"),
        "nginx": nginx_program,
        "promtool": promtool_program,
    }
    if server not in find:
        return True  # our own program
    try:
        find[server]()
    except StackProblem:
        return False
    return True


def advice(server: str) -> str:
    """What an operator can do about a missing server."""
    if server not in _MAY_BE_ELSEWHERE:
        return f"install it (apt-get install {PACKAGES[server]})"
    return (
        f"install it (apt-get install {PACKAGES[server]}), or start Docker, or set BOXOFFICE_{server.upper()}_URL "
        f"to one that runs elsewhere"
    )


def may_install(variables: Mapping[str, str]) -> bool:
    """We are root on a machine with apt, and nobody forbade it (BOXOFFICE_INSTALL=no)."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and variables.get("BOXOFFICE_INSTALL") != "no"


def install(servers: Iterable[str], *, log: Path, say: Callable[[str], None]) -> None:
    """Install the Debian packages of these servers, their services not started; raises StackProblem."""
    with _one_at_a_time:
        packages = [PACKAGES[server] for server in servers if not is_here(server)]
        if not packages:
            return
        say(f"installing {', '.join(packages)} with apt-get (once; the output is in {log})")
        log.parent.mkdir(parents=True, exist_ok=True)
        with _services_stay_stopped():
            # Package lists may be absent (containers) or old; an update that fails may still leave usable ones.
            _apt(["update"], log=log, check=False)
            _apt(["install", "-y", "--no-install-recommends", *packages], log=log, check=True)


def _apt(words: list[str], *, log: Path, check: bool) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", *words]
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_SECONDS,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise StackProblem(f"{' '.join(command)} took longer than {INSTALL_SECONDS} s; see {log}") from late
    if check and done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise StackProblem(f"{' '.join(command)} failed:\n{tail}")


@contextmanager
def _services_stay_stopped() -> Iterator[None]:
    if POLICY.exists():  # the machine has a policy of its own
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _postgres_folders() -> Iterator[Path]:
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/local/pgsql*/bin"):
        yield from sorted(Path("/").glob(pattern), key=_number_in, reverse=True)


def _number_in(folder: Path) -> int:
    digits = re.findall(r"\d+", str(folder))
    return int(digits[-1]) if digits else 0


def _major_version(program: Path) -> int:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\b(\d+)", said)
    return int(match.group(1)) if match else 0
