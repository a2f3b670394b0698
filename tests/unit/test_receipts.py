"""Can anybody check a receipt, and nobody make one?"""

from uuid import UUID, uuid4

import pytest

from contracts.draw import commitment_of
from contracts.ids import EventId
from contracts.receipts import Receipt
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys

KEYS = SigningKeys.of(Settings())
OTHERS_KEYS = SigningKeys.of(Settings(signing_key="another secret, of another deployment"))


@pytest.fixture
def receipt() -> Receipt:
    """A signed one."""
    unsigned = Receipt(event_id=EventId(uuid4()), ticket=7, commitment=commitment_of(b"mine"), log_index=12)
    return unsigned.signed_with(KEYS.receipt_key)


def test_a_receipt_is_checked_with_the_public_key_alone(receipt: Receipt) -> None:
    travelled = Receipt.model_validate_json(receipt.model_dump_json())
    assert travelled.is_signed_by(KEYS.public_keys[0])


@pytest.mark.parametrize(
    "change", [{"ticket": 8}, {"log_index": 13}, {"commitment": "ab" * 32}, {"event_id": EventId(UUID(int=7))}], ids=str
)
def test_a_receipt_that_says_something_else_is_not_signed(receipt: Receipt, change: dict[str, object]) -> None:
    assert not receipt.model_copy(update=change).is_signed_by(KEYS.public_keys[0])


def test_nobody_elses_signature_will_do(receipt: Receipt) -> None:
    assert not receipt.signed_with(OTHERS_KEYS.receipt_key).is_signed_by(KEYS.public_keys[0])
    assert not receipt.is_signed_by(OTHERS_KEYS.public_keys[0])


@pytest.mark.parametrize("signature", ["", "zz", "ab" * 63, "ab" * 64])
def test_what_is_no_signature_signs_nothing(receipt: Receipt, signature: str) -> None:
    assert not receipt.model_copy(update={"signature": signature}).is_signed_by(KEYS.public_keys[0])


@pytest.mark.parametrize("key", ["", "zz" * 32, "ab" * 31])
def test_what_is_no_key_has_signed_nothing(receipt: Receipt, key: str) -> None:
    assert not receipt.is_signed_by(key)


def test_keys_are_the_same_on_every_host_and_differ_by_use() -> None:
    again = SigningKeys.of(Settings())
    assert again.public_keys == KEYS.public_keys and again.token_key == KEYS.token_key
    private = KEYS.receipt_key.private_bytes_raw()
    assert len({private, KEYS.token_key.secret, KEYS.account_key}) == 3


def test_the_key_before_is_still_published(receipt: Receipt) -> None:
    changed = SigningKeys.of(
        Settings(signing_key="the new secret, thirty-two characters", signing_key_before=Settings().signing_key)
    )
    assert changed.public_keys[1:] == KEYS.public_keys
    assert any(receipt.is_signed_by(key) for key in changed.public_keys)
