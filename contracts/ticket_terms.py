"""What may the owner of a ticket do with it now?

For showing: what counts is what the sale decides when it is asked (consumers/rules: refunds, transfers, resales), and these
are its guards, so that nobody is shown a button that only says no.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydantic import AwareDatetime, Field

from contracts.value import Value


class TicketTerms(Value):
    """What may be done with a ticket at this moment, and the event's policy behind it."""

    refundable: bool
    refundable_until: AwareDatetime | None = Field(description="the event's deadline for its buyers; null: no refunds")
    refund_fee_rate: Decimal = Field(description="which share of the price is kept of a refund")
    transferable: bool
    resellable: bool


@dataclass(frozen=True, kw_only=True)
class EventPolicy:
    """What the organiser allows, and when the show and its sale are. Times are aware."""

    event_date: datetime
    off_sale_date: datetime
    cancelled: bool
    transfers: bool
    resales: bool
    refund_until: datetime | None
    refund_fee_rate: Decimal


def terms_of(policy: EventPolicy, *, now: datetime, in_hand: bool, bought: bool) -> TicketTerms:
    """The terms of a ticket for its present owner. `in_hand`: it is valid, has let nobody in, and is on offer to nobody.
    `bought`: he is who paid for it; the money of a refund or resale goes back to the card that paid."""
    open_ = in_hand and not policy.cancelled
    return TicketTerms(
        refundable=open_ and bought and policy.refund_until is not None and now < policy.refund_until,
        refundable_until=policy.refund_until,
        refund_fee_rate=policy.refund_fee_rate,
        transferable=open_ and policy.transfers and now < policy.event_date,
        resellable=open_ and bought and policy.resales and now < policy.off_sale_date,
    )
