"""Does a ticket let in once, whoever scans it, wherever, and however often it is asked?"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.check_ins import CheckedIn, CheckInResult
from contracts.commands import RefundOrder
from contracts.ids import TicketId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import RefundStarted
from contracts.settings import Settings
from contracts.ticket_codes import STEP_SECONDS
from db import check_ins as records
from db.migrate import migrate
from db.postgres import open_pool, transaction
from db.users import end_scanner
from ingress.check_in_desk import CheckInDesk
from ingress.check_in_rules import Scan
from ingress.responses import ProblemCode
from tests.builders import OnSale, a_command_id, a_user, an_event_on_sale, rejected_as
from tests.conftest import AnEvent
from tests.doors import DoorOf, a_scan, an_account, buy_tickets, now
from tests.sale_on_paper import refund

Result = CheckInResult


@pytest.fixture
async def door(sale: OnSale) -> DoorOf:
    return await DoorOf.open(sale)


@pytest.fixture
async def ticket(sale: OnSale) -> TicketId:
    return (await buy_tickets(sale, [0]))[0]


# ---- the closed list


async def test_a_ticket_lets_in_once_and_then_says_when_and_where(door: DoorOf, sale: OnSale) -> None:
    ann = await an_account(sale.pool, "user", "Ann Miller")
    ticket, other = await buy_tickets(sale, [0, 1], ann)

    said = await door.scan(door.code(ticket), gate="North 2")
    assert (said.result, said.admit, said.conflict) == (Result.VALID, True, False)
    assert (said.holder, said.section, said.row, said.seat_number) == ("Ann Miller", "Stalls", "A", "1")
    assert await door.used_at(ticket) is not None, "the sale sees it: it is not refunded any more by its buyer"

    again = await door.scan(door.code(ticket), gate="South 1")
    assert (again.result, again.admit) == (Result.ALREADY_USED, False)
    assert again.first is not None
    assert (again.first.gate, again.first.scanned_at) == ("North 2", await door.used_at(ticket))

    assert (await door.scan(door.code(other))).admit, "each ticket for itself"


@pytest.mark.parametrize("because", ["refunded", "cancelled", "resold"])
async def test_a_ticket_that_ended_says_why(door: DoorOf, ticket: TicketId, because: str) -> None:
    await door.end(ticket, because)
    said = await door.scan(door.code(ticket))
    assert (said.result, said.admit) == (because, False)


async def test_the_code_of_whoever_had_it_before_is_dead_and_tells_nobodys_name(
    door: DoorOf, ticket: TicketId, sale: OnSale
) -> None:
    await door.pass_on(ticket)
    before = await door.scan(door.code(ticket))
    assert (before.result, before.admit, before.holder) == (Result.TRANSFERRED, False, "")
    assert (await door.scan(door.code(ticket, version=1))).result is Result.VALID
    assert (await door.scan(door.code(ticket))).result is Result.TRANSFERRED


async def test_a_ticket_on_resale_lets_nobody_in_until_the_offer_is_withdrawn(door: DoorOf, ticket: TicketId) -> None:
    offer = await door.offer_to_others(ticket)
    assert (await door.scan(door.code(ticket))).result is Result.ON_RESALE
    await door.sale.pool.execute("UPDATE resales SET status = 'withdrawn', ended_at = now() WHERE id = $1", offer)
    assert (await door.scan(door.code(ticket))).result is Result.VALID


async def test_a_ticket_of_another_event_is_named_as_such(door: DoorOf, an_event: AnEvent) -> None:
    elsewhere = await DoorOf.open(await an_event())
    theirs = (await buy_tickets(elsewhere.sale, [0]))[0]
    said = await door.scan(elsewhere.code(theirs))
    assert (said.result, said.admit, said.ticket_id, said.holder) == (Result.WRONG_EVENT, False, None, "")
    assert (await elsewhere.scan(elsewhere.code(theirs))).admit, "and it has not been used up"


async def test_what_we_never_made_is_forged(door: DoorOf, ticket: TicketId) -> None:
    code = door.code(ticket)
    for forged in (code[:-1] + ("A" if code[-1] != "A" else "B"), "hello", "A" * 80, door.code(TicketId(uuid4()))):
        assert (await door.scan(forged)).result is Result.FORGED, forged
    assert (await door.scan(code)).admit


async def test_nobody_enters_a_cancelled_event(door: DoorOf, ticket: TicketId) -> None:
    await door.sale.pool.execute("UPDATE events SET status = 'cancelled' WHERE id = $1", door.sale.event_id)
    assert (await door.scan(door.code(ticket))).result is Result.CANCELLED


async def test_where_codes_change_a_picture_of_one_lets_nobody_in(door: DoorOf, ticket: TicketId) -> None:
    await door.sale.pool.execute("UPDATE events SET rotating_codes = true WHERE id = $1", door.sale.event_id)
    picture = door.code(ticket, at=now() - timedelta(seconds=3 * STEP_SECONDS))
    assert (await door.scan(picture)).result is Result.OUTDATED
    assert (await door.scan(door.code(ticket))).result is Result.OUTDATED, "a print of before the codes changed"
    assert (await door.scan(door.code(ticket, at=now()))).result is Result.VALID


async def test_a_scan_that_comes_late_is_judged_by_when_its_code_was_seen(door: DoorOf, sale: OnSale) -> None:
    first, second = await buy_tickets(sale, [0, 1])
    seen_at = now() - timedelta(seconds=50)
    assert (await door.scan(door.code(first, at=seen_at), scanned_at=seen_at)).admit
    memory = now() - timedelta(seconds=70)
    assert (await door.scan(door.code(second, at=memory), scanned_at=memory)).result is Result.OUTDATED


# ---- the same question, the same answer


async def test_a_nonce_gets_the_answer_it_got_whatever_has_happened_since(door: DoorOf, ticket: TicketId) -> None:
    scan = a_scan(door.code(ticket))
    first = await door.tell(scan)
    await door.pass_on(ticket)
    assert await door.tell(scan) == first
    await door.end(ticket, "refunded")
    assert await door.tell(scan, door.another_desk()) == first, "byte for byte, from another process too"
    assert CheckedIn.model_validate_json(first).admit
    # Without the nonce the world is what it is.
    assert (await door.scan(door.code(ticket))).result is Result.TRANSFERRED


async def test_a_refusal_is_kept_too(door: DoorOf, ticket: TicketId) -> None:
    await door.offer_to_others(ticket)
    scan, forged = a_scan(door.code(ticket)), a_scan("forged")
    first, of_forged = await door.tell(scan), await door.tell(forged)
    await door.sale.pool.execute(
        "UPDATE resales SET status = 'withdrawn', ended_at = now() WHERE ticket_id = $1", ticket
    )
    assert (await door.tell(scan), await door.tell(forged)) == (first, of_forged)


async def test_one_scan_sent_many_times_at_once_is_one_scan(door: DoorOf, ticket: TicketId) -> None:
    desks = [door.another_desk() for _ in range(4)]
    scan, forged = a_scan(door.code(ticket)), a_scan("forged")
    for one in (scan, forged):
        assert len(set(await asyncio.gather(*(door.tell(one, desk) for desk in desks * 5)))) == 1
    assert CheckedIn.model_validate_json(await door.tell(scan)).admit
    sql = "SELECT count(*) FROM check_ins WHERE event_id = $1"
    assert await door.sale.pool.fetchval(sql, door.sale.event_id) == 2


async def test_a_nonce_with_another_code_is_refused(door: DoorOf, sale: OnSale) -> None:
    first, second = await buy_tickets(sale, [0, 1])
    scan = a_scan(door.code(first))
    await door.tell(scan)
    reused = Scan(nonce=scan.nonce, code=door.code(second), gate="North", scanned_at=None)
    answer = await door.desk.check_in(sale.event_id, door.scanner, reused)
    assert answer is RejectionCode.IDEMPOTENCY_KEY_REUSED
    assert await door.used_at(second) is None


# ---- two doors at once


async def test_of_two_doors_at_once_one_admits(door: DoorOf, sale: OnSale) -> None:
    other = door.another_desk()
    tickets = [ticket for first in range(0, 20, 5) for ticket in await buy_tickets(sale, range(first, first + 5))]
    for ticket in tickets:
        code = door.code(ticket)
        answers = await asyncio.gather(door.tell(a_scan(code, "A")), door.tell(a_scan(code, "B"), other))
        said = [CheckedIn.model_validate_json(answer) for answer in answers]
        assert sorted(one.result for one in said) == [Result.ALREADY_USED, Result.VALID]
        second = next(one for one in said if not one.admit)
        assert second.first is not None, "the second one hears where the first one was"


async def test_at_one_desk_the_scans_that_wait_together_are_judged_one_after_the_other(
    door: DoorOf, ticket: TicketId
) -> None:
    said = await asyncio.gather(*(door.scan(door.code(ticket)) for _ in range(20)))
    assert [one.admit for one in said].count(True) == 1
    batches = door.desk._waiting[door.sale.event_id].batch_count
    assert batches < 20, "and they shared transactions"


class TwoDoors:
    """One freezes between looking at a ticket and writing that it let it in; then the other looks."""

    def __init__(self, door: DoorOf, patch: pytest.MonkeyPatch) -> None:
        self.door, self.patch = door, patch

    def without_lock(self) -> None:
        sql = SimpleNamespace(**vars(records.SQL))
        assert " FOR UPDATE" in sql.lock_tickets, "it has been rewritten: then so must this be"
        sql.lock_tickets = sql.lock_tickets.replace(" FOR UPDATE", "")
        self.patch.setattr(records, "SQL", sql)

    async def admissions(self, ticket: TicketId) -> list[bool]:
        looked, go_on = asyncio.Event(), asyncio.Event()
        find = records.find_tickets
        first_one = iter([True])

        async def find_and_freeze(*arguments: object) -> object:
            found = await find(*arguments)  # type: ignore[arg-type]
            if next(first_one, False):
                looked.set()
                await go_on.wait()
            return found

        self.patch.setattr(records, "find_tickets", find_and_freeze)
        code, other = self.door.code(ticket), self.door.another_desk()
        first = asyncio.create_task(self.door.tell(a_scan(code, "A")))
        await looked.wait()
        second = asyncio.create_task(self.door.tell(a_scan(code, "B"), other))
        # Where there is no lock the second one is through; where there is, it waits for the first, which goes on by then.
        await asyncio.wait([second], timeout=0.3)
        go_on.set()
        answers = await asyncio.gather(first, second)
        return [CheckedIn.model_validate_json(answer).admit for answer in answers]


async def test_a_door_that_has_looked_keeps_the_other_waiting(
    door: DoorOf, ticket: TicketId, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(await TwoDoors(door, monkeypatch).admissions(ticket)) == [False, True]


@pytest.fixture
async def weak_door(settings: Settings) -> AsyncIterator[DoorOf]:
    """A door of a database of its own, from which the index can be taken that is the last guard."""
    name = f"door_{uuid4().hex}"
    server, _, _ = settings.postgres_url.rpartition("/")
    own = settings.model_copy(update={"postgres_url": f"{server}/{name}"})
    admin = await asyncpg.connect(settings.postgres_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        await migrate(own.postgres_url)
        pool = await open_pool(own, application_name=name)
        house = await an_event_on_sale(own, pool, seats=10)
        yield await DoorOf.open(house)
        await house.close()
        pool.terminate()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_without_the_lock_two_are_let_in_with_one_ticket_or_the_index_says_no(
    weak_door: DoorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what the lock keeps away is seen, and the index alone is enough to keep it away."""
    doors = TwoDoors(weak_door, monkeypatch)
    doors.without_lock()
    behind_the_index, alone = await buy_tickets(weak_door.sale, [0, 1])
    with pytest.raises(asyncpg.UniqueViolationError, match="a_ticket_admits_once"):
        await doors.admissions(behind_the_index)
    await weak_door.sale.pool.execute("DROP INDEX a_ticket_admits_once")
    monkeypatch.undo()
    doors.without_lock()
    assert await doors.admissions(alone) == [True, True]


async def test_a_ticket_in_the_sales_hands_is_waited_for_and_then_seen_as_it_became(
    door: DoorOf, ticket: TicketId
) -> None:
    async with transaction(door.sale.pool) as engine:
        await engine.fetch("SELECT id FROM tickets WHERE event_id = $1 FOR UPDATE", door.sale.event_id)
        asked = asyncio.create_task(door.scan(door.code(ticket)))
        await engine.execute(
            "UPDATE tickets SET status = 'void', ended_because = 'refunded' WHERE event_id = $1", door.sale.event_id
        )
        # It has to wait: nothing of the refund is committed yet.
        done, _ = await asyncio.wait([asked], timeout=0.2)
        assert not done
    assert (await asked).result is Result.REFUNDED


async def test_one_ticket_in_the_sales_hands_keeps_no_other_gate_waiting(sale: OnSale, pool: object) -> None:
    impatient = await open_pool(sale.settings.model_copy(update={"lock_timeout_seconds": 0.2}), application_name="door")
    try:
        door = await DoorOf.open(sale)
        desk = CheckInDesk(sale.settings, sale.pool, impatient)
        locked, free = await buy_tickets(sale, [0, 1])
        async with transaction(sale.pool) as engine:
            await engine.fetch(
                "SELECT id FROM tickets WHERE event_id = $1 AND id = $2 FOR UPDATE", sale.event_id, locked
            )
            scans = [a_scan(door.code(locked)), a_scan(door.code(free)), a_scan("forged")]
            answers = await asyncio.gather(*(desk.check_in(sale.event_id, door.scanner, scan) for scan in scans))
        assert answers[0] is ProblemCode.UNAVAILABLE, "to be asked again, with the same nonce"
        assert CheckedIn.model_validate_json(answers[1]).admit
        assert CheckedIn.model_validate_json(await desk.check_in(sale.event_id, door.scanner, scans[0])).admit
    finally:
        impatient.terminate()


# ---- the door and the sale


def given_back(sale: OnSale, user: UserId, order_id: UUID, **fields: Any) -> RefundOrder:
    """A buyer, or an organiser, wants the order's money back."""
    asked = {"correlation_id": a_command_id(), "deadline_at": now() + timedelta(seconds=30)}
    return refund(sale.event_id, order_id, **{"user_id": user, "as_organiser": False, **asked, **fields})


async def order_of(sale: OnSale, ticket: TicketId) -> UUID:
    found: UUID = await sale.pool.fetchval("SELECT order_id FROM tickets WHERE id = $1", ticket)
    return found


@pytest.fixture
async def lenient_door(door: DoorOf) -> DoorOf:
    """Of an event whose buyers may give their tickets back."""
    sql = "UPDATE events SET refund_until = now() + interval '1 day' WHERE id = $1"
    await door.sale.pool.execute(sql, door.sale.event_id)
    return door


async def test_who_is_in_gives_no_ticket_back_and_an_organiser_may_give_the_money_all_the_same(
    lenient_door: DoorOf,
) -> None:
    door, sale, ann = lenient_door, lenient_door.sale, a_user()
    ticket = (await buy_tickets(sale, [0], ann))[0]
    order_id = await order_of(sale, ticket)
    assert (await door.scan(door.code(ticket))).admit
    refused = await sale.ask_one(given_back(sale, ann, order_id))
    assert rejected_as([refused]) == ["ticket_checked_in"]
    started = await sale.ask_one(given_back(sale, a_user(), order_id, as_organiser=True))
    assert isinstance(started, RefundStarted), started
    assert (await door.scan(door.code(ticket))).result is Result.REFUNDED


async def test_of_a_refund_and_a_scan_at_once_one_comes_first(lenient_door: DoorOf) -> None:
    door, sale, ann = lenient_door, lenient_door.sale, a_user()
    for ticket in await buy_tickets(sale, range(6), ann):
        wanted = given_back(sale, ann, await order_of(sale, ticket), ticket_ids=(ticket,))
        answer, said = await asyncio.gather(sale.ask_one(wanted), door.scan(door.code(ticket)))
        assert isinstance(answer, RefundStarted) is not said.admit, (answer, said)
        assert said.admit or said.result is Result.REFUNDED


# ---- who may


async def test_whoever_is_no_scanner_any_more_scans_nothing(door: DoorOf, ticket: TicketId) -> None:
    assert await end_scanner(door.sale.pool, door.scanner, ended_by=None) is not None
    answer = await door.desk.check_in(door.sale.event_id, door.scanner, a_scan(door.code(ticket)))
    assert answer is ProblemCode.FORBIDDEN
    assert await door.used_at(ticket) is None
    buyer = await an_account(door.sale.pool, "user")
    for stranger in (a_user(), buyer):
        said = await door.desk.check_in(door.sale.event_id, stranger, a_scan(door.code(ticket)))
        assert said is ProblemCode.FORBIDDEN


async def test_an_event_that_is_not_there_has_no_door(door: DoorOf) -> None:
    for code in ("forged", door.code(TicketId(uuid4()))):
        answer = await door.desk.check_in(uuid4(), door.scanner, a_scan(code))  # type: ignore[arg-type]
        assert answer is RejectionCode.EVENT_UNKNOWN


# ---- what comes in later


async def test_of_two_devices_without_a_network_the_first_one_counts_whichever_comes_back_first(
    door: DoorOf, sale: OnSale
) -> None:
    began = now() - timedelta(hours=1)
    for seat, order in enumerate([("early", "late"), ("late", "early")]):
        ticket = (await buy_tickets(sale, [seat]))[0]
        code = door.code(ticket)
        scans = {
            "early": a_scan(code, "North", scanned_at=began, went_in=True),
            "late": a_scan(code, "South", scanned_at=began + timedelta(minutes=5), went_in=True),
        }
        said = {name: (await door.upload(scans[name]))[0] for name in order}
        assert said["early"].result is Result.VALID
        assert all(one.admit for one in said.values()), "both are in, whatever we say now"
        assert said[order[1]].conflict
        assert said[order[1]].first is not None, "the second to come back hears of the other"
        assert await door.used_at(ticket) == began
        # What was told once stays told.
        assert (await door.upload(scans[order[0]]))[0] == said[order[0]]
        third = await door.scan(code, gate="East")
        assert third.first is not None
        assert (third.result, third.first.gate, third.first.offline) == (Result.ALREADY_USED, "North", True)

    figures = await records.find_figures(sale.pool, sale.event_id)
    assert figures is not None
    assert (figures.tickets, figures.checked_in, figures.conflict_count) == (2, 2, 2)
    for conflict in figures.conflicts:
        assert (conflict.gate, conflict.first_gate) == ("South", "North")
        assert conflict.scanned_at - conflict.first_scanned_at == timedelta(minutes=5)  # type: ignore[operator]


async def test_three_devices_leave_one_that_counts(door: DoorOf, ticket: TicketId) -> None:
    began, code = now() - timedelta(hours=1), door.code(ticket)
    for minute in (5, 9, 1):
        await door.upload(a_scan(code, f"G{minute}", scanned_at=began + timedelta(minutes=minute), went_in=True))
    figures = await records.find_figures(door.sale.pool, door.sale.event_id)
    assert figures is not None
    assert {(one.gate, one.first_gate) for one in figures.conflicts} == {("G5", "G1"), ("G9", "G1")}
    assert await door.used_at(ticket) == began + timedelta(minutes=1)


async def test_what_was_admitted_with_a_network_always_counts(door: DoorOf, ticket: TicketId) -> None:
    assert (await door.scan(door.code(ticket), gate="Online")).admit
    earlier = a_scan(door.code(ticket), "Cellar", scanned_at=now() - timedelta(hours=1), went_in=True)
    said = (await door.upload(earlier))[0]
    assert (said.result, said.admit, said.conflict) == (Result.ALREADY_USED, True, True)
    assert said.first is not None
    assert said.first.gate == "Online"


async def test_a_batch_is_judged_in_its_order(door: DoorOf, sale: OnSale) -> None:
    first, second = await buy_tickets(sale, [0, 1])
    at = now() - timedelta(minutes=30)
    said = await door.upload(
        a_scan(door.code(first), scanned_at=at, went_in=True),
        a_scan(door.code(first), scanned_at=at + timedelta(minutes=1), went_in=False),
        a_scan(door.code(second), scanned_at=at + timedelta(minutes=2), went_in=True),
        a_scan("forged", scanned_at=at, went_in=False),
    )
    assert [one.result for one in said] == [Result.VALID, Result.ALREADY_USED, Result.VALID, Result.FORGED]
    assert [one.conflict for one in said] == [False] * 4, "the device had refused the second one by itself"


@pytest.mark.parametrize("happened", ["transferred", "refunded"])
async def test_who_went_in_with_what_had_ended_by_then_is_recorded_and_reported(
    door: DoorOf, ticket: TicketId, happened: str
) -> None:
    code = door.code(ticket)
    await (door.pass_on(ticket) if happened == "transferred" else door.end(ticket, "refunded"))
    said = (await door.upload(a_scan(code, scanned_at=now() - timedelta(minutes=5), went_in=True)))[0]
    assert (said.result, said.admit, said.conflict) == (happened, True, True)
    assert await door.used_at(ticket) is None, "whoever has it now has paid for it, and may come in"
    figures = await records.find_figures(door.sale.pool, door.sale.event_id)
    assert figures is not None
    assert [(one.result, one.first_gate) for one in figures.conflicts] == [(happened, None)]


async def test_a_seller_who_is_in_the_house_has_used_the_ticket_he_offers(door: DoorOf, ticket: TicketId) -> None:
    offer = await door.offer_to_others(ticket)
    said = (await door.upload(a_scan(door.code(ticket), scanned_at=now() - timedelta(minutes=5), went_in=True)))[0]
    assert (said.result, said.admit, said.conflict) == (Result.ON_RESALE, True, True)
    assert await door.used_at(ticket) is not None, "so the sale takes it off sale"
    await door.sale.pool.execute("UPDATE resales SET status = 'withdrawn', ended_at = now() WHERE id = $1", offer)
    assert (await door.scan(door.code(ticket))).result is Result.ALREADY_USED


async def test_no_device_scans_in_the_future(door: DoorOf, ticket: TicketId) -> None:
    await door.upload(a_scan(door.code(ticket), scanned_at=now() + timedelta(hours=5), went_in=True))
    used_at = await door.used_at(ticket)
    assert used_at is not None
    assert used_at <= now() + timedelta(seconds=5)


async def test_a_changing_code_that_was_scanned_offline_is_judged_by_the_devices_clock(
    door: DoorOf, sale: OnSale
) -> None:
    await sale.pool.execute("UPDATE events SET rotating_codes = true WHERE id = $1", sale.event_id)
    for seat, clock in enumerate((now() - timedelta(hours=3), now() + timedelta(hours=3))):
        ticket = (await buy_tickets(sale, [seat]))[0]
        said = (await door.upload(a_scan(door.code(ticket, at=clock), scanned_at=clock, went_in=True)))[0]
        assert (said.result, said.conflict) == (Result.VALID, False)


async def test_the_gates_are_counted(door: DoorOf, sale: OnSale) -> None:
    first, second = await buy_tickets(sale, [0, 1])
    for gate, code in (("A", door.code(first)), ("A", "forged"), ("A", "forged"), ("B", door.code(first))):
        await door.scan(code, gate=gate)
    await door.upload(a_scan(door.code(second), "B", scanned_at=now(), went_in=True))
    figures = await records.find_figures(sale.pool, sale.event_id)
    assert figures is not None
    assert [(one.gate, one.result.value, one.admitted, one.refused, one.offline) for one in figures.gates] == [
        ("A", "forged", 0, 2, 0),
        ("A", "valid", 1, 0, 0),
        ("B", "already_used", 0, 1, 0),
        ("B", "valid", 1, 0, 1),
    ]
    assert await records.find_figures(sale.pool, uuid4()) is None  # type: ignore[arg-type]
