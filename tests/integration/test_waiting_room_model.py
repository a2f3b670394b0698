"""Does the room answer as its plain model does, whatever is asked of it in whatever order?"""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.settings import Settings
from contracts.waiting_room import LogKind, Phase
from contracts.waiting_room_log import check_log, read_through
from db.waiting_room import Refused, RoomSettings, Standing, WaitingRooms
from tests.model.waiting_room_model import ModelRoom
from tests.waiting_rooms import Person, Room, a_place_id, a_room, rooms_with_a_clock

STEPS = 1_500
PEOPLE = 14
# So few near the front that one round looks at all of them, as the model does.
SPANS: dict[str, Any] = {"capacity": 4, "rate_per_second": 3.0, "burst": 2, "near_rank": 5}
ACTS = ("join", "join", "poll", "poll", "poll", "claim", "claim", "leave", "release", "extend", "passes")


@pytest.fixture
async def rooms(settings: Settings) -> AsyncIterator[WaitingRooms]:
    opened = rooms_with_a_clock(settings)
    yield opened
    await opened.close()


class Walk:
    """The room and its model, asked the same things."""

    def __init__(self, room: Room, dice: random.Random) -> None:
        self.room, self.dice = room, dice
        self.model = ModelRoom(RoomSettings(**SPANS), room.now_ms, tokens_at_ms=room.now_ms)
        self.people = [Person() for _ in range(PEOPLE)]

    async def step(self) -> None:
        """Time goes by, the leader makes a round, the operator changes something, or somebody does something."""
        chance = self.dice.random()
        if chance < 0.15:
            await self.pass_time()
        elif chance < 0.35:
            await self.tick()
        elif chance < 0.37:
            await self.change_phase()
        else:
            await self.act(self.dice.choice(ACTS), self.dice.randrange(PEOPLE))

    async def pass_time(self) -> None:
        """A little, mostly."""
        milliseconds = self.dice.choice([50, 300, 1_000, 10_000, 60_000, 200_000, 700_000])
        await self.room.pass_ms(milliseconds)
        self.model.now_ms += milliseconds

    async def tick(self) -> None:
        """A round of the leader."""
        real = await self.room.tick(after_ms=0)
        expected = self.model.tick()
        # The model looks at the front as it was; who moves up into it is looked at in the next round of both.
        assert (real.admitted, real.waiting, real.ready, real.active) == expected

    async def change_phase(self) -> None:
        """Pause or go on."""
        phase = Phase.OPEN if self.model.phase is Phase.PAUSED else Phase.PAUSED
        await self.room.enter_phase(phase)
        self.model.enter_phase(phase)

    async def act(self, name: str, user: int) -> None:
        """One thing that one person does."""
        assert await self.ask_room(name, self.people[user]) == self.ask_model(name, user), (name, user)

    def ask_model(self, name: str, user: int) -> object:
        """The plain answer."""
        return self.model.extend(user, self.model.now_ms) if name == "extend" else getattr(self.model, name)(user)

    async def ask_room(self, name: str, person: Person) -> object:
        """The real one, in the model's words."""
        rooms, event_id = self.room.rooms, self.room.event_id
        if name == "release":
            return await rooms.release(event_id, person.user_id)
        if name == "extend":
            return await rooms.extend_lease(event_id, person.user_id, self.room.now_ms)
        if name == "passes":
            return (await self.room.check(person)).passes[0]
        if name == "join":
            answer = await rooms.join(event_id, person.user_id, a_place_id(), person.commitment)
            person.place_id = answer.place_id if isinstance(answer, Standing) else person.place_id
            return in_words(answer)
        return in_words(await getattr(rooms, name)(event_id, person.place_id, person.user_id))


def in_words(answer: Standing | Refused) -> object:
    """A standing as the model says it."""
    if isinstance(answer, Refused):
        return None
    return answer.state, answer.gone, answer.ticket, answer.rank, answer.until_ms


@pytest.mark.parametrize("seed", range(4))
async def test_the_room_answers_as_its_model_does(rooms: WaitingRooms, redis: Redis, seed: int) -> None:
    walk = Walk(await a_room(rooms, redis, **SPANS), random.Random(seed))
    for _ in range(STEPS):
        await walk.step()
    for last in (Phase.DRAINING, Phase.SOLD_OUT, Phase.ENDED):
        await walk.room.enter_phase(last)
        walk.model.enter_phase(last)
        for _ in range(60):
            await walk.act(walk.dice.choice(ACTS), walk.dice.randrange(PEOPLE))
            await walk.tick()
    entries = await walk.room.log()
    assert check_log(entries) == []
    on_paper, _ = read_through(entries)
    assert len(on_paper.people) == len(walk.model.people)
    # A walk that never got anywhere would have agreed too.
    happened = {kind for kind, count in on_paper.counts.items() if count}
    assert happened == set(LogKind) - {LogKind.SEALED, LogKind.DEMOTED}


async def test_a_room_that_forgets_one_rule_differs_from_its_model(settings: Settings, redis: Redis) -> None:
    broken = rooms_with_a_clock(settings, ("call('ZADD', SEEN, 'XX', 'GT', now_text, place)", "do end"))
    walk = Walk(await a_room(broken, redis, **SPANS), random.Random(1))
    with pytest.raises(AssertionError):
        for _ in range(STEPS):
            await walk.step()
    await broken.close()
