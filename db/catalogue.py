"""Which events and venues are there for somebody who looks for them?

A page is found in two steps, the ids by one index and then their cards, and never by counting what came before: it goes on
after the place where the last one ended. Run these on a pool whose plans are made for the values at hand
(`PLANNED_FOR_ITS_VALUES`): the filters that were not given are then gone before PostgreSQL chooses an index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime

from contracts.house import SectionConfig
from contracts.ids import EventId, VenueId
from contracts.price_parts import fee_and_tax
from contracts.value import Amount, Share, Value
from db.events import EventStatus
from db.named_queries import queries
from db.postgres import Pool

_SQL = queries("catalogue")

# A plan for any value would have to be good for filters that are there and for filters that are not; there is none.
PLANNED_FOR_ITS_VALUES = {"plan_cache_mode": "force_custom_plan"}

_CENT = Decimal("0.01")

# What is typed beyond so many words narrows nothing that a person would notice.
WORDS_MAX = 10
# So many words are looked for in the place of one that was mistyped.
NEAREST_WORDS_MAX = 5

Sort: TypeAlias = Literal["date", "-date", "price", "-price", "name", "onSale", "relevance"]


class VenueCard(Value):
    """A house, as much of it as a list of events shows."""

    id: VenueId
    name: str
    city: str
    country: str
    time_zone: str


class VenueAddress(VenueCard):
    """A house, and how to get there."""

    address: str
    latitude: float | None
    longitude: float | None


class VenueSummary(VenueAddress):
    """A house in a list of houses."""

    capacity: int


class EventCard(Value):
    """An event in a list. Prices are of the cheapest and the dearest place, everything included."""

    id: EventId
    name: str
    artist: str
    category: str
    venue: VenueCard
    event_date: AwareDatetime
    on_sale_date: AwareDatetime
    off_sale_date: AwareDatetime
    status: EventStatus
    high_demand: bool
    currency: str
    price_min: Amount
    price_max: Amount
    ticket_limit: int
    capacity: int


class PriceSummary(Value):
    """A price, everything included, and what of it is fee and tax."""

    price: Amount
    fee: Amount
    tax: Amount


class TierSummary(PriceSummary):
    """Another price of a section, which buyers choose."""

    name: str


class SectionSummary(PriceSummary):
    """A section, what a place in it costs, and how many of its places are for wheelchairs."""

    name: str
    type: Literal["seated", "general_admission"]
    tiers: tuple[TierSummary, ...]
    capacity: int
    accessible_count: int


class EventDetails(EventCard):
    """Everything a visitor may know of an event.

    From `presale_date` on whoever has a code may have seats. `fee_rate` and `tax_rate` are shares of a price: of the price,
    tax is price - price / (1 + tax_rate), and the fee is fee_rate of the rest. Until `refund_until` buyers may give tickets
    back for the price without refund_fee_rate of it; null: never.
    """

    description: str
    presale_date: AwareDatetime | None
    fee_rate: Share
    tax_rate: Share
    refund_until: AwareDatetime | None
    refund_fee_rate: Share
    transfers: bool
    resales: bool
    rotating_codes: bool
    venue: VenueAddress
    sections: tuple[SectionSummary, ...]
    version: int


class Near(NamedTuple):
    """Within `radius_km` of a point, in degrees."""

    latitude: float
    longitude: float
    radius_km: float


@dataclass(frozen=True)
class Wanted:
    """What is looked for; what is None does not matter. An event matches prices if its own range overlaps theirs."""

    text: str | None = None
    city: str | None = None
    artist: str | None = None
    venue_id: UUID | None = None
    category: str | None = None
    status: EventStatus | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    near: Near | None = None


class Place(NamedTuple):
    """Where a page ended: what it is sorted by of its last event, that event's id and, by relevance, its tier."""

    key: datetime | Decimal | str
    id: UUID
    tier: int = 0


class VenuePlace(NamedTuple):
    """Where a page of venues ended."""

    city: str
    name: str
    id: UUID


class Page(NamedTuple):
    """Some events, and where to go on; None when these were the last."""

    events: tuple[EventCard, ...]
    next_place: Place | None


class VenuePage(NamedTuple):
    """Some venues, and where to go on."""

    venues: tuple[VenueSummary, ...]
    next_place: VenuePlace | None


class Understood(NamedTuple):
    """What was typed, as queries for PostgreSQL: every word whole, and the last perhaps not yet."""

    whole: str
    loose: str


_PAGES: dict[Sort, str] = {
    "date": _SQL.page_by_date,
    "-date": _SQL.page_by_date_descending,
    "price": _SQL.page_by_price,
    "-price": _SQL.page_by_price_descending,
    "name": _SQL.page_by_name,
    "onSale": _SQL.page_by_sale_start,
}


async def find_page(pool: Pool, wanted: Wanted, *, sort: Sort, after: Place | None, limit: int) -> Page:
    """At most `limit` events that match, after that place. Sorting by relevance needs a text."""
    understood = None
    if wanted.text is not None:
        understood = await _understand(pool, wanted.text)
        if understood is None:
            return Page((), None)
    venue_ids = await _find_venue_ids(pool, wanted)
    if venue_ids == []:
        return Page((), None)
    filters = _filters(wanted, understood, venue_ids)
    # One more than wanted tells whether another page follows.
    if sort == "relevance" and understood is not None:
        tiers = await _by_relevance(pool, filters, understood, after, limit + 1)
    else:
        place = (after.key, after.id) if after is not None else (None, None)
        tiers = {r["id"]: 0 for r in await pool.fetch(_PAGES[sort], *filters, *place, limit + 1)}
    cards = await _list_cards(pool, list(tiers)[:limit])
    next_place = _place_of(cards[-1], sort, tiers[cards[-1].id]) if len(tiers) > limit else None
    return Page(tuple(cards), next_place)


async def find_details(pool: Pool, event_id: EventId) -> EventDetails | None:
    """The event, or None."""
    record = await pool.fetchrow(_SQL.find_details, event_id)
    if record is None:
        return None
    house = SectionConfig.model_validate_json(record["section_config"])
    return EventDetails.model_validate({**record, "venue": _venue(record), "sections": _summaries(house, record)})


async def find_venues(
    pool: Pool, *, text: str | None, city: str | None, after: VenuePlace | None, limit: int
) -> VenuePage:
    """At most `limit` venues by city and name, after that place."""
    understood = None
    if text is not None:
        understood = await _understand(pool, text)
        if understood is None:
            return VenuePage((), None)
    loose = understood.loose if understood is not None else None
    place = after if after is not None else (None, None, None)
    records = await pool.fetch(_SQL.page_of_venues, loose, city, *place, limit + 1)
    venues = tuple(VenueSummary.model_validate(dict(record)) for record in records[:limit])
    last = venues[-1] if len(records) > limit else None
    return VenuePage(venues, VenuePlace(last.city, last.name, last.id) if last is not None else None)


async def _understand(pool: Pool, text: str) -> Understood | None:
    """What was typed, with what was probably meant in the place of what is no word; None when nothing can match it."""
    words = await pool.fetch(_SQL.understand_words, text, WORDS_MAX, NEAREST_WORDS_MAX)
    if not words or not all(word["begins_a_word"] or word["nearest"] for word in words):
        return None
    whole = " & ".join(_term(word) for word in words)
    # Whoever types sees results before the last word is whole.
    last = _term(words[-1], as_prefix=bool(words[-1]["begins_a_word"]))
    return Understood(whole, " & ".join([*(_term(word) for word in words[:-1]), last]))


def _term(word: Mapping[str, Any], *, as_prefix: bool = False) -> str:
    if not word["begins_a_word"]:
        return "(" + " | ".join(map(_quoted, word["nearest"])) + ")"
    return _quoted(word["word"]) + (":*" if as_prefix or not word["is_word"] else "")


def _quoted(word: str) -> str:
    # Words are letters and digits by now (the function `searchable`); quoted, they would stay words whatever was in them.
    escaped = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


async def _find_venue_ids(pool: Pool, wanted: Wanted) -> list[UUID] | None:
    """The venues that match; None when any will do. Few as they are, they tell PostgreSQL how many events to expect."""
    if wanted.venue_id is None and wanted.city is None and wanted.near is None:
        return None
    near = wanted.near if wanted.near is not None else (None, None, None)
    return [record["id"] for record in await pool.fetch(_SQL.find_venue_ids, wanted.venue_id, wanted.city, *near)]


def _filters(wanted: Wanted, understood: Understood | None, venue_ids: Sequence[UUID] | None) -> tuple[Any, ...]:
    """The arguments of `find_in_catalogue`."""
    return (
        understood.loose if understood is not None else None,
        venue_ids,
        *(wanted.artist, wanted.category, wanted.status),
        *(wanted.date_from, wanted.date_to, wanted.price_min, wanted.price_max),
    )


async def _by_relevance(
    pool: Pool, filters: tuple[Any, ...], understood: Understood, after: Place | None, limit: int
) -> dict[UUID, int]:
    """The tier of each event found, in order."""
    place = (after.key, after.id, after.tier) if after is not None else (None, None, -1)
    records = await pool.fetch(_SQL.page_by_relevance, *filters, *place, limit, understood.whole)
    return {record["id"]: record["tier"] for record in records}


async def _list_cards(pool: Pool, event_ids: Sequence[UUID]) -> list[EventCard]:
    """The cards of these events, in this order."""
    if not event_ids:
        return []
    records = {record["id"]: record for record in await pool.fetch(_SQL.list_cards, event_ids)}
    return [EventCard.model_validate({**records[id_], "venue": _venue(records[id_])}) for id_ in event_ids]


def _venue(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("venue_"): value for name, value in record.items() if name.startswith("venue_")}


def _summaries(house: SectionConfig, event: Mapping[str, Any]) -> list[SectionSummary]:
    return [
        SectionSummary(
            name=section.name,
            type=section.type,
            **_price(section.price, event),
            tiers=tuple(TierSummary(name=tier.name, **_price(tier.price, event)) for tier in section.tiers),
            capacity=section.seat_count,
            accessible_count=sum(len(numbers) for numbers in section.accessible.values()),
        )
        for section in house.sections
    ]


def _price(price: Decimal, event: Mapping[str, Any]) -> dict[str, Decimal]:
    fee, tax = fee_and_tax(price, fee_rate=event["fee_rate"], tax_rate=event["tax_rate"], currency=event["currency"])
    # As the seats have it, however it was drawn: 30 is 30.00.
    return {"price": price.quantize(_CENT), "fee": fee, "tax": tax}


def _place_of(last: EventCard, sort: Sort, tier: int) -> Place:
    if sort in ("price", "-price"):
        return Place(last.price_min, last.id)
    if sort == "name":
        return Place(last.name, last.id)
    return Place(last.on_sale_date if sort == "onSale" else last.event_date, last.id, tier)
