"""Does the page of settings say all there is to say, and is it current?"""

import re
from typing import Any

import pytest
from pydantic import Field

from contracts.settings import PREFIX, Settings
from ops import settings_page as page
from ops.settings_page import PAGE, readers, settings_page, unit_of

# Whoever starts a process reads these for it: the stack its demo values, the interpreter's caller the rest.
NUMBERS_THAT_SAY_IT_ALL = {"room_capacity", "ingress_workers", "bcrypt_cost", "payment_concurrency", "stage_prefetch"}


def undescribed(settings: type[Settings]) -> list[str]:
    """Settings without a reason: one that repeats its name is none."""
    return [
        name
        for name, field in settings.model_fields.items()
        if len(field.description or "") < 10 or (field.description or "").replace(" ", "_") == name
    ]


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `make contracts`"


def test_every_setting_has_a_reason() -> None:
    assert undescribed(Settings) == []


def test_a_setting_without_a_reason_is_seen() -> None:
    class Hasty(Settings):
        new_limit_max: int = 5
        other_limit_max: int = Field(5, description="limit")

    assert undescribed(Hasty) == ["new_limit_max", "other_limit_max"]


def test_every_setting_is_on_the_page_once() -> None:
    listed = re.findall(rf"^\| `{PREFIX}([A-Z_]+)` ", settings_page(), re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_every_number_has_a_unit() -> None:
    numbers = [
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    ]
    assert [name for name in numbers if not unit_of(name) and name not in NUMBERS_THAT_SAY_IT_ALL] == []


def test_every_setting_is_read_by_somebody() -> None:
    assert [name for name, whom in readers().items() if not whom] == []


def test_a_setting_that_nobody_reads_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_sources", lambda: iter([("ingress", "settings.http_port")]))
    readers.cache_clear()
    try:
        found: dict[str, Any] = dict(readers())
    finally:
        readers.cache_clear()
    assert found["http_port"] == ("ingress",)
    assert found["hold_seconds"] == ()
