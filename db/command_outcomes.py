"""What came of a command whose asker no longer waits?

What a sale said yes to is in PostgreSQL under the command's id. A no leaves no trace there, so a reply that came late is
kept in Redis for a while, beside a note of what was asked and until when it could have been carried out.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from redis.asyncio import Redis

from contracts.ids import CommandId, EventId, HoldId, SeatId, UserId
from contracts.replies import ANY_REPLY, AnyReply, PaymentActionNeeded, SeatsReserved, SoldSeat
from db.named_queries import queries
from db.postgres import Pool
from db.redis import user_tag

KEPT_SECONDS = 3600

_sql = queries("command_outcomes")

Status = Literal["pending", "answered", "expired", "unknown"]


@dataclass(frozen=True)
class CommandNote:
    """What was asked, and when it is too late for it to happen."""

    event_id: EventId
    type: str
    too_late_at: datetime


async def record_asked(redis: Redis, user_id: UserId, command_id: CommandId, note: CommandNote) -> None:
    """Remember that this was asked."""
    value = json.dumps({"event_id": str(note.event_id), "type": note.type, "too_late_at": note.too_late_at.isoformat()})
    await redis.set(_key("asked", user_id, command_id), value, ex=KEPT_SECONDS)


async def record_reply(redis: Redis, user_id: UserId, command_id: CommandId, reply: AnyReply) -> None:
    """Keep a reply that nobody was waiting for."""
    await redis.set(
        _key("reply", user_id, command_id), reply.model_dump_json(by_alias=True, exclude_none=True), ex=KEPT_SECONDS
    )


async def find_note(redis: Redis, user_id: UserId, command_id: CommandId) -> CommandNote | None:
    """What was asked under this id by this user, if it is remembered."""
    value = await redis.get(_key("asked", user_id, command_id))
    if value is None:
        return None
    fields = json.loads(value)
    return CommandNote(
        event_id=EventId(UUID(fields["event_id"])),
        type=fields["type"],
        too_late_at=datetime.fromisoformat(fields["too_late_at"]),
    )


async def find_late_reply(redis: Redis, user_id: UserId, command_id: CommandId) -> AnyReply | None:
    """The reply that came when nobody was waiting for it."""
    value = await redis.get(_key("reply", user_id, command_id))
    return None if value is None else ANY_REPLY.validate_json(value)


async def find_result(
    pool: Pool, event_id: EventId, user_id: UserId, command_id: CommandId, *, is_own: bool
) -> AnyReply | None:
    """What the command made, read from the database; None when it has made nothing (yet).

    Holds and orders say whose they are. An answer in the inbox does not, so it is read only for a command that is known to
    be the user's own.
    """
    hold = await pool.fetchrow(_sql.find_hold_of_command, event_id, command_id, user_id)
    if hold is not None:
        return _seats_reserved(event_id, hold)
    order = await pool.fetchrow(_sql.find_order_of_command, event_id, command_id, user_id)
    if order is not None:
        if order["answer"] is not None:
            return ANY_REPLY.validate_json(order["answer"])
        if order["payment_status"] == "action_needed":
            return PaymentActionNeeded(order_id=command_id, client_secret=order["client_secret"])
        return None
    if not is_own:
        return None
    answer = await pool.fetchrow(_sql.find_answer_of_command, event_id, command_id)
    return None if answer is None else ANY_REPLY.validate_json(answer["reply"])


async def is_under_way(pool: Pool, event_id: EventId, user_id: UserId, command_id: CommandId) -> bool:
    """Whether the command has made an order whose payment is not settled: it may take longer than its deadline."""
    order = await pool.fetchrow(_sql.find_order_of_command, event_id, command_id, user_id)
    return order is not None and order["answer"] is None


def _seats_reserved(event_id: EventId, hold: Any) -> SeatsReserved:
    columns = (hold["ids"], hold["sections"], hold["rows"], hold["numbers"], hold["prices"])
    seats = tuple(
        SoldSeat(seat_id=SeatId(seat_id), section=section, row=row, seat_number=number, price=price)
        for seat_id, section, row, number, price in zip(*columns, strict=True)
    )
    return SeatsReserved(
        hold_id=HoldId(hold["id"]),
        event_id=event_id,
        seats=seats,
        total=hold["total"],
        currency=hold["currency"],
        held_until=hold["reserved_until"],
    )


def _key(what: str, user_id: UserId, command_id: CommandId) -> str:
    return f"command:{user_tag(user_id)}:{what}:{command_id}"
