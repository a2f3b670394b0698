"""Does a root stand for one list only, and can an entry be shown to be in it?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.merkle_tree import EMPTY_ROOT, MerkleTree, is_consistent, is_included, leaf_hash, node_hash

# The entries and roots that implementations of Certificate Transparency are tested with.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = st.integers(1, 70)


def entries(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def root_by_the_definition(listed: list[bytes]) -> bytes:
    """MTH of RFC 6962, word for word."""
    if not listed:
        return EMPTY_ROOT
    if len(listed) == 1:
        return leaf_hash(listed[0])
    split = max(2**power for power in range(10) if 2**power < len(listed))
    return node_hash(root_by_the_definition(listed[:split]), root_by_the_definition(listed[split:]))


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert MerkleTree(ENTRIES[:size]).root.hex() == ROOTS[size]


@given(SIZES)
def test_the_root_is_that_of_the_definition(size: int) -> None:
    assert MerkleTree(entries(size)).root == root_by_the_definition(entries(size))


@given(SIZES, st.data())
def test_every_entry_can_be_shown_at_its_place_and_nowhere_else(size: int, data: st.DataObject) -> None:
    tree, index = MerkleTree(entries(size)), data.draw(st.integers(0, size - 1))
    proof, entry = tree.inclusion_proof(index), entries(size)[index]
    assert is_included(entry, index=index, size=size, proof=proof, root=tree.root)
    elsewhere = data.draw(st.integers(-1, size + 1).filter(lambda other: other != index))
    assert not is_included(entry, index=elsewhere, size=size, proof=proof, root=tree.root)
    assert not is_included(entry + b"!", index=index, size=size, proof=proof, root=tree.root)
    assert not is_included(entry, index=index, size=size, proof=[*proof, tree.root], root=tree.root)
    if proof:
        assert not is_included(entry, index=index, size=size, proof=proof[:-1], root=tree.root)
        damaged = [bytes(32), *proof[1:]]
        assert not is_included(entry, index=index, size=size, proof=damaged, root=tree.root)


@given(SIZES, st.data())
def test_a_longer_list_can_be_shown_to_begin_with_a_shorter_one(size: int, data: st.DataObject) -> None:
    old_size = data.draw(st.integers(1, size))
    tree, old = MerkleTree(entries(size)), MerkleTree(entries(old_size))
    proof = tree.consistency_proof(old_size)
    assert is_consistent(old_size=old_size, old_root=old.root, size=size, root=tree.root, proof=proof)
    rewritten = MerkleTree([b"rewritten", *entries(old_size)[1:]])
    assert not is_consistent(old_size=old_size, old_root=rewritten.root, size=size, root=tree.root, proof=proof)
    longer = [*proof, tree.root]
    assert not is_consistent(old_size=old_size, old_root=old.root, size=size, root=tree.root, proof=longer)


def test_what_is_not_in_the_list_has_no_proof() -> None:
    tree = MerkleTree(entries(3))
    for index in (-1, 3):
        with pytest.raises(IndexError):
            tree.inclusion_proof(index)
    for old_size in (0, 4):
        with pytest.raises(IndexError):
            tree.consistency_proof(old_size)
    assert not is_consistent(old_size=2, old_root=tree.root, size=3, root=tree.root, proof=[])
    assert not is_consistent(old_size=3, old_root=tree.root, size=5, root=tree.root, proof=[])


def test_a_node_cannot_be_passed_off_as_an_entry() -> None:
    left, right = entries(2)
    tree = MerkleTree([left, right])
    forged = MerkleTree([leaf_hash(left) + leaf_hash(right)])
    assert forged.root != tree.root
