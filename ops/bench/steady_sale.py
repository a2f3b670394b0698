"""Who goes on buying while something else is measured?"""

from collections.abc import Iterator

from ops.bench.crowd import SEATS_PER_ASK, House, asks_for_each_pair, let_in, users_needed
from ops.bench.load import Ask
from ops.bench.stage import Stage
from ops.bench.steady import Tally, ask_steadily
from ops.bench.window import run, same_chance

# Seats that change hands, the pace that watching is measured at.
CHANGES_PER_SECOND = 200
CHANGES_RESERVATIONS_PER_SECOND = CHANGES_PER_SECOND / SEATS_PER_ASK


def reservations_of(stage: Stage, house: House, *, per_second: float, seconds: int) -> Iterator[Ask]:
    """Enough reservations of two neighbouring seats each for so long, in no order; the house must have the seats."""
    cookies = run(let_in(stage.settings, users_needed(round(per_second * seconds))))
    return iter(asks_for_each_pair(house, cookies, chance=same_chance()))


async def buy(stage: Stage, asks: Iterator[Ask], *, per_second: float, seconds: float) -> Tally:
    """Real reservations at that pace, and what became of them."""
    return await ask_steadily(stage.url, asks, per_second=per_second, seconds=seconds)
