"""What is there to buy, and who may buy it, on a machine that has just been set up?

`python -m ops.demo_data` or `boxoffice seed`: six venues, fifty shows of a thousand seats, an arena of ten thousand that is
on sale now, and people whose password is known. Ids are derived from names, so a second run finds everything there.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

import asyncpg
import bcrypt
from rich.console import Console

from contracts.ids import EventId, UserId, VenueId
from contracts.settings import Settings, UnusableSettings
from db.demo import Known, Person, find_known, insert_people, lock_seeding
from db.events import analyze_seats, create_event
from db.postgres import Pool, Transaction, open_pool, transaction
from db.sessions import Role
from db.venues import Section, SectionConfig, create_venue
from ops.stack import Stack, StackProblem

PASSWORD: Final = "correct horse battery"  # noqa: S105 -- known to everyone on purpose
BUYER_COUNT = 20

_NAMESPACE = UUID("0b0c5f0e-2d2a-5d0f-8f59-6a1c1b0e9a10")

ARENA = "Harbour Arena"


@dataclass(frozen=True)
class House:
    """A venue as we make it up."""

    name: str
    city: str
    address: str
    sections: SectionConfig

    @property
    def id(self) -> VenueId:
        return VenueId(_id_of("venue", self.name))


@dataclass(frozen=True)
class Show:
    """An event as we make it up; days and minutes count from the first seeding."""

    name: str
    artist: str
    category: str
    house: House
    days_until_show: int
    minutes_until_sale: int
    high_demand: bool = False

    @property
    def id(self) -> EventId:
        return EventId(_id_of("event", self.name))


def _id_of(kind: str, name: str) -> UUID:
    return uuid5(_NAMESPACE, f"{kind}\n{name}")


def _sections(*sections: tuple[str, int, int, str]) -> SectionConfig:
    """From (name, rows, seats per row, price)."""
    return SectionConfig(
        sections=tuple(
            Section.model_validate({"name": name, "rows": rows, "seats_per_row": seats, "price": price})
            for name, rows, seats, price in sections
        )
    )


HOUSES = (
    House(
        "Teatro Aurora",
        "Lisbon",
        "Rua das Flores 12",
        _sections(("Stalls", 20, 25, "48.00"), ("Circle", 12, 25, "36.00"), ("Gallery", 10, 20, "19.50")),
    ),
    House(
        "Kulturhalle Nord",
        "Hamburg",
        "Speicherstraße 4",
        _sections(("Front", 10, 30, "59.00"), ("Middle", 14, 30, "45.00"), ("Back", 14, 20, "32.00")),
    ),
    House(
        "The Foundry",
        "Manchester",
        "7 Canal Street",
        _sections(("Floor", 25, 24, "41.00"), ("Balcony", 16, 25, "29.00")),
    ),
    House(
        "Salle Pasteur",
        "Lyon",
        "3 quai du Rhône",
        _sections(("Parterre", 22, 20, "64.00"), ("Corbeille", 8, 20, "78.00"), ("Galerie", 16, 25, "27.00")),
    ),
    House(
        "Vilnius Concert House",
        "Vilnius",
        "Gedimino prospektas 40",
        _sections(("Stalls", 25, 28, "38.00"), ("Balcony", 12, 25, "24.00")),
    ),
    House(
        ARENA,
        "Rotterdam",
        "Havenkade 1",
        _sections(("Floor", 40, 50, "95.00"), ("Lower ring", 40, 100, "75.00"), ("Upper ring", 40, 100, "45.00")),
    ),
)

# (category, artist, what the evening is called)
_PROGRAMME = (
    ("rock", "The Paper Lanterns", "Night Ferry Tour"),
    ("rock", "Velvet Static", "Louder Than Rain"),
    ("rock", "Marrow & Pine", "Ten Years of Marrow"),
    ("rock", "Glasshouse Effect", "Greenhouse Tour"),
    ("rock", "Rusted Halos", "Farewell Tour"),
    ("pop", "Mina Solberg", "Northern Lights"),
    ("pop", "Cassia", "Honey & Salt"),
    ("pop", "Juno Park", "Seoul to Soul"),
    ("pop", "The Weekday Kids", "Saturday at Last"),
    ("pop", "Elio Marchetti", "Cartoline"),
    ("electronic", "Komorebi", "Forest of Wires"),
    ("electronic", "Deep Tariff", "Customs Union"),
    ("electronic", "Anja K", "Modular Mass"),
    ("jazz", "Ruben Alvarado Quintet", "Blue Siesta"),
    ("jazz", "Odile Mbaye", "Dakar Standards"),
    ("jazz", "Harbour Big Band", "Swing into Spring"),
    ("jazz", "Tomasz Wrona Trio", "Slow Rivers"),
    ("folk", "Ailsa Drummond", "Songs from the Ferry"),
    ("folk", "The Hollow Reeds", "Low Country"),
    ("folk", "Saltmarsh", "Tide Tables"),
    ("classical", "Camerata Lisboa", "The Four Seasons"),
    ("classical", "Orchestre des Deux Rives", "Ravel & Debussy"),
    ("classical", "Vilnius Chamber Choir", "All-Night Vigil"),
    ("classical", "Klara Weiss", "Goldberg Variations"),
    ("classical", "Quartetto Borea", "Late Beethoven"),
    ("classical", "Northern Sinfonietta", "Sibelius by Candlelight"),
    ("opera", "Kammeroper Nord", "The Magic Flute"),
    ("opera", "Compagnie du Rhône", "Carmen"),
    ("opera", "Teatro Aurora Ensemble", "La Traviata"),
    ("theatre", "The Foundry Players", "A Midsummer Night's Dream"),
    ("theatre", "Théâtre de la Passerelle", "Le Malade imaginaire"),
    ("theatre", "Company Sixpence", "An Inspector Calls"),
    ("theatre", "Ensemble Backstein", "Faust, Part One"),
    ("theatre", "Blackbox Vilnius", "Three Sisters"),
    ("comedy", "Priya Raman", "Mostly Apologies"),
    ("comedy", "Owen Tudge", "Reasonable Doubt"),
    ("comedy", "Zoé Lambert", "Presque normale"),
    ("comedy", "Improv on Tap", "You Choose, We Panic"),
    ("comedy", "Hannes Brodersen", "Dienstag ist Ruhetag"),
    ("dance", "Ballet Atlântico", "Swan Lake"),
    ("dance", "Kinetic Theory", "Loops and Ladders"),
    ("dance", "Compañía Duende", "Noche flamenca"),
    ("family", "The Button Circus", "Up and Over"),
    ("family", "Professor Fizz", "The Loudest Science Show"),
    ("family", "Puppet Wharf", "The Snow Queen"),
    ("hip-hop", "Kwame Verse", "Notes to Self"),
    ("hip-hop", "Lady Algorithm", "Sorted"),
    ("hip-hop", "Bloc Nord", "Hafenklang"),
    ("world", "Tinariya Collective", "Desert Radio"),
    ("world", "Samba de Quarta", "Carnaval Tardio"),
)

# When sales open, show after show: most are open, the others open within the hour, tomorrow, next week and next month.
_MINUTES_UNTIL_SALE = (-2880, -1440, -1440, -60, -60, -5, 30, 24 * 60, 7 * 24 * 60, 30 * 24 * 60)
_HIGH_DEMAND = "Juno Park"


def shows() -> Iterator[Show]:
    """Fifty shows in the theatres and one night in the arena."""
    theatres = [house for house in HOUSES if house.name != ARENA]
    for number, (category, artist, title) in enumerate(_PROGRAMME):
        yield Show(
            name=f"{artist}: {title}",
            artist=artist,
            category=category,
            house=theatres[number % len(theatres)],
            days_until_show=45 + 3 * number,
            minutes_until_sale=_MINUTES_UNTIL_SALE[number % len(_MINUTES_UNTIL_SALE)],
            high_demand=artist == _HIGH_DEMAND,
        )
    yield Show(
        name="The Paper Lanterns: One Night in the Arena",
        artist="The Paper Lanterns",
        category="rock",
        house=next(house for house in HOUSES if house.name == ARENA),
        days_until_show=60,
        minutes_until_sale=-60,
    )


def people() -> list[Person]:
    """An administrator and some buyers, all with the same password."""
    buyers = (f"buyer{number}" for number in range(1, BUYER_COUNT + 1))
    return [_person("admin", "admin"), *(_person(buyer, "user") for buyer in buyers)]


def _person(name: str, role: Role) -> Person:
    return Person(UserId(_id_of("user", name)), f"{name}@demo.example", name.capitalize(), role)


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
            await create_venue(
                tx,
                venue_id=house.id,
                name=house.name,
                city=house.city,
                address=house.address,
                section_config=house.sections,
            )
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


async def _make_event(tx: Transaction, show: Show, now: datetime) -> None:
    begins = (now + timedelta(days=show.days_until_show)).replace(hour=19, minute=30, second=0, microsecond=0)
    await create_event(
        tx,
        event_id=show.id,
        venue_id=show.house.id,
        name=show.name,
        artist=show.artist,
        category=show.category,
        event_date=begins,
        on_sale_date=now + timedelta(minutes=show.minutes_until_sale),
        high_demand=show.high_demand,
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
        f"sign in as buyer1@demo.example … buyer{BUYER_COUNT}@demo.example, password: {PASSWORD}", highlight=False
    )


async def _seed(settings: Settings) -> str:
    async with await open_pool(settings, application_name="boxoffice seed", size=2) as pool:
        return await seed(pool, bcrypt_cost=settings.bcrypt_cost)


if __name__ == "__main__":
    seed_command()
