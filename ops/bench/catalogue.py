"""Which fifty thousand shows are there to be searched?

Made up from lists, the same each time: artists with a first name and one of some thousand surnames, or bands; five hundred
houses in fifty cities; evenings whose names say something.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID

from contracts.ids import EventId, VenueId
from db.demo import MadeUpEvent, MadeUpVenue

EVENTS, VENUES, ARTISTS = 50_000, 500, 4_000


class City(NamedTuple):
    """Where it is, in degrees, and what its clocks go by."""

    name: str
    country: str
    time_zone: str
    latitude: float
    longitude: float


CITIES: Final = (
    City("Amsterdam", "NL", "Europe/Amsterdam", 52.37, 4.90),
    City("Antwerp", "BE", "Europe/Brussels", 51.22, 4.40),
    City("Athens", "GR", "Europe/Athens", 37.98, 23.73),
    City("Barcelona", "ES", "Europe/Madrid", 41.39, 2.17),
    City("Belfast", "GB", "Europe/London", 54.60, -5.93),
    City("Berlin", "DE", "Europe/Berlin", 52.52, 13.40),
    City("Bilbao", "ES", "Europe/Madrid", 43.26, -2.93),
    City("Birmingham", "GB", "Europe/London", 52.49, -1.89),
    City("Brno", "CZ", "Europe/Prague", 49.20, 16.61),
    City("Brussels", "BE", "Europe/Brussels", 50.85, 4.35),
    City("Budapest", "HU", "Europe/Budapest", 47.50, 19.04),
    City("Copenhagen", "DK", "Europe/Copenhagen", 55.68, 12.57),
    City("Dublin", "IE", "Europe/Dublin", 53.35, -6.26),
    City("Edinburgh", "GB", "Europe/London", 55.95, -3.19),
    City("Gdańsk", "PL", "Europe/Warsaw", 54.35, 18.65),
    City("Genève", "CH", "Europe/Zurich", 46.20, 6.14),
    City("Glasgow", "GB", "Europe/London", 55.86, -4.25),
    City("Göteborg", "SE", "Europe/Stockholm", 57.71, 11.97),
    City("Hamburg", "DE", "Europe/Berlin", 53.55, 9.99),
    City("Helsinki", "FI", "Europe/Helsinki", 60.17, 24.94),
    City("Kraków", "PL", "Europe/Warsaw", 50.06, 19.94),
    City("Köln", "DE", "Europe/Berlin", 50.94, 6.96),
    City("Leipzig", "DE", "Europe/Berlin", 51.34, 12.37),
    City("Lisbon", "PT", "Europe/Lisbon", 38.72, -9.14),
    City("London", "GB", "Europe/London", 51.51, -0.13),
    City("Lyon", "FR", "Europe/Paris", 45.76, 4.84),
    City("Madrid", "ES", "Europe/Madrid", 40.42, -3.70),
    City("Malmö", "SE", "Europe/Stockholm", 55.60, 13.00),
    City("Manchester", "GB", "Europe/London", 53.48, -2.24),
    City("Marseille", "FR", "Europe/Paris", 43.30, 5.37),
    City("Milano", "IT", "Europe/Rome", 45.46, 9.19),
    City("München", "DE", "Europe/Berlin", 48.14, 11.58),
    City("Nantes", "FR", "Europe/Paris", 47.22, -1.55),
    City("Napoli", "IT", "Europe/Rome", 40.85, 14.27),
    City("Oslo", "NO", "Europe/Oslo", 59.91, 10.75),
    City("Paris", "FR", "Europe/Paris", 48.86, 2.35),
    City("Porto", "PT", "Europe/Lisbon", 41.16, -8.63),
    City("Praha", "CZ", "Europe/Prague", 50.08, 14.44),
    City("Reykjavík", "IS", "Atlantic/Reykjavik", 64.15, -21.94),
    City("Riga", "LV", "Europe/Riga", 56.95, 24.11),
    City("Roma", "IT", "Europe/Rome", 41.90, 12.50),
    City("Rotterdam", "NL", "Europe/Amsterdam", 51.92, 4.48),
    City("Stockholm", "SE", "Europe/Stockholm", 59.33, 18.07),
    City("Tallinn", "EE", "Europe/Tallinn", 59.44, 24.75),
    City("Torino", "IT", "Europe/Rome", 45.07, 7.69),
    City("Vilnius", "LT", "Europe/Vilnius", 54.69, 25.28),
    City("Warszawa", "PL", "Europe/Warsaw", 52.23, 21.01),
    City("Wien", "AT", "Europe/Vienna", 48.21, 16.37),
    City("Zagreb", "HR", "Europe/Zagreb", 45.81, 15.98),
    City("Zürich", "CH", "Europe/Zurich", 47.38, 8.54),
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


HOUSE_NAMES = _words(
    "Aurora Atlas Bellevue Capitol Central Corona Crown Diamond Eden Empire Excelsior Garden Globe Grand Harbour Imperial "
    "Lyric Majestic Metropol Mirage National Odeon Olympia Orpheum Palace Paramount Phoenix Regent Riviera Royal Savoy "
    "Scala Station Tivoli Trianon Union Victoria Vulcan Winter Zenith"
)
HOUSE_KINDS = ("Arena", "Hall", "Theatre", "Club", "Opera", "Auditorium", "Pavilion", "Stadium", "Rooms", "Playhouse")
STREETS = ("Station Road", "Market Square", "River Walk", "High Street", "Mill Lane", "Park Avenue", "Old Harbour")

FIRST_NAMES = _words(
    "Ada Aino Amélie Anja Arvo Astrid Bea Björn Carla Céline Dagny Davide Dmitri Elio Elsa Enzo Esra Femke Fadi Greta Hana "
    "Henrik Ines Ivo Jana Joaquín Jonas Juno Kaja Kwame Lena Léo Lior Luca Maja Malik Marta Mina Nadia Nils Noor Odile Olga "
    "Oskar Pavel Priya Rafael Rosa Ruben Saga Sami Sofie Tariq Tess Tomasz Ulla Vera Yara Yusuf Zoé"
)
SURNAME_BEGINNINGS = _words(
    "Al An Bar Ber Brand Cal Car Dal Dan Del Drum Ed Fal Fern Gal Gar Hal Har Hol Is Jans Kal Kar Kel Kol Lam Lar Lind Lund "
    "Mal Mar Mel Mon Nor Nov Ol Or Pal Pet Quin Ram Ran Ros Sal San Sol Sten Tal Tor Ul Val Van Vel Vos War Wes Wil Win Yar "
    "Zel"
)
SURNAME_ENDINGS = _words(
    "aine ander ard asco aux backa berg bianco blad born bridge castel cott dahl dottir elli enko escu eyra feld ford gard "
    "gren haug heim holm ides iaki kamp kowski lind mann mond moor nova olini ovic quist rand rossi sen shaw stad stein "
    "ström thorpe tti vall varga ville wood worth zano zek"
)
BAND_BEGINNINGS = _words(
    "Amber Arctic Broken Burning Crystal Distant Electric Empty Endless Golden Hollow Hungry Iron Ivory Little Lonely Lost "
    "Lunar Marble Midnight Neon Northern Paper Patient Phantom Purple Quiet Restless Rusted Scarlet Secret Shallow Silent "
    "Silver Slow Solar Stolen Velvet Violet Wandering Wild Winter"
)
BAND_ENDINGS = _words(
    "Animals Apartments Astronauts Bicycles Birds Cathedrals Choir Circus Collective Daughters Ensemble Engines Ferries "
    "Ghosts Gardens Halos Hearts Horses Islands Kids Lanterns Letters Machines Mirrors Motels Mountains Oceans Orchestra "
    "Parade Pilots Postcards Quartet Rivers Satellites Shadows Sinfonietta Static Strangers Telephones Tigers Trio Umbrellas "
    "Volcanoes Waves Weekdays Wolves"
)
EVENING_BEGINNINGS = _words(
    "After All Another Before Beyond Blue Bright Candlelight Close Dancing Deep Farewell First Four Garden Great Heavy High "
    "Holiday Homecoming Last Late Long Love Magic Moonlight Morning New Night Open Ordinary Rain Requiem River Sacred Second "
    "Seven Snow Songs Spring Strange Summer Sunday Swan Ten True Under Unplugged Winter Without World"
)
EVENING_ENDINGS = _words(
    "Anniversary Cinderella Concert Echoes Evening Fables Festival Flowers Gala Harvest Hotel Hours Journeys Lake Letters "
    "Lights Live Matinee Memories Nights Parade Passion Pictures Promises Roads Seasons Serenade Session Show Sinners Skies "
    "Stories Suite Tales Tides Tour Variations Weather Windows Years"
)
CATEGORIES = _words("rock pop electronic jazz folk classical opera theatre comedy dance family hip-hop")

PRICES = tuple(Decimal(price) / 2 for price in range(20, 400))
DAYS = 540
# Shows of the past, and those that will not take place.
PAST_SHARE, CANCELLED_SHARE, ON_SALE_SHARE = 0.08, 0.03, 0.5


@dataclass(frozen=True)
class Catalogue:
    """All of it."""

    venues: Sequence[MadeUpVenue]
    events: Sequence[MadeUpEvent]


def make_up(chance: random.Random, *, now: datetime, event_count: int = EVENTS, venue_count: int = VENUES) -> Catalogue:
    """So many events in so many venues."""
    artists = [_artist(chance) for _ in range(max(1, event_count * ARTISTS // EVENTS))]
    venues = [_venue(chance, number) for number in range(venue_count)]
    events = [_event(chance, chance.choice(venues), chance.choice(artists), now) for _ in range(event_count)]
    return Catalogue(venues, events)


def _artist(chance: random.Random) -> tuple[str, str]:
    """A name and a category."""
    category = chance.choice(CATEGORIES)
    if chance.random() < 0.5:
        surname = chance.choice(SURNAME_BEGINNINGS) + chance.choice(SURNAME_ENDINGS)
        return f"{chance.choice(FIRST_NAMES)} {surname}", category
    article = chance.choice(("The ", ""))
    return f"{article}{chance.choice(BAND_BEGINNINGS)} {chance.choice(BAND_ENDINGS)}", category


def _venue(chance: random.Random, number: int) -> MadeUpVenue:
    city = CITIES[number % len(CITIES)]
    rows, seats = chance.randint(10, 60), chance.randint(10, 60)
    house = {"sections": [{"name": "Stalls", "rows": rows, "seatsPerRow": seats, "price": str(chance.choice(PRICES))}]}
    return MadeUpVenue(
        id=VenueId(_id(chance)),
        name=f"{chance.choice(HOUSE_NAMES)} {chance.choice(HOUSE_KINDS)}",
        address=f"{chance.randint(1, 200)} {chance.choice(STREETS)}",
        city=city.name,
        country=city.country,
        time_zone=city.time_zone,
        latitude=round(city.latitude + chance.uniform(-0.1, 0.1), 5),
        longitude=round(city.longitude + chance.uniform(-0.1, 0.1), 5),
        capacity=rows * seats,
        section_config=json.dumps(house),
    )


def _event(chance: random.Random, venue: MadeUpVenue, artist: tuple[str, str], now: datetime) -> MadeUpEvent:
    is_past = chance.random() < PAST_SHARE
    day = chance.uniform(-DAYS, -1) if is_past else chance.uniform(1, DAYS)
    begins = (now + timedelta(days=day)).replace(
        hour=chance.choice((15, 19, 20, 21)), minute=30, second=0, microsecond=0
    )
    status = "completed" if is_past else _status(chance)
    # A day counts from now when it is not on sale yet, and back from now when it is.
    days_until_sale = chance.uniform(0, day / 2) if status == "upcoming" else -chance.uniform(1, 100)
    low, high = sorted(chance.sample(PRICES, 2))
    return MadeUpEvent(
        id=EventId(_id(chance)),
        venue_id=venue.id,
        name=f"{chance.choice(EVENING_BEGINNINGS)} {chance.choice(EVENING_ENDINGS)}",
        artist=artist[0],
        category=artist[1],
        event_date=begins,
        on_sale_date=min(now + timedelta(days=days_until_sale), begins - timedelta(days=1)),
        status=status,
        price_min=low,
        price_max=high,
    )


def _status(chance: random.Random) -> str:
    if chance.random() < CANCELLED_SHARE:
        return "cancelled"
    return "on_sale" if chance.random() < ON_SALE_SHARE else "upcoming"


def _id(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)
