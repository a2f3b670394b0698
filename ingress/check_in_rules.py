"""May the bearer of this code come in?

Pure: the code, what the books say of its ticket, and the moment it was shown go in; one of the closed list of results comes
out. The guards stand in the order in which a person at the door would want to hear of them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.check_ins import WHAT_TO_SAY, AdmittedBefore, CheckedIn, CheckInResult, Nonce
from contracts.ids import EventId
from contracts.ticket_codes import CodeRead
from db.check_ins import Admission, EventAtDoor, TicketAtDoor

# A request that is sent again after a broken connection is judged by when its code was seen; longer ago than this it is
# somebody's memory.
SEEN_AGO_MAX = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Scan:
    """A code that was read at a gate. `went_in` is what a device without a network decided; None: we decide."""

    nonce: Nonce
    code: str
    gate: str
    scanned_at: datetime | None
    went_in: bool | None = None

    @property
    def offline(self) -> bool:
        """Whether the device has judged it by itself."""
        return self.went_in is not None

    def shown_at(self, now: datetime) -> datetime:
        """When the code was seen, for its time step: by the device's clock, by which an offline device has judged it."""
        if self.scanned_at is None or (not self.offline and abs(now - self.scanned_at) > SEEN_AGO_MAX):
            return now
        return self.scanned_at

    def recorded_as_at(self, now: datetime) -> datetime:
        """When it was scanned: no device has scanned anything after we heard of it."""
        return min(self.shown_at(now), now)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a scan. `gives_way`: the admission that counted until now came later than this one."""

    result: CheckInResult
    admitted: bool
    gives_way: bool = False
    first: Admission | None = None

    @property
    def counts(self) -> bool:
        """Whether the ticket is used by it. Whoever offers a ticket to others and is in the house has used it all the same: the
        sale sees it, and withdraws the offer."""
        return self.admitted and self.result in (CheckInResult.VALID, CheckInResult.ON_RESALE)

    @property
    def is_conflict(self) -> bool:
        """Whether somebody went in who should not have, or a second one with the same ticket."""
        return self.gives_way or (self.admitted and self.result is not CheckInResult.VALID)


def judge(
    scan: Scan, read: CodeRead | None, *, event_id: EventId, event: EventAtDoor, ticket: TicketAtDoor | None
) -> Verdict:
    """What becomes of this scan. `ticket` is the one the code names, if it names one of this event."""
    result = result_of(read, event_id=event_id, event=event, ticket=ticket, shown_at=scan.shown_at(event.now))
    first = ticket.admission if ticket is not None else None
    if not scan.offline:
        return Verdict(result, admitted=result is CheckInResult.VALID, first=_told(result, first))
    went_in = bool(scan.went_in)
    if result is CheckInResult.ALREADY_USED and went_in and _was_before(scan, first, event.now):
        return Verdict(CheckInResult.VALID, admitted=True, gives_way=True, first=first)
    return Verdict(result, admitted=went_in, first=_told(result, first))


def result_of(
    read: CodeRead | None,
    *,
    event_id: EventId,
    event: EventAtDoor,
    ticket: TicketAtDoor | None,
    shown_at: datetime,
) -> CheckInResult:
    """What the books say of the code, shown at that moment."""
    if read is None:
        return CheckInResult.FORGED
    if read.event_id != event_id:
        return CheckInResult.WRONG_EVENT
    if ticket is None:
        # We signed it, and there is no such ticket: it was never sold in this database.
        return CheckInResult.FORGED
    if read.version != ticket.version:
        return CheckInResult.TRANSFERRED
    if ticket.status != "valid":
        return CheckInResult(ticket.ended_because)
    if event.is_cancelled:
        return CheckInResult.CANCELLED
    if (event.rotating_codes and not read.is_rotating) or not read.is_of_now(shown_at):
        return CheckInResult.OUTDATED
    if ticket.admission is not None:
        return CheckInResult.ALREADY_USED
    if ticket.is_on_resale:
        return CheckInResult.ON_RESALE
    return CheckInResult.VALID


def answer_of(scan: Scan, verdict: Verdict, ticket: TicketAtDoor | None) -> CheckedIn:
    """What the device is told."""
    told = CheckedIn(
        nonce=scan.nonce,
        result=verdict.result,
        admit=verdict.admitted,
        conflict=verdict.is_conflict,
        say=WHAT_TO_SAY[verdict.result],
        first=_written(verdict.first),
    )
    if ticket is None:
        return told
    # Who has the ticket now is no business of whoever shows a code of before.
    is_holders = verdict.result is not CheckInResult.TRANSFERRED
    return told.model_copy(
        update={
            "ticket_id": ticket.id,
            "section": ticket.section,
            "row": ticket.row,
            "seat_number": ticket.seat_number,
            "tier": ticket.tier,
            "holder": ticket.holder if is_holders else "",
        }
    )


def _was_before(scan: Scan, first: Admission | None, now: datetime) -> bool:
    """Of two devices without a network, the one that scanned first counts. What we admitted ourselves always does."""
    return first is not None and first.offline and scan.recorded_as_at(now) < first.scanned_at


def _told(result: CheckInResult, first: Admission | None) -> Admission | None:
    return first if result is CheckInResult.ALREADY_USED else None


def _written(first: Admission | None) -> AdmittedBefore | None:
    if first is None:
        return None
    return AdmittedBefore(gate=first.gate, scanned_at=first.scanned_at, offline=first.offline)
