"""Is every purchase whole again, wherever the consumers were killed in the middle of it?

For each named failpoint: all roles run in one process, which kills itself there (kill -9, nothing is cleaned up) at its n-th
hit, while a buyer is reserving and paying. Another process takes over, the buyer asks again under the same key, and in the
end the buyer, our books and the provider's must tell the same story.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import pytest

from consumers.broker import ConfirmedPublisher, persistent_message
from contracts import topology, wire
from contracts.commands import RefundOrder
from contracts.ids import CommandId, OrderId
from ops.stack.server import REPOSITORY
from tests.eventually import eventually
from tests.faults.world import BAD_CARD, Answer, Buyer, Event, World

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
    # The order is refunded: asked for, paid back, seats freed.
    yield Crash("payments.after_refund", 1, "refund")
    yield from (Crash(f"engine.{step}", nth, "refund") for nth in (4, 5) for step in ("before_commit", "after_commit"))


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
    }


CRASHES = tuple(crashes())


def test_no_failpoint_is_forgotten() -> None:
    in_the_code = {
        name
        for package in ("consumers", "ingress", "db")
        for file in (REPOSITORY / package).rglob("*.py")
        for name in CALL.findall(file.read_text())
        if file.name != "failpoints.py"
    }
    # Those of a draw are no part of a sale; the tests of the draw crash there.
    of_the_draw = {name for name in in_the_code if name.startswith("draw.")}
    assert {crash.failpoint for crash in CRASHES} == in_the_code - of_the_draw
    tests_of_the_draw = (REPOSITORY / "tests" / "integration" / "test_admissions.py").read_text(encoding="utf-8")
    assert {name for name in of_the_draw if name not in tests_of_the_draw} == set()


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
    await buyer_books_and_provider_agree(world, buyer, answer)
    if crash.story == "refund":
        assert (await world.order(answer.body["orderId"]))["status"] == "refunded"


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


async def refund(world: World, buyer: Buyer) -> Answer:
    answer = await purchase(world, buyer)
    assert answer.status == 201, answer
    await world.at_rest(buyer.event)
    call_at = time.monotonic()
    await ask_for_refund(world, buyer.event, answer)
    await eventually(lambda: has_status(world, answer, "refunded"), 20)
    buyer.event.note(buyer.event.seats[:SEATS_BOUGHT], "cancel", answer.body["holdId"], "done", call_at)
    return answer


STORIES: dict[str, Callable[[World, Buyer], Awaitable[Answer]]] = {
    "purchase": purchase,
    "decline": decline,
    "void": void,
    "refund": refund,
}


async def ask_for_refund(world: World, event: Event, bought: Answer) -> None:
    command = RefundOrder(
        command_id=CommandId(uuid4()),
        event_id=event.sale.event_id,
        order_id=OrderId(bought.body["orderId"]),
        requested_by=event.sale.event_id,
    )
    async with ConfirmedPublisher(world.settings, "courier", name="fault tests") as publisher:
        await publisher.publish(
            persistent_message(wire.encode_commands([command]), type=wire.COMMANDS_TYPE),
            exchange=topology.COMMANDS,
            routing_key=topology.command_routing_key(event.sale.event_id),
        )


async def has_status(world: World, answer: Answer, status: str) -> bool:
    return bool((await world.order(answer.body["orderId"]))["status"] == status)


# ---- what must be true in the end


async def buyer_books_and_provider_agree(world: World, buyer: Buyer, answer: Answer) -> None:
    """What was answered is what is stored, what is stored is what was charged, and one mail says so."""
    order = await world.order(answer.body["orderId"])
    captures = sum(intent.capture_count for intent in world.intents(str(order["id"])))
    tickets = await world.fetch("SELECT status FROM tickets WHERE order_id = $1", order["id"])
    if answer.status == 201:
        assert Answer(201, order["answer"].encode(), {}).body == answer.body
        assert captures == 1
        assert len(tickets) == len(answer.body["tickets"]) == SEATS_BOUGHT
        expected = "void" if order["status"] == "refunded" else "valid"
    else:
        assert answer.code == "order_cancelled", answer
        assert (order["status"], captures, tickets) == ("cancelled", 0, [])
        assert set((await buyer.event.sale.statuses()).values()) == {"available"}
        expected = "none"
    assert {ticket["status"] for ticket in tickets} <= {expected}
    await eventually(lambda: has_one_mail(buyer), 15)


async def has_one_mail(buyer: Buyer) -> bool:
    mails = await buyer.mails()
    assert len(mails) <= 1, [mail["subject"] for mail in mails]
    return len(mails) == 1
