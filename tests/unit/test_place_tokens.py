"""Is a token believed in its bearer's hands, now, and in no other case?"""

import base64
import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.draw import commitment_of
from contracts.ids import EventId, UserId
from contracts.place_tokens import (
    CLOCK_SKEW_MS,
    LENGTH_MAX,
    Bearer,
    PlaceToken,
    TokenFault,
    TokenKind,
    account_mark,
    is_possessed,
    place_token,
    read_token,
    session_mark,
    signed_token,
)
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_room import PlaceId

KEYS = SigningKeys.of(Settings())
NOW_MS = 1_800_000_000_000
SECRET = b"thirty-two bytes of possession.."
ME = Bearer(
    event_id=EventId(uuid4()),
    account=account_mark(KEYS, UserId(uuid4())),
    session=session_mark("my session"),
    now_ms=NOW_MS,
    epoch=3,
)


def given_to(bearer: Bearer = ME, kind: TokenKind = TokenKind.PLACE, keys: SigningKeys = KEYS, **changes: Any) -> str:
    token = place_token(
        kind=kind,
        bearer=bearer,
        place_id=PlaceId("p" * 22),
        ticket=17,
        commitment=commitment_of(SECRET),
        epoch=3,
        expires_at_ms=NOW_MS + 60_000,
    )
    return signed_token(keys, token.model_copy(update=changes))


def read(text: str, bearer: Bearer = ME, kind: TokenKind = TokenKind.PLACE) -> PlaceToken | TokenFault:
    return read_token(KEYS, text, kind=kind, bearer=bearer)


def test_a_token_says_what_was_put_into_it() -> None:
    token = read(given_to())
    assert isinstance(token, PlaceToken)
    assert (token.place_id, token.ticket, token.epoch) == ("p" * 22, 17, 3)
    assert token.expires_at_ms == NOW_MS + 60_000


def test_a_token_holds_neither_the_secret_nor_the_session_nor_the_account() -> None:
    user_id = UserId(uuid4())
    text = given_to(replace(ME, account=account_mark(KEYS, user_id)))
    payload = base64.urlsafe_b64decode(text.partition(".")[0] + "==")
    for hidden in (SECRET, b"my session", str(user_id).encode(), user_id.hex.encode()):
        assert hidden not in payload


@pytest.mark.parametrize(
    ("hands", "fault"),
    [
        (replace(ME, event_id=EventId(uuid4())), TokenFault.OTHER_EVENT),
        (replace(ME, account=account_mark(KEYS, UserId(uuid4()))), TokenFault.OTHER_ACCOUNT),
        (replace(ME, session=session_mark("another session")), TokenFault.OTHER_SESSION),
        (replace(ME, epoch=4), TokenFault.OTHER_EPOCH),
        (replace(ME, epoch=2), TokenFault.OTHER_EPOCH),
        (replace(ME, now_ms=NOW_MS + 60_000), TokenFault.EXPIRED),
        (replace(ME, now_ms=NOW_MS - CLOCK_SKEW_MS - 1), TokenFault.NOT_YET),
    ],
    ids=lambda case: case.value if isinstance(case, TokenFault) else "",
)
def test_in_other_hands_or_at_another_time_it_is_refused(hands: Bearer, fault: TokenFault) -> None:
    assert read(given_to(), hands) is fault


def test_it_is_good_until_the_last_moment_and_in_any_epoch_where_none_is_asked_for() -> None:
    assert isinstance(read(given_to(), replace(ME, now_ms=NOW_MS + 59_999)), PlaceToken)
    assert isinstance(read(given_to(), replace(ME, now_ms=NOW_MS - CLOCK_SKEW_MS)), PlaceToken)
    assert isinstance(read(given_to(), replace(ME, epoch=None)), PlaceToken)


def test_a_place_is_no_pass_and_a_pass_no_place() -> None:
    assert read(given_to(kind=TokenKind.PLACE), kind=TokenKind.PASS) is TokenFault.OTHER_KIND
    assert read(given_to(kind=TokenKind.PASS), kind=TokenKind.PLACE) is TokenFault.OTHER_KIND
    assert isinstance(read(given_to(kind=TokenKind.PASS), kind=TokenKind.PASS), PlaceToken)


def test_another_version_is_refused_as_such() -> None:
    assert read(given_to(version=2)) is TokenFault.OTHER_VERSION


def test_a_token_of_another_deployment_is_refused() -> None:
    strangers = SigningKeys.of(Settings(signing_key="another secret, of another deployment"))
    assert read(given_to(keys=strangers)) is TokenFault.UNKNOWN_KEY


def test_a_key_id_of_ours_on_somebody_elses_signature_is_forged() -> None:
    strangers = SigningKeys.of(Settings(signing_key="another secret, of another deployment"))
    payload, _, signature = given_to(keys=strangers).partition(".")
    assert read(f"{payload}.{KEYS.token_key.id}{signature[4:]}") is TokenFault.FORGED


def test_a_payload_of_ones_own_is_forged() -> None:
    payload, _, signature = given_to().partition(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=="))
    for name, value in (("n", 1), ("x", NOW_MS * 2), ("t", "pass")):
        mine = base64.urlsafe_b64encode(json.dumps({**said, name: value}).encode()).rstrip(b"=").decode()
        assert read(f"{mine}.{signature}") is TokenFault.FORGED


def test_a_token_signed_with_the_key_before_is_still_good_and_new_ones_use_the_new_key() -> None:
    changed = SigningKeys.of(
        Settings(signing_key="the new secret, thirty-two characters", signing_key_before=Settings().signing_key)
    )
    old = given_to()
    assert isinstance(read_token(changed, old, kind=TokenKind.PLACE, bearer=ME), PlaceToken)
    assert read(given_to(keys=changed)) is TokenFault.UNKNOWN_KEY


def test_marks_differ_from_account_to_account_and_from_session_to_session() -> None:
    one, other = UserId(uuid4()), UserId(uuid4())
    assert account_mark(KEYS, one) == account_mark(KEYS, one) != account_mark(KEYS, other)
    assert session_mark("one") == session_mark("one") != session_mark("other")


def test_only_who_knows_the_secret_possesses_it() -> None:
    token = read(given_to())
    assert isinstance(token, PlaceToken)
    assert is_possessed(token, SECRET)
    assert not is_possessed(token, SECRET[:-1])
    assert not is_possessed(token, commitment_of(SECRET).encode())


# ---- whatever is sent


@pytest.mark.parametrize(
    "text", ["", ".", "a.b", "ä" * 60 + "." + "a" * 47, "=" * 200, " " + given_to(), given_to() + "\n"]
)
def test_what_is_no_token_is_malformed(text: str) -> None:
    assert read(text) is TokenFault.MALFORMED


def test_a_token_of_any_length_is_refused_unread() -> None:
    assert read("a" * LENGTH_MAX + given_to()) is TokenFault.MALFORMED


@given(st.integers(min_value=0))
def test_a_token_cut_short_anywhere_is_refused(cut: int) -> None:
    text = given_to()
    assert isinstance(read(text[: cut % len(text)]), TokenFault)


@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_token_with_any_bit_flipped_is_refused(index: int, bit: int) -> None:
    raw = bytearray(given_to().encode())
    raw[index % len(raw)] ^= 1 << bit
    assert read(raw.decode("latin-1")) in (TokenFault.MALFORMED, TokenFault.UNKNOWN_KEY, TokenFault.FORGED)


@given(st.integers(min_value=0), st.sampled_from("ABCxyz019-_=+/."))
def test_a_token_with_any_character_changed_is_refused(index: int, character: str) -> None:
    text = given_to()
    place = index % len(text)
    changed = text[:place] + character + text[place + 1 :]
    assert changed == text or isinstance(read(changed), TokenFault)


@given(st.text(max_size=300))
def test_whatever_is_sent_is_answered(text: str) -> None:
    assert isinstance(read(text), TokenFault)
