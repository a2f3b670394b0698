"""Did whoever wants this ticket read the mail that offers it?

A transfer is offered to an e-mail address, and an account here may have been made with somebody else's. So the mail carries
a secret, made from the transfer's id with a key of our own, which nobody else is ever shown: who has it can read that mailbox.
"""

import base64
import hmac

from contracts.ids import TransferId
from contracts.signing_keys import SigningKeys

# 128 bits: enough that nobody guesses one, and short enough for a link in a mail.
_MAC_BYTES = 16
TOKEN_LENGTH = 22


def transfer_token(keys: SigningKeys, transfer_id: TransferId) -> str:
    """The secret of the mail that offers this transfer: 22 characters of base64url."""
    return _token(keys.transfer_keys[0], transfer_id)


def is_transfer_token(keys: SigningKeys, transfer_id: TransferId, token: str) -> bool:
    """Is this the secret of that mail? In constant time; the key of before is believed as long as it is configured."""
    given = token.encode()
    return any(hmac.compare_digest(_token(key, transfer_id).encode(), given) for key in keys.transfer_keys)


def _token(key: bytes, transfer_id: TransferId) -> str:
    mac = hmac.digest(key, transfer_id.bytes, "sha256")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
