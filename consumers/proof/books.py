"""What must be true of an event's own books, whatever the payment provider says?"""

from consumers.proof.given_back import GIVEN_BACK_CHECKS
from consumers.proof.house import HOUSE_CHECKS
from consumers.proof.report import Check
from consumers.proof.sales import SALES_CHECKS
from db.proof import Books

BOOK_CHECKS: tuple[Check[Books], ...] = (*HOUSE_CHECKS, *SALES_CHECKS, *GIVEN_BACK_CHECKS)
# What no load and no outage excuses; a warning is only about how late something is.
INVARIANTS = tuple(check for check in BOOK_CHECKS if not check.is_warning)


def find_violations(books: Books) -> dict[str, tuple[str, ...]]:
    """By the name of the invariant, what contradicts it; empty when everything agrees."""
    results = (check.run(books) for check in INVARIANTS)
    return {result.name: result.differences for result in results if result.differences}
