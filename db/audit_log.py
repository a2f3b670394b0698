"""What have organisers done: who, what, to what, and how was it before and after?

Whatever an organiser changes through the ingress is recorded here in the transaction that changes it; what he commands the
sale to do, the engine records in its own (`consumers/rules`, `sale.audits`). An entry is never updated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field
from pydantic.alias_generators import to_camel
from pydantic_core import from_json, to_json

from contracts.ids import EventId, UserId
from contracts.value import Value
from db.moments import Pages, read_in_pages
from db.named_queries import queries
from db.postgres import Pool, Transaction

_sql = queries("audit_log")


class Deed(Value):
    """One thing that an organiser did."""

    id: int = Field(description="goes up with time")
    at: AwareDatetime
    user_id: UserId
    user_name: str | None = Field(description="null where there is no such account any more")
    user_email: str | None
    action: str = Field(description="a verb and what it is done to: create_event, refund_order, withhold_seats")
    event_id: EventId | None
    event_name: str | None
    subject: str = Field(description="what it was done to")
    before: Any = Field(description="how it was, of what was changed; null of what was not there")
    after: Any = Field(description="how it is since then")


@dataclass(frozen=True, kw_only=True)
class DeedFilter:
    """Which deeds; None: whatever it is."""

    event_id: EventId | None = None
    user_id: UserId | None = None
    action: str | None = None
    from_at: datetime | None = None
    before_at: datetime | None = None


async def record_deed(
    tx: Transaction,
    *,
    user_id: UserId,
    action: str,
    event_id: EventId | None,
    subject: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """Write down, in the transaction that does it, what this user does.

    `before` and `after` are the members that change, by their names in Python, of anything pydantic can write as JSON.
    """
    await tx.execute(_sql.insert_deed, user_id, action, event_id, subject, _written(before), _written(after))


async def list_deeds(pool: Pool, wanted: DeedFilter, *, before_id: int | None, limit: int) -> list[Deed]:
    """At most `limit` deeds, newest first, from behind the one with the id `before_id`."""
    return [_deed(record) for record in await pool.fetch(_sql.list_deeds, *_arguments(wanted), before_id, limit)]


def read_deeds(pool: Pool, wanted: DeedFilter) -> Pages:
    """All of them, newest first, as records with the members of a Deed; before and after are JSON."""
    return read_in_pages(pool, _sql.list_deeds, *_arguments(wanted), None, None)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs, as it was and as it is; members that only one of them has are left out."""
    changed = [name for name in after if name in before and before[name] != after[name]]
    return {name: before[name] for name in changed}, {name: after[name] for name in changed}


def _written(members: Mapping[str, Any] | None) -> str | None:
    if members is None:
        return None
    return to_json({to_camel(name): value for name, value in members.items()}).decode()


def _arguments(wanted: DeedFilter) -> tuple[Any, ...]:
    return wanted.event_id, wanted.user_id, wanted.action, wanted.from_at, wanted.before_at


def _deed(record: Any) -> Deed:
    fields = dict(record)
    for name in ("before", "after"):
        fields[name] = None if fields[name] is None else from_json(fields[name])
    return Deed(**fields)
