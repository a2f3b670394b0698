"""Which id does the thing get that this request makes?"""

import hashlib
from typing import NamedTuple
from uuid import UUID, uuid4

from sanic import Request

from contracts.ids import UserId, command_id_of_key
from ingress.asking import idempotency_key


class Creation(NamedTuple):
    """The id, and the hash of the body that a retry must repeat."""

    id: UUID
    request_hash: str


def creation(request: Request, *, user_id: UserId, route: str) -> Creation:
    """With an Idempotency-Key the id follows from it, so that a retry finds what was made; raises Refusal for a bad key."""
    key = idempotency_key(request)
    if key is None:
        return Creation(uuid4(), "")
    made = command_id_of_key(user_id=user_id, route=route, idempotency_key=key)
    return Creation(made, hashlib.sha256(request.body).hexdigest())
