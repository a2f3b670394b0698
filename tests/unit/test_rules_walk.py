"""Whatever is asked of a sale, in whatever order: is every seat accounted for after every step?"""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumers.event_commands.handlers import decide
from consumers.rules.after_sale import MoneyEntry
from consumers.rules.sale import Hold, LedgerEntry, Order, Sale
from contracts.commands import AnyCommand
from contracts.ids import HoldId, SeatId, UserId
from contracts.replies import AnyReply, Done
from tests.builders import (
    a_command_id,
    a_user,
    cancel_payment,
    check_out,
    decline,
    expire,
    extend,
    release,
    reserve,
    settle,
)
from tests.sale_on_paper import (
    a_sale,
    is_saved_and_loaded,
    live_holds,
    payment_refunded,
    refund,
    replayed,
    seat_count,
    the_time_is,
    void_payment,
)
from tests.ticket_offers import accept, offer, resell, take_off_sale

SEATS, USERS, TICKET_LIMIT, LIVE_HOLDS_MAX = 8, 3, 4, 2
SELLING = ("completed", "refunding")
SOLD = (*SELLING, "refunded")

some_seats = st.lists(st.integers(0, SEATS - 1), min_size=1, max_size=3, unique=True)
somebody = st.integers(0, USERS - 1)
whichever = st.integers(0, 1000)


class SaleOnPaper(RuleBasedStateMachine):
    """One sale in memory, asked anything by anybody."""

    @initialize()
    def open(self) -> None:
        self.sale: Sale = a_sale(seats=SEATS, ticket_limit=TICKET_LIMIT, live_holds_max=LIVE_HOLDS_MAX)
        policy = {"refund_until": self.sale.now + timedelta(hours=1), "refund_fee_rate": Decimal("0.1")}
        self.sale.terms = replace(self.sale.terms, fee_rate=Decimal("0.05"), tax_rate=Decimal("0.07"), **policy)
        self.users: list[UserId] = [a_user() for _ in range(USERS)]
        self.ledger: list[LedgerEntry] = []
        self.hands: dict[SeatId, tuple[int, HoldId | None]] = dict.fromkeys(self.sale.seats, (0, None))
        self.asked: list[AnyCommand] = []
        self.money: list[MoneyEntry] = []

    def ask(self, command: AnyCommand) -> AnyReply:
        """Decide, then save and load, as a batch of one would."""
        self.asked.append(command)
        reply = decide(self.sale, command)
        self.ledger += self.sale.ledger
        self.money += self.sale.money
        is_saved_and_loaded(self.sale)
        return reply

    @property
    def holds(self) -> list[Hold]:
        return list(self.sale.holds.values())

    @property
    def orders(self) -> list[Order]:
        return list(self.sale.orders.values())

    # ---- what may happen

    @rule(who=somebody, places=some_seats)
    def reserve(self, who: int, places: list[int]) -> None:
        in_order = list(self.sale.seats)
        self.ask(reserve(self.sale.terms.event_id, self.users[who], [in_order[place] for place in places]))

    @rule(who=somebody, places=some_seats)
    def buy(self, who: int, places: list[int]) -> None:
        self.reserve(who, places)
        hold = self.sale.holds.get(HoldId(self.asked[-1].command_id))
        if hold is not None:
            checkout = check_out(self.sale.terms.event_id, hold.user_id, hold.id)
            self.ask(checkout)
            self.ask(settle(self.sale.terms.event_id, checkout.command_id))

    @precondition(lambda self: self.sale.holds)
    @rule(who=somebody, which=whichever, what=st.sampled_from([release, extend, check_out]))
    def use_a_hold(self, who: int, which: int, what: type[object]) -> None:
        hold = self.holds[which % len(self.holds)]
        owner = hold.user_id if who else self.users[who]  # somebody else's, sometimes
        self.ask(what(self.sale.terms.event_id, owner, hold.id))

    @precondition(lambda self: self.sale.holds)
    @rule(which=whichever)
    def hint_that_a_hold_is_over(self, which: int) -> None:
        self.ask(expire(self.sale.terms.event_id, self.holds[which % len(self.holds)].id))

    @precondition(lambda self: self.sale.orders)
    @rule(
        which=whichever,
        what=st.sampled_from([settle, decline, cancel_payment, void_payment, refund]),
    )
    def hear_of_a_payment(self, which: int, what: type[object]) -> None:
        self.ask(what(self.sale.terms.event_id, self.orders[which % len(self.orders)].id))

    @precondition(lambda self: self.sale.refunds)
    @rule(which=whichever)
    def hear_of_a_refund(self, which: int) -> None:
        refunds = list(self.sale.refunds.values())
        one = refunds[which % len(refunds)]
        self.ask(payment_refunded(self.sale.terms.event_id, one.order_id, one.id))

    @precondition(lambda self: self.sale.tickets)
    @rule(
        which=whichever,
        who=somebody,
        what=st.sampled_from(["refund", "organiser", "resell", "offer", "accept", "keep"]),
    )
    def use_a_ticket(self, which: int, who: int, what: str) -> None:
        tickets, event_id = list(self.sale.tickets.values()), self.sale.terms.event_id
        ticket = tickets[which % len(tickets)]
        mine: dict[str, Any] = {"user_id": ticket.bought_by, "as_organiser": False, "ticket_ids": (ticket.id,)}
        transfer = next((one.id for one in self.sale.transfers.values() if one.ticket_id == ticket.id), a_command_id())
        resale = next((one.id for one in self.sale.resales.values() if one.ticket_id == ticket.id), a_command_id())
        commands: dict[str, AnyCommand] = {
            "refund": refund(event_id, ticket.order_id, **mine),
            "organiser": refund(event_id, ticket.order_id, ticket_ids=(ticket.id,)),
            "resell": resell(event_id, ticket.user_id, ticket.id, price="30.00"),
            "offer": offer(event_id, ticket.user_id, ticket.id),
            "accept": accept(event_id, self.users[who], transfer),
            "keep": take_off_sale(event_id, ticket.user_id, resale),
        }
        self.ask(commands[what])

    @precondition(lambda self: self.asked)
    @rule(which=whichever)
    def deliver_something_again(self, which: int) -> None:
        ledger_length = len(self.ledger)
        reply = self.ask(self.asked[which % len(self.asked)])
        assert not (reply == Done(changed=False) and len(self.ledger) > ledger_length)

    @rule(minutes=st.sampled_from([1, 5, 11]))
    def let_time_pass(self, minutes: int) -> None:
        the_time_is(self.sale, self.sale.now + timedelta(minutes=minutes))
        is_saved_and_loaded(self.sale)

    # ---- what must always hold

    @invariant()
    def every_seat_is_accounted_for(self) -> None:
        statuses = [seat.status for seat in self.sale.seats.values()]
        assert len(statuses) == SEATS
        assert set(statuses) <= {"available", "held", "sold"}
        for seat in self.sale.seats.values():
            assert (seat.status == "held") == (seat.held_until is not None)
            assert (seat.status in ("held", "sold")) == (seat.hold_id is not None)
            assert (seat.status == "sold") == (seat.order_id is not None)

    @invariant()
    def the_ledger_replays_to_the_seats(self) -> None:
        assert replayed(self.ledger, list(self.sale.seats)) == {
            seat.id: seat.status for seat in self.sale.seats.values()
        }

    @invariant()
    def a_sold_seat_is_in_exactly_one_completed_order(self) -> None:
        for seat in self.sale.seats.values():
            live = [ticket for ticket in self.sale.tickets.values() if ticket.live and ticket.seat_id == seat.id]
            open_resales = [r.id for r in self.sale.resales.values() if r.status == "open" and r.seat_id == seat.id]
            assert [seat.resale_id] == (open_resales or [None])
            if seat.resale_id is None:
                assert [t.order_id for t in live] == ([seat.order_id] if seat.status == "sold" else [])
            else:
                assert (len(live), seat.status in ("available", "held")) == (1, True)
            assert all(self.sale.orders[ticket.order_id].status in SELLING for ticket in live)

    @invariant()
    def no_ticket_is_refunded_twice_and_none_that_is_is_valid(self) -> None:
        named = [ticket_id for one in self.sale.refunds.values() for ticket_id in one.ticket_ids]
        assert len(named) == len(set(named))
        tickets = self.sale.tickets.values()
        assert {ticket.id for ticket in tickets if ticket.refund_id is not None} == set(named)
        assert not any(ticket.is_valid for ticket in tickets if ticket.refund_id is not None)

    @invariant()
    def an_order_is_what_its_refunds_make_of_it(self) -> None:
        for order in self.orders:
            if order.status in SOLD:
                refunds = [one.status for one in self.sale.refunds.values() if one.order_id == order.id]
                is_left = any(ticket.refund_id is None for ticket in self.sale.tickets_of(order.id))
                is_open = "requested" in refunds
                assert order.status == ("completed" if is_left else "refunding" if is_open else "refunded")

    @invariant()
    def the_books_say_what_the_provider_has_of_each_order(self) -> None:
        for order in self.orders:
            entries = [entry for entry in self.money if entry.order_id == order.id]
            provider = sum(e.amount for e in entries if e.debit == "provider")
            provider -= sum(e.amount for e in entries if e.credit == "provider")
            back = sum(r.amount for r in self.sale.refunds.values() if (r.order_id, r.status) == (order.id, "refunded"))
            assert provider == (order.total - back if order.status in SOLD else 0)

    @invariant()
    def the_fence_goes_up_whenever_a_seat_changes_hands_and_never_down(self) -> None:
        for seat in self.sale.seats.values():
            fence, hold_id = self.hands[seat.id]
            assert seat.fence > fence or (seat.fence == fence and seat.hold_id == hold_id)
            self.hands[seat.id] = (seat.fence, seat.hold_id)

    @invariant()
    def no_seat_is_in_two_live_holds_and_a_live_hold_has_all_its_seats(self) -> None:
        taken: set[SeatId] = set()
        for hold in self.holds:
            if hold.status == "paying" or hold.is_active(self.sale.now):
                assert not taken & set(hold.seat_ids)
                taken |= set(hold.seat_ids)
                assert self.sale.seats_of(hold) is not None

    @invariant()
    def nobody_has_more_than_the_limit(self) -> None:
        assert all(seat_count(self.sale, user_id) <= TICKET_LIMIT for user_id in self.users)
        assert all(len(live_holds(self.sale, user_id)) <= LIVE_HOLDS_MAX for user_id in self.users)

    @invariant()
    def a_hold_and_its_order_tell_the_same_story(self) -> None:
        for hold in self.holds:
            live = [order.status for order in self.orders if order.hold_id == hold.id and order.is_live]
            assert len(live) <= 1
            expected = {"paying": ["pending", "voiding"], "converted": [*SOLD]}.get(hold.status)
            assert (live and live[0] in expected) if expected else not live, (hold.status, live)


TestSaleOnPaper = SaleOnPaper.TestCase
TestSaleOnPaper.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
