"""The first administrator: made once, on the host, by whoever comes first."""

import asyncio
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import bcrypt
import pytest
from redis.asyncio import Redis

from contracts.settings import Settings
from db.migrate import migrate
from db.postgres import Pool, open_pool
from db.redis import user_tag
from db.sessions import create_session, read_cookie, session_key
from db.users import create_user, find_user_for_login, list_admins
from ingress.routes.auth import RegisterRequest
from ops.admins import create_first_admin
from tests.ingress_process import environment_of

EMAIL = "ann@example.org"


@pytest.fixture
async def empty(settings: Settings) -> AsyncIterator[Settings]:
    """Settings with a database of its own, in which nobody is anything yet."""
    name = f"admins_{uuid4().hex}"
    admin = await asyncpg.connect(settings.postgres_url)
    await admin.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(settings.postgres_url)
    ours = settings.model_copy(update={"postgres_url": urlunsplit(parts._replace(path=f"/{name}"))})
    try:
        await migrate(ours.postgres_url)
        yield ours
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def shop(empty: Settings) -> AsyncIterator[Pool]:
    """A pool on it."""
    pool = await open_pool(empty, application_name="test")
    yield pool
    pool.terminate()


async def boxoffice(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    """What the command says: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.command", "admin", *arguments),
        env=environment_of(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def a_request(email: str = EMAIL) -> RegisterRequest:
    return RegisterRequest.model_validate({"email": email, "password": "correct horse", "name": "Ann"})


async def test_the_first_one_gets_a_password_that_works(empty: Settings, shop: Pool) -> None:
    code, out, err = await boxoffice(empty, "create", "--email", " Ann@Example.org ", "--name", "Ann")
    assert (code, err) == (0, "")
    found = await find_user_for_login(shop, EMAIL)
    assert found is not None
    user, password_hash = found
    assert (user.role, user.name) == ("admin", "Ann")
    password = out.partition("Password: ")[2].split()[0]
    assert len(password) >= 27
    assert bcrypt.checkpw(password.encode(), password_hash.encode())

    code, out, err = await boxoffice(empty, "list")
    assert (code, EMAIL in out) == (0, True)


async def test_there_is_no_second_one(empty: Settings, shop: Pool) -> None:
    assert (await boxoffice(empty, "create", "--email", EMAIL))[0] == 0
    for email in (EMAIL, "eve@example.org"):
        code, out, err = await boxoffice(empty, "create", "--email", email)
        assert (code, out) == (1, "")
        assert "already" in err
    assert [user.email for user in await list_admins(shop)] == [EMAIL]


async def test_an_account_that_exists_is_promoted_and_its_sessions_end(
    empty: Settings, shop: Pool, redis: Redis
) -> None:
    ann = await create_user(shop, email=EMAIL, password_hash="her own", name="Ann")
    eve = await create_user(shop, email="eve@example.org", password_hash="x", name="Eve")
    assert ann is not None
    assert eve is not None
    anns = [await create_session(redis, user_id=ann.id, role="user", seconds=60) for _ in range(3)]
    eves = await create_session(redis, user_id=eve.id, role="user", seconds=60)

    code, out, _ = await boxoffice(empty, "create", "--email", EMAIL, "--name", "Somebody else")
    assert (code, "Password" in out) == (0, False)
    found = await find_user_for_login(shop, EMAIL)
    assert found is not None
    assert (found[0].id, found[0].role, found[0].name, found[1]) == (ann.id, "admin", "Ann", "her own")
    assert [await is_alive(redis, cookie) for cookie in anns] == [False] * 3
    assert await is_alive(redis, eves)


async def is_alive(redis: Redis, cookie: str) -> bool:
    session = read_cookie(cookie)
    assert session is not None
    return bool(await redis.exists(session_key(user_tag(session.user_id), session)))


async def test_of_many_at_once_one_is_first(empty: Settings, shop: Pool) -> None:
    made = await asyncio.gather(
        *(create_first_admin(shop, empty, a_request(f"{number}@example.org")) for number in range(8))
    )
    assert sum(one is not None for one in made) == 1
    assert len(await list_admins(shop)) == 1


async def test_without_redis_it_is_made_and_says_what_is_left_to_do(empty: Settings, shop: Pool) -> None:
    await create_user(shop, email=EMAIL, password_hash="x", name="Ann")
    away = empty.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    code, _, err = await boxoffice(away, "create", "--email", EMAIL)
    assert (code, "log out and in again" in err) == (0, True)
    assert len(await list_admins(shop)) == 1


@pytest.mark.parametrize("email", ["", "no address", "a@b", "a@b.example c"])
async def test_what_is_no_address_is_told(empty: Settings, shop: Pool, email: str) -> None:
    code, out, err = await boxoffice(empty, "create", "--email", email)
    assert (code, out, err.startswith("email: ")) == (2, "", True)
    assert await list_admins(shop) == []


async def test_without_a_database_it_could_not(settings: Settings) -> None:
    away = settings.model_copy(update={"postgres_url": "postgresql://boxoffice@127.0.0.1:1/boxoffice"})
    code, out, err = await boxoffice(away, "create", "--email", EMAIL)
    assert (code, out, err.startswith("could not: ")) == (2, "", True)


async def test_nobody_is_an_administrator_by_default(empty: Settings, shop: Pool) -> None:
    assert await list_admins(shop) == []
    code, out, _ = await boxoffice(empty, "list")
    assert (code, "nobody yet" in out) == (0, True)
