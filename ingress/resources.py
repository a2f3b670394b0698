"""What does a request have at hand?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sanic import Request

from contracts.settings import Settings
from db.postgres import Pool
from db.read_cache import ReadCache

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ingress.check_in_desk import CheckInDesk
    from ingress.command_bus import CommandBus
    from ingress.gate import Gate
    from ingress.passwords import Passwords
    from ingress.seat_views import SeatViews
    from ingress.waiting_room_desk import RoomDesk


@dataclass(frozen=True)
class IngressResources:
    """Everything with a lifetime that the routes share: opened before the first request, closed after the last."""

    settings: Settings
    pool: Pool
    redis: Redis
    gate: Gate
    read_cache: ReadCache
    passwords: Passwords
    command_bus: CommandBus
    seat_views: SeatViews
    room_desk: RoomDesk
    check_in_desk: CheckInDesk


def resources_of(request: Request) -> IngressResources:
    """What `create_app` has opened for this process."""
    resources: IngressResources = request.app.ctx.resources
    return resources
