"""What do people ask a catalogue for?

For what is in it, because people look for what they have heard of; half a name, a name and a place, a name mistyped; or they
look around: what is on in my city, near me, that weekend, for that money. No question is asked twice, so no cache knows it.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from db.demo import MadeUpEvent
from ops.bench.catalogue import CATEGORIES, CITIES, DAYS, Catalogue

LIST_PATH = "/api/events"

# As far from a city as people drive for a show.
NEAR_KM = (10, 50)
# A prefix shorter than this is not searched for yet by a page that knows better.
PREFIX_LETTERS_MIN = 3
# Words shorter than this are typed right.
MISTYPED_LETTERS_MIN = 5


class Question(NamedTuple):
    """What is asked, and of which kind it is; `goes_on`: whoever asks wants the page after it, too."""

    kind: str
    path: str
    goes_on: bool = False


Parameters = Mapping[str, str]


class Curious:
    """Somebody who asks about a catalogue, as of `now`."""

    def __init__(self, catalogue: Catalogue, chance: random.Random, *, now: datetime) -> None:
        self._events = catalogue.events
        self._city_of = {venue.id: venue.city for venue in catalogue.venues}
        self._chance = chance
        self._now = now

    def questions(self) -> Iterator[Question]:
        """Without end, each kind as often as the others."""
        asked: set[str] = set()
        while True:
            for kind, parameters in self.kinds.items():
                path = f"{LIST_PATH}?{urlencode(parameters())}"
                if path not in asked:
                    asked.add(path)
                    yield Question(kind, path, goes_on=kind == "sorted")

    @property
    def kinds(self) -> Mapping[str, Callable[[], Parameters]]:
        """What each kind asks."""
        return {
            "name": self._name,
            "name and city": self._name_and_city,
            "beginning of a name": self._prefix,
            "mistyped": self._mistyped,
            "city": self._city,
            "category and dates": self._category_and_dates,
            "price": self._price,
            "near": self._near,
            "sorted": self._sorted,
        }

    def _event(self) -> MadeUpEvent:
        return self._chance.choice(self._events)

    def _name(self) -> Parameters:
        event = self._event()
        return {"q": f"{event.artist} {event.name}" if self._chance.random() < 0.5 else f"{event.name} {event.artist}"}

    def _name_and_city(self) -> Parameters:
        event = self._event()
        return {"q": f"{event.artist.split()[-1]} {self._city_of[event.venue_id]}"}

    def _prefix(self) -> Parameters:
        event = self._event()
        *words, last = event.artist.split()
        length = self._chance.randint(min(PREFIX_LETTERS_MIN, len(last)), len(last))
        return {"q": " ".join([*words, last[:length]])}

    def _mistyped(self) -> Parameters:
        event = self._event()
        return {"q": " ".join(self._slip(word) for word in event.artist.split())}

    def _slip(self, word: str) -> str:
        """Two letters that changed places, or one that is not there."""
        if len(word) < MISTYPED_LETTERS_MIN:
            return word
        place = self._chance.randrange(1, len(word) - 1)
        if self._chance.random() < 0.5:
            return word[:place] + word[place + 1 :]
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    def _city(self) -> Parameters:
        return {"city": self._chance.choice(CITIES).name, "dateFrom": self._day()}

    def _category_and_dates(self) -> Parameters:
        return {"category": self._chance.choice(CATEGORIES), **self._weekend()}

    def _price(self) -> Parameters:
        low = self._chance.randint(10, 60)
        high = low + self._chance.randint(5, 80)
        return {"priceMin": f"{low}.00", "priceMax": f"{high}.00", "sort": "price", "dateFrom": self._day()}

    def _near(self) -> Parameters:
        city = self._chance.choice(CITIES)
        latitude = city.latitude + self._chance.uniform(-0.2, 0.2)
        longitude = city.longitude + self._chance.uniform(-0.2, 0.2)
        return {"near": f"{latitude:.4f},{longitude:.4f}", "radiusKm": str(self._chance.choice(NEAR_KM))}

    def _sorted(self) -> Parameters:
        sort = self._chance.choice(("date", "-date", "price", "-price", "name", "onSale"))
        return {"category": self._chance.choice(CATEGORIES), "sort": sort, "dateFrom": self._day()}

    def _weekend(self) -> Parameters:
        begins = self._moment()
        return {"dateFrom": _written(begins), "dateTo": _written(begins + timedelta(days=3))}

    def _day(self) -> str:
        return _written(self._moment())

    def _moment(self) -> datetime:
        return self._now + timedelta(days=self._chance.uniform(0, DAYS / 2))


def next_page(question: Question, cursor: str) -> Question:
    """The page after the one that ended with this cursor."""
    return Question("second page", f"{question.path}&{urlencode({'cursor': cursor})}")


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
