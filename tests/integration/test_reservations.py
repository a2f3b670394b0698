"""Do the engine's reservations hold on real servers?"""

import asyncio

from consumers.event_commands.outcome import Asked
from contracts.commands import ReserveSeats
from contracts.replies import HoldExtended, Rejected, SeatsReleased, SeatsReserved
from tests.builders import (
    OnSale,
    a_command_id,
    a_user,
    check_out,
    count,
    expire,
    extend,
    rejected_as,
    release,
    reserve,
    reserve_best,
)
from tests.conftest import AnEvent


async def test_one_winner_when_fifty_race_for_a_seat(sale: OnSale) -> None:
    rivals = [sale.another_engine() for _ in range(4)]
    commands = [reserve(sale.event_id, a_user(), sale.seats[:2]) for _ in range(50)]
    batches = [commands[start::5] for start in range(5)]
    outcomes = await asyncio.gather(
        *(sale.run(*batch, engine=engine) for batch, engine in zip(batches, [sale.engine, *rivals], strict=True))
    )
    replies = [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert count(replies, SeatsReserved) == 1
    assert rejected_as(replies) == ["seats_unavailable"] * 49
    await sale.ledger_agrees_with_seats()


async def test_all_seats_or_none(sale: OnSale) -> None:
    await sale.hold(a_user(), [sale.seats[3]])
    reply = await sale.reserve(a_user(), sale.seats[1:5])
    assert isinstance(reply, Rejected)
    assert reply.seat_ids == (sale.seats[3],)
    assert list((await sale.statuses()).values()).count("held") == 1


async def test_a_redelivered_reservation_finds_its_own_hold(sale: OnSale) -> None:
    command = reserve(sale.event_id, a_user(), sale.seats[:2])
    first, second = await sale.ask_one(command), await sale.ask_one(command)
    assert first == second
    assert list((await sale.statuses()).values()).count("held") == 2


async def test_the_same_key_with_another_body_is_refused(sale: OnSale) -> None:
    user, id_ = a_user(), a_command_id()
    await sale.reserve(user, sale.seats[:1], command_id=id_, request_hash="one")
    reply = await sale.reserve(user, sale.seats[1:2], command_id=id_, request_hash="other")
    assert rejected_as([reply]) == ["idempotency_key_reused"]


async def test_the_ticket_limit_holds_within_a_batch(sale: OnSale) -> None:
    user = a_user()
    replies = await sale.ask(
        *(reserve(sale.event_id, user, sale.seats[start : start + 4]) for start in (0, 4, 8)),
    )
    assert count(replies, SeatsReserved) == 1
    assert rejected_as(replies) == ["ticket_limit_exceeded"] * 2


async def test_the_ticket_limit_holds_between_two_engines(sale: OnSale) -> None:
    user, rival = a_user(), sale.another_engine()
    first, second = await asyncio.gather(
        sale.run(reserve(sale.event_id, user, sale.seats[:4])),
        sale.run(reserve(sale.event_id, user, sale.seats[4:8]), engine=rival),
    )
    replies = [answer.reply for outcome in (first, second) for answer in outcome.answered]
    assert count(replies, SeatsReserved) == 1


async def test_an_unknown_seat_is_named(sale: OnSale, an_event: AnEvent) -> None:
    other = await an_event(seats=10)
    reply = await sale.reserve(a_user(), [other.seats[0]])
    assert isinstance(reply, Rejected)
    assert (reply.code.value, reply.seat_ids) == ("seats_unknown", (other.seats[0],))


async def test_an_expired_hold_is_free_at_once_and_its_holder_can_do_nothing(sale: OnSale) -> None:
    late, quick = a_user(), a_user()
    hold = await sale.hold(late, sale.seats[:2])
    await sale.end_holds_now(hold.hold_id)
    await sale.engine.seat_locks.settle(sale.event_id, [], [])
    await _let_redis_forget(sale)
    assert isinstance(await sale.reserve(quick, sale.seats[:2]), SeatsReserved)
    replies = await sale.ask(
        release(sale.event_id, late, hold.hold_id),
        extend(sale.event_id, late, hold.hold_id),
        expire(sale.event_id, hold.hold_id),
    )
    assert rejected_as(replies) == ["hold_expired", "hold_expired"]
    assert list((await sale.statuses()).values()).count("held") == 2
    await sale.ledger_agrees_with_seats()


async def test_a_released_seat_is_back_on_sale(sale: OnSale) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    assert isinstance(await sale.ask_one(release(sale.event_id, user, hold.hold_id)), SeatsReleased)
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)
    await sale.ledger_agrees_with_seats()


async def test_somebody_elses_hold_is_as_unknown_as_none(sale: OnSale) -> None:
    hold = await sale.hold(a_user(), sale.seats[:2])
    replies = await sale.ask(
        release(sale.event_id, a_user(), hold.hold_id), release(sale.event_id, a_user(), a_command_id())
    )
    assert rejected_as(replies) == ["hold_unknown", "hold_unknown"]


async def test_a_hold_is_extended_up_to_the_ceiling(an_event: AnEvent) -> None:
    sale = await an_event(hold_seconds=600, hold_ceiling_seconds=900)
    user = a_user()
    hold = await sale.hold(user, sale.seats[:1])
    first = await sale.ask_one(extend(sale.event_id, user, hold.hold_id))
    assert isinstance(first, HoldExtended)
    assert hold.held_until < first.held_until < first.extendable_until
    await sale.pool.execute(
        "UPDATE holds SET created_at = created_at - interval '10 minutes' WHERE id = $1", hold.hold_id
    )
    assert rejected_as([await sale.ask_one(extend(sale.event_id, user, hold.hold_id))]) == ["hold_ceiling_reached"]


async def test_a_repeated_extension_is_answered_the_same(sale: OnSale) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:1])
    command = extend(sale.event_id, user, hold.hold_id)
    assert await sale.ask_one(command) == await sale.ask_one(command)


async def test_a_command_past_its_deadline_takes_no_lock_and_no_seat(sale: OnSale) -> None:
    late = reserve(sale.event_id, a_user(), sale.seats[:2], deadline_at="2020-01-01T00:00:00Z")
    outcome = await sale.run(late)
    assert outcome.answered == []
    assert set((await sale.statuses()).values()) == {"available"}
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)


async def test_the_sale_opens_and_closes_by_the_databases_clock(an_event: AnEvent) -> None:
    from datetime import timedelta

    early = await an_event(opens_in=timedelta(hours=1))
    assert rejected_as([await early.reserve(a_user(), early.seats[:1])]) == ["sale_not_open"]
    late = await an_event(opens_in=timedelta(days=-2), closes_in=timedelta(days=-1))
    assert rejected_as([await late.reserve(a_user(), late.seats[:1])]) == ["sale_closed"]


async def test_best_available_sits_together_and_leaves_no_orphan(an_event: AnEvent) -> None:
    sale = await an_event(seats=10, seats_per_row=5)
    first = await sale.ask_one(reserve_best(sale.event_id, a_user(), 4))
    assert isinstance(first, SeatsReserved)
    # Four of the first five would leave one alone; but no row can do better, so together wins over orphans.
    assert len({seat.row for seat in first.seats}) == 1
    second = await sale.ask_one(reserve_best(sale.event_id, a_user(), 5))
    assert isinstance(second, SeatsReserved)
    assert {seat.row for seat in second.seats} == {"B"}
    third = await sale.ask_one(reserve_best(sale.event_id, a_user(), 2))
    assert rejected_as([third]) == ["not_enough_seats"]


async def test_best_available_sells_the_house_out_exactly(an_event: AnEvent) -> None:
    sale = await an_event(seats=200, seats_per_row=20)
    replies = await sale.ask(*(reserve_best(sale.event_id, a_user(), 3) for _ in range(66)))
    assert count(replies, SeatsReserved) == 66
    last = await sale.ask(*(reserve_best(sale.event_id, a_user(), 2) for _ in range(3)))
    assert count(last, SeatsReserved) == 1
    assert rejected_as(last) == ["not_enough_seats"] * 2
    await sale.ledger_agrees_with_seats()


async def test_two_engines_choosing_the_best_seats_never_choose_the_same(an_event: AnEvent) -> None:
    sale = await an_event(seats=60)
    rival = sale.another_engine()
    replies = []
    for _ in range(3):
        outcomes = await asyncio.gather(
            *(
                sale.run(*(reserve_best(sale.event_id, a_user(), 2) for _ in range(5)), engine=engine)
                for engine in (sale.engine, rival)
            )
        )
        replies += [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert count(replies, SeatsReserved) == 30
    await sale.ledger_agrees_with_seats()


STALLS_AND_FLOOR = (
    {"name": "Floor", "type": "general_admission", "capacity": 120, "price": "30.00"},
    {
        "name": "Stalls",
        "rows": 2,
        "seatsPerRow": 6,
        "price": "45.00",
        "accessible": {"A": [1, 4]},
        "companion": {"A": [2, 3]},
    },
)


async def test_places_to_stand_have_neither_row_nor_number(an_event: AnEvent) -> None:
    sale = await an_event(sections=STALLS_AND_FLOOR)
    reply = await sale.ask_one(reserve_best(sale.event_id, a_user(), 4, "Floor"))
    assert isinstance(reply, SeatsReserved)
    assert {(seat.section, seat.row, seat.seat_number) for seat in reply.seats} == {("Floor", "", "")}
    assert (len({seat.seat_id for seat in reply.seats}), str(reply.total)) == (4, "120.00")
    await sale.ledger_agrees_with_seats()


async def test_two_engines_fill_the_floor_to_the_last_place(an_event: AnEvent) -> None:
    sale = await an_event(sections=STALLS_AND_FLOOR)
    rival = sale.another_engine()
    replies = []
    for _ in range(3):
        outcomes = await asyncio.gather(
            *(
                sale.run(*(reserve_best(sale.event_id, a_user(), 3, "Floor") for _ in range(7)), engine=engine)
                for engine in (sale.engine, rival)
            )
        )
        replies += [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert count(replies, SeatsReserved) == 40
    assert rejected_as(replies) == ["not_enough_seats"] * 2
    await sale.ledger_agrees_with_seats()


async def test_places_for_wheelchairs_are_kept_for_those_who_ask(an_event: AnEvent) -> None:
    sale = await an_event(sections=STALLS_AND_FLOOR)
    taken = [reserve_best(sale.event_id, a_user(), 1, "Stalls") for _ in range(9)]
    replies = await sale.ask(*taken)
    assert rejected_as(replies) == ["not_enough_seats"], "eight of the twelve are for everybody"
    assert not {
        seat.seat_number
        for reply in replies
        if isinstance(reply, SeatsReserved)
        for seat in reply.seats
        if seat.row == "A"
    } & set("1234")
    pair = await sale.ask_one(reserve_best(sale.event_id, a_user(), 2, accessible=True))
    assert isinstance(pair, SeatsReserved)
    assert [(seat.row, seat.seat_number) for seat in pair.seats] == [("A", "1"), ("A", "2")]
    by_name = await sale.reserve(a_user(), sale.seats[120 + 2 : 120 + 4])
    assert isinstance(by_name, SeatsReserved), "whoever names them knows what they are"
    assert rejected_as([await sale.ask_one(reserve_best(sale.event_id, a_user(), 1, accessible=True))]) == [
        "not_enough_seats"
    ]
    await sale.ledger_agrees_with_seats()


async def test_nobody_has_more_live_holds_than_are_allowed_within_a_batch_or_without(an_event: AnEvent) -> None:
    sale, user = await an_event(live_holds_max=2), a_user()
    one_by_one = [reserve(sale.event_id, user, [seat]) for seat in sale.seats[:3]]
    assert rejected_as(await sale.ask(*one_by_one)) == ["too_many_holds"]
    assert rejected_as([await sale.reserve(user, sale.seats[3:4])]) == ["too_many_holds"]
    rival = await sale.run(reserve(sale.event_id, user, sale.seats[4:5]), engine=sale.another_engine())
    assert rejected_as([answer.reply for answer in rival.answered]) == ["too_many_holds"]
    # The control: it is the cap that refuses, and nothing else.
    looser = await sale.run(reserve(sale.event_id, user, sale.seats[5:6]), engine=sale.another_engine(live_holds_max=3))
    assert count([answer.reply for answer in looser.answered], SeatsReserved) == 1


async def test_holds_that_are_over_given_back_or_paid_leave_room_for_others(an_event: AnEvent) -> None:
    sale, user = await an_event(live_holds_max=1), a_user()
    over = await sale.hold(user, sale.seats[:1])
    await sale.end_holds_now(over.hold_id)
    given_back = await sale.hold(user, sale.seats[1:2])
    await sale.ask_one(release(sale.event_id, user, given_back.hold_id))
    await sale.buy(user, sale.seats[2:3])
    paying = await sale.hold(user, sale.seats[3:4])
    await sale.run(check_out(sale.event_id, user, paying.hold_id))
    assert rejected_as([await sale.reserve(user, sale.seats[4:5])]) == ["too_many_holds"]
    await sale.ledger_agrees_with_seats()


async def test_a_command_that_cannot_be_done_stands_alone(sale: OnSale) -> None:
    """A poison command in the middle of a batch: it is put aside with its reason, its neighbours are answered."""
    poison = ReserveSeats.model_construct(
        **{**dict(reserve(sale.event_id, a_user(), sale.seats[4:6])), "seat_ids": ("not-a-uuid",)}
    )
    neighbours = [reserve(sale.event_id, a_user(), [seat]) for seat in sale.seats[:4]]
    asked = [Asked(c, "q") for c in (*neighbours[:2], poison, *neighbours[2:])]
    outcome = await sale.engine.run_batch(sale.event_id, asked)
    assert [one.asked.command for one in outcome.not_processed] == [poison]
    assert count([answer.reply for answer in outcome.answered], SeatsReserved) == 4
    await sale.ledger_agrees_with_seats()


async def test_a_lock_that_was_left_behind_keeps_nobody_from_a_free_seat(sale: OnSale) -> None:
    """As a consumer leaves it that is killed between its commit and the clearing up."""
    from redis.asyncio import Redis

    async with Redis.from_url(sale.settings.redis_url) as redis:
        await redis.set(f"seat_lock:{{{sale.event_id}}}:{sale.seats[0]}", str(a_command_id()), ex=600)
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)
    assert rejected_as([await sale.reserve(a_user(), sale.seats[:2])]) == ["seats_unavailable"]
    await sale.ledger_agrees_with_seats()


async def _let_redis_forget(sale: OnSale) -> None:
    """Redis' own expiry would have freed the locks by now."""
    from redis.asyncio import Redis

    async with Redis.from_url(sale.settings.redis_url) as redis:
        await redis.delete(*(f"seat_lock:{{{sale.event_id}}}:{seat}" for seat in sale.seats))
