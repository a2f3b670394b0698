"""Can an operator follow a purchase through every log by the one id that its buyer was told?"""

from typing import Any
from uuid import UUID

import aiohttp
import pytest

from ops.stack import Stack
from tests.acceptance.conftest import Answer, Buyer
from tests.builders import OnSale
from tests.eventually import eventually
from tests.log_lines import lines_of

ID = "x-correlation-id"


def lines_about(system: Stack, answer: Answer) -> dict[str, list[dict[str, Any]]]:
    """What was logged for that request, by role and action."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines_of(system.log_file("ingress"), system.log_file("consumers")):
        if line.get("correlationId") == answer.headers[ID]:
            found.setdefault(f"{line['process']} {line['action']}", []).append(line)
    return found


async def test_a_purchase_is_found_in_the_log_of_everybody_who_had_to_do_with_it(
    buyer: Buyer, event: OnSale, running_system: Stack
) -> None:
    hold = await buyer.reserve(event, 0, 1)
    bought = await buyer.check_out(event, hold)
    assert (hold.status, bought.status) == (201, 201)

    (reserved,) = (await eventually(lambda: lines_about(running_system, hold)))["commands seat_reserved"]
    assert (reserved["level"], reserved["eventId"], len(reserved["seatIds"])) == ("info", str(event.event_id), 2)

    wanted = {"commands checkout_completed", "payments payment_captured", "notifications mail_sent"}
    await eventually(lambda: wanted <= lines_about(running_system, bought).keys(), within_seconds=20)
    told = lines_about(running_system, bought)
    assert {line["orderId"] for action in wanted for line in told[action]} == {bought.body["orderId"]}
    assert told["payments payment_captured"][0]["amount"] == "90.00"
    assert told["notifications mail_sent"][0]["kind"] == "confirmation"


async def test_a_repeated_request_is_another_request(buyer: Buyer, event: OnSale) -> None:
    first, second = [await buyer.reserve(event, 2, idempotency_key="one-and-the-same") for _ in range(2)]
    assert first.body == second.body
    assert first.headers[ID] != second.headers[ID]
    assert UUID(first.headers[ID]).version == 4


@pytest.mark.parametrize(
    ("path", "status"),
    [("/live", 204), ("/api/events", 200), ("/api/nothing", 404), ("/api/orders", 401), ("/api/auth/login", 405)],
)
async def test_every_answer_names_its_request(running_system: Stack, path: str, status: int) -> None:
    url = running_system.environment()["BOXOFFICE_PUBLIC_URL"]
    async with aiohttp.ClientSession(url) as http, http.get(path) as answer:
        assert answer.status == status
        assert UUID(answer.headers[ID])


async def test_what_is_no_request_and_what_is_a_stream_have_a_name_too(running_system: Stack, event: OnSale) -> None:
    url = running_system.environment()["BOXOFFICE_PUBLIC_URL"]
    async with aiohttp.ClientSession(url) as http:
        async with http.request("GET", "/live", headers={"x-odd": "a" * 9000}) as refused:
            assert refused.status == 431
            assert UUID(refused.headers[ID])
        async with http.get(f"/api/events/{event.event_id}/seats/stream") as stream:
            assert (stream.status, stream.content_type) == (200, "text/event-stream")
            assert UUID(stream.headers[ID])
        async with http.ws_connect(f"/api/events/{event.event_id}/seats/socket") as socket:
            assert UUID(socket._response.headers[ID])


@pytest.mark.parametrize(
    ("named", "sent_back"),
    [
        ("checkout-7/2", "checkout-7/2"),
        ("a" * 64, "a" * 64),
        ("a" * 65, None),
        ("who@where", None),
        ("two words", None),
    ],
    ids=["a name", "a long name", "too long a name", "an address", "words"],
)
async def test_a_clients_own_name_for_its_request_comes_back_if_it_is_one(
    buyer: Buyer, named: str, sent_back: str | None
) -> None:
    answer = await buyer.send("GET", "/api/orders", x_request_id=named)
    assert answer.headers.get("x-request-id") == sent_back
    assert answer.headers[ID] != named


async def test_a_name_has_no_place_in_an_answer_that_others_get_too(buyer: Buyer) -> None:
    answer = await buyer.send("GET", "/api/events", x_request_id="mine")
    assert answer.headers["cache-control"].startswith("public")
    assert "x-request-id" not in answer.headers
