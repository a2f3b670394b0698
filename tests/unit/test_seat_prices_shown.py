"""Does a view that hears of a price show it, in every document, without reading anything?"""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from contracts.domain_events import SeatChange, SeatsChanged
from contracts.ids import EventId, SeatId
from contracts.settings import Settings
from db.seat_views import EventSeats, SaleState, SeatRecord
from ingress.seat_documents import Document, SeatDocuments
from ingress.seat_view import Heard
from ingress.seat_views import WatchedEvent

NOW = datetime(2031, 5, 1, 20, tzinfo=UTC)
AT = NOW.timestamp()


def an_event() -> EventSeats:
    """Two rows of three seats at 45.00, as they were read."""
    sale = SaleState(EventId(uuid4()), "on_sale", NOW, NOW + timedelta(days=1), 1, 7, False, NOW)
    seats = [
        SeatRecord(SeatId(uuid4()), "Stalls", row, str(number), "seat", Decimal("45.00"), "available", None)
        for row in "AB"
        for number in (1, 2, 3)
    ]
    return EventSeats(sale=sale, currency="EUR", house=None, seats=seats)


def repriced(event: EventSeats, *indexes: int, price: str = "60.00", status: str = "available") -> SeatsChanged:
    """What the engine tells of new prices: no entry of the ledger."""
    changes = tuple(SeatChange(event.seats[index].id, index, status, None, Decimal(price)) for index in indexes)
    return SeatsChanged(event_id=event.sale.event_id, first_seq=8, last_seq=7, changes=changes)


def prices_in(document: Document) -> list[str]:
    """What each seat costs, in the order of the map."""
    (section,) = json.loads(document.body)["sections"]
    return [seat["price"] for row in section["rows"] for seat in row["seats"]]


ALL_DOCUMENTS: tuple[Callable[[WatchedEvent], Awaitable[Document]], ...] = (WatchedEvent.map, WatchedEvent.seat_list)


@pytest.mark.parametrize("document", ALL_DOCUMENTS)
async def test_a_new_price_is_shown_and_the_tag_is_another(
    document: Callable[[WatchedEvent], Awaitable[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.seat_views.SHOWN_SECONDS", 0.0)
    read = an_event()
    event = WatchedEvent(read, Settings(), AT)
    before = await document(event)
    assert event.hear(repriced(read, 0, 5), AT) is Heard.APPLIED
    after = await document(event)
    assert prices_in(before) == ["45.00"] * 6
    assert prices_in(after) == ["60.00", "45.00", "45.00", "45.00", "45.00", "60.00"]
    assert after.etag != before.etag
    assert event.view.version == 7, "a price is no entry of the ledger"


async def test_a_change_without_a_price_leaves_the_documents_as_they_are() -> None:
    read = an_event()
    event = WatchedEvent(read, Settings(), AT)
    documents, map_ = event.documents, await event.map()
    sold = SeatChange(read.seats[0].id, 0, "sold")
    event.hear(SeatsChanged(event_id=read.sale.event_id, first_seq=8, last_seq=8, changes=(sold,)), AT)
    assert event.documents is documents
    assert await event.map() is map_


async def test_a_price_after_a_gap_is_not_believed() -> None:
    read = an_event()
    event = WatchedEvent(read, Settings(), AT)
    later = repriced(read, 0).model_copy(update={"first_seq": 10, "last_seq": 9})
    assert event.hear(later, AT) is Heard.GAP
    assert prices_in(await event.map()) == ["45.00"] * 6


async def test_a_price_that_is_told_while_the_seats_are_read_is_not_lost() -> None:
    read = an_event()
    event = WatchedEvent(read, Settings(), AT)
    assert event.hear_early(repriced(read, 1), AT) is Heard.APPLIED
    assert prices_in(await event.map())[:2] == ["45.00", "60.00"]


async def test_a_map_that_is_being_made_while_a_price_changes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    read = an_event()
    event = WatchedEvent(read, Settings(), AT)
    make = SeatDocuments.map

    def make_slowly(documents: SeatDocuments) -> Document:
        made = make(documents)
        event.hear(repriced(read, 0), AT)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(SeatDocuments, "map", make_slowly)
        assert prices_in(await event.map())[0] == "45.00"
    assert prices_in(await event.map())[0] == "60.00"
