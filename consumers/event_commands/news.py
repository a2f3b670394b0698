"""What do operators hear of a committed batch?

The seed's metrics and key log events, told once per batch, after the buyers have their answers: nothing in here can change
what happened, and a line that is lost with its process is only a line. A batch is counted from what it has made of the sale,
not from what it answered: a message that is delivered again makes nothing, and counts nothing.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg
from prometheus_client import Counter as CounterMetric
from prometheus_client import Histogram

from consumers.event_commands.outcome import Answered, Outcome
from consumers.rules.sale import Hold, Order, Sale, Seat
from contracts.commands import Checkout, ReleaseSeats, ReserveSeats
from contracts.ids import CommandId, EventId, HoldId, SeatId
from contracts.rejections import RejectionCode
from contracts.replies import Rejected
from db.sale import StaleWrite
from db.telemetry.logs import write_lines
from db.telemetry.metrics import event_label, of_events

log = logging.getLogger(__name__)

# A batch of 256 that fights over a hundred seats says which were fought over most, not all of it.
LINES_OF_A_KIND_MAX = 20

SEATS_RESERVED = of_events(CounterMetric("seats_reserved_total", "Seats set aside for checkout", ["event_id"]))
SEATS_SOLD = of_events(CounterMetric("seats_sold_total", "Seats sold", ["event_id"]))
CHECKOUTS = of_events(CounterMetric("checkout_completed_total", "Checkouts that ended with tickets", ["event_id"]))
FAILED_CHECKOUTS = of_events(
    CounterMetric("checkout_failed_total", "Checkouts that ended without tickets", ["event_id", "reason"])
)
CHECKOUT_SECONDS = of_events(
    Histogram(
        "checkout_duration_seconds",
        "From the engine's first sight of a checkout to its tickets",
        ["event_id"],
        buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0),
    )
)
LOCK_ATTEMPTS = of_events(
    CounterMetric("seat_lock_attempts_total", "Reservations at the seat locks in Redis", ["event_id", "result"])
)
EXPIRY_LAG_SECONDS = Histogram(
    "boxoffice_hold_expiry_lag_seconds",
    "From the end of a hold to its seats being free",
    buckets=(0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
OVERSELLS_PREVENTED = CounterMetric(
    "boxoffice_oversells_prevented_total", "Times one guard let a seat through and the next one did not", ["guard"]
)
REDIS_FALLBACKS = CounterMetric(
    "boxoffice_redis_fallbacks_total", "Batches whose part in Redis PostgreSQL has done", ["operation"]
)
for _guard in ("row_lock", "fence", "index"):
    OVERSELLS_PREVENTED.labels(_guard)

Line = Mapping[str, Any]


def tell_of_batch(event_id: EventId, outcome: Outcome) -> None:
    """Count and log what these transactions have made of the sale; raises nothing, because it stands between the answers and
    their acknowledgement."""
    try:
        _tell(event_id, outcome)
    except Exception:
        log.exception("batch_not_told", extra={"eventId": str(event_id)})


def _tell(event_id: EventId, outcome: Outcome) -> None:
    duration_ms = round((time.perf_counter() - outcome.began_at) * 1000, 1)
    asked = Asks(outcome)
    label = event_label(event_id)
    good: list[Line] = []
    bad: list[Line] = []
    for sale in outcome.sales:
        _count(label, sale)
        good += _reserved(sale, asked, duration_ms)
        good += _released(sale, asked)
        good += _completed(label, sale)
        bad += _failed(label, sale)
    bad += _refused_checkouts(label, event_id, outcome)
    bad += _contended(label, event_id, outcome)
    write_lines(log, logging.INFO, good)
    write_lines(log, logging.WARNING, bad)
    write_lines(log, logging.ERROR, _let_through(event_id, outcome))


def tell_of_guard(event_id: EventId, problem: BaseException) -> None:
    """A write that would have sold what somebody else has: PostgreSQL, or the fence, did not let it happen."""
    if isinstance(problem, StaleWrite):
        guard = "fence"
    elif isinstance(problem, asyncpg.UniqueViolationError):
        guard = "index"
    else:
        return
    OVERSELLS_PREVENTED.labels(guard).inc()
    # The database's message may quote values of the record; its kind and the constraint are enough to find the place.
    about = getattr(problem, "constraint_name", None) or type(problem).__name__
    line = {"action": "oversell_prevented", "eventId": str(event_id), "details": f"{guard}: {about}"}
    write_lines(log, logging.ERROR, [line])


def tell_of_fallback(operation: str, problem: BaseException) -> None:
    """Redis did not do its part in time; PostgreSQL does it."""
    REDIS_FALLBACKS.labels(operation).inc()
    log.error("redis_fallback", extra={"operation": operation, "error": repr(problem)})


class Asks:
    """Whose request a hold was made or given back by: the correlation id of each, for the lines that tell of it."""

    def __init__(self, outcome: Outcome) -> None:
        self._of_hold: dict[HoldId, CommandId | None] = {}
        for answer in outcome.answered:
            command = answer.asked.command
            if isinstance(command, ReserveSeats):
                self._of_hold.setdefault(HoldId(command.command_id), command.correlation_id)
            elif isinstance(command, ReleaseSeats):
                self._of_hold[command.hold_id] = command.correlation_id

    def of(self, hold: Hold) -> str | None:
        """None where nobody asked: a hold that ran out."""
        correlation_id = self._of_hold.get(hold.id)
        return None if correlation_id is None else str(correlation_id)


def _count(label: str, sale: Sale) -> None:
    if sale.seats_reserved_count:
        SEATS_RESERVED.labels(label).inc(sale.seats_reserved_count)
    if sale.sold_orders:
        SEATS_SOLD.labels(label).inc(sum(len(seats) for _, seats in sale.sold_orders))


def _reserved(sale: Sale, asked: Asks, duration_ms: float) -> Iterator[Line]:
    for hold in sale.changed_holds.values():
        if hold.is_new:
            yield {**_about_hold("seat_reserved", sale, hold, asked), "durationMs": duration_ms}


def _released(sale: Sale, asked: Asks) -> Iterator[Line]:
    for hold in sale.changed_holds.values():
        if hold.status in ("released", "expired"):
            if hold.status == "expired":
                EXPIRY_LAG_SECONDS.observe(max(0.0, (sale.now - hold.held_until).total_seconds()))
            yield {**_about_hold("seat_released", sale, hold, asked), "reason": hold.status}


def _about_hold(action: str, sale: Sale, hold: Hold, asked: Asks) -> dict[str, Any]:
    return {
        "action": action,
        "correlationId": asked.of(hold),
        "userId": hold.user_id,
        "eventId": sale.terms.event_id,
        "holdId": hold.id,
        "seatIds": hold.seat_ids,
    }


def _completed(label: str, sale: Sale) -> Iterator[Line]:
    for order, _ in sale.sold_orders:
        if order.kind != "sale":
            continue  # given away: nobody checked out
        CHECKOUTS.labels(label).inc()
        CHECKOUT_SECONDS.labels(label).observe(max(0.0, (sale.now - order.created_at).total_seconds()))
        yield {**_about_order("checkout_completed", sale, order), "amount": str(order.total)}


def _failed(label: str, sale: Sale) -> Iterator[Line]:
    """Orders that this batch has ended without tickets."""
    for order in sale.changed_orders.values():
        if order.status not in ("declined", "cancelled"):
            continue
        reason = "payment_declined" if order.status == "declined" else "order_cancelled"
        FAILED_CHECKOUTS.labels(label, reason).inc()
        yield {**_about_order("checkout_failed", sale, order), "reason": reason, "error": order.ended_because}


def _about_order(action: str, sale: Sale, order: Order) -> dict[str, Any]:
    return {
        "action": action,
        "correlationId": None if order.correlation_id is None else str(order.correlation_id),
        "userId": order.user_id,
        "eventId": sale.terms.event_id,
        "orderId": order.id,
    }


def _refused_checkouts(label: str, event_id: EventId, outcome: Outcome) -> Iterator[Line]:
    """Checkouts that never became an order."""
    for answer in outcome.answered:
        command, reply = answer.asked.command, answer.reply
        if not isinstance(command, Checkout) or not isinstance(reply, Rejected) or reply.order_id is not None:
            continue
        FAILED_CHECKOUTS.labels(label, reply.code.value).inc()
        yield {
            "action": "checkout_failed",
            "correlationId": str(command.correlation_id or command.command_id),
            "userId": command.user_id,
            "eventId": event_id,
            "reason": reply.code.value,
            "error": "refused",
        }


def _contended(label: str, event_id: EventId, outcome: Outcome) -> Iterator[Line]:
    """The seats that were fought over, the most wanted first."""
    lost_count = outcome.lost_locks.total()
    if outcome.won_locks:
        LOCK_ATTEMPTS.labels(label, "success").inc(len(outcome.won_locks))
    if lost_count:
        LOCK_ATTEMPTS.labels(label, "failure").inc(lost_count)
    for seat_id, attempts in outcome.lost_locks.most_common(LINES_OF_A_KIND_MAX):
        yield {"action": "lock_contention", "eventId": event_id, "seatId": seat_id, "attempts": attempts}


def _let_through(event_id: EventId, outcome: Outcome) -> Sequence[Line]:
    """Seats that Redis gave to somebody although they were somebody else's, and PostgreSQL did not: without its row locks
    each of these would have been sold twice. It happens when Redis has lost its memory, and is then no fault."""
    if not outcome.won_locks:
        return []
    seats = _last_seen(outcome.sales)
    lines = [
        {
            "action": "oversell_prevented",
            "correlationId": str(answer.asked.command.correlation_id),
            "eventId": event_id,
            "seatId": seat.id,
            "details": f"row_lock: Redis let it pass, and the seat is {seat.status}",
        }
        for answer in outcome.answered
        if answer.asked.command.command_id in outcome.won_locks
        for seat in _somebody_elses(answer, seats)
    ]
    OVERSELLS_PREVENTED.labels("row_lock").inc(len(lines))
    return lines[:LINES_OF_A_KIND_MAX]


def _somebody_elses(answer: Answered, seats: Mapping[SeatId, Seat]) -> list[Seat]:
    """The seats an answer says are taken, and whose lock Redis should have had: those that are held. A lock lasts as long as
    the hold, so of seats that are sold, or that an organiser keeps back, Redis knows nothing, and that is no fault."""
    reply = answer.reply
    if not isinstance(reply, Rejected) or reply.code is not RejectionCode.SEATS_UNAVAILABLE:
        return []
    named = [seats[seat_id] for seat_id in reply.seat_ids if seat_id in seats]
    return [seat for seat in named if seat.status == "held"]


def _last_seen(sales: Sequence[Sale]) -> dict[SeatId, Seat]:
    return {seat_id: seat for sale in sales for seat_id, seat in sale.seats.items()}
