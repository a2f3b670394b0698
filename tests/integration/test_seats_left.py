"""Does an operator see how many seats are left, of events on sale and of no others?"""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from consumers import seats_left
from consumers.seats_left import SeatsLeft
from tests.builders import OnSale, a_user


@pytest.fixture(autouse=True)
def always_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look counts."""
    monkeypatch.setattr(seats_left, "LOOK_EVERY_SECONDS", 0.0)


def left(sale: OnSale) -> float | None:
    return REGISTRY.get_sample_value("available_seats", {"event_id": str(sale.event_id)})


async def test_what_is_held_is_not_left_and_what_ran_out_is(sale: OnSale, pool: Any) -> None:
    figures = SeatsLeft(pool)
    await figures.look([sale.event_id])
    assert left(sale) == 60
    hold = await sale.hold(a_user(), sale.seats[:4])
    await figures.look([sale.event_id])
    assert left(sale) == 56
    await sale.end_holds_now(hold.hold_id)
    await sale.hold(a_user(), sale.seats[10:11])
    await figures.look([sale.event_id])
    assert left(sale) == 59


async def test_an_event_that_has_not_changed_is_not_counted_again(
    sale: OnSale, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = SeatsLeft(pool)
    await figures.look([sale.event_id])

    async def nobody(*_: object) -> dict[Any, int]:
        raise AssertionError("counted although nothing has changed")

    monkeypatch.setattr(seats_left, "count_available", nobody)
    await figures.look([sale.event_id])
    await sale.hold(a_user(), sale.seats[:1])
    with pytest.raises(AssertionError):
        await figures.look([sale.event_id])


async def test_the_figure_of_a_sale_that_is_over_is_gone(sale: OnSale, pool: Any) -> None:
    figures = SeatsLeft(pool)
    await figures.look([sale.event_id])
    await figures.look([])
    assert left(sale) is None
