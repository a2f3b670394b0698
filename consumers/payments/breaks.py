"""Which differences between the payment provider's books and ours has this process found?"""

from uuid import UUID

from prometheus_client import Counter

from db import payments as records
from db.postgres import Pool

REFUND_REFUSED = "refund_refused"
# Open after a restore (`after_restore.py`): some of an order's money went back, and for which tickets is not in our books any
# more. Until a person has said, nothing of that order is given, or it would go twice.
REFUND_IN_PART = "refund_in_part"
KINDS = (
    "amount_differs",
    "captured_without_order",
    "authorized_without_order",
    "refund_missing",
    "order_not_paid",
    REFUND_REFUSED,
)

BREAKS = Counter(
    "boxoffice_payment_breaks_total", "Differences found between the payment provider's books and ours", ["kind"]
)
for _kind in KINDS:
    BREAKS.labels(_kind)  # so that the first of them is an increase


async def write_down(
    pool: Pool, kind: str, *, event_id: UUID | None, order_id: UUID | None, intent_id: str, detail: str
) -> None:
    """Keep it for those who look into it, and count it, once while it is open."""
    is_new = await records.record_break(
        pool, kind, event_id=event_id, order_id=order_id, intent_id=intent_id, detail=detail
    )
    BREAKS.labels(kind).inc(is_new)
