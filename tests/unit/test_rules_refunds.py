"""When does money go back, to whom, how much of it, and when are the seats free?"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic_core import from_json

from consumers.event_commands.handlers import decide
from consumers.rules.after_sale import MoneyEntry, Refund, Ticket
from consumers.rules.money import share_of
from consumers.rules.refunds import start_refund
from consumers.rules.sale import Order, Sale
from contracts.commands import AnyCommand, OfferResale, OfferTransfer
from contracts.ids import RefundId, ResaleId, TicketId, TransferId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, RefundStarted, Rejected
from tests.builders import a_command_id, a_user, cancel_payment, decline
from tests.sale_on_paper import (
    NOW,
    PRICE,
    a_completed_order,
    a_hold,
    a_pending_order,
    a_sale,
    is_saved_and_loaded,
    payment_refunded,
    refund,
    statuses_of,
    the_time_is,
    void_payment,
)

FEE_RATE = Decimal("0.1")


def a_refundable_sale(**terms: Any) -> Sale:
    """A sale whose buyers may give tickets back until tomorrow, for a tenth of the price; tax and a fee are in that."""
    sale = a_sale()
    policy = {"refund_until": NOW + timedelta(days=1), "refund_fee_rate": FEE_RATE, **terms}
    sale.terms = replace(sale.terms, tax_rate=Decimal("0.07"), fee_rate=Decimal("0.05"), **policy)
    return sale


def ask(sale: Sale, order: Order, **fields: Any) -> AnyReply:
    """The buyer asks for a refund."""
    asked = {"user_id": order.user_id, "as_organiser": False, **fields}
    return decide(sale, refund(sale.terms.event_id, order.id, **asked))


def started(reply: AnyReply) -> RefundStarted:
    assert isinstance(reply, RefundStarted), reply
    return reply


def code_of(reply: AnyReply) -> RejectionCode:
    assert isinstance(reply, Rejected), reply
    return reply.code


def is_back(sale: Sale, refund_id: RefundId) -> AnyReply:
    """The provider has given the money back."""
    return decide(sale, payment_refunded(sale.terms.event_id, sale.refunds[refund_id].order_id, refund_id))


def tickets_of(sale: Sale, order: Order) -> list[Ticket]:
    return sorted(sale.tickets_of(order.id), key=lambda ticket: list(sale.seats).index(ticket.seat_id))


def balances(entries: list[MoneyEntry]) -> dict[str, Decimal]:
    """What each account is worth; they always sum to zero."""
    accounts: defaultdict[str, Decimal] = defaultdict(Decimal)
    for entry in entries:
        accounts[entry.debit] += entry.amount
        accounts[entry.credit] -= entry.amount
    assert sum(accounts.values()) == 0
    return {account: amount for account, amount in accounts.items() if amount}


# ---- the whole order


def test_the_tickets_are_void_at_once_and_the_seats_stay_sold_until_the_money_is_back() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    reply = started(ask(sale, order))
    assert (reply.amount, reply.fee_kept, reply.currency) == (Decimal("81.00"), Decimal("9.00"), "EUR")
    assert order.status == "refunding"
    assert {(t.status, t.ended_because, t.live) for t in tickets_of(sale, order)} == {("void", "refunded", True)}
    assert statuses_of(sale)[:2] == ["sold", "sold"]
    (due,) = sale.outgoing.refunds_due
    assert (due.refund_id, due.amount, due.provider_key) == (reply.refund_id, reply.amount, f"refund:{reply.refund_id}")
    assert due.intent_id == order.intent_id


def test_when_the_money_is_back_the_seats_are_on_sale_again() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    reply = started(ask(sale, order))
    assert is_back(sale, reply.refund_id) == Done()
    # Something was kept, so the provider has not given everything back.
    assert (order.status, order.payment_status) == ("refunded", "authorized")
    assert sale.unsold_orders == [order]
    assert set(statuses_of(sale)) == {"available"}


def test_an_organiser_gives_everything_back() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    reply = started(decide(sale, refund(sale.terms.event_id, order.id)))
    assert (reply.amount, reply.fee_kept) == (2 * PRICE, 0)
    is_back(sale, reply.refund_id)
    assert (order.status, order.payment_status) == ("refunded", "refunded")


def test_an_organisers_refund_is_written_into_the_audit_log_and_a_buyers_is_not() -> None:
    sale = a_refundable_sale()
    mine, his = a_completed_order(sale, None, 0), a_completed_order(sale, None, 1)
    ask(sale, mine)
    assert sale.audits == []
    command = refund(sale.terms.event_id, his.id, reason="a complaint")
    decide(sale, command)
    (audit,) = sale.audits
    assert (audit.user_id, audit.action, audit.subject) == (command.user_id, "refund_order", f"order {his.id}")
    assert from_json(audit.after or "")["reason"] == "a complaint"


def test_the_buyer_is_told_that_the_money_is_on_its_way() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    reply = started(ask(sale, order))
    (notice,) = sale.outgoing.notices
    assert (notice.kind, notice.subject_id, notice.user_id) == ("refund_started", reply.refund_id, order.user_id)
    assert (notice.amount, notice.ticket_ids) == (reply.amount, reply.ticket_ids)


# ---- once


def test_a_refund_delivered_again_is_answered_the_same_and_asked_of_the_provider_once() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    command = refund(sale.terms.event_id, order.id, user_id=order.user_id, as_organiser=False)
    first = decide(sale, command)
    assert decide(sale, command) == first
    # The answers are thrown away after some days; the refund itself is not.
    sale.answered.clear()
    assert decide(sale, command) == first
    assert len(sale.outgoing.refunds_due) == 1


def test_nothing_is_refunded_twice() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    reply = started(ask(sale, order))
    one = reply.ticket_ids[:1]
    assert code_of(ask(sale, order)) is RejectionCode.ORDER_NOT_REFUNDABLE
    assert code_of(ask(sale, order, ticket_ids=one)) is RejectionCode.TICKET_NOT_VALID
    assert code_of(ask(sale, order, ticket_ids=one, as_organiser=True)) is RejectionCode.TICKET_NOT_VALID
    is_back(sale, reply.refund_id)
    assert code_of(ask(sale, order)) is RejectionCode.ORDER_NOT_REFUNDABLE
    assert is_back(sale, reply.refund_id) == Done(changed=False)
    assert len(sale.outgoing.refunds_due) == 1
    assert balances(sale.money) == {"provider": Decimal("9.00"), "refund_fees": Decimal("-9.00")}


def test_money_that_comes_back_unasked_frees_nothing() -> None:
    sale = a_refundable_sale()
    order, other = a_completed_order(sale, None, 0), a_completed_order(sale, None, 1)
    reply = started(ask(sale, order))
    event_id = sale.terms.event_id
    for command in (
        payment_refunded(event_id, order.id, uuid4()),
        payment_refunded(event_id, other.id, reply.refund_id),
        payment_refunded(event_id, a_command_id(), a_command_id()),
    ):
        assert decide(sale, command) == Done(changed=False)
    assert statuses_of(sale)[:2] == ["sold", "sold"]


# ---- single tickets


def test_a_single_ticket_is_refunded_and_the_other_one_is_not() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    first, second = tickets_of(sale, order)
    reply = started(ask(sale, order, ticket_ids=(first.id, first.id)))
    assert (reply.ticket_ids, reply.amount) == ((first.id,), Decimal("40.50"))
    assert (order.status, first.status, second.status) == ("completed", "void", "valid")
    is_back(sale, reply.refund_id)
    assert statuses_of(sale)[:2] == ["available", "sold"]
    assert (order.status, order.payment_status) == ("completed", "authorized")


def test_ticket_by_ticket_an_order_is_refunded_in_the_end() -> None:
    sale = a_refundable_sale(refund_fee_rate=Decimal(0))
    order = a_completed_order(sale)
    first, second = tickets_of(sale, order)
    one = started(ask(sale, order, ticket_ids=(first.id,)))
    two = started(ask(sale, order))
    assert two.ticket_ids == (second.id,), "whatever is left"
    assert order.status == "refunding"
    is_back(sale, two.refund_id)
    assert (order.status, statuses_of(sale)[:2]) == ("refunding", ["sold", "available"])
    is_back(sale, one.refund_id)
    assert (order.status, order.payment_status) == ("refunded", "refunded")
    assert balances(sale.money) == {}


def test_a_ticket_of_another_order_is_not_known() -> None:
    sale = a_refundable_sale()
    order, other = a_completed_order(sale, None, 0), a_completed_order(sale, None, 1)
    (foreign,) = tickets_of(sale, other)
    for ticket_id in (foreign.id, TicketId(uuid4())):
        assert code_of(ask(sale, order, ticket_ids=(ticket_id,))) is RejectionCode.TICKET_UNKNOWN
    assert sale.refunds == {}


# ---- whose, and when


def test_somebody_elses_order_is_as_unknown_as_none() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    assert ask(sale, order, user_id=a_user()) == Rejected(code=RejectionCode.ORDER_UNKNOWN)
    assert decide(sale, refund(sale.terms.event_id, a_command_id())) == Rejected(code=RejectionCode.ORDER_UNKNOWN)


@pytest.mark.parametrize("step", [None, decline, cancel_payment, void_payment])
def test_what_was_never_completed_is_not_refunded(step: Callable[..., AnyCommand] | None) -> None:
    sale = a_refundable_sale()
    order = a_pending_order(sale)
    if step is not None:
        decide(sale, step(sale.terms.event_id, order.id))
    reply = decide(sale, refund(sale.terms.event_id, order.id))
    assert reply == Rejected(code=RejectionCode.ORDER_NOT_REFUNDABLE, order_id=order.id)


def test_the_deadline_is_the_buyers_and_not_the_organisers() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    assert sale.terms.refund_until is not None
    the_time_is(sale, sale.terms.refund_until)
    assert code_of(ask(sale, order)) is RejectionCode.REFUNDS_CLOSED
    the_time_is(sale, sale.terms.refund_until - timedelta(microseconds=1))
    started(ask(sale, order))
    never = a_refundable_sale(refund_until=None)
    order = a_completed_order(never)
    assert code_of(ask(never, order)) is RejectionCode.REFUNDS_CLOSED
    started(ask(never, order, as_organiser=True))


def test_of_a_cancelled_event_nobody_gives_tickets_back_for_a_fee() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    sale.terms = replace(sale.terms, cancelled=True)
    assert code_of(ask(sale, order)) is RejectionCode.EVENT_CANCELLED


def test_a_ticket_that_let_somebody_in_is_the_organisers_to_refund() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    tickets_of(sale, order)[0].checked_in_at = NOW
    assert code_of(ask(sale, order)) is RejectionCode.TICKET_CHECKED_IN
    assert sale.refunds == {}, "all or none"
    started(ask(sale, order, ticket_ids=(tickets_of(sale, order)[1].id,)))
    started(ask(sale, order, as_organiser=True))
    assert order.status == "refunding"


def test_a_ticket_that_is_somebody_elses_now_is_not_the_buyers_to_refund() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    away, mine = tickets_of(sale, order)
    away.user_id = a_user()
    assert code_of(ask(sale, order, ticket_ids=(away.id,))) is RejectionCode.TICKET_NOT_VALID
    assert started(ask(sale, order)).ticket_ids == (mine.id,), "what is left to him"
    assert code_of(ask(sale, order)) is RejectionCode.ORDER_NOT_REFUNDABLE
    # An organiser gives the money back to who paid, whoever has the ticket.
    assert started(ask(sale, order, as_organiser=True)).ticket_ids == (away.id,)


# ---- on offer to others


def is_offered(sale: Sale, ticket: Ticket) -> TransferId:
    command = an_offer_of_transfer(sale, ticket)
    assert not isinstance(decide(sale, command), Rejected)
    return TransferId(command.command_id)


def an_offer_of_transfer(sale: Sale, ticket: Ticket) -> AnyCommand:
    return OfferTransfer(
        command_id=a_command_id(),
        event_id=sale.terms.event_id,
        user_id=ticket.user_id,
        ticket_id=ticket.id,
        to_email="friend@example.org",
    )


def is_resold(sale: Sale, ticket: Ticket, price: Decimal = PRICE) -> ResaleId:
    command = OfferResale(
        command_id=a_command_id(),
        event_id=sale.terms.event_id,
        user_id=ticket.user_id,
        ticket_id=ticket.id,
        price=price,
    )
    reply = decide(sale, command)
    assert not isinstance(reply, Rejected), reply
    return ResaleId(command.command_id)


def test_a_ticket_on_offer_is_not_given_back_before_the_offer_is_withdrawn() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    offered, resold = tickets_of(sale, order)
    is_offered(sale, offered)
    is_resold(sale, resold)
    for ticket in (offered, resold):
        assert code_of(ask(sale, order, ticket_ids=(ticket.id,))) is RejectionCode.TICKET_ON_OFFER


def test_an_organisers_refund_ends_the_offers() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    offered, resold = tickets_of(sale, order)
    transfer_id, resale_id = is_offered(sale, offered), is_resold(sale, resold)
    reply = started(ask(sale, order, as_organiser=True))
    assert sale.transfers[transfer_id].status != "offered"
    assert sale.resales[resale_id].status == "ended"
    assert statuses_of(sale)[:2] == ["sold", "sold"], "the seat is the ticket's again until the money is back"
    is_back(sale, reply.refund_id)
    assert set(statuses_of(sale)) == {"available"}


def test_a_seat_that_somebody_is_about_to_buy_keeps_its_sellers_refund_waiting() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    resold = tickets_of(sale, order)[1]
    is_resold(sale, resold)
    hold = a_hold(sale, None, 1)
    assert code_of(ask(sale, order, as_organiser=True)) is RejectionCode.RESALE_IN_CHECKOUT
    the_time_is(sale, hold.held_until)
    started(ask(sale, order, as_organiser=True))


# ---- the amounts


@pytest.mark.parametrize(
    ("price", "rate", "currency", "kept"),
    [
        ("45.00", "0.1", "EUR", "4.50"),
        ("45.05", "0.1", "EUR", "4.51"),
        ("33.33", "0.333", "EUR", "11.10"),
        ("1250", "0.1", "JPY", "125"),
        ("1255", "0.1", "JPY", "126"),
        ("45.00", "1", "EUR", "45.00"),
        ("45.00", "0", "EUR", "0"),
        ("0.01", "0.9", "EUR", "0.01"),
    ],
)
def test_what_is_kept_is_a_share_rounded_to_the_smallest_unit(price: str, rate: str, currency: str, kept: str) -> None:
    assert share_of(Decimal(price), Decimal(rate), currency) == Decimal(kept)


@pytest.mark.parametrize("rate", ["0", "0.07", "0.333", "1"])
def test_what_is_kept_and_what_goes_back_is_what_was_paid(rate: str) -> None:
    sale = a_refundable_sale(refund_fee_rate=Decimal(rate))
    order = a_completed_order(sale)
    reply = started(ask(sale, order))
    assert reply.amount + reply.fee_kept == order.total


def test_where_nothing_goes_back_it_is_back_at_once() -> None:
    sale = a_refundable_sale(refund_fee_rate=Decimal(1))
    order = a_completed_order(sale)
    reply = started(ask(sale, order))
    assert (reply.amount, reply.fee_kept) == (0, order.total)
    assert sale.outgoing.refunds_due == []
    assert (order.status, set(statuses_of(sale))) == ("refunded", {"available"})
    # The provider has yet to collect it.
    assert order.payment_status == "authorized"
    assert balances(sale.money) == {"provider": order.total, "refund_fees": -order.total}


# ---- the books


def test_a_sale_is_posted_by_what_was_paid_for() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    # Of 45.00 tax is 2.94, and 5 % of the rest are 2.10.
    assert balances(sale.money) == {
        "provider": Decimal("90.00"),
        "tickets": Decimal("-79.92"),
        "fees": Decimal("-4.20"),
        "tax": Decimal("-5.88"),
    }
    assert {entry.order_id for entry in sale.money} == {order.id}


def test_a_refund_takes_back_what_was_posted_but_for_what_is_kept() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    sold = balances(sale.money)
    first = tickets_of(sale, order)[0]
    reply = started(ask(sale, order, ticket_ids=(first.id,)))
    assert balances(sale.money) == sold, "not before the money is back"
    is_back(sale, reply.refund_id)
    assert balances(sale.money) == {
        "provider": Decimal("49.50"),
        "tickets": Decimal("-39.96"),
        "fees": Decimal("-2.10"),
        "tax": Decimal("-2.94"),
        "refund_fees": Decimal("-4.50"),
    }


def test_nothing_is_posted_for_what_costs_nothing() -> None:
    sale = a_refundable_sale()
    for seat in sale.seats.values():
        seat.price = Decimal("0.00")
    order = a_completed_free_order(sale)
    assert sale.money == []
    reply = started(ask(sale, order))
    assert (reply.amount, order.status) == (0, "refunded")
    assert sale.money == []
    assert set(statuses_of(sale)) == {"available"}


def a_completed_free_order(sale: Sale) -> Order:
    order = a_pending_order(sale)
    assert order.status == "completed"
    return order


# ---- a payment that dies after the sale (T6)


def test_an_authorisation_that_dies_takes_everything_back() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    transfer_id = is_offered(sale, tickets_of(sale, order)[0])
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    assert (order.status, order.payment_status) == ("cancelled", "canceled")
    assert balances(sale.money) == {}
    assert set(statuses_of(sale)) == {"available"}
    assert sale.transfers[transfer_id].status != "offered"


@pytest.mark.parametrize("whole", [True, False])
def test_an_authorisation_that_dies_while_money_goes_back_ends_the_refund_too(whole: bool) -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    tickets = tickets_of(sale, order)
    reply = started(ask(sale, order, ticket_ids=() if whole else (tickets[0].id,)))
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    assert (order.status, sale.refunds[reply.refund_id].status) == ("cancelled", "refunded")
    assert {ticket.status for ticket in tickets} == {"void"}
    assert set(statuses_of(sale)) == {"available"}
    assert balances(sale.money) == {}
    assert is_back(sale, reply.refund_id) == Done(changed=False)


def test_what_was_kept_is_lost_when_the_authorisation_dies_before_it_was_collected() -> None:
    sale = a_refundable_sale(refund_fee_rate=Decimal(1))
    order = a_completed_order(sale)
    ask(sale, order)
    decide(sale, cancel_payment(sale.terms.event_id, order.id))
    assert order.status == "cancelled"
    assert balances(sale.money) == {}


def test_an_order_that_was_collected_and_given_back_does_not_die() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    order.payment_status = "captured"
    reply = started(ask(sale, order, as_organiser=True))
    is_back(sale, reply.refund_id)
    assert decide(sale, cancel_payment(sale.terms.event_id, order.id)) == Done(changed=False)
    assert order.status == "refunded"


# ---- a seat that was sold on


def test_a_sellers_refund_frees_no_seat() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    sold_on, kept = tickets_of(sale, order)
    is_saved_and_loaded(sale)
    back: Refund = start_refund(
        sale,
        order,
        [sold_on],
        refund_id=RefundId(uuid4()),
        kind="resale",
        amount=Decimal("30.00"),
        requested_by=order.user_id,
        command_id=a_command_id(),
    )
    assert (sold_on.status, sold_on.ended_because, sold_on.live) == ("void", "resold", False)
    seats = statuses_of(sale)
    is_back(sale, back.id)
    assert statuses_of(sale) == seats
    assert sale.unsold_orders == []
    # What the seller did not ask for stays with the house.
    assert balances(sale.money)["provider"] == Decimal("-30.00")
    assert balances(sale.money)["refund_fees"] == Decimal("-15.00")
    assert (order.status, kept.status) == ("completed", "valid")


def test_what_is_refunded_counts_no_longer_against_the_limit() -> None:
    sale = a_refundable_sale()
    order = a_completed_order(sale)
    is_saved_and_loaded(sale)
    before = sale.seat_count_of(order.user_id)
    reply = started(ask(sale, order))
    assert sale.seat_count_of(order.user_id) == before - 2, "a void ticket lets nobody in"
    is_back(sale, reply.refund_id)
    assert sale.seat_count_of(order.user_id) == before - 2, "and is counted once"
