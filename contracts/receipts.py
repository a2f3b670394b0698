"""What does a person take away from the door, to show later that they were there?

The ticket, the commitment and the place in the log, signed with a key whose public half is published. A receipt whose
entry is not in the log, or not in the cohort that was frozen, shows that we took somebody out of the line.
"""

from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from contracts.ids import EventId
from contracts.signing_keys import public_key_from
from contracts.value import Value


class Receipt(Value):
    """You joined this event's room, with this ticket: signed by us, for everybody to check."""

    event_id: EventId
    ticket: int = Field(ge=1, description="given at the door; after a draw it says nothing about the order")
    commitment: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the secret that only your client knows")
    log_index: int = Field(ge=0, description="where the room's public log says that you joined")
    signature: str = Field("", description="Ed25519, as hex, of the lines that `signed_bytes` makes")

    @property
    def signed_bytes(self) -> bytes:
        """What is signed: a first line that no other thing of ours begins with, then the fields, a line each."""
        lines = ("boxoffice receipt 1", self.event_id, self.ticket, self.commitment, self.log_index)
        return "\n".join(str(line) for line in lines).encode()

    def signed_with(self, key: Ed25519PrivateKey) -> Self:
        """The same receipt with its signature; 45 µs."""
        return self.model_copy(update={"signature": key.sign(self.signed_bytes).hex()})

    def is_signed_by(self, public_key: str) -> bool:
        """Was it signed with the private half of that key (64 hex digits)?"""
        return is_signature(self.signature, of=self.signed_bytes, public_key=public_key)


def is_signature(signature: str, *, of: bytes, public_key: str) -> bool:
    """Is this the Ed25519 signature of those bytes? Both as hex; what is no hex, or no key, has signed nothing."""
    try:
        public_key_from(public_key).verify(bytes.fromhex(signature), of)
    except (InvalidSignature, ValueError):
        return False
    return True
