"""What can a door hear about a code, and what does it tell of a scan?"""

from enum import StrEnum
from typing import NewType
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.ids import TicketId
from contracts.value import Value

Nonce = NewType("Nonce", UUID)


class CheckInResult(StrEnum):
    """The closed list. Only `valid` lets in; a refusal at the door is a normal answer and no error."""

    VALID = "valid"
    ALREADY_USED = "already_used"  # it has let somebody in; `first` says when and where
    TRANSFERRED = "transferred"  # the code of somebody who has passed the ticket on since
    REFUNDED = "refunded"
    CANCELLED = "cancelled"
    RESOLD = "resold"
    ON_RESALE = "on_resale"  # its owner offers it to others; withdrawing the offer makes it good again
    WRONG_EVENT = "wrong_event"
    OUTDATED = "outdated"  # a picture of a code that changes, or a printed code of an event whose codes change
    FORGED = "forged"  # not signed by us, unreadable, or of no ticket there is


# Of a ticket that is void: why it is, as `tickets.ended_because` says it.
OF_ENDED_TICKETS = frozenset({CheckInResult.REFUNDED, CheckInResult.CANCELLED, CheckInResult.RESOLD})

WHAT_TO_SAY: dict[CheckInResult, str] = {
    CheckInResult.VALID: "Welcome.",
    CheckInResult.ALREADY_USED: "This ticket has let somebody in already.",
    CheckInResult.TRANSFERRED: "This ticket was passed on to somebody else; the code is that of before.",
    CheckInResult.REFUNDED: "This ticket was given back.",
    CheckInResult.CANCELLED: "This event or ticket was cancelled.",
    CheckInResult.RESOLD: "This ticket was sold on.",
    CheckInResult.ON_RESALE: "This ticket is being offered to others; its owner may withdraw the offer.",
    CheckInResult.WRONG_EVENT: "This ticket is for another event.",
    CheckInResult.OUTDATED: "Open the ticket itself: a picture or a print of its code does not count.",
    CheckInResult.FORGED: "This is no ticket of ours.",
}


class AdmittedBefore(Value):
    """The scan that let the bearer of this ticket in."""

    gate: str
    scanned_at: AwareDatetime
    offline: bool = Field(description="whether the device judged by itself, without a network")


class CheckedIn(Value):
    """What came of a scan."""

    nonce: Nonce
    result: CheckInResult
    admit: bool = Field(description="whether to let the bearer in; of an uploaded scan, whether they went in")
    conflict: bool = Field(
        False,
        description="of an uploaded scan: somebody went in who should not have, or the same ticket let two in; `first` is the"
        " scan that counts, or, when this one does, the one that counted until now",
    )
    say: str = Field(description="the same in words, for the device's screen")
    ticket_id: TicketId | None = Field(None, description="null when the code names no ticket of this event")
    section: str = ""
    row: str = ""
    seat_number: str = ""
    tier: str = Field("", description="empty for the usual price")
    holder: str = Field("", description="the name of whoever has the ticket; empty for the code of somebody before")
    first: AdmittedBefore | None = None
