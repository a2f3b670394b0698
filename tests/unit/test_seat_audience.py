"""What do those who watch hear, and is it enough to know the seats by?"""

import asyncio
from dataclasses import dataclass, field

import pytest

from ingress import seat_audience
from ingress.seat_audience import Audience, News
from tests.eventually import eventually

A, H, S = b"ahs"


@dataclass(eq=False)
class Somebody:
    """A listener who remembers."""

    heard: list[News] = field(default_factory=list)

    def hear(self, news: News) -> None:
        self.heard.append(news)

    def end(self) -> None:
        self.heard.append(News("heartbeat"))

    @property
    def frames(self) -> list[tuple[int | None, int | None]]:
        return [(news.previous, news.version) for news in self.heard if news.type == "seats"]


def somebody_in(audience: Audience, *, after: int | None) -> Somebody:
    listener = Somebody()
    audience.join(listener, after=after)
    return listener


async def test_the_first_change_leaves_at_once_and_the_next_are_gathered() -> None:
    audience = Audience(0, interval_seconds=0.05)
    listener = somebody_in(audience, after=0)
    audience.seats_changed({1: H}, version=1)
    await eventually(lambda: listener.frames == [(0, 1)])
    for version, character in enumerate((A, H, S), start=2):
        audience.seats_changed({1: character, version: H}, version=version)
    await eventually(lambda: listener.frames == [(0, 1), (1, 4)])
    assert listener.heard[-1].data["changes"] == {"s": [1], "h": [2, 3, 4]}


async def test_what_changed_while_nobody_watched_is_told_to_whoever_knew_it_before() -> None:
    audience = Audience(0, interval_seconds=0)
    audience.seats_changed({1: H}, version=1)
    audience.seats_changed({2: H}, version=2)
    back, new = somebody_in(audience, after=1), somebody_in(audience, after=None)
    await eventually(lambda: back.frames == [(0, 2)] and new.frames == [(0, 2)])
    assert [news.type for news in new.heard] == ["resync", "seats"]


@pytest.mark.parametrize("after", [3, 99])
async def test_a_version_we_do_not_know_begins_anew(after: int) -> None:
    audience = Audience(5, interval_seconds=0)
    assert [news.type for news in somebody_in(audience, after=after).heard] == ["resync"]


async def test_what_was_said_too_long_ago_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat_audience, "RECENT_FRAMES_MAX", 2)
    audience = Audience(0, interval_seconds=0)
    witness = somebody_in(audience, after=0)
    for version in range(1, 5):
        audience.seats_changed({version: H}, version=version)
        await eventually(lambda version=version: witness.heard[-1:] and witness.heard[-1].version == version)
    assert somebody_in(audience, after=2).frames == [(2, 3), (3, 4)]
    assert [news.type for news in somebody_in(audience, after=1).heard] == ["resync"]


async def test_after_a_resync_nothing_from_before_is_told() -> None:
    audience = Audience(0, interval_seconds=10)
    listener = somebody_in(audience, after=0)
    audience.seats_changed({1: H}, version=1)
    await eventually(lambda: listener.frames)
    audience.seats_changed({2: H}, version=2)
    audience.resync(7)
    assert [news.type for news in somebody_in(audience, after=1).heard] == ["resync"]
    assert somebody_in(audience, after=7).heard == []


async def test_more_listeners_than_one_turn_takes_all_hear_it_once() -> None:
    audience = Audience(0, interval_seconds=0)
    crowd = [somebody_in(audience, after=0) for _ in range(seat_audience.LISTENERS_AT_A_TIME * 2 + 1)]
    audience.seats_changed({0: H}, version=1)
    # Somebody who comes while it is being told has it told too, once.
    await asyncio.sleep(0)
    late = somebody_in(audience, after=0)
    await eventually(lambda: all(listener.frames == [(0, 1)] for listener in (*crowd, late)))
