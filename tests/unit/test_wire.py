"""Does what is written on the wire come back, and is everything else refused in words?"""

import json
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from uuid import UUID, uuid4

import pytest
from annotated_types import MinLen
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, ValidationError
from pydantic.fields import FieldInfo

from contracts import commands as contract
from contracts.commands import COMMAND_TYPES, Checkout, ReserveSeats
from contracts.domain_events import DOMAIN_EVENT_TYPES, SeatsChanged
from contracts.replies import REPLY_TYPES, AddressedReply, Done
from contracts.value import Value
from contracts.wire import (
    MESSAGE_MAX_BYTES,
    UnreadableMessage,
    decode_commands,
    decode_domain_event,
    decode_replies,
    encode_commands,
    encode_domain_event,
    encode_replies,
)
from tests.builders import a_command_id, a_user, check_out, reserve, settle

# As it was written on the day the format was fixed. It is never edited: messages of this form lie in queues and backups.
STORED_MESSAGE = (
    b'{"version":1,"commands":[{"commandId":"6f9619ff-8b86-4d01-b42d-00c04fc964ff","eventId":'
    b'"0b6c2f0e-6f0a-4c0e-9a64-2a9f2b1f7c11","correlationId":"9a0b1c2d-3e4f-4a5b-8c6d-7e8f9a0b1c2d","deadlineAt":'
    b'"2031-05-01T20:00:02.250000Z","requestHash":"e3b0c442","type":"reserve_seats","userId":'
    b'"1c2d3e4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f","seatIds":["00000000-0000-4000-8000-000000000001",'
    b'"00000000-0000-4000-8000-000000000002"]},{"commandId":"7f9619ff-8b86-4d01-b42d-00c04fc964ff","eventId":'
    b'"0b6c2f0e-6f0a-4c0e-9a64-2a9f2b1f7c11","requestHash":"","type":"settle_payment","orderId":'
    b'"8f9619ff-8b86-4d01-b42d-00c04fc964ff","intentId":"pi_1"}]}'
)

few = settings(max_examples=25)

_times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds are naive
_plain_values: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    str: st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    int: st.integers(1, 5),
    bool: st.booleans(),
    UUID: st.uuids(),
    Decimal: st.decimals(0, 99_999_999, places=2),
    AwareDatetime: _times,
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of this contract, made from the types of its fields."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        fields = {field.name: _values_of_type(hints[field.name]) for field in dataclass_fields(kind)}
    else:
        fields = {name: _values_of_field(field) for name, field in kind.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda values: kind(**values))


def _values_of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    values = _values_of_type(field.annotation)
    shortest = max((limit.min_length for limit in field.metadata if isinstance(limit, MinLen)), default=0)
    if shortest:
        values = values.filter(lambda value: len(value) >= shortest)
    return values if field.is_required() else st.one_of(st.just(field.get_default(call_default_factory=True)), values)


def _values_of_type(kind: Any) -> st.SearchStrategy[Any]:
    kind = getattr(kind, "__supertype__", kind)
    origin, parts = get_origin(kind), get_args(kind)
    if kind in _plain_values:
        return _plain_values[kind]
    if origin is Annotated:
        return _values_of_type(parts[0])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is tuple:
        return st.lists(_values_of_type(parts[0]), max_size=3).map(tuple)
    if parts:  # A | B
        return st.one_of(*map(_values_of_type, parts))
    return st.sampled_from(list(kind)) if issubclass(kind, Enum) else values_of(kind)


def a_body(**fields: Any) -> bytes:
    """A message of one reservation, with these fields of it replaced."""
    command = json.loads(encode_commands([reserve(uuid4(), a_user(), [uuid4()])]))["commands"][0]
    return json.dumps({"commands": [{**command, **fields}]}).encode()


def an_offer(price: str) -> contract.OfferResale:
    """A command with an amount of money in it."""
    return contract.OfferResale(
        command_id=uuid4(), event_id=uuid4(), user_id=a_user(), ticket_id=uuid4(), price=Decimal(price)
    )


# ---- there and back


@pytest.mark.parametrize("kind", COMMAND_TYPES, ids=lambda kind: kind.__name__)
def test_every_command_comes_back_as_it_was(kind: type[contract.Command]) -> None:
    @few
    @given(st.lists(values_of(kind), min_size=1, max_size=3))
    def there_and_back(commands: list[Any]) -> None:
        assert list(decode_commands(encode_commands(commands))) == commands

    there_and_back()


@pytest.mark.parametrize("kind", REPLY_TYPES, ids=lambda kind: kind.__name__)
def test_every_reply_comes_back_as_it_was(kind: type[Value]) -> None:
    @few
    @given(values_of(kind))
    def there_and_back(reply: Any) -> None:
        addressed = AddressedReply(correlation_id=a_command_id(), command_id=a_command_id(), reply=reply)
        assert list(decode_replies(encode_replies([addressed]))) == [addressed]

    there_and_back()


@pytest.mark.parametrize("kind", DOMAIN_EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_domain_event_comes_back_as_it_was(kind: type[Value]) -> None:
    @few
    @given(values_of(kind))
    def there_and_back(domain_event: Any) -> None:
        assert decode_domain_event(encode_domain_event(domain_event)) == domain_event

    there_and_back()


def test_the_order_of_a_batch_is_kept() -> None:
    event_id = uuid4()
    commands = [
        reserve(event_id, a_user(), [uuid4()]),
        settle(event_id, uuid4()),
        check_out(event_id, a_user(), uuid4()),
    ]
    assert list(decode_commands(encode_commands(commands))) == commands


def test_the_wire_speaks_camel_case_and_writes_money_as_text() -> None:
    body = json.loads(encode_commands([reserve(uuid4(), a_user(), [uuid4()])]))
    (command,) = body["commands"]
    assert {"commandId", "eventId", "userId", "seatIds", "deadlineAt", "type"} <= command.keys()
    assert body["version"] == 1
    (offered,) = json.loads(encode_commands([an_offer("45.10")]))["commands"]
    assert offered["price"] == "45.10"


def test_what_nobody_said_takes_no_room() -> None:
    assert b"null" not in encode_commands([settle(uuid4(), uuid4())])


# ---- yesterday's and tomorrow's messages


def test_a_stored_message_still_means_what_it_meant() -> None:
    first, second = decode_commands(STORED_MESSAGE)
    assert isinstance(first, ReserveSeats)
    assert [str(seat_id)[-1] for seat_id in first.seat_ids] == ["1", "2"]
    assert first.deadline_at == datetime(2031, 5, 1, 20, 0, 2, 250000, tzinfo=UTC)
    assert (second.type, second.correlation_id, second.deadline_at) == ("settle_payment", None, None)


def test_a_stored_message_would_be_written_the_same_today_but_for_what_came_to_it() -> None:
    then, now = json.loads(STORED_MESSAGE), json.loads(encode_commands(decode_commands(STORED_MESSAGE)))
    assert now["version"] == then["version"]
    for was, is_ in zip(then["commands"], now["commands"], strict=True):
        assert {name: is_[name] for name in was} == was
        # A field that came to it says nothing that was not meant before.
        assert not any(value for name, value in is_.items() if name not in was)


def test_a_newer_message_with_more_in_it_is_read() -> None:
    newer = json.loads(a_body(seatColour="red"))
    newer["shard"] = 3
    (command,) = decode_commands(json.dumps(newer).encode())
    assert isinstance(command, ReserveSeats)


def test_an_older_message_with_less_in_it_is_read() -> None:
    older = json.loads(encode_commands([settle(uuid4(), uuid4())]))
    del older["version"], older["commands"][0]["requestHash"]
    assert decode_commands(json.dumps(older).encode())[0].request_hash == ""


# ---- what cannot be read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"commands"',
        b"\x80\x81 not text",
        b'{"commands":[',
        b'{"commands":[]}',
        b'{"commands":[{}]}',
        b'{"version":2,"commands":[]}',
        STORED_MESSAGE.replace(b'"version":1', b'"version":2'),
        STORED_MESSAGE.replace(b"reserve_seats", b"reserve_chairs"),
        STORED_MESSAGE.replace(b"6f9619ff", b"6f9619f"),
        STORED_MESSAGE + b"{}",
        STORED_MESSAGE.replace(b'"2031-05-01T20:00:02.250000Z"', b'"2031-05-01T20:00:02"'),
    ],
    ids=[
        "nothing",
        "null",
        "a list",
        "no commands",
        "a text",
        "no UTF-8",
        "cut off",
        "an empty batch",
        "an empty command",
        "an unknown version of nothing",
        "an unknown version",
        "an unknown command",
        "no id",
        "something after it",
        "a time that is nowhere",
    ],
)
def test_what_is_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        decode_commands(body)


def test_the_text_says_where_it_stops_being_a_message() -> None:
    with pytest.raises(UnreadableMessage, match=r"commands\.0\.reserve_seats\.seatIds\.1"):
        decode_commands(a_body(seatIds=[str(uuid4()), "A-12"]))


def test_the_text_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(UnreadableMessage) as unreadable:
        decode_commands(a_body(userId="pm_card_secret"))
    assert "pm_card_secret" not in str(unreadable.value)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_what_is_no_number_is_refused(number: bytes) -> None:
    body = encode_commands([reserve(uuid4(), a_user(), ())]).replace(
        b'"seatIds":[]', b'"bestAvailable":{"count":%b}' % number
    )
    assert number in body
    with pytest.raises(UnreadableMessage):
        decode_commands(body)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1.005", "123456789012.00"])
def test_what_is_no_amount_of_money_is_refused(amount: str) -> None:
    with pytest.raises(UnreadableMessage):
        decode_commands(encode_commands([an_offer("1.00")]).replace(b'"1.00"', f'"{amount}"'.encode()))


def test_more_than_a_mebibyte_is_not_even_looked_at() -> None:
    with pytest.raises(UnreadableMessage, match="more than"):
        decode_commands(STORED_MESSAGE + b" " * MESSAGE_MAX_BYTES)
    at_the_limit = STORED_MESSAGE + b" " * (MESSAGE_MAX_BYTES - len(STORED_MESSAGE))
    assert len(decode_commands(at_the_limit)) == 2


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_body_that_goes_down_without_end_is_refused(opening: bytes) -> None:
    deep = opening * 50_000
    with pytest.raises(UnreadableMessage):
        decode_commands(STORED_MESSAGE[:-1] + b',"deep":' + deep)
    for body in (deep, b'{"commands":' + deep):
        with pytest.raises(UnreadableMessage):
            decode_commands(body)


def test_a_batch_has_an_end() -> None:
    command = json.loads(STORED_MESSAGE)["commands"][1]
    with pytest.raises(UnreadableMessage):
        decode_commands(json.dumps({"commands": [command] * 1025}).encode())


def test_a_command_that_says_twice_what_it_is_is_the_last_thing_it_said() -> None:
    """JSON allows a key twice and the last one counts; nobody reads the type in one place and the fields in another."""
    twice = STORED_MESSAGE.replace(b'"type":"settle_payment"', b'"type":"reserve_seats","type":"settle_payment"')
    assert decode_commands(twice) == decode_commands(STORED_MESSAGE)
    with pytest.raises(UnreadableMessage):
        decode_commands(
            STORED_MESSAGE.replace(b'"type":"settle_payment"', b'"type":"settle_payment","type":"reserve_seats"')
        )


def test_more_seats_than_a_command_may_name_are_refused() -> None:
    with pytest.raises(UnreadableMessage):
        decode_commands(a_body(seatIds=[str(uuid4()) for _ in range(contract.SEATS_PER_COMMAND_MAX + 1)]))


def test_a_reply_message_without_replies_and_a_domain_event_of_no_type_are_unreadable() -> None:
    with pytest.raises(UnreadableMessage):
        decode_replies(b'{"replies":[]}')
    with pytest.raises(UnreadableMessage):
        decode_domain_event(b'{"type":"something_else"}')


# ---- the shape of the contract


@pytest.mark.parametrize("kinds", [COMMAND_TYPES, REPLY_TYPES, DOMAIN_EVENT_TYPES])
def test_no_two_messages_have_the_same_type(kinds: tuple[type[Value], ...]) -> None:
    wire_types = [kind.model_fields["type"].default for kind in kinds]
    assert len(set(wire_types)) == len(wire_types)


def test_values_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Done().changed = False  # type: ignore[misc]


def test_no_card_fits_into_a_checkout() -> None:
    assert {name for name in Checkout.model_fields if "card" in name or "number" in name} == set()


def test_seat_changes_carry_their_place_in_the_ledger() -> None:
    assert {"first_seq", "last_seq"} <= SeatsChanged.model_fields.keys()
