"""Which settings that are fine on a laptop must never reach a real sale?

A published password, an open crash point or an address of the demo stack. Everything here is judged from the settings
alone, at every start; what only the servers can tell is asked by `boxoffice doctor`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from contracts.settings import Settings

DEMO_SECRETS = ("demo-", "sk_test_boxoffice_demo")
# What RabbitMQ is shipped with, and everybody tries first.
SHIPPED_USER = "guest"
# A guess costs a twentieth of a second below this, and a leaked table of hashes is read in days.
BCRYPT_COST_MIN = 10

# Their defaults are the servers that `boxoffice up` starts, which trust everybody on the machine.
DEMO_ADDRESSES = (
    "postgres_url",
    "redis_url",
    "rabbitmq_url",
    "rabbitmq_management_url",
    "payment_api_url",
    "smtp_url",
    "mail_sender",
)


def unfit_for_production(settings: "Settings") -> list[tuple[str, str]]:
    """Each setting that must be changed first, with what is wrong with it and what to do; never with its value."""
    return [*_demo_values(settings), *_known_passwords(settings), *_open_doors(settings)]


def _open_doors(settings: "Settings") -> Iterator[tuple[str, str]]:
    if settings.failpoints:
        yield "failpoints", "is for tests: unset it in production"
    if not settings.public_url.startswith("https://"):
        yield "public_url", "must begin with https:// in production"
    if any(origin.startswith("http://") for origin in settings.cors_origin_list):
        yield "cors_origins", "must begin with https:// in production"
    if not settings.payment_api_url.startswith("https://"):
        yield "payment_api_url", "must begin with https:// in production: the provider's key travels with every call"
    if settings.bcrypt_cost < BCRYPT_COST_MIN:
        yield "bcrypt_cost", f"must be {BCRYPT_COST_MIN} or more in production"


def _demo_values(settings: "Settings") -> Iterator[tuple[str, str]]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, str) and value.startswith(DEMO_SECRETS):
            yield name, "still has its demo value: set a secret of your own"
        elif name in DEMO_ADDRESSES and value == field.default:
            yield name, "still has its demo value: name what is yours"


def _known_passwords(settings: "Settings") -> Iterator[tuple[str, str]]:
    for name in DEMO_ADDRESSES:
        # mail_sender is no URL, and has none of these parts.
        parts = urlsplit(getattr(settings, name))
        if (parts.password or "").startswith(DEMO_SECRETS):
            yield name, "has a demo password in it: set a secret of your own"
        if parts.username == SHIPPED_USER:
            yield name, f"names the user {SHIPPED_USER}, whom everybody knows: make one of your own"
