"""Who has an account?"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import AwareDatetime

from contracts.ids import UserId
from contracts.value import Value
from db.named_queries import queries
from db.postgres import Pool, transaction
from db.sessions import Role

SQL = queries("users")


class User(Value):
    """An account as its owner may see it; the password's hash is not part of it."""

    id: UserId
    email: str
    name: str
    role: Role
    created_at: AwareDatetime


class FirstAdmin(NamedTuple):
    """The account of the first administrator, and whether it was made for that."""

    user: User
    is_new: bool


async def create_user(pool: Pool, *, email: str, password_hash: str, name: str) -> User | None:
    """The new account, or None when the (normalised) address has one already."""
    record = await pool.fetchrow(SQL.insert_user, uuid4(), email, password_hash, name)
    return _user(record) if record is not None else None


async def find_user(pool: Pool, user_id: UserId) -> User | None:
    """The account of that id."""
    record = await pool.fetchrow(SQL.user_by_id, user_id)
    return _user(record) if record is not None else None


async def find_user_for_login(pool: Pool, email: str) -> tuple[User, str] | None:
    """The account of that (normalised) address with its password's hash."""
    record = await pool.fetchrow(SQL.user_by_email, email)
    return (_user(record), record["password_hash"]) if record is not None else None


async def find_made_after(pool: Pool, user_ids: Sequence[UserId], at: datetime) -> set[UserId]:
    """Which of these accounts were made after that time."""
    return {UserId(record["id"]) for record in await pool.fetch(SQL.made_after, list(user_ids), at)}


async def make_first_admin(pool: Pool, *, email: str, password_hash: str, name: str) -> FirstAdmin | None:
    """Promote the account of that (normalised) address, or make it; None when there is an administrator already."""
    async with transaction(pool) as tx:
        await tx.execute(SQL.lock_first_admin)
        record = await tx.fetchrow(SQL.make_first_admin, uuid4(), email, password_hash, name)
        return FirstAdmin(_user(record), record["is_new"]) if record is not None else None


async def list_admins(pool: Pool) -> list[User]:
    """Every administrator, the oldest account first."""
    return [_user(record) for record in await pool.fetch(SQL.list_admins)]


def _user(record: Any) -> User:
    return User(
        id=record["id"],
        email=record["email"],
        name=record["name"],
        role=record["role"],
        created_at=record["created_at"],
    )
