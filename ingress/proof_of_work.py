"""Has this program paid for its place with a little work, or with a little patience?

ALTCHA's protocol (https://altcha.org/docs/v2/, PBKDF2), so that its widget and its libraries solve our challenges. What is
signed in a challenge binds it to one event and one account, and says when it was made, by Redis's clock. The way without
work, for whoever cannot or will not let their device reckon: wait, and send the same challenge back unsolved. Work is cheap
for one and dear for a thousand accounts; waiting is free for both, but then a thousand accounts must come early and stay.
"""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import altcha

from contracts.ids import EventId
from contracts.settings import Settings
from ingress.responses import ProblemCode

# One try, a PBKDF2 of so many rounds, takes a device about half a millisecond; the server does one for each challenge.
ROUNDS: Final = 1_000
ALGORITHM: Final = "PBKDF2/SHA-256"
# Solved at leisure, and not stored up for next week.
GOOD_FOR_MS: Final = 1_800_000
PAYLOAD_LENGTH_MAX: Final = 4_096

_SIGNING, _SOLVING = b"boxoffice challenges, hmac-sha256, 1", b"boxoffice challenge keys, hmac-sha256, 1"


@dataclass(frozen=True, slots=True)
class Spendable:
    """A challenge that was met, to be counted once: its nonce, and for how long it would still be good."""

    nonce: str
    seconds: int


class Challenges:
    """Makes challenges, and says whether they were met."""

    def __init__(self, settings: Settings) -> None:
        self._tries = settings.challenge_tries_max
        self._wait_ms = int(1000 * settings.challenge_wait_seconds)
        secret = settings.signing_key.encode()
        self._signing = hmac.digest(secret, _SIGNING, "sha256")
        self._solving = hmac.digest(secret, _SOLVING, "sha256")

    def make(self, event_id: EventId, account: str, *, risk: float, now_ms: int) -> dict[str, Any]:
        """A challenge that costs `risk` times what the usual one does; 0.3 ms."""
        most = max(2, round(self._tries * risk))
        challenge = altcha.create_challenge(
            ALGORITHM,
            ROUNDS,
            # Somewhere in the upper half: what it costs is known beforehand, and nobody can leave it to luck.
            counter=most // 2 + secrets.randbelow(most - most // 2),
            data={"event": str(event_id), "account": account, "madeAtMs": now_ms},
            hmac_secret=self._signing,
            hmac_key_secret=self._solving,
        )
        return challenge.to_dict()

    def met(self, payload: str, event_id: EventId, account: str, *, now_ms: int) -> Spendable | ProblemCode:
        """Was this challenge ours, this asker's, and solved or waited out? About 60 µs."""
        read = _read(payload)
        if read is None:
            return ProblemCode.CHALLENGE_FAILED
        challenge, solution = read
        if not self._is_ours(challenge):
            return ProblemCode.CHALLENGE_FAILED
        data = challenge.parameters.data or {}
        is_theirs = data.get("event") == str(event_id) and hmac.compare_digest(str(data.get("account")), account)
        age_ms = now_ms - int(data.get("madeAtMs", 0))
        if not is_theirs or not 0 <= age_ms < GOOD_FOR_MS:
            return ProblemCode.CHALLENGE_FAILED
        if not self._is_paid(challenge, solution, age_ms):
            return ProblemCode.CHALLENGE_FAILED
        return Spendable(challenge.parameters.nonce, seconds=(GOOD_FOR_MS - age_ms) // 1000 + 1)

    def _is_ours(self, challenge: altcha.Challenge) -> bool:
        """A solution of nothing: its signature is looked at first, and nothing but that can be right about it."""
        nothing = altcha.Payload(challenge, altcha.Solution(counter=0, derived_key=""))
        said = altcha.verify_solution(nothing, self._signing, hmac_key_secret=self._solving)
        return said.invalid_signature is False

    def _is_paid(self, challenge: altcha.Challenge, solution: altcha.Solution | None, age_ms: int) -> bool:
        if age_ms >= self._wait_ms:
            return True
        if solution is None:
            return False
        payload = altcha.Payload(challenge, solution)
        return altcha.verify_solution(payload, self._signing, hmac_key_secret=self._solving).verified


def unsolved(challenge: Mapping[str, Any]) -> str:
    """What to send of a challenge that was waited out."""
    return base64.b64encode(json.dumps({"challenge": challenge}).encode()).decode()


def _read(payload: str) -> tuple[altcha.Challenge, altcha.Solution | None] | None:
    """The challenge that was sent back, and its solution if there is one; None when it cannot be read."""
    if len(payload) > PAYLOAD_LENGTH_MAX:
        return None
    try:
        given = json.loads(base64.b64decode(payload, validate=True))
        challenge = altcha.Challenge.from_dict(given["challenge"])
        solution = given.get("solution")
        return challenge, None if solution is None else altcha.Solution.from_dict(solution)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
