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
    CODE_NEEDED = "code_needed"
    CODE_UNKNOWN = "code_unknown"
    CODE_USED_UP = "code_used_up"
    CODE_ALREADY_APPLIED = "code_already_applied"
    TIER_UNKNOWN = "tier_unknown"
    TICKET_NOT_VALID = "ticket_not_valid"
    TICKET_CHECKED_IN = "ticket_checked_in"
    TICKET_ON_OFFER = "ticket_on_offer"
    TRANSFERS_CLOSED = "transfers_closed"
    TRANSFER_UNKNOWN = "transfer_unknown"
    TRANSFER_ENDED = "transfer_ended"
    TRANSFER_TO_YOURSELF = "transfer_to_yourself"
    REFUNDS_CLOSED = "refunds_closed"
    RESALES_CLOSED = "resales_closed"
    RESALE_PRICE_TOO_HIGH = "resale_price_too_high"
    RESALE_UNKNOWN = "resale_unknown"
    RESALE_ENDED = "resale_ended"
    RESALE_IN_CHECKOUT = "resale_in_checkout"
    WAITING_LIST_NOT_NEEDED = "waiting_list_not_needed"
    NOT_ON_WAITING_LIST = "not_on_waiting_list"
    NOT_OFFERED = "not_offered"
    PRICE_NOT_PAYABLE = "price_not_payable"
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
    RejectionCode.CODE_NEEDED: "This is a presale: give the access code that you were sent, or wait until the sale opens.",
    RejectionCode.CODE_UNKNOWN: "Check the code; it is not known for this event, or not valid now or for these seats.",
    RejectionCode.CODE_USED_UP: "The code has been used as often as it may be; reserve without it.",
    RejectionCode.CODE_ALREADY_APPLIED: "A hold takes one code; release it and reserve again to use another.",
    RejectionCode.TIER_UNKNOWN: "Load the event again and choose from the price tiers of the seat's section.",
    RejectionCode.TICKET_NOT_VALID: "This ticket was refunded, resold or cancelled; look at your orders.",
    RejectionCode.TICKET_CHECKED_IN: "This ticket has let somebody in; it can no longer change hands or be given back.",
    RejectionCode.TICKET_ON_OFFER: "Withdraw the open transfer or resale of this ticket first.",
    RejectionCode.TRANSFERS_CLOSED: "Tickets of this event cannot be transferred, or no longer.",
    RejectionCode.TRANSFER_UNKNOWN: "Check the link in the mail; the offer is not known, or not for your account.",
    RejectionCode.TRANSFER_ENDED: "This offer was accepted, declined, withdrawn or has run out; ask for a new one.",
    RejectionCode.TRANSFER_TO_YOURSELF: "Give the e-mail address of somebody else.",
    RejectionCode.REFUNDS_CLOSED: "The organiser's policy does not allow refunds of this event, or no longer; ask the organiser.",
    RejectionCode.RESALES_CLOSED: "Tickets of this event cannot be resold, or no longer.",
    RejectionCode.RESALE_PRICE_TOO_HIGH: "Ask for what the ticket cost, or less.",
    RejectionCode.RESALE_UNKNOWN: "Check the resale id.",
    RejectionCode.RESALE_ENDED: "This resale was sold or withdrawn; look at your orders.",
    RejectionCode.RESALE_IN_CHECKOUT: "Somebody is about to buy this seat; try again after Retry-After.",
    RejectionCode.WAITING_LIST_NOT_NEEDED: "Seats are still to be had; reserve them.",
    RejectionCode.NOT_ON_WAITING_LIST: "Join the waiting list first; you are not on it.",
    RejectionCode.NOT_OFFERED: "This is not offered for this event.",
    RejectionCode.PRICE_NOT_PAYABLE: "Ask for a whole number of the smallest payable unit of the event's currency.",
    RejectionCode.STILL_IN_PROGRESS: "Your first request is still being worked on; repeat it after Retry-After.",
    RejectionCode.IDEMPOTENCY_KEY_REUSED: "Use a new Idempotency-Key for a different request.",
    RejectionCode.DEADLINE_PASSED: "Nothing happened; try again.",
    RejectionCode.NOT_PROCESSED: "Nothing happened; the request was put aside for an operator. Try again.",
}
