"""Is a door's list ours and whole, or no list; and what does it say of a code?"""

import contextlib
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import door_list
from contracts.check_ins import CheckInResult
from contracts.door_list import ListBroken, ListedTicket, ListHead, ListWriter, read_door_list
from contracts.ids import EventId, TicketId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import code_hash, static_codes, ticket_code, ticket_secrets
from ops.door.device import Device

Result = CheckInResult

KEYS = SigningKeys.of(Settings())
STRANGER = SigningKeys.of(Settings(signing_key="somebody else's key, of 32 characters"))
CHANGED = SigningKeys.of(
    Settings(signing_key="a new key, which has 32 characters", signing_key_before=Settings().signing_key)
)
TRUSTED = KEYS.public_keys
EVENT = EventId(uuid4())
NOW = datetime(2027, 5, 14, 19, 30, tzinfo=UTC)
TICKETS = [TicketId(uuid4()) for _ in range(4)]


def code_of(ticket: TicketId, version: int = 0, at: datetime | None = None, keys: SigningKeys = KEYS) -> str:
    return ticket_code(keys, event_id=EVENT, ticket_id=ticket, version=version, at=at)


def listed(ticket: TicketId, *, keys: SigningKeys = KEYS, rotating: bool = False, **fields: Any) -> ListedTicket:
    named = {"event_id": EVENT, "ticket_id": ticket, "version": fields.get("version", 0)}
    if rotating:
        marks = tuple(secret.hex() for secret in ticket_secrets(keys, **named))
    else:
        marks = tuple(code_hash(code) for code in static_codes(keys, **named))
    known = {"version": 0, "status": Result.VALID, "section": "Stalls", "row": "A", "seat_number": "1", "tier": ""}
    return ListedTicket(**{"id": ticket, "marks": marks, **known, **fields})


def packed(tickets: Sequence[ListedTicket] = (), *, keys: SigningKeys = KEYS, **head: Any) -> bytes:
    fields = {"event_name": "A test", "version": "1", "is_cancelled": False, "rotating_codes": False}
    writer = ListWriter(
        ListHead(event_id=EVENT, public_key=keys.public_keys[0], **{**fields, **head}), keys.receipt_key
    )
    for ticket in tickets:
        writer.add([ticket])
    return writer.finish()


SOME = packed([listed(ticket) for ticket in TICKETS])


# ---- is it ours?


def test_whoever_has_the_public_key_alone_reads_it() -> None:
    read = read_door_list(SOME, TRUSTED)
    assert list(read.tickets) == TICKETS
    assert read.head.event_id == EVENT


@given(place=st.integers(0, len(gzip.decompress(SOME)) - 1), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_a_changed_byte_makes_it_no_list(place: int, bit: int) -> None:
    raw = bytearray(gzip.decompress(SOME))
    raw[place] ^= 1 << bit
    with pytest.raises(ListBroken):
        read_door_list(gzip.compress(bytes(raw), 1), TRUSTED)


@given(place=st.integers(0, len(SOME) - 1), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_what_can_be_read_of_a_changed_file_is_the_same_list(place: int, bit: int) -> None:
    # Some bits of gzip's own header say nothing about what is in it.
    changed = bytearray(SOME)
    changed[place] ^= 1 << bit
    with contextlib.suppress(ListBroken):
        assert read_door_list(bytes(changed), TRUSTED) == read_door_list(SOME, TRUSTED)


def test_a_part_of_it_is_no_list() -> None:
    for kept in range(len(SOME)):
        with pytest.raises(ListBroken):
            read_door_list(SOME[:kept], TRUSTED)


def test_lines_that_are_missing_are_missed() -> None:
    lines = gzip.decompress(SOME).splitlines(keepends=True)
    for left_out in range(len(lines)):
        with pytest.raises(ListBroken):
            read_door_list(gzip.compress(b"".join(lines[:left_out] + lines[left_out + 1 :])), TRUSTED)


def test_another_key_signs_no_list_of_ours() -> None:
    with pytest.raises(ListBroken, match="trust"):
        read_door_list(packed(keys=STRANGER), TRUSTED)


def test_the_signature_of_another_event_or_version_does_not_fit() -> None:
    other = gzip.decompress(packed(version="2")).splitlines(keepends=True)
    ours = gzip.decompress(packed(version="1")).splitlines(keepends=True)
    with pytest.raises(ListBroken):
        read_door_list(gzip.compress(ours[0] + other[-1]), TRUSTED)


def test_a_list_that_would_fill_the_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_list, "UNPACKED_BYTES_MAX", 1000)
    with pytest.raises(ListBroken):
        read_door_list(gzip.compress(b"0" * 1_000_000), TRUSTED)


def test_the_same_list_is_the_same_bytes() -> None:
    assert packed([listed(ticket) for ticket in TICKETS]) == SOME


# ---- what does it say?


def judged(code: str, *tickets: ListedTicket, now: datetime = NOW, **head: Any) -> CheckInResult:
    return read_door_list(packed(tickets, **head), TRUSTED).judge(code, now).result


def test_a_code_is_known_by_its_hash_and_nothing_in_the_list_makes_it() -> None:
    code = code_of(TICKETS[0])
    assert judged(code, listed(TICKETS[0])) is Result.VALID
    assert code.encode() not in gzip.decompress(SOME)
    forged = code[:-1] + ("A" if code[-1] != "A" else "B")
    assert judged(forged, listed(TICKETS[0])) is Result.FORGED
    assert judged("hello", listed(TICKETS[0])) is Result.FORGED
    assert judged(code_of(TICKETS[0], keys=STRANGER), listed(TICKETS[0])) is Result.FORGED


def test_what_is_not_in_the_list_may_be_younger_than_it() -> None:
    unknown = read_door_list(packed([listed(TICKETS[0])]), TRUSTED).judge(code_of(TICKETS[1]), NOW)
    assert (unknown.result, unknown.is_listed) == (Result.FORGED, False)


@pytest.mark.parametrize(
    "status", [Result.REFUNDED, Result.RESOLD, Result.CANCELLED, Result.ON_RESALE, Result.ALREADY_USED]
)
def test_a_ticket_says_what_it_was_when_the_list_was_made(status: CheckInResult) -> None:
    assert judged(code_of(TICKETS[0]), listed(TICKETS[0], status=status)) is status


def test_a_version_of_before_and_an_event_of_elsewhere() -> None:
    assert judged(code_of(TICKETS[0]), listed(TICKETS[0], version=1)) is Result.TRANSFERRED
    assert judged(code_of(TICKETS[0], 1), listed(TICKETS[0])) is Result.FORGED, "younger than the list"
    elsewhere = ticket_code(KEYS, event_id=EventId(uuid4()), ticket_id=TICKETS[0], version=0)
    assert judged(elsewhere, listed(TICKETS[0])) is Result.WRONG_EVENT
    assert judged(code_of(TICKETS[0]), listed(TICKETS[0]), is_cancelled=True) is Result.CANCELLED


def test_codes_that_change_are_made_with_the_secret_in_the_list() -> None:
    ticket = listed(TICKETS[0], rotating=True)
    code = code_of(TICKETS[0], at=NOW)
    assert judged(code, ticket, rotating_codes=True) is Result.VALID
    assert judged(code, ticket, rotating_codes=True, now=NOW + timedelta(minutes=1)) is Result.OUTDATED
    assert judged(code_of(TICKETS[0]), ticket, rotating_codes=True) is Result.OUTDATED, "a print"
    assert judged(code_of(TICKETS[1], at=NOW), ticket, rotating_codes=True) is Result.FORGED
    other = code_of(TICKETS[0], at=NOW, keys=STRANGER)
    assert judged(other, ticket, rotating_codes=True) is Result.FORGED


@pytest.mark.parametrize("rotating", [False, True])
def test_while_keys_change_both_are_good(rotating: bool) -> None:
    ticket = listed(TICKETS[0], keys=CHANGED, rotating=rotating)
    at = NOW if rotating else None
    found = read_door_list(packed([ticket], keys=CHANGED, rotating_codes=rotating), CHANGED.public_keys)
    for keys in (KEYS, CHANGED):
        assert found.judge(code_of(TICKETS[0], at=at, keys=keys), NOW).result is Result.VALID


# ---- the device


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path / "list")
    device.take(SOME)
    return device


def test_a_device_lets_a_ticket_in_once_also_after_it_was_switched_off(device: Device) -> None:
    code = code_of(TICKETS[0])
    first = device.scan(device.read_list(), code, gate="North", now=NOW)
    assert (first.result, first.admit) == (Result.VALID, True)
    again = Device(device.file)
    second = again.scan(again.read_list(), code, gate="South", now=NOW + timedelta(minutes=1))
    assert (second.result, second.admit) == (Result.ALREADY_USED, False)
    assert second.first is not None
    assert second.first.gate == "North"
    assert again.scan(again.read_list(), code_of(TICKETS[1]), gate="South", now=NOW).admit
    assert [(scan.gate, scan.admitted) for scan in again.to_upload()] == [
        ("North", True),
        ("South", True),
        ("South", False),
    ], "the oldest first"


def test_half_a_line_in_the_log_costs_no_other_line(device: Device) -> None:
    device.scan(device.read_list(), code_of(TICKETS[0]), gate="North")
    with device.scans_file.open("a") as log:
        log.write('{"nonce": "0e9b')
    assert device.scan(device.read_list(), code_of(TICKETS[1]), gate="North").admit
    assert not device.scan(device.read_list(), code_of(TICKETS[0]), gate="North").admit
    assert len(device.to_upload()) == 3


def test_a_device_trusts_the_key_it_began_with(device: Device) -> None:
    with pytest.raises(ListBroken, match="trust"):
        device.take(packed(keys=STRANGER))
    assert len(device.read_list().tickets) == len(TICKETS), "the list of before is still there"
    with pytest.raises(ListBroken, match="trust"):
        Device(device.file.with_name("another")).take(SOME, key=STRANGER.public_keys[0])
    device.take(packed(keys=STRANGER), key=STRANGER.public_keys[0])
    assert device.read_list().tickets == {}


def test_a_device_looks_at_its_list_each_time(device: Device) -> None:
    raw = gzip.decompress(SOME).replace(b'"already_used"', b'"valid"').replace(b"Stalls", b"Circle")
    device.file.write_bytes(gzip.compress(raw))
    with pytest.raises(ListBroken):
        device.read_list()
