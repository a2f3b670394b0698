"""Does a ticket pass to exactly one other account, with the old code dead, on real servers?"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from consumers.cleanup import Resources, sweep_offers_once
from consumers.event_commands import save
from contracts.commands import AnyCommand, ExpireTransfers, RefundOrder
from contracts.ids import OrderId, SeatId, TicketId, UserId
from contracts.replies import AnyReply, RefundStarted, SeatsReserved, TransferAccepted, TransferOffered
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import read_code, ticket_code
from contracts.wire import decode_commands
from tests.builders import OnSale, a_command_id, a_user, count, rejected_as
from tests.conftest import AnEvent
from tests.ticket_offers import accept, keep, offer, transfers_over


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of two seats, on a machine that may be so busy that Redis answers slowly."""
    return await an_event(seats=2, seats_per_row=2, ticket_limit=2, redis_timeout_seconds=10.0)


async def tickets_of(sale: OnSale, order_id: UUID) -> list[TicketId]:
    """The order's tickets, in the order of the map."""
    records = await sale.pool.fetch(
        "SELECT t.id FROM tickets t JOIN seats s ON s.id = t.seat_id WHERE t.order_id = $1 ORDER BY s.seat_index",
        order_id,
    )
    return [TicketId(record["id"]) for record in records]


async def a_sold_out_event(sale: OnSale) -> tuple[UserId, OrderId, list[TicketId]]:
    """Somebody has bought every seat."""
    owner = a_user()
    order_id = await sale.buy(owner, sale.seats)
    return owner, order_id, await tickets_of(sale, order_id)


async def offered(sale: OnSale, owner: UserId, ticket_id: TicketId) -> UUID:
    """An open transfer of that ticket."""
    reply = await sale.ask_one(offer(sale.event_id, owner, ticket_id))
    assert isinstance(reply, TransferOffered), reply
    return reply.transfer_id


async def owner_of(sale: OnSale, ticket_id: TicketId) -> UserId:
    return UserId(await sale.pool.fetchval("SELECT user_id FROM tickets WHERE id = $1", ticket_id))


async def at_once(sale: OnSale, commands: Sequence[AnyCommand]) -> list[AnyReply]:
    """Each in a batch of its own, all at the same time, through two engines that both believe the event is theirs."""
    engines = [sale.engine, sale.another_engine()]
    outcomes = await asyncio.gather(*(sale.run(command, engine=engines[at % 2]) for at, command in enumerate(commands)))
    return [outcome.answered[0].reply for outcome in outcomes]


async def code_of(sale: OnSale, ticket_id: TicketId) -> str:
    version = await sale.pool.fetchval("SELECT version FROM tickets WHERE id = $1", ticket_id)
    keys = SigningKeys.of(sale.settings)
    return ticket_code(keys, event_id=sale.event_id, ticket_id=ticket_id, version=version)


async def lets_in(sale: OnSale, code: str) -> bool:
    """What a door asks: is the ticket valid, in the version that this code is of?"""
    read = read_code(SigningKeys.of(sale.settings), code)
    assert read is not None
    return bool(
        await sale.pool.fetchval(
            "SELECT status = 'valid' AND version = $2 FROM tickets WHERE id = $1", read.ticket_id, read.version
        )
    )


async def test_a_ticket_of_a_sold_out_event_changes_hands_and_its_old_code_dies(sale: OnSale) -> None:
    owner, _, (ticket_id, kept_id) = await a_sold_out_event(sale)
    bob, old_code = a_user(), await code_of(sale, ticket_id)
    transfer_id = await offered(sale, owner, ticket_id)
    assert await lets_in(sale, old_code), "it is his until it is accepted"
    command = accept(sale.event_id, bob, transfer_id)
    reply = await sale.ask_one(command)
    assert isinstance(reply, TransferAccepted)
    assert (reply.ticket.seat.seat_id, await owner_of(sale, ticket_id)) == (sale.seats[0], bob)
    assert (await lets_in(sale, old_code), await lets_in(sale, await code_of(sale, ticket_id))) == (False, True)
    assert await owner_of(sale, kept_id) == owner
    assert await sale.ask_one(command) == reply, "asked again it is answered the same"
    assert set((await sale.statuses()).values()) == {"sold"}
    await sale.ledger_agrees_with_seats()


async def test_without_a_new_version_the_old_code_would_still_let_in(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _, (ticket_id, _) = await a_sold_out_event(sale)
    old_code, transfer_id = await code_of(sale, ticket_id), await offered(sale, owner, ticket_id)
    row_of = save._changed_ticket_row
    # The guard off: the new owner is written, the new version is not.
    monkeypatch.setattr(save, "_changed_ticket_row", lambda ticket: (*row_of(ticket)[:4], 0, *row_of(ticket)[5:]))
    assert isinstance(await sale.ask_one(accept(sale.event_id, a_user(), transfer_id)), TransferAccepted)
    assert await lets_in(sale, old_code), "the test above would see it"


async def test_of_ten_who_accept_at_once_one_has_it(sale: OnSale) -> None:
    owner, _, (ticket_id, _) = await a_sold_out_event(sale)
    transfer_id = await offered(sale, owner, ticket_id)
    takers = [a_user() for _ in range(10)]
    replies = await at_once(sale, [accept(sale.event_id, taker, transfer_id) for taker in takers])
    assert count(replies, TransferAccepted) == 1
    assert rejected_as(replies) == ["transfer_ended"] * 9
    winner = next(taker for taker, reply in zip(takers, replies, strict=True) if isinstance(reply, TransferAccepted))
    assert await owner_of(sale, ticket_id) == winner
    assert await sale.pool.fetchval("SELECT version FROM tickets WHERE id = $1", ticket_id) == 1


async def test_an_offer_that_is_withdrawn_while_it_is_accepted_ends_one_way(sale: OnSale) -> None:
    owner, _, (ticket_id, _) = await a_sold_out_event(sale)
    for _ in range(5):
        bob, transfer_id = a_user(), await offered(sale, owner, ticket_id)
        taken, _ = await at_once(
            sale, [accept(sale.event_id, bob, transfer_id), keep(sale.event_id, owner, transfer_id)]
        )
        has_it = isinstance(taken, TransferAccepted)
        assert await owner_of(sale, ticket_id) == (bob if has_it else owner)
        assert await sale.status_of("transfers", transfer_id) == ("accepted" if has_it else "withdrawn")
        owner = bob if has_it else owner


async def test_passing_tickets_on_makes_no_room_for_more(an_event: AnEvent) -> None:
    sale = await an_event(seats=6, seats_per_row=6, ticket_limit=2, redis_timeout_seconds=10.0)
    owner, bob = a_user(), a_user()
    tickets = await tickets_of(sale, await sale.buy(owner, sale.seats[:2]))
    for ticket_id in tickets:
        transfer_id = await offered(sale, owner, ticket_id)
        assert isinstance(await sale.ask_one(accept(sale.event_id, bob, transfer_id)), TransferAccepted)
    # Who bought counts them, and who has them does: neither may have another.
    for user in (owner, bob):
        assert rejected_as([await sale.reserve(user, [sale.seats[2]])]) == ["ticket_limit_exceeded"]
    others = await tickets_of(sale, await sale.buy(a_user(), sale.seats[2:3]))
    other_owner = await owner_of(sale, others[0])
    one_more = accept(sale.event_id, bob, await offered(sale, other_owner, others[0]))
    assert rejected_as([await sale.ask_one(one_more)]) == ["ticket_limit_exceeded"]
    assert isinstance(await sale.reserve(a_user(), [sale.seats[3]]), SeatsReserved)


async def test_without_counting_what_was_bought_there_would_be_room(an_event: AnEvent) -> None:
    sale = await an_event(seats=6, seats_per_row=6, ticket_limit=2, redis_timeout_seconds=10.0)
    owner = a_user()
    for ticket_id in await tickets_of(sale, await sale.buy(owner, sale.seats[:2])):
        await sale.ask_one(accept(sale.event_id, a_user(), await offered(sale, owner, ticket_id)))
    # The guard off: as if whoever has a ticket had bought it.
    await sale.pool.execute("UPDATE tickets SET bought_by = user_id WHERE event_id = $1", sale.event_id)
    assert isinstance(await sale.reserve(owner, [sale.seats[2]]), SeatsReserved)


async def test_what_has_run_out_is_offered_anew_and_told_of_once(sale: OnSale) -> None:
    owner, _, (ticket_id, _) = await a_sold_out_event(sale)
    transfer_id = await offered(sale, owner, ticket_id)
    await it_runs_out(sale, transfer_id)
    assert rejected_as([await sale.ask_one(accept(sale.event_id, a_user(), transfer_id))]) == ["transfer_ended"]
    again = await offered(sale, owner, ticket_id)
    assert await sale.status_of("transfers", transfer_id) == "expired"
    (outcome,) = (await sale.run(transfers_over(sale.event_id, transfer_id, again))).sales
    assert outcome.outgoing.notices == []


async def test_offers_in_one_batch_end_before_others_begin(sale: OnSale) -> None:
    owner, _, (ticket_id, other_id) = await a_sold_out_event(sale)
    first = offer(sale.event_id, owner, ticket_id)
    replies = await sale.ask(
        first,
        offer(sale.event_id, owner, other_id, to="carl@example.org"),
        keep(sale.event_id, owner, first.command_id),
        offer(sale.event_id, owner, ticket_id, to="dora@example.org"),
    )
    assert rejected_as(replies) == []
    open_offers = await sale.pool.fetch(
        "SELECT to_email FROM transfers WHERE event_id = $1 AND status = 'offered' ORDER BY to_email", sale.event_id
    )
    assert [record["to_email"] for record in open_offers] == ["carl@example.org", "dora@example.org"]


# ---- against a refund


def refund_of(
    sale: OnSale, user: UserId, order_id: OrderId, *ticket_ids: TicketId, as_organiser: bool = False
) -> RefundOrder:
    return RefundOrder(
        command_id=a_command_id(),
        event_id=sale.event_id,
        user_id=user,
        order_id=order_id,
        ticket_ids=ticket_ids,
        as_organiser=as_organiser,
    )


async def test_a_ticket_is_accepted_or_refunded_and_never_both(an_event: AnEvent) -> None:
    sale = await an_event(seats=8, seats_per_row=8, redis_timeout_seconds=10.0)
    for seat in sale.seats[:4]:
        owner, bob = a_user(), a_user()
        order_id = await sale.buy(owner, [SeatId(seat)])
        (ticket_id,) = await tickets_of(sale, order_id)
        transfer_id = await offered(sale, owner, ticket_id)
        taken, _ = await at_once(
            sale,
            [
                accept(sale.event_id, bob, transfer_id),
                refund_of(sale, a_user(), order_id, ticket_id, as_organiser=True),
            ],
        )
        # An organiser's refund takes the ticket from whoever has it; what may not be is a ticket accepted after it was void.
        status = await sale.status_of("transfers", transfer_id)
        assert status == ("accepted" if isinstance(taken, TransferAccepted) else "withdrawn")
        assert await sale.status_of("tickets", ticket_id) == "void"
        late = accept(sale.event_id, a_user(), transfer_id)
        assert rejected_as([await sale.ask_one(late)]) == ["transfer_ended"]


async def test_a_buyer_is_not_paid_back_for_what_somebody_else_has_or_may_have(sale: OnSale) -> None:
    await sale.pool.execute("UPDATE events SET refund_until = now() + interval '1 day' WHERE id = $1", sale.event_id)
    owner, order_id, (ticket_id, kept_id) = await a_sold_out_event(sale)
    transfer_id = await offered(sale, owner, ticket_id)
    wanted = refund_of(sale, owner, order_id, ticket_id)
    assert rejected_as([await sale.ask_one(wanted)]) == ["ticket_on_offer"]
    await sale.ask_one(accept(sale.event_id, a_user(), transfer_id))
    again = wanted.model_copy(update={"command_id": a_command_id()})
    assert rejected_as([await sale.ask_one(again)]) == ["ticket_not_valid"]
    assert isinstance(await sale.ask_one(refund_of(sale, owner, order_id, kept_id)), RefundStarted)


# ---- the sweep


class Told:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []

    async def publish(self, message: object, **_: str) -> None:
        self.commands += decode_commands(message.body)  # type: ignore[attr-defined]


async def it_runs_out(sale: OnSale, transfer_id: UUID) -> None:
    await sale.pool.execute(
        "UPDATE transfers SET created_at = now() - interval '8 days', expires_at = now() - interval '1 second'"
        " WHERE event_id = $1 AND id = $2",
        *(sale.event_id, transfer_id),
    )


async def test_the_sweep_tells_the_event_of_what_is_over_and_the_owner_hears_of_it(sale: OnSale) -> None:
    owner, _, (ticket_id, other_id) = await a_sold_out_event(sale)
    transfer_id, _ = await offered(sale, owner, ticket_id), await offered(sale, owner, other_id)
    await it_runs_out(sale, transfer_id)
    told = Told()
    await sweep_offers_once(Resources(sale.settings, sale.pool, told))  # type: ignore[arg-type]
    (hint,) = [command for command in told.commands if command.event_id == sale.event_id]
    assert isinstance(hint, ExpireTransfers)
    assert hint.transfer_ids == (transfer_id,)
    (decided,) = (await sale.run(hint)).sales
    assert [(notice.kind, notice.user_id) for notice in decided.outgoing.notices] == [("transfer_expired", owner)]
    assert await sale.status_of("transfers", transfer_id) == "expired"
