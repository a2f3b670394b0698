"""Whom can the doctor ask?

Each server is connected to when it is first asked, once; one that does not answer is not waited for again.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import aiormq
import aiormq.abc
import asyncpg
from redis.asyncio import Redis

from contracts import topology
from contracts.settings import BrokerUser, Settings
from db.postgres import session_settings
from db.redis import REDIS_AWAY, open_redis
from ops.doctor.findings import Unanswered
from ops.stack.problem import StackProblem

CONNECT_SECONDS = 3.0
AMQP_CLOSE_SECONDS = 1.0
LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})

# Who may connect to the broker but not whom, or with what, it told us of.
_BROKER_REFUSES = (aiormq.exceptions.AMQPError, OSError, TimeoutError)
_HTTP_FAILS = (aiohttp.ClientError, OSError, TimeoutError)


class Deployment:
    """The settings of a deployment and its servers, asked one question at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        processes: Mapping[str, int] | None = None,
        broker_accounts: Callable[[], str] | None = None,
        broker_administrator: str | None = None,
    ) -> None:
        """`processes`: how many run of each role. Users and permissions of the broker are read from what `broker_accounts`
        returns (the text of `rabbitmqctl export_definitions`), or asked for as `broker_administrator` (name:password)."""
        self.settings = settings
        self.processes = dict(processes or {})
        self._broker_accounts = broker_accounts
        self._broker_administrator = broker_administrator
        self._known: dict[str, Any] = {}
        self._open = AsyncExitStack()

    @property
    def is_production(self) -> bool:
        """A real sale."""
        return self.settings.environment == "production"

    @property
    def vhost(self) -> str:
        """The virtual host that our addresses name."""
        return unquote(urlsplit(self.settings.rabbitmq_url).path.lstrip("/")) or topology.VHOST

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def postgres(self) -> Any:
        """A connection with the session settings that every process of ours asks for."""
        return await self._once("postgres", self._connect_postgres)

    async def redis(self) -> Redis:
        """A client that has answered."""
        return cast(Redis, await self._once("redis", self._connect_redis))

    async def broker(self, path: str) -> Any:
        """What the management API says to the user `operator`."""
        return await self._once(f"broker {path}", lambda: self._ask_broker(path))

    async def broker_date(self) -> str:
        """The Date header of an answer of the management API: whole seconds of the broker's clock. Asked each time."""
        await self.broker("overview")
        async with self._http().get(self._api("whoami"), headers=self._operator()) as answer:
            return answer.headers["date"]

    async def accounts(self) -> Mapping[str, Any]:
        """The broker's users and permissions, with the names of `rabbitmqctl export_definitions`."""
        return cast(Mapping[str, Any], await self._once("accounts", self._read_accounts))

    async def log_in(self, user: BrokerUser) -> tuple[aiormq.abc.AbstractConnection, Mapping[str, Any]]:
        """An AMQP connection as that user, closed in the end; raises Unanswered when nobody listens, AMQPError when refused."""
        return cast(
            tuple[aiormq.abc.AbstractConnection, Mapping[str, Any]],
            await self._once(f"login {user}", lambda: self._log_in(user)),
        )

    async def get(self, url: str, *, headers: Mapping[str, str]) -> tuple[int, str]:
        """Status and body of a GET; raises aiohttp's errors, OSError or TimeoutError."""
        async with self._http().get(url, headers=dict(headers)) as answer:
            return answer.status, await answer.text()

    # ---- how

    async def _once(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        if key not in self._known:
            try:
                self._known[key] = await ask()
            except Unanswered as unanswered:
                self._known[key] = unanswered
        if isinstance(known := self._known[key], Unanswered):
            raise known
        return known

    async def _connect_postgres(self) -> Any:
        try:
            connection = await asyncpg.connect(
                self.settings.postgres_url,
                timeout=CONNECT_SECONDS,
                command_timeout=CONNECT_SECONDS,
                server_settings=session_settings(self.settings, application_name="boxoffice doctor"),
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as problem:
            raise Unanswered(
                f"PostgreSQL: {said(problem)}", "start it, or correct BOXOFFICE_POSTGRES_URL, then ask again"
            ) from problem
        self._open.push_async_callback(connection.close, timeout=CONNECT_SECONDS)
        return connection

    async def _connect_redis(self) -> Redis:
        client = open_redis(self.settings)
        self._open.push_async_callback(client.aclose)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.ping()
        except REDIS_AWAY as problem:
            raise Unanswered(
                f"Redis: {said(problem)}", "start it, or correct BOXOFFICE_REDIS_URL, then ask again"
            ) from problem
        return client

    async def _ask_broker(self, path: str) -> Any:
        try:
            async with self._http().get(self._api(path), headers=self._operator()) as answer:
                if answer.status == 401:
                    raise Unanswered(
                        "the management API does not know the user operator by this password, or not as `monitoring`",
                        "rabbitmqctl change_password operator …; rabbitmqctl set_user_tags operator monitoring; set"
                        " BOXOFFICE_RABBITMQ_OPERATOR_PASSWORD",
                    )
                answer.raise_for_status()
                return await answer.json()
        except _HTTP_FAILS as problem:
            raise Unanswered(
                f"the management API: {said(problem)}",
                "rabbitmq-plugins enable rabbitmq_management, or correct BOXOFFICE_RABBITMQ_MANAGEMENT_URL; what only it"
                " can tell is not checked",
            ) from problem

    async def _read_accounts(self) -> Mapping[str, Any]:
        if self._broker_accounts is not None:
            return self._read_export(self._broker_accounts)
        if self._broker_administrator is None:
            raise Unanswered(
                "users and permissions are told to administrators only",
                "ask again with RABBITMQ_ADMIN=name:password, or with --broker-definitions FILE made by"
                " `rabbitmqctl export_definitions FILE`",
            )
        name, _, password = self._broker_administrator.partition(":")
        try:
            told = {}
            for what in ("users", "permissions"):
                async with self._http().get(self._api(what), headers=_account(name, password)) as answer:
                    answer.raise_for_status()
                    told[what] = await answer.json()
        except _HTTP_FAILS as problem:
            raise Unanswered(
                f"users and permissions, asked as {name}: {said(problem)}", "name an administrator in RABBITMQ_ADMIN"
            ) from problem
        return told

    @staticmethod
    def _read_export(export: Callable[[], str]) -> Mapping[str, Any]:
        try:
            return cast(Mapping[str, Any], json.loads(export()))
        except (OSError, ValueError, StackProblem) as problem:
            raise Unanswered(
                f"the broker's definitions cannot be read: {said(problem)}",
                "make them anew with `rabbitmqctl export_definitions FILE`",
            ) from problem

    async def _log_in(self, user: BrokerUser) -> tuple[aiormq.abc.AbstractConnection, Mapping[str, Any]]:
        address = urlsplit(self.settings.rabbitmq_url)
        if not await asyncio.to_thread(_is_listening, address.hostname or "localhost", address.port or 5672):
            raise Unanswered(
                f"RabbitMQ: nobody listens at {address.hostname}:{address.port or 5672}",
                "start it, or correct BOXOFFICE_RABBITMQ_URL, then ask again",
            )
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await aiormq.connect(self.settings.rabbitmq_url_for(user))
        self._open.push_async_callback(connection.close, timeout=AMQP_CLOSE_SECONDS)
        return connection, {"channel_max": connection.connection_tune.channel_max}

    def _http(self) -> aiohttp.ClientSession:
        if "http" not in self._known:
            session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS))
            self._open.push_async_callback(session.close)
            self._known["http"] = session
        return cast(aiohttp.ClientSession, self._known["http"])

    def _api(self, path: str) -> str:
        return f"{self.settings.rabbitmq_management_url}/api/{path.replace('{vhost}', quote(self.vhost, safe=''))}"

    def _operator(self) -> dict[str, str]:
        return _account("operator", self.settings.rabbitmq_operator_password)


def said(problem: BaseException) -> str:
    """What a client's error says, never empty. (None of those asked here puts an address with a password into it.)"""
    return str(problem).strip() or type(problem).__name__


def read_file(path: Path) -> Callable[[], str]:
    """The content of a file, when it is wanted."""
    return lambda: path.read_text(encoding="utf-8")


def is_here(host: str | None) -> bool:
    """That host is this machine, by name."""
    return (host or "") in LOOPBACK


def _account(name: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(name, password)}


def _is_listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
