"""What does a waiting room cost: joining it, and asking where one stands?

The admissions role makes the rooms and keeps their logs, as it always does; it lets in nobody that would matter.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from uuid import uuid4

from contracts.beacon import BeaconSource
from contracts.ids import EventId, UserId
from contracts.place_tokens import TokenKind
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.waiting_room import Phase
from db.postgres import open_pool
from db.sessions import SECRET_BYTES, read_cookie
from db.waiting_room import Standing, WaitingRooms
from db.waiting_room_records import NewRoomTerms, make_room
from ingress.waiting_room_tokens import RoomTokens, new_place_id
from ops.bench.crowd import add_event, let_in
from ops.bench.load import THREADS, Ask, Load, Look, run_wrk
from ops.bench.measurement import Fact, Measurement, Target, rate_of_at_least, slowest_of_95_below
from ops.bench.shares import Shares
from ops.bench.stage import REDIS, Stage
from ops.bench.waiting_room import RoomCosts
from ops.bench.waiting_room import measure as measure_functions
from ops.bench.window import BARE_GET, WARM_UP_SECONDS, bare_http, load_of, look_at, measure_wrk, run
from ops.stack import StackProblem

# A hundred thousand within a minute.
JOINS_PER_SECOND, JOIN_P95_MS = 1_667, 100
# Each asks again as soon as it has its answer, so together they see what a saturated ingress takes; more of them would
# only wait for each other.
JOIN_CONNECTIONS = 100
FUNCTION_JOINS_PER_SECOND = 30_000
FUNCTION_PEOPLE = 50_000

# Nobody may join twice and no first question may be asked twice: more are prepared than two cores can answer in a second.
JOINS_PER_SECOND_MAX = 6_000
POLLS_PER_SECOND_MAX = 8_000

POLLS = 10_000

SEATS = 100
GATHERS_FOR = timedelta(hours=1)
PHASE_SECONDS_MAX, LOOK_SECONDS = 30.0, 0.1
JOINED_AT_ONCE = 500

GZIP = (("Accept-Encoding", "gzip"),)


def measure_room(stage: Stage, *, seconds: int) -> list[Measurement]:
    """Everybody joins before the sale; a line is asked, exactly and by its snapshot; the functions in Redis, alone."""
    stage.start_programs()
    joins = _measure_joins(stage, seconds=seconds)
    costs = run(measure_functions(stage.settings, FUNCTION_PEOPLE))
    joins = replace(
        joins, targets=(*joins.targets, function_target(costs)), facts=(*joins.facts, *function_facts(costs))
    )
    return [joins, *_measure_polls(stage, seconds=seconds)]


def _measure_joins(stage: Stage, *, seconds: int) -> Measurement:
    """Each user once, with a commitment of their own, before the draw."""
    event_id = run(_open_room(stage.settings, Phase.PRE, opens_in=GATHERS_FOR))
    cookies = run(let_in(stage.settings, JOINS_PER_SECOND_MAX * (WARM_UP_SECONDS + seconds)))
    asks = [_join(event_id, cookie) for cookie in cookies]
    first = JOINS_PER_SECOND_MAX * WARM_UP_SECONDS
    run_wrk(_joining(stage, asks[:first], seconds=WARM_UP_SECONDS))
    measured = measure_wrk(stage, "joins of a waiting room", _joining(stage, asks[first:], seconds=seconds))
    bare = bare_http(stage)
    answers, wanted = measured.answers, (HTTPStatus.CREATED,)
    targets = (
        rate_of_at_least(JOINS_PER_SECOND, answers, wanted=wanted),
        slowest_of_95_below(JOIN_P95_MS, answers, wanted=wanted),
    )
    redis = Fact("Redis per join", measured.shares.microseconds_per(REDIS, answers.count), "µs")
    return replace(measured, bare_http=bare, targets=targets, facts=(redis,))


def _join(event_id: EventId, cookie: str) -> Ask:
    return Ask(f"/api/queue/{event_id}/join", json.dumps({"commitment": secrets.token_hex(32)}), cookie)


def _joining(stage: Stage, asks: Sequence[Ask], *, seconds: int) -> Load:
    return Load(stage.url, asks, connections=JOIN_CONNECTIONS, seconds=seconds)


def _measure_polls(stage: Stage, *, seconds: int) -> list[Measurement]:
    """The same line twice: each place's own first question, which Redis always answers (asked again sooner than they were
    told, people hear the last answer again), and the one document that is the same for all."""
    event_id = run(_open_room(stage.settings, Phase.OPEN))
    people_count = POLLS_PER_SECOND_MAX * (WARM_UP_SECONDS + seconds)
    questions = run(_stand_in_line(stage.settings, event_id, people_count))
    exact = _beside_bare_http(stage, _measure_exact_polls(stage, questions, seconds=seconds))
    snapshot = _beside_bare_http(stage, _measure_snapshot_polls(stage, event_id, seconds=seconds))
    return [replace(one, facts=(*one.facts, poll_cost(one.shares, one.answers.count))) for one in (exact, snapshot)]


def _beside_bare_http(stage: Stage, measured: Measurement) -> Measurement:
    return replace(measured, bare_http=bare_http(stage, BARE_GET))


def _measure_exact_polls(stage: Stage, questions: Sequence[Look], *, seconds: int) -> Measurement:
    first = POLLS_PER_SECOND_MAX * WARM_UP_SECONDS
    run_wrk(load_of(stage, questions[:first], seconds=WARM_UP_SECONDS))
    measured = measure_wrk(stage, "polls, exact", load_of(stage, questions[first:], seconds=seconds))
    redis = Fact("Redis per poll", measured.shares.microseconds_per(REDIS, measured.answers.count), "µs")
    return replace(measured, facts=(Fact("people in line", len(questions)), redis))


def _measure_snapshot_polls(stage: Stage, event_id: EventId, *, seconds: int) -> Measurement:
    look = Look(f"/api/queue/{event_id}/snapshot", GZIP)
    run_wrk(load_of(stage, [look] * THREADS, seconds=WARM_UP_SECONDS, repeats=True))
    measured = measure_wrk(stage, "polls, snapshot", load_of(stage, [look] * THREADS, seconds=seconds, repeats=True))
    return replace(measured, facts=(Fact("body", len(look_at(stage, look).body), "bytes, gzip"),))


def poll_cost(shares: Shares, poll_count: int) -> Fact:
    """CPU time of all our processes for ten thousand polls, what they use when nobody asks included."""
    return Fact(f"CPU per {POLLS:,} polls", shares.milliseconds_of_ours_per(POLLS, of=poll_count), "ms")


def function_target(costs: RoomCosts) -> Target:
    """What Redis alone should do for a client in Python, on the same cores."""
    return Target("joins/s, Redis alone", costs.join.per_second, FUNCTION_JOINS_PER_SECOND, is_floor=True)


def function_facts(costs: RoomCosts) -> tuple[Fact, ...]:
    """The same as what is left of a PING's rate, as Redis's own time, and what a waiting person needs of its memory."""
    return (
        Fact("Redis alone, joins", 100 * costs.join.per_second / costs.ping.per_second, "% of PING"),
        Fact("Redis alone, per join", costs.join.cpu_microseconds, "µs"),
        Fact("Redis alone, per exact poll", costs.poll.cpu_microseconds, "µs"),
        Fact("memory per waiting person", costs.bytes_per_person, "bytes"),
    )


# ---- rooms and who is in them


async def _open_room(settings: Settings, phase: Phase, *, opens_in: timedelta = timedelta()) -> EventId:
    """An event whose room is in that phase, with one place inside: nobody moves who is being measured."""
    terms = NewRoomTerms(
        capacity=1,
        rate_per_second=1.0,
        gather_seconds=2 * GATHERS_FOR.total_seconds(),
        beacon=BeaconSource(settings.beacon),
        public_keys=SigningKeys.of(settings).public_keys,
    )
    async with await open_pool(settings, application_name="boxoffice bench", size=1) as pool:
        event_id = await add_event(pool, SEATS, opens_in=opens_in)
        await make_room(pool, event_id, terms)
    await _wait_for_phase(settings, event_id, phase)
    return event_id


async def _wait_for_phase(settings: Settings, event_id: EventId, phase: Phase) -> None:
    """Returns when the admissions role has brought the room there; raises StackProblem."""
    rooms, give_up_at = WaitingRooms(settings), time.monotonic() + PHASE_SECONDS_MAX
    try:
        while (await rooms.facts(event_id)).get("phase") != phase:
            if time.monotonic() > give_up_at:
                raise StackProblem(
                    f"no waiting room was {phase} after {PHASE_SECONDS_MAX:.0f} s: is admissions running?"
                )
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await rooms.close()


async def _stand_in_line(settings: Settings, event_id: EventId, count: int) -> list[Look]:
    """So many join, past the ingress, which has told none of them anything yet; what each asks first."""
    rooms, tokens = WaitingRooms(settings), RoomTokens(settings)
    questions: list[Look] = []
    try:
        # Sessions that nobody keeps: a position is told to whoever shows what was signed at the door.
        newcomers = (f"{uuid4().hex}.{secrets.token_urlsafe(SECRET_BYTES)}" for _ in range(count))
        while cookies := list(islice(newcomers, JOINED_AT_ONCE)):
            questions += await asyncio.gather(*(_come(rooms, tokens, event_id, cookie) for cookie in cookies))
    finally:
        await rooms.close()
    return questions


async def _come(rooms: WaitingRooms, tokens: RoomTokens, event_id: EventId, cookie: str) -> Look:
    session = read_cookie(cookie)
    commitment = secrets.token_hex(32)
    if session is None:
        raise StackProblem("a cookie that the bench has made is none")
    standing = await rooms.join(event_id, UserId(session.user_id), new_place_id(), commitment)
    if not isinstance(standing, Standing):
        raise StackProblem(f"nobody can join the room: {standing.reason}")
    token = tokens.place(
        event_id,
        session,
        place_id=standing.place_id,
        ticket=standing.ticket,
        commitment=commitment,
        epoch=standing.epoch,
        now_ms=standing.now_ms,
    )
    place = f"{tokens.cookie_name(TokenKind.PLACE, event_id)}={token}"
    return Look(f"/api/queue/{event_id}/position", (("Cookie", f"session={cookie}; {place}"),))
