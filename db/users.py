"""Who has an account?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import AwareDatetime

from contracts.ids import UserId
from contracts.value import Value
from db.audit_log import record_deed
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction
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


class MadeScanner(NamedTuple):
    """The account that may scan from now on, or may already; None: there is no such account, and no password for a new one."""

    user: User | None
    is_new: bool
    # Whether its sessions are those of a buyer, and have to end.
    is_promoted: bool = False


async def create_user(pool: Pool, *, email: str, password_hash: str, name: str) -> User | None:
    """The new account, or None when the (normalised) address has one already."""
    record = await pool.fetchrow(SQL.insert_user, uuid4(), email, password_hash, name)
    return _user(record) if record is not None else None


async def find_user(pool: Pool, user_id: UserId) -> User | None:
    """The account of that id."""
    record = await pool.fetchrow(SQL.user_by_id, user_id)
    return _user(record) if record is not None else None


async def find_user_by_email(pool: Pool, email: str) -> User | None:
    """The account of that (normalised) address."""
    found = await find_user_for_login(pool, email)
    return found[0] if found is not None else None


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
        known = await tx.fetchrow(SQL.user_by_email, email)
        record = await tx.fetchrow(SQL.make_first_admin, uuid4(), email, password_hash, name)
        if record is None:
            return None
        before = None if known is None else {"role": known["role"]}
        await _record_promotion(tx, _user(record), before=before)
        return FirstAdmin(_user(record), record["is_new"])


async def make_scanner(
    pool: Pool, *, email: str, password_hash: str | None, name: str, made_by: UserId | None
) -> MadeScanner:
    """Let the account of that (normalised) address scan at doors, or make one; by an administrator, or on the host (None).

    An account that exists keeps its password and its name. A new one needs a password.
    """
    async with transaction(pool) as tx:
        known = await tx.fetchrow(SQL.lock_user_by_email, email)
        if known is None and password_hash is None:
            return MadeScanner(None, is_new=True)
        if known is not None and known["role"] in ("admin", "scanner"):
            return MadeScanner(_user(known), is_new=False)
        record = await tx.fetchrow(SQL.make_scanner, uuid4(), email, password_hash or "", name)
        before = None if known is None else {"role": known["role"]}
        await _record_promotion(tx, _user(record), before=before, by=made_by)
        return MadeScanner(_user(record), is_new=known is None, is_promoted=known is not None)


async def end_scanner(pool: Pool, user_id: UserId, *, ended_by: UserId | None) -> User | None:
    """From now on a user like any other; None when this is no scanner."""
    async with transaction(pool) as tx:
        record = await tx.fetchrow(SQL.end_scanner, user_id)
        if record is None:
            return None
        user = _user(record)
        await record_deed(
            tx,
            user_id=ended_by or user.id,
            action="end_scanner",
            event_id=None,
            subject=f"user {user.email}",
            before={"role": "scanner"},
            after={"role": user.role},
        )
        return user


async def list_scanners(pool: Pool) -> list[User]:
    """Every scanner, the oldest account first."""
    return [_user(record) for record in await pool.fetch(SQL.list_scanners)]


async def list_admins(pool: Pool) -> list[User]:
    """Every administrator, the oldest account first."""
    return [_user(record) for record in await pool.fetch(SQL.list_admins)]


async def _record_promotion(
    tx: Transaction, user: User, *, before: Mapping[str, Any] | None, by: UserId | None = None
) -> None:
    # Whoever can run the command on the host did it; for want of an account of his own it stands under the one he made.
    await record_deed(
        tx,
        user_id=by or user.id,
        action=f"make_{user.role}",
        event_id=None,
        subject=f"user {user.email}",
        before=before,
        after={"role": user.role},
    )


def _user(record: Any) -> User:
    return User(
        id=record["id"],
        email=record["email"],
        name=record["name"],
        role=record["role"],
        created_at=record["created_at"],
    )
