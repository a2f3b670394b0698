"""How does a test script faults, let authorisations expire and look into the provider's books?

These routes exist only when the simulator was started with --control.
"""

from collections import Counter
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from sanic import HTTPResponse, Request, Sanic, json

from ops.payment_simulator.faults import Fault
from ops.payment_simulator.simulator import Simulator


def add_control_routes(app: Sanic[Any, Any]) -> None:
    """What tests may do to the provider, which no provider would let them."""
    app.add_route(add_fault, "/control/faults", methods=["POST"])
    app.add_route(get_faults, "/control/faults", methods=["GET"])
    app.add_route(clear_faults, "/control/faults", methods=["DELETE"])
    app.add_route(expire, "/control/expire/<intent_id:str>", methods=["POST"])
    app.add_route(complete_action, "/control/complete_action/<intent_id:str>", methods=["POST"])
    app.add_route(fail_refund, "/control/fail_refund/<refund_id:str>", methods=["POST"])
    app.add_route(forget_keys, "/control/keys", methods=["DELETE"])
    app.add_route(get_state, "/control/state", methods=["GET"])
    app.add_route(get_webhooks, "/control/webhooks", methods=["GET"])


async def add_fault(request: Request) -> HTTPResponse:
    """Script a fault."""
    try:
        fault = Fault.model_validate_json(request.body)
    except ValidationError as problems:
        return json({"error": problems.errors(include_url=False, include_context=False)}, status=HTTPStatus.BAD_REQUEST)
    _simulator(request).faults.faults.append(fault)
    return json(fault.model_dump(), status=HTTPStatus.CREATED)


async def get_faults(request: Request) -> HTTPResponse:
    """Every fault in force, in order, with how often each has fired."""
    return json({"data": [fault.model_dump() for fault in _simulator(request).faults.faults]})


async def clear_faults(request: Request) -> HTTPResponse:
    """Take all faults away; the answer says how often each had fired."""
    answer = await get_faults(request)
    _simulator(request).faults.faults.clear()
    return answer


async def expire(request: Request, intent_id: str) -> HTTPResponse:
    """End an authorisation as if its days were over."""
    intent = _simulator(request).provider.intents.get(intent_id)
    if intent is None or not await _simulator(request).expire(intent):
        return json({"error": "no such authorisation"}, status=HTTPStatus.CONFLICT)
    return json({"status": intent.status})


async def complete_action(request: Request, intent_id: str) -> HTTPResponse:
    """The buyer has done what their bank asked for."""
    intent = _simulator(request).provider.intents.get(intent_id)
    if intent is None or not await _simulator(request).complete_action(intent):
        return json({"error": "nothing was asked of that buyer"}, status=HTTPStatus.CONFLICT)
    return json({"status": intent.status})


async def fail_refund(request: Request, refund_id: str) -> HTTPResponse:
    """The buyer's bank sends the money back: it was accepted, and did not arrive."""
    refund = _simulator(request).provider.refunds.get(refund_id)
    if refund is None or not await _simulator(request).fail_refund(refund):
        return json({"error": "no such refund"}, status=HTTPStatus.CONFLICT)
    return json({"status": "failed"})


async def forget_keys(request: Request) -> HTTPResponse:
    """A day has passed: whoever asks again with an old key asks anew. (After a restart they are known again.)"""
    answers = _simulator(request).provider.answers
    forgotten = len(answers)
    answers.clear()
    return json({"forgotten": forgotten})


async def get_state(request: Request) -> HTTPResponse:
    """How much there is of everything."""
    provider = _simulator(request).provider
    await provider.journal.durable()
    intents = provider.intents.values()
    return json(
        {
            "intents": len(provider.intents),
            "refunds": len(provider.refunds),
            "keys": len(provider.answers),
            "keys_in_use": len(provider.keys_in_use),
            "by_status": dict(Counter(intent.status for intent in intents)),
            "captured_minor": sum(intent.amount_received for intent in intents),
            "refunded_minor": sum(intent.amount_refunded for intent in intents),
        }
    )


async def get_webhooks(_: Request) -> HTTPResponse:
    """The webhooks sent so far: none, the simulator does not send any yet."""
    return json({"data": []})


def _simulator(request: Request) -> Simulator:
    simulator: Simulator = request.app.ctx.simulator
    return simulator
