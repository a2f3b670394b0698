"""Where does a show take place, and which seats does the house have?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from asyncpg import UniqueViolationError

from contracts.house import SectionConfig
from contracts.ids import UserId, VenueId
from contracts.value import Value
from db.audit_log import changes, record_deed
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

_SQL = queries("venues")


class Venue(Value):
    """A house and its seats; `time_zone` is an IANA name, the coordinates are degrees."""

    id: VenueId
    name: str
    address: str
    city: str
    country: str
    time_zone: str
    latitude: float | None
    longitude: float | None
    capacity: int
    section_config: SectionConfig
    version: int


@dataclass(frozen=True)
class VenueTerms:
    """What an organiser says of a venue."""

    name: str
    address: str
    city: str
    country: str
    time_zone: str
    latitude: float | None
    longitude: float | None
    section_config: SectionConfig


VenueNotUpdated: TypeAlias = Literal["unknown", "changed_meanwhile"]


async def create_venue(
    tx: Transaction,
    *,
    venue_id: VenueId,
    name: str,
    city: str = "",
    address: str = "",
    section_config: SectionConfig | Mapping[str, Any],
    country: str = "",
    time_zone: str = "UTC",
    latitude: float | None = None,
    longitude: float | None = None,
    request_hash: str = "",
) -> VenueId:
    """Write the venue down; its seats also in JSON, `{"sections": [{"name", "rows", "seatsPerRow", "price"}]}`.

    Raises pydantic's ValidationError for a house that cannot be, asyncpg's UniqueViolationError when the id is taken.
    """
    house = (
        section_config if isinstance(section_config, SectionConfig) else SectionConfig.model_validate(section_config)
    )
    await tx.execute(
        _SQL.insert_venue,
        *(venue_id, name, address, city, house.capacity, house.model_dump_json(by_alias=True)),
        *(country, time_zone, latitude, longitude, request_hash),
    )
    await tx.execute(_SQL.insert_search_words, venue_id)
    return venue_id


async def record_venue(
    pool: Pool, venue_id: VenueId, terms: VenueTerms, *, by: UserId, request_hash: str = ""
) -> Literal["key_reused"] | None:
    """Make the venue, or find that this request has made it before (the same id, the same hash); None when it is there."""
    try:
        async with transaction(pool) as tx:
            await create_venue(tx, venue_id=venue_id, request_hash=request_hash, **vars(terms))
            await _record_deed(tx, "create_venue", venue_id, by, before=None, after=vars(terms))
    except UniqueViolationError:
        known_hash = await pool.fetchval(_SQL.find_creation, venue_id)
        return None if known_hash == request_hash else "key_reused"
    return None


async def update_venue(
    pool: Pool, venue_id: VenueId, terms: VenueTerms, *, by: UserId, if_version: int | None = None
) -> VenueNotUpdated | None:
    """Give the venue these terms, if its version is still that one; None when that is done.

    The houses of events that are there stay as they were; only where they take place is called what it is called now.
    """
    house = terms.section_config
    async with transaction(pool) as tx:
        known = await tx.fetchrow(_SQL.lock_venue, venue_id)
        if known is None:
            return "unknown"
        if if_version is not None and known["version"] != if_version:
            return "changed_meanwhile"
        await tx.execute(
            _SQL.update_venue,
            *(venue_id, terms.name, terms.address, terms.city, house.capacity, house.model_dump_json(by_alias=True)),
            *(terms.country, terms.time_zone, terms.latitude, terms.longitude),
        )
        await tx.execute(_SQL.update_search_text_of_events, venue_id)
        await tx.execute(_SQL.insert_search_words, venue_id)
        before, after = changes(vars(_terms(known)), vars(terms))
        await _record_deed(tx, "update_venue", venue_id, by, before=before, after=after)
    return None


async def find_venue(connection: Transaction, venue_id: VenueId) -> Venue | None:
    """The venue, or None."""
    record = await connection.fetchrow(_SQL.find_venue, venue_id)
    return None if record is None else _venue(record)


async def list_venues(connection: Transaction) -> list[Venue]:
    """All of them, by city and name."""
    return [_venue(record) for record in await connection.fetch(_SQL.list_venues)]


async def _record_deed(
    tx: Transaction,
    action: str,
    venue_id: VenueId,
    by: UserId,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    subject = f"venue {venue_id}"
    await record_deed(tx, user_id=by, action=action, event_id=None, subject=subject, before=before, after=after)


def _terms(record: Mapping[str, Any]) -> VenueTerms:
    house = SectionConfig.model_validate_json(record["section_config"])
    return VenueTerms(**{**{name: record[name] for name in VenueTerms.__dataclass_fields__}, "section_config": house})


def _venue(record: Mapping[str, Any]) -> Venue:
    house = SectionConfig.model_validate_json(record["section_config"])
    return Venue.model_validate({**record, "section_config": house})
