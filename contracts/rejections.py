"""Which are the ways in which a sale says no?

A refusal is a normal answer. The list is closed: a rule may give no other, the ingress has an HTTP status for each, and
the documentation says for each what a client should do.
"""

from enum import StrEnum


class RejectionCode(StrEnum):
    """Why a command was refused. The values are the stable `code` of the HTTP problem."""

    EVENT_UNKNOWN = "event_unknown"
    SALE_NOT_OPEN = "sale_not_open"
    SALE_CLOSED = "sale_closed"
    EVENT_CANCELLED = "event_cancelled"
    NOT_ADMITTED = "not_admitted"
    ADMISSION_UNKNOWN = "admission_unknown"
    SEATS_UNKNOWN = "seats_unknown"
    SEATS_UNAVAILABLE = "seats_unavailable"
    NOT_ENOUGH_SEATS = "not_enough_seats"
    TICKET_LIMIT_EXCEEDED = "ticket_limit_exceeded"
    TOO_MANY_HOLDS = "too_many_holds"
    HOLD_UNKNOWN = "hold_unknown"
    HOLD_EXPIRED = "hold_expired"
    HOLD_RELEASED = "hold_released"
    HOLD_IN_PAYMENT = "hold_in_payment"
    HOLD_ALREADY_PAID = "hold_already_paid"
    HOLD_CEILING_REACHED = "hold_ceiling_reached"
    PAYMENT_DECLINED = "payment_declined"
    PAYMENT_UNAVAILABLE = "payment_unavailable"
    ORDER_UNKNOWN = "order_unknown"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_NOT_REFUNDABLE = "order_not_refundable"
    TICKET_UNKNOWN = "ticket_unknown"
    NOT_OFFERED = "not_offered"
    STILL_IN_PROGRESS = "still_in_progress"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    DEADLINE_PASSED = "deadline_passed"
    NOT_PROCESSED = "not_processed"


WHAT_TO_DO: dict[RejectionCode, str] = {
    RejectionCode.EVENT_UNKNOWN: "Check the event id; the event may have been removed.",
    RejectionCode.SALE_NOT_OPEN: "Wait until the sale opens, then try again.",
    RejectionCode.SALE_CLOSED: "The sale is over; nothing more is sold for this event.",
    RejectionCode.EVENT_CANCELLED: "The event is cancelled; paid orders are refunded without a request.",
    RejectionCode.NOT_ADMITTED: "Join the waiting room, wait for your turn, and claim it.",
    RejectionCode.ADMISSION_UNKNOWN: "Nothing happened; the waiting room does not answer. Try again after Retry-After.",
    RejectionCode.SEATS_UNKNOWN: "Load the seat map again and choose from its seats.",
    RejectionCode.SEATS_UNAVAILABLE: "Choose other seats; these were taken.",
    RejectionCode.NOT_ENOUGH_SEATS: "Ask for fewer seats or another section.",
    RejectionCode.TICKET_LIMIT_EXCEEDED: "Release a hold first, or choose fewer seats.",
    RejectionCode.TOO_MANY_HOLDS: "Pay for a hold or release one first.",
    RejectionCode.HOLD_UNKNOWN: "Reserve seats first; this hold is not yours or never was.",
    RejectionCode.HOLD_EXPIRED: "Reserve again; the time to pay is over and the seats are back on sale.",
    RejectionCode.HOLD_RELEASED: "Reserve again; this hold was given back.",
    RejectionCode.HOLD_IN_PAYMENT: "Wait for the payment's outcome; look at the order.",
    RejectionCode.HOLD_ALREADY_PAID: "Look at your orders; this hold is paid.",
    RejectionCode.HOLD_CEILING_REACHED: "Pay now; a hold cannot be extended any further.",
    RejectionCode.PAYMENT_DECLINED: "Try another card; your seats are still held.",
    RejectionCode.PAYMENT_UNAVAILABLE: "Try again shortly; your seats are still held.",
    RejectionCode.ORDER_UNKNOWN: "Check the order id.",
    RejectionCode.ORDER_CANCELLED: "Reserve again; the order was cancelled and nothing was charged.",
    RejectionCode.ORDER_NOT_REFUNDABLE: "Only completed orders can be refunded.",
    RejectionCode.TICKET_UNKNOWN: "Check the ticket id.",
    RejectionCode.NOT_OFFERED: "This is not offered for this event.",
    RejectionCode.STILL_IN_PROGRESS: "Your first request is still being worked on; repeat it after Retry-After.",
    RejectionCode.IDEMPOTENCY_KEY_REUSED: "Use a new Idempotency-Key for a different request.",
    RejectionCode.DEADLINE_PASSED: "Nothing happened; try again.",
    RejectionCode.NOT_PROCESSED: "Nothing happened; the request was put aside for an operator. Try again.",
}
