"""Can a receiver tell our webhooks from forged, changed and old ones?"""

import pytest

from contracts.public_addresses import is_public_address, why_not_callable
from contracts.webhook_signatures import is_genuine, new_secret, signature_header

# https://github.com/standard-webhooks/standard-webhooks: the libraries' own example.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def genuine(secret: str = SECRET, **changes: object) -> bool:
    fields = {"message_id": MESSAGE_ID, "timestamp": TIMESTAMP, "body": BODY, "header": SIGNATURE, "now": 1614265400.0}
    return is_genuine(secret, **{**fields, **changes})  # type: ignore[arg-type]


def test_we_sign_as_the_libraries_of_the_scheme_do() -> None:
    signed = signature_header([SECRET], message_id=MESSAGE_ID, timestamp=int(TIMESTAMP), body=BODY)
    assert signed == SIGNATURE
    assert genuine()


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODY + b" "},
        {"message_id": "msg_another"},
        {"timestamp": "1614265331"},
        {"timestamp": "now"},
        {"now": 1614265330.0 + 301},
        {"now": 1614265330.0 - 301},
        {"header": ""},
        {"header": SIGNATURE[:-2] + "a="},
    ],
    ids=["body", "id", "time", "no time", "old", "of the future", "unsigned", "forged"],
)
def test_what_is_not_ours_is_not_believed(changes: dict[str, object]) -> None:
    assert not genuine(**changes)


def test_while_the_secret_changes_both_are_good() -> None:
    fresh = new_secret()
    header = signature_header([fresh, SECRET, ""], message_id=MESSAGE_ID, timestamp=int(TIMESTAMP), body=BODY)
    assert genuine(header=header)
    assert genuine(fresh, header=header)
    assert not genuine(new_secret(), header=header)


@pytest.mark.parametrize(
    ("url", "is_development", "is_fine"),
    [
        ("https://shop.example.com/hook", False, True),
        ("http://shop.example.com/hook", False, False),
        ("http://127.0.0.1:9000/hook", True, True),
        ("https://127.0.0.1/hook", False, False),
        ("https://[::1]/hook", False, False),
        ("https://10.1.2.3/hook", False, False),
        ("https://169.254.169.254/latest", False, False),
        ("https://localhost/hook", False, False),
        ("https://user:word@shop.example.com/", False, False),
        ("ftp://shop.example.com/", True, False),
        ("shop.example.com", True, False),
    ],
)
def test_whom_we_would_call(url: str, is_development: bool, is_fine: bool) -> None:
    assert (why_not_callable(url, is_development=is_development) == "") is is_fine


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:10.0.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("224.0.0.1", False),
        ("no address", False),
    ],
)
def test_which_addresses_are_everybodys(address: str, is_public: bool) -> None:
    assert is_public_address(address) is is_public
