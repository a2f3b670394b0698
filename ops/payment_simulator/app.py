"""How do the provider's HTTP calls arrive, and how do its answers leave?"""

import asyncio
import re
from collections.abc import Iterable
from http import HTTPStatus
from itertools import count, dropwhile, islice
from pathlib import Path
from typing import Any, cast

from sanic import HTTPResponse, Sanic
from sanic import Request as HttpRequest
from sanic.exceptions import NotFound

from ops.payment_simulator import answers, intents, refunds
from ops.payment_simulator.answers import Answer
from ops.payment_simulator.control import add_control_routes
from ops.payment_simulator.faults import Operation
from ops.payment_simulator.journal import Journal
from ops.payment_simulator.provider import Provider
from ops.payment_simulator.simulator import Call, HangUp, Simulator

KEY_LENGTH_MAX = 255
PAGE_MAX = 100
PAGE_DEFAULT = 10
QUERY = re.compile(r"""metadata\[['"]([^'"]+)['"]\]:['"]([^'"]*)['"]""")

_request_numbers = count(1)


def make_app(
    log: Path, *, control: bool, delay_seconds: float = 0.0, authorization_seconds: float | None = None
) -> Sanic[Any, Any]:
    """The simulator over this log; with `control`, tests may script faults."""
    app: Sanic[Any, Any] = Sanic("payment_simulator")
    app.config.ACCESS_LOG = False

    @app.before_server_start
    async def open_the_books(app: Sanic[Any, Any]) -> None:
        app.ctx.simulator = Simulator(
            Provider(Journal(log)), delay_seconds=delay_seconds, authorization_seconds=authorization_seconds
        )
        app.ctx.simulator.begin()

    @app.after_server_stop
    async def close_the_books(app: Sanic[Any, Any]) -> None:
        await app.ctx.simulator.close()

    app.add_route(create_or_list_intents, "/v1/payment_intents", methods=["GET", "POST"])
    app.add_route(search_intents, "/v1/payment_intents/search", methods=["GET"])
    app.add_route(get_intent, "/v1/payment_intents/<intent_id:str>", methods=["GET"])
    app.add_route(change_intent, "/v1/payment_intents/<intent_id:str>/<verb:confirm|capture|cancel>", methods=["POST"])
    app.add_route(create_or_list_refunds, "/v1/refunds", methods=["GET", "POST"])
    app.add_route(get_refund, "/v1/refunds/<refund_id:str>", methods=["GET"])
    app.error_handler.add(NotFound, _unknown_address)
    if control:
        add_control_routes(app)
    return app


async def create_or_list_intents(request: HttpRequest) -> HTTPResponse:
    """POST makes an intent, GET lists them, newest first."""
    if request.method == "POST":
        return await _change(request, "create", None)
    found = _page_of_intents(request, _simulator(request).provider)
    return await _look(request, "list", found, {})


async def change_intent(request: HttpRequest, intent_id: str, verb: Operation) -> HTTPResponse:
    """Confirm, capture or cancel one."""
    return await _change(request, verb, intent_id)


async def get_intent(request: HttpRequest, intent_id: str) -> HTTPResponse:
    """One intent as it is now."""
    intent = _simulator(request).provider.intents.get(intent_id)
    if intent is None:
        return await _look(request, "get", answers.missing("payment_intent", intent_id), {})
    shown = intents.as_json(intent, with_charge="latest_charge" in _expanded(request))
    return await _look(request, "get", answers.yes(shown), intent.metadata)


async def search_intents(request: HttpRequest) -> HTTPResponse:
    """The intents with this metadata."""
    wanted = dict(QUERY.findall(request.args.get("query", "")))
    if not wanted:
        refusal = answers.invalid("We support searches like metadata['order_id']:'...' only.", param="query")
        return await _look(request, "list", refusal, {})
    with_charge = "data.latest_charge" in _expanded(request)
    found = _simulator(request).provider.intents_with(wanted)[:PAGE_MAX]
    shown = [intents.as_json(intent, with_charge=with_charge) for intent in found]
    page = answers.page("/v1/payment_intents/search", shown, has_more=False, kind="search_result")
    return await _look(request, "list", page, wanted)


async def create_or_list_refunds(request: HttpRequest) -> HTTPResponse:
    """POST gives money back, GET lists what was given back, newest first."""
    if request.method == "POST":
        return await _change(request, "refund", None)
    provider = _simulator(request).provider
    of_intent = provider.intents.get(request.args.get("payment_intent", ""))
    return await _look(
        request, "list", _page_of_refunds(request, provider), of_intent.metadata if of_intent is not None else {}
    )


async def get_refund(request: HttpRequest, refund_id: str) -> HTTPResponse:
    """One refund."""
    refund = _simulator(request).provider.refunds.get(refund_id)
    if refund is None:
        return await _look(request, "get", answers.missing("refund", refund_id), {})
    return await _look(request, "get", refunds.as_answer(refund), refund.metadata)


async def _change(request: HttpRequest, operation: Operation, intent_id: str | None) -> HTTPResponse:
    if not _is_authorized(request):
        return _respond(answers.unauthorized())
    key = request.headers.get("idempotency-key")
    if key is not None and len(key) > KEY_LENGTH_MAX:
        return _respond(answers.invalid(f"Idempotency keys have at most {KEY_LENGTH_MAX} characters."))
    call = Call(operation, request.path, request.body, key, intent_id)
    try:
        return _respond(await _simulator(request).change(call))
    except HangUp:
        return await _hang_up(request)


async def _look(request: HttpRequest, operation: Operation, answer: Answer, metadata: dict[str, str]) -> HTTPResponse:
    if not _is_authorized(request):
        return _respond(answers.unauthorized())
    try:
        return _respond(await _simulator(request).look(operation, answer, metadata))
    except HangUp:
        return await _hang_up(request)


def _page_of_intents(request: HttpRequest, provider: Provider) -> Answer:
    starting_after = request.args.get("starting_after")
    if starting_after is not None and starting_after not in provider.intents:
        return answers.missing("payment_intent", starting_after)
    try:
        limit = int(request.args.get("limit", PAGE_DEFAULT))
        since, until = _created_range(request)
    except ValueError:
        return answers.invalid("Invalid integer", code="parameter_invalid_integer")
    if not 1 <= limit <= PAGE_MAX:
        return answers.invalid(f"limit must be from 1 to {PAGE_MAX}", param="limit")
    with_charge = "data.latest_charge" in _expanded(request)
    older = provider.intents_between(since=since, until=until, starting_after=starting_after)
    found = [intents.as_json(intent, with_charge=with_charge) for intent in islice(older, limit + 1)]
    return answers.page("/v1/payment_intents", found[:limit], has_more=len(found) > limit)


def _page_of_refunds(request: HttpRequest, provider: Provider) -> Answer:
    of_intent, starting_after = request.args.get("payment_intent"), request.args.get("starting_after")
    if starting_after is not None and starting_after not in provider.refunds:
        return answers.missing("refund", starting_after)
    try:
        limit = int(request.args.get("limit", PAGE_DEFAULT))
    except ValueError:
        return answers.invalid("Invalid integer", code="parameter_invalid_integer")
    if not 1 <= limit <= PAGE_MAX:
        return answers.invalid(f"limit must be from 1 to {PAGE_MAX}", param="limit")
    newest_first: Iterable[refunds.Refund] = reversed(provider.refunds.values())
    if starting_after is not None:
        newest_first = islice(dropwhile(lambda refund: refund.id != starting_after, newest_first), 1, None)
    wanted = (refund for refund in newest_first if of_intent in (None, refund.payment_intent))
    found = [refunds.as_json(refund) for refund in islice(wanted, limit + 1)]
    return answers.page("/v1/refunds", found[:limit], has_more=len(found) > limit)


def _created_range(request: HttpRequest) -> tuple[int | None, int | None]:
    """From and before, in whole Unix seconds."""
    bounds = {
        bound: int(text) for bound in ("gte", "gt", "lte", "lt") if (text := request.args.get(f"created[{bound}]"))
    }
    since = bounds.get("gte", bounds["gt"] + 1 if "gt" in bounds else None)
    until = bounds.get("lt", bounds["lte"] + 1 if "lte" in bounds else None)
    return since, until


def _expanded(request: HttpRequest) -> set[str]:
    if not request.query_string:
        return set()
    return {value for name, values in request.args.items() if name.startswith("expand") for value in values}


def _is_authorized(request: HttpRequest) -> bool:
    return request.headers.get("authorization", "").startswith("Bearer sk_test_")


def _respond(answer: Answer) -> HTTPResponse:
    headers = {"Request-Id": f"req_{next(_request_numbers):016x}"}
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    return HTTPResponse(answer.body, status=answer.status, headers=headers, content_type=answer.content_type)


async def _hang_up(request: HttpRequest) -> HTTPResponse:
    cast(asyncio.Transport, request.transport).abort()
    # The lost connection cancels this handler; returning instead would make Sanic log an error about it.
    never: HTTPResponse = await asyncio.get_running_loop().create_future()
    return never


def _unknown_address(request: HttpRequest, _: Exception) -> HTTPResponse:
    message = f"Unrecognized request URL ({request.method}: {request.path})."
    return _respond(answers.error(HTTPStatus.NOT_FOUND, "invalid_request_error", message))


def _simulator(request: HttpRequest) -> Simulator:
    simulator: Simulator = request.app.ctx.simulator
    return simulator
