"""What kind of rush is it to be?"""

from dataclasses import dataclass

from contracts.ids import EventId

# Buyers whose first card is declined and who then try another.
DECLINED_CARD_SHARE = 0.05
# Buyers who point at seats on the map; the others take the best that are left.
BY_ID_SHARE = 0.3

SEATS_WANTED_MAX = 6


@dataclass(frozen=True)
class RushPlan:
    """What the operator asked for."""

    seat_count: int = 10_000
    buyer_count: int = 2_000
    # Everybody fights for this many seats, the first of the map; 0: the whole house.
    hot_seat_count: int = 0
    # Of those who hold seats, how many pay; the others give them back.
    checkout_rate: float = 0.9
    has_chaos: bool = False
    event_id: EventId | None = None
    seconds_max: float = 300.0
    # Sign in with a password, at a quarter of a second of a core each, instead of being signed in already.
    signs_in: bool = False
    connections_max: int = 256
    random_seed: int = 1
