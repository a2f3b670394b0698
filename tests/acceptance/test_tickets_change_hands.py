"""Can a buyer pass a ticket on, or sell its seat on, and does everybody else find it closed?"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.ids import TransferId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.transfer_tokens import transfer_token
from ops.payment_simulator.log_reader import read_money_log
from ops.stack import Stack
from ops.verify import simulator_log_path, verify_event
from tests.acceptance.conftest import Answer, Buyer
from tests.builders import OnSale, an_event_on_sale
from tests.eventually import eventually


@pytest.fixture
async def small_event(system_settings: Settings, system_pool: Any) -> AsyncIterator[OnSale]:
    """An event of two seats that is on sale, with its queue open."""
    on_sale = await an_event_on_sale(system_settings, system_pool, seats=2, seats_per_row=2)

    async def has_opened() -> bool:
        return bool(await system_pool.fetchval("SELECT status = 'on_sale' FROM events WHERE id = $1", on_sale.event_id))

    await eventually(has_opened, within_seconds=15)
    yield on_sale
    await on_sale.close()


async def a_purchase(buyer: Buyer, event: OnSale, *seats: int) -> Answer:
    """These seats, paid."""
    bought = await buyer.check_out(event, await buyer.reserve(event, *seats))
    assert bought.status == 201, bought.body
    return bought


def secret_of(event: OnSale, transfer_id: str) -> dict[str, str]:
    """What the mail to whom it is offered says."""
    keys = SigningKeys.of(event.settings)
    return {"token": transfer_token(keys, TransferId(UUID(transfer_id)))}


async def books_agree(event: OnSale, system: Stack) -> None:
    report = await verify_event(event.pool, event.event_id, simulator_log_path(system))
    assert report.is_clean, report


async def test_a_ticket_of_a_sold_out_event_passes_to_whoever_has_the_address_and_the_mail(
    buyers: Any, small_event: OnSale, running_system: Stack
) -> None:
    ann, bob, carl = await buyers(), await buyers(), await buyers()
    ticket_id = (await a_purchase(ann, small_event, 0, 1)).body["tickets"][0]["ticketId"]
    offering = f"/api/tickets/{ticket_id}/transfer"
    assert (await carl.send("POST", offering, {"email": bob.email})).status == 404, "it is not his"
    assert (await ann.send("POST", offering, {"email": ann.email.upper()})).body["code"] == "transfer_to_yourself"
    key = uuid4().hex
    offered = await ann.send("POST", offering, {"email": bob.email.upper()}, idempotency_key=key)
    assert (offered.status, offered.body["toEmail"]) == (201, bob.email)
    transfer_id = offered.body["transferId"]

    (incoming,) = (await bob.send("GET", "/api/transfers")).body["incoming"]
    secret = secret_of(small_event, transfer_id)
    assert (incoming["id"], incoming["status"]) == (transfer_id, "offered")
    assert secret["token"] not in str((await bob.send("GET", "/api/transfers")).body)

    accepting = f"/api/transfers/{transfer_id}/accept"
    for asker, body in (
        (carl, secret),  # he has the mail, and another address
        (bob, {"token": "x" * 22}),  # he made an account with this address, and has not read the mail
        (ann, secret),
    ):
        refused = await asker.send("POST", accepting, body)
        assert (refused.status, refused.body["code"]) == (404, "transfer_unknown")
    first, again = [await bob.send("POST", accepting, secret, idempotency_key=key) for _ in range(2)]
    assert (first.status, first.body["ticket"]["ticketId"]) == (200, ticket_id)
    assert again.body == first.body
    owner = await small_event.pool.fetchval(
        "SELECT u.email FROM tickets t JOIN users u ON u.id = t.user_id WHERE t.id = $1", UUID(ticket_id)
    )
    assert owner == bob.email

    # What came of it: to a retry of the offer, to whoever comes too late, and in the lists.
    assert (await ann.send("POST", offering, {"email": bob.email.upper()}, idempotency_key=key)).body == offered.body
    assert (await bob.send("POST", f"/api/transfers/{transfer_id}/decline", secret)).status == 410
    assert (await ann.send("DELETE", f"/api/transfers/{transfer_id}")).status == 410
    (outgoing,) = (await ann.send("GET", "/api/transfers")).body["outgoing"]
    assert (outgoing["status"], outgoing["toEmail"]) == ("accepted", bob.email)
    resale = await bob.send("POST", f"/api/tickets/{ticket_id}/resale", {"price": "1.00"})
    assert (resale.status, resale.body["code"]) == (403, "not_offered")
    await books_agree(small_event, running_system)


async def test_what_is_declined_or_withdrawn_stays_where_it_is(buyers: Any, event: OnSale) -> None:
    ann, bob = await buyers(), await buyers()
    ticket_id = (await a_purchase(ann, event, 30)).body["tickets"][0]["ticketId"]
    offering = f"/api/tickets/{ticket_id}/transfer"
    first = (await ann.send("POST", offering, {"email": bob.email})).body["transferId"]
    declined = await bob.send("POST", f"/api/transfers/{first}/decline", secret_of(event, first))
    assert (declined.status, declined.body["status"]) == (200, "declined")
    second = (await ann.send("POST", offering, {"email": bob.email})).body["transferId"]
    assert (await bob.send("DELETE", f"/api/transfers/{second}")).status == 404
    withdrawn = await ann.send("DELETE", f"/api/transfers/{second}")
    assert (withdrawn.status, withdrawn.body["status"]) == (200, "withdrawn")
    assert (await bob.send("POST", f"/api/transfers/{second}/accept", secret_of(event, second))).status == 410


async def test_a_seat_is_sold_on_and_its_seller_is_paid_back_once(
    buyers: Any, small_event: OnSale, running_system: Stack
) -> None:
    ann, bob = await buyers(), await buyers()
    bought = await a_purchase(ann, small_event, 0, 1)
    ticket_id, order_id = bought.body["tickets"][0]["ticketId"], bought.body["orderId"]
    selling = f"/api/tickets/{ticket_id}/resale"
    assert (await bob.send("POST", selling, {"price": "30.00"})).status == 404
    too_much = await ann.send("POST", selling, {"price": "45.01"})
    assert (too_much.status, too_much.body["code"]) == (422, "resale_price_too_high")
    assert (await ann.send("POST", selling, {"price": "30.001"})).status == 422
    offered = await ann.send("POST", selling, {"price": "30.00"})
    assert (offered.status, offered.body["price"]) == (201, "30.00")

    async def is_shown() -> bool:
        seats = (await bob.send("GET", f"/api/events/{small_event.event_id}/seats")).body
        return bool(seats["sections"][0]["rows"][0]["seats"][0]["status"] == "available")

    await eventually(is_shown)
    hold = await bob.reserve(small_event, 0)
    assert (hold.status, hold.body["total"]) == (201, "30.00")
    busy = await ann.send("DELETE", f"/api/resales/{offered.body['resaleId']}")
    assert (busy.status, busy.body["code"]) == (409, "resale_in_checkout")
    assert "retry-after" in busy.headers
    paid = await bob.check_out(small_event, hold)
    assert (paid.status, paid.body["total"]) == (201, "30.00")

    def money(order: str) -> list[tuple[int, int, int]]:
        log = simulator_log_path(running_system)
        assert log is not None
        intents = read_money_log(log).of_order(order)
        return [(one.captured_minor, one.refunded_minor, one.refund_count) for one in intents]

    async def is_paid_back() -> bool:
        return money(order_id) == [(9000, 3000, 1)] and money(paid.body["orderId"]) == [(3000, 0, 0)]

    await eventually(is_paid_back, within_seconds=20)
    (resale,) = (await ann.send("GET", "/api/resales")).body["resales"]
    assert (resale["status"], resale["price"]) == ("sold", "30.00")
    assert (await ann.send("DELETE", f"/api/resales/{resale['id']}")).status == 410

    async def agree() -> bool:
        report = await verify_event(small_event.pool, small_event.event_id, simulator_log_path(running_system))
        return report.is_clean

    # The confirmation of the refund is still on its way to our books.
    await eventually(agree, within_seconds=20)
    assert money(order_id) == [(9000, 3000, 1)], "and not again"


async def test_what_is_taken_off_sale_is_ones_own_again(buyers: Any, event: OnSale, running_system: Stack) -> None:
    ann = await buyers()
    ticket_id = (await a_purchase(ann, event, 31)).body["tickets"][0]["ticketId"]
    offered = await ann.send("POST", f"/api/tickets/{ticket_id}/resale", {"price": "45.00"})
    twice = await ann.send("POST", f"/api/tickets/{ticket_id}/transfer", {"email": "bob@example.org"})
    assert (twice.status, twice.body["code"]) == (409, "ticket_on_offer")
    withdrawn = await ann.send("DELETE", f"/api/resales/{offered.body['resaleId']}")
    assert (withdrawn.status, withdrawn.body["ticketId"]) == (200, ticket_id)
    assert (await event.statuses())[event.seats[31]] == "sold"
    await books_agree(event, running_system)
