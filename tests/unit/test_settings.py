"""Does a process understand what it is told, and refuse what it does not understand?"""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from contracts.settings import PREFIX, STACK_VARIABLES, BrokerUser, Settings, UnusableSettings

PRODUCTION = {
    "BOXOFFICE_ENVIRONMENT": "production",
    "BOXOFFICE_PUBLIC_URL": "https://tickets.example",
    "BOXOFFICE_POSTGRES_URL": "postgresql://boxoffice:ours@db.internal/boxoffice",
    "BOXOFFICE_REDIS_URL": "rediss://:ours@redis.internal/0",
    "BOXOFFICE_RABBITMQ_URL": "amqps://broker.internal/tk",
    "BOXOFFICE_RABBITMQ_MANAGEMENT_URL": "https://broker.internal:15671",
    "BOXOFFICE_PAYMENT_API_URL": "https://payments.example",
    "BOXOFFICE_SMTP_URL": "smtps://mail.internal",
    "BOXOFFICE_MAIL_SENDER": "tickets@tickets.example",
    "BOXOFFICE_PAYMENT_API_KEY": "sk_live_ours",
    "BOXOFFICE_SIGNING_KEY": "a long secret that nobody else has ever seen",
    **{f"BOXOFFICE_RABBITMQ_{user.upper()}_PASSWORD": f"secret of {user}" for user in get_args(BrokerUser)},
}


# Texts that are checked.
ANOTHER = {"trusted_proxies": "10.0.0.0/8,::1", "cors_origins": "https://shop.example.com"}


def another_value_of(name: str) -> Any:
    """A value that is allowed for the setting and is not its default."""
    if name in ANOTHER:
        return ANOTHER[name]
    default = Settings.model_fields[name].default
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return next(value for value in (default + 1, default - 1, default / 2) if _is_allowed(name, value))
    choices = get_args(Settings.model_fields[name].annotation)
    return next(choice for choice in choices if choice != default) if choices else f"{default}/else"


def _is_allowed(name: str, value: Any) -> bool:
    try:
        Settings(**{name: value})
    except ValidationError:
        return False
    return True


def test_an_empty_environment_is_enough() -> None:
    assert Settings.read({}) == Settings()


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - {"environment"}))
def test_every_setting_can_be_read_from_its_variable(name: str) -> None:
    value = another_value_of(name)
    read = Settings.read({f"{PREFIX}{name.upper()}": str(value)})
    assert getattr(read, name) == value
    assert read.model_copy(update={name: Settings.model_fields[name].default}) == Settings(), "and nothing else by it"


def test_what_is_not_ours_is_left_alone() -> None:
    assert Settings.read({"PATH": "/bin", "BOX_OFFICE": "1", **dict.fromkeys(STACK_VARIABLES, "1")}) == Settings()


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("BOXOFFICE_HOLD_SECOND", "BOXOFFICE_HOLD_SECONDS"),
        ("BOXOFFICE_POSTGRESS_URL", "BOXOFFICE_POSTGRES_URL"),
        ("BOXOFFICE_hold_seconds", None),
    ],
)
def test_a_misspelt_setting_is_an_error_that_says_what_was_meant(misspelt: str, meant: str | None) -> None:
    with pytest.raises(UnusableSettings, match=f"^{misspelt} is not a setting") as unusable:
        Settings.read({misspelt: "1"})
    assert ("did you mean" in str(unusable.value)) is (meant is not None)
    assert meant is None or meant in str(unusable.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BOXOFFICE_HOLD_SECONDS", "0"),
        ("BOXOFFICE_HOLD_SECONDS", "ten minutes"),
        ("BOXOFFICE_HOLD_SECONDS", ""),
        ("BOXOFFICE_HTTP_PORT", "70000"),
        ("BOXOFFICE_ENVIRONMENT", "staging"),
        ("BOXOFFICE_EVENT_QUEUE_TYPE", "mirrored"),
        ("BOXOFFICE_PUBLISH_TIMEOUT_SECONDS", "-1"),
        ("BOXOFFICE_SINGLE_ACTIVE_CONSUMER", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(UnusableSettings, match=f"^{variable}: "):
        Settings.read({variable: value})


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if isinstance(field.default, float)]
)
def test_no_span_is_endless_or_no_number(name: str, value: str) -> None:
    with pytest.raises(UnusableSettings):
        Settings.read({f"{PREFIX}{name.upper()}": value})


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_default_that_is_allowed(name: str) -> None:
    field = Settings.model_fields[name]
    assert not field.is_required()
    assert _is_allowed(name, field.default)


def test_numbers_say_their_unit_or_what_they_count() -> None:
    units = (
        "_seconds",
        "_max",
        "_bytes",
        "_port",
        "_failures",
        "_slots",
        "_multiplier",
        "_length",
        "_prefetch",
        "_per_second",
        "_days",
        "_ratio",
    )
    known_without = {"room_capacity", "ingress_workers", "bcrypt_cost", "payment_concurrency"}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert name.endswith(units) or name in known_without, name


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().hold_seconds = 1  # type: ignore[misc]


# ---- production


def test_production_with_secrets_of_its_own_is_fine() -> None:
    assert Settings.read(PRODUCTION).environment == "production"


@pytest.mark.parametrize("variable", sorted(set(PRODUCTION) - {"BOXOFFICE_ENVIRONMENT", "BOXOFFICE_PUBLIC_URL"}))
def test_production_refuses_each_value_that_everybody_knows(variable: str) -> None:
    told = {key: value for key, value in PRODUCTION.items() if key != variable}
    with pytest.raises(UnusableSettings, match=f"^{variable} still has its demo value"):
        Settings.read(told)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BOXOFFICE_FAILPOINTS", "engine.before_commit=kill"),
        ("BOXOFFICE_PUBLIC_URL", "http://tickets.example"),
        ("BOXOFFICE_RABBITMQ_WORKER_PASSWORD", "demo-of-our-own"),
        ("BOXOFFICE_SIGNING_KEY_BEFORE", "demo-signing-key-that-everybody-knows"),
        ("BOXOFFICE_POSTGRES_URL", "postgresql://boxoffice:demo-boxoffice@db.internal/boxoffice"),
        ("BOXOFFICE_REDIS_URL", "redis://:demo-redis@redis.internal/0"),
        ("BOXOFFICE_RABBITMQ_URL", "amqp://guest:guest@broker.internal/tk"),
        ("BOXOFFICE_RABBITMQ_URL", "amqp://everybody:demo-everybody@broker.internal/tk"),
        ("BOXOFFICE_PAYMENT_API_URL", "http://payments.example"),
        ("BOXOFFICE_CORS_ORIGINS", "http://shop.example"),
        ("BOXOFFICE_BCRYPT_COST", "4"),
    ],
)
def test_production_refuses_what_is_for_tests(variable: str, value: str) -> None:
    with pytest.raises(UnusableSettings, match=f"^{variable}"):
        Settings.read({**PRODUCTION, variable: value})


def test_all_that_is_unfit_is_said_at_once() -> None:
    with pytest.raises(UnusableSettings) as unusable:
        Settings.read({"BOXOFFICE_ENVIRONMENT": "production", "BOXOFFICE_FAILPOINTS": "engine.before_commit=kill"})
    told = {line.split()[0] for line in str(unusable.value).splitlines()}
    assert told == {*PRODUCTION, "BOXOFFICE_FAILPOINTS"} - {"BOXOFFICE_ENVIRONMENT"}


def test_a_laptop_may_have_all_of_it() -> None:
    told = {
        "BOXOFFICE_FAILPOINTS": "engine.before_commit=kill",
        "BOXOFFICE_RABBITMQ_URL": "amqp://guest:guest@broker/tk",
    }
    assert Settings.read(told).failpoints


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BOXOFFICE_RABBITMQ_WORKER_PASSWORD", "demo-s3cr3t"),
        ("BOXOFFICE_POSTGRES_URL", "postgresql://boxoffice:demo-s3cr3t@db.internal/boxoffice"),
        ("BOXOFFICE_RABBITMQ_URL", "amqp://guest:s3cr3t@broker.internal/tk"),
    ],
)
def test_no_error_repeats_a_secret(variable: str, value: str) -> None:
    with pytest.raises(UnusableSettings) as unusable:
        Settings.read({**PRODUCTION, variable: value})
    assert "s3cr3t" not in str(unusable.value)


# ---- the broker's address


def test_each_role_has_its_own_user_at_the_broker() -> None:
    settings = Settings(rabbitmq_url="amqp://broker:5672/tk", rabbitmq_worker_password="p@ss/word:1")
    assert settings.rabbitmq_url_for("worker") == "amqp://worker:p%40ss%2Fword%3A1@broker:5672/tk?heartbeat=10"
    for user in get_args(BrokerUser):
        assert settings.rabbitmq_url_for(user).startswith(f"amqp://{user}:")


def test_an_address_that_names_a_user_is_kept() -> None:
    address = "amqp://somebody:secret@broker/tk?heartbeat=3"
    assert Settings(rabbitmq_url=address).rabbitmq_url_for("worker") == address
