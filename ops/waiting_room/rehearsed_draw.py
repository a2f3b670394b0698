"""How is the order of a rehearsal drawn? As that of a sale, but for the beacon: there is no time to wait for a real one."""

import asyncio
import secrets
from dataclasses import dataclass

from consumers.waiting_rooms.draw import expect_ok, gather_cohort, places_in_order, swap_in
from contracts.beacon import BeaconRound, BeaconSource, OfflineBeacon
from contracts.draw import cohort_tree, commitment_of, draw_seed
from contracts.ids import EventId
from contracts.signing_keys import SigningKeys
from contracts.waiting_room import PlaceId
from contracts.waiting_room_proof import BEACON_MARGIN_MS, Announcement, FrozenCohort, Revelation, RoomProof
from db.waiting_room import WaitingRooms


@dataclass(frozen=True)
class DrawnLine:
    """Everybody's drawn ticket, and the proof that it is theirs."""

    tickets: dict[PlaceId, int]
    proof: RoomProof


async def draw_line(
    rooms: WaitingRooms, event_id: EventId, *, secret: bytes, starts_at_ms: int, keys: SigningKeys
) -> DrawnLine:
    """Freeze the cohort, publish its root, draw, write the order, swap it in; raises DrawBroken."""
    attempt, cohort = await gather_cohort(rooms, event_id, "the sale begins")
    root = (await asyncio.to_thread(cohort_tree, event_id, cohort.entrants, cohort.demotions)).root
    expect_ok(await rooms.record_root(event_id, attempt, root.hex()), "the root")
    beacon = _speak(starts_at_ms)
    randomness = bytes.fromhex(beacon.randomness)
    seed = draw_seed(server_secret=secret, beacon_randomness=randomness, merkle_root=root)
    places = await asyncio.to_thread(places_in_order, seed, cohort)
    await swap_in(rooms, event_id, attempt, places, seed=seed, beacon_round=beacon.round)
    proof = RoomProof(
        event_id=event_id,
        event_name="a rehearsal",
        public_keys=keys.public_keys,
        announcement=_announcement(event_id, secret, starts_at_ms, beacon, keys),
        frozen=FrozenCohort(
            event_id=event_id, cohort_size=len(cohort.entrants), demotions=cohort.demotions, merkle_root=root.hex()
        ),
        revelation=Revelation(secret=secret.hex(), beacon=beacon),
    )
    return DrawnLine({place_id: ticket for ticket, place_id in enumerate(places, start=1)}, proof)


def _speak(starts_at_ms: int) -> BeaconRound:
    beacon = OfflineBeacon()
    return beacon.spoken(beacon.first_round_from(starts_at_ms + BEACON_MARGIN_MS), secrets.token_bytes(32))


def _announcement(
    event_id: EventId, secret: bytes, starts_at_ms: int, beacon: BeaconRound, keys: SigningKeys
) -> Announcement:
    return Announcement(
        event_id=event_id,
        secret_commitment=commitment_of(secret),
        starts_at_ms=starts_at_ms,
        beacon_source=BeaconSource.OFFLINE,
        beacon_round=beacon.round,
        public_keys=keys.public_keys,
    )
