"""Can the checkout protocol sell a seat twice, charge without an order, or get stuck for good?

An explicit-state model check: starting from one held seat, a breadth-first search visits every state that crashes, lost
requests, late answers, duplicate deliveries, a rival buyer, the reaper, an organiser who cancels and an expiring
authorisation can lead to, in every order. Nothing is sampled, so "safe" means: there is no such run.

Assumed of the payment provider: it handles one request at a time, creating is idempotent, a cancelled payment stays
cancelled. Modelled: one seat, one order, one card. One worker (thousands of states) already catches every broken
variant and runs in CI; `python -m tests.model.checkout_model --workers 2` (millions; ten minutes and
1.5 GB for all variants) adds workers racing each other.
"""

import argparse
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

Seat = Literal["held", "available", "sold to us", "sold to rival", "sold to both"]
Hold = Literal["active", "paying", "released", "converted"]
Order = Literal[
    "none",
    "authorizing",
    "confirmed",
    "payment failed",
    "voiding",
    "cancelled",
    "refunding",
    "refunded",
]
Payment = Literal["none", "created", "authorized", "declined", "canceled", "captured", "refunded"]
Task = Literal["none", "authorize", "reconcile", "void", "capture", "refund"]
Request = Literal["none", "create", "confirm", "capture", "cancel", "refund"]
Progress = Literal["idle", "starting", "waiting", "answered", "deciding", "finishing"]


class Worker(NamedTuple):
    """What one worker process has in memory; a crash loses all of it."""

    task: Task = "none"
    progress: Progress = "idle"
    request: Request = "none"
    seen: Payment = "none"


IDLE: Final = Worker()


class InFlight(NamedTuple):
    """A request on its way to the provider; it may arrive long after its sender died."""

    request: Request
    sender: int


class State(NamedTuple):
    """Everything that is true at one moment, here and at the provider."""

    workers: tuple[Worker, ...]
    seat: Seat = "held"
    hold: Hold = "active"
    order: Order = "none"
    payment: Payment = "none"
    payment_id_is_stored: bool = False
    capture_is_recorded: bool = False
    tasks: frozenset[Task] = frozenset()
    in_flight: frozenset[InFlight] = frozenset()
    organiser_has_cancelled: bool = False


class Variant(NamedTuple):
    """The protocol, or the protocol with one of its guards switched off."""

    reaper_takes_paying_holds: bool = False
    confirms_without_fence: bool = False
    timeout_means_failure: bool = False
    timeout_releases_seat: bool = False
    captures_automatically: bool = False


PROTOCOL: Final = Variant()

VARIANTS: Final = {
    "protocol": PROTOCOL,
    "reap_paying": Variant(reaper_takes_paying_holds=True),
    "no_fence": Variant(confirms_without_fence=True),
    "reap_paying+no_fence": Variant(reaper_takes_paying_holds=True, confirms_without_fence=True),
    "timeout_is_failure": Variant(timeout_means_failure=True),
    "release_on_timeout": Variant(timeout_releases_seat=True),
    "autocapture": Variant(captures_automatically=True),
}

Step = tuple[str, State]


def next_steps(state: State, variant: Variant) -> Iterator[Step]:
    """Everything that can happen next: what happened, in words, and the state it leads to."""
    yield from environment_steps(state, variant)
    yield from provider_steps(state, variant)
    for index in range(len(state.workers)):
        yield from worker_steps(state, index, variant)


# The environment: buyers, the reaper, the organiser, and time.


def environment_steps(state: State, variant: Variant) -> Iterator[Step]:
    if state.hold == "active" and state.order == "none":
        yield "buyer checks out", with_task(state._replace(hold="paying", order="authorizing"), "authorize")
    if state.seat == "held" and may_be_reaped(state, variant):
        yield "reaper frees the seat", state._replace(hold="released", seat="available")
    if state.seat == "available":
        yield "rival buys the seat", state._replace(seat="sold to rival")
    if state.payment == "authorized":
        yield "authorisation expires", state._replace(payment="canceled")
    if not state.organiser_has_cancelled:
        yield from organiser_steps(state._replace(organiser_has_cancelled=True))


def may_be_reaped(state: State, variant: Variant) -> bool:
    if state.hold == "active":
        return True
    return variant.reaper_takes_paying_holds and state.hold == "paying" and state.order == "authorizing"


def organiser_steps(state: State) -> Iterator[Step]:
    if state.order == "confirmed":
        yield "organiser cancels, order is refunded", with_task(state._replace(order="refunding"), "refund")
    elif state.order == "authorizing":
        yield "organiser cancels, order is voided", with_task(state._replace(order="voiding"), "void")
    elif state.hold == "active" and state.seat == "held":
        yield "organiser cancels, seat is freed", state._replace(hold="released", seat="available")


# The payment provider, and the network on the way there and back.


def provider_steps(state: State, variant: Variant) -> Iterator[Step]:
    for flight in state.in_flight:
        arrived = state._replace(in_flight=state.in_flight - {flight})
        yield f"network loses {flight.request}", arrived
        for outcome in outcomes_at_provider(flight.request, state.payment, variant):
            processed = arrived._replace(payment=outcome)
            yield f"provider handles {flight.request} ({outcome}), answer is lost", processed
            sender = state.workers[flight.sender]
            if sender.progress == "waiting" and sender.request == flight.request:
                answered = sender._replace(progress="answered", seen=outcome)
                yield (
                    f"provider answers {flight.request} ({outcome})",
                    with_worker(processed, flight.sender, answered),
                )


def outcomes_at_provider(request: Request, payment: Payment, variant: Variant) -> tuple[Payment, ...]:
    """What the payment may be after the request; a request that comes too late changes nothing."""
    if request == "create" and payment == "none":
        return ("created",)
    if request == "confirm" and payment == "created":
        return ("captured", "declined") if variant.captures_automatically else ("authorized", "declined")
    if request == "capture" and payment == "authorized":
        return ("captured",)
    if request == "cancel" and payment in ("created", "authorized", "declined"):
        return ("canceled",)
    if request == "refund" and payment == "captured":
        return ("refunded",)
    return (payment,)


# The workers: each takes a task, talks to the provider, writes one short transaction and acknowledges.


def worker_steps(state: State, index: int, variant: Variant) -> Iterator[Step]:
    worker = state.workers[index]
    if worker.progress == "idle":
        yield from task_starts(state, index)
        return
    # kill -9 at any moment. Giving up on an answer looks the same: the worker forgets, the request may still arrive.
    yield f"worker {index} crashes", with_worker(state, index, IDLE)
    if worker.progress == "waiting":
        yield from flawed_timeouts(state, index, variant)
        return
    what, after = WORKER_STEPS[worker.progress](state, index, variant)
    yield f"worker {index} {what}", after


def task_starts(state: State, index: int) -> Iterator[Step]:
    # A task stays in the queue until acknowledged, so a second worker may start it too: that is a duplicate delivery.
    for task in state.tasks:
        yield f"worker {index} starts {task}", with_worker(state, index, Worker(task, "starting"))
    if state.order == "authorizing":
        yield f"worker {index} starts reconcile", with_worker(state, index, Worker("reconcile", "starting"))


def flawed_timeouts(state: State, index: int, variant: Variant) -> Iterator[Step]:
    """Two ways to mistake "no answer yet" for "no"."""
    if state.workers[index].request != "confirm" or state.order != "authorizing":
        return
    forgotten = with_worker(without_task(state, "authorize"), index, IDLE)
    if variant.timeout_means_failure:
        yield (
            f"worker {index} takes the timeout for a decline",
            forgotten._replace(order="payment failed", hold="active"),
        )
    if variant.timeout_releases_seat:
        yield (
            f"worker {index} frees the seat before the payment is cancelled",
            release_seat(forgotten)._replace(order="cancelled"),
        )


def begin_task(state: State, index: int, _: Variant) -> Step:
    worker = state.workers[index]
    if not is_still_needed(worker.task, state):
        return "finds nothing to do", progressed(state, index, "finishing")
    if worker.task in ("authorize", "reconcile", "void") and not state.payment_id_is_stored:
        return send(state, index, "create")
    match worker.task:
        case "authorize":
            return send(state, index, "confirm")
        case "void":
            return send(state, index, "cancel")
        case "capture":
            return send(state, index, "capture")
        case _:
            return "looks the payment up", progressed(state, index, "deciding", seen=state.payment)


def take_answer(state: State, index: int, _: Variant) -> Step:
    match state.workers[index].request:
        case "create":
            return "stores the payment id (T2)", progressed(
                state._replace(payment_id_is_stored=True), index, "starting"
            )
        case "cancel" if state.workers[index].task == "void":
            return take_cancel_answer(state, index)
        case "capture":
            return take_capture_answer(state, index)
        case _:
            seen = state.workers[index].seen
            return f"reads the answer ({seen})", progressed(state, index, "deciding", seen=seen)


def take_cancel_answer(state: State, index: int) -> Step:
    seen = state.workers[index].seen
    if seen == "canceled":
        cancelled = release_seat(state)._replace(order="cancelled") if state.order == "voiding" else state
        return "cancels the order (T4)", progressed(cancelled, index, "finishing")
    if seen == "captured" and state.order == "voiding":
        refunding = with_task(state._replace(order="refunding"), "refund")
        return "finds the payment captured, refunds instead", progressed(refunding, index, "finishing")
    return "leaves it for a retry", with_worker(state, index, IDLE)


def take_capture_answer(state: State, index: int) -> Step:
    seen = state.workers[index].seen
    if seen == "captured":
        recorded = state._replace(capture_is_recorded=True) if state.order == "confirmed" else state
        return "records the capture (T5)", progressed(recorded, index, "finishing")
    if seen == "canceled" and is_still_needed("capture", state):
        unsold = take_back_seat(state)._replace(order="cancelled")
        return "cannot capture any more, cancels the order (T6)", progressed(unsold, index, "finishing")
    return f"has nothing to record ({seen})", progressed(state, index, "finishing")


def decide(state: State, index: int, variant: Variant) -> Step:
    worker = state.workers[index]
    if not is_still_needed(worker.task, state):
        return "finds the order settled", progressed(state, index, "finishing")
    if worker.task == "refund":
        return decide_refund(state, index)
    return decide_authorization(state, index, variant)


def decide_authorization(state: State, index: int, variant: Variant) -> Step:
    worker = state.workers[index]
    match worker.seen:
        case "authorized" | "captured":
            return confirm_order(state, index, variant)
        case "declined":
            # The hold goes back to its buyer for another card, unless somebody took it meanwhile.
            failed = state._replace(order="payment failed", hold="active" if state.hold == "paying" else state.hold)
            return "fails the order (TD)", progressed(failed, index, "finishing")
        case "canceled":
            cancelled = release_seat(state)._replace(order="cancelled")
            return "cancels the order, its payment is dead", progressed(cancelled, index, "finishing")
        case "created" | "none" if worker.task == "reconcile":
            voiding = with_task(state._replace(order="voiding"), "void")
            return "gives up on the payment", progressed(voiding, index, "finishing")
        case _:
            return "leaves it to the reconciler", progressed(state, index, "finishing")


def confirm_order(state: State, index: int, variant: Variant) -> Step:
    """T3: the order, its hold and its seat change together, or not at all."""
    fence_holds = state.hold == "paying" and state.seat == "held"
    if not fence_holds and not variant.confirms_without_fence:
        voiding = with_task(state._replace(order="voiding"), "void")
        return "finds the seat gone, voids the order (T3)", progressed(voiding, index, "finishing")
    sold = state._replace(
        order="confirmed",
        hold="converted",
        seat="sold to both" if state.seat == "sold to rival" else "sold to us",
    )
    is_captured = state.workers[index].seen == "captured"
    paid = sold._replace(capture_is_recorded=True) if is_captured else with_task(sold, "capture")
    return "confirms the order (T3)", progressed(paid, index, "finishing")


def decide_refund(state: State, index: int) -> Step:
    match state.workers[index].seen:
        case "authorized":
            return send(state, index, "cancel")
        case "captured":
            return send(state, index, "refund")
        case _:
            refunded = take_back_seat(state)._replace(order="refunded")
            return "closes the refund (T7)", progressed(refunded, index, "finishing")


def acknowledge(state: State, index: int, _: Variant) -> Step:
    task = state.workers[index].task
    done = state if is_still_needed(task, state) else without_task(state, task)
    return f"acknowledges {task}", with_worker(done, index, IDLE)


WORKER_STEPS: Final[dict[Progress, Callable[[State, int, Variant], Step]]] = {
    "starting": begin_task,
    "answered": take_answer,
    "deciding": decide,
    "finishing": acknowledge,
}


def is_still_needed(task: Task, state: State) -> bool:
    match task:
        case "authorize" | "reconcile":
            return state.order == "authorizing"
        case "void":
            return state.order == "voiding"
        case "capture":
            return state.order == "confirmed" and not state.capture_is_recorded
        case "refund":
            return state.order == "refunding"
        case _:
            return False


def send(state: State, index: int, request: Request) -> Step:
    sent = state._replace(in_flight=state.in_flight | {InFlight(request, index)})
    waiting = Worker(state.workers[index].task, "waiting", request)
    return f"sends {request}", with_worker(sent, index, waiting)


def progressed(state: State, index: int, progress: Progress, seen: Payment = "none") -> State:
    return with_worker(state, index, Worker(state.workers[index].task, progress, seen=seen))


def with_worker(state: State, index: int, worker: Worker) -> State:
    return state._replace(workers=(*state.workers[:index], worker, *state.workers[index + 1 :]))


def with_task(state: State, task: Task) -> State:
    return state._replace(tasks=state.tasks | {task})


def without_task(state: State, task: Task) -> State:
    return state._replace(tasks=state.tasks - {task})


def release_seat(state: State) -> State:
    return state._replace(hold="released", seat="available" if state.seat == "held" else state.seat)


def take_back_seat(state: State) -> State:
    return state._replace(seat="available" if state.seat == "sold to us" else state.seat)


# What must never be true, and how it may end.


def is_oversold(state: State) -> bool:
    lost_to_rival = state.seat == "sold to rival" and state.order in ("confirmed", "refunding")
    return state.seat == "sold to both" or lost_to_rival


def is_sold_without_order(state: State) -> bool:
    return state.seat == "sold to us" and state.order not in ("confirmed", "refunding")


def is_charged_without_order(state: State) -> bool:
    return state.payment == "captured" and state.order not in ("confirmed", "refunding", "refunded")


def is_refunded_but_confirmed(state: State) -> bool:
    return state.payment == "refunded" and state.order == "confirmed"


OVERSELL: Final = "OVERSELL: the seat belongs to two buyers"
CHARGED_WITHOUT_ORDER: Final = "CHARGED WITHOUT ORDER: the card is charged and there is no confirmed order"

BROKEN_PROMISES: Final[dict[str, Callable[[State], bool]]] = {
    OVERSELL: is_oversold,
    "the seat is sold and there is no confirmed order": is_sold_without_order,
    CHARGED_WITHOUT_ORDER: is_charged_without_order,
    "the money went back and the order is still confirmed": is_refunded_but_confirmed,
}


def broken_promise(state: State) -> str | None:
    return next((promise for promise, is_broken in BROKEN_PROMISES.items() if is_broken(state)), None)


def is_good_end(state: State) -> bool:
    """Nothing is under way, and the order and the money agree."""
    if state.in_flight or state.tasks or any(worker != IDLE for worker in state.workers):
        return False
    match state.order:
        case "none":
            return True
        case "confirmed":
            return state.payment == "captured" and state.capture_is_recorded
        case "payment failed":
            return state.payment in ("declined", "canceled")
        case "cancelled":
            return state.payment in ("canceled", "declined", "none")
        case "refunded":
            return state.payment in ("refunded", "canceled")
        case _:
            return False


# The search.


class Verdict(NamedTuple):
    """What the search found; `trace` is the shortest run into the first thing wrong."""

    state_count: int
    good_end_count: int
    dead_end_count: int
    broken_promise: str | None
    trace: tuple[str, ...]
    last_state: State | None

    @property
    def is_safe(self) -> bool:
        return self.broken_promise is None

    @property
    def is_sound(self) -> bool:
        return self.is_safe and self.dead_end_count == 0

    def __str__(self) -> str:
        if self.is_sound:
            return f"safe, no dead ends ({self.state_count:,} states, {self.good_end_count} good ends)"
        what = self.broken_promise or f"DEAD END: from {self.dead_end_count} states no good end can be reached"
        run = "".join(f"\n  {number:2}. {step}" for number, step in enumerate(self.trace, start=1))
        return f"{what}, after {len(self.trace)} steps at the soonest:{run}\n  leads to {self.last_state}"


class Search:
    """Every state found so far, numbered in the order of discovery, which is by distance from the start."""

    def __init__(self, start: State, variant: Variant) -> None:
        self.variant = variant
        self.states = [start]
        self.found_from = [0]
        self.predecessors: list[list[int]] = [[]]
        self._number_of = {start: 0}

    def first_broken(self) -> int | None:
        """Visit every reachable state, nearest first; stop at the first that breaks a promise."""
        number = 0
        while number < len(self.states):
            if broken_promise(self.states[number]):
                return number
            for _, after in next_steps(self.states[number], self.variant):
                self._add(after, found_from=number)
            number += 1
        return None

    def good_ends(self) -> list[int]:
        return [number for number, state in enumerate(self.states) if is_good_end(state)]

    def dead_ends(self) -> list[int]:
        """The states from which no run whatsoever leads to a good end, nearest first."""
        can_end_well = bytearray(len(self.states))
        waiting = deque(self.good_ends())
        while waiting:
            number = waiting.popleft()
            if not can_end_well[number]:
                can_end_well[number] = True
                waiting.extend(self.predecessors[number])
        return [number for number, is_fine in enumerate(can_end_well) if not is_fine]

    def trace_to(self, number: int) -> tuple[str, ...]:
        steps = []
        while number != 0:
            before = self.states[self.found_from[number]]
            after = self.states[number]
            steps.append(next(what for what, state in next_steps(before, self.variant) if state == after))
            number = self.found_from[number]
        return tuple(reversed(steps))

    def _add(self, state: State, *, found_from: int) -> None:
        number = self._number_of.get(state)
        if number is not None:
            self.predecessors[number].append(found_from)
            return
        self._number_of[state] = len(self.states)
        self.states.append(state)
        self.found_from.append(found_from)
        self.predecessors.append([found_from])


def explore(variant: Variant = PROTOCOL, worker_count: int = 1) -> Search:
    """Start a search at a buyer who holds a seat."""
    return Search(State(workers=(IDLE,) * worker_count), variant)


def check(variant: Variant = PROTOCOL, worker_count: int = 1) -> Verdict:
    """Search every run of the variant and judge it."""
    search = explore(variant, worker_count)
    broken = search.first_broken()
    # After a broken promise the search is incomplete, and says nothing about dead ends.
    dead_ends = [] if broken is not None else search.dead_ends()
    worst = broken if broken is not None else next(iter(dead_ends), None)
    return Verdict(
        state_count=len(search.states),
        good_end_count=len(search.good_ends()),
        dead_end_count=len(dead_ends),
        broken_promise=None if broken is None else broken_promise(search.states[broken]),
        trace=() if worst is None else search.trace_to(worst),
        last_state=None if worst is None else search.states[worst],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the checkout protocol and its broken variants.")
    parser.add_argument("--workers", type=int, default=1, help="2 takes minutes and gigabytes, and races the workers")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="only these (default: all)")
    arguments = parser.parse_args()
    # Millions of live tuples and no cycles: the collector would only walk them again and again.
    gc.disable()
    print(f"{'variant':22} {'states':>9} {'good ends':>9} {'dead ends':>9} {'steps':>5} {'seconds':>7}  verdict")
    for name in arguments.variant or VARIANTS:
        started_at = time.monotonic()
        verdict = check(VARIANTS[name], arguments.workers)
        result = verdict.broken_promise or ("safe" if verdict.is_sound else "DEAD ENDS")
        print(
            f"{name:22} {verdict.state_count:9,} {verdict.good_end_count:9} {verdict.dead_end_count:9}"
            f" {len(verdict.trace) or '':5} {time.monotonic() - started_at:7.1f}  {result}",
            flush=True,
        )


if __name__ == "__main__":
    main()
