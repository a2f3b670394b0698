"""Which sessions did Redis vouch for a moment ago?

Asked only while Redis is away, so that losing it costs speed and new logins, not the sale (ops/decisions/0006). Kept are
the keys of sessions, which hold a digest, and the role; nothing that opens a session.
"""

import time

from db.sessions import Role

# A session that ended elsewhere just before Redis went away may live on here: this bounds how long before.
REMEMBERED_SECONDS = 300
# About 15 MB.
REMEMBERED_MAX = 50_000
# After this the sale stops too: by then somebody has had time to look.
WITHOUT_REDIS_SECONDS_MAX = 3600


class RememberedSessions:
    """The sessions of the last minutes before Redis went away, and those that ended in this process."""

    def __init__(self) -> None:
        # Two generations, so that remembering is one write into a dict: every request pays for it.
        self._young: dict[str, Role] = {}
        self._old: dict[str, Role] = {}
        # A request may have been vouched for just before its session ended, and be remembered just after.
        self._ended_young: set[str] = set()
        self._ended_old: set[str] = set()
        self._seen_at = self._turned_at = time.monotonic()

    def remember(self, key: str, role: Role) -> None:
        """Redis knows this session."""
        self._young[key] = role

    def forget(self, key: str) -> None:
        """Redis does not know this session."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def end(self, key: str) -> None:
        """This session has been ended here, whatever Redis still says of it."""
        self.forget(key)
        self._ended_young.add(key)

    def find(self, key: str) -> Role | None:
        """The role of a session that may go on without Redis, or None."""
        if time.monotonic() > self._seen_at + WITHOUT_REDIS_SECONDS_MAX:
            return None
        if key in self._ended_young or key in self._ended_old:
            return None
        return self._young.get(key) or self._old.get(key)

    def redis_answered(self) -> None:
        """Say so after each round trip: only while Redis is there do sessions have to be vouched for again."""
        self._seen_at = time.monotonic()
        is_full = max(len(self._young), len(self._ended_young)) >= REMEMBERED_MAX // 2
        if is_full or self._seen_at > self._turned_at + REMEMBERED_SECONDS / 2:
            self._old, self._young = self._young, {}
            self._ended_old, self._ended_young = self._ended_young, set()
            self._turned_at = self._seen_at
