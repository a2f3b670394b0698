"""Does a fair sale verify from its files alone, and is every single change of them found and named?"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from contracts.beacon import BeaconRound, BeaconSource, DrandBeacon
from contracts.draw import Demotion, commitment_of
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_room import LogEntry, LogKind
from contracts.waiting_room_proof import RoomProof
from ops.waiting_room.command import app
from ops.waiting_room.evidence import Evidence, UnreadableProof, read_evidence, write_evidence
from ops.waiting_room.verify import examine, is_clean
from tests.sale_by_draw import EVENT, STARTS_AT_MS, a_fair_sale, receipt_of, renumbered, with_log

FAIR = a_fair_sale()

Tampering = Callable[[Evidence], Evidence]


def found(evidence: Evidence, folder: Path) -> dict[str, tuple[str, ...]]:
    """What is found wrong in the files of this evidence, by check; warnings aside."""
    write_evidence(folder, evidence)
    results = examine(read_evidence(folder))
    return {result.name: result.differences for result in results if result.differences and not result.is_warning}


def entry_of(evidence: Evidence, kind: LogKind, number: int = 0) -> LogEntry:
    return [entry for entry in evidence.log if entry.kind is kind][number]


def altered(evidence: Evidence, index: int, **changes: object) -> Evidence:
    entries = [e.model_copy(update=changes) if e.index == index else e for e in evidence.log]
    return replace(evidence, log=tuple(entries))


def without(evidence: Evidence, *indexes: int) -> Evidence:
    return with_log(evidence, [entry for entry in evidence.log if entry.index not in indexes])


def proven(evidence: Evidence, part: str, **changes: object) -> Evidence:
    """The proof with a part changed, and what others saved at the time lost."""
    changed = getattr(evidence.proof, part).model_copy(update=changes)
    proof = evidence.proof.model_copy(update={part: changed})
    return replace(evidence, proof=proof, announced=None, frozen_before=None)


# ---- what was fair


def test_a_fair_sale_verifies(tmp_path: Path) -> None:
    assert found(FAIR, tmp_path) == {}


@pytest.mark.parametrize("cohort_size", [20, 100])
def test_fair_sales_of_other_sizes_verify(cohort_size: int, tmp_path: Path) -> None:
    assert found(a_fair_sale(cohort_size=cohort_size, late_count=7), tmp_path) == {}


def test_the_files_say_what_was_written(tmp_path: Path) -> None:
    write_evidence(tmp_path, FAIR)
    assert read_evidence(tmp_path) == FAIR
    assert read_evidence(tmp_path / "proof.json") == FAIR


def test_a_zip_of_the_folder_will_do(tmp_path: Path) -> None:
    write_evidence(tmp_path / "files", FAIR)
    assert read_evidence(Path(shutil.make_archive(str(tmp_path / "flat"), "zip", tmp_path / "files"))) == FAIR
    nested = Path(shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path, "files"))
    assert zipfile.is_zipfile(nested) and read_evidence(nested) == FAIR


def test_it_is_said_that_the_offline_beacon_proves_nothing() -> None:
    [trust] = [result for result in examine(FAIR) if result.name == "trust"]
    assert trust.is_warning and any("offline" in difference for difference in trust.differences)
    assert is_clean(examine(FAIR))


def test_who_joined_first_was_not_admitted_first() -> None:
    admitted = [entry.ticket for entry in FAIR.log if entry.kind is LogKind.ADMITTED]
    doors = {drawn: door for door, drawn in FAIR.drawn.items()}
    assert [doors.get(ticket, ticket) for ticket in admitted] != sorted(admitted)


def test_the_demoted_were_admitted_behind_the_cohort_and_before_the_late() -> None:
    assert sorted(FAIR.drawn[ticket] for ticket in (4, 9)) == [39, 40]


# ---- what was changed

TWO_ADMITTED = [entry_of(FAIR, LogKind.ADMITTED, number) for number in (2, 3)]
A_JOIN = entry_of(FAIR, LogKind.JOINED, 16)
SEALED = entry_of(FAIR, LogKind.SEALED)


def swap_two_admissions(evidence: Evidence) -> Evidence:
    one, other = TWO_ADMITTED
    return altered(altered(evidence, one.index, ticket=other.ticket), other.index, ticket=one.ticket)


def let_somebody_skip_the_line(evidence: Evidence) -> Evidence:
    """Somebody in the middle is never admitted, and nobody says that they left."""
    victim = entry_of(evidence, LogKind.ADMITTED, 20).ticket
    door = next(door for door, drawn in evidence.drawn.items() if drawn == victim)
    kept = {LogKind.JOINED, LogKind.DEMOTED}
    after = [e.index for e in evidence.log if e.ticket == victim and e.kind not in kept and e.index > SEALED.index]
    assert door and after
    return without(evidence, *after)


def move_a_demoted_person(evidence: Evidence) -> Evidence:
    """Admitted first of all, though drawn last."""
    demoted = evidence.drawn[4]
    entries = list(evidence.log)
    theirs = next(entry for entry in entries if entry.kind is LogKind.ADMITTED and entry.ticket == demoted)
    entries.remove(theirs)
    entries.insert(TWO_ADMITTED[0].index, theirs)
    return with_log(evidence, entries)


def forgive_a_demotion_in_log_and_proof(evidence: Evidence) -> Evidence:
    lenient = without(evidence, entry_of(evidence, LogKind.DEMOTED).index)
    return proven(lenient, "frozen", demotions=(Demotion(9, "join cadence"),))


def demote_somebody_afterwards(evidence: Evidence) -> Evidence:
    entries = list(evidence.log)
    entries.insert(SEALED.index, SEALED.model_copy(update={"kind": LogKind.DEMOTED, "ticket": 17, "detail": "dislike"}))
    return with_log(evidence, entries)


def speak_again(evidence: Evidence) -> Evidence:
    revelation = evidence.proof.revelation
    assert revelation is not None
    return proven(evidence, "revelation", beacon=revelation.beacon.model_copy(update={"randomness": "ab" * 32}))


def use_another_round(evidence: Evidence) -> Evidence:
    revelation = evidence.proof.revelation
    assert revelation is not None
    later = revelation.beacon.model_copy(update={"round": revelation.beacon.round + 1})
    return proven(evidence, "revelation", beacon=later)


def announce_another_round(evidence: Evidence) -> Evidence:
    announcement = evidence.proof.announcement
    assert announcement is not None
    return proven(evidence, "announcement", beacon_round=announcement.beacon_round + 1)


def forge_a_round_of_drand(evidence: Evidence) -> Evidence:
    number = DrandBeacon().first_round_from(STARTS_AT_MS + 10_000)
    said = BeaconRound(
        source=BeaconSource.DRAND_QUICKNET, round=number, randomness=commitment_of(b"\x00" * 48), signature="00" * 48
    )
    announced = proven(evidence, "announcement", beacon_source=BeaconSource.DRAND_QUICKNET, beacon_round=number)
    return proven(announced, "revelation", beacon=said)


def take_somebody_out(evidence: Evidence) -> Evidence:
    """One J removed, the rest numbered anew: their receipt is in its holder's hands."""
    return without(evidence, A_JOIN.index)


def freeze_after_the_beacon(evidence: Evidence) -> Evidence:
    frozen_at = evidence.frozen_at
    assert frozen_at is not None
    return altered(evidence, frozen_at.index, at_ms=STARTS_AT_MS + 20_000)


TAMPERINGS: list[tuple[Tampering, set[str]]] = [
    (swap_two_admissions, {"admissions", "log"}),
    (let_somebody_skip_the_line, {"admissions"}),
    (take_somebody_out, {"cohort", "receipts", "log", "order"}),
    (lambda it: replace(it, log=tuple(e for e in it.log if e != A_JOIN)), {"cohort", "receipts", "log", "order"}),
    (lambda it: proven(it, "revelation", secret="ab" * 32), {"promise", "order", "admissions"}),
    (lambda it: proven(it, "announcement", secret_commitment="ab" * 32), {"promise"}),
    (lambda it: proven(it, "frozen", merkle_root="ab" * 32), {"cohort"}),
    (lambda it: proven(it, "frozen", cohort_size=39), {"cohort"}),
    (lambda it: altered(it, A_JOIN.index, commitment="ab" * 32), {"cohort", "receipts", "order"}),
    (lambda it: altered(it, SEALED.index, detail="ab" * 32), {"order"}),
    (move_a_demoted_person, {"admissions"}),
    (forgive_a_demotion_in_log_and_proof, {"cohort", "order"}),
    (lambda it: proven(it, "frozen", demotions=()), {"demotions"}),
    (demote_somebody_afterwards, {"log"}),
    (speak_again, {"order", "admissions"}),
    (use_another_round, {"beacon"}),
    (announce_another_round, {"beacon"}),
    (forge_a_round_of_drand, {"beacon"}),
    (freeze_after_the_beacon, {"beacon"}),
]


@pytest.mark.parametrize(("tamper", "checks"), TAMPERINGS)
def test_every_change_is_found_and_named(tamper: Tampering, checks: set[str], tmp_path: Path) -> None:
    differences = found(tamper(FAIR), tmp_path)
    assert checks <= set(differences), differences


def test_a_receipt_of_somebody_who_was_taken_out_names_them(tmp_path: Path) -> None:
    differences = found(take_somebody_out(FAIR), tmp_path)["receipts"]
    assert any(text.startswith(f"{A_JOIN.ticket:03}.json") and "taken out" in text for text in differences)


def test_a_swapped_admission_is_named_by_its_entry(tmp_path: Path) -> None:
    [first, *_] = found(swap_two_admissions(FAIR), tmp_path)["admissions"]
    one, other = TWO_ADMITTED
    assert first == (f"entry {one.index} admitted ticket {other.ticket}, when ticket {one.ticket} was first in line")


def test_a_receipt_that_nobody_signed_is_found(tmp_path: Path) -> None:
    stranger = SigningKeys.of(Settings(signing_key="another secret, of another deployment"))
    forged = receipt_of(A_JOIN).signed_with(stranger.receipt_key)
    assert set(found(replace(FAIR, receipts=(("forged.json", forged),)), tmp_path)) == {"receipts"}


def test_a_receipt_of_another_event_is_found(tmp_path: Path) -> None:
    foreign = receipt_of(A_JOIN).model_copy(update={"event_id": uuid4()})
    assert set(found(replace(FAIR, receipts=(("foreign.json", foreign),)), tmp_path)) == {"receipts"}


@pytest.mark.parametrize(("part", "check"), [("announcement", "promise"), ("frozen", "cohort")])
def test_a_proof_rewritten_as_a_whole_differs_from_what_was_saved_at_the_time(
    part: str, check: str, tmp_path: Path
) -> None:
    """The forger owns every file but the one that somebody else has kept."""
    kept = a_fair_sale(cohort_size=30)
    saved = {"announced": kept.proof.announcement} if part == "announcement" else {"frozen_before": kept.proof.frozen}
    assert kept.proof.announcement is not None
    other = kept.proof.announcement.model_copy(update={"secret_commitment": "ab" * 32})
    forged = replace(FAIR, **{**saved, **({"announced": other} if part == "announcement" else {})})
    assert set(found(forged, tmp_path)) == {check}


def test_a_draw_that_was_never_announced_is_found(tmp_path: Path) -> None:
    silent = RoomProof(event_id=EVENT, public_keys=FAIR.proof.public_keys)
    assert "promise" in found(replace(FAIR, proof=silent, announced=None, frozen_before=None), tmp_path)


def test_a_secret_that_is_never_revealed_is_found(tmp_path: Path) -> None:
    kept_secret = FAIR.proof.model_copy(update={"revelation": None})
    assert "promise" in found(replace(FAIR, proof=kept_secret), tmp_path)


def test_a_draw_is_not_revealed_before_it_is_frozen() -> None:
    proof = FAIR.proof.model_dump()
    with pytest.raises(ValidationError, match="announced, then frozen, then revealed"):
        RoomProof.model_validate({**proof, "frozen": None})


def test_a_room_without_a_draw_verifies_by_its_log(tmp_path: Path) -> None:
    entries = [
        LogEntry(index=0, at_ms=0, kind=LogKind.PHASE, detail="open 10 at once"),
        *(LogEntry(index=n, at_ms=n, kind=LogKind.JOINED, ticket=n, commitment="ab" * 32) for n in (1, 2, 3)),
        *(LogEntry(index=3 + n, at_ms=9, kind=LogKind.ADMITTED, ticket=n, detail="1") for n in (1, 2, 3)),
    ]
    queue = Evidence(RoomProof(event_id=EVENT), tuple(entries))
    assert found(queue, tmp_path / "fair") == {}
    jumped = [entry for entry in entries if entry.index not in (4, 5)]
    assert set(found(replace(queue, log=renumbered(jumped)), tmp_path / "jumped")) == {"admissions"}


# ---- the command


def run(where: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", str(where)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_command_says_that_everything_agrees(tmp_path: Path) -> None:
    write_evidence(tmp_path, FAIR)
    code, output = run(tmp_path)
    assert code == 0 and "no differences" in output and "A fair sale" in output


def test_the_command_fails_and_says_what_differs(tmp_path: Path) -> None:
    write_evidence(tmp_path, swap_two_admissions(FAIR))
    code, output = run(tmp_path)
    assert code == 1 and "was first in line" in output


@pytest.mark.parametrize("damage", ["proof.json", "log.jsonl", "receipts/001.json", "frozen.json"])
def test_what_cannot_be_read_is_no_proof(damage: str, tmp_path: Path) -> None:
    write_evidence(tmp_path, FAIR)
    (tmp_path / damage).write_text('{"what": "is this"}\n')
    with pytest.raises(UnreadableProof, match=Path(damage).name):
        read_evidence(tmp_path)
    assert run(tmp_path)[0] == 2


def test_where_there_is_nothing_nothing_is_checked(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere")[0] == 2
    assert run(tmp_path)[0] == 2


def test_nothing_that_needs_our_servers_is_loaded(tmp_path: Path) -> None:
    """A machine of a stranger has no database client's settings, and needs none."""
    write_evidence(tmp_path, FAIR)
    program = (
        "import sys; from pathlib import Path; from ops.waiting_room.verify import examine, read_evidence, is_clean;"
        f"assert is_clean(examine(read_evidence(Path({str(tmp_path)!r}))));"
        "print(sorted(set(sys.modules) & {'asyncpg', 'redis', 'aio_pika', 'sanic', 'db.postgres', 'db.redis'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
