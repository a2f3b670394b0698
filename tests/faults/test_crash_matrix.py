"""Is every purchase whole again, wherever the consumers were killed in the middle of it?

For each named failpoint: all roles run in one process, which kills itself there (kill -9, nothing is cleaned up) at its n-th
hit, while a buyer is reserving and paying. Another process takes over, the buyer asks again under the same key, and in the
end the buyer, our books and the provider's must tell the same story.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from consumers.broker import ConfirmedPublisher, persistent_message
from contracts import topology, wire
from contracts.commands import AnyCommand, CancelEvent, RefundOrder
from contracts.ids import CommandId, OrderId, SeatId, TicketId, UserId
from ops.stack.server import REPOSITORY
from tests.eventually import eventually
from tests.faults.world import BAD_CARD, Answer, Buyer, World

SEATS_BOUGHT = 2
CALL = re.compile(r'await failpoint\("([\w.]+)"\)')


@dataclass(frozen=True)
class Crash:
    """kill -9 at the n-th hit of a failpoint while this is going on."""

    failpoint: str
    nth: int
    story: str = "purchase"

    def __str__(self) -> str:
        return f"{self.story}-{self.failpoint}-{self.nth}"


ENGINE = ("after_receive", "after_seat_locks", "in_transaction", "before_commit", "after_commit", "after_reply")
PAYMENTS = ("after_create", "after_store", "after_confirm", "after_told", "after_capture")


def crashes() -> Iterator[Crash]:
    """Every failpoint, in every step that reaches it."""
    # The reservation, the checkout, the settled payment.
    yield from (Crash(f"engine.{step}", nth) for step in ENGINE for nth in (1, 2, 3))
    # The armed hold, the payment request, the capture and the confirmation.
    yield from (Crash(f"relay.{step}", nth) for step in ("after_select", "after_publish") for nth in (1, 2, 3))
    yield from (Crash(f"payments.{step}", 1) for step in PAYMENTS)
    yield Crash("notifications.after_send", 1)
    # The card is declined.
    yield from (Crash(f"payments.{step}", 1, "decline") for step in ("after_confirm", "after_told"))
    yield from (Crash(f"engine.{step}", 3, "decline") for step in ("before_commit", "after_commit"))
    # The event is cancelled while the buyer pays: the payment is voided, and then the seats are freed.
    yield from (Crash(f"payments.{step}", 1, "void") for step in ("after_confirm", "after_cancel"))
    yield Crash("payments.after_told", 2, "void")
    yield from (Crash(f"engine.{step}", nth, "void") for nth in (3, 4) for step in ("before_commit", "after_commit"))
    # A ticket, or the whole order, is refunded: asked for, paid back, seats freed.
    for story in ("part", "refund"):
        yield Crash("payments.after_refund", 1, story)
        yield Crash("payments.after_told", 2, story)
        yield from (Crash(f"engine.{step}", nth, story) for nth in (4, 5) for step in ("before_commit", "after_commit"))
    yield from (Crash(f"relay.{step}", 4, "refund") for step in ("after_select", "after_publish"))
    # The event is cancelled when its tickets are sold: that it is, its refunds, each when it is paid back, and the end.
    yield Crash("cancellations.after_asked", 1, "cancel")
    yield Crash("payments.after_refund", 1, "cancel")
    yield Crash("payments.after_told", 2, "cancel")
    yield from (
        Crash(f"engine.{step}", nth, "cancel") for nth in (4, 5, 6, 7) for step in ("before_commit", "after_commit")
    )


def is_told_apart_by_the_database(crash: Crash) -> bool:
    """False where nothing more has happened than at another crash: those are left to the slow tests."""
    same_as_before_commit = ("engine.after_receive", "engine.after_seat_locks", "engine.in_transaction")
    if crash.failpoint in same_as_before_commit:
        return crash.nth == 1
    return crash not in {
        *(Crash("relay.after_select", nth) for nth in (1, 3)),
        *(Crash("engine.after_reply", nth) for nth in (1, 2)),
        Crash("payments.after_confirm", 1, "decline"),
        Crash("payments.after_confirm", 1, "void"),
        Crash("payments.after_told", 2, "void"),
        Crash("engine.before_commit", 3, "decline"),
        Crash("engine.before_commit", 3, "void"),
        Crash("engine.before_commit", 4, "refund"),
        Crash("engine.after_commit", 4, "refund"),
        Crash("payments.after_told", 2, "refund"),
        *(Crash(f"relay.{step}", 4, "refund") for step in ("after_select", "after_publish")),
        *(one for one in crashes() if one.story == "part" and one.failpoint != "payments.after_refund"),
        *(Crash(f"engine.{step}", nth, "cancel") for nth in (4, 6, 7) for step in ("before_commit", "after_commit")),
        Crash("engine.before_commit", 5, "cancel"),
        Crash("payments.after_told", 2, "cancel"),
        Crash("cancellations.after_asked", 1, "cancel"),
    }


CRASHES = tuple(crashes())
# By the first word of the failpoint's name.
TESTED_ELSEWHERE = {"draw": "test_admissions.py", "webhooks": "test_webhooks.py"}


def test_no_failpoint_is_forgotten() -> None:
    in_the_code = {
        name
        for package in ("consumers", "ingress", "db")
        for file in (REPOSITORY / package).rglob("*.py")
        for name in CALL.findall(file.read_text())
        if file.name != "failpoints.py"
    }
    # These are no part of a sale; the tests of what they are part of crash there.
    elsewhere = {name for name in in_the_code if name.split(".")[0] in TESTED_ELSEWHERE}
    assert {crash.failpoint for crash in CRASHES} == in_the_code - elsewhere
    for name in elsewhere:
        tests = REPOSITORY / "tests" / "integration" / TESTED_ELSEWHERE[name.split(".")[0]]
        assert name in tests.read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param(crash, id=str(crash), marks=() if is_told_apart_by_the_database(crash) else pytest.mark.slow)
        for crash in CRASHES
    ],
)
async def test_a_purchase_survives_a_crash(world: World, crash: Crash) -> None:
    event = await world.an_event()
    buyer = await world.a_buyer(event)
    doomed = world.start_consumers(f"{crash.failpoint}={crash.nth}*kill")
    story = asyncio.create_task(STORIES[crash.story](world, buyer))
    try:
        await world.consumers_died(doomed)
        world.start_consumers()
        answer = await story
    finally:
        story.cancel()
        with suppress(asyncio.CancelledError):
            await story
    await world.everything_agrees(event)
    await buyer_books_and_provider_agree(world, buyer, answer, given_back=GIVEN_BACK.get(crash.story, 0))


# ---- what the buyer does


async def purchase(_: World, buyer: Buyer) -> Answer:
    hold = await buyer.hold(buyer.event.seats[:SEATS_BOUGHT])
    return await buyer.check_out(hold)


async def decline(_: World, buyer: Buyer) -> Answer:
    hold = await buyer.hold(buyer.event.seats[:SEATS_BOUGHT])
    declined = await buyer.check_out(hold, payment_method=BAD_CARD)
    assert declined.code == "payment_declined", declined
    return await buyer.check_out(hold)


async def void(world: World, buyer: Buyer) -> Answer:
    hold = await buyer.hold(buyer.event.seats[:SEATS_BOUGHT])
    await world.script("confirm", "delay", ms=200)
    paying = asyncio.create_task(buyer.check_out(hold))
    await eventually(lambda: world.fetch("SELECT 1 FROM orders WHERE event_id = $1", buyer.event.id), 15)
    await world.fetch("UPDATE events SET status = 'cancelled' WHERE id = $1", buyer.event.id)
    answer = await paying
    assert answer.code == "order_cancelled", answer
    return answer


async def part(world: World, buyer: Buyer) -> Answer:
    answer, call_at = await bought_and_at_rest(world, buyer), time.monotonic()
    await ask_for_refund(world, buyer, answer, answer.body["tickets"][0]["ticketId"])
    note_given_back(buyer, answer, answer.body["tickets"][:1], call_at)
    return answer


async def refund(world: World, buyer: Buyer) -> Answer:
    answer, call_at = await bought_and_at_rest(world, buyer), time.monotonic()
    await ask_for_refund(world, buyer, answer)
    note_given_back(buyer, answer, answer.body["tickets"], call_at)
    return answer


async def cancel(world: World, buyer: Buyer) -> Answer:
    answer, call_at = await bought_and_at_rest(world, buyer), time.monotonic()
    event_id, organiser = buyer.event.sale.event_id, UserId(uuid4())
    await tell(
        world, CancelEvent(command_id=CommandId(uuid4()), event_id=event_id, user_id=organiser, reason="a storm")
    )
    await eventually(
        lambda: world.fetch("SELECT 1 FROM cancellations WHERE event_id = $1 AND finished_at IS NOT NULL", event_id), 30
    )
    note_given_back(buyer, answer, answer.body["tickets"], call_at)
    return answer


async def bought_and_at_rest(world: World, buyer: Buyer) -> Answer:
    answer = await purchase(world, buyer)
    assert answer.status == 201, answer
    await world.at_rest(buyer.event)
    return answer


def note_given_back(buyer: Buyer, answer: Answer, tickets: Sequence[Mapping[str, Any]], call_at: float) -> None:
    seats = [SeatId(UUID(ticket["seat"]["seatId"])) for ticket in tickets]
    buyer.event.note(seats, "cancel", answer.body["holdId"], "done", call_at)


STORIES: dict[str, Callable[[World, Buyer], Awaitable[Answer]]] = {
    "purchase": purchase,
    "decline": decline,
    "void": void,
    "part": part,
    "refund": refund,
    "cancel": cancel,
}
# In minor units.
PRICE_MINOR = 4500
GIVEN_BACK = {"part": PRICE_MINOR, "refund": SEATS_BOUGHT * PRICE_MINOR, "cancel": SEATS_BOUGHT * PRICE_MINOR}


async def ask_for_refund(world: World, buyer: Buyer, bought: Answer, *ticket_ids: str) -> None:
    command = RefundOrder(
        command_id=CommandId(uuid4()),
        event_id=buyer.event.sale.event_id,
        order_id=OrderId(bought.body["orderId"]),
        ticket_ids=tuple(TicketId(UUID(ticket_id)) for ticket_id in ticket_ids),
        user_id=UserId(uuid4()),
        as_organiser=True,
    )
    await tell(world, command)
    await eventually(lambda: is_done(world, command), 30)


async def is_done(world: World, command: RefundOrder) -> bool:
    found = await world.fetch("SELECT 1 FROM refunds WHERE id = $1 AND status = 'refunded'", command.command_id)
    return bool(found)


async def tell(world: World, command: AnyCommand) -> None:
    """Put it on the event's queue, once, as the API does."""
    async with ConfirmedPublisher(world.settings, "ingress", name="fault tests") as publisher:
        await publisher.publish(
            persistent_message(wire.encode_commands([command]), type=wire.COMMANDS_TYPE),
            exchange=topology.COMMANDS,
            routing_key=topology.command_routing_key(command.event_id),
        )


# ---- what must be true in the end


async def buyer_books_and_provider_agree(world: World, buyer: Buyer, answer: Answer, *, given_back: int) -> None:
    """What was answered is what is stored, what is stored is what was charged and given back, and one mail says each."""
    order = await world.order(answer.body["orderId"])
    intents = world.intents(str(order["id"]))
    tickets = [
        row["status"] for row in await world.fetch("SELECT status FROM tickets WHERE order_id = $1", order["id"])
    ]
    if answer.status == 201:
        assert Answer(201, order["answer"].encode(), {}).body == answer.body
        assert len(answer.body["tickets"]) == SEATS_BOUGHT
        void_count = given_back // PRICE_MINOR
        assert sorted(tickets) == ["valid"] * (SEATS_BOUGHT - void_count) + ["void"] * void_count
        assert order["status"] == ("refunded" if void_count == SEATS_BOUGHT else "completed")
        assert [(one.capture_count, one.refund_count) for one in intents] == [(1, int(given_back > 0))]
        assert [one.refunded_minor for one in intents] == [given_back]
    else:
        assert answer.code == "order_cancelled", answer
        assert (order["status"], sum(one.capture_count for one in intents), tickets) == ("cancelled", 0, [])
        assert set((await buyer.event.sale.statuses()).values()) == {"available"}
    await eventually(lambda: has_mails(buyer, 2 if given_back else 1), 15)


async def has_mails(buyer: Buyer, expected: int) -> bool:
    mails = await buyer.mails()
    assert len(mails) <= expected, [mail["subject"] for mail in mails]
    return len(mails) == expected
