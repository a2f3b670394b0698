"""Can people buy while everybody signs in?

bcrypt takes a quarter of a second of a core for each login, on purpose. The slots for it are full, and so is the line of
those who wait for one; buyers who are signed in already must hardly notice.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from uuid import uuid4

import bcrypt

from contracts.ids import UserId
from contracts.settings import Settings
from db.demo import Person, insert_people
from db.postgres import open_pool, transaction
from ops.bench.crowd import SEATS_PER_ASK
from ops.bench.load import Ask
from ops.bench.measurement import Fact, Measurement, slowest_of_95_below
from ops.bench.stage import Stage
from ops.bench.steady import besieged
from ops.bench.steady_sale import buy, reservations_of
from ops.bench.window import Window, bare_http, open_sale, prove, run

LOGIN_PATH = "/api/auth/login"

RESERVATIONS_PER_SECOND = 500
RESERVE_P95_MS = 200
LEAD_SECONDS = 2

ACCOUNTS = 100
# More than there are slots and places in line (1 and 32): some are always turned away, so the line is always full.
LOGINS_AT_ONCE = 64


def measure_login_storm(stage: Stage, *, seconds: int) -> list[Measurement]:
    """Reservations at a steady pace, by themselves and under a storm of logins with wrong passwords."""
    stage.start_programs()
    all_seconds = 2 * (LEAD_SECONDS + seconds)
    house = open_sale(stage, all_seconds * RESERVATIONS_PER_SECOND * SEATS_PER_ASK)
    reservations = reservations_of(stage, house, per_second=RESERVATIONS_PER_SECOND, seconds=all_seconds)
    logins = run(_logins(stage.settings))
    calm = run(_measure(stage, "reservations, nobody signs in", reservations, [], seconds=seconds))
    stormy = run(_measure(stage, "reservations in a login storm", reservations, logins, seconds=seconds))
    stormy = replace(
        stormy, targets=(slowest_of_95_below(RESERVE_P95_MS, stormy.answers, wanted=(HTTPStatus.CREATED,)),)
    )
    proof, bare = prove(stage, house), bare_http(stage)
    return [replace(one, proof=proof, bare_http=bare) for one in (calm, stormy)]


async def _measure(
    stage: Stage, name: str, reservations: Iterator[Ask], logins: Sequence[Ask], *, seconds: int
) -> Measurement:
    async with besieged(stage.url, logins, at_once=LOGINS_AT_ONCE if logins else 0) as heard:
        await buy(stage, reservations, per_second=RESERVATIONS_PER_SECOND, seconds=LEAD_SECONDS)
        window, before = Window(stage), Counter(heard.statuses)
        bought = await buy(stage, reservations, per_second=RESERVATIONS_PER_SECOND, seconds=seconds)
        refused = heard.statuses - before
        load = f"{RESERVATIONS_PER_SECOND} a second"
        measured = window.measured(name, load=load, answers=bought.answers(seconds=seconds))
    return replace(measured, facts=_facts(refused, seconds=seconds)) if logins else measured


def _facts(refused: Counter[int], *, seconds: int) -> tuple[Fact, ...]:
    """The storm was one only if somebody was turned away: the line was full."""
    return (
        Fact("logins refused (wrong password)", refused[HTTPStatus.UNAUTHORIZED] / seconds, "a second"),
        Fact("logins turned away (line full)", refused[HTTPStatus.SERVICE_UNAVAILABLE] / seconds, "a second"),
    )


async def _logins(settings: Settings) -> list[Ask]:
    """Wrong passwords, for accounts that exist: each is a hash that has to be checked."""
    ids = [UserId(uuid4()) for _ in range(ACCOUNTS)]
    people = [Person(user_id, f"{user_id.hex}@storm.example", "Somebody") for user_id in ids]
    hashed = await asyncio.to_thread(bcrypt.hashpw, uuid4().bytes, bcrypt.gensalt(settings.bcrypt_cost))
    async with await open_pool(settings, application_name="boxoffice bench", size=1) as pool, transaction(pool) as tx:
        await insert_people(tx, people, password_hash=hashed.decode())
    return [Ask(LOGIN_PATH, json.dumps({"email": person.email, "password": "not this one"})) for person in people]
