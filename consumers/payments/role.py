"""What does the `payments` role run? The stage and the reconciler, on one gateway with one breaker."""

import asyncio

from consumers.broker import ConfirmedPublisher
from consumers.command_sender import CommandSender
from consumers.payments import reconciler
from consumers.payments.gateway import PaymentGateway
from consumers.payments.stage import Resources, stage
from consumers.runtime import run_stage
from contracts.settings import Settings
from db.postgres import open_pool

# The stage's own statements are coalesced, so a handful of connections carries hundreds of orders a second.
POOL_SIZE = 6


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Authorise, capture, void, refund and reconcile until told to stop."""
    pool = await open_pool(settings, application_name="boxoffice payments", size=POOL_SIZE)
    gateway = PaymentGateway(settings)
    try:
        async with (
            ConfirmedPublisher(settings, "courier", name="payments tells") as publisher,
            asyncio.TaskGroup() as tasks,
        ):
            resources = Resources(
                settings=settings,
                pool=pool,
                gateway=gateway,
                publisher=publisher,
                sender=CommandSender(publisher),
                slots=asyncio.Semaphore(settings.payment_concurrency),
            )
            tasks.create_task(run_stage(stage(settings), resources, stopping))
            tasks.create_task(reconciler.run(resources, stopping))
    finally:
        await gateway.close()
        await pool.close()
