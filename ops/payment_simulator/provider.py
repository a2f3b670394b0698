"""What does the provider know, and how does it come back after a crash?

Every change goes through `write_down`: one record with the intent as it now is, the refund, and the answer that is
stored under the idempotency key. Effect and key are one line, so a crash leaves both or neither.
"""

import hashlib
import secrets
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ops.payment_simulator.answers import Answer
from ops.payment_simulator.intents import Intent
from ops.payment_simulator.journal import Journal
from ops.payment_simulator.refunds import Refund


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """Where the answer to a key stands in the log, and which request it answered."""

    fingerprint: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Request:
    """A call that may change something: which operation, and under which key (None: nothing is stored)."""

    operation: str
    key: str | None
    fingerprint: bytes


class Provider:
    """All intents, refunds and idempotency keys, in memory and in the log."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.intents: dict[str, Intent] = {}
        self.refunds: dict[str, Refund] = {}
        self.answers: dict[str, StoredAnswer] = {}
        self.keys_in_use: set[str] = set()
        self._in_order: list[Intent] = []
        self._position: dict[str, int] = {}
        self._of_order: dict[str, list[Intent]] = {}
        for offset, length, record in journal.records():
            self._remember(record, offset, length)

    def write_down(self, request: Request, answer: Answer, *, intent: Intent | None, refund: Refund | None) -> None:
        """Queue the record of what just happened; the caller waits for `journal.durable()` before it answers."""
        record: dict[str, Any] = {"at": round(time.time(), 6), "operation": request.operation}
        if intent is not None:
            record["intent"] = intent.as_record()
        if refund is not None:
            record["refund"] = refund.as_record()
        if request.key is not None:
            record["key"] = request.key
            record["fingerprint"] = request.fingerprint.hex()
            record["status"] = answer.status
            record["body"] = answer.body.decode()
        offset, length = self.journal.append(record)
        self._learn(intent, refund)
        if request.key is not None:
            self.answers[request.key] = StoredAnswer(request.fingerprint, offset, length)

    async def replay(self, stored: StoredAnswer) -> Answer:
        """The stored status and body, byte for byte."""
        await self.journal.durable()
        record = self.journal.read(stored.offset, stored.length)
        return Answer(record["status"], record["body"].encode(), replayed=True)

    def new_intent(self, form: Any) -> Intent:
        intent_id = f"pi_{secrets.token_hex(12)}"
        return Intent(
            id=intent_id,
            client_secret=f"{intent_id}_secret_{secrets.token_hex(8)}",
            # Never before the newest, so that lists stay in order when the clock steps back.
            created=max(int(time.time()), self._in_order[-1].created if self._in_order else 0),
            amount=form["amount"],
            currency=form["currency"],
            capture_method=form["capture_method"],
            metadata=form["metadata"],
            description=form.get("description"),
            payment_method=form.get("payment_method"),
            status="requires_confirmation" if form.get("payment_method") else "requires_payment_method",
        )

    def intents_between(self, *, since: int | None, until: int | None, starting_after: str | None) -> Iterator[Intent]:
        """Newest first: created at `since` or later and before `until` (Unix seconds), older than `starting_after`."""
        low = 0 if since is None else bisect_left(self._in_order, since, key=_created)
        high = len(self._in_order) if until is None else bisect_left(self._in_order, until, key=_created)
        if starting_after is not None:
            high = min(high, self._position[starting_after])
        for position in range(high - 1, low - 1, -1):
            yield self._in_order[position]

    def intents_with(self, metadata: dict[str, str]) -> list[Intent]:
        """Newest first, those that carry all of this metadata."""
        order_id = metadata.get("order_id")
        candidates: Iterable[Intent] = self._in_order if order_id is None else self._of_order.get(order_id, [])
        found = [one for one in candidates if all(one.metadata.get(name) == value for name, value in metadata.items())]
        return found[::-1]

    def _remember(self, record: dict[str, Any], offset: int, length: int) -> None:
        refund = Refund(**record["refund"]) if "refund" in record else None
        self._learn(self._as_recorded(record["intent"]) if "intent" in record else None, refund)
        if "key" in record:
            self.answers[record["key"]] = StoredAnswer(bytes.fromhex(record["fingerprint"]), offset, length)

    def _as_recorded(self, fields: dict[str, Any]) -> Intent:
        known = self.intents.get(fields["id"])
        if known is None:
            return Intent(**fields)
        for name, value in fields.items():
            setattr(known, name, value)
        return known

    def _learn(self, intent: Intent | None, refund: Refund | None) -> None:
        if refund is not None:
            self.refunds[refund.id] = refund
        if intent is None or intent.id in self.intents:
            return
        self.intents[intent.id] = intent
        self._position[intent.id] = len(self._in_order)
        self._in_order.append(intent)
        self._of_order.setdefault(intent.metadata.get("order_id", ""), []).append(intent)


def fingerprint(path: str, body: bytes) -> bytes:
    """What makes two requests the same: the path and the parameters, in whatever order they were written."""
    parameters = sorted(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    return hashlib.blake2b(repr((path, parameters)).encode(), digest_size=16).digest()


def _created(intent: Intent) -> int:
    return intent.created
