"""Is the order of a draw what the seed says, and nothing else?"""

import hashlib
import hmac
import random
import time
from uuid import UUID

import pytest

from contracts.draw import (
    Demotion,
    Entrant,
    cohort_tree,
    commitment_of,
    draw_seed,
    drawn_order,
    drawn_tickets,
    entrant_leaf,
    is_commitment,
)
from contracts.ids import EventId
from contracts.merkle_tree import is_included

EVENT = EventId(UUID("00000000-0000-4000-8000-000000000001"))
SEED = hashlib.sha256(b"seed").digest()


def a_cohort(size: int) -> list[Entrant]:
    return [Entrant(ticket, commitment_of(b"secret %d" % ticket)) for ticket in range(1, size + 1)]


def test_a_draw_has_not_changed_since_it_was_published() -> None:
    root = cohort_tree(EVENT, a_cohort(5), [Demotion(2, "cadence")]).root
    assert root.hex() == "3745ee41293a1af0d7a580462466c26ab0c756a86d353c95f7f07f074a84b6ba"
    seed = draw_seed(server_secret=b"s" * 32, beacon_randomness=b"r" * 32, merkle_root=root)
    assert seed.hex() == "f813741ed399aea04fbe3e7e13d3483fa8305b85b7a98f0c90989e1b1caabcfa"
    assert drawn_order(seed, a_cohort(5), [2]) == [3, 4, 5, 1, 2]


def test_the_order_is_that_of_the_hmac_of_each_commitment() -> None:
    cohort = a_cohort(200)
    by_hand = sorted(cohort, key=lambda e: hmac.new(SEED, bytes.fromhex(e.commitment), hashlib.sha256).digest())
    assert drawn_order(SEED, cohort) == [entrant.ticket for entrant in by_hand]


def test_the_order_in_which_people_are_listed_does_not_matter() -> None:
    cohort = a_cohort(100)
    shuffled = random.Random(1).sample(cohort, len(cohort))
    assert drawn_order(SEED, shuffled) == drawn_order(SEED, cohort)
    assert cohort_tree(EVENT, shuffled).root == cohort_tree(EVENT, cohort).root


def test_everybody_is_drawn_once_and_numbered_from_one() -> None:
    numbers = drawn_tickets(drawn_order(SEED, a_cohort(100)))
    assert sorted(numbers) == sorted(numbers.values()) == list(range(1, 101))


def test_who_joined_early_is_not_drawn_early() -> None:
    numbers = drawn_tickets(drawn_order(SEED, a_cohort(5000)))
    covariance = sum((ticket - 2500.5) * (number - 2500.5) for ticket, number in numbers.items())
    correlation = covariance / sum((ticket - 2500.5) ** 2 for ticket in numbers)
    assert abs(correlation) < 0.06  # four standard deviations of a fair draw


def test_the_demoted_come_last_in_the_order_they_would_have_had() -> None:
    fair, demoted = drawn_order(SEED, a_cohort(50)), {3, 17, 40}
    order = drawn_order(SEED, a_cohort(50), demoted)
    assert order[-3:] == [ticket for ticket in fair if ticket in demoted]
    assert order[:-3] == [ticket for ticket in fair if ticket not in demoted]


def test_equal_commitments_are_ordered_by_ticket() -> None:
    assert drawn_order(SEED, [Entrant(2, "00" * 32), Entrant(1, "00" * 32)]) == [1, 2]


def test_any_change_of_any_part_changes_the_seed() -> None:
    parts = {"server_secret": b"s" * 32, "beacon_randomness": b"r" * 32, "merkle_root": b"m" * 32}
    seeds = {draw_seed(**parts), *(draw_seed(**{**parts, name: b"x" * 32}) for name in parts)}
    assert len(seeds) == 4


@pytest.mark.parametrize("part", ["server_secret", "beacon_randomness", "merkle_root"])
def test_a_part_of_another_length_makes_no_seed(part: str) -> None:
    parts = {"server_secret": b"s" * 32, "beacon_randomness": b"r" * 32, "merkle_root": b"m" * 32}
    with pytest.raises(ValueError, match="32 bytes"):
        draw_seed(**{**parts, part: b"x" * 31})


def test_whoever_is_in_the_cohort_can_show_it() -> None:
    cohort = a_cohort(100)
    tree = cohort_tree(EVENT, cohort, [Demotion(7, "cadence")])
    for entrant in cohort:
        proof = tree.inclusion_proof(entrant.ticket - 1)
        leaf = entrant_leaf(EVENT, entrant)
        assert is_included(leaf, index=entrant.ticket - 1, size=tree.size, proof=proof, root=tree.root)


def test_the_root_freezes_who_is_in_and_who_is_demoted() -> None:
    cohort = a_cohort(10)
    roots = {
        cohort_tree(EVENT, cohort).root,
        cohort_tree(EVENT, cohort[:-1]).root,
        cohort_tree(EVENT, [*cohort[:-1], Entrant(10, commitment_of(b"another"))]).root,
        cohort_tree(EVENT, cohort, [Demotion(3, "cadence")]).root,
        cohort_tree(EVENT, cohort, [Demotion(3, "density")]).root,
        cohort_tree(EventId(UUID(int=2)), cohort).root,
    }
    assert len(roots) == 6


@pytest.mark.parametrize("text", ["", "ab" * 31, "AB" * 32, "zz" * 32, "ab" * 33, "０" * 64])
def test_what_is_no_hash_is_no_commitment(text: str) -> None:
    assert not is_commitment(text)
    assert is_commitment("ab" * 32)


def test_a_hundred_thousand_are_drawn_within_a_second_of_one_core() -> None:
    cohort = a_cohort(100_000)
    begun_at = time.process_time()
    drawn_order(cohort_tree(EVENT, cohort).root, cohort)
    # 0.4 s on the machine this was written on; processor time, so that neighbours do not count.
    assert time.process_time() - begun_at < 1
