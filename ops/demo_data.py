"""What is there to buy, and who may buy it, on a machine that has just been set up?

`python -m ops.demo_data` or `boxoffice seed`: six venues (`demo_houses`), fifty shows of a thousand places and one of ten
thousand that is on sale now (`demo_programme`), and people whose password is known. Ids are derived from names, so a second
run finds everything there.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import asyncpg
import bcrypt
from rich.console import Console

from contracts.ids import UserId
from contracts.settings import Settings, UnusableSettings
from db.demo import Known, Person, find_known, insert_people, lock_seeding
from db.events import analyze_seats, create_event
from db.postgres import Pool, Transaction, open_pool, transaction
from db.sessions import Role
from db.venues import create_venue
from ops.demo_houses import HOUSES, House, id_of
from ops.demo_programme import Show, shows
from ops.stack import Stack, StackProblem

PASSWORD: Final = "correct horse battery"  # noqa: S105 -- known to everyone on purpose
BUYER_COUNT = 20

# In every price; and tickets go back for a twentieth of theirs until a week before the show.
FEE_RATE = Decimal("0.08")
TAX_RATE = Decimal("0.09")
REFUNDS_END_BEFORE = timedelta(days=7)
REFUND_FEE_RATE = Decimal("0.05")


def people() -> list[Person]:
    """An administrator, somebody at the door and some buyers, all with the same password."""
    buyers = (f"buyer{number}" for number in range(1, BUYER_COUNT + 1))
    return [_person("admin", "admin"), _person("door", "scanner"), *(_person(buyer, "user") for buyer in buyers)]


def _person(name: str, role: Role) -> Person:
    return Person(UserId(id_of("user", name)), f"{name}@demo.example", name.capitalize(), role)


async def seed(pool: Pool, *, bcrypt_cost: int) -> str:
    """Make what is missing, all or nothing; returns a sentence about it."""
    wanted = list(shows())
    async with transaction(pool) as tx:
        await lock_seeding(tx)
        known = await find_known(
            tx,
            user_ids=[person.id for person in people()],
            venue_ids=[house.id for house in HOUSES],
            event_ids=[show.id for show in wanted],
        )
        person_count = await _make_people(tx, known, bcrypt_cost)
        houses = [house for house in HOUSES if house.id not in known.venues]
        for house in houses:
            await _make_house(tx, house)
        missing = [show for show in wanted if show.id not in known.events]
        for show in missing:
            await _make_event(tx, show, datetime.now(UTC))
    if not (person_count or houses or missing):
        return "nothing to do: the demo data is there"
    async with pool.acquire(timeout=5.0) as connection:
        await analyze_seats(connection)
    seat_count = sum(show.house.sections.capacity for show in missing)
    return f"made {person_count} people, {len(houses)} venues and {len(missing)} events with {seat_count} seats"


async def _make_people(tx: Transaction, known: Known, bcrypt_cost: int) -> int:
    missing = [person for person in people() if person.id not in known.users]
    if missing:
        # One hash for all: at cost 12 each would take a quarter of a second.
        hashed = await asyncio.to_thread(bcrypt.hashpw, PASSWORD.encode(), bcrypt.gensalt(bcrypt_cost))
        await insert_people(tx, missing, password_hash=hashed.decode())
    return len(missing)


async def _make_house(tx: Transaction, house: House) -> None:
    await create_venue(
        tx,
        venue_id=house.id,
        name=house.name,
        city=house.city,
        country=house.country,
        address=house.address,
        time_zone=house.time_zone,
        latitude=house.latitude,
        longitude=house.longitude,
        section_config=house.sections,
    )


async def _make_event(tx: Transaction, show: Show, now: datetime) -> None:
    await create_event(
        tx,
        event_id=show.id,
        venue_id=show.house.id,
        name=show.name,
        artist=show.artist,
        category=show.category,
        description=show.description,
        event_date=show.begins_at(now),
        on_sale_date=now + timedelta(minutes=show.minutes_until_sale),
        currency=show.house.currency,
        high_demand=show.high_demand,
        fee_rate=FEE_RATE,
        tax_rate=TAX_RATE,
        refund_until=show.begins_at(now) - REFUNDS_END_BEFORE,
        refund_fee_rate=REFUND_FEE_RATE,
    )


def seed_command() -> None:
    """Fill the database with demo venues, events and people; what is there already stays as it is."""
    console = Console()
    try:
        settings = Settings.read({**os.environ, **Stack.from_environment().environment()})
        console.print(asyncio.run(_seed(settings)), highlight=False, soft_wrap=True)
    except (OSError, asyncpg.PostgresError, StackProblem, UnusableSettings) as problem:
        Console(stderr=True).print(f"could not seed: {problem}", style="red", markup=False)
        sys.exit(1)
    console.print(
        f"sign in as buyer1@demo.example … buyer{BUYER_COUNT}@demo.example, admin@demo.example or door@demo.example,"
        f" password: {PASSWORD}",
        highlight=False,
    )


async def _seed(settings: Settings) -> str:
    async with await open_pool(settings, application_name="boxoffice seed", size=2) as pool:
        return await seed(pool, bcrypt_cost=settings.bcrypt_cost)


if __name__ == "__main__":
    seed_command()
