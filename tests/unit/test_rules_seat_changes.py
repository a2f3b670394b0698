"""What is everybody who looks at the seats told of a transaction?"""

from datetime import timedelta

import pytest

from consumers.event_commands.handlers import decide
from consumers.rules import sale as rules
from consumers.rules.checkouts import WHILE_PAYING
from consumers.rules.sale import Sale
from contracts.domain_events import SeatChange, SeatsChanged
from contracts.wire import decode_domain_event, encode_domain_event
from tests.builders import a_user, decline, expire, extend, release, reserve, settle
from tests.sale_on_paper import (
    GRACE,
    HOLD,
    NOW,
    a_hold,
    a_pending_order,
    a_sale,
    is_saved_and_loaded,
    seat_ids_of,
    the_time_is,
)


def told(sale: Sale) -> SeatsChanged:
    """The one message of this transaction, as it comes out of the queue."""
    (message,) = sale.seats_changed()
    read = decode_domain_event(encode_domain_event(message))
    assert isinstance(read, SeatsChanged)
    return read


def changes(message: SeatsChanged) -> list[tuple[int, str, object]]:
    return [(change.seat_index, change.status, change.held_until) for change in message.changes]


def test_a_hold_is_told_with_its_end_and_its_place_in_the_ledger() -> None:
    sale = a_sale()
    sale.ledger_seq = 41
    hold = a_hold(sale, None, 2, 0)
    message = told(sale)
    assert (message.first_seq, message.last_seq) == (42, 43)
    assert message.changes == tuple(
        SeatChange(seat_id, i, "held", NOW + HOLD) for seat_id, i in zip(hold.seat_ids, (2, 0), strict=True)
    )


def test_a_seat_that_changed_twice_is_told_once_as_what_it_has_become() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user, 0)
    decide(sale, release(sale.terms.event_id, user, hold.id))
    message = told(sale)
    assert changes(message) == [(0, "available", None)]
    assert (message.first_seq, message.last_seq) == (1, 2)


def test_seats_taken_from_an_expired_hold_are_told_with_the_end_of_the_new_one() -> None:
    sale = a_sale()
    late = a_hold(sale, None, 0)
    is_saved_and_loaded(sale)
    the_time_is(sale, late.held_until)
    a_hold(sale, None, 0)
    message = told(sale)
    assert changes(message) == [(0, "held", NOW + 2 * HOLD)]
    assert (message.first_seq, message.last_seq) == (2, 3)


def test_an_extension_is_told_although_it_is_no_entry_of_the_ledger() -> None:
    sale, user = a_sale(), a_user()
    hold = a_hold(sale, user, 0)
    is_saved_and_loaded(sale)
    the_time_is(sale, NOW + timedelta(minutes=4))
    decide(sale, extend(sale.terms.event_id, user, hold.id))
    message = told(sale)
    assert changes(message) == [(0, "held", NOW + timedelta(minutes=4) + HOLD)]
    assert (message.first_seq, message.last_seq) == (2, 1)


def test_while_it_is_paid_for_a_seat_is_held_without_an_end_and_after_a_decline_for_a_moment() -> None:
    sale = a_sale()
    order = a_pending_order(sale, None, 0)
    assert changes(told(sale)) == [(0, "held", WHILE_PAYING)]
    is_saved_and_loaded(sale)
    the_time_is(sale, NOW + HOLD)
    decide(sale, decline(sale.terms.event_id, order.id))
    message = told(sale)
    assert changes(message) == [(0, "held", NOW + HOLD + GRACE)]
    assert message.first_seq == message.last_seq + 1


def test_a_sold_seat_has_no_end() -> None:
    sale = a_sale()
    order = a_pending_order(sale, None, 0)
    is_saved_and_loaded(sale)
    decide(sale, settle(sale.terms.event_id, order.id))
    assert changes(told(sale)) == [(0, "sold", None)]


@pytest.mark.parametrize("what", ["refused", "said before", "nothing over"])
def test_nothing_is_told_when_nothing_has_changed(what: str) -> None:
    sale, user = a_sale(ticket_limit=2), a_user()
    command = reserve(sale.terms.event_id, user, seat_ids_of(sale, 0, 1))
    decide(sale, command)
    is_saved_and_loaded(sale)
    again = {
        "refused": reserve(sale.terms.event_id, user, seat_ids_of(sale, 2)),
        "said before": command,
        "nothing over": expire(sale.terms.event_id, command.command_id),
    }
    decide(sale, again[what])
    assert list(sale.seats_changed()) == []


def test_more_changes_than_a_message_holds_follow_as_changes_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "CHANGES_PER_MESSAGE_MAX", 2)
    sale = a_sale(ticket_limit=5)
    a_hold(sale, None, 0, 1, 2, 3, 4)
    messages = list(sale.seats_changed())
    assert [(message.first_seq, message.last_seq) for message in messages] == [(1, 5), (6, 5), (6, 5)]
    assert [change.seat_index for message in messages for change in message.changes] == [0, 1, 2, 3, 4]
