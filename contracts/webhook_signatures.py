"""How does a receiver know that a webhook is ours, whole, and fresh?

The scheme of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body` with a secret that the
endpoint's owner was shown once, so any of its libraries can check what we send. While a secret is being changed a message carries
a signature of each.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32
# How old a message may be before a receiver should refuse it.
TOLERANCE_SECONDS = 300


def new_secret() -> str:
    """A secret as its owner is shown it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature_header(endpoint_secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature`: one signature for each secret. ValueError for what is no secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    marks = (hmac.digest(_key_of(secret), signed, "sha256") for secret in endpoint_secrets if secret)
    return " ".join(f"v1,{base64.b64encode(mark).decode()}" for mark in marks)


def is_genuine(secret: str, *, message_id: str, timestamp: str, body: bytes, header: str, now: float) -> bool:
    """What a receiver does: is one of the signatures good, and the message of these minutes?"""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    expected = signature_header([secret], message_id=message_id, timestamp=int(timestamp), body=body)
    return any(hmac.compare_digest(expected.encode(), given.encode()) for given in header.split())


def _key_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as problem:
        raise ValueError("a webhook secret is whsec_ and base64") from problem
