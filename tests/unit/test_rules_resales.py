"""Is a seat that its owner sells on always exactly one person's, and is he paid once?"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from consumers.event_commands.handlers import decide
from consumers.rules.after_sale import Ticket
from consumers.rules.offers import end_open_offers
from consumers.rules.sale import Order, Sale, Seat
from contracts.ids import HoldId, OrderId, ResaleId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import Done, Rejected, ResaleOffered, ResaleWithdrawn, SeatsReserved
from tests.builders import a_command_id, a_user, cancel_payment, check_out, expire, release, reserve, settle
from tests.sale_on_paper import (
    NOW,
    PRICE,
    a_completed_order,
    a_sale,
    is_saved_and_loaded,
    payment_refunded,
    replayed,
    the_time_is,
)
from tests.ticket_offers import accept, offer, resales_over, resell, take_off_sale

ASKED = Decimal("30.00")


class OnOffer:
    """A seat that its owner sells on for 30, of two he has bought for 45 each."""

    def __init__(self) -> None:
        self.sale = a_sale()
        self.event_id = self.sale.terms.event_id
        self.order = a_completed_order(self.sale)
        self.seller = self.order.user_id
        self.ticket, self.other_ticket = self.sale.tickets_of(self.order.id)
        self.seat = self.sale.seats[self.ticket.seat_id]
        command = resell(self.event_id, self.seller, self.ticket.id, price=str(ASKED))
        assert isinstance(decide(self.sale, command), ResaleOffered)
        self.resale = self.sale.resales[ResaleId(command.command_id)]

    def taken(self, buyer: UserId | None = None) -> tuple[UserId, HoldId]:
        """Somebody has it in his hands."""
        command = reserve(self.event_id, buyer or a_user(), [self.seat.id])
        reply = decide(self.sale, command)
        assert isinstance(reply, SeatsReserved), reply
        return command.user_id, HoldId(command.command_id)

    def being_paid(self) -> Order:
        """Somebody is paying for it."""
        buyer, hold_id = self.taken()
        command = check_out(self.event_id, buyer, hold_id)
        decide(self.sale, command)
        return self.sale.orders[OrderId(command.command_id)]

    def sold(self) -> Order:
        """Somebody has paid for it."""
        order = self.being_paid()
        decide(self.sale, settle(self.event_id, order.id))
        return order

    def agrees(self) -> None:
        """The ledger gives the seats as they are, and each sold seat is one live item."""
        assert replayed(self.sale.ledger, list(self.sale.seats)) == {
            seat.id: seat.status for seat in self.sale.seats.values()
        }
        live = [ticket for ticket in self.sale.tickets.values() if ticket.live]
        assert len({ticket.seat_id for ticket in live}) == len(live)
        for seat in self.sale.seats.values():
            assert not (seat.resale_id and seat.status == "sold"), "a sold seat is on offer to nobody"
            if seat.status == "sold":
                assert [t.order_id for t in live if t.seat_id == seat.id] == [seat.order_id]


@pytest.fixture
def on_offer() -> OnOffer:
    return OnOffer()


def of(seat: Seat) -> tuple[str, Decimal, bool]:
    """What a seat is, what it costs, and whether it is sold on."""
    return seat.status, seat.price, seat.resale_id is not None


# ---- offering


def test_a_seat_on_offer_is_on_sale_at_what_is_asked_and_the_ticket_is_still_its_owners(on_offer: OnOffer) -> None:
    sale, seat, ticket = on_offer.sale, on_offer.seat, on_offer.ticket
    assert of(seat) == ("available", ASKED, True)
    assert (seat.hold_id, seat.order_id) == (None, None)
    assert (ticket.user_id, ticket.is_valid, ticket.live) == (on_offer.seller, True, True)
    assert seat.id in sale.repriced_seats
    assert sale.outgoing.refunds_due == []
    (changes,) = sale.seats_changed()
    assert (seat.id, "available") in [(change.seat_id, change.status) for change in changes.changes]
    on_offer.agrees()


def test_an_offer_asked_for_twice_is_one_offer(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    command = resell(on_offer.event_id, on_offer.seller, on_offer.other_ticket.id)
    assert decide(sale, command) == decide(sale, command)
    assert len(sale.resales) == 2


def _somebody_elses(sale: Sale, ticket: Ticket) -> None:
    ticket.user_id = a_user()


def _bought_by_another(sale: Sale, ticket: Ticket) -> None:
    ticket.bought_by = a_user()


def _refunded(sale: Sale, ticket: Ticket) -> None:
    sale.end_ticket(ticket, "refunded")


def _being_refunded(sale: Sale, ticket: Ticket) -> None:
    ticket.refund_id = a_command_id()  # type: ignore[assignment]


def _used(sale: Sale, ticket: Ticket) -> None:
    ticket.checked_in_at = NOW


def _offered(sale: Sale, ticket: Ticket) -> None:
    decide(sale, offer(sale.terms.event_id, ticket.user_id, ticket.id))


def _on_sale_already(sale: Sale, ticket: Ticket) -> None:
    decide(sale, resell(sale.terms.event_id, ticket.user_id, ticket.id))


def _not_resold(sale: Sale, ticket: Ticket) -> None:
    sale.terms = replace(sale.terms, resales=False)


def _closed(sale: Sale, ticket: Ticket) -> None:
    the_time_is(sale, sale.terms.off_sale_at)


def _cancelled(sale: Sale, ticket: Ticket) -> None:
    sale.terms = replace(sale.terms, cancelled=True)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_somebody_elses, RejectionCode.TICKET_UNKNOWN),
        (_bought_by_another, RejectionCode.NOT_OFFERED),
        (_refunded, RejectionCode.TICKET_NOT_VALID),
        (_being_refunded, RejectionCode.TICKET_NOT_VALID),
        (_used, RejectionCode.TICKET_CHECKED_IN),
        (_offered, RejectionCode.TICKET_ON_OFFER),
        (_on_sale_already, RejectionCode.TICKET_ON_OFFER),
        (_not_resold, RejectionCode.RESALES_CLOSED),
        (_closed, RejectionCode.RESALES_CLOSED),
        (_cancelled, RejectionCode.RESALES_CLOSED),
    ],
)
def test_such_a_ticket_is_not_resold(state: Callable[[Sale, Ticket], None], code: RejectionCode) -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    ticket = sale.tickets_of(order.id)[0]
    state(sale, ticket)
    before = len(sale.resales)
    reply = decide(sale, resell(sale.terms.event_id, order.user_id, ticket.id))
    assert isinstance(reply, Rejected)
    assert (reply.code, len(sale.resales)) == (code, before)


@pytest.mark.parametrize(("asked", "is_offered"), [("45.00", True), ("0", True), ("45.01", False)])
def test_nobody_asks_for_more_than_it_cost(asked: str, is_offered: bool) -> None:
    sale = a_sale()
    order = a_completed_order(sale)
    ticket = sale.tickets_of(order.id)[0]
    ticket.price = PRICE
    # What the seat costs by now is another matter.
    sale.seats[ticket.seat_id].price = Decimal("99.00")
    reply = decide(sale, resell(sale.terms.event_id, order.user_id, ticket.id, price=asked))
    assert isinstance(reply, ResaleOffered) is is_offered
    if not is_offered:
        assert reply == Rejected(code=RejectionCode.RESALE_PRICE_TOO_HIGH)


# ---- somebody wants it


def test_a_hold_that_is_given_back_or_runs_out_leaves_it_on_offer(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    buyer, hold_id = on_offer.taken()
    assert sale.holds[hold_id].total == ASKED
    decide(sale, release(on_offer.event_id, buyer, hold_id))
    assert of(on_offer.seat) == ("available", ASKED, True)
    _, hold_id = on_offer.taken()
    the_time_is(sale, sale.holds[hold_id].held_until)
    decide(sale, expire(on_offer.event_id, hold_id))
    assert of(on_offer.seat) == ("available", ASKED, True)
    assert on_offer.resale.status == "open"
    on_offer.agrees()


def test_a_payment_that_comes_to_nothing_leaves_it_on_offer(on_offer: OnOffer) -> None:
    order = on_offer.being_paid()
    decide(on_offer.sale, cancel_payment(on_offer.event_id, order.id))
    assert of(on_offer.seat) == ("available", ASKED, True)
    assert on_offer.ticket.is_valid
    on_offer.agrees()


def test_sold_it_is_the_buyers_and_the_seller_is_paid_what_he_asked(on_offer: OnOffer) -> None:
    sale, ticket, resale = on_offer.sale, on_offer.ticket, on_offer.resale
    order = on_offer.being_paid()
    sale.outgoing = type(sale.outgoing)()
    decide(sale, settle(on_offer.event_id, order.id))
    (bought,) = sale.tickets_of(order.id)
    assert (bought.user_id, bought.price, bought.live) == (order.user_id, ASKED, True)
    assert of(on_offer.seat) == ("sold", PRICE, False)
    assert (ticket.is_valid, ticket.ended_because, ticket.live) == (False, "resold", False)
    (due,) = sale.outgoing.refunds_due
    assert (due.order_id, due.amount, due.refund_id) == (on_offer.order.id, ASKED, resale.refund_id)
    refund = sale.refunds[due.refund_id]
    assert (refund.kind, refund.fee_kept, list(refund.ticket_ids)) == ("resale", 0, [ticket.id])
    assert (resale.status, resale.ended_at) == ("sold", sale.now)
    (notice,) = [notice for notice in sale.outgoing.notices if notice.kind == "ticket_resold"]
    assert (notice.user_id, notice.amount, notice.subject_id) == (on_offer.seller, ASKED, resale.id)
    on_offer.agrees()


def test_the_seller_is_paid_once_however_often_the_sale_is_replayed(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    order = on_offer.sold()
    for _ in range(3):
        decide(sale, settle(on_offer.event_id, order.id))
    assert len(sale.outgoing.refunds_due) == 1
    assert len(sale.refunds) == 1


def test_when_the_sellers_money_is_back_the_seat_stays_the_buyers(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    order = on_offer.sold()
    (refund,) = sale.refunds.values()
    is_saved_and_loaded(sale)
    decide(sale, payment_refunded(on_offer.event_id, on_offer.order.id, refund.id))
    assert refund.status == "refunded"
    assert (on_offer.seat.status, on_offer.seat.order_id) == ("sold", order.id)
    assert sale.ledger == []


def test_if_the_buyers_order_dies_later_the_seat_is_on_sale_at_its_usual_price(on_offer: OnOffer) -> None:
    order = on_offer.sold()
    decide(on_offer.sale, cancel_payment(on_offer.event_id, order.id))
    assert of(on_offer.seat) == ("available", PRICE, False)
    assert on_offer.resale.status == "sold", "the seller has nothing to do with it any more"
    assert on_offer.ticket.ended_because == "resold"
    on_offer.agrees()


def test_a_seat_that_was_bought_from_a_buyer_can_be_sold_on_for_what_it_cost_him(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    order = on_offer.sold()
    (bought,) = sale.tickets_of(order.id)
    too_much = resell(on_offer.event_id, order.user_id, bought.id, price=str(PRICE))
    assert decide(sale, too_much) == Rejected(code=RejectionCode.RESALE_PRICE_TOO_HIGH)
    again = decide(sale, resell(on_offer.event_id, order.user_id, bought.id, price=str(ASKED)))
    assert isinstance(again, ResaleOffered)
    assert sale.resales[again.resale_id].usual_price == PRICE
    on_offer.agrees()


def test_whoever_buys_his_own_seat_has_it_and_his_money(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    _, hold_id = on_offer.taken(on_offer.seller)
    command = check_out(on_offer.event_id, on_offer.seller, hold_id)
    decide(sale, command)
    decide(sale, settle(on_offer.event_id, command.command_id))
    assert (on_offer.seat.status, on_offer.seat.order_id) == ("sold", command.command_id)
    assert len(sale.outgoing.refunds_due) == 1
    on_offer.agrees()


# ---- taking it back


def test_withdrawn_it_is_its_sellers_as_before(on_offer: OnOffer) -> None:
    sale, seat = on_offer.sale, on_offer.seat
    command = take_off_sale(on_offer.event_id, on_offer.seller, on_offer.resale.id)
    reply = decide(sale, command)
    assert reply == ResaleWithdrawn(resale_id=on_offer.resale.id, ticket_id=on_offer.ticket.id) == decide(sale, command)
    assert of(seat) == ("sold", PRICE, False)
    assert (seat.order_id, seat.hold_id) == (on_offer.order.id, on_offer.order.hold_id)
    assert on_offer.resale.status == "withdrawn"
    on_offer.agrees()
    assert isinstance(decide(sale, resell(on_offer.event_id, on_offer.seller, on_offer.ticket.id)), ResaleOffered)


def test_what_somebody_has_in_his_hands_is_not_withdrawn(on_offer: OnOffer) -> None:
    command = take_off_sale(on_offer.event_id, on_offer.seller, on_offer.resale.id)
    _, hold_id = on_offer.taken()
    assert decide(on_offer.sale, command) == Rejected(code=RejectionCode.RESALE_IN_CHECKOUT)
    assert (on_offer.seat.hold_id, on_offer.resale.status) == (hold_id, "open")


def test_what_is_being_paid_is_not_withdrawn_however_long_it_takes(on_offer: OnOffer) -> None:
    order = on_offer.being_paid()
    the_time_is(on_offer.sale, on_offer.sale.holds[order.hold_id].held_until)
    reply = decide(on_offer.sale, take_off_sale(on_offer.event_id, on_offer.seller, on_offer.resale.id))
    assert reply == Rejected(code=RejectionCode.RESALE_IN_CHECKOUT)


def test_a_hold_that_is_over_keeps_nobody_from_withdrawing_and_its_owner_gets_nothing(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    buyer, hold_id = on_offer.taken()
    the_time_is(sale, sale.holds[hold_id].held_until)
    reply = decide(sale, take_off_sale(on_offer.event_id, on_offer.seller, on_offer.resale.id))
    assert isinstance(reply, ResaleWithdrawn)
    decide(sale, expire(on_offer.event_id, hold_id))
    assert decide(sale, check_out(on_offer.event_id, buyer, hold_id)) == Rejected(code=RejectionCode.HOLD_EXPIRED)
    assert of(on_offer.seat) == ("sold", PRICE, False)
    on_offer.agrees()


def test_nobody_withdraws_what_another_has_offered_or_what_is_over(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    for asker, resale_id in ((a_user(), on_offer.resale.id), (on_offer.seller, a_command_id())):
        reply = decide(sale, take_off_sale(on_offer.event_id, asker, resale_id))
        assert reply == Rejected(code=RejectionCode.RESALE_UNKNOWN)
    on_offer.sold()
    reply = decide(sale, take_off_sale(on_offer.event_id, on_offer.seller, on_offer.resale.id))
    assert reply == Rejected(code=RejectionCode.RESALE_ENDED)


def test_a_ticket_on_sale_is_not_transferred_and_one_on_its_way_not_sold(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    reply = decide(sale, offer(on_offer.event_id, on_offer.seller, on_offer.ticket.id))
    assert reply == Rejected(code=RejectionCode.TICKET_ON_OFFER)
    transfer = decide(sale, offer(on_offer.event_id, on_offer.seller, on_offer.other_ticket.id))
    assert decide(sale, resell(on_offer.event_id, on_offer.seller, on_offer.other_ticket.id)) == Rejected(
        code=RejectionCode.TICKET_ON_OFFER
    )
    bob = a_user()
    decide(sale, accept(on_offer.event_id, bob, transfer.transfer_id))  # type: ignore[union-attr]
    reply = decide(sale, resell(on_offer.event_id, bob, on_offer.other_ticket.id))
    assert isinstance(reply, Rejected)
    assert reply.code is RejectionCode.NOT_OFFERED, "the money would go to whoever paid, and that was not Bob"


# ---- when it ends otherwise


def test_what_nobody_can_buy_any_more_is_its_sellers_again(on_offer: OnOffer) -> None:
    sale, hint = on_offer.sale, resales_over(on_offer.event_id, on_offer.resale.id, a_command_id())
    assert decide(sale, hint) == Done(changed=False), "the sale is open"
    the_time_is(sale, sale.terms.off_sale_at)
    assert decide(sale, hint) == Done()
    assert decide(sale, hint) == Done(changed=False)
    assert of(on_offer.seat) == ("sold", PRICE, False)
    on_offer.agrees()


def test_what_is_still_being_paid_when_the_sale_closes_is_not_taken_away(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    order = on_offer.being_paid()
    the_time_is(sale, sale.terms.off_sale_at)
    assert decide(sale, resales_over(on_offer.event_id, on_offer.resale.id)) == Done(changed=False)
    decide(sale, settle(on_offer.event_id, order.id))
    assert on_offer.resale.status == "sold"


def test_a_seller_who_was_let_in_all_the_same_keeps_his_seat(on_offer: OnOffer) -> None:
    on_offer.ticket.checked_in_at = NOW
    assert decide(on_offer.sale, resales_over(on_offer.event_id, on_offer.resale.id)) == Done()
    assert of(on_offer.seat) == ("sold", PRICE, False)


def test_an_offer_whose_order_comes_to_nothing_leaves_a_seat_of_the_houses(on_offer: OnOffer) -> None:
    decide(on_offer.sale, cancel_payment(on_offer.event_id, on_offer.order.id))
    assert of(on_offer.seat) == ("available", PRICE, False)
    assert (on_offer.resale.status, on_offer.ticket.ended_because) == ("ended", "cancelled")
    on_offer.agrees()


def test_whoever_is_paying_for_a_seat_whose_seller_has_not_paid_gets_it_all_the_same(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    order = on_offer.being_paid()
    decide(sale, cancel_payment(on_offer.event_id, on_offer.order.id))
    decide(sale, settle(on_offer.event_id, order.id))
    assert order.status == "completed"
    assert (on_offer.seat.status, on_offer.seat.order_id) == ("sold", order.id)
    assert on_offer.resale.status == "ended"
    assert sale.outgoing.refunds_due == [], "the seller has never paid, so nobody pays him"
    on_offer.agrees()


def test_of_a_cancelled_event_whoever_pays_gets_nothing_and_the_seat_is_free_afterwards(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    order = on_offer.being_paid()
    sale.terms = replace(sale.terms, cancelled=True)
    end_open_offers(sale, on_offer.ticket, a_command_id())
    assert (on_offer.resale.status, on_offer.ticket.live) == ("ended", False)
    decide(sale, settle(on_offer.event_id, order.id))
    assert order.status == "voiding"
    decide(sale, cancel_payment(on_offer.event_id, order.id))
    assert of(on_offer.seat) == ("available", PRICE, False)
    on_offer.agrees()


def test_the_books_of_a_resale_sum_to_nothing_but_what_the_tickets_cost(on_offer: OnOffer) -> None:
    sale = on_offer.sale
    on_offer.sold()
    (refund,) = sale.refunds.values()
    decide(sale, payment_refunded(on_offer.event_id, on_offer.order.id, refund.id))
    provider = sum((entry.amount for entry in sale.money if entry.debit == "provider"), Decimal(0)) - sum(
        (entry.amount for entry in sale.money if entry.credit == "provider"), Decimal(0)
    )
    assert provider == 2 * PRICE + ASKED - ASKED, "two tickets were paid, one was paid again, and that much went back"


# ---- negative controls


def test_without_the_end_of_the_sellers_item_a_seat_would_be_two_peoples(on_offer: OnOffer) -> None:
    on_offer.sold()
    on_offer.ticket.live = True  # as if `pay_sellers` had forgotten it
    with pytest.raises(AssertionError):
        on_offer.agrees()


def test_a_seat_that_is_sold_and_still_on_offer_would_be_seen(on_offer: OnOffer) -> None:
    on_offer.sold()
    on_offer.seat.resale_id = on_offer.resale.id  # as if whoever sells seats had not called `pay_sellers`
    with pytest.raises(AssertionError):
        on_offer.agrees()
