"""Who comes to a measured sale, and to what house?"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from uuid import uuid4

from redis.asyncio import Redis

from contracts.ids import EventId, SeatId, UserId, VenueId
from contracts.settings import Settings
from db.demo import Person, insert_people
from db.events import TICKET_LIMIT_DEFAULT, analyze_seats, create_event, list_seats
from db.postgres import Pool, open_pool, transaction
from db.redis import open_redis
from db.sessions import create_session
from db.venues import create_venue
from ops.bench.load import Ask
from ops.rush.house import house_of, wait_until_on_sale

RESERVE_PATH, CHECKOUT_PATH = "/api/seats/reserve", "/api/checkout"

SEATS_PER_ASK = 2
USERS_PER_TRIP = 1000
# Nobody signs in with it; any text will do where a hash is kept.
NO_PASSWORD = "*"  # noqa: S105
CARD = "pm_card_visa"


@dataclass(frozen=True)
class House:
    """An event on sale and its seats, in the order of the map."""

    event_id: EventId
    seat_ids: Sequence[SeatId]


async def open_house(settings: Settings, seat_count: int) -> House:
    """A fresh event, on sale, with the usual ticket limit."""
    async with await open_pool(settings, application_name="boxoffice bench", size=2) as pool:
        event_id = await add_event(pool, seat_count)
        async with pool.acquire() as connection:
            await analyze_seats(connection)
            seats = await list_seats(connection, event_id)
        await wait_until_on_sale(pool, event_id)
    return House(event_id, [seat.id for seat in seats])


async def add_event(pool: Pool, seat_count: int, *, opens_in: timedelta = timedelta()) -> EventId:
    """A fresh event with the usual ticket limit, whose sale opens so far from now."""
    now = datetime.now(UTC)
    event_id, venue_id = EventId(uuid4()), VenueId(uuid4())
    async with transaction(pool) as tx:
        await create_venue(tx, venue_id=venue_id, name="Bench Hall", section_config=house_of(seat_count))
        await create_event(
            tx,
            event_id=event_id,
            venue_id=venue_id,
            name=f"Bench of {now:%H:%M:%S}",
            event_date=now + timedelta(days=30),
            on_sale_date=now + opens_in,
        )
    return event_id


async def let_in(settings: Settings, count: int) -> list[str]:
    """So many new users, all signed in; their cookies."""
    redis = open_redis(settings)
    cookies: list[str] = []
    try:
        async with await open_pool(settings, application_name="boxoffice bench", size=1) as pool:
            for first in range(0, count, USERS_PER_TRIP):
                users = [UserId(uuid4()) for _ in range(first, min(first + USERS_PER_TRIP, count))]
                await _write_down(pool, users)
                cookies += await _sign_in(redis, users, seconds=settings.session_seconds)
    finally:
        await redis.aclose()
    return cookies


async def _write_down(pool: Pool, users: Sequence[UserId]) -> None:
    people = [Person(user_id, f"{user_id.hex}@bench.example", "Somebody") for user_id in users]
    async with transaction(pool) as tx:
        await insert_people(tx, people, password_hash=NO_PASSWORD)


async def _sign_in(redis: Redis, users: Sequence[UserId], *, seconds: int) -> list[str]:
    trip = redis.pipeline(transaction=False)
    cookies = [await create_session(trip, user_id=user_id, role="user", seconds=seconds) for user_id in users]
    await trip.execute()
    return cookies


def users_needed(ask_count: int) -> int:
    """So many that nobody comes upon the ticket limit."""
    return -(-ask_count * SEATS_PER_ASK // TICKET_LIMIT_DEFAULT)


def asks_for_each_pair(house: House, cookies: Sequence[str], *, chance: random.Random) -> list[Ask]:
    """Every two neighbouring seats once, in no order, each asked for by the next user."""
    pairs = list(zip(house.seat_ids[::2], house.seat_ids[1::2], strict=True))
    chance.shuffle(pairs)
    return [_reserve(house, cookie, pair) for cookie, pair in zip(cycle(cookies), pairs)]


def asks_for_any_pair(house: House, cookies: Sequence[str], count: int, *, chance: random.Random) -> list[Ask]:
    """So many asks for any two seats, each from the next user."""
    return [
        _reserve(house, cookie, chance.sample(house.seat_ids, SEATS_PER_ASK))
        for cookie in islice(cycle(cookies), count)
    ]


def asks_to_pay(house: House, holds: Iterator[tuple[str, str]]) -> list[Ask]:
    """A checkout for each (cookie, hold id)."""
    return [
        Ask(CHECKOUT_PATH, _json({"eventId": str(house.event_id), "holdId": hold_id, "paymentMethod": CARD}), cookie)
        for cookie, hold_id in holds
    ]


def _reserve(house: House, cookie: str, seat_ids: Sequence[SeatId]) -> Ask:
    wanted = {"eventId": str(house.event_id), "seatIds": [str(seat_id) for seat_id in seat_ids]}
    return Ask(RESERVE_PATH, _json(wanted), cookie)


def _json(body: object) -> str:
    return json.dumps(body, separators=(",", ":"))
