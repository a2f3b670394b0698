"""What does a door take along that will have no network?

A list is made once for each version of it and kept packed, because all devices of an evening ask for it in the same quarter of
an hour. While it is made, page by page, the process goes on answering others; two lists are never made at once.
"""

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from contracts.check_ins import OF_ENDED_TICKETS, CheckInResult
from contracts.door_list import FORMAT, ListedTicket, ListHead, ListWriter
from contracts.ids import EventId
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import code_hash, static_codes, ticket_secrets
from db.check_ins import ListVersion, find_list_version, list_of
from db.postgres import Pool

# Packed lists that are kept: about 80 bytes a ticket, so the lists of some 800,000 tickets.
KEPT_BYTES_MAX = 64 * 1024 * 1024
# Tickets between two turns of everybody else: some milliseconds.
TICKETS_AT_A_TIME = 50


class DoorLists:
    """The lists that this process has made."""

    def __init__(self, pool: Pool, keys: SigningKeys) -> None:
        self._pool, self._keys = pool, keys
        self._kept: OrderedDict[tuple[EventId, str], bytes] = OrderedDict()
        self._making = asyncio.Lock()

    async def find_version(self, event_id: EventId) -> str | None:
        """The version of the list there would be now; None when there is no such event."""
        found = await find_list_version(self._pool, event_id)
        return _version(found, self._keys) if found is not None else None

    async def find(self, event_id: EventId, version: str) -> tuple[str, bytes] | None:
        """The list of that version, or of a later one, gzipped, and which one it is; None when there is no such event."""
        async with self._making:
            kept = self._kept.get((event_id, version))
            if kept is not None:
                self._kept.move_to_end((event_id, version))
                return version, kept
            made = await self._made(event_id)
            if made is not None:
                self._keep(event_id, *made)
            return made

    async def _made(self, event_id: EventId) -> tuple[str, bytes] | None:
        async with list_of(self._pool, event_id) as (found, pages):
            if found is None:
                return None
            version = _version(found, self._keys)
            head = ListHead(
                event_id=event_id,
                event_name=found.event_name,
                version=version,
                is_cancelled=found.is_cancelled,
                rotating_codes=found.rotating_codes,
                public_key=self._keys.public_keys[0],
            )
            writer = ListWriter(head, self._keys.receipt_key)
            async for page in pages:
                for start in range(0, len(page), TICKETS_AT_A_TIME):
                    writer.add(self._listed(head, page[start : start + TICKETS_AT_A_TIME]))
                    await asyncio.sleep(0)
            return version, writer.finish()

    def _listed(self, head: ListHead, records: Sequence[Any]) -> list[ListedTicket]:
        return [self._listed_one(head, record) for record in records]

    def _listed_one(self, head: ListHead, record: Any) -> ListedTicket:
        status = CheckInResult(record["status"])
        marks = () if status in OF_ENDED_TICKETS else self._marks(head, record)
        # Not validated: it comes from our own tables, and there may be a hundred thousand of them.
        return ListedTicket.model_construct(**{**record, "status": status, "marks": marks})

    def _marks(self, head: ListHead, record: Any) -> tuple[str, ...]:
        event_id, ticket_id, version = head.event_id, record["id"], record["version"]
        if head.rotating_codes:
            secrets = ticket_secrets(self._keys, event_id=event_id, ticket_id=ticket_id, version=version)
            return tuple(secret.hex() for secret in secrets)
        codes = static_codes(self._keys, event_id=event_id, ticket_id=ticket_id, version=version)
        return tuple(code_hash(code) for code in codes)

    def _keep(self, event_id: EventId, version: str, packed: bytes) -> None:
        # Of an event that sells, each list is soon an old one.
        self._kept = OrderedDict((key, value) for key, value in self._kept.items() if key[0] != event_id)
        self._kept[event_id, version] = packed
        while sum(map(len, self._kept.values())) > KEPT_BYTES_MAX and len(self._kept) > 1:
            self._kept.popitem(last=False)


def _version(found: ListVersion, keys: SigningKeys) -> str:
    """22 characters that change with whatever is in the list, the keys it is made with included."""
    parts = (FORMAT, *keys.public_keys, found.event_name, found.is_cancelled, found.rotating_codes, *found.steps)
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:16]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
