"""Where does the randomness of a draw come from that nobody, not even we, could know when the cohort was frozen?

A beacon speaks in rounds. Which round will be used is announced before anybody joins. This module knows when a round is
due, how its answer is read and what can be checked about it; fetching it is somebody else's work.
"""

import hashlib
import sys
from enum import StrEnum
from typing import Protocol

from pydantic import Field, ValidationError

from contracts.value import Value

RANDOMNESS_BYTES = 32


class BeaconSource(StrEnum):
    """Who speaks."""

    OFFLINE = "offline"
    DRAND_QUICKNET = "drand-quicknet"


class BeaconRound(Value):
    """What a beacon said in one round, as hex."""

    source: BeaconSource
    round: int = Field(ge=1)
    randomness: str = Field(pattern="^[0-9a-f]{64}$")
    signature: str = Field("", pattern="^([0-9a-f]{2})*$", description="drand's; the offline beacon has none")


class BeaconFault(StrEnum):
    """What is wrong with what a beacon is said to have said."""

    UNREADABLE = "it is no answer of this beacon"
    WRONG_ROUND = "it is another round than the one asked for"
    NOT_ITS_HASH = "its randomness is not the SHA-256 of its signature"
    FORGED = "its signature is not the beacon's"


class Beacon(Protocol):
    """A source of public randomness."""

    source: BeaconSource
    # Can a stranger check that the randomness was not chosen by us?
    is_verifiable: bool

    def first_round_from(self, at_ms: int) -> int:
        """The first round due at that time (milliseconds since 1970) or later."""
        ...

    def due_ms(self, round_number: int) -> int:
        """When a round is due, in milliseconds since 1970."""
        ...

    def fault_of(self, said: BeaconRound) -> BeaconFault | None:
        """What is wrong with this round, as far as arithmetic can tell; None when nothing is."""
        ...


class OfflineBeacon:
    """NOT VERIFIABLE: its randomness is the server's own. For development, and for machines without a way out.

    With it a draw can be recomputed, but nobody can tell that we did not choose the randomness to suit us.
    """

    source = BeaconSource.OFFLINE
    is_verifiable = False
    _period_ms = 1000

    def first_round_from(self, at_ms: int) -> int:
        """A round a second since 1970."""
        return max(1, -(-at_ms // self._period_ms))

    def due_ms(self, round_number: int) -> int:
        """The second the round is named after."""
        return round_number * self._period_ms

    def spoken(self, round_number: int, randomness: bytes) -> BeaconRound:
        """A round that says what the caller gives, 32 bytes from `secrets`."""
        return BeaconRound(source=self.source, round=round_number, randomness=randomness.hex())

    def fault_of(self, said: BeaconRound) -> BeaconFault | None:
        """There is nothing to check."""
        return None if said.source is self.source else BeaconFault.UNREADABLE


class _DrandAnswer(Value):
    """What a relay answers, as far as it is of use."""

    round: int
    randomness: str
    signature: str


class DrandBeacon:
    """drand's quicknet: a round every three seconds, signed by a threshold of independent operators.

    Chain, key and scheme (bls-unchained-g1-rfc9380) as its operators publish them at /<chain hash>/info.
    """

    source = BeaconSource.DRAND_QUICKNET
    is_verifiable = True
    chain_hash = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
    public_key = (
        "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
        "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
    )
    _genesis_ms = 1_692_803_367_000
    _period_ms = 3000
    _domain = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"

    def first_round_from(self, at_ms: int) -> int:
        """Round 1 was spoken at the genesis."""
        return max(1, 1 - (self._genesis_ms - at_ms) // self._period_ms)

    def due_ms(self, round_number: int) -> int:
        """When a threshold of its operators signs that round."""
        return self._genesis_ms + (round_number - 1) * self._period_ms

    def url_of(self, relay: str, round_number: int) -> str:
        """Where a relay (https://api.drand.sh, say) answers for that round."""
        return f"{relay.rstrip('/')}/{self.chain_hash}/public/{round_number}"

    def read(self, answer: bytes, *, round_number: int) -> BeaconRound | BeaconFault:
        """A relay's answer, checked: a relay may be wrong, or lie."""
        try:
            fields = _DrandAnswer.model_validate_json(answer)
            said = BeaconRound(source=self.source, **fields.model_dump())
        except ValidationError:
            return BeaconFault.UNREADABLE
        if said.round != round_number:
            return BeaconFault.WRONG_ROUND
        return self.fault_of(said) or said

    def fault_of(self, said: BeaconRound) -> BeaconFault | None:
        """Whether the operators signed this round; a quarter of a second, and half a second more the first time."""
        if said.source is not self.source:
            return BeaconFault.UNREADABLE
        signature = bytes.fromhex(said.signature)
        if hashlib.sha256(signature).hexdigest() != said.randomness:
            return BeaconFault.NOT_ITS_HASH
        message = hashlib.sha256(said.round.to_bytes(8, "big")).digest()
        return None if _is_bls_signature(signature, message, self.public_key, self._domain) else BeaconFault.FORGED


BEACONS: dict[BeaconSource, Beacon] = {beacon.source: beacon for beacon in (OfflineBeacon(), DrandBeacon())}


def _is_bls_signature(signature: bytes, message: bytes, public_key: str, domain: bytes) -> bool:
    """BLS with signatures in G1 and keys in G2 (draft-irtf-cfrg-bls-signature, minimal signature size)."""
    depth = sys.getrecursionlimit()
    # Half a second to import: only who checks a beacon pays it.
    from py_ecc.bls.g2_primitives import subgroup_check
    from py_ecc.bls.hash_to_curve import hash_to_G1
    from py_ecc.bls.point_compression import decompress_G1, decompress_G2
    from py_ecc.bls.typing import G1Compressed, G2Compressed
    from py_ecc.fields import optimized_bls12_381_FQ12 as FQ12
    from py_ecc.optimized_bls12_381.optimized_curve import G2, is_inf, neg
    from py_ecc.optimized_bls12_381.optimized_pairing import final_exponentiate, pairing

    # Importing it allows a hundred times the depth, of which it needs nothing: deeply nested JSON would then kill the process
    # where it is refused now.
    sys.setrecursionlimit(depth)
    if len(signature) != 48:
        return False
    key = bytes.fromhex(public_key)
    try:
        point = decompress_G1(G1Compressed(int.from_bytes(signature, "big")))
        key_point = decompress_G2(G2Compressed((int.from_bytes(key[:48], "big"), int.from_bytes(key[48:], "big"))))
    except ValueError:
        return False
    if is_inf(point) or not subgroup_check(point):
        return False
    hashed = hash_to_G1(message, domain, hashlib.sha256)  # type: ignore[arg-type]  # it is typed as a hash, used as its maker
    product = pairing(G2, point, final_exponentiate=False) * pairing(neg(key_point), hashed, final_exponentiate=False)
    return bool(final_exponentiate(product) == FQ12.one())
