"""How do the servers and applications of one stack come up, go down and survive each other's crashes?

Every method may be called at any time, again, and from several processes at once: what is already so is left alone,
and a lock per server keeps two callers from starting it twice.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ops.stack import binaries, containers
from ops.stack.nginx import Nginx
from ops.stack.ports import HOST, holder_of, is_listened_on, is_taken, ports_from
from ops.stack.postgres import Postgres
from ops.stack.problem import StackProblem
from ops.stack.processes import Launch, Process, end, forget, launch, left_behind, recall, remember, wait_gone
from ops.stack.programs import Consumers, ConsumersInstance, Ingress, IngressInstance, Mail, Payments
from ops.stack.rabbitmq import RabbitMQ
from ops.stack.redis import Redis
from ops.stack.scale import CONSUMERS, INGRESS, NGINX, Scale, is_instance, kind_of, port_of_instance, read_scale
from ops.stack.server import REPOSITORY, Server, Site

SERVERS = ("postgres", "redis", "rabbitmq", "payments", "mail")
APPLICATIONS = ("ingress", "consumers")  # of a stack without a scale
DATABASES = ("postgres", "redis", "rabbitmq")

DEFAULT_NAME = "dev"
DEFAULT_PORT_BASE = 8400

SPACE_NEEDED = 1 << 30  # bytes: RabbitMQ blocks publishers below 512 MB, PostgreSQL's log may grow to 2 GB
ADOPTION_SECONDS = 15.0  # how long a server that already runs may take to answer before it is started anew
PORT_LINGERS_SECONDS = 5.0
LOOK_SECONDS = 0.05
FREEZE_SECONDS = 5.0  # a process in the middle of a disk write stops when that is done
LOG_MAX = 20 << 20  # bytes; a longer log is set aside (one of them) at the next start
TAIL_BYTES = 64 << 10  # as much of a log's end as we look through for its last lines
LOG_TAIL = 15  # lines shown of a server that ended by itself

Means = Literal["given", "private", "container"]
State = Literal["running", "not ready", "frozen", "stopped", "elsewhere"]


@dataclass(frozen=True)
class Status:
    """What `boxoffice status` says about one server."""

    name: str
    state: State
    url: str
    ports: Mapping[str, int]
    pid: int | None = None
    uptime_seconds: float | None = None


def _silent(_text: str) -> None:
    return None


class Stack:
    """A private set of servers with a folder and twelve ports of its own, and further ports where a scale asks for them."""

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        port_base: int = DEFAULT_PORT_BASE,
        folder: Path | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        say: Callable[[str], None] = _silent,
    ) -> None:
        """`folder` defaults to `.local/<name>` in the repository, `variables` (addresses given) to the environment."""
        if not name.replace("-", "").replace("_", "").isalnum():
            raise StackProblem(f"{name!r} is no name for a stack: letters, digits, - and _ only")
        if sys.platform != "linux":
            raise StackProblem(
                "private servers need Linux (/proc): use `docker compose up`, or the three BOXOFFICE_*_URL"
            )
        self.name = name
        self.folder = (folder or REPOSITORY / ".local" / name).resolve()
        self.ports = ports_from(port_base)
        self.say = say
        self.cancelled = threading.Event()  # set it to make every wait give up
        self._variables = os.environ if variables is None else variables
        self._site = Site(name=name, folder=self.folder, ports=self.ports, environment=self.environment())
        kinds: tuple[type[Server], ...] = (Postgres, Redis, RabbitMQ, Payments, Mail)
        self._fixed = {kind.name: kind(self._site) for kind in kinds}

    @classmethod
    def from_environment(
        cls, variables: Mapping[str, str] = os.environ, *, say: Callable[[str], None] = _silent
    ) -> "Stack":
        """The stack that BOXOFFICE_STACK, BOXOFFICE_PORT_BASE and BOXOFFICE_STATE_FOLDER name; raises StackProblem."""
        base = variables.get("BOXOFFICE_PORT_BASE", str(DEFAULT_PORT_BASE))
        if not base.isdecimal():
            raise StackProblem(f"BOXOFFICE_PORT_BASE={base!r} is not a number")
        folder = variables.get("BOXOFFICE_STATE_FOLDER")
        return cls(
            variables.get("BOXOFFICE_STACK", DEFAULT_NAME),
            int(base),
            Path(folder) if folder else None,
            variables=variables,
            say=say,
        )

    def environment(self) -> dict[str, str]:
        """The BOXOFFICE_* variables that point a process of ours at this stack."""
        ports = self.ports
        ours = {
            "BOXOFFICE_POSTGRES_URL": f"postgresql://boxoffice@{HOST}:{ports['postgres']}/boxoffice",
            "BOXOFFICE_REDIS_URL": f"redis://{HOST}:{ports['redis']}/0",
            "BOXOFFICE_RABBITMQ_URL": f"amqp://{HOST}:{ports['amqp']}/tk",
            "BOXOFFICE_RABBITMQ_MANAGEMENT_URL": f"http://{HOST}:{ports['management']}",
            "BOXOFFICE_PAYMENT_API_URL": f"http://{HOST}:{ports['payments']}",
            "BOXOFFICE_SMTP_URL": f"smtp://{HOST}:{ports['smtp']}",
            "BOXOFFICE_PUBLIC_URL": f"http://{HOST}:{ports['api']}",
        }
        given = {name: self._variables[name] for name in ours if self._variables.get(name)}
        listeners = {"BOXOFFICE_HTTP_PORT": str(ports["api"]), "BOXOFFICE_METRICS_PORT": str(ports["metrics"])}
        return ours | given | listeners

    # ---- how many of each

    @property
    def scale(self) -> Scale:
        """What was asked for last, by whichever process; kept until all of it is stopped."""
        try:
            return read_scale([self._scale_file.read_text()])
        except FileNotFoundError:
            return Scale()

    def keep_scale(self, scale: Scale) -> None:
        """From now on the stack has these processes; starts and stops none."""
        if not scale.counts:
            self._scale_file.unlink(missing_ok=True)
            return
        for name in scale.applications:
            if is_instance(name):
                port_of_instance(name, port_base=self.ports["api"])  # or there is no room for it
        self._scale_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._scale_file.with_suffix(".new")
        fresh.write_text(str(scale))
        fresh.replace(self._scale_file)

    @property
    def applications(self) -> tuple[str, ...]:
        """Our own processes in front and behind, such as the scale wants them."""
        return self.scale.applications

    @property
    def left_over(self) -> tuple[str, ...]:
        """Processes that were started once and belong to no scale now: of another scale, or of a restart cut short."""
        started = {file.stem for file in self._scale_file.parent.glob("*.pid")}
        others = {NGINX, INGRESS, CONSUMERS} | {name for name in started if is_instance(name)}
        return tuple(sorted((started & others).difference(self.applications)))

    @property
    def nginx(self) -> Nginx:
        """The one in front, with the ingress processes behind it."""
        names = self.scale.ingress_names
        return Nginx(
            self._site,
            {name: port_of_instance(name, port_base=self.ports["api"]) for name in names if is_instance(name)},
        )

    # ---- all of them

    def up(self, names: Iterable[str] = SERVERS) -> None:
        """Start these, all at once, and wait until each answers; raises StackProblem with all that went wrong."""
        wanted = self._known(names)
        self.find_or_install(wanted)
        self._at_once(self.start, wanted)

    def down(self, names: Iterable[str] | None = None) -> None:
        """Stop these (None: everything), applications before the servers they need."""
        wanted = self._known((*self._servers, *self.left_over) if names is None else names)
        self._at_once(self.stop, [name for name in wanted if name not in SERVERS])
        self._at_once(self.stop, [name for name in wanted if name in SERVERS])
        if names is None:
            self.keep_scale(Scale())

    def status(self) -> list[Status]:
        """The state of everything, in the order in which it starts."""
        servers = (*self._servers.values(), *map(self._server, self.left_over))
        return [self._status_of(server) for server in servers]

    def find_or_install(self, names: Iterable[str]) -> None:
        """Make sure that each of these can be started somehow; raises StackProblem with what to install."""
        missing = [name for name in names if not self._is_given(self._server(name)) and not binaries.is_here(name)]
        if not missing:
            return
        if binaries.may_install(self._variables):
            binaries.install(missing, log=self.folder / "logs" / "apt.log", say=self.say)
            missing = [name for name in missing if not binaries.is_here(name)]
        # A container of nginx would look for ingress processes in containers.
        if missing and (NGINX in missing or not containers.engine_answers()):
            lines = [f"{name} is not on this machine: {binaries.advice(name)}" for name in missing]
            raise StackProblem("\n".join(lines))

    # ---- one of them

    def start(self, name: str, *, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it answers; one of ours that runs already is adopted, whoever started it.

        `environment` adds variables for this run of the process (failpoints, say). Raises StackProblem.
        """
        server = self._server(name)
        means = self._means(server)
        if means == "given":
            self.say(f"{name}: taken from {server.address_setting}")
            return
        with self._lock(server):
            began_at = time.monotonic()
            if means == "container":
                self._container_note(server).touch()
                containers.start(name, self._site)
                self._wait_until_ready(server, process=None, timeout_seconds=server.start_seconds)
            elif self._adopt(server):
                self.say(f"{name}: was running already")
                return
            else:
                self._start_private(server, environment or {})
            self.say(f"{name}: ready after {time.monotonic() - began_at:.1f} s, on port {server.port}")

    def mend(self, name: str) -> None:
        """Start it again, unless somebody has stopped or started it meanwhile; raises StackProblem."""
        server = self._server(name)
        with self._lock(server):
            if self.ended_by_itself(name):
                self._start_private(server, {})

    def stop(self, name: str) -> None:
        """End it the way it likes to be ended, and by force when that takes too long. Nothing of it is left."""
        server = self._server(name)
        if self._is_given(server):
            return
        with self._lock(server):
            if self._container_note(server).exists():
                containers.stop(name, self._site)
                self._container_note(server).unlink()
            self._end_private(server)

    def kill(self, name: str) -> None:
        """SIGKILL for it and all its children at once, as when the machine fails.

        `boxoffice run` takes it for intended and does not restart it: whoever killed it starts it again.
        """
        server = self._server(name)
        if self._in_container(server):
            containers.kill(name, self._site)
            return
        process = self.process(name)
        forget(self._pid_file(server))  # first, so that no supervisor takes it for an accident
        end([*(process.family() if process else []), *self._left_behind(server)])

    def freeze(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and its locks, and answers nobody. Returns when all of it stands still."""
        server = self._server(name)
        if self._in_container(server):
            containers.freeze(name, self._site)
            return
        family = self._running(name).family()
        for member in family:
            member.signal(signal.SIGSTOP)
        give_up_at = time.monotonic() + FREEZE_SECONDS
        while any(member.is_alive() and not member.is_frozen() for member in family):
            if time.monotonic() > give_up_at:
                raise StackProblem(f"{name} does not stop for SIGSTOP")
            time.sleep(0.005)

    def thaw(self, name: str) -> None:
        """SIGCONT after `freeze`."""
        server = self._server(name)
        if self._in_container(server):
            containers.thaw(name, self._site)
            return
        for member in self._running(name).family():
            member.signal(signal.SIGCONT)

    def empty(self, name: str) -> None:
        """Wipe what a stopped server has stored; raises StackProblem while it runs."""
        server = self._server(name)
        with self._lock(server):
            if self.process(name) is not None or self._in_container(server):
                raise StackProblem(f"{name} is running: stop or kill it before emptying it")
            end(self._left_behind(server))
            if server.data_folder.exists():
                shutil.rmtree(server.data_folder)

    def wait_ready(self, name: str, timeout_seconds: float) -> None:
        """Wait until it answers; raises StackProblem when it ended or took too long."""
        server = self._server(name)
        process = self.process(name)
        if process is None and not self._is_given(server) and not self._in_container(server):
            raise StackProblem(f"{name} is not running: {self._tail(name, since=0)}")
        self._wait_until_ready(server, process=process, timeout_seconds=timeout_seconds)

    def is_ready(self, name: str) -> bool:
        """It answers now."""
        return self._server(name).answers()

    def port_of(self, name: str) -> int:
        """Where it listens; of several ports, the one people mean."""
        return self._server(name).port

    def process(self, name: str) -> Process | None:
        """The process of a private server, None while it does not run."""
        return recall(self._pid_file(self._server(name)))

    def ended_by_itself(self, name: str) -> bool:
        """It was started, nobody stopped or killed it through a Stack, and it does not run any longer."""
        return self._pid_file(self._server(name)).exists() and self.process(name) is None

    def log_file(self, name: str) -> Path:
        """Where its output goes; the file may not exist yet."""
        return self.folder / "logs" / f"{self._server(name).name}.log"

    def data_folder(self, name: str) -> Path:
        """Where it keeps what must survive a restart."""
        return self._server(name).data_folder

    # ---- programs that run to their end

    def run_module(self, module: str, *words: str, timeout_seconds: float = 120.0) -> str:
        """Run `python -m module words…` against this stack; returns its output, raises StackProblem if it fails."""
        return self._run([sys.executable, "-m", module, *words], self._site.shell(), timeout_seconds=timeout_seconds)

    def rabbitmqctl(self, *words: str, timeout_seconds: float = 60.0) -> str:
        """Run rabbitmqctl against this stack's broker; returns its output, raises StackProblem if it fails."""
        rabbitmq = self._servers["rabbitmq"]
        assert isinstance(rabbitmq, RabbitMQ)  # noqa: S101 -- for the type checker
        return self._run(
            [str(binaries.rabbitmq_program("rabbitmqctl")), *words], rabbitmq.shell(), timeout_seconds=timeout_seconds
        )

    def _run(self, command: list[str], environment: Mapping[str, str], *, timeout_seconds: float) -> str:
        title = " ".join(command[1:])
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                env=dict(environment),
                cwd=REPOSITORY,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise StackProblem(f"{title} did not finish: {problem}") from problem
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LOG_TAIL:])
            raise StackProblem(f"{title} failed (exit code {done.returncode}):\n{said}")
        return done.stdout

    # ---- starting

    def _known(self, names: Iterable[str]) -> list[str]:
        return [self._server(name).name for name in names]

    @property
    def _servers(self) -> dict[str, Server]:
        """Everything that is to run, in the order in which it starts."""
        return {**self._fixed, **{name: self._application(name) for name in self.applications}}

    def _server(self, name: str) -> Server:
        if name in self._fixed:
            return self._fixed[name]
        if name in (NGINX, INGRESS, CONSUMERS) or is_instance(name):
            return self._application(name)
        raise StackProblem(f"there is no {name!r} in a stack; there are {', '.join(self._servers)}")

    def _application(self, name: str) -> Server:
        """One of ours, whether the scale has it or not: what is left over has to be stopped, too."""
        if name == NGINX:
            return self.nginx
        if name == INGRESS:
            return Ingress(self._site)
        scale = self.scale
        if name == CONSUMERS:
            return Consumers(self._site, scale.shared_roles if scale.counts else ("all",))
        if kind_of(name) == INGRESS:
            return IngressInstance(self._site, name)
        return ConsumersInstance(self._site, name, scale.roles_of(name))

    def _at_once(self, act: Callable[[str], None], names: list[str]) -> None:
        if not names:
            return
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            running = [pool.submit(act, name) for name in names]
            try:
                problems = [problem for task in running if (problem := task.exception()) is not None]
            except BaseException:  # Ctrl-C: the pool is left only after its tasks, so make them give up
                self.cancelled.set()
                raise
        unexpected = [problem for problem in problems if not isinstance(problem, StackProblem)]
        if unexpected:
            raise unexpected[0]
        if problems:
            raise StackProblem("\n".join(dict.fromkeys(str(problem) for problem in problems)))

    def _means(self, server: Server) -> Means:
        if self._is_given(server):
            return "given"
        self.find_or_install([server.name])
        return "private" if binaries.is_here(server.name) else "container"

    def _is_given(self, server: Server) -> bool:
        """The environment names another address for it than our own."""
        setting = server.address_setting
        given = self._variables.get(setting, "") if setting else ""
        return given != "" and f"{HOST}:{server.port}" not in given

    def _adopt(self, server: Server) -> bool:
        """Is it already there, and well? One that runs but stays silent is ended, so that it can be started anew."""
        process = self.process(server.name)
        if process is None:
            return False
        for member in process.family():
            member.signal(signal.SIGCONT)  # an earlier test may have frozen it
        try:
            self._wait_until_ready(server, process=process, timeout_seconds=ADOPTION_SECONDS)
        except StackProblem:
            self._give_up_if_cancelled(server)
            self.say(f"{server.name} runs (pid {process.pid}) but does not answer: starting it anew")
            return False
        return True

    def _start_private(self, server: Server, environment: Mapping[str, str]) -> None:
        self._end_private(server)
        self._check_space()
        self._check_ports(server)
        server.prepare()
        if not server.data_folder.is_relative_to(self.folder):
            self.say(f"{server.name}: its user may not enter {self.folder}, so its data is in {server.data_folder}")
        log = self.log_file(server.name)
        if log.exists() and log.stat().st_size > LOG_MAX:
            log.replace(log.with_suffix(".log.1"))
        since = log.stat().st_size if log.exists() else 0
        plan = server.launch()
        plan = Launch(plan.command, {**plan.environment, **environment}, plan.user, plan.folder)
        process = launch(plan, mark=self._mark(server), log=log)
        remember(process, self._pid_file(server))
        try:
            self._wait_until_ready(server, process=process, timeout_seconds=server.start_seconds, log_since=since)
        except StackProblem:
            self._end_private(server)
            raise

    def _wait_until_ready(
        self, server: Server, *, process: Process | None, timeout_seconds: float, log_since: int = 0
    ) -> None:
        give_up_at = time.monotonic() + timeout_seconds
        while not server.answers():
            self._give_up_if_cancelled(server)
            if process is not None and not process.is_alive():
                raise StackProblem(f"{server.name} ended by itself: {self._tail(server.name, since=log_since)}")
            if time.monotonic() > give_up_at:
                tail = self._tail(server.name, since=log_since)
                raise StackProblem(f"{server.name} does not answer after {timeout_seconds:.0f} s: {tail}")
            self.cancelled.wait(0.1)  # PostgreSQL notes every probe in its log while it starts

    def _give_up_if_cancelled(self, server: Server) -> None:
        if self.cancelled.is_set():
            raise StackProblem(f"{server.name}: interrupted")

    def _check_space(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < SPACE_NEEDED:
            raise StackProblem(
                f"only {free >> 20} MB are free in {self.folder}; the servers need {SPACE_NEEDED >> 20} MB: make room, "
                f"or set BOXOFFICE_STATE_FOLDER to a folder on another disk"
            )

    def _check_ports(self, server: Server) -> None:
        for use, port in server.ports.items():
            # What a killed server leaves to the kernel goes within a moment; nobody listens there any more.
            give_up_at = time.monotonic() + PORT_LINGERS_SECONDS
            while is_taken(port) and not is_listened_on(port) and time.monotonic() < give_up_at:
                time.sleep(LOOK_SECONDS)
            if is_taken(port):
                raise StackProblem(
                    f"port {port} ({server.name}: {use}) is taken by {holder_of(port)}: stop that, or choose other "
                    f"ports with BOXOFFICE_PORT_BASE"
                )

    def _tail(self, name: str, *, since: int) -> str:
        """Words for the last lines it wrote since this offset, with where to read the rest."""
        file = self.log_file(name)
        try:
            with file.open("rb") as log:
                log.seek(max(since, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return "\n  ".join([f"its log is {file}", *lines[-LOG_TAIL:]])

    # ---- stopping

    def _end_private(self, server: Server) -> None:
        """Stop whatever of it runs, known or left behind, and forget its pid file."""
        process = self.process(server.name)
        family = process.family() if process else []
        strays = self._left_behind(server)
        for member in {*family, *strays}:
            member.signal(signal.SIGCONT)  # frozen processes take no other signal
        for leader in [process] if process else strays[:1]:
            leader.signal(server.stop_signal)
            wait_gone([leader], timeout_seconds=server.stop_seconds)
        # What is still there did not stop in time, or outlives its parent (epmd).
        end({*family, *strays, *self._left_behind(server)})
        forget(self._pid_file(server))

    def _left_behind(self, server: Server) -> list[Process]:
        return left_behind(mark=self._mark(server), workplace=server.workplace)

    # ---- what we wrote down

    def _running(self, name: str) -> Process:
        process = self.process(name)
        if process is None:
            raise StackProblem(f"{name} is not running")
        return process

    def _status_of(self, server: Server) -> Status:
        if self._is_given(server):
            given = self._variables[server.address_setting or ""]
            return Status(name=server.name, state="elsewhere", url=_without_password(given), ports={})
        process = self.process(server.name)
        if process is None:
            state: State = "running" if self._in_container(server) and server.answers() else "stopped"
            return Status(name=server.name, state=state, url=server.url, ports=server.ports)
        state = "frozen" if process.is_frozen() else "running" if server.answers() else "not ready"
        return Status(
            name=server.name,
            state=state,
            url=server.url,
            ports=server.ports,
            pid=process.pid,
            uptime_seconds=process.uptime_seconds(),
        )

    def _mark(self, server: Server) -> str:
        return str(self.folder / server.name)

    @property
    def _scale_file(self) -> Path:
        return self.folder / "run" / "scale"

    def _pid_file(self, server: Server) -> Path:
        return self.folder / "run" / f"{server.name}.pid"

    def _container_note(self, server: Server) -> Path:
        return self.folder / "run" / f"{server.name}.container"

    def _in_container(self, server: Server) -> bool:
        return self._container_note(server).exists()

    @contextmanager
    def _lock(self, server: Server) -> Iterator[None]:
        """One caller at a time per server, in all processes; a caller that dies lets go of it."""
        file = self.folder / "run" / f"{server.name}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        give_up_at = time.monotonic() + server.start_seconds + server.stop_seconds + 30
        with file.open("w") as lock:
            while not _locked(lock.fileno()):
                self._give_up_if_cancelled(server)
                if time.monotonic() > give_up_at:
                    raise StackProblem(
                        f"another process has been starting or stopping {server.name} for too long ({file})"
                    )
                self.cancelled.wait(0.05)
            yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
