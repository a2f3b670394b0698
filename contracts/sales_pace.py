"""When will everything be sold, if it goes on as it does now?"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from contracts.value import Value

# Long enough that one quiet minute is not the end of a sale, short enough that the first rush is soon forgotten.
PACE_MINUTES = 10
# Beyond this it is no estimate: a sale that goes on for longer than that changes its pace a hundred times.
ESTIMATE_MAX = timedelta(days=365)


class SalesMinute(NamedTuple):
    """How many seats were sold in the minute that began then."""

    minute_at: datetime
    seats_sold: int


class SellOut(Value):
    """The pace of the last minutes, carried on until nothing is left."""

    seats_per_minute: float = Field(
        description=f"sold on average, of the last {PACE_MINUTES} minutes or since the sale began"
    )
    seats_left: int = Field(description="those that can be had and those that are held")
    seconds: int = Field(description="from now")
    at: AwareDatetime


def time_to_sell_out(
    seats_left: int, minutes: Iterable[SalesMinute], *, began_at: datetime, now: datetime
) -> SellOut | None:
    """What is left (seats held count: they are sold or come back), divided by the average pace since PACE_MINUTES - 1 full
    minutes ago or since the sale began, whichever is later; the minute that is running counts as far as it has run. None
    when nothing is left, nothing was sold in that time, or it would take longer than ESTIMATE_MAX.
    """
    this_minute = now.replace(second=0, microsecond=0)
    window_at = max(this_minute - timedelta(minutes=PACE_MINUTES - 1), min(began_at, now))
    # Whole minutes are counted, and the sale may have begun in the middle of one.
    sold = sum(minute.seats_sold for minute in minutes if minute.minute_at > window_at - timedelta(minutes=1))
    if seats_left <= 0 or sold <= 0:
        return None
    # Of the first second of a sale nothing can be said yet.
    elapsed_seconds = max(1.0, (now - window_at).total_seconds())
    seconds = seats_left * elapsed_seconds / sold
    if seconds > ESTIMATE_MAX.total_seconds():
        return None
    return SellOut(
        seats_per_minute=round(sold * 60 / elapsed_seconds, 2),
        seats_left=seats_left,
        seconds=round(seconds),
        at=now + timedelta(seconds=round(seconds)),
    )
