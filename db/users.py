"""Who has an account?"""

from typing import Any
from uuid import uuid4

from pydantic import AwareDatetime

from contracts.ids import UserId
from contracts.value import Value
from db.named_queries import queries
from db.postgres import Pool
from db.sessions import Role

SQL = queries("users")


class User(Value):
    """An account as its owner may see it; the password's hash is not part of it."""

    id: UserId
    email: str
    name: str
    role: Role
    created_at: AwareDatetime


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


def _user(record: Any) -> User:
    return User(
        id=record["id"],
        email=record["email"],
        name=record["name"],
        role=record["role"],
        created_at=record["created_at"],
    )
