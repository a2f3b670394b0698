"""In what order is the cohort served that came before the start?

Nobody can choose it, we included: `seed = SHA-256(server secret || beacon randomness || Merkle root)`. We are bound to the
secret by its hash, published before anybody joined; the beacon speaks only after the root has frozen who is in the
cohort; and whoever knows the beacon's next word does not know our secret. The order is that of
HMAC-SHA256(seed, commitment), where each person's commitment is the hash of a secret of their own.

The root's leaves are the cohort by ticket, 1 … N, then who is demoted, by ticket: both are frozen before the seed is known.
Everybody of the cohort gets a number of the new order, whoever has left by then too: so leaving changes nobody else's.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from contracts.ids import EventId
from contracts.merkle_tree import MerkleTree

# Whatever changes an order must change this name.
ALGORITHM = "boxoffice-draw-1"

SECRET_BYTES = 32


class Entrant(NamedTuple):
    """One of the cohort: the ticket given at the door, and the hash of a secret that only their client knows, as hex."""

    ticket: int
    commitment: str


class Demotion(NamedTuple):
    """Somebody who will be drawn behind everybody else, and the rule that says so."""

    ticket: int
    rule: str


def commitment_of(secret: bytes) -> str:
    """What is published of a secret beforehand: its SHA-256, as 64 hex digits."""
    return hashlib.sha256(secret).hexdigest()


def is_commitment(text: str) -> bool:
    """Can this be the SHA-256 of something? 64 lower-case hex digits."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def entrant_leaf(event_id: EventId, entrant: Entrant) -> bytes:
    """What the tree of the cohort holds for somebody."""
    return f"{event_id}\n{entrant.ticket}\n{entrant.commitment}".encode()


def demotion_leaf(event_id: EventId, demotion: Demotion) -> bytes:
    """What the tree of the cohort holds for a demotion."""
    return f"{event_id}\n{demotion.ticket}\ndemoted by {demotion.rule}".encode()


def cohort_tree(event_id: EventId, entrants: Iterable[Entrant], demotions: Iterable[Demotion] = ()) -> MerkleTree:
    """The tree whose root freezes the cohort. Somebody's leaf is number `ticket - 1`, because tickets are 1 … N."""
    leaves = [entrant_leaf(event_id, entrant) for entrant in sorted(entrants)]
    leaves += [demotion_leaf(event_id, demotion) for demotion in sorted(demotions)]
    return MerkleTree(leaves)


def draw_seed(*, server_secret: bytes, beacon_randomness: bytes, merkle_root: bytes) -> bytes:
    """The 32 bytes that decide the order; each part is 32 bytes long, or it would be unclear where one ends."""
    if not len(server_secret) == len(beacon_randomness) == len(merkle_root) == SECRET_BYTES:
        raise ValueError("secret, randomness and root have 32 bytes each")
    return hashlib.sha256(server_secret + beacon_randomness + merkle_root).digest()


def drawn_order(seed: bytes, entrants: Sequence[Entrant], demoted: Iterable[int] = ()) -> list[int]:
    """The tickets of the door in the order of the draw: number k of the line (from 1) is at k - 1.

    A million take about five seconds of one core.
    """
    last = frozenset(demoted)
    # Sorted in pieces, by the first byte: one sort of a million holds the interpreter for two seconds, and the process that
    # draws has to say meanwhile that it is alive.
    pieces: list[list[tuple[bytes, int]]] = [[] for _ in range(2 * 256)]
    for entrant in entrants:
        drawn = hmac.digest(seed, bytes.fromhex(entrant.commitment), "sha256")
        pieces[256 * (entrant.ticket in last) + drawn[0]].append((drawn, entrant.ticket))
    return [ticket for piece in pieces for _, ticket in sorted(piece)]


def drawn_tickets(order: Sequence[int]) -> dict[int, int]:
    """For each ticket of the door its ticket of the draw, 1 … N."""
    return {ticket: place for place, ticket in enumerate(order, start=1)}
