"""What does this deployment sign with, and whose signatures does it still believe?

Everything is derived from one secret, `Settings.signing_key`: an Ed25519 key for receipts, which anybody can check with
its public half, and MAC keys for places, passes, the codes of tickets and the secrets of transfers, which are for ourselves
only. A key can be changed: what was signed under the secret before (`Settings.signing_key_before`) stays good until it runs out.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from functools import cache
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contracts.settings import Settings

# One label per use: a key that does two things can be made to do the second with what was meant for the first.
_RECEIPTS = b"boxoffice receipts, ed25519, 1"
_TOKENS = b"boxoffice place tokens, hmac-sha256, 1"
_ACCOUNTS = b"boxoffice account marks, hmac-sha256, 1"
_TICKETS = b"boxoffice ticket codes, hmac-sha256, 1"
_TRANSFERS = b"boxoffice transfer tokens, hmac-sha256, 1"


@dataclass(frozen=True)
class MacKey:
    """A secret for HMAC-SHA256, and the four characters that name it in what it has signed."""

    id: str
    secret: bytes


@dataclass(frozen=True)
class SigningKeys:
    """The keys of one deployment. `token_keys` is by key id; the current one is `token_key`."""

    receipt_key: Ed25519PrivateKey
    # The public halves of the receipt key, current and before: 64 hex digits each, published with every proof.
    public_keys: tuple[str, ...]
    token_key: MacKey
    token_keys: dict[str, MacKey]
    account_key: bytes
    # What the codes of tickets are signed with, the current key first; the one before is believed as long as it is configured,
    # because a ticket that was printed a year ago has to open the door.
    ticket_keys: tuple[bytes, ...]
    # What the mail about a transfer is signed with, the current key first.
    transfer_keys: tuple[bytes, ...]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The keys that follow from the settings: the same on every host, and after every restart."""
        secrets = [secret for secret in (settings.signing_key, settings.signing_key_before) if secret]
        receipt_keys = [Ed25519PrivateKey.from_private_bytes(_derived(secret, _RECEIPTS)) for secret in secrets]
        token_keys = [_token_key(secret) for secret in secrets]
        return cls(
            receipt_key=receipt_keys[0],
            public_keys=tuple(key.public_key().public_bytes_raw().hex() for key in receipt_keys),
            token_key=token_keys[0],
            token_keys={key.id: key for key in reversed(token_keys)},
            account_key=_derived(settings.signing_key, _ACCOUNTS),
            ticket_keys=tuple(_derived(secret, _TICKETS) for secret in secrets),
            transfer_keys=tuple(_derived(secret, _TRANSFERS) for secret in secrets),
        )


@cache
def public_key_from(hex_digits: str) -> Ed25519PublicKey:
    """A public key from its 64 hex digits; raises ValueError."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(hex_digits))


def _token_key(secret: str) -> MacKey:
    key = _derived(secret, _TOKENS)
    # Of a hash of the key, never of the key: the id is in every token.
    name = base64.urlsafe_b64encode(hashlib.sha256(_TOKENS + key).digest()[:3]).decode()
    return MacKey(id=name, secret=key)


def _derived(secret: str, label: bytes) -> bytes:
    return hmac.digest(secret.encode(), label, "sha256")
