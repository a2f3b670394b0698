"""How is our PostgreSQL made, started and asked whether it is there?"""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path

from ops.stack import binaries
from ops.stack.ports import HOST
from ops.stack.problem import StackProblem
from ops.stack.processes import Launch, Workplace
from ops.stack.readiness import postgres_answers
from ops.stack.server import REPOSITORY, Server

USER = DATABASE = "boxoffice"
CONFIGURATION = REPOSITORY / "ops" / "postgres" / "postgresql.conf"
MAKE_SECONDS = 120


class Postgres(Server):
    """PostgreSQL with one database of ours, open to everybody on this machine and to nobody else."""

    name = "postgres"
    port_names = ("postgres",)
    address_setting = "BOXOFFICE_POSTGRES_URL"
    start_seconds = 60.0  # after a crash it first replays its log
    stop_signal = signal.SIGINT  # "fast": end sessions, write a checkpoint; SIGTERM would wait for clients to leave

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{DATABASE}"

    @cached_property
    def user(self) -> str | None:
        """PostgreSQL refuses to run as root; who runs it instead (None: whoever we are)."""
        if os.geteuid() != 0:
            return None
        known = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in known else "nobody"

    @cached_property
    def data_folder(self) -> Path:  # found out once: it costs a process
        """Below the stack's folder, unless PostgreSQL's user cannot get there (a clone below /root, say)."""
        folder = self.site.folder / self.name
        if self.user is None:
            return folder
        self.site.folder.mkdir(parents=True, exist_ok=True)
        if _can_reach(self.user, self.site.folder):
            return folder
        mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"boxoffice-{mark}"  # noqa: S108 -- made for one owner, mode 0700, see prepare

    @property
    def cluster(self) -> Path:
        return self.data_folder / "data"

    @property
    def workplace(self) -> Workplace:
        return Workplace(program="postgres", folder=self.cluster)

    def prepare(self) -> None:
        # Nobody else may have made the folder in /var/tmp and put something of theirs into it.
        if self.data_folder.is_symlink() or (
            self.data_folder.exists() and self.data_folder.stat().st_uid != self._owner
        ):
            raise StackProblem(f"{self.data_folder} belongs to somebody else: remove it and try again")
        self.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._give(self.data_folder)
        if not self._made.exists():
            self._make()
        # Whoever wrote this file is gone (we hold the lock and looked); its pid may meanwhile be anybody's.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        # A copy, because PostgreSQL's user may not be able to read the repository.
        shutil.copyfile(CONFIGURATION, self._configuration)
        self._give(self._configuration)

    def launch(self) -> Launch:
        return Launch(
            command=[
                str(binaries.postgres_program("postgres")),
                *("-D", str(self.cluster)),
                *("-c", f"config_file={self._configuration}"),
                *("-c", f"port={self.port}"),
                *("-c", f"listen_addresses={HOST}"),
                *("-c", "unix_socket_directories="),  # no socket files that a crash could leave behind
            ],
            environment=self.site.shell(),
            user=self.user,
            folder=self.cluster,
        )

    def answers(self) -> bool:
        return postgres_answers(HOST, self.port, user=USER, database=DATABASE)

    @property
    def _configuration(self) -> Path:
        return self.data_folder / CONFIGURATION.name

    @property
    def _made(self) -> Path:
        """Written last: without it, initdb was interrupted and what it left is of no use."""
        return self.data_folder / "made"

    @property
    def _owner(self) -> int:
        return pwd.getpwnam(self.user).pw_uid if self.user else os.geteuid()

    def _make(self) -> None:
        shutil.rmtree(self.cluster, ignore_errors=True)
        self._run("initdb", "-D", str(self.cluster), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        # A server for one command: no port, no race with whoever wants to connect first.
        self._run("postgres", "--single", "-D", str(self.cluster), "postgres", text=f"CREATE DATABASE {DATABASE}\n")
        self._made.touch()
        self._give(self._made)

    def _run(self, program: str, *words: str, text: str = "") -> None:
        try:
            done = subprocess.run(
                [str(binaries.postgres_program(program)), *words],
                input=text,
                text=True,
                capture_output=True,
                timeout=MAKE_SECONDS,
                check=False,
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                cwd=self.data_folder,
                env=self.site.shell(),
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise StackProblem(f"{program} did not finish: {problem}") from problem
        if done.returncode != 0:
            raise StackProblem(f"{program} failed: {(done.stderr or done.stdout).strip()[-800:]}")

    def _give(self, path: Path) -> None:
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)


def _can_reach(user: str, folder: Path) -> bool:
    reached = subprocess.run(
        ["test", "-x", str(folder)], check=False, user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[], cwd="/"
    )
    return reached.returncode == 0
