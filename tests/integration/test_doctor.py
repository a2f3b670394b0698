"""Does the doctor find what is wrong with real servers? Each is broken on purpose, on a target of the test's own."""

import base64
import hashlib
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from contracts import topology
from contracts.settings import Settings
from db.migrate import migrate
from db.redis import REDIS_AWAY
from db.schema import read_schema
from ops.doctor import clocks, far_ends, postgres, rabbitmq, redis
from ops.doctor.command import as_document
from ops.doctor.deployment import Deployment
from ops.doctor.examination import ALL_WELL, CHECKS, examine, exit_code
from ops.doctor.findings import Check, Findings, Level
from ops.doctor.schema import expected_schema
from ops.stack import Stack, binaries
from tests.eventually import eventually
from tests.ingress_process import a_free_port

Ask = Callable[[Deployment], Awaitable[Findings]]


async def asked(settings: Settings, check: Ask, **options: Any) -> Findings:
    async with Deployment(settings, **options) as deployment:
        return await check(deployment)


async def worst_of(settings: Settings, checks: tuple[Check, ...], **options: Any) -> list[tuple[str, str]]:
    """The checks that found more than something to note."""
    async with Deployment(settings, **options) as deployment:
        results = await examine(deployment, checks)
    bad = (Level.WRONG, Level.WARNING, Level.UNKNOWN)
    return [(result.check.name, repr(result.findings)) for result in results if result.level in bad]


# ---- the whole


async def test_a_stack_of_ours_is_fit_for_a_sale(settings: Settings, stack: Stack) -> None:
    accounts = lambda: stack.rabbitmqctl("-q", "export_definitions", "-")  # noqa: E731 -- one line, used once
    # Whatever else runs on this machine may fill its disk, and tests leave queues of their own at the broker.
    checks = tuple(
        check for check in CHECKS if check.name not in ("disk space", "open files", "RabbitMQ limits of queues")
    )
    async with Deployment(settings, broker_accounts=accounts) as deployment:
        results = await examine(deployment, checks)
    assert exit_code(results) == ALL_WELL, [
        result for result in results if result.level in (Level.WRONG, Level.UNKNOWN)
    ]
    told = json.loads(as_document(results))
    assert told["exitCode"] == ALL_WELL
    assert [check["name"] for check in told["checks"]] == [check.name for check in checks]


# ---- PostgreSQL


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fresh_url(stack: Stack) -> AsyncIterator[str]:
    """The address of a database that was just migrated. Tests leave it as it was."""
    name = f"doctor_{uuid4().hex}"
    url = Settings.read(stack.environment()).postgres_url
    await _execute(url, f"CREATE DATABASE {name}")
    fresh = urlsplit(url)._replace(path=f"/{name}").geturl()
    await migrate(fresh)
    yield fresh
    await _execute(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def fresh(settings: Settings, fresh_url: str) -> Settings:
    return settings.model_copy(update={"postgres_url": fresh_url})


class InTransaction(Deployment):
    """Is asked in a transaction in which something was broken, and which is rolled back."""

    connection: Any = None

    async def postgres(self) -> Any:
        return self.connection


async def test_the_list_of_indexes_and_constraints_is_that_of_a_fresh_database(fresh: Settings) -> None:
    async with Deployment(fresh) as deployment:
        has = await read_schema(await deployment.postgres())
    assert has == expected_schema(), "write it anew: python -m ops.doctor.schema URL"


async def test_a_fresh_database_is_fine(fresh: Settings) -> None:
    assert await worst_of(fresh, postgres.CHECKS) == []


@pytest.mark.parametrize(
    ("check", "told", "words"),
    [
        (postgres.durability, "SET synchronous_commit = off", "synchronous_commit is off"),
        (postgres.writable, "SET default_transaction_read_only = on", "may only read"),
        (postgres.connections, "CONNECTION LIMIT 20", "PostgreSQL takes 20"),
    ],
    ids=["durability", "read-only", "connections"],
)
async def test_a_database_that_was_told_otherwise_is_seen(
    settings: Settings, fresh: Settings, check: Ask, told: str, words: str
) -> None:
    database = urlsplit(fresh.postgres_url).path.lstrip("/")
    await _execute(settings.postgres_url, f"ALTER DATABASE {database} {told}")
    try:
        found = await asked(fresh, check)
    finally:
        for undo in ("RESET ALL", "CONNECTION LIMIT -1"):
            await _execute(settings.postgres_url, f"ALTER DATABASE {database} {undo}")
    assert any(words in finding.what and finding.what_to_do for finding in found)
    assert await asked(fresh, check) == []


@pytest.mark.parametrize(
    ("check", "broken_by", "words"),
    [
        (postgres.migrated, "DELETE FROM schema_migrations WHERE name LIKE '0011%'", "not applied: 0011"),
        (postgres.migrated, "UPDATE schema_migrations SET checksum = 'x' WHERE name LIKE '0001%'", "changed after"),
        (postgres.migrated, "INSERT INTO schema_migrations VALUES ('9999_new.sql', 'x')", "newer version: 9999"),
        (postgres.migrated, "DROP TABLE schema_migrations", "the database is empty"),
        (postgres.schema, "DROP INDEX a_seat_is_sold_once", "indexes that are missing: a_seat_is_sold_once"),
        (
            postgres.schema,
            "DROP INDEX a_seat_is_sold_once; CREATE INDEX a_seat_is_sold_once ON order_items (event_id, seat_id)",
            "not as the migrations make them: a_seat_is_sold_once",
        ),
        (
            postgres.schema,
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_by_user'::regclass",
            "not valid: orders_by_user",
        ),
        (postgres.schema, "ALTER TABLE seats DROP CONSTRAINT seats_status_check", "missing: seats.seats_status_check"),
        (
            postgres.schema,
            "ALTER TABLE holds ADD CONSTRAINT later CHECK (held_until IS NOT NULL) NOT VALID",
            "nobody has proven for old records: holds.later",
        ),
    ],
    ids=[
        "behind",
        "edited",
        "ahead",
        "empty",
        "no-index",
        "weaker-index",
        "invalid-index",
        "no-check",
        "unproven-check",
    ],
)
async def test_a_broken_schema_is_seen(fresh: Settings, check: Ask, broken_by: str, words: str) -> None:
    deployment = InTransaction(fresh)
    deployment.connection = connection = await asyncpg.connect(fresh.postgres_url)
    try:
        assert await check(deployment) == []
        async with rolled_back(connection):
            await connection.execute(broken_by)
            assert any(words in finding.what and finding.what_to_do for finding in await check(deployment))
    finally:
        await connection.close()


@asynccontextmanager
async def rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def test_pools_that_do_not_fit_are_seen(settings: Settings) -> None:
    (found,) = await asked(settings, postgres.connections, processes={"ingress": 12, "commands": 8})
    assert found.level is Level.WRONG


async def test_a_clock_that_is_wrong_is_seen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await worst_of(settings, clocks.CHECKS) == []
    really = clocks.time.time
    monkeypatch.setattr(clocks.time, "time", lambda: really() - 5)
    found = dict(await worst_of(settings, clocks.CHECKS))
    assert set(found) == {check.name for check in clocks.CHECKS}
    assert all("ahead of this host's" in words for words in found.values())


# ---- Redis


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this file's own."""
    port = a_free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path_factory.mktemp("redis"))]
    process = subprocess.Popen(
        [str(binaries.redis_program()), str(Path("ops/redis/redis.conf").resolve()), *options],
        stdout=subprocess.DEVNULL,
    )
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture
async def broken_redis(settings: Settings, redis_url: str) -> AsyncIterator[tuple[Settings, Redis]]:
    """Settings with that Redis, and a client; what was told to it is taken back."""
    theirs = settings.model_copy(update={"redis_url": redis_url})
    async with Redis.from_url(redis_url) as client:

        async def answers() -> bool:
            try:
                return bool(await client.ping())
            except REDIS_AWAY:
                return False

        await eventually(answers, within_seconds=10)
        before = {name: (await client.config_get(name))[name] for name in TOLD}
        yield theirs, client
        for name, value in before.items():
            await client.config_set(name, value)


TOLD = ("appendonly", "appendfsync", "maxmemory-policy", "maxmemory", "maxclients")


@pytest.mark.parametrize(
    ("check", "name", "value", "words"),
    [
        (redis.persistence, "appendonly", "no", "appendonly is no"),
        (redis.persistence, "appendfsync", "no", "appendfsync is no"),
        (redis.persistence, "appendfsync", "always", "waits for the disk"),
        (redis.eviction, "maxmemory-policy", "allkeys-lru", "sessions and places vanish"),
        (redis.memory, "maxmemory", "0", "maxmemory is not set"),
        (redis.memory, "maxmemory", "1000000", "of its memory"),
        (redis.clients, "maxclients", "50", "takes 50 connections"),
    ],
)
async def test_a_redis_told_otherwise_is_seen(
    broken_redis: tuple[Settings, Redis], check: Ask, name: str, value: str, words: str
) -> None:
    theirs, client = broken_redis
    assert await worst_of(theirs, redis.CHECKS) == []
    await client.config_set(name, value)
    assert any(words in finding.what and finding.what_to_do for finding in await asked(theirs, check))


async def test_a_redis_without_a_password_is_seen_where_others_reach_it(
    broken_redis: tuple[Settings, Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, _ = broken_redis
    assert await asked(theirs, redis.password) == [], "on this machine, and no sale"
    production = theirs.model_copy(update={"environment": "production"})
    monkeypatch.setattr(redis, "is_here", lambda _: False)
    (found,) = await asked(production, redis.password)
    assert found.level is Level.WRONG


# ---- RabbitMQ: a virtual host of the test's own, at the broker that all share


class Broker:
    """The management API, as an administrator that exists for this test only."""

    def __init__(self, settings: Settings, vhost: str, administrator: str) -> None:
        self._settings = settings
        self.vhost = vhost
        self.administrator = administrator

    @property
    def settings(self) -> Settings:
        path = urlsplit(self._settings.rabbitmq_url)
        return self._settings.model_copy(update={"rabbitmq_url": path._replace(path=f"/{self.vhost}").geturl()})

    def tell(self, method: str, path: str, body: Any = None) -> None:
        request = urllib.request.Request(  # noqa: S310 -- our own broker
            f"{self._settings.rabbitmq_management_url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(self.administrator.encode()).decode(),
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            answer.read()

    async def ask(self, check: Ask) -> Findings:
        return await asked(self.settings, check, broker_administrator=self.administrator)


@pytest.fixture(scope="module")
def broker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    vhost = name = f"doctor-{uuid4().hex[:8]}"
    definitions = _moved(topology.definitions(), vhost)
    definitions["users"] = [{"name": name, "tags": "administrator", **_hashed("of this test")}]
    definitions["permissions"] += [{"user": name, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}]
    file = tmp_path_factory.mktemp("broker") / "definitions.json"
    file.write_text(json.dumps(definitions))
    stack.rabbitmqctl("-q", "import_definitions", str(file))
    broker = Broker(Settings.read(stack.environment()), vhost, f"{name}:of this test")
    yield broker
    broker.tell("DELETE", f"vhosts/{vhost}")
    broker.tell("DELETE", f"users/{name}")


def _moved(definitions: Any, vhost: str) -> Any:
    """The definitions, for another virtual host."""
    if isinstance(definitions, dict):
        moved = {key: _moved(value, vhost) for key, value in definitions.items()}
        return {**moved, "vhost": vhost} if "vhost" in moved else moved
    if isinstance(definitions, list):
        return [_moved(each, vhost) for each in definitions]
    return vhost if definitions == topology.VHOST else definitions


def _hashed(password: str) -> dict[str, str]:
    salt = b"salt"
    stored = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {"password_hash": stored, "hashing_algorithm": "rabbit_password_hashing_sha256"}


WORKER = next(user for user in topology.USERS if user.name == "worker")
RIGHTS = {"configure": WORKER.configure, "write": WORKER.write, "read": WORKER.read}


@asynccontextmanager
async def told(broker: Broker, method: str, path: str, body: Any, undo: tuple[str, str, Any]) -> AsyncIterator[None]:
    broker.tell(method, path, body)
    try:
        yield
    finally:
        broker.tell(*undo)


async def test_a_broker_as_it_should_be_is_fine(broker: Broker) -> None:
    # It tells of a queue's policy some five seconds after the queue was made, and the check says so.
    (found,) = await broker.ask(rabbitmq.limits)
    assert found.level is Level.UNKNOWN
    checks = tuple(check for check in rabbitmq.CHECKS if check.name != "RabbitMQ limits of queues")
    assert await worst_of(broker.settings, checks, broker_administrator=broker.administrator) == []


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ({**RIGHTS, "write": "^tk\\.reply$"}, "worker may write '^tk\\\\.reply$'"),
        ({**RIGHTS, "write": ".*"}, "worker may write '.*'"),
        ({**RIGHTS, "configure": ".*"}, "worker may configure '.*'"),
    ],
    ids=["too-few", "too-many", "may-declare"],
)
async def test_rights_that_are_not_ours_are_seen(broker: Broker, rights: dict[str, str], words: str) -> None:
    path = f"permissions/{broker.vhost}/worker"
    async with told(broker, "PUT", path, rights, ("PUT", path, RIGHTS)):
        (found,) = await broker.ask(rabbitmq.accounts)
    assert words in found.what
    assert WORKER.write in found.what_to_do


async def test_a_user_that_everybody_knows_is_seen(broker: Broker) -> None:
    guest = {**_hashed("guest"), "tags": "administrator"}
    async with told(broker, "PUT", "users/guest", guest, ("DELETE", "users/guest", None)):
        assert any("guest is still there" in finding.what for finding in await broker.ask(rabbitmq.accounts))


async def test_a_demo_password_at_the_broker_is_seen(broker: Broker) -> None:
    production = broker.settings.model_copy(update={"environment": "production"})
    found = await asked(production, rabbitmq.accounts, broker_administrator=broker.administrator)
    assert {user.name for user in topology.USERS} == {f.what.split()[0] for f in found if "demo password" in f.what}


async def test_a_user_that_does_not_get_in_is_seen(broker: Broker) -> None:
    ours = broker.settings.model_copy(update={"rabbitmq_courier_password": "not that"})
    (found,) = await asked(ours, rabbitmq.logins)
    assert found.what.startswith("courier does not get into")


async def test_what_operators_are_not_told_is_said_to_be_unknown(broker: Broker) -> None:
    mistaken = broker.settings.model_copy(update={"rabbitmq_operator_password": "not that"})
    async with Deployment(mistaken) as deployment:
        results = await examine(
            deployment, [Check("accounts", rabbitmq.accounts), Check("policies", rabbitmq.policies)]
        )
    assert [result.level for result in results] == [Level.UNKNOWN, Level.UNKNOWN]


async def test_a_policy_that_is_missing_or_weaker_is_seen(broker: Broker) -> None:
    commands = next(policy for policy in topology.POLICIES if policy.name == "commands")
    body = {"pattern": commands.pattern, "definition": commands.definition, "apply-to": "queues", "priority": 0}
    path = f"policies/{broker.vhost}/commands"
    async with told(broker, "DELETE", path, None, ("PUT", path, body)):
        assert any("no policy commands" in finding.what for finding in await broker.ask(rabbitmq.policies))
    weaker = {**body, "definition": {**commands.definition, "overflow": "drop-head"}}
    async with told(broker, "PUT", path, weaker, ("PUT", path, body)):
        assert any("'drop-head' instead of" in finding.what for finding in await broker.ask(rabbitmq.policies))
    assert await broker.ask(rabbitmq.policies) == []


async def test_a_queue_of_another_kind_is_seen(broker: Broker) -> None:
    name = f"{rabbitmq.EVENT_QUEUE_PREFIX}{uuid4()}"
    path = f"queues/{broker.vhost}/{name}"
    classic = {"durable": True, "arguments": {"x-queue-type": "classic"}}
    async with told(broker, "PUT", path, classic, ("DELETE", path, None)):

        async def it_is_seen() -> bool:
            return any(name in finding.what for finding in await broker.ask(rabbitmq.queues))

        await eventually(it_is_seen, within_seconds=20)


async def test_what_is_missing_between_exchange_and_queue_is_seen(broker: Broker) -> None:
    exchange = {"type": "topic", "durable": True, "arguments": {}}
    path = f"exchanges/{broker.vhost}/{topology.PARKING_EXCHANGE}"
    broker.tell("DELETE", path)
    try:
        found = await broker.ask(rabbitmq.exchanges_and_bindings)
        assert any(f"{topology.PARKING_EXCHANGE} missing" in finding.what for finding in found)
        assert any("bindings missing: tk.dlx → tk.parking" in finding.what for finding in found)
    finally:
        broker.tell("PUT", path, exchange)
        binding = f"bindings/{broker.vhost}/e/{topology.PARKING_EXCHANGE}/q/{topology.PARKING_QUEUE}"
        broker.tell("POST", binding, {"routing_key": "#", "arguments": {}})


# ---- far ends


async def test_a_provider_that_does_not_know_our_key_is_seen(settings: Settings) -> None:
    assert await asked(settings, far_ends.payment_provider) == []
    ours = settings.model_copy(update={"payment_api_key": "sk_live_of_somebody_else"})
    (found,) = await asked(ours, far_ends.payment_provider)
    assert "refuses our key" in found.what


async def test_the_mail_server_is_greeted_and_sent_nothing(settings: Settings) -> None:
    assert await asked(settings, far_ends.mail_server) == []


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
