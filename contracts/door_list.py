"""What does a door know that has no network, and how does it know that the list is ours?

A list is JSON lines: a `ListHead`, a `ListedTicket` for each ticket by its id, a `ListTail`; stored gzipped, as it travels. The
tail's signature is Ed25519 with the key whose public half is published with every receipt; it covers everything before it, so
a list that was cut short or changed by a byte is no list. The same version is the same bytes, whoever makes them.

A door without a network knows a ticket by a hash of its code, from which nobody makes the code; a ticket whose code changes,
by the secret it is made with. So whoever gets hold of such a list of an event with changing codes can make codes for it: lists
are for scanners only, and a device that is lost is a reason to look at the conflicts.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from contracts.check_ins import CheckInResult
from contracts.ids import EventId, TicketId
from contracts.receipts import is_signature
from contracts.ticket_codes import CodeRead, code_hash, is_made_with, unverified_code
from contracts.value import Value

FORMAT = "boxoffice door list 1"
# Above what any list of ours unpacks to (350 bytes a ticket, 500,000 of them): what is larger was made to fill a memory.
UNPACKED_BYTES_MAX = 256 * 1024 * 1024


class ListBroken(Exception):
    """This is no list of ours, or not all of it; the message says why."""


class ListHead(Value):
    """Of what the list is."""

    format: str = FORMAT
    event_id: EventId
    event_name: str
    version: str = Field(description="another one as soon as anything in the list has changed")
    is_cancelled: bool
    rotating_codes: bool = Field(description="whether only codes count that change every 15 seconds")
    public_key: str = Field(
        description="64 hex digits: whose signature the tail has; compare it with the one you trust"
    )


class ListedTicket(Value):
    """A ticket. `marks` are hashes of its codes, or secrets as hex, one per signing key in use; none of a void one."""

    id: TicketId
    version: int
    status: CheckInResult
    section: str
    row: str
    seat_number: str
    tier: str
    marks: tuple[str, ...]


class ListTail(Value):
    """That this was all, and that it is ours."""

    ticket_count: int
    sha256: str = Field(description="of all bytes before this line, unpacked")
    signature: str = Field("", pattern="^[0-9a-f]{128}$", description="Ed25519, of what `signed_bytes` makes")

    def signed_bytes(self, head: ListHead) -> bytes:
        """What is signed: a first line that no other thing of ours begins with, then the fields, a line each."""
        lines = (FORMAT, head.event_id, head.version, self.ticket_count, self.sha256)
        return "\n".join(str(line) for line in lines).encode()


class ListWriter:
    """Makes the gzipped bytes of a list, piece by piece; only the packed bytes are ever all in memory."""

    def __init__(self, head: ListHead, key: Ed25519PrivateKey) -> None:
        self._head, self._key = head, key
        # 31: gzip, whose header zlib leaves without a time, so the same list is the same bytes.
        self._packer = zlib.compressobj(level=6, wbits=31)
        self._hash = hashlib.sha256()
        self._packed: list[bytes] = []
        self._count = 0
        self._add(head.model_dump_json().encode() + b"\n")

    def add(self, tickets: Iterable[ListedTicket]) -> None:
        """Some more tickets, in the order of their ids."""
        lines = [ticket.model_dump_json() for ticket in tickets]
        self._count += len(lines)
        self._add("".join(f"{line}\n" for line in lines).encode())

    def finish(self) -> bytes:
        """All of it, signed."""
        tail = ListTail(ticket_count=self._count, sha256=self._hash.hexdigest())
        signed = tail.model_copy(update={"signature": self._key.sign(tail.signed_bytes(self._head)).hex()})
        self._packed.append(self._packer.compress(signed.model_dump_json().encode() + b"\n"))
        self._packed.append(self._packer.flush())
        return b"".join(self._packed)

    def _add(self, raw: bytes) -> None:
        self._hash.update(raw)
        self._packed.append(self._packer.compress(raw))


@dataclass(frozen=True)
class Judged:
    """What a door without a network says of a code. `is_listed` is false of a code that its list does not have: it is forged,
    or younger than the list."""

    result: CheckInResult
    ticket: ListedTicket | None
    is_listed: bool = True


@dataclass(frozen=True)
class DoorList:
    """A list whose signature is good."""

    head: ListHead
    tickets: dict[TicketId, ListedTicket]

    def judge(self, code: str, now: datetime) -> Judged:
        """What the list says of the code; whether this device has let it in before is for the device to know."""
        claimed = unverified_code(code)
        if claimed is None:
            return Judged(CheckInResult.FORGED, None)
        if claimed.event_id != self.head.event_id:
            return Judged(CheckInResult.WRONG_EVENT, None)
        ticket = self.tickets.get(claimed.ticket_id)
        if ticket is None:
            return Judged(CheckInResult.FORGED, None, is_listed=False)
        # Whoever it was that made the code, it lets nobody in: so nothing hangs on whether it is authentic.
        if claimed.version < ticket.version:
            return Judged(CheckInResult.TRANSFERRED, ticket)
        if ticket.status not in (CheckInResult.VALID, CheckInResult.ALREADY_USED, CheckInResult.ON_RESALE):
            return Judged(ticket.status, ticket)
        if self.head.rotating_codes != claimed.is_rotating:
            return Judged(CheckInResult.OUTDATED, ticket)
        if not _is_code_of(ticket, claimed, code):
            return Judged(CheckInResult.FORGED, None, is_listed=False)
        if self.head.is_cancelled:
            return Judged(CheckInResult.CANCELLED, ticket)
        if not claimed.is_of_now(now):
            return Judged(CheckInResult.OUTDATED, ticket)
        return Judged(ticket.status, ticket)


def read_door_list(packed: bytes, public_keys: Sequence[str]) -> DoorList:
    """The list in these bytes; raises ListBroken unless one of these keys (64 hex digits each) has signed all of it."""
    raw = _unpacked(packed)
    body, tail_line = _parted(raw)
    try:
        head = ListHead.model_validate_json(body.partition(b"\n")[0])
        tail = ListTail.model_validate_json(tail_line)
    except ValidationError as problem:
        raise ListBroken("its first or last line is none of ours") from problem
    if head.format != FORMAT:
        raise ListBroken(f"it is a {head.format}, and this program reads a {FORMAT}")
    # Nothing between is parsed before its signature is known to be good.
    if hashlib.sha256(body).hexdigest() != tail.sha256:
        raise ListBroken("it is not the list that was signed")
    if not any(is_signature(tail.signature, of=tail.signed_bytes(head), public_key=key) for key in public_keys):
        raise ListBroken("it is not signed with a key that you trust")
    tickets = {ticket.id: ticket for ticket in _tickets(body)}
    if len(tickets) != tail.ticket_count:
        raise ListBroken("it does not have as many tickets as it says")
    return DoorList(head=head, tickets=tickets)


def claimed_head(packed: bytes) -> ListHead:
    """What a list says of itself, unverified; raises ListBroken."""
    try:
        return ListHead.model_validate_json(_unpacked(packed).partition(b"\n")[0])
    except ValidationError as problem:
        raise ListBroken("its first line is none of ours") from problem


def _is_code_of(ticket: ListedTicket, claimed: CodeRead, code: str) -> bool:
    if claimed.version != ticket.version:
        return False
    if claimed.is_rotating:
        return any(is_made_with(bytes.fromhex(secret), code) for secret in ticket.marks)
    return code_hash(code) in ticket.marks


def _tickets(body: bytes) -> Iterator[ListedTicket]:
    for line in body.splitlines()[1:]:
        yield ListedTicket.model_validate(json.loads(line))


def _unpacked(packed: bytes) -> bytes:
    try:
        unpacker = zlib.decompressobj(wbits=31)
        raw = unpacker.decompress(packed, UNPACKED_BYTES_MAX)
    except (zlib.error, gzip.BadGzipFile) as problem:
        raise ListBroken("it is no gzip file") from problem
    if not unpacker.eof or unpacker.unused_data:
        raise ListBroken("it ends too early, or too late")
    return raw


def _parted(raw: bytes) -> tuple[bytes, bytes]:
    """Everything up to the tail's line, and that line."""
    end = raw.rstrip(b"\n").rfind(b"\n") + 1
    if not raw.endswith(b"\n") or end == 0:
        raise ListBroken("it has no last line")
    return raw[:end], raw[end:]
