"""How do mails call a show, a seat, an amount and a person?"""

from collections.abc import Sequence
from decimal import Decimal

from consumers.mail_body import Facts, one_line
from contracts.domain_events import ConfirmedSeat
from contracts.local_times import local_time
from contracts.money import decimals_of
from db.recipients import Show
from db.tickets import venue_lines

_NAME_LENGTH_MAX = 60
# What there is in people's names besides letters.
_IN_NAMES = frozenset(" -'’.")


def show_of(show: Show) -> str:
    """Artist and name, where the name does not say the artist already."""
    name, artist = one_line(show.event_name), one_line(show.artist)
    return f"{artist}: {name}" if artist and artist not in name else name


def when_of(show: Show) -> str:
    """By the clocks of the house."""
    return local_time(show.event_date, show.time_zone)


def where_of(show: Show) -> str:
    """The house and its address on one line."""
    return ", ".join(venue_lines(show.venue_name, show.venue_address, show.venue_city, show.venue_country))


def show_facts(show: Show) -> Facts:
    """When and where."""
    return Facts([("When", when_of(show)), ("Where", where_of(show))])


def seat_of(seat: ConfirmedSeat) -> str:
    """A seat, as somebody looks for it in the dark."""
    if not seat.row and not seat.seat:
        return one_line(f"{seat.section}, general admission")
    return one_line(f"Section {seat.section}, row {seat.row}, seat {seat.seat}")


def amount_of(amount: Decimal, currency: str) -> str:
    """12.50 EUR, 1250 JPY."""
    return f"{amount:.{decimals_of(currency)}f} {currency}"


def count_of(things: Sequence[object]) -> str:
    """So many tickets."""
    return "1 ticket" if len(things) == 1 else f"{len(things)} tickets"


def hello(name: str) -> str:
    """The first line; nobody's name is no name."""
    return f"Hello {one_line(name)}," if name.strip() else "Hello,"


def person(name: str) -> str:
    """Somebody's name in a mail to a stranger: letters and what else is in names, so that nobody sends advertisements or
    addresses of pages in our name."""
    plain = "".join(letter for letter in one_line(name) if letter.isalpha() or letter in _IN_NAMES)
    # A dot between letters is what makes a mail program take a word for an address.
    spaced = one_line(plain.replace(".", ". "))[:_NAME_LENGTH_MAX].strip()
    return spaced or "Somebody"
