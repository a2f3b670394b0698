"""How does a test offer a ticket to others?"""

from decimal import Decimal
from typing import Any
from uuid import UUID

from contracts.commands import (
    AcceptTransfer,
    DeclineTransfer,
    ExpireResales,
    ExpireTransfers,
    OfferResale,
    OfferTransfer,
    WithdrawResale,
    WithdrawTransfer,
)
from contracts.ids import EventId, ResaleId, TicketId, TransferId, UserId
from tests.builders import a_command_id

BOB = "bob@example.org"


def offer(event_id: EventId, user_id: UserId, ticket_id: UUID, *, to: str = BOB, **fields: Any) -> OfferTransfer:
    """A ticket for whoever has that address."""
    return OfferTransfer(**_asked(event_id, user_id, fields), ticket_id=TicketId(ticket_id), to_email=to)


def accept(event_id: EventId, user_id: UserId, transfer_id: UUID, **fields: Any) -> AcceptTransfer:
    """Taking it, by somebody who has shown that it was offered to him."""
    return AcceptTransfer(**_asked(event_id, user_id, fields), transfer_id=TransferId(transfer_id))


def turn_down(event_id: EventId, user_id: UserId, transfer_id: UUID, **fields: Any) -> DeclineTransfer:
    """Not taking it."""
    return DeclineTransfer(**_asked(event_id, user_id, fields), transfer_id=TransferId(transfer_id))


def keep(event_id: EventId, user_id: UserId, transfer_id: UUID, **fields: Any) -> WithdrawTransfer:
    """Keeping the ticket after all."""
    return WithdrawTransfer(**_asked(event_id, user_id, fields), transfer_id=TransferId(transfer_id))


def transfers_over(event_id: EventId, *transfer_ids: UUID) -> ExpireTransfers:
    """A hint that these offers may be over."""
    return ExpireTransfers(
        command_id=a_command_id(), event_id=event_id, transfer_ids=tuple(map(TransferId, transfer_ids))
    )


def resell(event_id: EventId, user_id: UserId, ticket_id: UUID, *, price: str = "45.00", **fields: Any) -> OfferResale:
    """A ticket's seat on sale again."""
    asked = _asked(event_id, user_id, fields)
    return OfferResale(**asked, ticket_id=TicketId(ticket_id), price=Decimal(price))


def take_off_sale(event_id: EventId, user_id: UserId, resale_id: UUID, **fields: Any) -> WithdrawResale:
    """Keeping the seat after all."""
    return WithdrawResale(**_asked(event_id, user_id, fields), resale_id=ResaleId(resale_id))


def resales_over(event_id: EventId, *resale_ids: UUID) -> ExpireResales:
    """A hint that nobody can buy these seats any more."""
    return ExpireResales(command_id=a_command_id(), event_id=event_id, resale_ids=tuple(map(ResaleId, resale_ids)))


def _asked(event_id: EventId, user_id: UserId, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "command_id": a_command_id(),
        "correlation_id": a_command_id(),
        "event_id": event_id,
        "user_id": user_id,
        **fields,
    }
