"""Do seats that are freed go to those who wait for them, in their order, on real servers?"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import consumers.event_commands.waiting_list as serving
from consumers.rules import waiting_list as rules
from consumers.rules.sale import Sale, Seat
from contracts.commands import JoinWaitingList, LeaveWaitingList
from contracts.domain_events import NoticesDue
from contracts.ids import HoldId, OrderId, SeatId, UserId
from contracts.replies import AnyReply, Rejected, SeatsReserved, WaitingListJoined, WaitingListLeft
from contracts.wire import decode_domain_event
from tests.builders import (
    OnSale,
    a_command_id,
    a_user,
    cancel_payment,
    check_out,
    expire,
    rejected_as,
    release,
    reserve,
    settle,
)
from tests.conftest import AnEvent

ROW = [{"name": "Stalls", "rows": 1, "seatsPerRow": 6, "price": "45.00"}]


@pytest.fixture
async def full(an_event: AnEvent) -> OnSale:
    """An event of six seats in a row, all of them sold but the last two, which are held."""
    sale = await an_event(sections=ROW)
    await sale.buy(a_user(), sale.seats[:4])
    return sale


async def join(sale: OnSale, user: UserId, seat_count: int = 1, **fields: Any) -> AnyReply:
    """Stand on the list."""
    return await sale.ask_one(joining(sale, user, seat_count, **fields))


def joining(sale: OnSale, user: UserId, seat_count: int = 1, **fields: Any) -> JoinWaitingList:
    id_ = a_command_id()
    defaults = {"command_id": id_, "correlation_id": id_, "event_id": sale.event_id}
    return JoinWaitingList(**{**defaults, **fields}, user_id=user, seat_count=seat_count)


async def leave(sale: OnSale, user: UserId) -> AnyReply:
    id_ = a_command_id()
    return await sale.ask_one(
        LeaveWaitingList(command_id=id_, correlation_id=id_, event_id=sale.event_id, user_id=user)
    )


async def place_of(sale: OnSale, user: UserId) -> Any:
    """The user's place, as stored, with the hold that was offered."""
    return await sale.pool.fetchrow(
        "SELECT w.status, w.position, w.hold_id, h.seat_ids, h.held_until - now() > interval '25 minutes' AS is_long"
        "  FROM waiting_list w LEFT JOIN holds h ON h.event_id = w.event_id AND h.id = w.hold_id"
        " WHERE w.event_id = $1 AND w.user_id = $2 ORDER BY w.position DESC LIMIT 1",
        sale.event_id,
        user,
    )


async def notices(sale: OnSale, kind: str) -> list[Any]:
    """Whom the mailer owes a mail of that kind."""
    records = await sale.pool.fetch("SELECT body FROM outbox WHERE type = 'notices_due' ORDER BY id")
    messages = [decode_domain_event(record["body"]) for record in records]
    due = [one for one in messages if isinstance(one, NoticesDue) and one.event_id == sale.event_id]
    return [notice for one in due for notice in one.notices if notice.kind == kind]


async def test_a_seat_that_is_given_back_is_held_for_who_came_first(full: OnSale) -> None:
    holder, first, second = a_user(), a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    assert isinstance(await join(full, first), WaitingListJoined)
    assert isinstance(await join(full, second), WaitingListJoined)
    await full.run(release(full.event_id, holder, hold.hold_id))
    of_first, of_second = await place_of(full, first), await place_of(full, second)
    assert (of_first["status"], of_first["seat_ids"], of_first["is_long"]) == ("offered", [full.seats[4]], True)
    assert (of_second["status"], of_second["seat_ids"]) == ("offered", [full.seats[5]])
    assert [notice.user_id for notice in await notices(full, "waiting_list_offer")] == [first, second]
    await full.ledger_agrees_with_seats()


async def test_an_offer_is_bought_like_any_hold(full: OnSale) -> None:
    holder, waiting = a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    await join(full, waiting, 2)
    await full.run(release(full.event_id, holder, hold.hold_id))
    checkout = check_out(full.event_id, waiting, (await place_of(full, waiting))["hold_id"])
    await full.run(checkout)
    await full.run(settle(full.event_id, checkout.command_id))
    assert await full.status_of("orders", checkout.command_id) == "completed"
    assert (await place_of(full, waiting))["status"] == "bought"
    await full.ledger_agrees_with_seats()


async def test_an_offer_that_runs_out_is_the_next_ones(full: OnSale) -> None:
    holder, first, second = a_user(), a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    await join(full, first, 2)
    await join(full, second, 2)
    await full.run(release(full.event_id, holder, hold.hold_id))
    offered = HoldId((await place_of(full, first))["hold_id"])
    await full.end_holds_now(offered)
    await full.run(expire(full.event_id, offered))
    assert (await place_of(full, first))["status"] == "lapsed"
    assert (await place_of(full, second))["status"] == "offered"
    await full.ledger_agrees_with_seats()


async def test_whom_the_seats_do_not_serve_is_passed_over_and_keeps_the_place(full: OnSale) -> None:
    holder, family, single = a_user(), a_user(), a_user()
    one, other = await full.hold(holder, full.seats[4:5]), await full.hold(holder, full.seats[5:6])
    await join(full, family, 2)
    await join(full, single, 1)
    await full.run(release(full.event_id, holder, one.hold_id))
    assert (await place_of(full, family))["status"] == "waiting"
    assert (await place_of(full, single))["status"] == "offered"
    await full.run(release(full.event_id, holder, other.hold_id))
    assert (await place_of(full, family))["status"] == "waiting", "one seat does not serve two"


async def test_nobody_passes_the_list_by_asking_in_the_moment_a_seat_is_freed(full: OnSale) -> None:
    holder, waiting, quick = a_user(), a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    await join(full, waiting, 2)
    answers = await full.ask(
        release(full.event_id, holder, hold.hold_id), reserve(full.event_id, quick, full.seats[4:6])
    )
    assert rejected_as(answers) == ["seats_unavailable"]
    assert (await place_of(full, waiting))["status"] == "offered"


async def test_without_the_guard_the_quick_one_takes_the_seat(full: OnSale, monkeypatch: pytest.MonkeyPatch) -> None:
    def anybody_may(sale: Sale, seat: Seat) -> bool:
        return seat.is_available(sale.now)

    monkeypatch.setattr(Sale, "may_be_reserved", anybody_may)
    holder, waiting, quick = a_user(), a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    await join(full, waiting, 2)
    await full.end_holds_now(hold.hold_id)
    assert isinstance(await full.reserve(quick, full.seats[4:6]), SeatsReserved), (
        "the guard is what the next test needs"
    )
    assert (await place_of(full, waiting))["status"] == "waiting"


async def test_a_hold_that_ran_out_is_not_snatched_from_the_list(full: OnSale) -> None:
    holder, waiting, quick = a_user(), a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    await join(full, waiting, 2)
    await full.end_holds_now(hold.hold_id)
    assert isinstance(await full.reserve(quick, full.seats[4:6]), Rejected)
    await full.run(expire(full.event_id, hold.hold_id))
    assert (await place_of(full, waiting))["status"] == "offered"


async def test_what_serves_nobody_on_the_list_is_everybodys(full: OnSale) -> None:
    holder, waiting, other = a_user(), a_user(), a_user()
    one, _ = await full.hold(holder, full.seats[4:5]), await full.hold(a_user(), full.seats[5:6])
    await join(full, waiting, 2)
    await full.run(release(full.event_id, holder, one.hold_id))
    assert isinstance(await full.reserve(other, full.seats[4:5]), SeatsReserved)


async def test_money_that_came_back_puts_the_seats_on_the_list(full: OnSale) -> None:
    buyer, waiting = a_user(), a_user()
    order = await full.buy(buyer, full.seats[4:6])
    await join(full, waiting, 2)
    await full.run(cancel_payment(full.event_id, OrderId(order)))
    assert (await place_of(full, waiting))["status"] == "offered"
    await full.ledger_agrees_with_seats()


async def test_while_seats_can_be_had_there_is_nothing_to_wait_for(full: OnSale) -> None:
    assert rejected_as([await join(full, a_user(), 2)]) == ["waiting_list_not_needed"]
    assert isinstance(await join(full, a_user(), 3), WaitingListJoined), "two free seats do not serve three"
    assert isinstance(await join(full, a_user(), 1, accessible=True), WaitingListJoined)


async def test_who_is_on_the_list_keeps_the_place_and_a_retry_is_answered_the_same(full: OnSale) -> None:
    await full.hold(a_user(), full.seats[4:6])
    user = a_user()
    command = joining(full, user, 2, request_hash="the body")
    first = await full.ask_one(command)
    assert isinstance(first, WaitingListJoined)
    assert await full.ask_one(command) == first
    again = await join(full, user, 1)
    assert isinstance(again, WaitingListJoined)
    assert (again.waiting_id, again.seat_count) == (first.waiting_id, 2)


async def test_leaving_gives_the_offer_to_the_next(full: OnSale) -> None:
    holder, first, second = a_user(), a_user(), a_user()
    hold = await full.hold(holder, full.seats[4:6])
    await join(full, first, 2)
    await join(full, second, 2)
    await full.run(release(full.event_id, holder, hold.hold_id))
    assert isinstance(await leave(full, first), WaitingListLeft)
    assert (await place_of(full, first))["status"] == "left"
    assert (await place_of(full, second))["status"] == "offered"
    assert rejected_as([await leave(full, first)]) == ["not_on_waiting_list"]
    assert await full.pool.fetchval("SELECT waiting_count FROM event_inventory WHERE event_id = $1", full.event_id) == 0
    await full.ledger_agrees_with_seats()


async def test_who_bought_elsewhere_meanwhile_is_taken_off_the_list(an_event: AnEvent) -> None:
    sale = await an_event(sections=ROW, ticket_limit=2)
    holder, user, next_one = a_user(), a_user(), a_user()
    other = await sale.hold(a_user(), sale.seats[:2])
    hold = await sale.hold(holder, sale.seats[2:4])
    mine = await sale.hold(user, sale.seats[4:6])
    await sale.run(release(sale.event_id, user, mine.hold_id))
    assert rejected_as([await join(sale, user, 2)]) == ["waiting_list_not_needed"]
    taken = await sale.hold(a_user(), sale.seats[4:6])
    await join(sale, user, 1)
    await join(sale, next_one, 1)
    # As if he had bought two before his turn: his limit is reached.
    await sale.pool.execute(
        "UPDATE holds SET user_id = $3 WHERE event_id = $1 AND id = $2", sale.event_id, taken.hold_id, user
    )
    await sale.run(release(sale.event_id, holder, hold.hold_id))
    assert (await place_of(sale, user))["status"] == "lapsed"
    assert (await place_of(sale, next_one))["status"] == "offered"
    assert other


async def test_many_wait_and_many_seats_come_back_each_is_offered_once(an_event: AnEvent) -> None:
    sale = await an_event(seats=60)
    holders = [a_user() for _ in range(20)]
    holds = [await sale.hold(user, sale.seats[3 * at : 3 * at + 3]) for at, user in enumerate(holders)]
    waiting = [a_user() for _ in range(30)]
    answers = await sale.ask(*(joining(sale, user, 1 + at % 3) for at, user in enumerate(waiting)))
    assert [answer.position for answer in answers if isinstance(answer, WaitingListJoined)] == list(range(1, 31))
    await asyncio.gather(
        *(
            sale.run(release(sale.event_id, user, hold.hold_id), engine=sale.another_engine())
            for user, hold in zip(holders[:8], holds[:8], strict=True)
        )
    )
    offered = [await place_of(sale, user) for user in waiting]
    seats: list[SeatId] = [seat for place in offered for seat in place["seat_ids"] or ()]
    assert len(seats) == len(set(seats)) == 24, "each freed seat is offered to one"
    statuses = [place["status"] for place in offered]
    assert statuses.count("offered") == 12, "1 + 2 + 3, four times: 24 seats serve the first twelve"
    assert statuses[:12] == ["offered"] * 12
    await sale.ledger_agrees_with_seats()


async def test_an_offer_costs_nothing_where_nobody_waits(full: OnSale, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sale] = []
    due = rules.is_offer_due

    def seen(sale: Sale) -> bool:
        asked.append(sale)
        return due(sale)

    async def never(*_: object) -> Sequence[object]:
        raise AssertionError("the line was read")

    monkeypatch.setattr(serving, "is_offer_due", seen)
    monkeypatch.setattr(serving, "_line", never)
    user = a_user()
    hold = await full.hold(user, full.seats[4:6])
    await full.run(release(full.event_id, user, hold.hold_id))
    assert len(asked) == 2
