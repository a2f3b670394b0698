"""How often may somebody ask?

The seed's limits: a token bucket for each user and each kind of request, so that watching never eats the right to buy.
"""

from dataclasses import dataclass
from enum import StrEnum

PERIOD_SECONDS = 60


class Bucket(StrEnum):
    """The kinds of requests that are counted apart."""

    AUTH = "auth"
    RESERVE = "reserve"
    CHECKOUT = "checkout"
    JOIN = "join"
    BROWSE = "browse"
    DOOR = "door"
    OTHER = "other"


# Requests a minute, from the seed. A full bucket holds a minute's worth, so a burst of that size passes.
REQUESTS_PER_MINUTE: dict[Bucket, int] = {
    Bucket.AUTH: 10,
    Bucket.RESERVE: 20,
    Bucket.CHECKOUT: 5,
    Bucket.JOIN: 5,
    # What anybody may read is counted by address, and one address is often a household or a campus; the seed's 100 is kept
    # for what is counted by user.
    Bucket.BROWSE: 600,
    # Twenty gates that share an account, each letting somebody in every second.
    Bucket.DOOR: 1200,
    Bucket.OTHER: 100,
}


@dataclass(frozen=True)
class Limit:
    """A bucket of `capacity` tokens, each of which takes `token_microseconds` to grow back."""

    bucket: Bucket
    capacity: int
    token_microseconds: int


def limits(multiplier: float) -> dict[Bucket, Limit]:
    """Every bucket's limit, scaled. At least one request passes, however small the multiplier."""
    return {bucket: _scaled(bucket, max(1, round(count * multiplier))) for bucket, count in REQUESTS_PER_MINUTE.items()}


def bucket_key(tag: str, bucket: Bucket) -> str:
    """Where the tokens of that kind are counted, for a `user_tag` or an `address_tag`."""
    return f"rate:{tag}:{bucket.value}"


def _scaled(bucket: Bucket, capacity: int) -> Limit:
    # A token that costs nothing would divide by zero in the script.
    return Limit(bucket, capacity, max(1, PERIOD_SECONDS * 1_000_000 // capacity))
