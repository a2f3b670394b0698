"""Do all processes come to the same shares, and does whoever comes or goes move only what must?"""

import itertools
from uuid import UUID

import pytest

from consumers.event_commands import sharing
from consumers.event_commands.sharing import Membership, rank_of
from contracts.settings import Settings

WORKERS = [UUID(int=number) for number in range(1, 6)]
QUEUES = [f"tk.cmd.e.{UUID(int=number)}" for number in range(100)]


def owners(*workers: UUID) -> dict[str, UUID]:
    """Who drains each queue."""
    return {queue: next(w for w in workers if rank_of(queue, w, workers) == 0) for queue in QUEUES}


def test_every_queue_has_one_first_one_second_and_so_on() -> None:
    for queue in QUEUES:
        assert sorted(rank_of(queue, worker, WORKERS) for worker in WORKERS) == [0, 1, 2, 3, 4]


def test_the_order_in_which_members_are_seen_does_not_matter() -> None:
    for members in itertools.permutations(WORKERS[:3]):
        assert owners(*members) == owners(*WORKERS[:3])


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (2, 3), (0, 4)], ids=str)
def test_two_share_fairly(pair: tuple[int, int]) -> None:
    shares = owners(*(WORKERS[number] for number in pair)).values()
    assert max(sum(owner == WORKERS[number] for owner in shares) for number in pair) <= 65


def test_shares_are_fair_for_nearly_every_pair() -> None:
    # Worker ids are random, so one pair in a thousand may be less lucky than 65 of 100; that is all there is to it.
    unlucky = 0
    for number in range(200):
        one, other = UUID(int=1000 + 2 * number), UUID(int=1001 + 2 * number)
        share = sum(rank_of(queue, one, (one, other)) == 0 for queue in QUEUES)
        unlucky += not 35 <= share <= 65
    assert unlucky <= 2


def test_whoever_joins_takes_from_others_and_moves_nothing_between_them() -> None:
    before, after = owners(*WORKERS[:3]), owners(*WORKERS[:4])
    moved = {queue for queue in QUEUES if before[queue] != after[queue]}
    assert moved
    assert {after[queue] for queue in moved} == {WORKERS[3]}


def test_what_somebody_leaves_goes_to_those_who_stood_by() -> None:
    leaver, rest = WORKERS[0], WORKERS[1:4]
    before, after = owners(*WORKERS[:4]), owners(*rest)
    for queue in QUEUES:
        if before[queue] == leaver:
            assert rank_of(queue, after[queue], WORKERS[:4]) == 1
        else:
            assert before[queue] == after[queue]


class Seen:
    """A membership that is told what its lease's renewal found, and when."""

    def __init__(self) -> None:
        self.membership = Membership(Settings(lease_seconds=6), None, role="test")
        self.me = self.membership.worker_id

    def sees(self, *others: UUID, at: float) -> set[UUID]:
        self.membership._see(dict.fromkeys((self.me, *others), 0.0), at)
        return set(self.membership.members) - {self.me}


def test_whoever_lets_his_lease_lapse_is_no_member() -> None:
    seen = Seen()
    assert seen.sees(WORKERS[0], at=0) == {WORKERS[0]}
    assert seen.sees(at=1) == set()


def test_after_a_pause_of_our_own_the_others_get_time_to_come_back() -> None:
    seen = Seen()
    assert seen.sees(WORKERS[0], WORKERS[1], at=0) == {WORKERS[0], WORKERS[1]}
    # PostgreSQL was away for everybody, and we are the first to renew.
    assert seen.sees(at=20) == {WORKERS[0], WORKERS[1]}
    assert seen.sees(WORKERS[1], at=21) == {WORKERS[0], WORKERS[1]}
    assert seen.sees(WORKERS[1], WORKERS[2], at=22) == {WORKERS[0], WORKERS[1], WORKERS[2]}
    seconds = 22.0
    while seconds < 27:
        seconds += 1
        remaining = seen.sees(WORKERS[1], WORKERS[2], at=seconds)
    assert remaining == {WORKERS[1], WORKERS[2]}, "who has not come back by then is gone"


def test_ranks_are_reckoned_anew_when_members_change(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, reckoned = Seen(), 0

    def counted(queue: str, worker_id: UUID, members: frozenset[UUID]) -> int:
        nonlocal reckoned
        reckoned += 1
        return rank_of(queue, worker_id, members)

    monkeypatch.setattr(sharing, "rank_of", counted)
    seen.sees(at=0)
    assert set(seen.membership.ranks_of(QUEUES).values()) == {0}
    seen.membership.ranks_of(QUEUES)
    assert reckoned == len(QUEUES), "once for each queue, not every second"
    seen.sees(WORKERS[0], at=1)
    assert set(seen.membership.ranks_of(QUEUES).values()) == {0, 1}
