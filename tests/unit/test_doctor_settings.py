"""Does the doctor see settings that are allowed and dangerous, and what does it do when nobody answers?"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from contracts import topology
from contracts.settings import Settings
from ops.doctor import configuration, far_ends, host, postgres, rabbitmq, redis
from ops.doctor.connections import connections_at_most
from ops.doctor.deployment import Deployment
from ops.doctor.examination import ALL_WELL, COULD_NOT_ASK, SOMETHING_WRONG, examine, exit_code
from ops.doctor.findings import Check, Finding, Findings, Level, Unanswered, note, warning, wrong

STRONG = "Jq0xN6nV3oV8rQbW5mZkT1yHcD7uEwLa2sGf9pXiRtYK4jBnMzC8vQeA0dSlFhUo"

# A sale that is as it should be.
PRODUCTION: dict[str, Any] = {
    "environment": "production",
    "public_url": "https://tickets.example",
    "postgres_url": "postgresql://boxoffice:secret@db.internal/boxoffice?sslmode=verify-full",
    "redis_url": "rediss://:secret@redis.internal/0",
    "rabbitmq_url": "amqps://broker.internal/tk",
    "rabbitmq_management_url": "https://broker.internal:15671",
    "payment_api_url": "https://payments.example",
    "payment_api_key": "sk_live_ours",
    "smtp_url": "smtp+starttls://mail.internal:587",
    "mail_sender": "tickets@tickets.example",
    "signing_key": STRONG,
    "trusted_proxies": "10.1.2.0/24",
    "beacon": "drand-quicknet",
    **{f"rabbitmq_{user.name}_password": f"{STRONG}-{user.name}" for user in topology.USERS},
}

Ask = Callable[[Deployment], Awaitable[Findings]]


async def asked(check: Ask, **settings: Any) -> Findings:
    async with Deployment(Settings(**{**PRODUCTION, **settings})) as deployment:
        return await check(deployment)


async def test_a_sale_that_is_as_it_should_be_is_fine() -> None:
    async with Deployment(Settings(**PRODUCTION)) as deployment:
        results = await examine(deployment, configuration.CHECKS)
    assert [(result.check.name, result.findings) for result in results if result.findings] == []


async def test_a_laptop_as_it_comes_has_nothing_wrong() -> None:
    async with Deployment(Settings()) as deployment:
        assert exit_code(await examine(deployment, configuration.CHECKS)) == ALL_WELL


@pytest.mark.parametrize(
    ("check", "settings", "level", "words"),
    [
        (configuration.environment, {"environment": "development"}, Level.WRONG, "demo passwords and failpoints"),
        (configuration.demo_values, {"mail_sender": "tickets@boxoffice.example"}, Level.WRONG, "MAIL_SENDER"),
        (configuration.failpoints, {"failpoints": "engine.before_commit=kill"}, Level.WRONG, "failpoints are armed"),
        (configuration.signing_key, {"signing_key": "a" * 64}, Level.WRONG, "SIGNING_KEY is worth 0 bits"),
        (configuration.signing_key, {"signing_key_before": "summer2025"}, Level.WRONG, "SIGNING_KEY_BEFORE"),
        (configuration.broker_passwords, {"rabbitmq_worker_password": "short"}, Level.WARNING, "worker is short"),
        (
            configuration.broker_passwords,
            {"rabbitmq_worker_password": STRONG, "rabbitmq_courier_password": STRONG},
            Level.WARNING,
            "worker is another one’s",
        ),
        (configuration.one_user_for_all, {"rabbitmq_url": "amqps://us:x@broker/tk"}, Level.WARNING, "names a user"),
        (configuration.encryption, {"redis_url": "redis://:x@redis.internal/0"}, Level.WARNING, "BOXOFFICE_REDIS_URL"),
        (configuration.encryption, {"postgres_url": "postgresql://b:x@db/b"}, Level.WARNING, "BOXOFFICE_POSTGRES_URL"),
        (configuration.encryption, {"smtp_url": "smtp://mail.internal"}, Level.WARNING, "BOXOFFICE_SMTP_URL"),
        (configuration.secure_cookies, {"public_url": "http://tickets.example"}, Level.WRONG, "not https"),
        (configuration.trusted_proxies, {"trusted_proxies": ""}, Level.WARNING, "one address"),
        (configuration.trusted_proxies, {"trusted_proxies": "0.0.0.0/0"}, Level.WRONG, "anybody may claim"),
        (configuration.sale_settings, {"payment_api_key": "sk_test_ours"}, Level.WARNING, "no money moves"),
        (configuration.sale_settings, {"rate_limit_multiplier": 50.0}, Level.WARNING, "multiplied by 50"),
        (configuration.sale_settings, {"beacon": "offline"}, Level.WARNING, "nobody can check"),
        (configuration.sale_settings, {"event_queue_type": "classic"}, Level.WRONG, "die with their node"),
        (configuration.timeouts, {"lock_timeout_seconds": 6.0}, Level.WARNING, "LOCK_TIMEOUT_SECONDS"),
        (configuration.timeouts, {"checkout_deadline_seconds": 25.0}, Level.WARNING, "504"),
        (configuration.timeouts, {"hold_seconds": 1300}, Level.WARNING, "HOLD_SECONDS"),
        (host.cores, {"ingress_workers": 64}, Level.WARNING, "take turns"),
    ],
)
async def test_what_is_dangerous_is_seen(check: Ask, settings: dict[str, Any], level: Level, words: str) -> None:
    found = await asked(check, **settings)
    assert [finding.level for finding in found if words in finding.what] == [level], found
    assert all(finding.what_to_do for finding in found)
    assert await asked(check) == [], "and only that"


async def test_no_finding_repeats_a_secret() -> None:
    async with Deployment(
        Settings(**{**PRODUCTION, "rabbitmq_worker_password": "s3cr3t", "signing_key": "s3cr3t" * 6})
    ) as it:
        results = await examine(it, configuration.CHECKS)
    assert "s3cr3t" not in repr(results)


# ---- nobody answers

NOWHERE: dict[str, Any] = {
    "postgres_url": "postgresql://boxoffice@127.0.0.1:9/boxoffice",
    "redis_url": "redis://127.0.0.1:9/0",
    "rabbitmq_url": "amqp://127.0.0.1:9/tk",
    "rabbitmq_management_url": "http://127.0.0.1:9",
    "payment_api_url": "http://127.0.0.1:9",
    "smtp_url": "smtp://127.0.0.1:9",
}


async def test_servers_that_are_away_are_said_to_be_and_nothing_is_guessed() -> None:
    async with Deployment(Settings(**NOWHERE)) as deployment:
        results = await examine(deployment, (*postgres.CHECKS, *redis.CHECKS, *rabbitmq.CHECKS))
    asked_them = [result for result in results if result.findings]
    assert {finding.level for result in asked_them for finding in result.findings} == {Level.UNKNOWN}
    assert exit_code(results) == COULD_NOT_ASK
    assert {result.check.name for result in results} - {result.check.name for result in asked_them} == {
        # They ask nobody when the servers are on this machine, or when this is no real sale.
        "PostgreSQL rights",
        "Redis password",
    }


async def test_far_ends_that_are_away_are_wrong() -> None:
    async with Deployment(Settings(**NOWHERE)) as deployment:
        results = await examine(deployment, far_ends.CHECKS)
    assert [result.level for result in results] == [Level.WRONG, Level.WRONG]


async def test_a_check_that_hangs_is_given_up() -> None:
    async def hangs(_: Deployment) -> Findings:
        await asyncio.Event().wait()
        return []

    async with Deployment(Settings()) as deployment:
        (result,) = await examine(deployment, [Check("hangs", hangs, timeout_seconds=0.01)])
    assert result.level is Level.UNKNOWN


async def test_users_and_permissions_are_for_administrators() -> None:
    async with Deployment(Settings(**NOWHERE)) as deployment:
        with pytest.raises(Unanswered, match="administrators only") as unanswered:
            await deployment.accounts()
    assert "RABBITMQ_ADMIN" in unanswered.value.what_to_do


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], ALL_WELL),
        ([note("good to know")], ALL_WELL),
        ([warning("one day", "mend it")], ALL_WELL),
        ([Finding(Level.UNKNOWN, "away")], COULD_NOT_ASK),
        ([Finding(Level.UNKNOWN, "away"), wrong("broken", "mend it")], SOMETHING_WRONG),
    ],
    ids=["fine", "note", "warning", "unknown", "wrong-and-unknown"],
)
async def test_the_exit_code_tells_a_pipeline(found: list[Finding], code: int) -> None:
    async def finds(_: Deployment) -> Findings:
        return found

    async with Deployment(Settings()) as deployment:
        assert exit_code(await examine(deployment, [Check("finds", finds)])) == code


# ---- the broker, by what it tells

NODE = {
    "name": "rabbit@one",
    "running": True,
    "enabled_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
    "partitions": [],
    "mem_alarm": False,
    "disk_free_alarm": False,
    "disk_free": 50_000_000_000,
    "disk_free_limit": 512_000_000,
    "fd_total": 65_536,
}


@pytest.mark.parametrize(
    ("differs", "level", "words"),
    [
        ({"running": False}, Level.WRONG, "does not run"),
        ({"enabled_plugins": ["rabbitmq_management"]}, Level.WRONG, "rabbitmq_prometheus"),
        ({"partitions": ["rabbit@two"]}, Level.WRONG, "does not see rabbit@two"),
        ({"mem_alarm": True}, Level.WRONG, "out of memory"),
        ({"disk_free_alarm": True}, Level.WRONG, "out of disk"),
        ({"disk_free": 600_000_000}, Level.WARNING, "600 MB of disk left"),
        ({"disk_free_limit": 50_000_000}, Level.WARNING, "disk_free_limit"),
        ({"fd_total": 1024}, Level.WARNING, "1024 files"),
    ],
    ids=["down", "plugin", "partition", "memory", "disk", "disk-soon", "disk-limit", "files"],
)
def test_a_node_in_trouble_is_seen(differs: dict[str, Any], level: Level, words: str) -> None:
    (found,) = rabbitmq.troubles_of({**NODE, **differs})
    assert found.level is level
    assert words in found.what
    assert list(rabbitmq.troubles_of(NODE)) == []


def test_versions_are_compared_as_numbers() -> None:
    assert rabbitmq.numbers("3.9.29") < rabbitmq.VERSION_MIN < rabbitmq.numbers("3.10.8")
    assert rabbitmq.numbers("4.1.0-rc.1") > rabbitmq.numbers("3.13.7")


@pytest.mark.parametrize(
    ("policy", "level", "words"),
    [
        ({"policy": None}, Level.WRONG, "without a policy"),
        ({"policy": "analytics"}, Level.WRONG, "another policy than ours"),
        ({}, Level.UNKNOWN, "does not yet tell"),
    ],
    ids=["none", "another", "not-told"],
)
def test_a_queue_without_its_limits_is_seen(policy: dict[str, Any], level: Level, words: str) -> None:
    others = [{"name": "somebody.elses", "policy": None}, {"name": "tk.parking", "policy": "parking"}]
    (found,) = rabbitmq.troubles_of_limits([*others, {"name": topology.lane_queue(3), **policy}])
    assert found.level is level
    assert words in found.what
    assert topology.lane_queue(3) in found.what
    assert list(rabbitmq.troubles_of_limits(others)) == []


def test_a_queue_that_is_called_like_ours_and_is_not_is_seen() -> None:
    (found,) = rabbitmq.troubles_of_limits([{"name": "tk.somebody", "policy": None}])
    assert found.level is Level.WARNING
    assert "no queue of ours" in found.what


# ---- connections


def test_more_processes_open_more_connections() -> None:
    settings = Settings(ingress_workers=2, postgres_pool_max=10)
    one_of_each = connections_at_most(settings, {})
    assert connections_at_most(settings, {"ingress": 3}) == one_of_each + 2 * 2 * (10 + 2 + 1)
    assert connections_at_most(settings, {"payments": 0}) == one_of_each - 7
