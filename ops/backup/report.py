"""What does somebody have to know who has just restored a shop, and what must he write to whom?"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.payments.after_restore import Difference, Kind
from ops.backup.manifest import Manifest, write_private
from ops.backup.reconciling import Reconciled
from ops.verify import as_table

WHAT_IT_IS: dict[Kind, tuple[str, str]] = {
    "order_lost": ("paid for an order made after the backup", "all of it given back"),
    "authorization_lost": ("set aside for an order made after the backup", "let go"),
    "intent_lost": ("a payment begun after the backup, no money in it", "ended"),
    "payment_unknown_to_us": ("paying when the backup was taken", "brought to its end"),
    "refund_lost": ("given back after the backup, all of it", "given back in our books, seats free"),
    "refund_in_part": ("given back after the backup, a part of it", "left for a person: which tickets?"),
    "amount_differs": ("over another amount than our order", "left for a person"),
    "not_understood": ("in a state that we do not know", "left for a person"),
}


def as_summary(result: Reconciled) -> RenderableType:
    """What was found and done, by kind; then the verification."""
    heading = "what was done" if result.is_mended else "what would be done"
    table = Table("the provider has", "payments", "amount", heading, title_justify="left")
    table.title = f"since the books end ({result.snapshot_at:%Y-%m-%d %H:%M:%S} UTC)"
    for kind, currency, count, amount in result.totals():
        found, done = WHAT_IT_IS[kind]
        table.add_row(found, str(count), f"{amount} {currency}", done)
    parts: list[RenderableType] = [*([table] if result.differences else []), Text("\n".join(_sentences(result)))]
    if result.verified is not None:
        parts.append(as_table(result.verified))
    return Group(*parts)


def _sentences(result: Reconciled) -> Iterator[str]:
    yield f"{result.looked_at} payments compared with the provider's list, {len(result.differences)} differ."
    if result.foreign_count:
        yield f"{result.foreign_count} payments there name no order of ours: left alone."
    if result.is_mended and result.left:
        yield f"{len(result.left)} are left: they stand open in `breaks` and in the report."
    if result.unfinished_count:
        yield f"{result.unfinished_count} orders, refunds or messages are still under way: the consumers will finish them."


def write_report(folder: Path, manifest: Manifest | None, result: Reconciled) -> Path:
    """Everything, payment by payment, for whoever writes to the buyers; readable by us alone."""
    path = folder / f"restore-report-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    content = {
        "booksEndAt": result.snapshot_at.isoformat(),
        "reportedAt": datetime.now(UTC).isoformat(),
        "restored": manifest.records if manifest else None,
        "comparedPayments": result.looked_at,
        "payments": [_as_json(one, is_mended=result.is_mended) for one in _in_order(result.differences)],
        "unfinishedCount": result.unfinished_count,
        "differencesOfVerify": _differences(result),
    }
    write_private(path, json.dumps(content, indent=2) + "\n")
    return path


def _as_json(one: Difference, *, is_mended: bool) -> dict[str, object]:
    found, done = WHAT_IT_IS[one.kind]
    return {
        "kind": one.kind,
        "found": found,
        "done": done if one.is_mended else "not done" if is_mended else "nothing yet",
        "intentId": one.payment.intent_id,
        "orderId": one.payment.order_id,
        "amount": str(one.amount),
        "currency": one.payment.currency,
        "createdAt": one.payment.created_at.isoformat(),
        "eventId": str(one.ours.event_id) if one.ours else None,
    }


def _differences(result: Reconciled) -> dict[str, Sequence[str]] | None:
    if result.verified is None:
        return None
    return {check.name: check.differences for check in result.verified.results if check.differences}


def _in_order(differences: Sequence[Difference]) -> list[Difference]:
    return sorted(differences, key=lambda one: (one.kind, one.payment.created_at, one.payment.intent_id))
