"""Will PostgreSQL keep what it promised, and does it have what we need?"""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from contracts.settings import PREFIX
from db.migrate import migrations
from db.postgres import session_settings
from db.schema import find_invalid_indexes, find_unproven_constraints, read_schema
from db.server_state import (
    are_we_superuser,
    connections_taken_at_most,
    find_applied,
    is_standby,
    read_milliseconds,
    read_setting,
)
from ops.doctor.connections import connections_at_most
from ops.doctor.deployment import Deployment, is_here
from ops.doctor.findings import Check, Findings, Level, note, some, warning, wrong
from ops.doctor.schema import expected_schema

VERSION_MIN = 15
# Operators, backups, the exporter of a monitoring system: they connect, too.
CONNECTIONS_FOR_OTHERS = 10

# What must be so for a commit to be on disk, and what it means when it is not.
DURABLE = {
    "fsync": "a power cut can destroy the whole database",
    "full_page_writes": "a power cut can tear pages that nobody can mend",
    "synchronous_commit": "a crash can lose sales that buyers were told of",
}
# `local` and the others differ in what a replica has; each has the commit on this server's disk.
DURABLE_VALUES = frozenset({"on", "local", "remote_write", "remote_apply"})


async def version(deployment: Deployment) -> Findings:
    """MERGE, UNIQUE NULLS NOT DISTINCT and what else the migrations use."""
    connection = await deployment.postgres()
    number = int(await read_setting(connection, "server_version_num")) // 10_000
    if number >= VERSION_MIN:
        return []
    return [wrong(f"PostgreSQL {number} is older than {VERSION_MIN}", f"upgrade to {VERSION_MIN} or later")]


async def durability(deployment: Deployment) -> Findings:
    """As our own sessions see it: a role or a database may be told otherwise than the server."""
    connection = await deployment.postgres()
    found = []
    for name, consequence in DURABLE.items():
        value = await read_setting(connection, name)
        if value not in DURABLE_VALUES:
            found.append(
                wrong(
                    f"{name} is {value}: {consequence}",
                    f"set {name} = on (ops/postgres/postgresql.conf); ALTER ROLE and ALTER DATABASE … RESET {name} where"
                    " it was set for these only",
                )
            )
    return found


async def archiving(deployment: Deployment) -> Findings:
    """What can be had back after the disk is gone."""
    connection = await deployment.postgres()
    if await read_setting(connection, "wal_level") == "minimal":
        return [
            warning(
                "wal_level is minimal: neither a replica nor a backup while it runs can be made",
                "set wal_level = replica, restart PostgreSQL",
            )
        ]
    if await read_setting(connection, "archive_mode") == "off":
        return [
            note(
                "archive_mode is off: after a loss, the last backup is what there is",
                "set archive_mode and archive_command to recover to any moment, or keep a replica",
            )
        ]
    return []


async def writable(deployment: Deployment) -> Findings:
    """It is the primary, and takes writes from us."""
    connection = await deployment.postgres()
    if await is_standby(connection):
        return [wrong("this PostgreSQL is a standby: it takes no writes", f"name the primary in {PREFIX}POSTGRES_URL")]
    if await read_setting(connection, "default_transaction_read_only") == "on":
        return [wrong("our sessions may only read", "ALTER ROLE … RESET default_transaction_read_only")]
    return []


async def encoding(deployment: Deployment) -> Findings:
    """Names of people and artists are in all scripts."""
    connection = await deployment.postgres()
    value = await read_setting(connection, "server_encoding")
    if value == "UTF8":
        return []
    return [wrong(f"the database's encoding is {value}", "make the database anew with ENCODING 'UTF8'")]


async def sessions_keep_their_settings(deployment: Deployment) -> Findings:
    """A pooler in between may drop what we tell a session; then a frozen process keeps its locks."""
    connection = await deployment.postgres()
    told = session_settings(deployment.settings, application_name="boxoffice doctor")
    lost = []
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        has = await read_milliseconds(connection, name)
        if has != told[name]:
            lost.append(f"{name} is {has} ms, not {told[name]}")
    if not lost:
        return []
    return [
        wrong(
            f"sessions do not keep what we tell them: {', '.join(lost)}",
            "connect to PostgreSQL itself, or to a pooler in session mode",
        )
    ]


async def rights(deployment: Deployment) -> Findings:
    """Our user owns its database and no more, and nobody is let in without a password."""
    if not deployment.is_production:
        return []
    connection, found = await deployment.postgres(), []
    if await are_we_superuser(connection):
        found.append(
            warning(
                "our user is a superuser: whoever breaks into one process has the whole server",
                "ALTER ROLE … NOSUPERUSER",
            )
        )
    parts = urlsplit(deployment.settings.postgres_url)
    is_proven = parts.password or "PGPASSWORD" in os.environ or "PGPASSFILE" in os.environ or "sslcert" in parts.query
    if not is_here(parts.hostname) and not is_proven:
        found.append(
            wrong(
                f"PostgreSQL on {parts.hostname} lets us in without a password",
                f"let pg_hba.conf ask for scram-sha-256, and put the password into {PREFIX}POSTGRES_URL",
            )
        )
    return found


async def migrated(deployment: Deployment) -> Findings:
    """Each migration of this version is applied, as it is written."""
    applied = await find_applied(await deployment.postgres())
    if applied is None:
        return [wrong("the database is empty: no migration was applied", "python -m db.migrate")]
    known = {migration.name: migration.checksum for migration in migrations()}
    found = []
    if missing := sorted(known.keys() - applied.keys()):
        found.append(wrong(f"not applied: {some(missing)}", "python -m db.migrate"))
    if edited := sorted(name for name in known.keys() & applied.keys() if known[name] != applied[name]):
        found.append(
            wrong(
                f"changed after it was applied: {', '.join(edited)}", "restore these files; changes are new migrations"
            )
        )
    if newer := sorted(applied.keys() - known.keys()):
        found.append(
            note(f"applied by a newer version: {', '.join(newer)}", "finish the upgrade, or keep both versions for now")
        )
    return found


async def schema(deployment: Deployment) -> Findings:
    """Every index and constraint of the migrations is there, and whole."""
    if not await _is_migrated(deployment):
        return []  # the check of the migrations says so
    connection = await deployment.postgres()
    has, found = await read_schema(connection), []
    for kind, wanted in expected_schema().items():
        found += _differences(kind, wanted, has[kind])
    if invalid := await find_invalid_indexes(connection):
        found.append(wrong(f"indexes that are not valid: {some(invalid)}", f"REINDEX INDEX CONCURRENTLY {invalid[0]}"))
    if unproven := await find_unproven_constraints(connection):
        table, _, constraint = unproven[0].partition(".")
        found.append(
            warning(
                f"constraints that nobody has proven for old records: {some(unproven)}",
                f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}",
            )
        )
    return found


def _differences(kind: str, wanted: Mapping[str, str], has: Mapping[str, str]) -> Findings:
    found = []
    if missing := sorted(wanted.keys() - has.keys()):
        first = missing[0]
        found.append(wrong(f"{kind} that are missing: {some(missing)}", _remake(kind, first, wanted[first])))
    if other := sorted(name for name in wanted.keys() & has.keys() if wanted[name] != has[name]):
        found.append(
            wrong(
                f"{kind} that are not as the migrations make them: {some(other)}",
                f"it should be: {wanted[other[0]]} (all of them are in ops/doctor/schema.json)",
            )
        )
    if extra := sorted(has.keys() - wanted.keys()):
        found.append(note(f"{kind} that are not ours: {some(extra)}", "fine if somebody knows what for"))
    return found


async def _is_migrated(deployment: Deployment) -> bool:
    return not any(finding.level is Level.WRONG for finding in await migrated(deployment))


def _remake(kind: str, name: str, definition: str) -> str:
    if kind == "indexes":
        return definition.replace("INDEX", "INDEX CONCURRENTLY", 1)
    table, _, constraint = name.partition(".")
    return f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}"


async def connections(deployment: Deployment) -> Findings:
    """All our pools at their largest fit, with room for an operator."""
    connection = await deployment.postgres()
    room = await connections_taken_at_most(connection)
    wanted = connections_at_most(deployment.settings, deployment.processes)
    if wanted + CONNECTIONS_FOR_OTHERS <= room:
        return []
    return [
        wrong(
            f"our processes may open {wanted} connections, {CONNECTIONS_FOR_OTHERS} are for others, and PostgreSQL takes"
            f" {room}",
            f"raise max_connections, or lower {PREFIX}POSTGRES_POOL_MAX or {PREFIX}INGRESS_WORKERS",
        )
    ]


async def vacuum(deployment: Deployment) -> Findings:
    """A few small tables are rewritten many times a minute: unswept, they slow down within an hour."""
    connection = await deployment.postgres()
    off = [name for name in ("autovacuum", "track_counts") if await read_setting(connection, name) == "off"]
    if not off:
        return []
    return [wrong(f"{' and '.join(off)} off: the tables of a sale grow and slow down", f"set {off[0]} = on")]


CHECKS = (
    Check("PostgreSQL version", version),
    Check("PostgreSQL durability", durability),
    Check("PostgreSQL archiving", archiving),
    Check("PostgreSQL writable", writable),
    Check("PostgreSQL encoding", encoding),
    Check("PostgreSQL sessions", sessions_keep_their_settings),
    Check("PostgreSQL rights", rights),
    Check("migrations", migrated),
    Check("indexes and constraints", schema),
    Check("PostgreSQL connections", connections),
    Check("PostgreSQL vacuum", vacuum),
)
