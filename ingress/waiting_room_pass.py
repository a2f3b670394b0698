"""Has whoever wants to set seats aside been let in?

The first look, which costs no trip: whether the request shows a pass of this event, account, session and epoch that has not
run out. Whoever has none need not bother the sale. The sale looks again, in Redis, before it touches a seat: a pass that was
released, or whose bearer has left, is found out there.
"""

from sanic import Request

from contracts.ids import EventId
from contracts.place_tokens import PlaceToken, TokenFault
from contracts.rejections import RejectionCode
from db.waiting_room import ROOM_AWAY, STOPS_NOBODY
from ingress.gate import Asker
from ingress.resources import resources_of
from ingress.responses import Refusal, problem


async def pass_of(request: Request, event_id: EventId, asker: Asker) -> PlaceToken | None:
    """The pass that came with the request; call it for events that have a waiting room, and for no others.

    None while the room stops nobody: it has not been opened yet, or has ended. Raises Refusal: `not_admitted` without a
    pass, `admission_unknown` while nobody can say how the room stands. Sharing, replaying and forging end here.
    """
    desk = resources_of(request).room_desk
    try:
        room = await desk.snapshots.find(event_id)
    except ROOM_AWAY:
        room = None
    if room is None:
        # There must be a room: either Redis has lost it, or it is being made. Nobody is let past on a guess.
        raise Refusal(problem(RejectionCode.ADMISSION_UNKNOWN))
    if room.snapshot.phase in STOPS_NOBODY:
        return None
    shown = desk.tokens.find_pass(
        request, event_id, asker.session, now_ms=desk.snapshots.now_ms(), epoch=room.snapshot.epoch
    )
    if shown is None or isinstance(shown, TokenFault):
        raise Refusal(problem(RejectionCode.NOT_ADMITTED))
    return shown
