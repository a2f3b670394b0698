"""What does the clock of the house say when a show begins?"""

from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# English by themselves: what strftime says depends on the locale of the process.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def local_time(at: datetime, time_zone: str) -> str:
    """That moment where the house is, as people write it: `Saturday 1 May 2032, 20:00 (Europe/Berlin)`. An aware time and an
    IANA name; one that this system does not know is as good as UTC."""
    zone, name = _zone(time_zone)
    there = at.astimezone(zone)
    return f"{_DAYS[there.weekday()]} {there.day} {_MONTHS[there.month - 1]} {there.year}, {there:%H:%M} ({name})"


@cache
def _zone(name: str) -> tuple[ZoneInfo, str]:
    try:
        return ZoneInfo(name), name
    except (ZoneInfoNotFoundError, ValueError):
        # A ticket with the right time in the wrong zone is worth more than none.
        return ZoneInfo("UTC"), "UTC"
