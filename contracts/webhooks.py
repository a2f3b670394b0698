"""What are organisers' own systems told, and in which words?

One flat list of types. Data is ids and amounts, never a name or an address: whoever may know more asks the API by the id.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from contracts.domain_events import AnyDomainEvent, Notice, NoticeKind, NoticesDue, OrdersCancelled, OrdersConfirmed


class WebhookType(StrEnum):
    """What a webhook can tell of."""

    ORDER_COMPLETED = "order.completed"
    ORDER_CANCELLED = "order.cancelled"
    REFUND_STARTED = "refund.started"
    ORDER_EVENT_CANCELLED = "order.event_cancelled"
    TRANSFER_OFFERED = "transfer.offered"
    TRANSFER_ACCEPTED = "transfer.accepted"
    TRANSFER_DECLINED = "transfer.declined"
    TRANSFER_WITHDRAWN = "transfer.withdrawn"
    TRANSFER_EXPIRED = "transfer.expired"
    TICKET_RESOLD = "ticket.resold"
    WAITING_LIST_OFFERED = "waiting_list.offered"
    TICKETS_GIVEN = "tickets.given"
    # Sent on request, to try an endpoint out.
    TEST = "endpoint.test"


_TYPE_OF_NOTICE: dict[NoticeKind, WebhookType] = {
    "refund_started": WebhookType.REFUND_STARTED,
    "event_cancelled": WebhookType.ORDER_EVENT_CANCELLED,
    "transfer_offered": WebhookType.TRANSFER_OFFERED,
    "transfer_accepted": WebhookType.TRANSFER_ACCEPTED,
    "transfer_declined": WebhookType.TRANSFER_DECLINED,
    "transfer_withdrawn": WebhookType.TRANSFER_WITHDRAWN,
    "transfer_expired": WebhookType.TRANSFER_EXPIRED,
    "ticket_resold": WebhookType.TICKET_RESOLD,
    "waiting_list_offer": WebhookType.WAITING_LIST_OFFERED,
    "tickets_given": WebhookType.TICKETS_GIVEN,
}


class Fact(NamedTuple):
    """Something that has happened. `source` names it for ever: it is told once, however often we hear of it."""

    source: str
    type: WebhookType
    data: Mapping[str, Any]


def facts_of(message: AnyDomainEvent) -> Iterator[Fact]:
    """What a message of ours tells of; nothing for those that are our own affair."""
    match message:
        case OrdersConfirmed(event_id=event_id, orders=confirmed):
            for order in confirmed:
                told = order.model_dump(mode="json", by_alias=True, exclude={"type"})
                yield Fact(f"order:{order.order_id}:completed", WebhookType.ORDER_COMPLETED, _of(event_id, told))
        case OrdersCancelled(event_id=event_id, orders=cancelled):
            for notice in cancelled:
                told = notice.model_dump(mode="json", by_alias=True)
                yield Fact(f"order:{notice.order_id}:cancelled", WebhookType.ORDER_CANCELLED, _of(event_id, told))
        case NoticesDue(event_id=event_id, notices=notices):
            for one in notices:
                yield Fact(f"{one.kind}:{one.subject_id}", _TYPE_OF_NOTICE[one.kind], _of(event_id, _told(one)))
        case _:
            return


def _told(notice: Notice) -> dict[str, Any]:
    return notice.model_dump(mode="json", by_alias=True, exclude={"kind"}, exclude_none=True)


def _of(event_id: object, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"eventId": str(event_id), **told}
