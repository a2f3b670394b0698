"""Is the broker the one that contracts/topology.py describes, and will it keep what it took?"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from aiormq.exceptions import AMQPError

from consumers.lifecycle import EVENT_QUEUES_MAX
from contracts import topology
from contracts.production import SHIPPED_USER
from contracts.settings import PREFIX, BrokerUser, Settings
from ops.doctor.deployment import Deployment
from ops.doctor.findings import Check, Finding, Findings, Level, note, some, warning, wrong

VERSION_MIN = (3, 10)
# What newer ones do for us that an older one does not.
LACKS = (
    ((3, 12), "a consumer's timeout set by policy"),
    ((3, 13), "fixes: releases before it get none, not even for security"),
    ((4, 0), "handing a queue over to another consumer without closing it, and a delivery limit by default"),
)
# A single active consumer's queue stands still after all its consumers timed out (rabbitmq-server #17317).
STANDS_STILL = ((4, 3, 0), (4, 3, 5))
PLUGINS = {
    "rabbitmq_management": "the management UI, and what AMQP does not tell",
    "rabbitmq_prometheus": "the broker's own figures, on port 15692",
}
IMPORT = "rabbitmqctl import_definitions rabbitmq/definitions.json"
DECLARE = "python -m consumers declare-topology"

DISK_LIMIT_MIN = 256 * 1000 * 1000  # bytes; a quorum queue's segment is up to 64 MB, and several are written at a time
DISK_ROOM = 2  # times the limit: closer, and the next rush blocks publishers
FILES_MIN = 10_000
EVENT_QUEUE_PREFIX = "tk.cmd.e."
# One for each queue of commands on one connection, and a few to look and to declare with.
CHANNELS_MIN = EVENT_QUEUES_MAX + topology.LANE_COUNT + 8


async def version(deployment: Deployment) -> Findings:
    """Not older than what we know, and what an older one lacks."""
    told = (await deployment.broker("overview"))["rabbitmq_version"]
    number = numbers(told)
    if number < VERSION_MIN:
        return [wrong(f"RabbitMQ {told} is older than 3.10", "upgrade, one minor version after the other")]
    lacks = [what for since, what in LACKS if number < since]
    found = (
        [note(f"RabbitMQ {told} lacks {'; '.join(lacks)}", "nothing of ours needs it; upgrade when you can")]
        if lacks
        else []
    )
    if STANDS_STILL[0] <= number <= STANDS_STILL[1] and deployment.settings.single_active_consumer:
        found.append(
            warning(
                f"RabbitMQ {told} may stop delivering from an event's queue (rabbitmq-server #17317)",
                f"upgrade past it, or set {PREFIX}SINGLE_ACTIVE_CONSUMER=false",
            )
        )
    return found


async def nodes(deployment: Deployment) -> Findings:
    """Each node runs, sees the others, has its plugins, and blocks nobody."""
    return [finding for node in await deployment.broker("nodes") for finding in troubles_of(node)]


async def logins(deployment: Deployment) -> Findings:
    """Each role's user gets in with the password in our settings."""
    found = []
    for user in get_args(BrokerUser):
        try:
            await deployment.log_in(user)
        except (AMQPError, OSError, TimeoutError) as refused:
            found.append(
                wrong(
                    f"{user} does not get into the virtual host {deployment.vhost}: {str(refused)[:120]}",
                    f"rabbitmqctl change_password {user} …, the same in {PREFIX}RABBITMQ_{user.upper()}_PASSWORD; or {IMPORT}",
                )
            )
    return found


async def channels(deployment: Deployment) -> Findings:
    """One consumer process may have to take every event's queue, each on a channel of its own."""
    _, tune = await deployment.log_in("worker")
    most = tune["channel_max"]
    if most == 0 or most >= CHANNELS_MIN:  # 0: no limit
        return []
    return [
        warning(
            f"channel_max is {most}: one `commands` process can take {most - topology.LANE_COUNT - 8} events' queues, and"
            f" lifecycle opens up to {EVENT_QUEUES_MAX}",
            "channel_max = 2047 in rabbitmq.conf, restart the broker",
        )
    ]


async def accounts(deployment: Deployment) -> Findings:
    """Every user may do what it must, and nothing else."""
    return list(
        troubles_of_accounts(await deployment.accounts(), deployment.vhost, is_production=deployment.is_production)
    )


async def policies(deployment: Deployment) -> Findings:
    """Limits are policies: without one a queue has no bound."""
    has = {
        policy["name"]: policy for policy in await deployment.broker("policies/{vhost}") if isinstance(policy, Mapping)
    }
    return list(troubles_of_policies(has))


async def limits(deployment: Deployment) -> Findings:
    """Every queue of ours has the policy that its name calls for."""
    queues = await deployment.broker("queues/{vhost}?columns=name,policy,type,arguments,durable")
    return list(troubles_of_limits(queues))


async def exchanges_and_bindings(deployment: Deployment) -> Findings:
    """Messages find their way."""
    exchanges = await deployment.broker("exchanges/{vhost}")
    bindings = await deployment.broker("bindings/{vhost}")
    return [*troubles_of_exchanges(exchanges), *troubles_of_bindings(bindings, deployment.settings)]


async def queues(deployment: Deployment) -> Findings:
    """Every queue is there, durable, of the right kind."""
    told = await deployment.broker("queues/{vhost}?columns=name,policy,type,arguments,durable")
    return list(troubles_of_queues(told, deployment.settings))


# ---- what is wrong with what was told


def numbers(version_text: str) -> tuple[int, ...]:
    """3.10.8 as numbers, however its makers call the rest of it."""
    return tuple(int(part) for part in re.findall(r"\d+", version_text)[:3])


def troubles_of(node: Mapping[str, Any]) -> Iterator[Finding]:
    """Of one node, as /api/nodes tells."""
    name = node["name"]
    if not node.get("running", True):
        yield wrong(f"{name} does not run", "start it: with too few nodes, quorum queues stand still")
        return
    for plugin, what_for in PLUGINS.items():
        if plugin not in node.get("enabled_plugins", PLUGINS):
            yield wrong(f"{name} lacks the plugin {plugin}: {what_for}", f"rabbitmq-plugins enable {plugin}")
    if node.get("partitions"):
        yield wrong(
            f"{name} does not see {', '.join(node['partitions'])}", "mend the network; restart the smaller part"
        )
    if node.get("mem_alarm"):
        yield wrong(
            f"{name} is out of memory: it takes no messages", "drain the queues; raise vm_memory_high_watermark"
        )
    if node.get("disk_free_alarm"):
        yield wrong(f"{name} is out of disk: it takes no messages", "make room on its disk")
    elif node["disk_free"] < node["disk_free_limit"] * DISK_ROOM:
        yield warning(f"{name} has {_megabytes(node['disk_free'])} of disk left", "make room before the next sale")
    if node["disk_free_limit"] < DISK_LIMIT_MIN:
        yield warning(
            f"disk_free_limit of {name} is {_megabytes(node['disk_free_limit'])}: the disk is full before it notices",
            "disk_free_limit.absolute = 512MB in rabbitmq.conf",
        )
    if node["fd_total"] < FILES_MIN:
        yield warning(
            f"{name} may open {node['fd_total']} files: queues and connections share them",
            "LimitNOFILE=65536 for its service (or ulimits of its container)",
        )


def troubles_of_accounts(told: Mapping[str, Any], vhost: str, *, is_production: bool) -> Iterator[Finding]:
    """Of users and permissions, as an export of the definitions tells."""
    users = {user["name"]: user for user in told["users"]}
    if SHIPPED_USER in users:
        yield wrong(
            f"the user {SHIPPED_USER} is still there, and everybody knows its password",
            f"rabbitmqctl delete_user {SHIPPED_USER}",
        )
    has = {one["user"]: one for one in told["permissions"] if one["vhost"] == vhost}
    for user in topology.USERS:
        if user.name not in users:
            yield wrong(f"there is no user {user.name}", IMPORT)
            continue
        yield from _troubles_of_user(user, users[user.name], has.get(user.name), vhost, is_production=is_production)
    for name in sorted(has.keys() - {user.name for user in topology.USERS}):
        if "administrator" not in tags_of(users.get(name, {})):
            yield warning(
                f"{name} is none of ours and may use {vhost} ({_rights(has[name])})",
                f"rabbitmqctl clear_permissions -p {vhost} {name}, unless you know what for",
            )


def _troubles_of_user(
    user: topology.User, account: Mapping[str, Any], has: Mapping[str, Any] | None, vhost: str, *, is_production: bool
) -> Iterator[Finding]:
    mend = f"rabbitmqctl set_permissions -p {vhost} {user.name} '{user.configure}' '{user.write}' '{user.read}'"
    if has is None:
        yield wrong(f"{user.name} has no permissions in {vhost}", mend)
    else:
        for what in ("configure", "write", "read"):
            if has[what] != getattr(user, what):
                yield wrong(f"{user.name} may {what} {has[what]!r} where it should be {getattr(user, what)!r}", mend)
    if tags_of(account) != set(user.tags):
        yield wrong(
            f"{user.name} is {', '.join(sorted(tags_of(account))) or 'untagged'} and should be"
            f" {', '.join(user.tags) or 'untagged'}",
            f"rabbitmqctl set_user_tags {user.name} {' '.join(user.tags)}".strip(),
        )
    if is_production and _is_password(f"demo-{user.name}", account.get("password_hash", "")):
        yield wrong(
            f"{user.name} still has its demo password at the broker",
            f"rabbitmqctl change_password {user.name} …, the same in {PREFIX}RABBITMQ_{user.name.upper()}_PASSWORD",
        )


def troubles_of_policies(has: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Of the policies by name."""
    for policy in topology.POLICIES:
        if policy.name not in has:
            yield wrong(f"there is no policy {policy.name}: queues {policy.pattern} have no limits", IMPORT)
        elif has[policy.name]["pattern"] != policy.pattern:
            yield wrong(f"the policy {policy.name} is for {has[policy.name]['pattern']}, not {policy.pattern}", IMPORT)
        else:
            yield from _troubles_of_definition(policy, has[policy.name]["definition"])


def _troubles_of_definition(policy: topology.Policy, has: Mapping[str, Any]) -> Iterator[Finding]:
    for key, value in policy.definition.items():
        if key not in has:
            yield wrong(f"the policy {policy.name} says nothing of {key}", IMPORT)
        elif has[key] != value and key == "max-length":
            # What policies are for: an operator changes a bound while it sells.
            yield note(f"the policy {policy.name} has {key} {has[key]} instead of {value}", "fine if you meant it")
        elif has[key] != value:
            yield wrong(f"the policy {policy.name} has {key} {has[key]!r} instead of {value!r}", IMPORT)
    for key in sorted(has.keys() - policy.definition.keys()):
        yield warning(f"the policy {policy.name} also sets {key}", "nothing of ours expects that: see why")


def troubles_of_limits(told: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Of the policy that is in force for each queue."""
    without, with_another, silent, not_ours = [], [], [], []
    for queue in told:
        wanted = [policy.name for policy in topology.POLICIES if re.search(policy.pattern, queue["name"])]
        if not queue["name"].startswith("tk."):
            continue
        if not wanted:
            not_ours.append(queue["name"])
        elif "policy" not in queue:
            silent.append(queue["name"])
        elif not queue["policy"]:
            without.append(queue["name"])
        elif queue["policy"] not in wanted:
            with_another.append(f"{queue['name']} ({queue['policy']})")
    if not_ours:
        yield warning(f"{some(not_ours)}: no queue of ours is called that", "find out whose it is, or delete it")
    if without:
        yield wrong(f"{some(without)} without a policy: without a bound", IMPORT)
    if with_another:
        yield wrong(f"{some(with_another)} with another policy than ours", "lower its priority, or narrow its pattern")
    if silent:
        yield Finding(
            Level.UNKNOWN,
            f"the broker does not yet tell of {some(silent)}",
            "ask again in ten seconds; a queue it never tells of has no leader (rabbitmq/README.md, queues that fall silent)",
        )


def troubles_of_queues(told: Iterable[Mapping[str, Any]], settings: Settings) -> Iterator[Finding]:
    """Of the queues themselves; those of events as lifecycle would declare them now."""
    has = {queue["name"]: queue for queue in told}
    fixed = {queue.name: queue.arguments for queue in (*topology.QUEUES, topology.wait_queue(settings.hold_seconds))}
    if missing := sorted(fixed.keys() - has.keys()):
        yield wrong(f"{some(missing)} missing", DECLARE)
    of_events = topology.command_queue_arguments(
        queue_type=settings.event_queue_type, single_active_consumer=settings.single_active_consumer
    )
    other = []
    for name, queue in sorted(has.items()):
        wanted = fixed.get(name, of_events if name.startswith(EVENT_QUEUE_PREFIX) else None)
        if wanted is not None and (queue["arguments"] != wanted or not queue.get("durable", True)):
            other.append(name)
    if other:
        yield wrong(
            f"{some(other)} declared otherwise than contracts/topology.py says",
            f"let it run empty, delete it in the management UI, then {DECLARE}",
        )


def troubles_of_exchanges(told: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Of the exchanges."""
    has = {exchange["name"]: exchange for exchange in told}
    if missing := sorted(exchange.name for exchange in topology.EXCHANGES if exchange.name not in has):
        yield wrong(f"{some(missing)} missing", DECLARE)
    other = [
        wanted.name
        for wanted in topology.EXCHANGES
        if (found := has.get(wanted.name))
        and (found["type"] != wanted.type or found["arguments"] != wanted.arguments or not found["durable"])
    ]
    if other:
        yield wrong(f"{some(other)} declared otherwise than contracts/topology.py says", f"delete, then {DECLARE}")


def troubles_of_bindings(told: Iterable[Mapping[str, Any]], settings: Settings) -> Iterator[Finding]:
    """Of the bindings."""
    has = {(one["source"], one["destination"], one["routing_key"]) for one in told}
    wait = topology.wait_queue(settings.hold_seconds)
    arming = topology.Binding(topology.HOLDS, wait.name, topology.hold_arm_key(settings.hold_seconds))
    missing = [
        f"{one.exchange} → {one.queue}"
        for one in (*topology.BINDINGS, arming)
        if (one.exchange, one.queue, one.routing_key) not in has
    ]
    if missing:
        yield wrong(f"bindings missing: {some(missing)}; messages for them go nowhere", DECLARE)


def tags_of(account: Mapping[str, Any]) -> set[str]:
    """A user's tags: a list since 3.9, words with commas in older exports."""
    tags = account.get("tags", [])
    return {tag for tag in (tags.split(",") if isinstance(tags, str) else tags) if tag}


def _is_password(guess: str, salted_hash: str) -> bool:
    """RabbitMQ's salted SHA-256: four bytes of salt, then the hash of salt and password."""
    stored = base64.b64decode(salted_hash) if salted_hash else b""
    return stored[4:] == hashlib.sha256(stored[:4] + guess.encode()).digest()


def _rights(permission: Mapping[str, Any]) -> str:
    return ", ".join(f"{what} {permission[what]}" for what in ("configure", "write", "read"))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


CHECKS = (
    Check("RabbitMQ version", version),
    Check("RabbitMQ nodes", nodes),
    Check("RabbitMQ logins", logins, timeout_seconds=20.0),
    Check("RabbitMQ channels", channels),
    Check("RabbitMQ users and permissions", accounts, timeout_seconds=15.0),
    Check("RabbitMQ policies", policies),
    Check("RabbitMQ limits of queues", limits),
    Check("RabbitMQ queues", queues),
    Check("RabbitMQ exchanges and bindings", exchanges_and_bindings),
)
