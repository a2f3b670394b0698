"""Which ticket does this code stand for, and did we make it?

A code is what the QR of a ticket says: bytes in base32, which is what URLs and file names take as it is and what a QR code
writes in its alphanumeric mode, 5.5 bits a character. (Base45 would save a tenth, and has blanks, slashes and percent signs;
base64url needs byte mode, 8 bits a character.) 80 characters, or 88 of the rotating kind: a QR code of version 4 at level M,
of 33 by 33 modules.

    format and kind 1 · event id 16 · ticket id 16 · version of the ticket 2 · [time step 5] · MAC 15

The version goes up when the ticket changes hands, so the code of whoever had it before says who it was, and lets nobody in.
The MAC is 120 bits of HMAC-SHA256. Of the rotating kind it is made with a secret of this one ticket and version, which in
turn is made with our key: a door without a network can be given the secrets of its event and still not our key. Both kinds
are multiples of five bytes, so that there is exactly one way to write a code.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from contracts.ids import EventId, TicketId
from contracts.signing_keys import SigningKeys

STEP_SECONDS: Final = 15
# The present step and its neighbours: the clocks of the buyer's server and of the door may be 15 s apart, and a code that
# was on the screen when the step ended is still good. A picture of a code is good for 30 s at most, 45 s by a slow clock.
STEPS_APART_MAX: Final = 1

# The first byte: the format in its upper half, the kind in its lower.
_STATIC: Final = 0x10
_ROTATING: Final = 0x11
_MAC_BYTES: Final = 15
_HEAD_BYTES: Final = 1 + 16 + 16 + 2
_STEP_BYTES: Final = 5
_VERSION_MAX: Final = 0xFFFF
_TEXT = re.compile(r"[A-Z2-7]{80}|[A-Z2-7]{88}", re.ASCII)
# Of a code's hash in the list for a door: nobody makes a code from it, because 120 bits of the code are unknown to them.
_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class CodeRead:
    """What an authentic code says. `step` is None of the kind that stays the same."""

    event_id: EventId
    ticket_id: TicketId
    version: int
    step: int | None

    @property
    def is_rotating(self) -> bool:
        """Is it of the kind that changes every `STEP_SECONDS`?"""
        return self.step is not None

    def is_of_now(self, now: datetime) -> bool:
        """May it be shown at that moment? Always, of the kind that stays the same."""
        return self.step is None or abs(self.step - step_of(now)) <= STEPS_APART_MAX


def step_of(at: datetime) -> int:
    """The time step of that moment: spans of `STEP_SECONDS` since 1970."""
    return int(at.astimezone(UTC).timestamp()) // STEP_SECONDS


def ticket_code(
    keys: SigningKeys, *, event_id: EventId, ticket_id: TicketId, version: int, at: datetime | None = None
) -> str:
    """The code of a ticket: the one that stays the same, or, with `at`, the rotating one of that moment.

    Raises ValueError for a version above 65,535: no ticket changes hands that often.
    """
    if at is None:
        return static_codes(keys, event_id=event_id, ticket_id=ticket_id, version=version)[0]
    secret = ticket_secrets(keys, event_id=event_id, ticket_id=ticket_id, version=version)[0]
    body = _head(_ROTATING, event_id, ticket_id, version) + step_of(at).to_bytes(_STEP_BYTES, "big")
    return _text(body + _mac(secret, body))


def static_codes(keys: SigningKeys, *, event_id: EventId, ticket_id: TicketId, version: int) -> tuple[str, ...]:
    """The codes of the kind that stays the same, one per key that we believe, the current one's first."""
    body = _head(_STATIC, event_id, ticket_id, version)
    return tuple(_text(body + _mac(key, body)) for key in keys.ticket_keys)


def ticket_secrets(keys: SigningKeys, *, event_id: EventId, ticket_id: TicketId, version: int) -> tuple[bytes, ...]:
    """What the rotating codes of a ticket are made with: 32 bytes per key that we believe, the current one's first.

    Whoever has it can make codes of this ticket, in this version, until its event is over; so only scanners are given it.
    """
    # The kind is in what is signed, so no secret is ever the MAC of a code, nor the other way round.
    head = _head(_ROTATING, event_id, ticket_id, version)
    return tuple(hmac.digest(key, head, "sha256") for key in keys.ticket_keys)


def read_code(keys: SigningKeys, code: str) -> CodeRead | None:
    """What the code says, if it is ours; None when it is forged or no code at all. About 25 µs.

    Whether its step is of now, its event this one and its version the last one is for the door to ask.
    """
    read = unverified_code(code)
    if read is None:
        return None
    body, mac = _body_and_mac(code)
    makers = ticket_secrets_of(keys, read) if read.is_rotating else keys.ticket_keys
    return read if _is_mac_of_any(makers, body, mac) else None


def ticket_secrets_of(keys: SigningKeys, read: CodeRead) -> tuple[bytes, ...]:
    """The secrets of the ticket a code speaks of: what its MAC has to be made with, if it is of the rotating kind."""
    return ticket_secrets(keys, event_id=read.event_id, ticket_id=read.ticket_id, version=read.version)


def unverified_code(code: str) -> CodeRead | None:
    """What the code claims, whoever made it; None when it is none. For a door that knows hashes and secrets, not our key."""
    if not _TEXT.fullmatch(code):
        return None
    body, _ = _body_and_mac(code)
    if body[0] != (_STATIC if len(body) == _HEAD_BYTES else _ROTATING):
        return None
    return CodeRead(
        event_id=EventId(UUID(bytes=body[1:17])),
        ticket_id=TicketId(UUID(bytes=body[17:33])),
        version=int.from_bytes(body[33:_HEAD_BYTES], "big"),
        step=int.from_bytes(body[_HEAD_BYTES:], "big") if body[0] == _ROTATING else None,
    )


def code_hash(code: str) -> str:
    """What a door without a network knows a code of the static kind by: 22 characters, from which nobody makes the code."""
    return base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest()[:_HASH_BYTES]).rstrip(b"=").decode()


def is_made_with(secret: bytes, code: str) -> bool:
    """Was this rotating code made with the secret of its ticket? In constant time."""
    if unverified_code(code) is None:
        return False
    return _is_mac_of_any((secret,), *_body_and_mac(code))


def _head(kind: int, event_id: EventId, ticket_id: TicketId, version: int) -> bytes:
    if not 0 <= version <= _VERSION_MAX:
        raise ValueError(f"a ticket of version {version} has no code")
    return bytes([kind]) + event_id.bytes + ticket_id.bytes + version.to_bytes(2, "big")


def _body_and_mac(code: str) -> tuple[bytes, bytes]:
    raw = base64.b32decode(code)
    return raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]


def _is_mac_of_any(makers: tuple[bytes, ...], body: bytes, mac: bytes) -> bool:
    return any(hmac.compare_digest(_mac(maker, body), mac) for maker in makers)


def _mac(maker: bytes, body: bytes) -> bytes:
    return hmac.digest(maker, body, "sha256")[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.b32encode(raw).decode()
