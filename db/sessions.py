"""Who is signed in?

The cookie holds `<user id as hex>.<43 characters of secret>`. Redis holds the secret's SHA-256 only, so a copy of Redis
opens no account, and the user's id in front makes the key one of the user's own hash tag.
"""

import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from uuid import UUID

from redis.asyncio import Redis

from contracts.ids import UserId
from db.redis import user_tag

# A scanner lets people in at the door; to everything else they are a user. An administrator may scan too.
Role = Literal["user", "scanner", "admin"]

SECRET_BYTES = 32
_ADMIN = b'"role": "admin"'
_SCANNER = b'"role": "scanner"'
_COOKIE = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")


class SessionId(NamedTuple):
    """Which session; it cannot be turned back into the cookie."""

    user_id: UserId
    digest: str


def read_cookie(cookie: str) -> SessionId | None:
    """The session that a cookie names, or None when it is not one of ours. Says nothing about whether it lives."""
    parts = _COOKIE.fullmatch(cookie)
    if parts is None:
        return None
    return SessionId(UserId(UUID(hex=parts[1])), _digest(parts[2]))


def session_key(tag: str, session: SessionId) -> str:
    """Where the session is kept; `tag` is its user's."""
    return f"session:{tag}:{session.digest}"


async def create_session(redis: Redis, *, user_id: UserId, role: Role, seconds: int) -> str:
    """Start a session that lasts `seconds`; returns the value of its cookie, the only copy of the secret there is."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    session = SessionId(user_id, _digest(secret))
    value = {"userId": str(user_id), "role": role, "createdAt": datetime.now(UTC).isoformat()}
    await redis.set(session_key(user_tag(user_id), session), json.dumps(value), ex=seconds)
    return f"{user_id.hex}.{secret}"


async def destroy_session(redis: Redis, session: SessionId) -> None:
    """End a session; one that is over already is none the worse for it."""
    await redis.delete(session_key(user_tag(session.user_id), session))


async def destroy_sessions_of(redis: Redis, user_id: UserId) -> int:
    """End every session of a user; returns how many. Looks through all keys, so it is for operators only."""
    keys = [key async for key in redis.scan_iter(f"session:{user_tag(user_id)}:*", count=1000)]
    return await redis.delete(*keys) if keys else 0


def role_of(stored: bytes) -> Role:
    """The role in a session as Redis holds it."""
    # Reading it all would cost ten times as much, for every request; nothing in it is anybody's own text.
    if _ADMIN in stored:
        return "admin"
    return "scanner" if _SCANNER in stored else "user"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
