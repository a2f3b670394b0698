"""Which place, or which pass, does a request show, and how are they handed out?

In cookies, which no script of a page can read, or in headers, for programs. Cookie and token are of one event and of one
login session; what is not ours or not this asker's looks as if nothing had been shown.
"""

import hashlib
import logging
import secrets
from typing import NamedTuple

from sanic import Request
from sanic.cookies.request import parse_cookie

from contracts.ids import EventId, UserId
from contracts.place_tokens import (
    Bearer,
    PlaceToken,
    TokenFault,
    TokenKind,
    account_mark,
    is_possessed,
    place_token,
    read_token,
    session_mark,
    signed_token,
)
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_room import PlaceId
from db.sessions import SessionId
from ingress.security_headers import is_https

log = logging.getLogger(__name__)

PLACE_HEADER = "waiting-room-place"
PASS_HEADER = "waiting-room-pass"  # noqa: S105 -- a header's name, and no password

SECRET_BYTES = 32
# Between the token and the secret in the cookie of a place; neither has one in it.
_AND = "~"


class ShownPlace(NamedTuple):
    """The place a request speaks of, and the secret that came with it in a cookie."""

    token: PlaceToken
    secret: bytes | None

    @property
    def place_id(self) -> PlaceId:
        """Which place."""
        return PlaceId(self.token.place_id)

    def is_possessed(self, secret: bytes | None) -> bool:
        """Is this, or what came in the cookie, the secret that the place was taken with on this device?"""
        known = secret if secret is not None else self.secret
        return known is not None and is_possessed(self.token, known)


class NewSecret(NamedTuple):
    """What proves that it is the same device: we know its hash and, if we made it, hand the secret out once."""

    commitment: str
    secret: bytes | None


class RoomTokens:
    """Signs and reads the tokens of all rooms."""

    def __init__(self, settings: Settings) -> None:
        self.keys = SigningKeys.of(settings)
        self._place_seconds = settings.session_seconds
        is_secure = is_https(settings.public_url)
        # The prefix makes browsers insist on Secure, Path=/ and no Domain, so no sibling site can plant a place.
        self._prefix = "__Host-" if is_secure else ""
        self._attributes = f"; Path=/; HttpOnly; SameSite=Lax{'; Secure' if is_secure else ''}"

    # ---- what came

    def find_place(self, request: Request, event_id: EventId, session: SessionId, now_ms: int) -> ShownPlace | None:
        """The place that the request shows, if it is this asker's; of whatever epoch, because places outlive a loss."""
        shown = self._shown(request, event_id, TokenKind.PLACE)
        if shown is None:
            return None
        text, _, secret = shown.partition(_AND)
        token = self._read(text, TokenKind.PLACE, event_id, session, now_ms=now_ms, epoch=None)
        return None if isinstance(token, TokenFault) else ShownPlace(token, read_secret(secret))

    def find_pass(
        self, request: Request, event_id: EventId, session: SessionId, *, now_ms: int, epoch: int
    ) -> PlaceToken | TokenFault | None:
        """The pass that the request shows, or what is wrong with it; None when it shows none."""
        shown = self._shown(request, event_id, TokenKind.PASS)
        if shown is None:
            return None
        return self._read(shown, TokenKind.PASS, event_id, session, now_ms=now_ms, epoch=epoch)

    def _shown(self, request: Request, event_id: EventId, kind: TokenKind) -> str | None:
        header: str | None = request.headers.getone(PLACE_HEADER if kind is TokenKind.PLACE else PASS_HEADER, None)
        if header is not None:
            return header
        cookies = request.headers.getone("cookie", "")
        values = parse_cookie(cookies).get(self.cookie_name(kind, event_id), []) if cookies else []
        # Of two of one name, none is trusted.
        return values[0] if len(values) == 1 else None

    def _read(
        self, text: str, kind: TokenKind, event_id: EventId, session: SessionId, *, now_ms: int, epoch: int | None
    ) -> PlaceToken | TokenFault:
        token = read_token(self.keys, text, kind=kind, bearer=self._bearer(event_id, session, now_ms, epoch))
        if isinstance(token, TokenFault):
            about = {"eventId": str(event_id), "userId": str(session.user_id), "kind": kind.value, "fault": token.value}
            log.info("token_refused", extra=about)
        return token

    # ---- what is handed out

    def place(
        self,
        event_id: EventId,
        session: SessionId,
        *,
        place_id: PlaceId,
        ticket: int,
        commitment: str,
        epoch: int,
        now_ms: int,
    ) -> str:
        """A token of that place, for that session."""
        token = place_token(
            kind=TokenKind.PLACE,
            bearer=self._bearer(event_id, session, now_ms, epoch),
            place_id=place_id,
            ticket=ticket,
            commitment=commitment,
            epoch=epoch,
            expires_at_ms=now_ms + 1000 * self._place_seconds,
        )
        return signed_token(self.keys, token)

    def pass_for(self, place: PlaceToken, event_id: EventId, session: SessionId, *, epoch: int, lease: "Lease") -> str:
        """The pass of whoever has claimed that place's turn; it ends with the lease."""
        token = place_token(
            kind=TokenKind.PASS,
            bearer=self._bearer(event_id, session, lease.now_ms, epoch),
            place_id=PlaceId(place.place_id),
            ticket=place.ticket,
            commitment=place.commitment,
            epoch=epoch,
            expires_at_ms=lease.until_ms,
        )
        return signed_token(self.keys, token)

    def place_cookie(self, event_id: EventId, token: str, secret: bytes | None) -> str:
        """The Set-Cookie of a place, with the secret if it was we who made it."""
        value = token if secret is None else f"{token}{_AND}{secret.hex()}"
        return self._cookie(TokenKind.PLACE, event_id, value, seconds=self._place_seconds)

    def pass_cookie(self, event_id: EventId, token: str, *, seconds: int) -> str:
        """The Set-Cookie of a pass."""
        return self._cookie(TokenKind.PASS, event_id, token, seconds=seconds)

    def farewell_cookies(self, event_id: EventId) -> tuple[str, str]:
        """What takes place and pass away."""
        return tuple(self._cookie(kind, event_id, "", seconds=0) for kind in TokenKind)  # type: ignore[return-value]

    def cookie_name(self, kind: TokenKind, event_id: EventId) -> str:
        """One for each event: whoever waits for two concerts has two."""
        return f"{self._prefix}{kind.value}_{event_id.hex}"

    def account(self, user_id: UserId) -> str:
        """What stands for an account in what we sign."""
        return account_mark(self.keys, user_id)

    def _cookie(self, kind: TokenKind, event_id: EventId, value: str, *, seconds: int) -> str:
        return f"{self.cookie_name(kind, event_id)}={value}; Max-Age={seconds}{self._attributes}"

    def _bearer(self, event_id: EventId, session: SessionId, now_ms: int, epoch: int | None) -> Bearer:
        account, mark = account_mark(self.keys, session.user_id), session_mark(session.digest)
        return Bearer(event_id=event_id, account=account, session=mark, now_ms=now_ms, epoch=epoch)


class Lease(NamedTuple):
    """From when to when somebody may buy, in milliseconds by Redis's clock."""

    now_ms: int
    until_ms: int


def new_place_id() -> PlaceId:
    """A place nobody has."""
    return PlaceId(secrets.token_urlsafe(16))


def secret_for(commitment: str | None, shown: ShownPlace | None) -> NewSecret:
    """The device's own secret, if it sent the hash of one; else the one it has in its cookie, or a new one."""
    if commitment is not None:
        return NewSecret(commitment, None)
    if shown is not None and shown.secret is not None and shown.is_possessed(None):
        return NewSecret(shown.token.commitment, shown.secret)
    secret = secrets.token_bytes(SECRET_BYTES)
    return NewSecret(hashlib.sha256(secret).hexdigest(), secret)


def read_secret(text: str) -> bytes | None:
    """A secret from its 64 hex digits; None when it is none."""
    if len(text) != 2 * SECRET_BYTES or set(text) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(text)
