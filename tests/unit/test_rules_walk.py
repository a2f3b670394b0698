"""Whatever is asked of a sale, in whatever order: is every seat accounted for after every step?"""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumers.event_commands.handlers import decide
from consumers.rules.sale import Hold, LedgerEntry, Order, Sale
from contracts.commands import AnyCommand
from contracts.ids import HoldId, SeatId, UserId
from contracts.replies import AnyReply, Done
from tests.builders import a_user, cancel_payment, check_out, decline, expire, extend, release, reserve, settle
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

SEATS, USERS, TICKET_LIMIT, LIVE_HOLDS_MAX = 8, 3, 4, 2
SELLING = ("completed", "refunding")

some_seats = st.lists(st.integers(0, SEATS - 1), min_size=1, max_size=3, unique=True)
somebody = st.integers(0, USERS - 1)
whichever = st.integers(0, 1000)


class SaleOnPaper(RuleBasedStateMachine):
    """One sale in memory, asked anything by anybody."""

    @initialize()
    def open(self) -> None:
        self.sale: Sale = a_sale(seats=SEATS, ticket_limit=TICKET_LIMIT, live_holds_max=LIVE_HOLDS_MAX)
        self.users: list[UserId] = [a_user() for _ in range(USERS)]
        self.ledger: list[LedgerEntry] = []
        self.hands: dict[SeatId, tuple[int, HoldId | None]] = dict.fromkeys(self.sale.seats, (0, None))
        self.asked: list[AnyCommand] = []
        self.items: dict[SeatId, list[Order]] = {}

    def ask(self, command: AnyCommand) -> AnyReply:
        """Decide, then save and load, as a batch of one would."""
        self.asked.append(command)
        reply = decide(self.sale, command)
        self.ledger += self.sale.ledger
        for order in self.sale.unsold_orders:
            self.items = {seat: [o for o in live if o is not order] for seat, live in self.items.items()}
        for order, seats in self.sale.sold_orders:
            for seat in seats:
                self.items.setdefault(seat.id, []).append(order)
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
        what=st.sampled_from([settle, decline, cancel_payment, void_payment, refund, payment_refunded]),
    )
    def hear_of_a_payment(self, which: int, what: type[object]) -> None:
        self.ask(what(self.sale.terms.event_id, self.orders[which % len(self.orders)].id))

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
            live = self.items.get(seat.id, [])
            assert [order.id for order in live] == ([seat.order_id] if seat.status == "sold" else [])
            assert all(order.status in SELLING for order in live)

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
            expected = {"paying": ["pending", "voiding"], "converted": [*SELLING, "refunded"]}.get(hold.status)
            assert (live and live[0] in expected) if expected else not live, (hold.status, live)


TestSaleOnPaper = SaleOnPaper.TestCase
TestSaleOnPaper.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
