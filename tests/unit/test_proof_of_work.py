"""Does a challenge count for the one it was made for, when it was worked or waited for, and for nobody else?"""

import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import altcha
import pytest

from contracts.ids import EventId
from contracts.settings import Settings
from ingress.proof_of_work import GOOD_FOR_MS, Challenges, Spendable, unsolved
from ingress.responses import ProblemCode
from ingress.waiting_room_conduct import network_of

SETTINGS = Settings(challenge_tries_max=8, challenge_wait_seconds=60)
CHALLENGES = Challenges(SETTINGS)
EVENT, ANN, BEN = EventId(UUID(int=1)), "the mark of Ann", "the mark of Ben"
NOW_MS = 1_800_000_000_000
WAITED_MS = NOW_MS + 60_000


def a_challenge(*, risk: float = 1.0) -> dict[str, Any]:
    return CHALLENGES.make(EVENT, ANN, risk=risk, now_ms=NOW_MS)


def solved(challenge: Mapping[str, Any]) -> str:
    """As ALTCHA's own library solves it."""
    read = altcha.Challenge.from_dict(json.loads(json.dumps(challenge)))
    solution = altcha.solve_challenge(read)
    assert solution is not None
    return altcha.Payload(read, solution).to_base64()


def altered(payload: str, **parameters: Any) -> str:
    given = json.loads(base64.b64decode(payload))
    given["challenge"]["parameters"] |= parameters
    return base64.b64encode(json.dumps(given).encode()).decode()


def test_a_solved_challenge_counts() -> None:
    challenge = a_challenge()
    met = CHALLENGES.met(solved(challenge), EVENT, ANN, now_ms=NOW_MS + 1)
    assert isinstance(met, Spendable)
    assert met.nonce == challenge["parameters"]["nonce"]
    assert met.seconds >= GOOD_FOR_MS // 1000


def test_an_unsolved_one_counts_when_it_was_waited_for_and_not_before() -> None:
    payload = unsolved(a_challenge())
    assert isinstance(CHALLENGES.met(payload, EVENT, ANN, now_ms=WAITED_MS), Spendable)
    assert CHALLENGES.met(payload, EVENT, ANN, now_ms=WAITED_MS - 1) is ProblemCode.CHALLENGE_FAILED


@pytest.mark.parametrize("age_ms", [-1, GOOD_FOR_MS])
def test_it_is_not_good_for_ever_nor_before_it_was_made(age_ms: int) -> None:
    assert CHALLENGES.met(solved(a_challenge()), EVENT, ANN, now_ms=NOW_MS + age_ms) is ProblemCode.CHALLENGE_FAILED


def test_nobody_solves_it_for_somebody_else_or_for_another_event() -> None:
    payload = solved(a_challenge())
    assert CHALLENGES.met(payload, EVENT, BEN, now_ms=NOW_MS) is ProblemCode.CHALLENGE_FAILED
    assert CHALLENGES.met(payload, EventId(uuid4()), ANN, now_ms=NOW_MS) is ProblemCode.CHALLENGE_FAILED


@pytest.mark.parametrize(
    "change",
    [
        {"cost": 1},
        {"keyPrefix": "00"},
        {"data": {"event": str(EVENT), "account": BEN, "madeAtMs": NOW_MS}},
        {"data": {"event": str(EVENT), "account": ANN, "madeAtMs": NOW_MS - 60_000}},
    ],
    ids=str,
)
def test_what_was_altered_is_not_ours(change: dict[str, Any]) -> None:
    payload = altered(solved(a_challenge()), **change)
    assert CHALLENGES.met(payload, EVENT, BEN, now_ms=WAITED_MS) is ProblemCode.CHALLENGE_FAILED
    assert CHALLENGES.met(payload, EVENT, ANN, now_ms=WAITED_MS) is ProblemCode.CHALLENGE_FAILED


def test_a_challenge_of_another_deployment_is_not_ours() -> None:
    others = Challenges(SETTINGS.model_copy(update={"signing_key": "the key of some other deployment"}))
    payload = solved(others.make(EVENT, ANN, risk=1.0, now_ms=NOW_MS))
    assert CHALLENGES.met(payload, EVENT, ANN, now_ms=WAITED_MS) is ProblemCode.CHALLENGE_FAILED


@pytest.mark.parametrize(
    "payload",
    ["", "?", "AAAA", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"challenge":{}}').decode(), "A" * 5000],
)
def test_what_cannot_be_read_meets_nothing(payload: str) -> None:
    assert CHALLENGES.met(payload, EVENT, ANN, now_ms=WAITED_MS) is ProblemCode.CHALLENGE_FAILED


def test_a_guess_is_no_solution() -> None:
    challenge = altcha.Challenge.from_dict(a_challenge())
    guess = altcha.Payload(challenge, altcha.Solution(counter=1, derived_key="00" * 32)).to_base64()
    assert CHALLENGES.met(guess, EVENT, ANN, now_ms=NOW_MS) is ProblemCode.CHALLENGE_FAILED


def test_risk_makes_it_dearer() -> None:
    def tries(risk: float) -> int:
        solution = altcha.solve_challenge(altcha.Challenge.from_dict(a_challenge(risk=risk)))
        assert solution is not None
        return solution.counter

    assert all(4 <= tries(1.0) < 8 for _ in range(5))
    assert all(80 <= tries(20.0) < 160 for _ in range(5))


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:0:aa00::/56", "2001:db8:0:aa00::/56"), ("unknown", "unknown")],
)
def test_a_network_is_what_one_hand_can_have(address: str, network: str) -> None:
    assert network_of(address) == network
