"""Is the beacon asked until it has spoken, and only what it has really said believed?"""

import asyncio
import json

from consumers.waiting_rooms.beacon_voice import BeaconVoice
from contracts.beacon import BeaconSource, OfflineBeacon
from tests.tiny_server import Serve, a_server
from tests.unit.test_beacon import ANSWER, ROUND


def answering(*bodies: bytes, asked: list[str]) -> Serve:
    """A relay that gives these answers one after the other, the last one again and again; an empty one is a 404."""
    left = list(bodies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := (await reader.readuntil(b"\r\n\r\n")).decode():
            asked.append(request.split(" ")[1])
            body = left.pop(0) if len(left) > 1 else left[0]
            status = b"200 OK" if body else b"404 Not Found"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            await writer.drain()

    return serve


async def test_the_round_that_was_promised_is_asked_for_until_somebody_has_it() -> None:
    asked: list[str] = []
    async with a_server(answering(b"", b"", json.dumps(ANSWER).encode(), asked=asked)) as relay:
        voice = BeaconVoice([relay], ask_again_seconds=0.01)
        said = await voice.hear(BeaconSource.DRAND_QUICKNET, ROUND, now_ms=lambda: 2**45)
    assert (said.round, said.randomness) == (ROUND, ANSWER["randomness"])
    assert len(asked) == 3
    assert asked[0].endswith(f"/public/{ROUND}")


async def test_a_relay_that_lies_or_is_away_is_passed_over() -> None:
    lie = json.dumps({**ANSWER, "round": ROUND + 1}).encode()
    forged = json.dumps({**ANSWER, "randomness": "00" * 32}).encode()
    asked: list[str] = []
    async with (
        a_server(answering(lie, asked=asked)) as liar,
        a_server(answering(forged, asked=asked)) as forger,
        a_server(answering(b"<html>", asked=asked)) as stranger,
        a_server(answering(json.dumps(ANSWER).encode(), asked=asked)) as honest,
    ):
        relays = ["http://127.0.0.1:9", liar, forger, stranger, honest]
        said = await BeaconVoice(relays).hear(BeaconSource.DRAND_QUICKNET, ROUND, now_ms=lambda: 2**45)
    assert said.randomness == ANSWER["randomness"]
    assert len(asked) == 4


async def test_the_offline_beacon_waits_for_its_round_too() -> None:
    clock = [999_000]

    def now_ms() -> int:
        clock[0] += 400
        return clock[0]

    said = await BeaconVoice(()).hear(BeaconSource.OFFLINE, 1_000, now_ms=now_ms)
    assert clock[0] >= OfflineBeacon().due_ms(1_000)
    assert said.round == 1_000
    again = await BeaconVoice(()).hear(BeaconSource.OFFLINE, 1_000, now_ms=now_ms)
    assert again.randomness != said.randomness
