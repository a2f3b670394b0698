"""What has become of the orders made after the backup, and does everything agree again?

The provider is asked, not guessed about. Looking changes nothing; giving back needs to be asked for in so many words, because
to a copy of the shop every order made since looks lost, too.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from consumers.__main__ import run_roles
from consumers.broker import ConfirmedPublisher
from consumers.command_sender import CommandSender
from consumers.payments.after_restore import Comparison, Difference, Kind, compare_since, mend
from consumers.payments.gateway import ListingInterrupted, PaymentGateway
from consumers.payments.stage import Resources
from consumers.proof.report import Report
from contracts.ids import OrderId
from contracts.settings import Settings
from db import backups
from db.postgres import Pool, open_pool
from ops.backup.problem import BackupProblem
from ops.verify import verify_all

log = logging.getLogger(__name__)

Say = Callable[[str], None]

# What brings orders, payments and refunds to their ends. No ingress: nobody buys. No admissions: nobody waits in a room yet.
SETTLING_ROLES = ("lifecycle", "commands", "relay", "payments", "cleanup")
SETTLED_WITHIN_SECONDS = 180.0
LOOK_SECONDS = 0.5
# Bringing an order to its end may show another difference (a payment that was settled, and given back since).
ROUNDS_MAX = 3


@dataclass
class Reconciled:
    """What was found, what was done about it, and how it stands now."""

    snapshot_at: datetime
    looked_at: int = 0
    foreign_count: int = 0
    differences: list[Difference] = field(default_factory=list)
    is_mended: bool = False
    unfinished_count: int = 0
    verified: Report | None = None

    @property
    def left(self) -> list[Difference]:
        """What still waits: for a person, or for the provider to answer."""
        return [difference for difference in self.differences if not difference.is_mended]

    @property
    def is_clean(self) -> bool:
        """Everything is where it belongs."""
        agrees = self.verified is None or self.verified.is_clean
        return self.is_mended and not self.left and not self.unfinished_count and agrees

    def totals(self) -> list[tuple[Kind, str, int, Decimal]]:
        """Kind, currency, how many, and how much of them together."""
        amounts: dict[tuple[Kind, str], list[Decimal]] = defaultdict(list)
        for one in self.differences:
            amounts[one.kind, one.payment.currency].append(one.amount)
        return [
            (kind, currency, len(each), sum(each, Decimal(0))) for (kind, currency), each in sorted(amounts.items())
        ]


async def look(settings: Settings, snapshot_at: datetime) -> Reconciled:
    """Compare with the provider and change nothing."""
    async with _resources(settings) as resources:
        return _reconciled(snapshot_at, await _compare(snapshot_at, resources))


async def verify_books(settings: Settings) -> Report:
    """Whether our books agree with each other; the provider's are not asked."""
    async with await open_pool(settings, application_name="boxoffice restore", size=2) as pool:
        return await verify_all(pool, None)


async def reconcile(settings: Settings, snapshot_at: datetime, money_log: Path | None, *, say: Say) -> Reconciled:
    """Give back what was lost, bring to its end what was under way, and prove that everything agrees."""
    mended: dict[tuple[str, str], Difference] = {}
    async with _resources(settings) as resources:
        for _ in range(ROUNDS_MAX):
            comparison = await _compare(snapshot_at, resources)
            due = [one for one in comparison.differences if _key(one) not in mended or not mended[_key(one)].is_mended]
            done = await mend(due, resources)
            mended |= {_key(one): one for one in done}
            await backups.close_restores(resources.pool)
            if done:
                say(f"money: {sum(one.is_mended for one in done)} of {len(done)} differences put right")
            refunded = [one.ours.order_id for one in done if one.ours is not None and one.kind == "refund_lost"]
            unfinished_count = await settle(settings, resources.pool, refunded)
            if not any(one.is_mended for one in done):
                break
        result = _reconciled(snapshot_at, comparison)
        result.differences = list(mended.values())
        result.is_mended, result.unfinished_count = True, unfinished_count
        result.verified = await verify_all(resources.pool, money_log)
    return result


async def settle(settings: Settings, pool: Pool, refunded: Sequence[OrderId] = ()) -> int:
    """Let the consumers finish what was under way when the books ended, and the refunds of these orders; returns what is
    unfinished all the same."""
    if not (left := await backups.count_unfinished(pool, refunded)):
        return 0
    stopping = asyncio.Event()
    # Nothing has been asked of the provider for as long as the restore took: whatever is silent may be looked up at once.
    hurried = settings.model_copy(update={"payment_unknown_seconds": 1.0, "metrics_port": 0})
    running = asyncio.create_task(run_roles(SETTLING_ROLES, hurried, stopping))
    give_up_at = asyncio.get_running_loop().time() + SETTLED_WITHIN_SECONDS
    while left and asyncio.get_running_loop().time() < give_up_at and not running.done():
        await asyncio.sleep(LOOK_SECONDS)
        left = await backups.count_unfinished(pool, refunded)
    stopping.set()
    await running
    return await backups.count_unfinished(pool, refunded)


async def _compare(snapshot_at: datetime, resources: Resources) -> Comparison:
    try:
        return await compare_since(snapshot_at, datetime.now(UTC), resources)
    except ListingInterrupted as problem:
        raise BackupProblem(
            f"the payment provider did not answer: {problem}. Nothing has been given back twice by trying again later"
        ) from problem


def _reconciled(snapshot_at: datetime, comparison: Comparison) -> Reconciled:
    return Reconciled(
        snapshot_at, comparison.looked_at, comparison.foreign_count, differences=list(comparison.differences)
    )


def _key(difference: Difference) -> tuple[str, str]:
    return difference.kind, difference.payment.intent_id


@asynccontextmanager
async def _resources(settings: Settings) -> AsyncIterator[Resources]:
    pool = await open_pool(settings, application_name="boxoffice restore", size=6)
    gateway = PaymentGateway(settings)
    try:
        # As the ingress: the one command that mending sends is a person's, who types --give-back, and not a courier's.
        async with ConfirmedPublisher(settings, "ingress", name="restore tells") as publisher:
            yield Resources(
                settings=settings,
                pool=pool,
                gateway=gateway,
                publisher=publisher,
                sender=CommandSender(publisher),
                slots=asyncio.Semaphore(settings.payment_concurrency),
            )
    finally:
        await gateway.close()
        await pool.close()
