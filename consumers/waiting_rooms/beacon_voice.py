"""What did the beacon say in the round that a draw was promised to use?

Asked of relays, one after the other, until one has the round: there is no draw without it, and no other round will do. A relay
that lies is passed over, because what it says is checked. The offline beacon is our own dice.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

import aiohttp

from contracts.beacon import RANDOMNESS_BYTES, BeaconFault, BeaconRound, BeaconSource, DrandBeacon, OfflineBeacon

log = logging.getLogger(__name__)

RELAY_TIMEOUT_SECONDS = 3.0
ASK_AGAIN_SECONDS = 1.0
# An answer has some 400 bytes.
ANSWER_BYTES_MAX = 4096

# What may go wrong with a relay and leaves the others to be asked.
_RELAY_AWAY: tuple[type[BaseException], ...] = (aiohttp.ClientError, TimeoutError, OSError)


class BeaconVoice:
    """Asks the beacons."""

    def __init__(
        self, relays: Sequence[str], *, ask_again_seconds: float = ASK_AGAIN_SECONDS, drand: DrandBeacon | None = None
    ) -> None:
        self._relays = relays
        self._ask_again_seconds = ask_again_seconds
        self._drand = drand or DrandBeacon()

    async def hear(self, source: BeaconSource, round_number: int, *, now_ms: Callable[[], int]) -> BeaconRound:
        """What it said in that round; waits until it is due by that clock, and then until somebody knows it."""
        if source is BeaconSource.OFFLINE:
            offline = OfflineBeacon()
            await _until(offline.due_ms(round_number), now_ms)
            return offline.spoken(round_number, secrets.token_bytes(RANDOMNESS_BYTES))
        await _until(self._drand.due_ms(round_number), now_ms)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=RELAY_TIMEOUT_SECONDS)) as http:
            return await self._ask_until_known(http, round_number)

    async def _ask_until_known(self, http: aiohttp.ClientSession, round_number: int) -> BeaconRound:
        while True:
            for relay in self._relays:
                said = await self._ask(http, relay, round_number)
                if said is not None:
                    return said
            await asyncio.sleep(self._ask_again_seconds)

    async def _ask(self, http: aiohttp.ClientSession, relay: str, round_number: int) -> BeaconRound | None:
        told = {"relay": relay, "beacon_round": round_number}
        try:
            async with http.get(self._drand.url_of(relay, round_number)) as response:
                if response.status != 200:
                    log.warning("beacon_relay_has_no_answer", extra={**told, "status": response.status})
                    return None
                answer = await response.content.read(ANSWER_BYTES_MAX)
        except _RELAY_AWAY as problem:
            log.warning("beacon_relay_away", extra={**told, "reason": repr(problem)})
            return None
        # A quarter of a second of arithmetic: people wait to be let in meanwhile.
        said = await asyncio.to_thread(self._drand.read, answer, round_number=round_number)
        if isinstance(said, BeaconFault):
            log.error("beacon_relay_not_believed", extra={**told, "reason": said.value})
            return None
        return said


async def _until(due_ms: int, now_ms: Callable[[], int]) -> None:
    while True:
        left_ms = due_ms - now_ms()
        if left_ms <= 0:
            return
        # In steps, because the clock that counts is another machine's.
        await asyncio.sleep(min(left_ms, 1000) / 1000)
