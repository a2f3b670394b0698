"""Who may run the shop? `boxoffice admin create` makes the first administrator, on the host; `boxoffice admin list` shows all;
`boxoffice admin scanner` says who scans at the doors.

There is no administrator by default and no way to become one over HTTP. Whoever can run this command can read the database
anyway. It works once: when there is an administrator already, it says so and changes nothing.
"""

import asyncio
import os
import secrets
import sys
from typing import Annotated, NoReturn

import asyncpg
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from contracts.settings import Settings, UnusableSettings
from db.postgres import Pool, open_pool
from db.redis import REDIS_AWAY, open_redis
from db.sessions import destroy_sessions_of
from db.users import (
    FirstAdmin,
    MadeScanner,
    User,
    end_scanner,
    find_user_for_login,
    list_admins,
    list_scanners,
    make_first_admin,
    make_scanner,
)
from ingress.passwords import Passwords
from ingress.routes.auth import RegisterRequest
from ops.stack import Stack, StackProblem

MADE, ONE_IS_THERE, COULD_NOT = 0, 1, 2

# 160 bits, in 27 characters: nobody guesses it, and everybody can copy it once.
PASSWORD_BYTES = 20

# What keeps us from it; everything else is a bug and may show itself.
UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, StackProblem, UnusableSettings)

app = typer.Typer(
    help="Administrators: the first one is made here.", no_args_is_help=True, pretty_exceptions_enable=False
)
scanners = typer.Typer(help="Who may scan tickets at the doors.", no_args_is_help=True)
app.add_typer(scanners, name="scanner")

ScannerEmail = Annotated[str, typer.Option("--email", help="The account's address.")]


@app.command("create")
def create(
    email: Annotated[str, typer.Option(help="The account's address; an account that exists is promoted.")],
    name: Annotated[str, typer.Option(help="Of a new account.")] = "Administrator",
) -> None:
    """Make the first administrator; the password of a new account is printed once.

    Exit code 0: made; 1: there is an administrator already; 2: could not.
    """
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    try:
        wanted = RegisterRequest.model_validate({"email": email, "password": password, "name": name})
        made = asyncio.run(_create(_settings(), wanted))
    except ValidationError as mistakes:
        first = mistakes.errors()[0]
        _give_up(f"{first['loc'][0]}: {first['msg']}", COULD_NOT)
    except UNREACHABLE as problem:
        _give_up(f"could not: {problem}", COULD_NOT)
    if made is None:
        _give_up("there is an administrator already: `boxoffice admin list`", ONE_IS_THERE)
    typer.echo(f"{made.user.email} is an administrator now.")
    typer.echo(f"Password: {password}  (shown this once)" if made.is_new else "Log in again: its sessions have ended.")


@app.command("list")
def list_() -> None:
    """Show every administrator."""
    try:
        found = asyncio.run(_list(_settings()))
    except UNREACHABLE as problem:
        _give_up(f"could not: {problem}", COULD_NOT)
    table = Table("e-mail", "name", "since")
    for user in found:
        table.add_row(user.email, user.name, f"{user.created_at:%Y-%m-%d}")
    Console().print(table if found else "nobody yet: `boxoffice admin create --email …`")


@scanners.command("create")
def create_scanner(
    email: ScannerEmail, name: Annotated[str, typer.Option(help="Of a new account.")] = "Scanner"
) -> None:
    """Let an account scan at the doors of every event; the password of a new account is printed once.

    Exit code 0: it may; 2: could not.
    """
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    try:
        wanted = RegisterRequest.model_validate({"email": email, "password": password, "name": name})
        made = asyncio.run(_create_scanner(_settings(), wanted))
    except ValidationError as mistakes:
        first = mistakes.errors()[0]
        _give_up(f"{first['loc'][0]}: {first['msg']}", COULD_NOT)
    except UNREACHABLE as problem:
        _give_up(f"could not: {problem}", COULD_NOT)
    typer.echo(f"{wanted.email} may scan now.")
    if made.is_new:
        typer.echo(f"Password: {password}  (shown this once)")


@scanners.command("list")
def list_every_scanner() -> None:
    """Show every scanner; administrators may scan too."""
    try:
        found = asyncio.run(_list_scanners(_settings()))
    except UNREACHABLE as problem:
        _give_up(f"could not: {problem}", COULD_NOT)
    for user in found:
        typer.echo(f"{user.email}  {user.name}")


@scanners.command("end")
def end_a_scanner(email: ScannerEmail) -> None:
    """Let an account scan no more, at once and on all devices.

    Exit code 0: it may not any more; 2: it was no scanner, or could not.
    """
    try:
        ended = asyncio.run(_end_scanner(_settings(), email.strip().lower()))
    except UNREACHABLE as problem:
        _give_up(f"could not: {problem}", COULD_NOT)
    if not ended:
        _give_up("there is no such scanner: `boxoffice admin scanner list`", COULD_NOT)
    typer.echo(f"{email.strip().lower()} is no scanner any more.")


async def create_first_admin(pool: Pool, settings: Settings, wanted: RegisterRequest) -> FirstAdmin | None:
    """Make it, and end the sessions it had as a user; None when there is an administrator already."""
    passwords = Passwords(settings)
    try:
        password_hash = await passwords.hash(wanted.password)
    finally:
        passwords.close()
    made = await make_first_admin(pool, email=wanted.email, password_hash=password_hash, name=wanted.name)
    if made is not None and not made.is_new:
        await _end_sessions(settings, made.user)
    return made


async def _end_sessions(settings: Settings, user: User) -> None:
    # A session says which role it was made for; one that lives on would be a user's until it expires.
    async with open_redis(settings) as redis:
        try:
            await destroy_sessions_of(redis, user.id)
        except REDIS_AWAY as problem:
            typer.echo(f"its sessions could not be ended ({problem}): log out and in again", err=True)


async def _create(settings: Settings, wanted: RegisterRequest) -> FirstAdmin | None:
    async with await open_pool(settings, application_name="boxoffice admin", size=1) as pool:
        return await create_first_admin(pool, settings, wanted)


async def _create_scanner(settings: Settings, wanted: RegisterRequest) -> MadeScanner:
    passwords = Passwords(settings)
    try:
        password_hash = await passwords.hash(wanted.password)
    finally:
        passwords.close()
    async with await open_pool(settings, application_name="boxoffice admin", size=1) as pool:
        made = await make_scanner(pool, email=wanted.email, password_hash=password_hash, name=wanted.name, made_by=None)
    if made.user is not None and made.is_promoted:
        await _end_sessions(settings, made.user)
    return made


async def _end_scanner(settings: Settings, email: str) -> bool:
    async with await open_pool(settings, application_name="boxoffice admin", size=1) as pool:
        found = await find_user_for_login(pool, email)
        ended = await end_scanner(pool, found[0].id, ended_by=None) if found is not None else None
    if ended is not None:
        await _end_sessions(settings, ended)
    return ended is not None


async def _list_scanners(settings: Settings) -> list[User]:
    async with await open_pool(settings, application_name="boxoffice admin", size=1) as pool:
        return await list_scanners(pool)


async def _list(settings: Settings) -> list[User]:
    async with await open_pool(settings, application_name="boxoffice admin", size=1) as pool:
        return await list_admins(pool)


def _settings() -> Settings:
    return Settings.read({**Stack.from_environment().environment(), **os.environ})


def _give_up(why: str, exit_code: int) -> NoReturn:
    typer.echo(why, err=True)
    sys.exit(exit_code)
