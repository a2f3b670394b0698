"""A room's public log, entry by entry: what is well, and what is noticed."""

import hashlib

import pytest

from contracts.draw import Entrant, drawn_order
from contracts.waiting_room import LogEntry, LogKind, Phase
from contracts.waiting_room_log import FAULTS_MAX, check_log, read_through

SEED = b"\x5e" * 32


def commitment(ticket: int) -> str:
    return hashlib.sha256(str(ticket).encode()).hexdigest()


def log(*lines: str) -> list[LogEntry]:
    """Entries as in `J 1`, `A 1 2` (with a fence), `P open 2 why`."""
    return [entry(index, *line.split(" ")) for index, line in enumerate(lines)]


def entry(index: int, kind: str, *words: str) -> LogEntry:
    if kind == "P":
        return LogEntry(index=index, at_ms=index, kind=LogKind.PHASE, detail=" ".join(words))
    ticket, *detail = words
    secret = commitment(int(ticket)) if kind == "J" else ""
    return LogEntry(
        index=index, at_ms=index, kind=LogKind(kind), ticket=int(ticket), commitment=secret, detail=" ".join(detail)
    )


OPEN = ("P closed 2 made", "P open 2 now")


def test_a_life_in_a_room_is_well() -> None:
    lines = ("J 1", "J 2", "J 3", "A 1 1", "A 2 1", "C 1", "N 2 1", "F 1", "A 3 2", "R 2", "A 2 2", "L 3", "C 2", "X 2")
    room, faults = read_through(log(*OPEN, *lines))
    assert faults == []
    assert (room.waiting_count, room.ready_count, room.active_count) == (0, 0, 0)
    assert (room.phase, room.capacity, room.counts[LogKind.ADMITTED]) == (Phase.OPEN, 2, 4)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("J 1", "J 1"), "the ticket was given twice"),
        (("J 1", "J 3"), "and 2 was next"),
        (("J 1795359150878",), "and 1 was next"),
        (("A 1",), "nobody with this ticket joined"),
        (("J 1", "A 1", "A 1"), "it came after A"),
        (("J 1", "C 1"), "it came after J"),
        (("J 1", "A 1", "C 1", "F 1", "F 1"), "it came after F"),
        (("J 1", "G 1", "A 1"), "it came after G"),
        (("J 1", "J 2", "A 2", "A 1"), "ticket 2 was admitted before"),
        (("J 1", "J 2", "J 3", "A 1", "A 2", "A 3"), "3 ready and 0 active are more than 2"),
        (("J 1", "J 2", "J 3", "A 1", "C 1", "A 2", "A 3"), "2 ready and 1 active are more than 2"),
        (("J 1", "J 2", "A 1 2", "A 2 1"), "a leader of fence 1 admitted after one of fence 2"),
        (("J 1", "A 1", "N 1", "R 1", "A 1", "N 1", "R 1"), "a missed turn gives one return"),
        (("J 1", "P paused 2 hiccup", "A 1"), "admitted to a room that was paused"),
        (("P draining 2 the end", "J 1"), "joined a room that was draining"),
        (("P pre 2 again",), "cannot go from open to pre"),
        (("J 1", "D 1 rule"), "demoted after the cohort was frozen"),
        (("S 0 " + SEED.hex(),), "there was no draw to be sealed"),
    ],
)
def test_what_is_not_as_promised_is_said(lines: tuple[str, ...], fault: str) -> None:
    assert any(fault in one for one in check_log(log(*OPEN, *lines))), check_log(log(*OPEN, *lines))


def test_an_entry_that_is_missing_is_noticed() -> None:
    entries = log(*OPEN, "J 1", "J 2", "A 1")
    assert any("entry 3 was next" in fault for fault in check_log(entries[:3] + entries[4:]))
    assert any("entry 0 was next" in fault for fault in check_log(entries[1:]))


def a_draw(*after: str) -> list[LogEntry]:
    joins = tuple(f"J {ticket}" for ticket in range(1, 6))
    entries = log("P closed 9 made", "P pre 9 come", *joins, "D 2 rule", "L 4", "P sealing 9 now")
    frozen = entries[-1].model_copy(update={"ticket": 5})
    rest = log(*("P x 0 y",) * len(entries), "J 6", f"S 5 {SEED.hex()}", "P open 9 drawn", *after)
    return [*entries[:-1], frozen, *rest[len(entries) :]]


def drawn() -> list[int]:
    """The tickets of the door in the order of the draw."""
    return drawn_order(SEED, [Entrant(ticket, commitment(ticket)) for ticket in range(1, 6)], {2})


def test_after_a_draw_tickets_are_the_drawn_ones() -> None:
    left_at = drawn().index(4) + 1
    admitted = [f"A {ticket}" for ticket in range(1, 7) if ticket != left_at]
    assert drawn()[-1] == 2
    assert check_log(a_draw(*admitted)) == []


def test_whoever_left_before_the_draw_is_not_admitted_after_it() -> None:
    left_at = drawn().index(4) + 1
    assert any("it came after L" in fault for fault in check_log(a_draw(f"A {left_at}")))


def test_a_room_that_opens_without_its_draw_is_noticed() -> None:
    entries = [one for one in a_draw() if one.kind is not LogKind.SEALED]
    assert any("opened before its draw" in fault for fault in check_log(entries))


def test_a_new_epoch_begins_its_order_anew_and_an_old_one_does_not_come_back() -> None:
    entries = log(*OPEN, "J 1", "J 2", "A 2 9", "A 1 1")
    second = [one.model_copy(update={"epoch": 2}) if one.index >= 5 else one for one in entries]
    assert check_log(second) == []
    assert any("epoch 1 after epoch 2" in fault for fault in check_log([*second, second[3].model_copy()]))


def test_a_log_that_is_all_wrong_is_not_told_in_full() -> None:
    assert len(check_log(log(*OPEN, *("A 7",) * 1_000))) == FAULTS_MAX
