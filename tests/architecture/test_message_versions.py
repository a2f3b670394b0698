"""Do this version and the one before it understand each other, while both are running?

During a rolling restart old and new processes read each other's messages, and a queue may hold messages of yesterday.
`before/asyncapi.json` is what the version before this one wrote and could read.
"""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest

from contracts import wire
from contracts.replies import OrderCompleted, SeatsReserved
from tests.builders import OnSale, a_user

Message = dict[str, Any]

ROOT = Path(__file__).parents[2]
BEFORE: Message = json.loads((Path(__file__).parent / "before" / "asyncapi.json").read_text(encoding="utf-8"))
NOW: Message = json.loads((ROOT / "contracts" / "asyncapi.json").read_text(encoding="utf-8"))

DECODERS: dict[str, Callable[[bytes], Any]] = {"Commands": wire.decode_commands, "Replies": wire.decode_replies}
ENCODERS: dict[str, Callable[[Any], bytes]] = {"Commands": wire.encode_commands, "Replies": wire.encode_replies}
# Whatever anybody might say: it has no shape to keep.
SHAPELESS = {"Parked"}


def examples(document: Message) -> Iterator[tuple[str, str, Message]]:
    """Every example of a message: the message's name, the example's, and its body."""
    for message, described in document["components"]["messages"].items():
        if message not in SHAPELESS:
            for number, example in enumerate(described["examples"]):
                yield message, example.get("name", str(number)), example["payload"]


OLD = list(examples(BEFORE))
NEW = [(message, name, body) for message, name, body in examples(NOW) if message in BEFORE["components"]["messages"]]


def named(cases: Sequence[tuple[str, str, Message]]) -> list[str]:
    return [f"{message}-{name}" for message, name, _ in cases]


def read(message: str, body: Message) -> Any:
    return DECODERS.get(message, wire.decode_domain_event)(json.dumps(body).encode())


def written(message: str, value: Any) -> Message:
    body: Message = json.loads(ENCODERS.get(message, wire.encode_domain_event)(value))
    return body


def is_within(part: Any, whole: Any) -> bool:
    """Everything the first says, the second says too; the second may say more."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and is_within(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(is_within, part, whole))
    return bool(part == whole)


def with_a_word_nobody_knows(body: Any) -> Any:
    """The same with one more field in every object, as a later version may write it."""
    if isinstance(body, dict):
        return {**{key: with_a_word_nobody_knows(value) for key, value in body.items()}, "sinceTomorrow": [1]}
    if isinstance(body, list):
        return [with_a_word_nobody_knows(value) for value in body]
    return body


def old_reader(message: str) -> jsonschema_rs.Validator:
    """What the version before demands of this message. It ignores fields that it does not know, and so must this."""
    schemas = json.loads(
        json.dumps(BEFORE["components"]["schemas"]).replace('"additionalProperties": false', '"title": ""')
    )
    payload = BEFORE["components"]["messages"][message]["payload"]
    return jsonschema_rs.validator_for({**payload, "components": {"schemas": schemas}})


@pytest.mark.parametrize(("message", "name", "body"), OLD, ids=named(OLD))
def test_we_read_what_the_version_before_wrote_and_lose_nothing_of_it(message: str, name: str, body: Message) -> None:
    assert is_within(body, written(message, read(message, body)))


@pytest.mark.parametrize(("message", "name", "body"), NEW, ids=named(NEW))
def test_the_version_before_can_read_what_we_write(message: str, name: str, body: Message) -> None:
    errors = [error.message for error in old_reader(message).iter_errors(body)]
    assert errors == [], f"an old process would park {message} {name}"


@pytest.mark.parametrize(("message", "name", "body"), NEW, ids=named(NEW))
def test_a_field_of_a_later_version_is_ignored(message: str, name: str, body: Message) -> None:
    assert read(message, with_a_word_nobody_knows(body)) == read(message, body)


def test_no_message_of_the_version_before_has_gone() -> None:
    # A type that is dropped is dropped one version after nobody sends it any more.
    assert {(message, name) for message, name, _ in OLD} <= {(message, name) for message, name, _ in NEW}


def test_a_field_that_is_renamed_is_found() -> None:
    # Without this, the tests above would also pass if they compared nothing.
    message, _, body = next(case for case in NEW if case[1] == "reserve_seats")
    renamed = json.loads(json.dumps(body).replace('"seatIds"', '"seats"').replace('"userId"', '"buyerId"'))
    with pytest.raises(wire.UnreadableMessage):
        read(message, renamed)
    assert not is_within(body, renamed)
    assert list(old_reader(message).iter_errors(renamed))


def old_command(type_: str, **fields: Any) -> bytes:
    """A command as the version before wrote it, with ids that mean something here."""
    [body] = [copy.deepcopy(body) for message, name, body in OLD if (message, name) == ("Commands", type_)]
    [command] = body["commands"]
    command |= {"correlationId": str(uuid4()), "deadlineAt": "2126-01-01T00:00:00Z"} | fields
    return json.dumps(body).encode()


async def test_a_purchase_of_old_messages_goes_through(sale: OnSale) -> None:
    user_id, hold_id, order_id = a_user(), uuid4(), uuid4()
    about = {"eventId": str(sale.event_id), "userId": str(user_id)}
    seat_ids = [str(seat_id) for seat_id in sale.seats[:2]]
    reservation = old_command(
        "reserve_seats", commandId=str(hold_id), seatIds=seat_ids, tiers=[], code="", bestAvailable=None, **about
    )
    checkout = old_command("checkout", commandId=str(order_id), holdId=str(hold_id), **about)
    settlement = old_command("settle_payment", commandId=str(uuid4()), orderId=str(order_id), **about)

    [reserved] = await sale.ask(*wire.decode_commands(reservation))
    assert isinstance(reserved, SeatsReserved)
    await sale.run(*wire.decode_commands(checkout))
    outcome = await sale.run(*wire.decode_commands(settlement))
    [told] = outcome.late_replies
    assert isinstance(told.reply, OrderCompleted)
    await sale.ledger_agrees_with_seats()
