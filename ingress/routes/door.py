"""Whom may a door let in?

Not through the event's queue: no seat changes hands at a door, and the lock on the ticket's record orders a scan against
transfers and refunds, which lock it too. So a door works while RabbitMQ is away; while Redis is, for whoever was known a
moment ago.
"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import Field, model_validator
from sanic import Blueprint, HTTPResponse, Request

from contracts.check_ins import CheckedIn, Nonce
from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.value import Value
from db.check_ins import may_scan
from ingress.check_in_desk import Asked
from ingress.check_in_rules import Scan
from ingress.gate import Bucket, admitted_scanner
from ingress.http_cache import named_tags
from ingress.operation import Access, Content, operation
from ingress.request_body import RequestModel, read_json
from ingress.resources import resources_of
from ingress.responses import Answer, ProblemCode, Refusal, empty_response, json_response, problem
from ingress.routes.events import CalendarTime
from ingress.texts import Name

door = Blueprint("door", url_prefix="/api")

# With 40 characters for the gate they fit into the largest body we read; longer logs are sent in parts.
SCANS_MAX = 200
CODE_LENGTH_MAX = 200

GZIP = "application/gzip"

_CODE = "CAHJ7K2Y6LZ4W3QX5VUTSRPONMLKJIHGFEDCBA234567ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCD"
_SCAN = {"code": _CODE, "nonce": "0e9b7c2a-5d14-4f0b-8a3e-6c1d2f3a4b5c", "gate": "North 2"}

Gate = Annotated[Name, Field(max_length=40, description="as it is called on the sign above it")]
Code = Annotated[str, Field(min_length=1, max_length=CODE_LENGTH_MAX, repr=False, description="what the QR code says")]


class CheckInRequest(RequestModel):
    """A code that was read at a gate of this event."""

    event_id: UUID
    code: Code
    nonce: UUID = Field(description="a new one for each scan, the same for each time that it is sent")
    gate: Gate
    scanned_at: CalendarTime | None = Field(
        None, description="when the code was read, for what is sent again; more than a minute ago does not count"
    )

    def scan(self) -> Scan:
        """The same for the rules."""
        return Scan(nonce=Nonce(self.nonce), code=self.code, gate=self.gate, scanned_at=self.scanned_at)


class OfflineScan(RequestModel):
    """A code that a device has judged by itself, with the list it had."""

    code: Code
    nonce: UUID = Field(description="a new one for each scan")
    gate: Gate
    scanned_at: CalendarTime = Field(description="by the device's clock")
    admitted: bool = Field(description="whether its bearer was let in")

    def scan(self) -> Scan:
        """The same for the rules."""
        return Scan(
            nonce=Nonce(self.nonce),
            code=self.code,
            gate=self.gate,
            scanned_at=self.scanned_at,
            went_in=self.admitted,
        )


class BatchRequest(RequestModel):
    """What a device has scanned without a network, in any order: the oldest is looked at first."""

    event_id: UUID
    scans: Annotated[tuple[OfflineScan, ...], Field(strict=False, min_length=1, max_length=SCANS_MAX)]

    @model_validator(mode="after")
    def _each_nonce_once(self) -> "BatchRequest":
        if len({scan.nonce for scan in self.scans}) != len(self.scans):
            raise ValueError("scans: each has a nonce of its own")
        return self


class BatchCheckedIn(Value):
    """What came of each scan, the oldest first."""

    scans: tuple[CheckedIn, ...]


@door.post("/checkin")
@operation(
    access=Access.SCANNER,
    bucket=Bucket.DOOR,
    body=CheckInRequest,
    answers={HTTPStatus.OK: CheckedIn},
    refusals=(RejectionCode.EVENT_UNKNOWN, RejectionCode.IDEMPOTENCY_KEY_REUSED),
    examples={"a code": {"eventId": "7c3f0d62-3f5e-4d0a-9b5e-0d6f6f6d2b11", **_SCAN}},
)
async def check_in(request: Request) -> HTTPResponse:
    """Let the bearer of a code in, once. A ticket that lets nobody in is a normal answer, with the reason in `result`. Sent
    again with its nonce, a scan gets the answer it got, byte for byte, whatever has happened since: after a broken connection
    repeat it as it was."""
    asker = await admitted_scanner(request, Bucket.DOOR)
    wanted = read_json(request, CheckInRequest)
    desk = resources_of(request).check_in_desk
    answer = await desk.check_in(EventId(wanted.event_id), asker.user_id, wanted.scan())
    return json_response(answer) if isinstance(answer, bytes) else problem(answer)


@door.post("/checkin/batch")
@operation(
    access=Access.SCANNER,
    bucket=Bucket.DOOR,
    body=BatchRequest,
    answers={HTTPStatus.OK: BatchCheckedIn},
    refusals=(RejectionCode.EVENT_UNKNOWN, RejectionCode.IDEMPOTENCY_KEY_REUSED),
    examples={
        "two scans": {
            "eventId": "7c3f0d62-3f5e-4d0a-9b5e-0d6f6f6d2b11",
            "scans": [{**_SCAN, "scannedAt": "2027-05-14T19:02:11+02:00", "admitted": True}],
        }
    },
)
async def check_in_batch(request: Request) -> HTTPResponse:
    """Upload what was scanned without a network. Of two devices that let the same ticket in the first one counts, by the time of
    the scan; the other is a conflict, and so is whoever went in with a ticket that had been passed on or given back by then.
    What was admitted with a network always counts."""
    asker = await admitted_scanner(request, Bucket.DOOR)
    wanted = read_json(request, BatchRequest)
    scans = sorted((scan.scan() for scan in wanted.scans), key=lambda scan: (scan.scanned_at, scan.nonce))
    desk = resources_of(request).check_in_desk
    answers = await desk.check_in_all(EventId(wanted.event_id), [Asked(asker.user_id, scan) for scan in scans])
    told = [answer for answer in answers if isinstance(answer, bytes)]
    refused = next((answer for answer in answers if not isinstance(answer, bytes)), None)
    if refused is not None:
        return problem(refused)
    return json_response(b'{"scans":[' + b",".join(told) + b"]}")


@door.get("/events/<event_id:uuid>/checkin-list")
@operation(
    access=Access.SCANNER,
    bucket=Bucket.DOOR,
    answers={
        HTTPStatus.OK: Content(
            GZIP,
            "All tickets, gzipped: JSON lines of a head, a line for each ticket, and a tail with an Ed25519 signature.",
        )
    },
    refusals=(RejectionCode.EVENT_UNKNOWN,),
    cached=True,
)
async def show_check_in_list(request: Request, event_id: UUID) -> HTTPResponse:
    """What a door needs that has no network: of every ticket its status, its seat and a hash of its code, or, where codes change,
    the secret they are made with; signed, so that the device can tell that it is ours and whole. Ask again with the ETag in
    If-None-Match as long as there is a network."""
    asker = await admitted_scanner(request, Bucket.DOOR)
    resources = resources_of(request)
    if not await may_scan(resources.pool, asker.user_id):
        raise Refusal(problem(ProblemCode.FORBIDDEN))
    lists = resources.check_in_desk.lists
    version = await lists.find_version(EventId(event_id))
    if version is not None and _has(request, version):
        return empty_response(HTTPStatus.NOT_MODIFIED, _headers(version))
    found = await lists.find(EventId(event_id), version) if version is not None else None
    if found is None:
        return problem(RejectionCode.EVENT_UNKNOWN)
    version, packed = found
    return Answer(packed, int(HTTPStatus.OK), _headers(version), GZIP)


def _headers(version: str) -> dict[str, str]:
    # Of the scanner alone, and to be asked for again: no proxy and no other account on the device gets it.
    return {"etag": f'"{version}"', "cache-control": "private, no-cache"}


def _has(request: Request, version: str) -> bool:
    given = named_tags(", ".join(request.headers.getall("if-none-match", ())))
    return not given.isdisjoint(("*", f'"{version}"'))
