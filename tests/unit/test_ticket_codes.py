"""Is a code believed if it is ours, as it is, and in no other case?"""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import EventId, TicketId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import (
    STEP_SECONDS,
    CodeRead,
    code_hash,
    is_made_with,
    read_code,
    static_codes,
    step_of,
    ticket_code,
    ticket_secrets,
    unverified_code,
)

OLD, NEW = "the key of last year, 32 characters", "the key of this year, 32 characters"
KEYS = SigningKeys.of(Settings(signing_key=NEW))
KEYS_BEFORE = SigningKeys.of(Settings(signing_key=OLD))
KEYS_CHANGED = SigningKeys.of(Settings(signing_key=NEW, signing_key_before=OLD))

EVENT, TICKET = EventId(uuid4()), TicketId(uuid4())
NOW = datetime(2027, 5, 14, 19, 30, tzinfo=UTC)
MOMENTS = [None, NOW]

versions = st.integers(0, 0xFFFF)
times = st.none() | st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def a_code(keys: SigningKeys = KEYS, *, version: int = 3, at: datetime | None = None) -> str:
    return ticket_code(keys, event_id=EVENT, ticket_id=TICKET, version=version, at=at)


@given(event=st.uuids(), ticket=st.uuids(), version=versions, at=times)
def test_what_is_written_is_read(event: EventId, ticket: TicketId, version: int, at: datetime | None) -> None:
    code = ticket_code(KEYS, event_id=event, ticket_id=ticket, version=version, at=at)
    assert read_code(KEYS, code) == CodeRead(event, ticket, version, None if at is None else step_of(at))


@pytest.mark.parametrize(("at", "length"), [(None, 80), (NOW, 88)])
def test_it_fits_into_a_qr_code_of_version_4(at: datetime | None, length: int) -> None:
    code = a_code(at=at)
    assert re.fullmatch("[A-Z2-7]+", code), "the alphanumeric mode of QR codes, and of URLs"
    assert len(code) == length <= 90, "what version 4 at level M holds"


@given(bit=st.integers(0, 50 * 8 - 1), version=versions)
def test_any_bit_makes_a_static_code_no_code_of_ours(bit: int, version: int) -> None:
    assert read_code(KEYS, with_flipped(a_code(version=version), bit)) is None


@given(bit=st.integers(0, 55 * 8 - 1), at=times.filter(bool))
def test_any_bit_makes_a_rotating_code_no_code_of_ours(bit: int, at: datetime) -> None:
    assert read_code(KEYS, with_flipped(a_code(at=at), bit)) is None


def with_flipped(code: str, bit: int) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    place, within = divmod(bit, 5)
    other = alphabet[alphabet.index(code[place]) ^ (1 << within)]
    return code[:place] + other + code[place + 1 :]


@given(st.text() | st.from_regex(r"[A-Z2-7]{80}|[A-Z2-7]{88}", fullmatch=True))
def test_what_nobody_signed_is_no_code(text: str) -> None:
    assert read_code(KEYS, text) is None


@pytest.mark.parametrize("at", MOMENTS)
def test_there_is_one_way_to_write_a_code(at: datetime | None) -> None:
    code = a_code(at=at)
    for other in (code.lower(), code + "=", code + "\n", " " + code, code[:-1], code + "A", code.replace("A", "Ａ")):
        assert other == code or read_code(KEYS, other) is None, other


@pytest.mark.parametrize("at", MOMENTS)
def test_the_key_before_stays_good_and_no_other_does(at: datetime | None) -> None:
    assert read_code(KEYS_CHANGED, a_code(KEYS_BEFORE, at=at)) is not None
    assert read_code(KEYS_CHANGED, a_code(KEYS, at=at)) is not None
    assert a_code(KEYS_CHANGED, at=at) == a_code(KEYS, at=at), "what is new is signed with the new key"
    assert read_code(KEYS, a_code(KEYS_BEFORE, at=at)) is None


def test_the_keys_of_other_uses_sign_no_tickets() -> None:
    others = [KEYS.token_key.secret, KEYS.account_key, KEYS.receipt_key.private_bytes_raw()]
    assert not set(KEYS.ticket_keys) & set(others)


@pytest.mark.parametrize(
    ("seconds", "is_good"), [(-30, False), (-16, False), (-15, True), (0, True), (14, True), (29, True), (30, False)]
)
def test_a_rotating_code_is_good_for_its_step_and_the_two_beside_it(seconds: int, is_good: bool) -> None:
    shown = datetime.fromtimestamp(step_of(NOW) * STEP_SECONDS, UTC)
    read = read_code(KEYS, a_code(at=shown))
    assert read is not None
    assert read.is_of_now(shown + timedelta(seconds=seconds)) is is_good


def test_a_static_code_is_good_at_any_time() -> None:
    read = read_code(KEYS, a_code())
    assert read is not None
    assert read.is_of_now(NOW)
    assert not read.is_rotating


def test_a_step_has_another_code() -> None:
    codes = {a_code(at=NOW + timedelta(seconds=STEP_SECONDS * step)) for step in range(20)}
    assert len(codes) == 20
    assert a_code(at=NOW) == a_code(at=NOW + timedelta(seconds=STEP_SECONDS - 1))


@given(version=versions, at=times.filter(bool))
def test_the_secret_of_a_ticket_tells_its_codes_and_no_others(version: int, at: datetime) -> None:
    secret = ticket_secrets(KEYS, event_id=EVENT, ticket_id=TICKET, version=version)[0]
    assert is_made_with(secret, a_code(version=version, at=at))
    assert not is_made_with(secret, a_code(version=(version + 1) % 0x10000, at=at))
    assert not is_made_with(secret, a_code(version=version)), "a static code is not made with it"


def test_the_secret_of_a_ticket_makes_no_static_code() -> None:
    # Whoever steals a list of an event with changing codes must not be able to print one that lasts.
    body = a_code()
    for secret in ticket_secrets(KEYS, event_id=EVENT, ticket_id=TICKET, version=3):
        of_secret = SigningKeys(**{**vars(KEYS), "ticket_keys": (secret,)})
        assert a_code(of_secret) != body
        assert read_code(KEYS, a_code(of_secret)) is None


def test_a_hash_is_of_one_code() -> None:
    codes = [*static_codes(KEYS_CHANGED, event_id=EVENT, ticket_id=TICKET, version=0), a_code(), a_code(version=4)]
    assert len({code_hash(code) for code in codes}) == len(codes)


def test_an_unverified_code_says_what_it_claims() -> None:
    forged = with_flipped(a_code(), 399)
    assert unverified_code(forged) == CodeRead(EVENT, TICKET, 3, None)
    assert unverified_code("A" * 80) is None, "of another format"
    assert unverified_code(a_code(at=NOW)[:80]) is None, "a rotating code cut to the other's length"


@pytest.mark.parametrize("version", [-1, 0x10000])
def test_a_version_beyond_two_bytes_has_no_code(version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        a_code(version=version)
