"""What happens to one call: refused, replayed, executed, or made to go wrong on purpose?

The order is Stripe's: key of the account, rate limit, idempotency, validation, execution. Only what executed is stored.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from ops.payment_simulator import answers, intents, refunds
from ops.payment_simulator.answers import Answer
from ops.payment_simulator.faults import BEFORE_EXECUTION, Fault, FaultScript, Operation
from ops.payment_simulator.forms import Form, read_form
from ops.payment_simulator.intents import Intent
from ops.payment_simulator.operations import OPERATIONS, find_target
from ops.payment_simulator.provider import Provider, Request, fingerprint
from ops.payment_simulator.refunds import Refund


class HangUp(Exception):
    """The connection is to be closed without a reply."""


@dataclass(frozen=True, slots=True)
class Call:
    """One POST as it arrived."""

    operation: Operation
    path: str
    body: bytes
    key: str | None
    intent_id: str | None = None


class Simulator:
    """The provider behind its idempotency layer and its scripted faults."""

    def __init__(
        self, provider: Provider, *, delay_seconds: float = 0.0, authorization_seconds: float | None = None
    ) -> None:
        self.provider = provider
        self.faults = FaultScript()
        self._delay_seconds = delay_seconds
        self._authorization_seconds = authorization_seconds
        self._background: set[asyncio.Task[Any]] = set()

    def begin(self) -> None:
        """Let authorisations from before a restart expire in their time."""
        for intent in self.provider.intents.values():
            self._expire_in_time(intent)

    async def change(self, call: Call) -> Answer:
        """Answer a call that may change something; raises HangUp when a fault wants no answer."""
        request = Request(call.operation, call.key, fingerprint(call.path, call.body))
        form = read_form(call.operation, call.body)
        stored = self.provider.answers.get(call.key) if call.key else None
        in_use = call.key in self.provider.keys_in_use
        fault = self.faults.strike(call.operation, self._metadata(call, form), executes=stored is None and not in_use)
        if fault is not None and fault.fault in BEFORE_EXECUTION:
            return _fail_before_execution(fault, call.key)
        if in_use:
            return answers.key_in_use(str(call.key))
        if stored is not None:
            if stored.fingerprint != request.fingerprint:
                return answers.other_parameters(str(call.key))
            return _reply(await self.provider.replay(stored), fault)
        if isinstance(form, Answer):
            return form
        target = find_target(self.provider, call.operation, call.intent_id, form)
        if isinstance(target, Answer):
            return target
        return await self._start(request, target, form, fault)

    async def look(self, operation: Operation, answer: Answer, metadata: dict[str, str]) -> Answer:
        """Give an answer that changes nothing, unless a fault is in the way."""
        fault = self.faults.strike(operation, metadata, executes=True)
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        # Nobody may be shown what a crash could still undo.
        await self.provider.journal.durable()
        if fault is None:
            return answer
        if fault.fault in BEFORE_EXECUTION:
            return _fail_before_execution(fault, None)
        if fault.fault in ("500_before", "500_after_effect"):
            return answers.broken()
        if fault.fault == "delay":
            await asyncio.sleep(fault.ms / 1000)
            return answer
        raise HangUp

    async def expire(self, intent: Intent) -> bool:
        """End an authorisation as the bank does after some days; False when there is none."""
        if intent.status != "requires_capture":
            return False
        intents.expire(intent, int(time.time()))
        return await self._note("expire", intent)

    async def complete_action(self, intent: Intent) -> bool:
        """The buyer passed the bank's check; False when none was asked."""
        if intent.status != "requires_action":
            return False
        intents.authorize(intent, int(time.time()))
        self._expire_in_time(intent)
        return await self._note("complete_action", intent)

    async def fail_refund(self, refund: Refund) -> bool:
        """The money did not arrive; False when it is known already."""
        if refund.status == "failed":
            return False
        intent = self.provider.intents[refund.payment_intent]
        return await self._note("fail_refund", intent, refunds.fail(intent, refund))

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await self.provider.journal.close()

    async def _start(self, request: Request, target: str | None, form: Form, fault: Fault | None) -> Answer:
        late = fault is not None and fault.fault in ("delay", "apply_late")
        seconds = fault.ms / 1000 if fault is not None and late else self._delay_seconds
        if request.key is not None:
            self.provider.keys_in_use.add(request.key)
        if seconds == 0:
            return _reply(await self._execute(request, target, form, fault), fault)
        # Its own task: a provider goes on when the caller has given up and closed the connection.
        running = self._in_background(self._execute(request, target, form, fault, after_seconds=seconds))
        if fault is not None and fault.fault == "apply_late":
            raise HangUp
        return _reply(await asyncio.shield(running), fault)

    async def _execute(
        self, request: Request, target: str | None, form: Form, fault: Fault | None, *, after_seconds: float = 0.0
    ) -> Answer:
        try:
            if after_seconds:
                await asyncio.sleep(after_seconds)
            answer = self._take_effect(request, target, form, fault)
            await self.provider.journal.durable()
            return answer
        finally:
            self.provider.keys_in_use.discard(request.key or "")

    def _take_effect(self, request: Request, target: str | None, form: Form, fault: Fault | None) -> Answer:
        if fault is not None and fault.fault == "500_before":
            self.provider.write_down(request, answers.broken(), intent=None, refund=None)
            return answers.broken()
        effect = OPERATIONS[request.operation](self.provider, target, form)
        answer = effect.answer
        if fault is not None and fault.fault == "500_after_effect":
            answer = answers.broken()
        self.provider.write_down(request, answer, intent=effect.intent, refund=effect.refund)
        if effect.intent is not None:
            self._expire_in_time(effect.intent)
        return answer

    def _metadata(self, call: Call, form: Form | Answer) -> dict[str, str]:
        own: dict[str, str] = {} if isinstance(form, Answer) else form["metadata"]
        intent_id = call.intent_id if isinstance(form, Answer) else form.get("payment_intent", call.intent_id)
        intent = self.provider.intents.get(intent_id or "")
        return own if intent is None else {**intent.metadata, **own}

    def _expire_in_time(self, intent: Intent) -> None:
        if self._authorization_seconds is None or intent.status != "requires_capture" or intent.authorized_at is None:
            return
        due_seconds = max(0.0, intent.authorized_at + self._authorization_seconds - time.time())
        self._in_background(self._expire_after(intent, due_seconds))

    async def _expire_after(self, intent: Intent, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.expire(intent)

    async def _note(self, operation: str, intent: Intent, refund: Refund | None = None) -> bool:
        nothing = answers.yes({})
        self.provider.write_down(Request(operation, None, b""), nothing, intent=intent, refund=refund)
        await self.provider.journal.durable()
        return True

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _fail_before_execution(fault: Fault, key: str | None) -> Answer:
    if fault.fault == "429":
        return answers.rate_limited()
    if fault.fault == "409_in_use":
        return answers.key_in_use(key or "")
    if fault.fault == "outage":
        return answers.outage()
    raise HangUp


def _reply(answer: Answer, fault: Fault | None) -> Answer:
    if fault is not None and fault.fault == "drop_reply":
        raise HangUp
    return answer
