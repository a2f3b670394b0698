"""How is a batch of one event's commands answered, in order, in one transaction?

Read `run_batch` first; every step is one function elsewhere. What fails for a passing reason (a lost connection, a lock)
is tried again whole; what fails for a lasting one is split in two until the one command that cannot be done stands alone,
and that one goes to the parking lot while its neighbours are answered.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from consumers.circuit_breaker import CircuitBreaker
from consumers.event_commands.door import Door, those_let_in
from consumers.event_commands.handlers import decide
from consumers.event_commands.load import OtherDemand, SeatsLockedElsewhere, load_sale
from consumers.event_commands.news import tell_of_fallback, tell_of_guard
from consumers.event_commands.outcome import Answered, Asked, NotProcessed, Outcome
from consumers.event_commands.save import save_sale
from consumers.event_commands.seat_map import SeatMap
from consumers.event_commands.timing import BATCH_SIZE, COMMANDS, step
from consumers.event_commands.waiting_list import offer_freed_seats
from consumers.rules.sale import Hold, Sale
from contracts.commands import AnyCommand, ReserveSeats
from contracts.ids import CommandId, EventId, HoldId, SeatId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Rejected, ReplyLater
from contracts.settings import Settings
from db.command_outcomes import find_result
from db.failpoints import failpoint
from db.postgres import TRANSIENT_ERRORS, Pool, transaction
from db.redis import REDIS_AWAY
from db.sale import StaleWrite
from db.seat_locks import SeatLocks, WantedSeats
from db.telemetry.logs import correlated, described

log = logging.getLogger(__name__)

# A batch waits this long for PostgreSQL to come back; then the process gives up, and its messages are delivered again.
TRANSIENT_FOR_SECONDS = 60.0
# How often the best seats are looked for again when those chosen turned out to be taken. Only another engine on the same
# event can take them, and each look avoids what was lost before, so a handful is plenty.
CHOICES_MAX = 8

# Maps kept in memory, one per event; the one that was loaded first makes room, and is loaded again if it is missed.
SEAT_MAPS_MAX = 200

PASSING: tuple[type[BaseException], ...] = (StaleWrite, SeatsLockedElsewhere, OtherDemand, *TRANSIENT_ERRORS)


class Engine:
    """Everything that answers commands: the pool, the lock filter and its breaker, the door of the waiting rooms, and a map
    of each event met."""

    def __init__(self, settings: Settings, pool: Pool, seat_locks: SeatLocks, door: Door) -> None:
        self.settings = settings
        self.pool = pool
        self.seat_locks = seat_locks
        self.door = door
        self.lock_breaker = CircuitBreaker(
            name="redis_locks", failures=settings.redis_breaker_failures, open_seconds=settings.redis_breaker_seconds
        )
        self._seat_maps: dict[EventId, SeatMap] = {}

    async def run_batch(self, event_id: EventId, asked: Sequence[Asked]) -> Outcome:
        """Answer every command of one event in arrival order. What nobody waits for any longer is not answered at all."""
        outcome = Outcome()
        BATCH_SIZE.observe(len(asked))
        await self._answer(event_id, list(asked), outcome, choices_left=CHOICES_MAX, avoid=frozenset())
        return outcome

    async def settle(self, event_id: EventId, outcome: Outcome) -> None:
        """After the commit: the lock filter and the waiting room hear what has become of everybody."""
        await self.settle_locks(event_id, outcome)
        await self.door.tell(event_id, outcome.sales)

    async def settle_locks(self, event_id: EventId, outcome: Outcome) -> None:
        """After the commit: whoever got the seats keeps the locks as long as the hold, everybody else gives them up."""
        freed = _freed_locks(outcome)
        holds = _live_holds(outcome)
        keep_ms = [_keep_ms(one, holds.get(HoldId(one.token))) for one in outcome.locks]
        await self._keep_locks(event_id, [*outcome.locks, *freed], [*keep_ms, *(0 for _ in freed)])

    async def _keep_locks(self, event_id: EventId, locks: Sequence[WantedSeats], keep_ms: Sequence[int]) -> None:
        if not locks or not self.lock_breaker.allows():
            return
        try:
            await self.seat_locks.settle(event_id, locks, keep_ms)
            self.lock_breaker.succeeded()
        except REDIS_AWAY as problem:
            self._redis_failed("settle_locks", problem)

    def forget(self, event_id: EventId) -> None:
        """Load the event's map afresh when it is next needed."""
        self._seat_maps.pop(event_id, None)

    # ---- one batch

    async def _answer(
        self, event_id: EventId, asked: list[Asked], outcome: Outcome, *, choices_left: int, avoid: frozenset[SeatId]
    ) -> None:
        try:
            badly_chosen = await self._with_patience(event_id, asked, outcome, avoid=avoid)
        except PASSING:
            raise
        except Exception as problem:  # noqa: BLE001 -- whatever it is, it ends in the parking lot with its reason
            if len(asked) == 1:
                await self._put_aside(event_id, asked[0], problem, outcome)
                return
        else:
            if badly_chosen:
                await self._choose_again(event_id, badly_chosen, outcome, choices_left=choices_left - 1, avoid=avoid)
            return
        # Something in here cannot be done. Halve until it stands alone.
        middle = len(asked) // 2
        for half in (asked[:middle], asked[middle:]):
            await self._answer(event_id, half, outcome, choices_left=choices_left, avoid=avoid)

    async def _put_aside(self, event_id: EventId, asked: Asked, problem: Exception, outcome: Outcome) -> None:
        """For the parking lot, unless it was carried out before and only its repetition failed: "nothing happened" must
        be true when it is said."""
        tell_of_guard(event_id, problem)
        with correlated(asked.command.correlation_id):
            log.exception("command_not_processed", extra={"commandId": str(asked.command.command_id)}, exc_info=problem)
        user_id = getattr(asked.command, "user_id", None)
        before = None
        if user_id is not None:
            before = await find_result(self.pool, event_id, user_id, asked.command.command_id, is_own=True)
        if before is not None:
            outcome.answered.append(Answered(asked, before))
            return
        outcome.not_processed.append(NotProcessed(asked, described(problem)))

    async def _choose_again(
        self,
        event_id: EventId,
        badly_chosen: list[Answered],
        outcome: Outcome,
        *,
        choices_left: int,
        avoid: frozenset[SeatId],
    ) -> None:
        """The best seats were taken under our hands: look again, elsewhere, a bounded number of times."""
        if choices_left == 0:
            refused = Rejected(code=RejectionCode.NOT_ENOUGH_SEATS)
            outcome.answered += [Answered(answer.asked, refused) for answer in badly_chosen]
            return
        self.forget(event_id)
        taken = {
            seat_id
            for answer in badly_chosen
            if isinstance(answer.reply, Rejected)
            for seat_id in answer.reply.seat_ids
        }
        asked = [answer.asked for answer in badly_chosen]
        await self._answer(event_id, asked, outcome, choices_left=choices_left, avoid=avoid | taken)

    async def _with_patience(
        self, event_id: EventId, asked: list[Asked], outcome: Outcome, *, avoid: frozenset[SeatId]
    ) -> list[Answered]:
        """Try until it is committed or the reason is a lasting one; returns who must be given another choice of seats."""
        patience = AsyncRetrying(
            retry=retry_if_exception_type(PASSING),
            wait=wait_random_exponential(multiplier=0.02, max=2.0),
            stop=stop_after_delay(TRANSIENT_FOR_SECONDS),
            before_sleep=lambda state: tell_of_guard(event_id, _problem_of(state)),
            reraise=True,
        )
        async for attempt in patience:
            with attempt:
                return await self._try_once(event_id, asked, outcome, avoid=avoid)
        return []

    async def _try_once(
        self, event_id: EventId, asked: list[Asked], outcome: Outcome, *, avoid: frozenset[SeatId]
    ) -> list[Answered]:
        waited_for = still_waited_for(asked)
        commands = [one.command for one in waited_for]
        if not commands:
            return []
        reservations = [command for command in commands if isinstance(command, ReserveSeats)]
        # Before any lock: nobody who has not been let in may keep a seat from somebody who has, not for a moment.
        admitted = await self.door.who_is_in(event_id, reservations)
        wanting = those_let_in(reservations, admitted)
        chosen = await self._choose_seats(event_id, wanting, avoid)
        contenders, refused, locks = await self._take_seat_locks(event_id, commands, wanting, chosen, outcome)
        await failpoint("engine.after_seat_locks")
        try:
            sale, replies = await self._decide_and_commit(
                event_id, waited_for, contenders, chosen, admitted, lock_seats_here=locks is None
            )
        except OtherDemand as other:
            # We were wrong about who has to be let in: what was locked for whoever has not been must not stand in the way.
            self.door.learn(event_id, high_demand=other.high_demand)
            await self._keep_locks(event_id, locks or (), [0] * len(locks or ()))
            raise
        await failpoint("engine.after_commit")
        if sale is not None:
            outcome.add(sale)
            self._keep_map_true(event_id, sale)
        outcome.locks += locks or []
        replies |= refused
        return _collect(waited_for, replies, outcome, chosen)

    async def _decide_and_commit(
        self,
        event_id: EventId,
        asked: Sequence[Asked],
        contenders: Sequence[AnyCommand],
        chosen: Mapping[CommandId, Sequence[SeatId]],
        admitted: Mapping[UserId, bool] | None,
        *,
        lock_seats_here: bool,
    ) -> tuple[Sale | None, dict[CommandId, AnyReply]]:
        """One transaction: fence, load, decide each in order, save all, commit. The replies are by correlation id."""
        if not contenders:
            return None, {}
        async with transaction(self.pool) as tx:
            with step("load"):
                sale = await load_sale(
                    tx,
                    event_id,
                    contenders,
                    settings=self.settings,
                    chosen_seat_ids=chosen,
                    admitted=admitted,
                    askers={one.command.command_id: one.reply_to for one in asked},
                    lock_seats_here=lock_seats_here,
                )
            await failpoint("engine.in_transaction")
            if sale is None:
                unknown = Rejected(code=RejectionCode.EVENT_UNKNOWN)
                return None, {_asking(command): unknown for command in contenders}
            with step("decide"):
                replies = {_asking(command): decide(sale, command) for command in contenders}
            sale.deciding = None
            await offer_freed_seats(tx, sale, settings=self.settings)
            with step("save"):
                await save_sale(tx, sale, settings=self.settings)
            await failpoint("engine.before_commit")
            committing = step("commit").__enter__()
        committing.stop()
        return sale, replies

    # ---- choosing and locking seats

    async def _choose_seats(
        self, event_id: EventId, reservations: Sequence[ReserveSeats], avoid: frozenset[SeatId]
    ) -> dict[CommandId, list[SeatId]]:
        if not any(command.best_available for command in reservations):
            return {}
        return (await self._seat_map(event_id)).choose(reservations, datetime.now(UTC), avoid=avoid)

    async def _seat_map(self, event_id: EventId) -> SeatMap:
        seat_map = self._seat_maps.get(event_id)
        if seat_map is None:
            if len(self._seat_maps) >= SEAT_MAPS_MAX:
                self.forget(next(iter(self._seat_maps)))
            seat_map = self._seat_maps[event_id] = await SeatMap.load(self.pool, event_id)
        return seat_map

    def _keep_map_true(self, event_id: EventId, sale: Sale) -> None:
        seat_map = self._seat_maps.get(event_id)
        if seat_map is None:
            return
        if seat_map.ledger_seq != sale.ledger_seq:
            self.forget(event_id)  # somebody else has written meanwhile: load it afresh when it is needed
        else:
            seat_map.apply(sale.last_seq, sale.changed_seats.values())

    async def _take_seat_locks(
        self,
        event_id: EventId,
        commands: Sequence[AnyCommand],
        reservations: Sequence[ReserveSeats],
        chosen: Mapping[CommandId, Sequence[SeatId]],
        outcome: Outcome,
    ) -> tuple[list[AnyCommand], dict[CommandId, AnyReply], list[WantedSeats] | None]:
        """Who goes on, who is refused at once, and the locks taken for these reservations; None for the locks when Redis is
        away and PostgreSQL has to do its part."""
        wanted = [
            WantedSeats(command.command_id, command.seat_ids or chosen.get(command.command_id, ()))
            for command in reservations
        ]
        lost = await self._ask_redis(event_id, [one for one in wanted if one.seat_ids])
        if lost is None:
            return list(commands), {}, None
        outcome.lost_locks.update(lost.values())
        outcome.won_locks.update(one.token for one in wanted if one.seat_ids and one.token not in lost)
        lost = await self._without_stale_locks(event_id, lost)
        refused: dict[CommandId, AnyReply] = {
            _asking(command): Rejected(
                code=RejectionCode.SEATS_UNAVAILABLE, seat_ids=(SeatId(lost[command.command_id]),)
            )
            for command in reservations
            if command.command_id in lost
        }
        contenders = [command for command in commands if _asking(command) not in refused]
        return contenders, refused, [one for one in wanted if one.seat_ids and one.token not in lost]

    async def _ask_redis(self, event_id: EventId, wanted: Sequence[WantedSeats]) -> dict[object, SeatId] | None:
        """By hold id, a seat that somebody else has locked; None when Redis cannot be asked."""
        if not wanted:
            return {}
        if not self.lock_breaker.allows():
            return None
        try:
            with step("redis"):
                lost = await self.seat_locks.take(event_id, wanted)
        except REDIS_AWAY as problem:
            self._redis_failed("take_seat_locks", problem)
            return None
        self.lock_breaker.succeeded()
        return {one.token: SeatId(seat_id) for one, seat_id in zip(wanted, lost, strict=True) if seat_id is not None}

    async def _without_stale_locks(self, event_id: EventId, lost: dict[object, SeatId]) -> dict[object, SeatId]:
        """Only those whose seat is gone as far as we know ourselves. A lock on a free seat was left behind (by a consumer
        that died between commit and clearing up, say) and would keep the seat from everybody for ten minutes: its
        losers go on to PostgreSQL, which decides anyway."""
        if not lost:
            return lost
        seat_map, now = await self._seat_map(event_id), datetime.now(UTC)
        return {token: seat_id for token, seat_id in lost.items() if not seat_map.is_free(seat_id, now)}

    def _redis_failed(self, operation: str, problem: BaseException) -> None:
        self.lock_breaker.failed()
        tell_of_fallback(operation, problem)


def _problem_of(state: RetryCallState) -> BaseException:
    problem = state.outcome.exception() if state.outcome is not None else None
    return problem or RuntimeError("no attempt has been made")


def still_waited_for(asked: Iterable[Asked]) -> list[Asked]:
    """Without those past their deadline: nobody waits for them, nothing has happened, and nothing will."""
    now = datetime.now(UTC)
    return [one for one in asked if one.command.deadline_at is None or one.command.deadline_at > now]


def _asking(command: AnyCommand) -> CommandId:
    """One ask among those of a batch; the same command may be asked twice in it."""
    return command.correlation_id or command.command_id


def _collect(
    asked: Sequence[Asked],
    replies: Mapping[CommandId, AnyReply],
    outcome: Outcome,
    chosen: Mapping[CommandId, Sequence[SeatId]],
) -> list[Answered]:
    """Sort the replies into the outcome; returns those whose seats we chose badly and who are owed another choice."""
    again: list[Answered] = []
    ends: Counter[tuple[str, str]] = Counter()
    for one in asked:
        reply = replies.get(_asking(one.command))
        if reply is None or isinstance(reply, ReplyLater):
            continue
        if _was_our_choice(one.command, reply, chosen):
            again.append(Answered(one, reply))
            continue
        ends[one.command.type, _ended(reply)] += 1
        outcome.answered.append(Answered(one, reply))
    for (type_, end), count in ends.items():
        COMMANDS.labels(type_, end).inc(count)
    return again


def _was_our_choice(command: AnyCommand, reply: AnyReply, chosen: Mapping[CommandId, Sequence[SeatId]]) -> bool:
    return (
        isinstance(reply, Rejected)
        and reply.code is RejectionCode.SEATS_UNAVAILABLE
        and bool(chosen.get(command.command_id))
    )


def _ended(reply: AnyReply) -> str:
    return reply.code.value if isinstance(reply, Rejected) else reply.type


def _live_holds(outcome: Outcome) -> dict[HoldId, tuple[Hold, datetime]]:
    """The holds this batch leaves active, each with the time at which it was seen to be."""
    return {
        hold.id: (hold, sale.now) for sale in outcome.sales for hold in sale.holds.values() if hold.is_active(sale.now)
    }


def _keep_ms(locks: WantedSeats, live: tuple[Hold, datetime] | None) -> int:
    """How long locks are worth keeping: as long as the hold whose seats they are. A command that was answered "reserved"
    need not have one: the retry of a reservation that has been given back gets its first answer, and no seat."""
    if live is None:
        return 0
    hold, now = live
    if not set(locks.seat_ids) <= set(hold.seat_ids):
        return 0
    return max(0, int((hold.held_until - now).total_seconds() * 1000))


def _freed_locks(outcome: Outcome) -> list[WantedSeats]:
    """The locks of holds that this batch ended and of orders it took back: a lock left behind would keep a free seat from
    being sold. Compare-and-delete: whoever has the seats by now keeps them."""
    ended = [
        hold for sale in outcome.sales for hold in sale.changed_holds.values() if hold.status in ("released", "expired")
    ]
    taken_back = [sale.holds[order.hold_id] for sale in outcome.sales for order in sale.unsold_orders]
    return [WantedSeats(hold.id, hold.seat_ids) for hold in (*ended, *taken_back)]
