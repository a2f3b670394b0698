"""How does one hash stand for a whole list, so that an entry can be shown to be in it without showing the others?

The tree of RFC 6962 (Certificate Transparency), section 2.1, with SHA-256. Its leaves and its nodes are hashed with
different first bytes, or a node could be passed off as an entry. Proofs are checked as RFC 9162, sections 2.1.3.2 and
2.1.4.2, describes.
"""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry, 32 bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """The tree over a list that no longer grows: 64 bytes an entry, about two seconds for a million."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        """Hashes every entry, then pairs of hashes, until one is left."""
        level = [leaf_hash(entry) for entry in entries]
        self.size = len(level)
        # An odd node at the end rises as it is: this is where RFC 6962 splits, at the largest power of two below.
        self._levels = [level]
        while len(level) > 1:
            paired = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
            level = [*paired, level[-1]] if len(level) % 2 else paired
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """The hash that stands for the whole list, 32 bytes."""
        return self._levels[-1][0] if self.size else EMPTY_ROOT

    def inclusion_proof(self, index: int) -> list[bytes]:
        """The hashes beside the path from that entry up to the root; raises IndexError."""
        if not 0 <= index < self.size:
            raise IndexError(f"{index} is not among {self.size} entries")
        path = []
        for level in self._levels[:-1]:
            beside = index ^ 1
            if beside < len(level):
                path.append(level[beside])
            index //= 2
        return path

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """What shows that the first `old_size` entries are those of an older tree; raises IndexError."""
        if not 0 < old_size <= self.size:
            raise IndexError(f"{old_size} is not between 1 and {self.size}")
        return self._subproof(old_size, start=0, end=self.size, is_whole=True)

    def _subproof(self, old_size: int, *, start: int, end: int, is_whole: bool) -> list[bytes]:
        """SUBPROOF of RFC 6962, 2.1.2, for the entries from `start` to before `end`."""
        if old_size == end - start:
            return [] if is_whole else [self._range_hash(start, end)]
        middle = start + _split(end - start)
        if old_size <= middle - start:
            proof = self._subproof(old_size, start=start, end=middle, is_whole=is_whole)
            return [*proof, self._range_hash(middle, end)]
        proof = self._subproof(old_size - (middle - start), start=middle, end=end, is_whole=False)
        return [*proof, self._range_hash(start, middle)]

    def _range_hash(self, start: int, end: int) -> bytes:
        """The hash of a subtree: the ranges that RFC 6962 splits into are nodes of ours."""
        height = (end - start - 1).bit_length()
        return self._levels[height][start >> height]


def is_included(entry: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Is the entry at that place of the list of that size that the root stands for?"""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf_hash(entry)
    for beside in proof:
        if last == 0:
            return False
        if place % 2 or place == last:
            found = node_hash(beside, found)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = node_hash(found, beside)
        place, last = place // 2, last // 2
    return last == 0 and found == root


def is_consistent(*, old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Is the list of `size` the list of `old_size`, and nothing but more entries behind it?"""
    if old_size == size:
        return not proof and old_root == root
    if not 0 < old_size < size:
        return False
    # The old tree is one whole subtree of the new one: its root need not be sent.
    hashes = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not hashes:
        return False
    place, last = old_size - 1, size - 1
    while place % 2:
        place, last = place // 2, last // 2
    old_found = found = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            return False
        if place % 2 or place == last:
            old_found, found = node_hash(beside, old_found), node_hash(beside, found)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = node_hash(found, beside)
        place, last = place // 2, last // 2
    return last == 0 and old_found == old_root and found == root


def _split(size: int) -> int:
    """The largest power of two below the size."""
    return 1 << ((size - 1).bit_length() - 1)
