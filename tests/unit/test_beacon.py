"""Is a beacon believed when it spoke, and not when somebody else did?"""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.beacon import BEACONS, Beacon, BeaconFault, BeaconRound, BeaconSource, DrandBeacon, OfflineBeacon

DRAND = DrandBeacon()

# What drand's quicknet said in round 657413.
ROUND = 657_413
ANSWER = {
    "round": ROUND,
    "randomness": "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587",
    "signature": "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
}
# The point at infinity is a valid encoding, and the signature of every message under no key.
INFINITY = "c0" + "00" * 47


def answered(**changes: object) -> BeaconRound | BeaconFault:
    return DRAND.read(json.dumps({**ANSWER, **changes}).encode(), round_number=ROUND)


def with_its_hash(signature: str) -> dict[str, str]:
    import hashlib

    return {"signature": signature, "randomness": hashlib.sha256(bytes.fromhex(signature)).hexdigest()}


def test_what_drand_signed_is_believed() -> None:
    said = answered()
    assert isinstance(said, BeaconRound) and said.source is BeaconSource.DRAND_QUICKNET
    assert DRAND.fault_of(said) is None


def test_to_check_a_beacon_leaves_the_process_as_careful_with_deep_json_as_it_was() -> None:
    checked = (
        "from tests.unit.test_beacon import *; test_what_drand_signed_is_believed(); print(sys.getrecursionlimit())"
    )
    done = subprocess.run([sys.executable, "-c", f"import sys; {checked}"], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1000


def test_randomness_that_is_not_the_hash_of_the_signature_is_refused() -> None:
    assert answered(randomness="ab" * 32) is BeaconFault.NOT_ITS_HASH


@pytest.mark.parametrize(
    "signature",
    [INFINITY, "ab" * 48, "", "b7" * 47, ANSWER["signature"][:-2] + "7c"],
    ids=["infinity", "noise", "none", "short", "bent"],
)
def test_a_signature_that_is_not_drands_is_refused_even_with_its_hash(signature: str) -> None:
    assert answered(**with_its_hash(signature)) is BeaconFault.FORGED


def test_another_rounds_signature_is_refused() -> None:
    said = answered()
    assert isinstance(said, BeaconRound)
    assert DRAND.fault_of(said.model_copy(update={"round": ROUND + 1})) is BeaconFault.FORGED
    assert DRAND.read(json.dumps(ANSWER).encode(), round_number=ROUND + 1) is BeaconFault.WRONG_ROUND


@pytest.mark.parametrize("answer", [b"", b"[]", b"null", b"<html>", b'{"round": 657413}', b'{"round": "x"}'])
def test_what_is_no_answer_is_said_to_be_none(answer: bytes) -> None:
    assert DRAND.read(answer, round_number=ROUND) is BeaconFault.UNREADABLE


def test_a_round_of_one_beacon_is_none_of_the_other() -> None:
    offline = OfflineBeacon().spoken(ROUND, b"r" * 32)
    assert DRAND.fault_of(offline) is BeaconFault.UNREADABLE
    assert OfflineBeacon().fault_of(offline) is None
    drands = answered()
    assert isinstance(drands, BeaconRound)
    assert OfflineBeacon().fault_of(drands) is BeaconFault.UNREADABLE


def test_the_offline_beacon_says_that_it_proves_nothing() -> None:
    assert {source: beacon.is_verifiable for source, beacon in BEACONS.items()} == {
        BeaconSource.OFFLINE: False,
        BeaconSource.DRAND_QUICKNET: True,
    }


@given(st.integers(1_692_803_367_000, 4_000_000_000_000), st.sampled_from(sorted(BEACONS.values(), key=str)))
def test_the_first_round_from_a_time_is_due_then_or_later_and_the_one_before_is_not(at_ms: int, beacon: Beacon) -> None:
    number = beacon.first_round_from(at_ms)
    assert beacon.due_ms(number) >= at_ms
    assert number == 1 or beacon.due_ms(number - 1) < at_ms


def test_before_the_genesis_the_first_round_is_the_first() -> None:
    assert DRAND.first_round_from(0) == 1


def test_a_relay_is_asked_for_one_round_of_one_chain() -> None:
    assert DRAND.url_of("https://api.drand.sh/", 7).endswith(f"sh/{DRAND.chain_hash}/public/7")
