"""Does this token say that its bearer has this place, or this pass, now?

A token names a place; it opens nothing without the secret whose hash (`commitment`) it carries, and it is bound to the
account and the login session it was given to. Order lives in Redis, never in a token: whoever could forge one would
still have to be let in. Reads are answered from a token alone; what sets seats aside is checked against Redis too.

A token is `<payload>.<key id><MAC>`, base64url without padding: the payload is JSON of a few letters, the key id four
characters, the MAC HMAC-SHA256 over the payload as it travels. Nothing is parsed before its MAC is known to be ours.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.ids import EventId, UserId
from contracts.signing_keys import MacKey, SigningKeys
from contracts.waiting_room import PlaceId

VERSION: Final = 1

# Ours are under 500 characters; a cookie may have 4096, and a header of such tokens costs us nothing to refuse.
LENGTH_MAX = 1024

_TEXT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{47}")  # 4 of the key id and 43 of the MAC
_KEY_ID_LENGTH = 4
_MARK_BYTES = 16

# How far the clocks of two of our hosts may be apart; times in tokens are Redis's, but who reads them may ask its own.
CLOCK_SKEW_MS = 5_000


class TokenKind(StrEnum):
    """A place in the line, or the pass of whoever has claimed their turn."""

    PLACE = "place"
    PASS = "pass"  # noqa: S105 -- a word, and no password


class TokenFault(StrEnum):
    """Why a token is refused. A client is told no more than that it is; the reason is for the log and the metrics."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    FORGED = "forged"
    OTHER_VERSION = "other_version"
    OTHER_KIND = "other_kind"
    OTHER_EVENT = "other_event"
    OTHER_ACCOUNT = "other_account"
    OTHER_SESSION = "other_session"
    OTHER_EPOCH = "other_epoch"
    NOT_YET = "not_yet"
    EXPIRED = "expired"


class PlaceToken(BaseModel):
    """What a token says. One letter each in JSON, because it travels with every poll."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    version: int = Field(VERSION, alias="v")
    kind: Literal["place", "pass"] = Field(alias="t")
    event_id: str = Field(alias="e")
    account: str = Field(alias="a", description="mark of the account: `account_mark`")
    session: str = Field(alias="s", description="mark of the login, `session_mark`")
    place_id: str = Field(alias="p")
    ticket: int = Field(0, alias="n", description="0 while the draw has not been made")
    commitment: str = Field(alias="c", description="SHA-256 of the possession secret, as hex")
    epoch: int = Field(alias="g")
    issued_at_ms: int = Field(alias="i")
    expires_at_ms: int = Field(alias="x")


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who shows a token, where, and when; what the token must agree with."""

    event_id: EventId
    account: str
    session: str
    now_ms: int
    # None: of any epoch. A place outlives the loss of Redis; a pass of before it does not.
    epoch: int | None


def account_mark(keys: SigningKeys, user_id: UserId) -> str:
    """What stands for an account in tokens: nobody without our key can tell whose it is."""
    return _base64url(hmac.digest(keys.account_key, user_id.bytes, "sha256")[:_MARK_BYTES])


def session_mark(session_id: str) -> str:
    """What stands for a login session in tokens: its hash, because whoever has the id has the session."""
    return _base64url(hashlib.sha256(b"session\n" + session_id.encode()).digest()[:_MARK_BYTES])


def signed_token(keys: SigningKeys, token: PlaceToken) -> str:
    """The token as it travels."""
    payload = _base64url(token.model_dump_json(by_alias=True).encode())
    return f"{payload}.{keys.token_key.id}{_mac(keys.token_key, payload.encode())}"


def read_token(keys: SigningKeys, text: str, *, kind: TokenKind, bearer: Bearer) -> PlaceToken | TokenFault:
    """What the token says, if it is ours and its bearer's; else why not. About 10 µs."""
    token = _authentic(keys, text)
    if isinstance(token, TokenFault):
        return token
    return _fault_of(token, kind, bearer) or token


def is_possessed(token: PlaceToken, secret: bytes) -> bool:
    """Does the bearer know the secret whose hash the token carries? In constant time."""
    return hmac.compare_digest(hashlib.sha256(secret).hexdigest().encode(), token.commitment.encode())


def place_token(
    *,
    kind: TokenKind,
    bearer: Bearer,
    place_id: PlaceId,
    ticket: int,
    commitment: str,
    epoch: int,
    expires_at_ms: int,
) -> PlaceToken:
    """A token for that bearer, from now until then."""
    return PlaceToken(
        kind=kind.value,
        event_id=str(bearer.event_id),
        account=bearer.account,
        session=bearer.session,
        place_id=place_id,
        ticket=ticket,
        commitment=commitment,
        epoch=epoch,
        issued_at_ms=bearer.now_ms,
        expires_at_ms=expires_at_ms,
    )


def _authentic(keys: SigningKeys, text: str) -> PlaceToken | TokenFault:
    """What we once signed, whatever it says."""
    if len(text) > LENGTH_MAX or not text.isascii() or not _TEXT.fullmatch(raw := text.encode()):
        return TokenFault.MALFORMED
    payload, _, signature = raw.partition(b".")
    key = keys.token_keys.get(signature[:_KEY_ID_LENGTH].decode())
    if key is None:
        return TokenFault.UNKNOWN_KEY
    # Text is compared with text: there is one way to write a MAC, and no decoder that forgives another.
    if not hmac.compare_digest(_mac(key, payload).encode(), signature[_KEY_ID_LENGTH:]):
        return TokenFault.FORGED
    try:
        return PlaceToken.model_validate_json(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except ValidationError:
        # We signed it, so we once knew what it means: it is of a version that this process does not know.
        return TokenFault.OTHER_VERSION


def _fault_of(token: PlaceToken, kind: TokenKind, bearer: Bearer) -> TokenFault | None:
    """What is wrong with an authentic token in these hands, at this moment."""
    faults = (
        (token.version != VERSION, TokenFault.OTHER_VERSION),
        (token.kind != kind, TokenFault.OTHER_KIND),
        (token.event_id != str(bearer.event_id), TokenFault.OTHER_EVENT),
        (not _same(token.account, bearer.account), TokenFault.OTHER_ACCOUNT),
        (not _same(token.session, bearer.session), TokenFault.OTHER_SESSION),
        (bearer.epoch is not None and token.epoch != bearer.epoch, TokenFault.OTHER_EPOCH),
        (token.issued_at_ms > bearer.now_ms + CLOCK_SKEW_MS, TokenFault.NOT_YET),
        (token.expires_at_ms <= bearer.now_ms, TokenFault.EXPIRED),
    )
    return next((fault for is_so, fault in faults if is_so), None)


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def _mac(key: MacKey, payload: bytes) -> str:
    return _base64url(hmac.digest(key.secret, payload, "sha256"))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
