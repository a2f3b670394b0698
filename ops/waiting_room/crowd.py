"""Who comes to a sale, and what do they do while they wait?

Everybody is drawn from a seed, so a rehearsal can be repeated. All times are seconds of the sale, not of the rehearsal,
which may run faster. The shares are guesses to be turned; patience is the one that matters.
"""

import random
from dataclasses import dataclass

# Who closes the page says nothing; browsers tell us of some, because the page sends a last word.
SAYS_GOODBYE_SHARE = 0.35
# Hidden tabs are throttled to a timer a minute; phones put them to sleep altogether, for some minutes at a time.
HIDDEN_HEARTBEAT_SECONDS = 60.0
ASLEEP_SHARE_OF_HIDDEN = 0.1
ASLEEP_SECONDS = (60.0, 300.0)
# Of those who miss their turn although they are there, this share comes back in time for the one return.
RETURNS_SHARE = 0.5
SHOPPING_SECONDS = 150.0
BUYS_SHARE = 0.7


@dataclass(frozen=True)
class CrowdPlan:
    """Who is expected. `early_share` comes before the start, evenly over `early_seconds`; the others within
    `late_seconds` after it, most of them soon."""

    people: int
    patience_seconds: float = 1200.0
    early_share: float = 0.8
    early_seconds: float = 300.0
    late_seconds: float = 480.0
    hidden_share: float = 0.3
    asleep_at_turn_share: float = 0.05
    random_seed: int = 1


@dataclass(slots=True)
class Visitor:
    """Somebody, and what they will do: times in seconds of the sale, the start being 0."""

    number: int
    comes_at: float
    leaves_at: float
    says_goodbye: bool
    is_hidden: bool
    asleep_from: float
    asleep_until: float
    reacts_after: float  # from the turn to the claim, unless they are gone
    misses_turn: bool
    returns_after: float | None
    shops_for: float
    buys: bool

    def is_silent(self, at_seconds: float) -> bool:
        """Does nothing come from them at that time?"""
        return at_seconds >= self.leaves_at or self.asleep_from <= at_seconds < self.asleep_until

    def heartbeat_seconds(self, usual: float) -> float:
        """How often they are heard, where that is usual."""
        return max(usual, HIDDEN_HEARTBEAT_SECONDS) if self.is_hidden else usual


def a_crowd(plan: CrowdPlan) -> list[Visitor]:
    """Everybody, in the order in which they come."""
    chance = random.Random(plan.random_seed)  # noqa: S311 -- a rehearsal that can be repeated
    times = sorted(_comes_at(plan, chance) for _ in range(plan.people))
    return [_visitor(plan, chance, number, comes_at) for number, comes_at in enumerate(times)]


def _comes_at(plan: CrowdPlan, chance: random.Random) -> float:
    if chance.random() < plan.early_share:
        return -chance.uniform(0, plan.early_seconds)
    return chance.betavariate(1, 4) * plan.late_seconds


def _visitor(plan: CrowdPlan, chance: random.Random, number: int, comes_at: float) -> Visitor:
    is_hidden = chance.random() < plan.hidden_share
    leaves_at = comes_at + chance.expovariate(1 / plan.patience_seconds)
    sleeps = is_hidden and chance.random() < ASLEEP_SHARE_OF_HIDDEN
    asleep_from = comes_at + chance.uniform(0, plan.patience_seconds) if sleeps else leaves_at
    return Visitor(
        number=number,
        comes_at=comes_at,
        leaves_at=leaves_at,
        says_goodbye=chance.random() < SAYS_GOODBYE_SHARE,
        is_hidden=is_hidden,
        asleep_from=asleep_from,
        asleep_until=asleep_from + (chance.uniform(*ASLEEP_SECONDS) if sleeps else 0.0),
        # The next poll, three seconds apart at the head of the line, and a moment to click.
        reacts_after=chance.uniform(0, 3) + chance.expovariate(1 / 5),
        misses_turn=chance.random() < plan.asleep_at_turn_share,
        returns_after=chance.uniform(5, 240) if chance.random() < RETURNS_SHARE else None,
        shops_for=chance.lognormvariate(0, 0.5) * SHOPPING_SECONDS,
        buys=chance.random() < BUYS_SHARE,
    )
